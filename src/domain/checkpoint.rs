//! The log at one size, in one hash: what the log key signs.

use super::digest::Digest;
use super::event::Origin;

/// The size and Merkle root of a log, and which log it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, and that of its keys: two logs of one trust domain have different epochs.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// The root over them (RFC 6962 section 2.1).
    pub root: Digest,
}

impl Checkpoint {
    /// The name of the log that began so.
    pub fn name_of(origin: &Origin) -> String {
        format!("{}/log/{}", origin.trust_domain, origin.epoch)
    }
}
