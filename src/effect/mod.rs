//! What follows the log: those who cannot ask at every call are told, and what lies in other systems is ended there.
//!
//! Nothing here decides. A part follows the log ([`Follower`]), does what its entries and the state call for, and
//! submits what came of it, so that a restart goes on from what is recorded.

pub mod crl;
mod cuts;
pub mod feed;
mod follow;
pub mod lease;
mod settle;
pub mod status;

pub use cuts::{Cuts, LISTED, Page, Walked, walk};
pub use follow::Follower;
pub use lease::{Engine, Targets};
pub use settle::Settling;
