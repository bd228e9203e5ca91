//! Leases: secrets made, halted and ended in the systems that they are of.
//!
//! What a lease should be follows from the state alone ([`crate::domain::decide::wanted`]). The [`Engine`] looks at the
//! state, not at what it remembers of it: whatever is not as it should be is done, again and again until it is.

mod debt;
mod engine;
mod pace;
mod postgres;
mod target;
mod targets;

pub use engine::{Engine, tend};
pub use postgres::Postgres;
pub use target::{Failure, Order, Parted, Probe, Secret, Target};
pub use targets::Targets;
