//! What the turn measures, and what can be seen of the ledger from outside without walking it.

use super::job::Job;
use super::queue::Lane;
use super::{Ledger, Shared};
use crate::domain::cut::Target;
use crate::domain::event::{Body, Entry};
use crate::domain::time::Timestamp;
use crate::measure::{self, Stopwatch};

/// A turn under way; measured when it is dropped, however it ends.
pub(super) struct Turn(Stopwatch);

impl Turn {
    #[expect(clippy::cast_precision_loss, reason = "a turn has some thousands of requests")]
    pub(super) fn of(jobs: &[Box<dyn Job>]) -> Self {
        measure::BATCH_REQUESTS.record(jobs.len() as f64, &[]);
        Self(Stopwatch::start())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.record(&measure::TURN_SECONDS, &[]);
    }
}

/// What a batch will have been, once it is kept.
#[derive(Debug, Default)]
pub(super) struct Tally {
    events: Vec<&'static str>,
    cuts: Vec<(&'static str, [u64; 4])>,
}

impl Tally {
    pub(super) fn note(&mut self, entry: &Entry) {
        self.events.push(entry.body.kind());
        if let Body::Revoked(revocation) = &entry.body {
            let cut = &revocation.cut;
            let died = [cut.grants, cut.tokens, cut.certificates, cut.leases];
            self.cuts.push((word(&revocation.target), died));
        }
    }

    pub(super) fn merge(&mut self, own: Self) {
        self.events.extend(own.events);
        self.cuts.extend(own.cuts);
    }

    /// It is kept.
    pub(super) fn count(&self) {
        for event in &self.events {
            measure::EVENTS.add(1, &[event]);
            let issued = match *event {
                "grant_issued" => "grant",
                "token_issued" => "token",
                "certificate_signed" => "certificate",
                _ => continue,
            };
            measure::ISSUED.add(1, &[issued]);
        }
        for (target, died) in &self.cuts {
            measure::REVOCATIONS.add(1, &[target]);
            for (kind, died) in CUTS.iter().zip(died) {
                measure::CUT.add(*died, &[kind]);
            }
        }
    }
}

/// In the order of `CutCounts`.
const CUTS: [&str; 4] = ["grant", "token", "certificate", "lease"];

fn word(target: &Target) -> &'static str {
    match target {
        Target::Grant(_) => "grant",
        Target::Task(_) => "task",
        Target::Token(_) => "token",
        Target::Certificate(_) => "certificate",
        Target::Lease(_) => "lease",
        Target::Agent(_) => "agent",
        Target::Owner(_) => "owner",
        Target::Subject(_) => "subject",
    }
}

/// A turn kept nothing: it was not `taken`, or its batch not `kept`.
pub(super) fn turn_failed(stage: &'static str) {
    measure::TURNS_FAILED.add(1, &[stage]);
}

/// Records of decided calls wait for the next turn.
pub(super) fn returned(records: usize) {
    measure::RECORDS_RETURNED.add(records as u64, &[]);
}

/// There was no room in a lane.
pub(super) fn shed(lane: Lane) {
    measure::SHED.add(1, &["queue", lane.word()]);
}

/// Makes everything countable appear, at nothing.
fn begin() {
    ["taken", "kept"].iter().for_each(|stage| measure::TURNS_FAILED.begin(&[stage]));
    measure::RECORDS_RETURNED.begin(&[]);
    Body::KINDS.iter().for_each(|event| measure::EVENTS.begin(&[event]));
    CUTS.iter().for_each(|kind| measure::CUT.begin(&[kind]));
    CUTS[..3].iter().for_each(|kind| measure::ISSUED.begin(&[kind]));
    ["grant", "task", "token", "certificate", "agent", "owner", "subject"]
        .iter()
        .for_each(|target| measure::REVOCATIONS.begin(&[target]));
    [measure::BATCH_REQUESTS, measure::TURN_SECONDS, measure::COMMIT_SECONDS].iter().for_each(|m| m.begin(&[]));
}

impl Ledger {
    /// Puts what can be read at once into the gauges: queue, log, clock, and how many records memory holds.
    pub fn observe(&self) {
        begin();
        for lane in [Lane::Urgent, Lane::Normal, Lane::Record] {
            let (length, limit) = self.shared.queue.length(lane);
            measure::QUEUE_LENGTH.set(length, &[lane.word()]);
            measure::QUEUE_LIMIT.set(limit, &[lane.word()]);
            measure::SHED.begin(&["queue", lane.word()]);
        }
        measure::READY.set(i64::from(self.is_ready()), &[]);
        let at = records(&self.shared);
        measure::LAST_BATCH.set(at.seconds(), &[]);
        measure::CLOCK_BEHIND.set(at.since(self.wall()).as_millis() / 1000, &[]);
    }
}

/// Sizes of tables are known without a walk: the hold on the state is a moment.
fn records(shared: &Shared) -> Timestamp {
    let memory = shared.read();
    let tables = memory.state.tables();
    measure::LOG_ENTRIES.set(memory.state.head(), &[]);
    measure::SNAPSHOT_ENTRIES.set(tables.snapshot.map_or(0, |mark| mark.seq), &[]);
    let records = [
        ("agent", tables.agents.len()),
        ("operator", tables.operators.len()),
        ("join_token", tables.joins.len()),
        ("certificate", tables.certificates.len()),
        ("task", tables.tasks.len()),
        ("grant", memory.state.tree().len()),
        ("token", tables.tokens.len()),
        ("cut", tables.cuts.len()),
        ("idempotency_key", tables.remembered.len()),
    ];
    for (kind, count) in records {
        measure::RECORDS.set(count, &[kind]);
    }
    memory.state.at()
}
