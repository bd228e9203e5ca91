//! The sequencer: the only writer. One turn learns what was missed, decides a batch in order over the
//! state plus what the batch has decided so far, appends, commits, folds, and only then answers anybody.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::job::Job;
use super::metrics::{self, Tally};
use super::steady::Moment;
use super::{Memory, Shared, damaged, snapshot};
use crate::domain::MAX_EVENT;
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::event::{Body, Entry};
use crate::domain::fold::fold;
use crate::domain::state::Delta;
use crate::domain::time::{Span, Timestamp};
use crate::domain::view::View;
use crate::measure::{COMMIT_SECONDS, Stopwatch};
use crate::merkle::{Frontier, leaf_hash};
use crate::store::crash::Point;
use crate::store::{Batch, BatchId, CommitError, Head, Store, StoreError};
use crate::wire;

/// How often, and how far apart, the fate of an unknown commit is asked for before giving up.
const SETTLE_TRIES: u32 = 50;
const SETTLE_PAUSE: Duration = Duration::from_millis(100);

/// The pause before a failed turn is tried again for the records alone.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// How often a long replay says how far it is.
const SIGN_OF_LIFE: Span = Span::seconds(3);
/// How often room is looked for while the disk is full.
const LOOK_FOR_ROOM: Span = Span::seconds(1);
/// How long after a snapshot that failed none is tried. The log goes on without.
const SNAPSHOT_PAUSE: Span = Span::minutes(5);

pub(super) struct Sequencer {
    store: Box<dyn Store>,
    shared: Arc<Shared>,
    /// Events between snapshots.
    snapshot_every: u64,
    /// No snapshot before this boot time.
    snapshot_after: Span,
    full: Option<Full>,
}

/// The disk is full: the reserve is released, and only what may use it passes.
struct Full {
    told: Error,
    /// Boot time at which room was last looked for.
    looked: Span,
}

/// Why a turn came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    NotTaken(StoreError),
    #[error(transparent)]
    NotKept(#[from] CommitError),
}

/// However the sequencer ends, by a panic too: nobody waits for it, and nothing is allowed that it would record.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.die();
        self.0.queue.close();
        while let Some(jobs) = self.0.queue.take() {
            jobs.into_iter().for_each(|job| refuse(job, stopped()));
        }
    }
}

/// What a batch has come to so far.
#[derive(Default)]
struct Draft {
    overlay: Delta,
    entries: Vec<Vec<u8>>,
    frontier: Frontier,
    blobs: Vec<(Digest, Vec<u8>)>,
    snapshot: Option<u64>,
    tally: Tally,
}

impl Sequencer {
    pub(super) fn new(store: Box<dyn Store>, shared: Arc<Shared>, snapshot_every: u64) -> Self {
        Self { store, shared, snapshot_every, snapshot_after: Span::default(), full: None }
    }

    /// Takes turns until the queue is closed and empty, or the ledger cannot be trusted any more.
    pub(super) fn run(mut self) {
        let _ending = Ending(Arc::clone(&self.shared));
        while let Some(jobs) = self.work() {
            self.turn(jobs);
            if !self.shared.is_dead() {
                self.snapshot_if_due();
            }
            if self.shared.is_dead() {
                break;
            }
        }
    }

    /// The next batch; may be empty while the disk is full, since room comes back without anybody asking.
    fn work(&mut self) -> Option<Vec<Box<dyn Job>>> {
        let Some(full) = &self.full else { return self.shared.queue.take() };
        let looked = full.looked;
        let jobs = self.shared.queue.take_without_records(Duration::from_secs(1))?;
        if jobs.is_empty() || self.boot().less(looked) >= LOOK_FOR_ROOM {
            self.look_for_room();
        }
        Some(jobs)
    }

