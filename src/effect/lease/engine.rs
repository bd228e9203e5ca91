//! Makes the targets what the state calls for: cuts, halts and resumes leases, until it is done, across restarts.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};

use super::debt::{Act, Due, due};
use super::pace::{Circuit, again};
use super::{Failure, Parted, Targets};
use crate::domain::decide::{Caller, Decide, ReportLease};
use crate::domain::error::Error;
use crate::domain::event::Body;
use crate::domain::id::LeaseId;
use crate::domain::lease::{Lease, LeaseStatus, username};
use crate::domain::name::Name;
use crate::domain::time::Timestamp;
use crate::effect::Follower;
use crate::ledger::{Ledger, Request};
use crate::measure::{self, Stopwatch};

/// Leases looked at under one hold on the state.
const STEP: usize = 256;
/// Things done at once in one target; it has fewer connections, and they are waited for.
const AT_ONCE: usize = 16;
/// How often time itself is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often targets are asked for what nobody knows of.
const SWEEP: Duration = Duration::from_secs(240);
/// When those who were shut out are looked for again: who was let in just before may not be to be seen at first.
const AGAIN: Duration = Duration::from_secs(1);
/// How often that is tried while the target does not answer.
const LOOKS: usize = 10;

/// Follows the log, and does in the targets what it calls for.
pub struct Engine {
    ledger: Arc<Ledger>,
    targets: Arc<Targets>,
    began: Stopwatch,
    todo: BTreeMap<LeaseId, Todo>,
    circuits: HashMap<Name, Circuit>,
    /// When something that is as it should be will not be any more.
    next: Option<Timestamp>,
    swept: Option<Duration>,
    shown: Option<Duration>,
}

/// Something that is not as it should be.
struct Todo {
    backend: Name,
    act: Act,
    since: Duration,
    refusals: u32,
    not_before: Duration,
    running: bool,
}

/// What came of one attempt.
enum Done {
    Tried { id: LeaseId, backend: Name, outcome: Result<Option<Parted>, Failure> },
    Looked { id: LeaseId, backend: Name, outcome: Result<u64, Failure> },
    Swept { backend: Name, outcome: Result<(), Failure> },
}

type Running = FuturesUnordered<BoxFuture<'static, Done>>;

/// Keeps an engine at work until it is dropped, or the ledger stops: a panic ends one engine, and no cut.
pub async fn tend(ledger: Arc<Ledger>, targets: Arc<Targets>) {
    loop {
        let engine = Engine::new(Arc::clone(&ledger), Arc::clone(&targets));
        match AssertUnwindSafe(engine.run()).catch_unwind().await {
            Ok(()) => return,
            Err(_) => tracing::error!("leases are not tended; it is begun anew in {} s", TICK.as_secs()),
        }
        tokio::time::sleep(TICK).await;
    }
}

impl Engine {
    /// For these targets.
    pub fn new(ledger: Arc<Ledger>, targets: Arc<Targets>) -> Self {
        let (todo, circuits) = (BTreeMap::new(), HashMap::new());
        Self { ledger, targets, began: Stopwatch::start(), todo, circuits, next: None, swept: None, shown: None }
    }

    /// Works until it is dropped, or the ledger stops.
    pub async fn run(mut self) {
        measure::LEASE_ATTEMPTS.begin(&[Act::End.word(), "away"]);
        measure::LEASE_SECONDS.begin(&[Act::End.word()]);
        self.show();
        let mut follower = Follower::behind(Arc::clone(&self.ledger), self.ledger.checkpoint().0);
        let mut running = Running::new();
        self.look_at_all();
        loop {
            self.sweep(&mut running);
            self.begin(&mut running);
            let pause = self.pause();
            tokio::select! {
                read = follower.next() => match read {
                    Ok(entries) => self.note(entries.iter().map(|(_, entry)| &entry.body)),
                    Err(error) if !self.ledger.is_alive() => {
                        tracing::debug!(%error, "leases are not followed any more");
                        return;
                    }
                    Err(error) => {
                        tracing::error!(%error, "the log cannot be followed; leases are looked at again");
                        tokio::time::sleep(TICK).await;
                        self.look_at_all();
                    }
                },
                Some(done) = running.next(), if !running.is_empty() => self.settle(done, &mut running),
                () = tokio::time::sleep(pause) => {}
            }
            if self.next.is_some_and(|next| self.ledger.now() >= next) {
                self.look_at_all();
            }
            self.show();
        }
    }

