//! The state as bytes, so that a start does not replay history.
//!
//! Records are sorted by key: the same state gives the same bytes, and a full fold can be held against
//! snapshot plus tail.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::body::{Bodies, fill};
use super::job::{Job, Pending, Place, Request};
use super::queue::Lane;
use super::{Memory, SNAPSHOT_EVERY, damaged};
use crate::domain::agent::{Agent, Join, Operator};
use crate::domain::applied::Applied;
use crate::domain::approval::Approval;
use crate::domain::certificate::Certificate;
use crate::domain::cut::{Cut, Recorded, Target};
use crate::domain::decide::{Caller, MarkSnapshot};
use crate::domain::digest::Digest;
use crate::domain::event::Origin;
use crate::domain::fold::VERSION;
use crate::domain::freeze::Freeze;
use crate::domain::grant::{Grant, LiveToken, Task};
use crate::domain::id::{GrantId, TaskId};
use crate::domain::invocation::OpenCall;
use crate::domain::key::Key;
use crate::domain::lease::{Backend, Lease};
use crate::domain::pep::Pep;
use crate::domain::scope::Scope;
use crate::domain::spent::{Exercised, Spent};
use crate::domain::state::{Delta, Remembered, RequestKey, SnapshotMark, State};
use crate::domain::time::Timestamp;
use crate::domain::upstream::Upstream;
use crate::merkle::Frontier;
use crate::store::{Reader, StoreError};

#[derive(Serialize, Deserialize)]
struct Snapshot {
    head: u64,
    at: Timestamp,
    frontier: Frontier,
    origin: Option<Origin>,
    mark: Option<SnapshotMark>,
    keys: Vec<Key>,
    agents: Vec<Agent>,
    operators: Vec<Operator>,
    joins: Vec<Join>,
    certificates: Vec<Certificate>,
    tasks: Vec<Task>,
    grants: Vec<Grant>,
    tokens: Vec<LiveToken>,
    remembered: Vec<(RequestKey, Remembered)>,
    cuts: Vec<(Target, Cut)>,
    granted: Vec<(TaskId, BTreeSet<Scope>)>,
    approvals: Vec<Approval>,
    catalog: Option<(u64, Digest)>,
    policies: Option<(u64, Digest)>,
    spent: Vec<(GrantId, Spent)>,
    exercised: Vec<(GrantId, Exercised)>,
    peps: Vec<Pep>,
    freezes: Vec<Freeze>,
    backends: Vec<Backend>,
    leases: Vec<Lease>,
    revocations: Vec<Recorded>,
    calls: Vec<OpenCall>,
    upstreams: Vec<Upstream>,
}

/// The bytes of a memory.
pub(super) fn encode(memory: &Memory) -> Result<Vec<u8>, StoreError> {
    let tables = memory.state.tables();
    let snapshot = Snapshot {
        head: memory.state.head(),
        at: memory.state.at(),
        frontier: memory.frontier.clone(),
        origin: tables.origin.clone(),
        mark: tables.snapshot,
        keys: sorted(tables.keys.values(), |key| key.kid.clone()),
        agents: sorted(tables.agents.values(), |agent| agent.name.clone()),
        operators: sorted(tables.operators.values(), |operator| operator.name.clone()),
        joins: sorted(tables.joins.values(), |join| join.id),
        certificates: sorted(tables.certificates.values(), |one| one.id),
        tasks: sorted(tables.tasks.values(), |task| task.id),
        grants: sorted(memory.state.tree().iter(), |grant| grant.id),
        tokens: sorted(tables.tokens.values(), |token| token.id),
        remembered: pairs(&tables.remembered),
        cuts: pairs(&tables.cuts),
        granted: pairs(&tables.granted),
        approvals: sorted(tables.approvals.values(), |approval| approval.id),
        catalog: tables.catalog.as_ref().map(|applied| (applied.version, applied.digest)),
        policies: tables.policies.as_ref().map(|applied| (applied.version, applied.digest)),
        spent: pairs(&tables.spent),
        exercised: pairs(&tables.exercised),
        peps: sorted(tables.peps.values(), |pep| pep.name.clone()),
        freezes: sorted(tables.freezes.values(), |freeze| freeze.id),
        backends: sorted(tables.backends.values(), |backend| backend.name.clone()),
        leases: sorted(tables.leases.values(), |lease| lease.id),
        revocations: sorted(tables.revocations.values(), |one| one.revocation.id),
        calls: sorted(tables.calls.values(), |call| call.id),
        upstreams: sorted(tables.upstreams.values(), |one| one.name.clone()),
    };
    postcard::to_stdvec(&snapshot).map_err(|error| StoreError::new("building a snapshot", error))
}

