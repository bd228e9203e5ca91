//! What a receipt is about: a revocation as the log has it.

use super::digest::Digest;
use super::event::{Actor, Revocation};
use super::time::Timestamp;

/// A revocation's entry.
#[derive(Clone, Debug)]
pub struct CutRecord {
    /// The event.
    pub revocation: Revocation,
    /// Its sequence.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who revoked.
    pub by: Actor,
    /// SHA-256(0x00 ‖ its stored bytes): by which it is found in the log.
    pub leaf: Digest,
}
