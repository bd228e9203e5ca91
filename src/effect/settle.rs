//! Revocations are followed until nothing more comes of them, and that is recorded.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Cuts, Follower, Page, Walked};
use crate::domain::decide::{Caller, Settle};
use crate::domain::effect::{Counts, Cutting};
use crate::domain::error::{Code, Error};
use crate::domain::event::{Body, Entry};
use crate::domain::id::RevocationId;
use crate::domain::time::{Span, Timestamp};
use crate::ledger::Request;

/// Looked at again at least so often while something is open: the clock may step.
const LOOK: Duration = Duration::from_secs(30);
/// What failed is tried again after this.
const AGAIN: Span = Span::seconds(1);
/// How long to wait when the log could not be read.
const PAUSE: Duration = Duration::from_millis(100);

/// All revocations that are not settled.
pub struct Settling {
    cuts: Arc<Cuts>,
    open: HashMap<RevocationId, Open>,
}

/// One of them.
struct Open {
    cut: Cutting,
    /// What died, as it was found first: credentials leave memory while others are awaited.
    first: Option<Counts>,
    /// When something can have changed by time alone; none: what is awaited lies in another system.
    due: Option<Timestamp>,
}

impl Settling {
    /// Of this ledger.
    pub fn of(cuts: &Arc<Cuts>) -> Self {
        Self { cuts: Arc::clone(cuts), open: HashMap::new() }
    }

    /// Settles them, until the ledger stops.
    pub async fn run(mut self) {
        let ledger = Arc::clone(self.cuts.ledger());
        let now = ledger.now();
        let (head, open) = ledger.view(|view| {
            let open = |one: &crate::domain::cut::Recorded| (one.revocation.id, Open::new(Cutting::from(one), now));
            (view.head(), view.revocations().filter(|one| one.settled.is_none()).map(open).collect())
        });
        self.open = open;
        let mut follower = Follower::behind(ledger, head);
        loop {
            let wait = self.settle_due().await;
            tokio::select! {
                entries = follower.next() => match entries {
                    Ok(entries) => entries.iter().for_each(|(seq, entry)| self.note(*seq, entry)),
                    Err(error) if self.cuts.ledger().is_alive() => {
                        tracing::error!(%error, "what becomes of revocations is not followed; the log could not be read");
                        tokio::time::sleep(PAUSE).await;
                    }
                    Err(_) => return,
                },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn note(&mut self, seq: u64, entry: &Entry) {
        match &entry.body {
            Body::Revoked(revocation) => {
                let cut = Cutting { target: revocation.target.clone(), seq, at: entry.at, again: true };
                self.open.insert(revocation.id, Open::new(cut, entry.at));
            }
            Body::RevocationSettled(settled) => drop(self.open.remove(&settled.id)),
            Body::LeaseChanged(_) => {
                self.open.values_mut().filter(|open| open.due.is_none()).for_each(|open| open.due = Some(entry.at))
            }
            _ => {}
        }
    }

    /// Looks at those that are due; how long until the next one is.
    async fn settle_due(&mut self) -> Duration {
        let now = self.cuts.ledger().now();
        let due: Vec<RevocationId> =
            self.open.iter().filter(|(_, open)| open.due.is_some_and(|due| due <= now)).map(|(id, _)| *id).collect();
        for id in due {
            if let Err(error) = self.look_at(id).await {
                tracing::warn!(%error, %id, "what came of a revocation is not recorded yet");
                let open = self.open.get_mut(&id);
                open.into_iter().for_each(|open| open.due = Some(now.plus(AGAIN)));
            }
        }
        let now = self.cuts.ledger().now();
        let next = self.open.values().filter_map(|open| open.due).min();
        let millis = next.map_or(i64::MAX, |next| next.since(now).as_millis().max(1));
        Duration::from_millis(millis.unsigned_abs()).min(LOOK)
    }

    async fn look_at(&mut self, id: RevocationId) -> Result<(), Error> {
        let Some(open) = self.open.get_mut(&id) else { return Ok(()) };
        let page = Page { after: None, most: Some(1) };
        let Walked { counts, terminal, until, .. } = self.cuts.walk(open.cut.clone(), page).await?;
        let now = self.cuts.ledger().now();
        let first = *open.first.get_or_insert(counts);
        if !terminal {
            // The walk judged by an earlier moment: what ended meanwhile is looked at again at once.
            open.due = until.map(|until| until.max(now.plus(Span::millis(1))));
            return Ok(());
        }
        let enforced = first.enforced.plus(first.pending).plus(first.failed);
        let command = Settle { id, enforced, expired: first.expires };
        let ledger = self.cuts.ledger();
        let (caller, request_id, seed) = (Caller::Broker, "settle".to_owned(), ledger.seed());
        match ledger.submit(Request { command, caller, request_id, idempotency: None, seed, blobs: Vec::new() }).await {
            Err(error) if error.code != Code::NotFound => Err(error),
            // Settled; or forgotten, and nobody can ask any more.
            _ => {
                self.open.remove(&id);
                Ok(())
            }
        }
    }
}

impl Open {
    fn new(cut: Cutting, due: Timestamp) -> Self {
        Self { cut, first: None, due: Some(due) }
    }
}