    fn turn(&mut self, jobs: Vec<Box<dyn Job>>) {
        let mut jobs = self.admit(jobs);
        if jobs.is_empty() {
            return;
        }
        let _measured = metrics::Turn::of(&jobs);
        let outcome = self.attempt(&mut jobs, None);
        if let Err(failure) = &outcome {
            metrics::turn_failed(failure.stage());
        }
        match outcome {
            Ok(()) => jobs.into_iter().for_each(|job| job.settle()),
            Err(failure) if self.store.is_full() && !self.shared.is_dead() => self.on_full_disk(jobs, &failure),
            Err(failure) => {
                let message = "the last turn failed; try again in a moment";
                let trouble = Error::new(Code::Unavailable, "not_recording", message);
                self.shared.set_trouble(Some(trouble), &failure);
                if self.give_back(jobs, &failure.told()) {
                    std::thread::sleep(RETRY_PAUSE);
                }
            }
        }
    }

    /// Decides a batch and makes it durable. After an error, nothing of it may be answered.
    fn attempt(&mut self, jobs: &mut [Box<dyn Job>], forget: Option<Digest>) -> Result<(), Failure> {
        let decided = self.decide(jobs);
        Point::TurnTaken.reached();
        if decided.as_ref().map_or(true, |(draft, ..)| draft.entries.is_empty()) {
            self.store.rollback();
            return decided.map(drop).map_err(Failure::NotTaken);
        }
        let (draft, head, now) = decided.map_err(Failure::NotTaken)?;
        let size = head.size + draft.entries.len() as u64;
        self.keep(draft, head, forget, now)?;
        self.shared.size.send_replace(size);
        if self.full.is_none() {
            self.shared.set_trouble(None, &"");
        }
        Point::Folded.reached();
        Ok(())
    }

    /// While the disk is full, refuses what may not use the reserve. A ledger that closes tries everything once more.
    fn admit(&self, jobs: Vec<Box<dyn Job>>) -> Vec<Box<dyn Job>> {
        match &self.full {
            Some(full) if !self.shared.queue.is_closed() => {
                let (admitted, others) = jobs.into_iter().partition(|job| job.needs_no_room());
                self.give_back(others, &full.told);
                admitted
            }
            _ => jobs,
        }
    }

    /// Gives up the reserve, and what may use it has its turn again.
    fn on_full_disk(&mut self, jobs: Vec<Box<dyn Job>>, failure: &Failure) {
        let was_full = self.full.is_some();
        let told = self.fill(failure);
        match was_full || self.shared.queue.is_closed() {
            true => drop(self.give_back(jobs, &told)),
            false => self.turn(jobs),
        }
    }

    fn fill(&mut self, failure: &Failure) -> Error {
        const WHAT: &str = "the disk is full; only revoking and halting work until there is room: free some space";
        let told = Error::new(Code::Unavailable, "disk_full", format!("{WHAT} ({failure})"));
        self.store.release_reserve();
        self.shared.set_trouble(Some(told.clone()), failure);
        self.full = Some(Full { told: told.clone(), looked: self.boot() });
        told
    }

    fn look_for_room(&mut self) {
        let boot = self.boot();
        if self.store.retake_reserve() {
            self.full = None;
            self.shared.set_trouble(None, &"");
        } else if let Some(full) = &mut self.full {
            full.looked = boot;
        }
    }

    fn boot(&self) -> Span {
        self.shared.clock.read().boot
    }

