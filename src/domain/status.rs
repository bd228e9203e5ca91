//! Places in status lists (Token Status List, draft-ietf-oauth-status-list-21): by which somebody who was handed a token,
//! and asks nobody, learns of its end.

use serde::{Deserialize, Serialize};

/// Places in one list. Half of them are given at most, at random, so that neighbours say nothing about each other.
pub const PLACES: u32 = 1 << 16;

/// Where a token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StatusPlace {
    /// Which list.
    pub list: u64,
    /// Which place in it, below [`PLACES`].
    pub index: u32,
}
