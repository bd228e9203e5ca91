//! Following the log. Each follower reads pages of it at its own pace: nothing waits for a reader, and nothing
//! is kept for one beyond the page that it reads.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tonic::Status;

use super::convert::event;
use super::{Edge, access};
use crate::broker::{EventFilter, Found};
use crate::domain::decide::Caller;
use crate::domain::error::{Code, Error};
use crate::wire::v1;

/// Entries read at a time: no more than this is held for one follower.
const PAGE: u32 = 100;
/// How often one that has nothing to read is looked at: its certificate ends without an event.
const LOOK: Duration = Duration::from_secs(1);
/// The call, as the access table has it.
const RPC: &str = "/belay.v1.Audit/Tail";

/// The answer of `Audit.Tail`.
pub type Events = Pin<Box<dyn Stream<Item = Result<v1::Event, Status>> + Send>>;

/// One follower.
struct Tail {
    edge: Edge,
    caller: Caller,
    filter: Arc<EventFilter>,
    /// The last sequence that was looked at.
    after: u64,
    size: watch::Receiver<u64>,
    /// What is left of the page.
    page: VecDeque<Found>,
    _place: OwnedSemaphorePermit,
}

impl Edge {
    /// What the filter takes of the log behind `after`, or from its end on, until the caller may not read it any
    /// more.
    ///
    /// # Errors
    /// Too many follow the log already.
    pub(super) fn tail(&self, caller: Caller, filter: EventFilter, after: Option<u64>) -> Result<Events, Error> {
        let place = Arc::clone(&self.2).try_acquire_owned().map_err(|_| {
            Error::new(Code::Exhausted, "too_many_tails", "too many follow the log already; end one or try again later")
        })?;
        let size = self.0.ledger().size();
        let after = after.unwrap_or_else(|| *size.borrow());
        let (edge, filter) = (self.clone(), Arc::new(filter));
        let tail = Tail { edge, caller, filter, after, size, page: VecDeque::new(), _place: place };
        Ok(Box::pin(stream::try_unfold(tail, Tail::next)))
    }
}

impl Tail {
    /// The next event. Whether the caller may still have it is asked each time.
    async fn next(mut self) -> Result<Option<(v1::Event, Self)>, Status> {
        loop {
            access::admitted(&self.edge.0, RPC, &self.caller)?;
            if let Some(found) = self.page.pop_front() {
                return Ok(Some((event(&found), self)));
            }
            if self.after < *self.size.borrow_and_update() {
                self.read().await?;
            } else if self.edge.0.ledger().is_alive() {
                // Whether the log moved or the time is up: it looks again.
                let _ = tokio::time::timeout(LOOK, self.size.changed()).await;
            } else {
                return Err(Error::new(Code::Unavailable, "stopped", "the ledger has stopped").into());
            }
        }
    }

    async fn read(&mut self) -> Result<(), Error> {
        let (filter, after) = (Arc::clone(&self.filter), self.after);
        let (found, last) = self.edge.aside(move |broker| broker.follow(&filter, after, PAGE)).await??;
        self.page = found.into();
        self.after = last;
        Ok(())
    }
}
