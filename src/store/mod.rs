//! The log's home: one contract, and a test suite that any backend passes (`tests/suite/store_contract.rs`).
//!
//! A store keeps bytes in order and says honestly what became of a commit. It knows no events.

pub mod crash;
mod reserve;
mod sqlite;

pub use sqlite::Sqlite;

use crate::domain::digest::Digest;
use crate::merkle::Hash;

/// Names one batch, so that a commit whose fate is unknown can be looked for.
pub type BatchId = [u8; 16];

/// The end of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many entries there are: the sequence of the last.
    pub size: u64,
    /// The Merkle root over them.
    pub root: Hash,
    /// The sequence of the newest snapshot's event; 0 if there is none.
    pub snapshot: u64,
}

/// What one turn adds, all or nothing.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its name.
    pub id: BatchId,
    /// The size of the log before it: an append at any other size is refused.
    pub after: u64,
    /// The entries, encoded.
    pub entries: Vec<Vec<u8>>,
    /// Larger bodies, by digest.
    pub blobs: Vec<(Digest, Vec<u8>)>,
    /// A blob that nothing refers to any more.
    pub forget: Option<Digest>,
    /// The end of the log after it.
    pub head: Head,
}

/// A turn's view of the log. Between `begin` and `commit` or `rollback`, nobody else can append.
pub trait Store: Send {
    /// Takes the write lock and reads the head.
    ///
    /// # Errors
    /// The store cannot be reached or is held by another; nothing is locked then.
    fn begin(&mut self) -> Result<Head, StoreError>;

    /// Up to `limit` entries behind sequence `after`, in order. Inside a turn.
    ///
    /// # Errors
    /// The store cannot be read.
    fn missed(&mut self, after: u64, limit: u32) -> Result<Vec<Vec<u8>>, StoreError>;

    /// Adds a batch to the turn. Not durable before [`Store::commit`] says so.
    ///
    /// # Errors
    /// Nothing of the batch will be kept; the turn is over after `rollback`.
    fn append(&mut self, batch: &Batch) -> Result<(), StoreError>;

    /// Makes the turn durable: once this returns `Ok`, no crash and no loss of power undoes it.
    ///
    /// # Errors
    /// Whether the batch was kept is in the error. The turn is over in any case.
    fn commit(&mut self) -> Result<(), CommitError>;

    /// Ends the turn and keeps nothing of it.
    fn rollback(&mut self);

    /// Whether a batch stands behind sequence `after`. Inside a later turn: settles an unknown commit.
    ///
    /// # Errors
    /// The store cannot be read.
    fn contains(&mut self, batch: BatchId, after: u64) -> Result<bool, StoreError>;

    /// Whether a turn failed because the disk is full, and room has not been found since.
    fn is_full(&self) -> bool;

    /// Gives up the room that was kept for what ends or halts something, so that it can be written.
    fn release_reserve(&mut self);

    /// Takes that room again. Outside a turn. False if it is not there: then the disk is full still.
    fn retake_reserve(&mut self) -> bool;

    /// A way to read what is durable, beside the turns.
    ///
    /// # Errors
    /// The store cannot be opened again.
    fn reader(&self) -> Result<Box<dyn Reader>, StoreError>;

    /// The backend's name, for `belay status`.
    fn name(&self) -> &'static str;
}

/// Reads what is durable.
pub trait Reader: Send + Sync {
    /// Up to `limit` entries behind sequence `after`, in order.
    ///
    /// # Errors
    /// The store cannot be read.
    fn entries(&self, after: u64, limit: u32) -> Result<Vec<Vec<u8>>, StoreError>;

    /// A larger body.
    ///
    /// # Errors
    /// The store cannot be read, or the body is not what its digest says.
    fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError>;
}

/// The store could not do it, and has changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("store: {doing}: {why}")]
pub struct StoreError {
    /// What was being done.
    pub doing: String,
    /// What the backend said.
    pub why: String,
}

/// A commit that did not simply succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Nothing was kept.
    #[error("the commit failed and nothing was kept: {0}")]
    Failed(String),
    /// It may or may not have been kept: the next turn has to look.
    #[error("whether the commit was kept is not known: {0}")]
    Unknown(String),
    /// The disk did not keep what it was told to: nothing this process believes can be trusted any more.
    #[error("the disk did not confirm the write: {0}")]
    Fatal(String),
}

impl StoreError {
    /// An error while `doing` something.
    pub fn new(doing: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self { doing: doing.into(), why: why.to_string() }
    }
}
