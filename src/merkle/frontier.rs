//! Appending: the roots of the perfect subtrees that cover the log.

use serde::{Deserialize, Serialize};

use super::{Error, Hash, empty_root, node_hash};

/// A tree while it grows: one peak for each one-bit of its size, the largest subtree first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        // As in adding one in binary: each trailing one-bit is a subtree that this leaf completes.
        let completed = self.peaks.split_off(self.peaks.len() - self.size.trailing_ones() as usize);
        self.peaks.push(completed.into_iter().rev().fold(leaf, |right, left| node_hash(left, right)));
        self.size += 1;
    }

    /// The root of the tree; of the empty tree, SHA-256 of nothing.
    pub fn root(&self) -> Hash {
        self.peaks.iter().rev().copied().reduce(|right, left| node_hash(left, right)).unwrap_or_else(empty_root)
    }

    /// How many leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The frontier of `size` leaves with these peaks, largest first.
    ///
    /// # Errors
    /// There is not one peak for each one-bit of `size`.
    pub fn from_parts(size: u64, peaks: Vec<Hash>) -> Result<Self, Error> {
        if peaks.len() != size.count_ones() as usize {
            return Err(Error::Peaks { size, peaks: peaks.len() });
        }
        Ok(Self { size, peaks })
    }
}

#[derive(Deserialize)]
struct Unchecked {
    size: u64,
    peaks: Vec<Hash>,
}

impl TryFrom<Unchecked> for Frontier {
    type Error = Error;
    fn try_from(given: Unchecked) -> Result<Self, Error> {
        Self::from_parts(given.size, given.peaks)
    }
}