    /// Looks at what these entries may have changed: at all once, however many of them may have changed any.
    fn note<'a>(&mut self, bodies: impl Iterator<Item = &'a Body>) {
        let (mut some, mut all) = (Vec::new(), false);
        for body in bodies {
            all |= self.touches_all(body);
            some.extend(touched(body));
        }
        if all {
            self.look_at_all();
        } else {
            some.chunks(STEP).for_each(|step| self.look_at(step));
        }
    }

    fn touches_all(&mut self, body: &Body) -> bool {
        if let Body::BackendAdded(backend) = body {
            // Where it was away it may be there.
            self.circuits.remove(&backend.name);
            self.swept = None;
        }
        matches!(
            body,
            Body::Revoked(_)
            | Body::GrantStatusChanged { .. }
            | Body::TaskEnded { .. }
            | Body::TaskStatusChanged { .. }
            | Body::AgentStatusChanged { .. }
                | Body::Frozen(_)
                | Body::Thawed { .. }
                // A freeze may be one of what is sensitive, and the catalog says what is.
                | Body::CatalogApplied(_)
                | Body::BackendAdded(_)
                | Body::BackendRemoved { .. }
        )
    }

    fn look_at_all(&mut self) {
        self.next = None;
        let open = |lease: &&Lease| lease.status != LeaseStatus::Ended;
        let mut all: Vec<_> = self.ledger.view(|view| view.leases().filter(open).map(|lease| lease.id).collect());
        all.sort_unstable();
        self.todo.retain(|id, todo| todo.running || all.binary_search(id).is_ok());
        for step in all.chunks(STEP) {
            self.look_at(step);
        }
    }

    fn look_at(&mut self, ids: &[LeaseId]) {
        let now = self.ledger.now();
        let seen: Vec<(LeaseId, Option<(Name, Due)>)> = self.ledger.view(|view| {
            let seen = |id: &LeaseId| {
                let lease = view.lease(id)?;
                Some((lease.backend.clone(), due(&view, lease, now)))
            };
            ids.iter().map(|id| (*id, seen(id))).collect()
        });
        for (id, seen) in seen {
            match seen {
                Some((backend, Due::Now(act))) => self.call_for(id, backend, act),
                Some((_, Due::At(when))) => {
                    self.next = Some(self.next.map_or(when, |next| next.min(when)));
                    self.drop_idle(id);
                }
                Some((_, Due::Never)) | None => self.drop_idle(id),
            }
        }
    }

    fn call_for(&mut self, id: LeaseId, backend: Name, act: Act) {
        let now = self.began.elapsed();
        let fresh = || Todo { backend, act, since: now, refusals: 0, not_before: now, running: false };
        let todo = self.todo.entry(id).or_insert_with(fresh);
        if todo.act != act {
            // Something else is called for now: it does not wait for what failed before.
            (todo.act, todo.since, todo.refusals, todo.not_before) = (act, now, 0, now);
        }
    }

    fn drop_idle(&mut self, id: LeaseId) {
        if self.todo.get(&id).is_some_and(|todo| !todo.running) {
            self.todo.remove(&id);
        }
    }

    /// Begins what may be tried now: first all that takes something from somebody.
    fn begin(&mut self, running: &mut Running) {
        let now = self.began.elapsed();
        let mut busy: HashMap<Name, usize> = HashMap::new();
        for todo in self.todo.values().filter(|todo| todo.running) {
            *busy.entry(todo.backend.clone()).or_default() += 1;
        }
        let mut ready: Vec<_> =
            self.todo.iter_mut().filter(|(_, todo)| !todo.running && todo.not_before <= now).collect();
        ready.sort_by_key(|(_, todo)| !todo.act.takes());
        for (id, todo) in ready {
            let circuit = self.circuits.entry(todo.backend.clone()).or_default();
            let busy = busy.entry(todo.backend.clone()).or_default();
            if !circuit.admits(now) || *busy >= AT_ONCE {
                continue;
            }
            circuit.tried();
            *busy += 1;
            todo.running = true;
            let (ledger, targets) = (Arc::clone(&self.ledger), Arc::clone(&self.targets));
            let (id, backend, act) = (*id, todo.backend.clone(), todo.act);
            running.push(Box::pin(async move {
                let outcome = attempt(&ledger, &targets, id, act).await;
                Done::Tried { id, backend, outcome }
            }));
        }
    }

    fn settle(&mut self, done: Done, running: &mut Running) {
        let (now, jitter) = (self.began.elapsed(), self.ledger.seed()[0]);
        match done {
            Done::Swept { backend, outcome } => {
                self.answer(&backend, outcome.as_ref().err(), now, jitter);
                if let Err(failure) = outcome {
                    tracing::warn!(%backend, %failure, "the leases in a backend cannot be listed");
                }
            }
            Done::Looked { id, backend, outcome } => match outcome {
                Ok(0) => {}
                Ok(found) => tracing::warn!(%backend, lease = %id, found, "sessions that were late were ended"),
                Err(failure) => tracing::warn!(%backend, lease = %id, %failure, "late sessions cannot be looked for"),
            },
            Done::Tried { id, backend, outcome } => {
                self.answer(&backend, outcome.as_ref().err(), now, jitter);
                let Some(todo) = self.todo.get_mut(&id) else { return };
                todo.running = false;
                let word = match &outcome {
                    Ok(_) => "done",
                    Err(failure) if failure.answered => "refused",
                    Err(_) => "away",
                };
                measure::LEASE_ATTEMPTS.add(1, &[todo.act.word(), word]);
                match outcome {
                    Ok(parted) => {
                        measure::LEASE_SECONDS.record((now - todo.since).as_secs_f64(), &[todo.act.word()]);
                        self.todo.remove(&id);
                        if let Some(parted) = parted {
                            running.push(later(Arc::clone(&self.targets), id, backend, parted));
                        }
                    }
                    Err(failure) if failure.answered => {
                        todo.refusals = todo.refusals.saturating_add(1);
                        todo.not_before = again(now, todo.refusals, jitter);
                    }
                    Err(_) => {}
                }
                // It may have changed meanwhile, or another thing be called for now.
                self.look_at(&[id]);
            }
        }
    }

    fn answer(&mut self, backend: &Name, failure: Option<&Failure>, now: Duration, jitter: u8) {
        let circuit = self.circuits.entry(backend.clone()).or_default();
        match failure {
            Some(failure) if !failure.answered => circuit.away(now, jitter),
            _ => circuit.answered(),
        }
    }

    /// Asks every target for what is there of ours, now and then: what nobody knows of is taken away.
    fn sweep(&mut self, running: &mut Running) {
        let now = self.began.elapsed();
        if self.swept.is_some_and(|swept| now.saturating_sub(swept) < SWEEP) {
            return;
        }
        self.swept = Some(now);
        let names: Vec<Name> = self.ledger.view(|view| {
            view.backends().filter(|backend| !backend.removed).map(|backend| backend.name.clone()).collect()
        });
        for backend in names {
            let (ledger, targets) = (Arc::clone(&self.ledger), Arc::clone(&self.targets));
            running.push(Box::pin(async move {
                let outcome = swept(&ledger, &targets, &backend).await;
                Done::Swept { backend, outcome }
            }));
        }
    }

    /// Until when nothing can be begun.
    fn pause(&self) -> Duration {
        let now = self.began.elapsed();
        let waiting = self.todo.values().filter(|todo| !todo.running).map(|todo| {
            let circuit = self.circuits.get(&todo.backend);
            todo.not_before.max(circuit.and_then(Circuit::retry_at).unwrap_or_default())
        });
        let first = waiting.filter(|when| *when > now).min();
        first.map_or(TICK, |when| (when - now).min(TICK))
    }

    /// Shows what is owed, once a [`TICK`]: it is gone through for that.
    fn show(&mut self) {
        let now = self.began.elapsed();
        if self.shown.is_some_and(|shown| now.saturating_sub(shown) < TICK) {
            return;
        }
        self.shown = Some(now);
        let owed = |todo: &&Todo| todo.act.takes();
        let (mut open, mut left, mut oldest) = (0_u64, 0_u64, Duration::ZERO);
        self.ledger.view(|view| {
            for (id, todo) in self.todo.iter().filter(|(_, todo)| owed(todo)) {
                match view.lease(id) {
                    Some(lease) if lease.is_powerless() => left += 1,
                    Some(_) => {
                        open += 1;
                        oldest = oldest.max(now - todo.since);
                    }
                    None => {}
                }
            }
        });
        measure::LEASE_DEBT.set(open, &["open"]);
        measure::LEASE_DEBT.set(left, &["left"]);
        measure::LEASE_DEBT_SECONDS.set(oldest.as_secs(), &[]);
    }
}

