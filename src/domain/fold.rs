//! What an event does to the state, as a delta. Nothing here changes anything, nothing here decides.

use std::collections::BTreeSet;

use super::agent::AgentStatus;
use super::approval::{Approval, ApprovalStatus};
use super::cut::{Cut, Recorded};
use super::event::{Activation, Body, Entry, Idempotency, Invocation, LeaseChange, Report};
use super::grant::{Grant, LiveToken, Status, Token};
use super::id::{ApprovalId, GrantId};
use super::invocation::{Named, OPEN_FOR, OpenCall, Outcome};
use super::lease::{Lease, LeaseStatus};
use super::policy::Mode;
use super::scope::Scope;
use super::state::{Delta, Remembered, RequestKey, SnapshotMark};
use super::time::{KEY_KEPT, Timestamp};
use super::view::View;

/// Raised when the same events fold to another state: a snapshot of another version is not loaded.
pub const VERSION: u32 = 8;

/// An event that speaks of something the log does not know: the log is not ours, or is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {seq} ({kind}) refers to {what}, which no earlier event made")]
pub struct FoldError {
    /// Where.
    pub seq: u64,
    /// Which kind of event.
    pub kind: &'static str,
    /// What is missing.
    pub what: String,
}

/// The delta of one entry at `seq`, over what came before it.
///
/// # Errors
/// The entry refers to something unknown. A decision never makes such an entry.
pub fn fold(view: &View<'_>, seq: u64, entry: &Entry) -> Result<Delta, FoldError> {
    let missing = |what: String| FoldError { seq, kind: entry.body.kind(), what };
    let mut delta = Delta::default();
    match &entry.body {
        Body::Origin(origin) => delta.origin = Some(origin.clone()),
        Body::KeyAdded(key) => drop(delta.keys.insert(key.kid.clone(), key.clone())),
        Body::KeyTainted { kid, .. } => {
            let mut key = view.key(kid).ok_or_else(|| missing(format!("key {kid}")))?.clone();
            key.tainted = key.tainted.or(Some(entry.at));
            delta.keys.insert(kid.clone(), key);
        }
        Body::AgentRegistered { agent, join } => {
            delta.agents.insert(agent.name.clone(), agent.clone());
            delta.joins.insert(join.id, join.clone());
        }
        Body::AgentStatusChanged { name, status, .. } => {
            let mut agent = view.agent(name).ok_or_else(|| missing(format!("agent {name}")))?.clone();
            agent.status = *status;
            if *status == AgentStatus::Retired {
                agent.retired = agent.retired.or(Some(seq));
            }
            delta.agents.insert(name.clone(), agent);
        }
        Body::OperatorAdded { operator, join } => {
            delta.operators.insert(operator.name.clone(), operator.clone());
            delta.joins.insert(join.id, join.clone());
        }
        Body::OperatorRemoved { name, .. } => {
            let mut operator = view.operator(name).ok_or_else(|| missing(format!("operator {name}")))?.clone();
            operator.removed = true;
            delta.operators.insert(name.clone(), operator);
        }
        Body::PepRegistered { pep, join } => {
            delta.peps.insert(pep.name.clone(), pep.clone());
            delta.joins.insert(join.id, join.clone());
        }
        Body::PepRetired { name, .. } => {
            let mut pep = view.pep(name).ok_or_else(|| missing(format!("enforcement point {name}")))?.clone();
            pep.retired = pep.retired.or(Some(entry.at));
            delta.peps.insert(name.clone(), pep);
        }
        Body::Invited { join } => drop(delta.joins.insert(join.id, join.clone())),
        Body::CertificateRecorded { certificate, join, .. } => {
            if let Some(id) = join {
                let mut join = view.join(id).ok_or_else(|| missing(format!("join token {id}")))?.clone();
                join.used = Some((certificate.id, certificate.key_hash));
                delta.joins.insert(*id, join);
            }
            delta.certificates.insert(certificate.id, certificate.clone());
        }
        Body::CertificateSigned { id, der } => {
            let mut certificate = view.certificate(id).ok_or_else(|| missing(format!("certificate {id}")))?.clone();
            certificate.der = Some(der.clone());
            delta.certificates.insert(*id, certificate);
        }
        Body::TaskStarted { task } => drop(delta.tasks.insert(task.id, task.clone())),
        Body::TaskEnded { id, .. } => {
            let mut task = view.task(id).ok_or_else(|| missing(format!("task {id}")))?.clone();
            task.ended = Some(seq);
            delta.tasks.insert(*id, task);
        }
        Body::TaskStatusChanged { id, suspended, .. } => {
            let mut task = view.task(id).ok_or_else(|| missing(format!("task {id}")))?.clone();
            task.suspended = *suspended;
            delta.tasks.insert(*id, task);
        }
        Body::GrantIssued { grant } => issued(view, grant.clone(), &mut delta),
        Body::GrantActivated(activation) => {
            let grant = known(view, activation.id).ok_or_else(|| missing(format!("grant {}", activation.id)))?;
            let mut approval = approval(view, activation.approval, &missing)?;
            approval.status = ApprovalStatus::Approved;
            delta.approvals.insert(approval.id, approval);
            issued(view, activated(grant, activation, seq), &mut delta);
        }
        Body::GrantRenewed { id, expires_at, .. } => {
            let grant = known(view, *id).ok_or_else(|| missing(format!("grant {id}")))?;
            delta.grants.insert(*id, Grant { expires_at: *expires_at, ..grant });
        }
        Body::GrantStatusChanged { id, status, .. } => {
            let grant = known(view, *id).ok_or_else(|| missing(format!("grant {id}")))?;
            delta.grants.insert(*id, Grant { status: *status, ..grant });
        }
        Body::ApprovalRequested { approval } => drop(delta.approvals.insert(approval.id, approval.clone())),
        Body::ApprovalGiven { id, vote, .. } => {
            let mut approval = approval(view, *id, &missing)?;
            approval.given.push(vote.clone());
            delta.approvals.insert(*id, approval);
        }
        Body::ApprovalDenied { id, vote, grant } => {
            let mut approval = approval(view, *id, &missing)?;
            approval.denied = Some(vote.clone());
            approval.status = ApprovalStatus::Denied;
            delta.approvals.insert(*id, approval);
            if let Some(id) = grant {
                let grant = known(view, *id).ok_or_else(|| missing(format!("grant {id}")))?;
                delta.grants.insert(*id, Grant { status: Status::Denied, ..grant });
            }
        }
        Body::EnvelopeOpened { task, envelope, .. } => {
            let mut approval = approval(view, envelope.approval, &missing)?;
            approval.status = ApprovalStatus::Approved;
            delta.approvals.insert(approval.id, approval);
            let mut known = view.task(task).ok_or_else(|| missing(format!("task {task}")))?.clone();
            known.envelope = Some(envelope.clone());
            delta.tasks.insert(*task, known);
        }
        Body::CatalogApplied(catalog) => {
            catalog.body.as_ref().ok_or_else(|| missing(format!("catalog {}", catalog.digest)))?;
            delta.catalog = Some(catalog.clone());
        }
        Body::PolicyApplied(policies) => {
            policies.body.as_ref().ok_or_else(|| missing(format!("policy set {}", policies.digest)))?;
            delta.policies = Some(policies.clone());
        }
        Body::TokenIssued { token } => drop(delta.tokens.insert(token.id, live(token))),
        Body::Revoked(revocation) => {
            let cut = Cut { id: revocation.id, seq, until: revocation.until };
            delta.cuts.insert(revocation.target.clone(), cut);
            let recorded =
                Recorded { revocation: revocation.clone(), seq, at: entry.at, by: entry.actor.clone(), settled: None };
            delta.revocations.insert(revocation.id, recorded);
        }
        Body::RevocationSettled(settled) => {
            let recorded = view.revocation(&settled.id).ok_or_else(|| missing(format!("revocation {}", settled.id)))?;
            delta.revocations.insert(settled.id, Recorded { settled: Some(settled.clone()), ..recorded.clone() });
        }
        Body::Frozen(freeze) => drop(delta.freezes.insert(freeze.id, freeze.clone())),
        Body::Thawed { id, .. } => {
            let mut freeze = view.freeze(id).ok_or_else(|| missing(format!("freeze {id}")))?.clone();
            freeze.thawed = freeze.thawed.or(Some(entry.at));
            delta.freezes.insert(*id, freeze);
        }
        Body::BackendAdded(backend) => drop(delta.backends.insert(backend.name.clone(), backend.clone())),
        Body::BackendRemoved { name, .. } => {
            let mut backend = view.backend(name).ok_or_else(|| missing(format!("backend {name}")))?.clone();
            backend.removed = true;
            delta.backends.insert(name.clone(), backend);
        }
        Body::UpstreamAdded(upstream) => drop(delta.upstreams.insert(upstream.name.clone(), upstream.clone())),
        Body::UpstreamRemoved { name, .. } => {
            let mut upstream = view.upstream(name).ok_or_else(|| missing(format!("upstream {name}")))?.clone();
            upstream.removed = true;
            delta.upstreams.insert(name.clone(), upstream);
        }
        Body::LeaseIssued { lease } => drop(delta.leases.insert(lease.id, lease.clone())),
        Body::LeaseChanged(LeaseChange { id, status, trouble, .. }) => {
            let known = view.lease(id).ok_or_else(|| missing(format!("lease {id}")))?.clone();
            let changed_at = if known.status == *status { known.changed_at } else { entry.at };
            let kept = known.kept || *status == LeaseStatus::Made;
            let trouble = trouble.clone();
            delta.leases.insert(*id, Lease { status: *status, kept, changed_at, trouble, ..known });
        }
        Body::Invoked(invocation) => invoked(view, entry, invocation, &mut delta).map_err(missing)?,
        Body::InvocationReported(report) => reported(view, report, &mut delta).map_err(missing)?,
        Body::SnapshotTaken { seq, digest, version } => {
            delta.snapshot = Some(SnapshotMark { seq: *seq, digest: *digest, version: *version });
        }
    }
    if let Some(idempotency) = entry.idempotency.as_ref().filter(|_| is_remembered(&entry.body)) {
        let (key, made) = remember(view, entry, idempotency);
        delta.remembered.insert(key, made);
    }
    Ok(delta)
}

