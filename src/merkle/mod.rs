//! The log's Merkle tree, as RFC 6962 section 2 has it: SHA-256, leaves and nodes told apart by a prefix.
//!
//! [`Frontier`] is all that appending needs; [`verify_inclusion`] and [`verify_consistency`] check what a log
//! says of itself. Nothing here trusts, fetches or stores anything, or knows what a leaf means.

mod frontier;
mod proof;

pub use frontier::Frontier;
pub use proof::{verify_consistency, verify_inclusion};

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// The hash of a leaf, of a node, or of a whole tree. Printed as lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hash(pub [u8; 32]);

/// Why a frontier was not one, or a proof does not prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// One perfect subtree stands for each one-bit of the size.
    #[error("a tree of {size} leaves has {} peaks, not {peaks}", .size.count_ones())]
    Peaks {
        /// Leaves.
        size: u64,
        /// Hashes given.
        peaks: usize,
    },
    /// There is no such leaf, or no such older tree.
    #[error("{at} does not lie within a tree of {size} leaves")]
    Range {
        /// The index of the leaf, or the size of the older tree.
        at: u64,
        /// The size of the tree.
        size: u64,
    },
    /// Too many hashes, or too few.
    #[error("the proof should have {wanted} hashes and has {given}")]
    Length {
        /// As many as these sizes need.
        wanted: usize,
        /// As many as there were.
        given: usize,
    },
    /// The proof leads to another root.
    #[error("the proof leads to another root")]
    Root,
}

/// The hash of a leaf: SHA-256(0x00 ‖ `bytes`).
pub fn leaf_hash(bytes: &[u8]) -> Hash {
    sum(&[&[0], bytes])
}

/// The hash of a node: SHA-256(0x01 ‖ `left` ‖ `right`).
fn node_hash(left: Hash, right: Hash) -> Hash {
    sum(&[&[1], &left.0, &right.0])
}

/// The root of the tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    sum(&[])
}

fn sum(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let digest = context.finish();
    Hash(std::array::from_fn(|at| digest.as_ref()[at]))
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod foreign;
#[cfg(test)]
mod tests;
