//! The key ring: signs what was recorded, with keys that rest sealed.
//!
//! A private key is made by [`generate`], leaves it only sealed under the [`MasterKey`], and is opened only
//! into a [`KeyRing`]. The ring signs [`Prepared`](crate::domain::prepared::Prepared) values, what has no durable
//! event has no signature; and the lists by which others learn of an end. What is signed is `format`'s to write.

mod certificate;
mod key;
mod keyring;
mod master;
mod published;
mod seal;
#[cfg(test)]
mod tests;
mod vault;

pub use certificate::{Unsigned, Wanted};
pub use key::generate;
pub use keyring::KeyRing;
pub use master::MasterKey;
pub use vault::Vault;

use ring::rand::SystemRandom;

use crate::domain::error::{Code, Error};

/// The system's generator, for keys, nonces and signatures: none of them is an input to a decision.
#[expect(clippy::disallowed_methods, reason = "the one place where entropy enters the key ring")]
fn random() -> SystemRandom {
    SystemRandom::new()
}

/// A defect, or a machine in disorder: nothing that a caller could mend.
fn internal(reason: &'static str, message: impl Into<String>) -> Error {
    Error::new(Code::Internal, reason, message)
}