/// The lease that an entry is of.
fn touched(body: &Body) -> Option<LeaseId> {
    match body {
        Body::LeaseIssued { lease } => Some(lease.id),
        Body::LeaseChanged(change) => Some(change.id),
        _ => None,
    }
}

/// Looks again for those who were shut out. Nobody waits for it.
fn later(targets: Arc<Targets>, id: LeaseId, backend: Name, parted: Parted) -> BoxFuture<'static, Done> {
    Box::pin(async move {
        let mut outcome = Ok(0);
        for _ in 0..LOOKS {
            tokio::time::sleep(AGAIN).await;
            outcome = match targets.target_of(&backend) {
                Ok(target) => target.again(parted).await,
                Err(failure) => Err(failure),
            };
            if outcome.is_ok() {
                break;
            }
        }
        Done::Looked { id, backend, outcome }
    })
}

/// Does it, and records what came of it.
async fn attempt(ledger: &Ledger, targets: &Targets, id: LeaseId, act: Act) -> Result<Option<Parted>, Failure> {
    let Some(lease) = ledger.view(|view| view.lease(&id).cloned()) else { return Ok(None) };
    let outcome = act_on(targets, &lease, act).await;
    let report = match &outcome {
        Ok(_) => ReportLease { id, status: act.done(), trouble: None },
        Err(failure) if failure.powerless => {
            ReportLease { id, status: Some(LeaseStatus::Halted), trouble: Some(failure.trouble()) }
        }
        Err(failure) => ReportLease { id, status: None, trouble: Some(failure.trouble()) },
    };
    match submit(ledger, report).await {
        Ok(()) => outcome,
        // Done, and not known to be: it is done again, which changes nothing.
        Err(error) => Err(Failure::refused(format!("it is not recorded: {error}"))),
    }
}

