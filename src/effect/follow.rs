//! The log as it grows.

use std::sync::Arc;

use tokio::sync::watch;

use crate::domain::error::{Code, Error};
use crate::domain::event::Entry;
use crate::ledger::Ledger;

/// Entries read at once.
const PAGE: u32 = 256;

/// Reads the log behind a sequence, and waits for more. What it reads is folded: the state is as new, or newer.
pub struct Follower {
    ledger: Arc<Ledger>,
    after: u64,
    size: watch::Receiver<u64>,
}

impl Follower {
    /// Begins behind `after`.
    pub fn behind(ledger: Arc<Ledger>, after: u64) -> Self {
        Self { size: ledger.size(), ledger, after }
    }

    /// The sequence of the last entry that was read.
    pub fn position(&self) -> u64 {
        self.after
    }

    /// The next entries, with their sequences; waits until there is one.
    ///
    /// # Errors
    /// The log cannot be read, or no more is to come: the ledger has stopped.
    pub async fn next(&mut self) -> Result<Vec<(u64, Entry)>, Error> {
        let gone = || Error::new(Code::Unavailable, "stopped", "the ledger has stopped");
        let after = self.after;
        // Not what was sent last: whoever begins at the head, of a ledger just opened, is woken by the next turn.
        self.size.wait_for(|size| *size > after).await.map_err(|_| gone())?;
        let entries: Vec<_> =
            self.ledger.entries(after, PAGE)?.into_iter().map(|(seq, entry, _)| (seq, entry)).collect();
        self.after = entries.last().map_or(after, |(seq, _)| *seq);
        Ok(entries)
    }
}