    /// Who waits is told, and what was answered already waits for a turn that succeeds. Until one does, nothing
    /// more is answered that could not be recorded. Whether something waits.
    fn give_back(&self, jobs: Vec<Box<dyn Job>>, why: &Error) -> bool {
        let (records, waiting): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.is_record());
        waiting.into_iter().for_each(|job| refuse(job, why.clone()));
        let waits = !records.is_empty();
        if waits && (self.shared.is_dead() || self.shared.queue.is_closed()) {
            tracing::error!(lost = records.len(), "decided calls are not in the log");
            return false;
        }
        metrics::returned(records.len());
        self.shared.queue.put_back(records);
        waits
    }

    /// Takes the turn, learns what was missed, and decides each job over the state plus the batch so far.
    fn decide(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(Draft, Head, Timestamp), StoreError> {
        let head = self.store.begin()?;
        learn(&mut *self.store, &self.shared, head)?;
        let memory = self.shared.read();
        let Moment { now, doubt, .. } = self.shared.moment(memory.state.at());
        let mut draft = Draft { frontier: memory.frontier.clone(), ..Draft::default() };
        for job in jobs {
            if let Some(doubt) = doubt.filter(|_| !job.needs_no_clock()) {
                job.refuse(doubt.refusal());
                continue;
            }
            // A panic, an oversized or an unfit event loses its own request, and nothing of its batch.
            let decided = catch_unwind(AssertUnwindSafe(|| decide_one(&memory, &draft, job.as_mut(), now)));
            match decided.unwrap_or_else(|_| {
                Err(Error::new(Code::Internal, "panicked", "the broker failed on this request; report it"))
            }) {
                Ok((own, entries, snapshot, tally)) => {
                    draft.tally.merge(tally);
                    draft.blobs.extend(job.blobs());
                    draft.overlay.merge(own);
                    entries.iter().for_each(|entry| draft.frontier.push(leaf_hash(entry)));
                    draft.snapshot = snapshot.or(draft.snapshot);
                    draft.entries.extend(entries);
                }
                Err(error) => job.refuse(error),
            }
        }
        Ok((draft, head, now))
    }

    /// Appends and commits; settles a commit of unknown fate; folds what was kept.
    fn keep(&mut self, draft: Draft, head: Head, forget: Option<Digest>, now: Timestamp) -> Result<(), CommitError> {
        let size = head.size + draft.entries.len() as u64;
        let Draft { overlay, entries, frontier, blobs, snapshot, tally } = draft;
        let next = Head { size, root: frontier.root(), snapshot: snapshot.unwrap_or(head.snapshot) };
        let id = self.shared.seeds.batch_id();
        let batch = Batch { id, after: head.size, entries, blobs, forget, head: next };
        let writing = Stopwatch::start();
        if let Err(error) = self.store.append(&batch) {
            self.store.rollback();
            return Err(CommitError::Failed(error.to_string()));
        }
        match self.store.commit() {
            Ok(()) => {}
            Err(CommitError::Unknown(why)) => self.settle(batch.id, head.size, &why)?,
            Err(error @ CommitError::Fatal(_)) => {
                self.shared.die();
                return Err(error);
            }
            Err(error @ CommitError::Failed(_)) => return Err(error),
        }
        writing.record(&COMMIT_SECONDS, &[]);
        tally.count();
        Point::Committed.reached();
        let mut memory = self.shared.write();
        memory.state.apply(overlay, size, now);
        memory.frontier = frontier;
        Ok(())
    }

    /// The next turn cannot begin before the earlier transaction is over: what it sees is the truth.
    fn settle(&mut self, batch: BatchId, after: u64, why: &str) -> Result<(), CommitError> {
        for _ in 0..SETTLE_TRIES {
            let found = self.store.begin().and_then(|_| self.store.contains(batch, after));
            self.store.rollback();
            match found {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(CommitError::Failed(why.to_owned())),
                Err(error) => tracing::warn!(%error, "the fate of a commit is not known yet"),
            }
            std::thread::sleep(SETTLE_PAUSE);
        }
        // To go on from a state that may be wrong would be a lie to everybody who asks next.
        self.shared.die();
        Err(CommitError::Unknown(why.to_owned()))
    }

    fn snapshot_if_due(&mut self) {
        let (due, old) = {
            let memory = self.shared.read();
            let mark = memory.state.tables().snapshot;
            let since = memory.state.head() - mark.map_or(0, |mark| mark.seq);
            (since >= snapshot::distance(self.snapshot_every, &memory.state), mark.map(|mark| mark.digest))
        };
        if due && self.full.is_none() && self.boot() >= self.snapshot_after {
            self.take_snapshot(old);
        }
    }

    /// A snapshot that fails is no trouble: nobody waits for it, and smaller batches may pass.
    fn take_snapshot(&mut self, old: Option<Digest>) {
        let job = {
            let memory = self.shared.read();
            snapshot::job(&memory, self.shared.seeds.next())
        };
        Point::SnapshotBuilt.reached();
        let taken = job.map_err(Failure::NotTaken).and_then(|job| self.attempt(&mut [job], old));
        let Err(failure) = taken else { return };
        self.snapshot_after = self.boot().plus(SNAPSHOT_PAUSE);
        tracing::error!(error = %failure, again_after_s = SNAPSHOT_PAUSE.as_millis() / 1000, "no snapshot was taken");
        if self.store.is_full() && !self.store.retake_reserve() {
            self.fill(&failure);
        }
    }
}

