//! The feed: what was cut goes out to everybody who decides without asking.
//!
//! One ring is shared by all. Each subscription reads it at its own pace: nothing waits for a reader, and nothing is kept
//! for one. Who falls behind the ring, or does not read for a while, is dropped and told where to go on.

mod subscription;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, watch};

pub use subscription::Subscription;

use super::Follower;
use crate::domain::effect::Heard;
use crate::domain::error::{Code, Error};
use crate::domain::event::{Entry, Origin};
use crate::domain::exposure::HOLD;
use crate::domain::feed::{Message, Said, Signal, live, signal};
use crate::domain::name::Name;
use crate::domain::pep::{Pep, STALENESS};
use crate::domain::time::{Span, Timestamp};
use crate::ledger::Ledger;
use crate::measure;
use subscription::Follows;

/// Signals in the ring, for those who are a little behind and for those who come back.
const RING: usize = 4096;
/// Entries of the log read again at a start, so that whoever comes back then goes on where it was.
const AGAIN: u64 = 4096;
/// A whole state is made anew for a newcomer once it is so many signals old.
const OLD: usize = 512;
/// Subscriptions at once, of all enforcement points.
const MOST: usize = 2048;
/// Of one.
const MOST_OF_ONE: usize = 1024;
/// Of one, with those that are gone and may still be believed: all of them may come back at once, a few times.
const KEPT_OF_ONE: usize = 4 * MOST_OF_ONE;
/// How long to wait when the log could not be read.
const PAUSE: Duration = Duration::from_millis(100);

/// What all subscriptions share.
pub struct Hub {
    ledger: Arc<Ledger>,
    origin: Origin,
    recent: Mutex<Recent>,
    sender: broadcast::Sender<Arc<Message>>,
    /// All up to this sequence has been said.
    position: watch::Sender<u64>,
    whole: Mutex<Option<Arc<Whole>>>,
    follows: Mutex<HashMap<u64, Arc<Follows>>>,
    /// When it began, and by the time since boot: who followed before is not known here.
    began: (Timestamp, Span),
}

/// The signals said last.
struct Recent {
    ring: VecDeque<Arc<Message>>,
    /// All signals behind this sequence are in the ring.
    floor: u64,
    /// The sequence of the last one.
    last: u64,
    /// How many subscriptions there were.
    count: u64,
}

/// All that was in force at a sequence.
struct Whole {
    seq: u64,
    at: Timestamp,
    signals: Vec<Signal>,
}

impl Hub {
    /// Over this ledger. It says nothing before it runs.
    pub fn new(ledger: Arc<Ledger>, origin: Origin) -> Arc<Self> {
        let floor = ledger.view(|view| view.head()).saturating_sub(AGAIN);
        let recent = Recent { ring: VecDeque::new(), floor, last: floor, count: 0 };
        let began = (ledger.now(), ledger.boot());
        Arc::new(Self {
            ledger,
            origin,
            recent: Mutex::new(recent),
            sender: broadcast::Sender::new(RING),
            position: watch::Sender::new(floor),
            whole: Mutex::default(),
            follows: Mutex::default(),
            began,
        })
    }