/// A grant that may be used counts from now on; one that waits does not.
fn issued(view: &View<'_>, grant: Grant, delta: &mut Delta) {
    if grant.status == Status::Active {
        let fresh = grant.scopes.iter().filter(|scope| !view.was_granted(grant.task, scope)).cloned();
        let fresh: BTreeSet<Scope> = if grant.mode == Mode::Narrowed { BTreeSet::new() } else { fresh.collect() };
        if !fresh.is_empty() {
            delta.granted.insert(grant.task, fresh);
        }
        delta.reaches = view.made_active(&grant);
    }
    delta.grants.insert(grant.id, grant);
}

/// A call that was allowed is charged to its chain. What only an operator asked about was not made.
fn invoked(view: &View<'_>, entry: &Entry, invocation: &Invocation, delta: &mut Delta) -> Result<(), String> {
    let known = invocation.grant.filter(|id| view.grant(*id).is_some());
    let (Some(grant), Some(call)) = (known, &invocation.call) else { return Ok(()) };
    if !invocation.allowed || !invocation.proven {
        return Ok(());
    }
    view.exercise(grant, call, delta);
    if let Some(id) = invocation.redeems {
        let spent = view.call(&id).ok_or_else(|| format!("invocation {id}"))?.clone();
        delta.calls.insert(id, OpenCall { redeemed: true, ..spent });
    }
    if invocation.charged.is_some() || invocation.ticket.is_some() {
        let Invocation { id, args, charged, ticket, .. } = invocation.clone();
        let (by, call, until) = (entry.actor.clone(), Named::of(call), entry.at.plus(OPEN_FOR));
        let open = OpenCall { id, by, grant, call, args, charged, ticket, redeemed: false, outcome: None, until };
        delta.calls.insert(id, open);
    }
    let Some(charge) = &invocation.charged else { return Ok(()) };
    view.spend(grant, call, charge, delta).map_err(|argument| format!("an amount of argument {argument}"))
}