/// Who was shut out by it, if anybody was.
async fn act_on(targets: &Targets, lease: &Lease, act: Act) -> Result<Option<Parted>, Failure> {
    let username = lease.username();
    if act == Act::Clear {
        return Ok(None);
    }
    let target = targets.target_of(&lease.backend)?;
    match act {
        Act::Hold => target.end(&username, Some(&lease.role), true).await.map(Some),
        Act::End => target.end(&username, Some(&lease.role), false).await.map(Some),
        Act::Halt => target.halt(&username).await.map(Some),
        Act::Resume => target.resume(&username).await.map(|()| None),
        Act::Clear => Ok(None),
    }
}

async fn swept(ledger: &Ledger, targets: &Targets, backend: &Name) -> Result<(), Failure> {
    let target = targets.target_of(backend)?;
    let mut outcome = Ok(());
    for id in target.ours().await? {
        // Recorded before it is made: what the state does not know now is nobody's.
        let known = ledger.view(|view| view.lease(&id).is_some_and(|lease| lease.status != LeaseStatus::Ended));
        if !known {
            tracing::warn!(%backend, lease = %id, "a role of ours that nobody leases is dropped");
            // What it was made from is not known. One that stays keeps no other.
            let ended = target.end(&username(id), None, false).await.map(drop);
            if let Err(failure) = &ended {
                tracing::warn!(%backend, lease = %id, %failure, "it cannot be dropped");
            }
            outcome = outcome.and(ended);
        }
    }
    outcome
}

async fn submit<D: Decide>(ledger: &Ledger, command: D) -> Result<D::Answer, Error> {
    let (caller, request_id) = (Caller::Broker, "leases".to_owned());
    let seed = ledger.seed();
    ledger.submit(Request { command, caller, request_id, idempotency: None, seed, blobs: Vec::new() }).await
}
