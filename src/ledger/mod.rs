//! The one log and the state that it folds into.
//!
//! Requests are prepared elsewhere and decided here, in the turn, one after the other. What this module
//! answers is durable: an answer that has left is an event that no crash undoes.

mod body;
mod clock;
mod fair;
mod job;
mod metrics;
mod queue;
mod seed;
mod snapshot;
mod steady;
mod turn;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;

pub use body::Bodies;
pub use clock::{Clock, Reading, SystemClock};
pub use job::Request;
pub use seed::Seeds;

use crate::domain::checkpoint::Checkpoint;
use crate::domain::decide::{Caller, Decide};
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::event::{Actor, Body, Entry};
use crate::domain::fold::fold;
use crate::domain::grant::Token;
use crate::domain::prepared::Prepared;
use crate::domain::receipt::CutRecord;
use crate::domain::state::State;
use crate::domain::time::{Span, Timestamp};
use crate::domain::view::View;
use crate::merkle::{Frontier, Hash, leaf_hash};
use crate::store::{Reader, Store, StoreError};
use crate::wire;
use job::{Pending, Place};
use queue::{Lane, Queue};
use steady::{Moment, Steady};

/// The crash points of the store, for those above that have their own.
pub use crate::store::crash::Point;

/// Events between snapshots, unless told otherwise; more while there are more live records than this.
pub const SNAPSHOT_EVERY: u64 = 20_000;

/// When somebody who found the queue full should come back: some turns later.
const QUEUE_PAUSE: Span = Span::millis(250);

/// The ledger. Cheap to share; the sequencer runs on a thread of its own.
pub struct Ledger {
    shared: Arc<Shared>,
    sequencer: Mutex<Option<JoinHandle<()>>>,
    store: &'static str,
}

struct Shared {
    memory: RwLock<Memory>,
    queue: Queue,
    reader: Box<dyn Reader>,
    bodies: Arc<dyn Bodies>,
    clock: Arc<dyn Clock>,
    steady: Mutex<Steady>,
    seeds: Seeds,
    dead: AtomicBool,
    /// Why the last turn failed, for whoever asks before the next one.
    trouble: Mutex<Option<Error>>,
    death: tokio::sync::watch::Sender<bool>,
    /// The size of the log that is folded: what wakes those who follow it.
    size: tokio::sync::watch::Sender<u64>,
}

/// The state and the Merkle frontier, always of the same sequence.
#[derive(Default)]
struct Memory {
    state: State,
    frontier: Frontier,
}

impl Memory {
    /// Folds one stored entry.
    fn take_in(&mut self, bytes: &[u8], reader: &dyn Reader, bodies: &dyn Bodies) -> Result<(), StoreError> {
        let seq = self.state.head() + 1;
        let mut entry = wire::decode(bytes).map_err(|error| damaged(format!("entry {seq}: {error}")))?;
        body::load(&mut entry, reader, bodies)?;
        let delta = fold(&View::of(&self.state), seq, &entry).map_err(damaged)?;
        self.state.apply(delta, seq, entry.at);
        self.frontier.push(leaf_hash(bytes));
        Ok(())
    }
}

impl Ledger {
    /// Loads the newest snapshot and the tail, checks the log against its head, and begins to take turns.
    ///
    /// # Errors
    /// The store cannot be read, or what it holds is not what it says it holds.
    pub fn open(
        mut store: Box<dyn Store>,
        clock: Arc<dyn Clock>,
        seeds: Seeds,
        snapshot_every: u64,
        bodies: Arc<dyn Bodies>,
    ) -> Result<Self, Error> {
        let name = store.name();
        let shared = load(&mut *store, clock, seeds, bodies)
            .map_err(|error| Error::new(Code::Unavailable, "store", error.to_string()))?;
        let shared = Arc::new(shared);
        let sequencer = turn::Sequencer::new(store, Arc::clone(&shared), snapshot_every);
        let spawned = std::thread::Builder::new().name("sequencer".to_owned()).spawn(move || sequencer.run());
        let thread = spawned
            .map_err(|error| Error::new(Code::Internal, "thread", format!("no thread for the sequencer: {error}")))?;
        Ok(Self { shared, sequencer: Mutex::new(Some(thread)), store: name })
    }

    /// Has a request decided in a turn. The answer comes when all that it rests on is durable.
    ///
    /// # Errors
    /// The request is refused, the queue is full, or the outcome could not be recorded.
    pub async fn submit<D: Decide>(&self, request: Request<D>) -> Result<D::Answer, Error> {
        let place = match request.command.is_urgent() {
            true => {
                let ordinary = matches!(request.caller, Caller::Agent(_) | Caller::Stranger);
                Place { lane: Lane::Urgent, party: request.caller.actor(), ordinary }
            }
            false => Place { lane: Lane::Normal, party: self.party(&request), ordinary: false },
        };
        let (pending, answer) = Pending::new(place, request);
        self.push(pending)?;
        answer.await.unwrap_or_else(|_| Err(turn::stopped()))
    }