type Decided = (Delta, Vec<Vec<u8>>, Option<u64>, Tally);

fn decide_one(memory: &Memory, draft: &Draft, job: &mut dyn Job, now: Timestamp) -> Result<Decided, Error> {
    let first = memory.state.head() + draft.entries.len() as u64;
    let mut own = Delta::default();
    let (mut encoded, mut snapshot, mut tally) = (Vec::new(), None, Tally::default());
    let view = View::over(&memory.state, &draft.overlay, &own, first);
    for entry in job.decide(view, now) {
        let seq = first + encoded.len() as u64 + 1;
        encoded.push(encode(&entry)?);
        tally.note(&entry);
        let view = View::over(&memory.state, &draft.overlay, &own, seq - 1);
        let delta =
            fold(&view, seq, &entry).map_err(|error| Error::new(Code::Internal, "unfit_event", error.to_string()))?;
        own.merge(delta);
        if matches!(entry.body, Body::SnapshotTaken { .. }) {
            snapshot = Some(seq);
        }
    }
    Ok((own, encoded, snapshot, tally))
}

fn encode(entry: &Entry) -> Result<Vec<u8>, Error> {
    let bytes = wire::encode(entry);
    if bytes.len() > MAX_EVENT {
        let message = format!("the request makes an event of {} bytes; at most {MAX_EVENT} are kept", bytes.len());
        return Err(Error::new(Code::Invalid, "too_large", message));
    }
    Ok(bytes)
}

/// Folds what others have appended, and holds the result against the head's root.
pub(super) fn learn(store: &mut dyn Store, shared: &Shared, head: Head) -> Result<(), StoreError> {
    let mut said = shared.clock.read().boot;
    loop {
        let at = shared.read().state.head();
        if at >= head.size {
            break;
        }
        let boot = shared.clock.read().boot;
        if boot.less(said) >= SIGN_OF_LIFE {
            said = boot;
            tracing::info!(events = at, of = head.size, "replaying the log");
        }
        let missed = store.missed(at, 1000)?;
        if missed.is_empty() {
            break;
        }
        let mut memory = shared.write();
        for body in missed {
            memory.take_in(&body, &*shared.reader, &*shared.bodies)?;
        }
    }
    let memory = shared.read();
    if memory.state.head() != head.size || memory.frontier.root() != head.root {
        let found = format!("{} entries with root {}", memory.state.head(), memory.frontier.root());
        return Err(damaged(format!(
            "the head says {} entries with root {}, the log holds {found}",
            head.size, head.root
        )));
    }
    shared.size.send_if_modified(|size| std::mem::replace(size, head.size) != head.size);
    Ok(())
}

fn refuse(mut job: Box<dyn Job>, error: Error) {
    job.refuse(error);
    job.settle();
}

impl Failure {
    /// Which half of the turn came to nothing, as it is measured.
    fn stage(&self) -> &'static str {
        match self {
            Self::NotTaken(_) => "taken",
            Self::NotKept(_) => "kept",
        }
    }

    /// What was not kept is said not to be; what may have been kept is not called a failure.
    fn told(&self) -> Error {
        let (reason, what) = match self {
            Self::NotTaken(_) | Self::NotKept(CommitError::Failed(_)) => {
                ("not_recorded", "nothing was answered because it could not be recorded")
            }
            Self::NotKept(CommitError::Unknown(_) | CommitError::Fatal(_)) => {
                ("outcome_unknown", "it may or may not have been recorded, look before you try again")
            }
        };
        Error::new(Code::Unavailable, reason, format!("{what}: {self}"))
    }
}

pub(super) fn stopped() -> Error {
    Error::new(Code::Unavailable, "stopped", "the ledger has stopped; try another node or later")
}