fn reported(view: &View<'_>, report: &Report, delta: &mut Delta) -> Result<(), String> {
    let Some(call) = view.call(&report.id) else { return Ok(()) };
    if let Some(charge) = call.charged.as_ref().filter(|_| report.refunded) {
        view.give_back(call.grant, &call.call, charge, delta).map_err(|argument| format!("an amount of {argument}"))?;
    }
    // Its key is known for longer, and has to be known as that of a call that was given back.
    let kept = view.grant(call.grant).filter(|_| report.outcome == Outcome::NotExecuted);
    let until = kept.map_or(call.until, |grant| call.until.max(grant.renewable_until.plus(KEY_KEPT)));
    delta.calls.insert(report.id, OpenCall { outcome: Some(report.outcome), until, ..call.clone() });
    Ok(())
}

/// A call that was denied costs nothing, so that its key is free.
fn is_remembered(body: &Body) -> bool {
    !matches!(body, Body::Invoked(invocation) if !invocation.allowed)
}

fn activated(grant: Grant, activation: &Activation, seq: u64) -> Grant {
    let Activation { scopes, expires_at, renewable_until, approvals, decided, .. } = activation.clone();
    Grant { scopes, expires_at, renewable_until, approvals, decided, seq, status: Status::Active, ..grant }
}

