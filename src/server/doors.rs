//! Open connections of those who showed a certificate, and their end: when it expires, is cut, or is of no use any more.
//!
//! Every call on them is refused from that moment on; so that it can be told why, the connection itself stays for a few
//! seconds more, and then goes with all that runs on it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;

use crate::attest::mtls;
use crate::broker::Broker;
use crate::domain::decide::{Presenter, connectable};
use crate::domain::error::Error;
use crate::domain::view::View;
use crate::measure::Stopwatch;

/// How long a connection that is refused everything is kept.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How often those are looked for that expire by themselves, or have had their last words.
const TICK: Duration = Duration::from_millis(500);
/// The pause between two looks at all, however fast the log grows; or ten times as long as one takes.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections looked at under one hold on the state.
const STEP: usize = 256;

/// Those who are connected.
pub struct Doors {
    broker: Arc<Broker>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    held: HashMap<u64, Held>,
}

struct Held {
    presenter: Presenter,
    /// Since when everything is refused.
    refused: Option<Stopwatch>,
    end: Arc<End>,
}

/// One open connection. Dropped, it is forgotten.
pub(super) struct Door {
    doors: Arc<Doors>,
    id: u64,
    end: Arc<End>,
}

/// Whether a connection is to be closed, and who waits for that.
#[derive(Default)]
struct End {
    told: AtomicBool,
    waits: AtomicWaker,
}

impl Doors {
    /// Nobody is connected yet.
    pub fn new(broker: Arc<Broker>) -> Arc<Self> {
        Arc::new(Self { broker, open: Mutex::default() })
    }

    /// Holds if a connection may show this certificate (DER), which TLS accepts. One that names nobody is let in here:
    /// it is told what is wrong with it at each call.
    ///
    /// # Errors
    /// Why nothing could come of it.
    pub fn admits(&self, leaf: &[u8]) -> Result<(), Error> {
        let Ok((_, presenter)) = mtls::present(leaf, &self.broker.origin().trust_domain) else { return Ok(()) };
        let ledger = self.broker.ledger();
        let now = ledger.now();
        ledger.view(|view| connectable(&view, &presenter, now))
    }

    /// Takes note of a connection that shows this certificate, if it names somebody.
    pub(super) fn enter(self: &Arc<Self>, leaf: &[u8]) -> Option<Door> {
        let (_, presenter) = mtls::present(leaf, &self.broker.origin().trust_domain).ok()?;
        let end = Arc::new(End::default());
        let mut open = self.lock();
        let id = open.next;
        open.next += 1;
        open.held.insert(id, Held { presenter, refused: None, end: Arc::clone(&end) });
        drop(open);
        // It may have been cut between its handshake and now.
        self.look(&[id]);
        Some(Door { doors: Arc::clone(self), id, end })
    }

    /// Closes what is over, for ever.
    pub async fn run(self: Arc<Self>) {
        let mut size = self.broker.ledger().size();
        loop {
            let grown = tokio::time::timeout(TICK, size.changed()).await;
            let begun = Stopwatch::start();
            let ids: Vec<u64> = match grown {
                Ok(Err(_)) => return,
                Ok(Ok(())) => self.lock().held.keys().copied().collect(),
                Err(_) => self.due(),
            };
            ids.chunks(STEP).for_each(|step| self.look(step));
            self.close();
            tokio::time::sleep(PAUSE.max(begun.elapsed() * 10)).await;
        }
    }

    /// Those whose certificates have expired.
    fn due(&self) -> Vec<u64> {
        let now = self.broker.ledger().now();
        let open = self.lock();
        let due = open.held.iter().filter(|(_, held)| held.refused.is_none() && now >= held.presenter.not_after);
        due.map(|(id, _)| *id).collect()
    }

    /// Notes of these whether everything is refused to them from now on.
    fn look(&self, ids: &[u64]) {
        let ledger = self.broker.ledger();
        let now = ledger.now();
        let mut open = self.lock();
        let over = |view: &View<'_>, presenter: &Presenter| {
            now >= presenter.not_after || connectable(view, presenter, now).is_err()
        };
        ledger.view(|view| {
            for id in ids {
                if let Some(held) = open.held.get_mut(id)
                    && held.refused.is_none()
                    && over(&view, &held.presenter)
                {
                    held.refused = Some(Stopwatch::start());
                }
            }
        });
    }

    /// Closes those that have had their last words.
    fn close(&self) {
        for held in self.lock().held.values_mut() {
            if held.refused.is_some_and(|since| since.elapsed() >= LAST_WORDS)
                && !held.end.told.swap(true, Ordering::AcqRel)
            {
                let Presenter { kind, name, certificate, .. } = &held.presenter;
                tracing::info!(%kind, %name, %certificate, "closing a connection whose certificate is over");
                held.end.waits.wake();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Door {
    /// Ready once the connection is to be closed.
    pub(super) fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.end.waits.register(cx.waker());
        if self.end.told.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.doors.lock().held.remove(&self.id);
    }
}
