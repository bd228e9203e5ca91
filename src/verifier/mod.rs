//! The offline check: is this one of the broker's tokens, for us, in time, in its holder's hands, and not cut?
//!
//! [`Verifier`] follows the feed of an enforcement point: it is shown every message, and knows how old what it knows is.
//! It opens no connection and reads no clock; `client::feed` does both for it. It answers one of three
//! things, and only [`Answer::Valid`] lets anything through. `docs/VERIFIER.md` shows how a service uses it.
//!
//! [`Keys`] is the part without the feed: what was revoked since is then known to the broker alone.

mod check;
mod keys;
mod known;
mod proofs;
mod seen;

pub use check::{Answer, Gap, Shown, Verifier};
pub use keys::{Bounds, Keys};
pub use proofs::Proofs;
pub use seen::Seen;