fn approval(view: &View<'_>, id: ApprovalId, missing: &impl Fn(String) -> FoldError) -> Result<Approval, FoldError> {
    view.approval(&id).cloned().ok_or_else(|| missing(format!("approval {id}")))
}

fn known(view: &View<'_>, id: GrantId) -> Option<Grant> {
    view.grant(id).cloned()
}

fn live(token: &Token) -> LiveToken {
    LiveToken {
        id: token.id,
        grant: token.grant,
        seq: token.seq,
        expires_at: token.expires_at,
        confirmation: token.confirmation,
        key_hash: token.key_hash,
        kid: token.kid.clone(),
        status: token.status,
    }
}

/// The keys of one request gather what its events made: a grant, then its token.
fn remember(view: &View<'_>, entry: &Entry, idempotency: &Idempotency) -> (RequestKey, Remembered) {
    let key = RequestKey { actor: entry.actor.clone(), verb: idempotency.verb.clone(), key: idempotency.key.clone() };
    let (digest, until) = (idempotency.digest, entry.at.plus(KEY_KEPT));
    let fresh = Remembered {
        digest,
        task: None,
        grant: None,
        token: None,
        certificate: None,
        lease: None,
        invocation: None,
        until,
    };
    let mut made = view.remembered(&key).cloned().unwrap_or(fresh);
    let mut keep = |end: Timestamp| made.until = made.until.max(end.plus(KEY_KEPT));
    match &entry.body {
        Body::TaskStarted { task } => {
            keep(task.expires_at);
            made.task = Some(task.id);
        }
        Body::GrantIssued { grant } => {
            // One that waits may have its whole task's time once it is approved.
            let task = view.task(&grant.task).filter(|_| grant.status == Status::Pending);
            keep(task.map_or(grant.renewable_until, |task| task.expires_at));
            made.grant = Some(grant.id);
        }
        Body::TokenIssued { token } => {
            keep(token.expires_at);
            made.token = Some((token.id, token.seq));
        }
        Body::CertificateRecorded { certificate, .. } => {
            keep(certificate.not_after);
            made.certificate = Some(certificate.id);
        }
        Body::LeaseIssued { lease } => {
            keep(lease.expires_at);
            made.lease = Some(lease.id);
        }
        Body::Invoked(invocation) => {
            let grant = invocation.grant.and_then(|id| view.grant(id));
            grant.into_iter().for_each(|grant| keep(grant.renewable_until));
            made.invocation = Some((invocation.id, invocation.decided.clone()));
        }
        _ => {}
    }
    (key, made)
}