/// The memory of these bytes.
fn decode(bytes: &[u8], reader: &dyn Reader, bodies: &dyn Bodies) -> Result<Memory, StoreError> {
    let snapshot: Snapshot =
        postcard::from_bytes(bytes).map_err(|error| StoreError::new("reading a snapshot", error))?;
    let (mut catalog, mut policies) = (snapshot.catalog.map(named), snapshot.policies.map(named));
    if let Some(applied) = &mut catalog {
        fill(applied, reader, |bytes| bodies.catalog(bytes))?;
    }
    if let Some(applied) = &mut policies {
        fill(applied, reader, |bytes| bodies.policies(bytes))?;
    }
    let delta = Delta {
        origin: snapshot.origin,
        snapshot: snapshot.mark,
        keys: snapshot.keys.into_iter().map(|key| (key.kid.clone(), key)).collect(),
        agents: snapshot.agents.into_iter().map(|agent| (agent.name.clone(), agent)).collect(),
        operators: snapshot.operators.into_iter().map(|operator| (operator.name.clone(), operator)).collect(),
        joins: snapshot.joins.into_iter().map(|join| (join.id, join)).collect(),
        certificates: snapshot.certificates.into_iter().map(|one| (one.id, one)).collect(),
        tasks: snapshot.tasks.into_iter().map(|task| (task.id, task)).collect(),
        grants: snapshot.grants.into_iter().map(|grant| (grant.id, grant)).collect(),
        tokens: snapshot.tokens.into_iter().map(|token| (token.id, token)).collect(),
        remembered: snapshot.remembered.into_iter().collect(),
        cuts: snapshot.cuts.into_iter().collect(),
        granted: snapshot.granted.into_iter().collect(),
        approvals: snapshot.approvals.into_iter().map(|one| (one.id, one)).collect(),
        // What grants reach is counted again, by the catalog.
        reaches: Default::default(),
        catalog,
        policies,
        spent: snapshot.spent.into_iter().collect(),
        exercised: snapshot.exercised.into_iter().collect(),
        peps: snapshot.peps.into_iter().map(|pep| (pep.name.clone(), pep)).collect(),
        freezes: snapshot.freezes.into_iter().map(|freeze| (freeze.id, freeze)).collect(),
        backends: snapshot.backends.into_iter().map(|backend| (backend.name.clone(), backend)).collect(),
        leases: snapshot.leases.into_iter().map(|lease| (lease.id, lease)).collect(),
        revocations: snapshot.revocations.into_iter().map(|one| (one.revocation.id, one)).collect(),
        calls: snapshot.calls.into_iter().map(|call| (call.id, call)).collect(),
        upstreams: snapshot.upstreams.into_iter().map(|one| (one.name.clone(), one)).collect(),
    };
    let mut state = State::default();
    state.restore(delta, snapshot.head, snapshot.at);
    Ok(Memory { state, frontier: snapshot.frontier })
}

/// Events between two snapshots: `every`, or as many as there are records once those are more than usual. One
/// costs what the state holds, and holds up the turn: so all of them together cost no more than the log does,
/// and a start replays no more than it loads.
pub(super) fn distance(every: u64, state: &State) -> u64 {
    let records = state.records();
    if records > SNAPSHOT_EVERY { every.max(records) } else { every }
}

/// The request that stores a snapshot and says so in the log.
pub(super) fn job(memory: &Memory, seed: [u8; 32]) -> Result<Box<dyn Job>, StoreError> {
    let bytes = encode(memory)?;
    let digest = Digest::of(&bytes);
    let command = MarkSnapshot { seq: memory.state.head(), digest, version: VERSION };
    let request = Request {
        command,
        caller: Caller::Broker,
        request_id: "snapshot".to_owned(),
        idempotency: None,
        seed,
        blobs: vec![(digest, bytes)],
    };
    let place = Place { lane: Lane::Normal, party: request.caller.actor(), ordinary: false };
    Ok(Box::new(Pending::new(place, request).0))
}