    /// Queues a request that nobody waits for; it is in a turn within 50 ms.
    ///
    /// # Errors
    /// Its queue is full, the last turn failed, or the ledger has stopped: what it was to record must not happen.
    pub fn record<D: Decide>(&self, request: Request<D>) -> Result<(), Error> {
        self.check_ready()?;
        self.push_record(false, request)
    }

    /// The same for what was answered with a deny: it may wait for a turn that succeeds, and is what finds
    /// out that one does again.
    ///
    /// # Errors
    /// There is no room for more of its party's, or the ledger has stopped.
    pub fn record_denied<D: Decide>(&self, request: Request<D>) -> Result<(), Error> {
        self.push_record(true, request)
    }

    fn push_record<D: Decide>(&self, denied: bool, request: Request<D>) -> Result<(), Error> {
        let place = Place { lane: Lane::Record, party: self.party(&request), ordinary: denied };
        self.push(Pending::new(place, request).0)
    }

    /// Who waits with a request: one agent's calls do not stand before those of others, through whomever it makes them.
    fn party<D: Decide>(&self, request: &Request<D>) -> Actor {
        let about = self.view(|view| request.command.about(&view));
        about.map_or_else(|| request.caller.actor(), Actor::Agent)
    }

    fn push<D: Decide>(&self, pending: Pending<D>) -> Result<(), Error> {
        let Err(refused) = self.shared.queue.push(Box::new(pending)) else { return Ok(()) };
        if self.shared.is_dead() {
            return Err(turn::stopped());
        }
        metrics::shed(refused.place().lane);
        let message = "too many requests are waiting; try again in a moment";
        Err(Error::new(Code::Exhausted, "queue_full", message).after(QUEUE_PAUSE))
    }

    /// Looks at the state as of the last durable batch.
    pub fn view<T>(&self, look: impl FnOnce(View<'_>) -> T) -> T {
        look(View::of(&self.shared.read().state))
    }

    /// Size and Merkle root of the log.
    pub fn checkpoint(&self) -> (u64, Hash) {
        let memory = self.shared.read();
        (memory.frontier.size(), memory.frontier.root())
    }

    /// The size of the log, as it moves. It is sent after the fold, so what it says is there to be read.
    pub fn size(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.size.subscribe()
    }

    /// The durable head of the log, to be signed; none before the log has begun.
    pub fn durable_head(&self) -> Option<Prepared<Checkpoint>> {
        let memory = self.shared.read();
        let origin = Checkpoint::name_of(View::of(&memory.state).origin()?);
        let (size, root) = (memory.frontier.size(), Digest(memory.frontier.root().0));
        Some(Prepared::recorded(Checkpoint { origin, size, root }))
    }

    /// The time to decide by: the wall clock while it is believed, never before the last batch, and never back.
    pub fn now(&self) -> Timestamp {
        self.moment().now
    }

    /// The wall clock as it is believed, though the log may be ahead of it.
    pub fn wall(&self) -> Timestamp {
        self.moment().wall
    }

    fn moment(&self) -> Moment {
        let logged = self.shared.read().state.at();
        self.shared.moment(logged)
    }

    /// The time since boot, which nobody sets: for how long ago something was.
    pub fn boot(&self) -> Span {
        self.shared.clock.read().boot
    }

    /// Fresh secret random bytes for a request.
    pub fn seed(&self) -> [u8; 32] {
        self.shared.seeds.next()
    }

    /// Up to `limit` entries behind sequence `after`, with their sequence and leaf hash.
    ///
    /// # Errors
    /// The store cannot be read, or an entry is damaged.
    pub fn entries(&self, after: u64, limit: u32) -> Result<Vec<(u64, Entry, Hash)>, Error> {
        let bodies = self.shared.reader.entries(after, limit).map_err(|error| unreadable(&error))?;
        let decoded = bodies.iter().zip(after.saturating_add(1)..).map(|(body, seq)| {
            let entry = wire::decode(body).map_err(|error| unreadable(&damaged(format!("entry {seq}: {error}"))))?;
            Ok((seq, entry, leaf_hash(body)))
        });
        decoded.collect()
    }

    /// A token's event, for signing it again: what stands in the log was recorded.
    ///
    /// # Errors
    /// There is no token at that sequence.
    pub fn recorded_token(&self, seq: u64) -> Result<Prepared<Token>, Error> {
        match self.entries(seq.saturating_sub(1), 1)?.pop() {
            Some((_, Entry { body: Body::TokenIssued { token }, .. }, _)) => Ok(Prepared::recorded(token)),
            _ => Err(Error::new(Code::Internal, "no_such_event", format!("entry {seq} holds no token"))),
        }
    }

    /// The event of a revocation, for a receipt: what stands in the log was recorded.
    ///
    /// # Errors
    /// There is no revocation at that sequence.
    pub fn recorded_cut(&self, seq: u64) -> Result<Prepared<CutRecord>, Error> {
        match self.entries(seq.saturating_sub(1), 1)?.pop() {
            Some((seq, Entry { body: Body::Revoked(revocation), at, actor, .. }, leaf)) => {
                let leaf = Digest(leaf.0);
                Ok(Prepared::recorded(CutRecord { revocation, seq, at, by: actor, leaf }))
            }
            _ => Err(Error::new(Code::Internal, "no_such_event", format!("entry {seq} holds no revocation"))),
        }
    }

    /// A larger body of the log.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub fn blob(&self, digest: Digest) -> Result<Vec<u8>, Error> {
        let found = self.shared.reader.blob(digest).map_err(|error| unreadable(&error))?;
        found.ok_or_else(|| unreadable(&damaged(format!("blob {digest} is missing"))))
    }