    /// Follows the log until the ledger stops.
    pub async fn run(self: Arc<Self>) {
        let mut log = Follower::behind(Arc::clone(&self.ledger), *self.position.borrow());
        while self.ledger.is_alive() {
            match log.next().await {
                Ok(entries) => self.say(entries, log.position()),
                Err(error) if self.ledger.is_alive() => {
                    // What is not said is not vouched for: verifiers refuse until this works again.
                    tracing::error!(%error, "the feed could not read the log");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(_) => return,
            }
        }
    }

    fn say(&self, entries: Vec<(u64, Entry)>, position: u64) {
        for (seq, entry) in entries {
            let Some(signal) = self.ledger.view(|view| signal(&view, seq, &entry)) else { continue };
            let mut recent = lock(&self.recent);
            let message = Message { seq, prev: recent.last, at: entry.at, said: Said::Signal(signal) };
            let message = Arc::new(message);
            recent.put(Arc::clone(&message));
            // Under the lock, so that whoever begins now has it from the ring or hears it. Nobody may be there.
            let _ = self.sender.send(message);
        }
        self.position.send_replace(position);
    }

    /// Begins a subscription of this enforcement point: behind a sequence of an epoch, if what came since is still in
    /// the ring, else with all that is in force.
    ///
    /// # Errors
    /// There are too many already.
    pub fn subscribe(self: &Arc<Self>, pep: &Name, after: Option<(u64, &str)>) -> Result<Subscription, Error> {
        let (follows, id) = self.place(pep)?;
        let head = self.ledger.view(|view| view.head());
        let mut known = after.filter(|(seq, of)| *of == self.origin.epoch && *seq <= head).map(|(seq, _)| seq);
        loop {
            let whole = known.is_none().then(|| self.whole());
            let recent = lock(&self.recent);
            let sent = known.or(whole.as_ref().map(|whole| whole.seq)).unwrap_or_default();
            if sent < recent.floor {
                // What came since is not in the ring, or not any more.
                known = None;
                continue;
            }
            let receiver = self.sender.subscribe();
            let missed = recent.ring.iter().filter(|message| message.seq > sent).cloned().collect();
            drop(recent);
            measure::FEED_BEGUN.add(1, &[if whole.is_some() { "snapshot" } else { "resumed" }]);
            return Ok(Subscription::new(Arc::clone(self), follows, id, receiver, whole, missed, sent));
        }
    }

    fn place(&self, pep: &Name) -> Result<(Arc<Follows>, u64), Error> {
        let follows = Arc::new(Follows::new(pep.clone()));
        let id = {
            let mut recent = lock(&self.recent);
            recent.count += 1;
            recent.count
        };
        let (boot, staleness) = (self.ledger.boot(), self.ledger.view(|view| staleness(view.pep(pep))));
        let mut all = lock(&self.follows);
        let mine = || all.values().filter(|one| one.pep == *pep);
        let kept = mine().filter(|one| one.is_connected() || one.is_believed(boot, staleness)).count();
        let connected = all.values().filter(|one| one.is_connected()).count();
        if connected >= MOST || kept >= KEPT_OF_ONE || mine().filter(|one| one.is_connected()).count() >= MOST_OF_ONE {
            let message = "too many follow the feed already; end one or try again later";
            return Err(Error::new(Code::Exhausted, "too_many_subscriptions", message));
        }
        all.insert(id, Arc::clone(&follows));
        Ok((follows, id))
    }

    /// All that is in force: made for many who come at once.
    fn whole(&self) -> Arc<Whole> {
        let mut kept = lock(&self.whole);
        let is_good = |whole: &Whole| {
            let recent = lock(&self.recent);
            let since = recent.ring.iter().rev().take_while(|message| message.seq > whole.seq).count();
            whole.seq >= recent.floor && since < OLD
        };
        if let Some(whole) = kept.as_ref().filter(|whole| is_good(whole)) {
            return Arc::clone(whole);
        }
        let now = self.ledger.now();
        let whole = self.ledger.view(|view| Whole { seq: view.head(), at: now, signals: live(&view, now) });
        let whole = Arc::new(whole);
        *kept = Some(Arc::clone(&whole));
        whole
    }

    /// Subscriptions that are being read.
    pub fn subscribers(&self) -> usize {
        lock(&self.follows).values().filter(|one| one.is_connected()).count()
    }

    /// Those of one enforcement point.
    pub fn subscribers_of(&self, pep: &Name) -> usize {
        lock(&self.follows).values().filter(|one| one.pep == *pep && one.is_connected()).count()
    }

    /// Shows how it goes.
    pub fn observe(&self) {
        measure::FEED_SUBSCRIBERS.set(self.subscribers(), &[]);
        let head = self.ledger.view(|view| view.head());
        measure::FEED_LAG.set(head.saturating_sub(*self.position.borrow()), &[]);
    }

    /// What it knew is believed for a while longer: it is forgotten when that is over.
    fn leave(&self, id: u64) {
        // The state is looked at first: nobody waits for both.
        let boot = self.ledger.boot();
        let of: HashMap<Name, Span> =
            self.ledger.view(|view| view.peps().map(|pep| (pep.name.clone(), pep.staleness)).collect());
        let mut all = lock(&self.follows);
        if let Some(one) = all.get(&id) {
            one.leave(boot);
        }
        all.retain(|_, one| one.is_believed(boot, of.get(&one.pep).copied().unwrap_or(STALENESS.1)));
    }
}

impl Heard for Hub {
    /// Every one of its subscriptions has to have said so, also one that is gone or does not read, for as long as what it
    /// knew may still be believed. None if one has not, or if there is none.
    ///
    /// Who followed before a restart is not known, and may go by what it knew for as long: until that is over nobody has
    /// heard, but who is newer than this hub.
    fn heard(&self, pep: &Pep, seq: u64) -> Option<Timestamp> {
        let (boot, (began, begun)) = (self.ledger.boot(), self.began);
        if pep.created_at < began && boot < begun.plus(pep.staleness).plus(HOLD) {
            return None;
        }
        let all = lock(&self.follows);
        let believed = all.values().filter(|one| one.pep == pep.name && one.is_believed(boot, pep.staleness));
        let since: Option<Vec<Timestamp>> = believed.map(|one| one.heard(seq)).collect();
        since?.into_iter().max()
    }
}

impl Recent {
    fn put(&mut self, message: Arc<Message>) {
        self.last = message.seq;
        self.ring.push_back(message);
        if self.ring.len() > RING
            && let Some(gone) = self.ring.pop_front()
        {
            self.floor = gone.seq;
        }
    }
}

fn staleness(pep: Option<&Pep>) -> Span {
    pep.map_or(STALENESS.1, |pep| pep.staleness)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