/// The newest snapshot, if there is one that this program's fold wrote. Its digest was logged: bytes that
/// do not match are damage, and are not quietly replaced by a replay.
pub(super) fn load(reader: &dyn Reader, event: u64, bodies: &dyn Bodies) -> Result<Option<Memory>, StoreError> {
    if event == 0 {
        return Ok(None);
    }
    let bytes = reader.entries(event - 1, 1)?.pop().ok_or_else(|| damaged(format!("entry {event} is missing")))?;
    let entry = crate::wire::decode(&bytes).map_err(|error| damaged(format!("entry {event}: {error}")))?;
    let crate::domain::event::Body::SnapshotTaken { seq, digest, version } = entry.body else {
        return Err(damaged(format!("entry {event} should name a snapshot and is `{}`", entry.body.kind())));
    };
    if version != VERSION {
        tracing::warn!(version, expected = VERSION, "the snapshot is of another version; replaying the whole log");
        return Ok(None);
    }
    let body = reader.blob(digest)?.ok_or_else(|| damaged(format!("snapshot {digest} is missing")))?;
    let memory = decode(&body, reader, bodies)?;
    if memory.state.head() != seq || memory.frontier.size() != seq {
        return Err(damaged(format!("snapshot {digest} is of entry {}, its event says {seq}", memory.state.head())));
    }
    Ok(Some(memory))
}

fn named<T: ?Sized>((version, digest): (u64, Digest)) -> Applied<T> {
    Applied { version, digest, body: None }
}

fn sorted<'a, T: Clone + 'a, K: Ord>(records: impl Iterator<Item = &'a T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut records: Vec<T> = records.cloned().collect();
    records.sort_by_key(key);
    records
}

fn pairs<K: Clone + Ord, V: Clone>(table: &std::collections::HashMap<K, V>) -> Vec<(K, V)> {
    let mut pairs: Vec<(K, V)> = table.iter().map(|(key, record)| (key.clone(), record.clone())).collect();
    pairs.sort_by(|one, two| one.0.cmp(&two.0));
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::agent::Kind;
    use crate::domain::confirmation::Confirmation;
    use crate::domain::entropy::Entropy;
    use crate::domain::id::{CertificateId, TokenId};
    use crate::domain::time::Span;
    use crate::measure::Stopwatch;

    /// A state of this many tokens.
    fn state(tokens: u64) -> State {
        let mut delta = Delta::default();
        let (at, mut entropy) = (Timestamp::from_seconds(1_795_000_000), Entropy::from_seed([5; 32]));
        let grant = crate::domain::id::GrantId::mint(at, &mut entropy);
        let key_hash = Digest::of(b"");
        for seq in 1..=tokens {
            let id = TokenId::mint(at, &mut entropy);
            let token = LiveToken {
                id,
                grant,
                seq,
                expires_at: at,
                confirmation: Confirmation::Certificate(key_hash),
                key_hash,
                kid: "k1".to_owned(),
                status: None,
            };
            delta.tokens.insert(id, token);
        }
        let mut state = State::default();
        state.apply(delta, tokens, at);
        state
    }

    #[test]
    fn snapshots_of_a_large_state_are_as_far_apart_as_it_is_large() {
        let small = state(SNAPSHOT_EVERY);
        assert_eq!([1, SNAPSHOT_EVERY].map(|every| distance(every, &small)), [1, SNAPSHOT_EVERY]);
        let large = state(SNAPSHOT_EVERY + 1);
        assert_eq!([1, SNAPSHOT_EVERY].map(|every| distance(every, &large)), [SNAPSHOT_EVERY + 1; 2]);
        assert_eq!(distance(1_000_000, &large), 1_000_000);
    }

    #[test]
    fn many_that_end_together_do_not_hold_up_the_turn() {
        const MANY: u64 = 40_000;
        let mut state = state(MANY);
        let (at, mut entropy, key_hash) = (state.at(), Entropy::from_seed([6; 32]), Digest::of(b""));
        let certificate = Certificate {
            id: CertificateId::mint(at, &mut entropy),
            kind: Kind::Agent,
            name: "ana".parse().unwrap(),
            grant: state.tables().tokens.values().next().map(|token| token.grant),
            key_hash,
            tbs_digest: key_hash,
            authority: "k2".to_owned(),
            not_before: at,
            not_after: at,
            der: None,
        };
        let ids = (0..MANY).map(|_| CertificateId::mint(at, &mut entropy));
        let certificates = ids.map(|id| (id, Certificate { id, ..certificate.clone() })).collect();
        state.apply(Delta { certificates, ..Delta::default() }, 2 * MANY, at);
        let begun = Stopwatch::start();
        state.apply(Delta::default(), 2 * MANY, at.plus(Span::hours(1)));
        assert!(state.tables().tokens.is_empty() && state.tables().certificates.is_empty());
        // Each looked for in a list of all, they take a minute.
        let took = begun.elapsed();
        assert!(took < std::time::Duration::from_secs(5), "{took:?}");
    }
}