    /// The backend's name.
    pub fn store_name(&self) -> &'static str {
        self.store
    }

    /// Whether turns are taken.
    pub fn is_alive(&self) -> bool {
        !self.shared.is_dead()
    }

    /// Whether the last turn succeeded, so that what is decided now will be recorded, at a time that is true.
    pub fn is_ready(&self) -> bool {
        self.check_ready().is_ok()
    }

    /// The same, saying what is wrong.
    ///
    /// # Errors
    /// The ledger has stopped, the clock is not to be believed, or the last turn failed.
    pub fn check_ready(&self) -> Result<(), Error> {
        if self.shared.is_dead() {
            return Err(turn::stopped());
        }
        if let Some(doubt) = self.moment().doubt {
            return Err(doubt.refusal());
        }
        self.shared.trouble().clone().map_or(Ok(()), Err)
    }

    /// Resolves when the ledger has stopped, by itself or by [`Ledger::close`].
    pub async fn stopped(&self) {
        let mut death = self.shared.death.subscribe();
        // The sender lives as long as this ledger: waiting cannot fail.
        let _ = death.wait_for(|dead| *dead).await;
    }

    /// The bytes of the state, as a snapshot holds it: two folds of one log are held against each other so.
    ///
    /// # Errors
    /// The state does not encode.
    pub fn fingerprint(&self) -> Result<Vec<u8>, Error> {
        snapshot::encode(&self.shared.read()).map_err(|error| unreadable(&error))
    }

    /// Lets nothing more in, finishes what is waiting, and waits for the sequencer to end.
    pub fn close(&self) {
        self.shared.queue.close();
        let thread = self.sequencer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the sequencer panicked");
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.close();
    }
}

fn load(
    store: &mut dyn Store,
    clock: Arc<dyn Clock>,
    seeds: Seeds,
    bodies: Arc<dyn Bodies>,
) -> Result<Shared, StoreError> {
    let reader = store.reader()?;
    let head = store.begin()?;
    let memory = snapshot::load(&*reader, head.snapshot, &*bodies);
    let shared = memory.map(|memory| Shared {
        memory: RwLock::new(memory.unwrap_or_default()),
        queue: Queue::default(),
        reader,
        bodies,
        steady: Mutex::new(Steady::new(clock.read())),
        clock,
        seeds,
        dead: AtomicBool::new(false),
        trouble: Mutex::default(),
        death: tokio::sync::watch::Sender::new(false),
        size: tokio::sync::watch::Sender::new(0),
    });
    let learned = shared.and_then(|shared| turn::learn(store, &shared, head).map(|()| shared));
    store.rollback();
    learned
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time by the clocks and the date of the last batch. Says once when they are no longer to be believed, and
    /// once when they are again.
    fn moment(&self, logged: Timestamp) -> Moment {
        let mut steady = self.steady.lock().unwrap_or_else(PoisonError::into_inner);
        // Read with the lock held: readings are shown in the order in which they were taken.
        let moment = steady.look(self.clock.read(), logged);
        drop(steady);
        match moment.doubt {
            Some(doubt) if moment.changed => tracing::error!(reason = doubt.reason(), "{}", doubt.refusal()),
            None if moment.changed => tracing::info!(now = %moment.now, "the clock is believed again"),
            _ => {}
        }
        moment
    }

    fn trouble(&self) -> MutexGuard<'_, Option<Error>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what is wrong with the turns, and says so once: not at every turn that fails alike.
    fn set_trouble(&self, next: Option<Error>, cause: &dyn std::fmt::Display) {
        let mut trouble = self.trouble();
        let changed = trouble.as_ref().map(|error| error.reason) != next.as_ref().map(|error| error.reason);
        match &next {
            Some(error) if changed => tracing::error!(reason = error.reason, %cause, "turns fail"),
            Some(error) => tracing::debug!(reason = error.reason, %cause, "turns still fail"),
            None if changed => tracing::info!("turns succeed again"),
            None => {}
        }
        *trouble = next;
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.death.send_replace(true);
    }
}

fn damaged(what: impl std::fmt::Display) -> StoreError {
    StoreError::new("reading the log", format!("it is damaged or not ours: {what}"))
}

fn unreadable(error: &StoreError) -> Error {
    Error::new(Code::Unavailable, "store", error.to_string())
}
