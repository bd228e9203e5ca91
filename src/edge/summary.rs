//! An event in one line, for whoever reads the audit: to whom, what, why.

use crate::domain::certificate::Certificate;
use crate::domain::event::{Body, CutCounts, Invocation, Revocation, Settled};

/// The line.
pub(super) fn of(body: &Body) -> String {
    match body {
        Body::Origin(origin) => format!("the log of {} begins", origin.trust_domain),
        Body::KeyAdded(key) => format!("{} key {}", key.purpose, key.kid),
        Body::KeyTainted { kid, reason } => format!("{kid}: {reason}"),
        Body::AgentRegistered { agent, .. } => format!("{}, owned by {}: {}", agent.name, agent.owner, agent.purpose),
        Body::AgentStatusChanged { name, status, reason } => format!("{name} is {status}: {reason}"),
        Body::OperatorAdded { operator, .. } => {
            let roles: Vec<&str> = operator.roles.iter().map(|role| role.as_str()).collect();
            format!("{} as {}", operator.name, roles.join(", "))
        }
        Body::OperatorRemoved { name, reason } => format!("{name}: {reason}"),
        Body::Invited { join } => format!("{} {}", join.kind, join.name),
        Body::CertificateRecorded { certificate, .. } => recorded(certificate),
        Body::CertificateSigned { id, .. } => id.to_string(),
        Body::TaskStarted { task } => format!("{} by {}: {}", task.id, task.agent, task.purpose),
        Body::TaskEnded { id, reason, .. } => format!("{id}: {reason}"),
        Body::TaskStatusChanged { id, suspended, reason, .. } => {
            format!("{id} is {}: {reason}", if *suspended { "suspended" } else { "active" })
        }
        Body::PepRegistered { pep, .. } => {
            let audiences: Vec<&str> = pep.audiences.iter().map(|one| one.as_str()).collect();
            format!("{} for {}", pep.name, audiences.join(", "))
        }
        Body::PepRetired { name, reason }
        | Body::BackendRemoved { name, reason }
        | Body::UpstreamRemoved { name, reason } => format!("{name}: {reason}"),
        Body::RevocationSettled(settled) => settled_line(settled),
        Body::Frozen(freeze) => format!("{} {}: {}", freeze.id, freeze.scope, freeze.reason),
        Body::Thawed { id, reason } => format!("{id}: {reason}"),
        Body::BackendAdded(backend) => {
            let roles: Vec<&str> = backend.roles.iter().map(|role| role.as_str()).collect();
            format!("{} backend {}: {}", backend.kind, backend.name, roles.join(", "))
        }
        Body::UpstreamAdded(one) => format!("{} for {} at {}, in {}", one.name, one.tool, one.host, one.header),
        Body::LeaseIssued { lease } => {
            format!("{} of {} in {} under {}", lease.id, lease.role, lease.backend, lease.grant)
        }
        Body::LeaseChanged(change) => {
            let trouble = change.trouble.as_ref().map_or_else(String::new, |trouble| format!(": {}", trouble.reason));
            format!("{} is {}{trouble}", change.id, change.status)
        }
        Body::GrantIssued { grant } => {
            let scopes: Vec<String> = grant.scopes.iter().map(ToString::to_string).collect();
            format!("{} to {}: {}", grant.id, grant.agent, scopes.join(" "))
        }
        Body::GrantActivated(one) => format!("{} by {} approvals until {}", one.id, one.approvals, one.expires_at),
        Body::ApprovalRequested { approval } => {
            format!("{} for {} needs {} approvals", approval.id, approval.holder, approval.needed)
        }
        Body::ApprovalGiven { id, vote, .. } => format!("{id} by {}: {}", vote.by, vote.reason),
        Body::ApprovalDenied { id, vote, .. } => format!("{id} by {}: {}", vote.by, vote.reason),
        Body::EnvelopeOpened { task, envelope, .. } => {
            format!("{task} by {} until {}", envelope.approval, envelope.expires_at)
        }
        Body::CatalogApplied(applied) => format!("version {}, {}", applied.version, applied.digest),
        Body::PolicyApplied(applied) => format!("version {}, {}", applied.version, applied.digest),
        Body::GrantRenewed { id, expires_at, .. } => format!("{id} until {expires_at}"),
        Body::GrantStatusChanged { id, status, reason, .. } => format!("{id} is {status}: {reason}"),
        Body::TokenIssued { token } => format!("{} under {} for {}", token.id, token.grant, token.audience),
        Body::Revoked(revocation) => revoked(revocation),
        Body::Invoked(invocation) => invoked(invocation),
        Body::InvocationReported(report) => {
            let detail = report.detail.as_ref().map_or_else(String::new, |detail| format!(": {detail}"));
            format!("{} is {}{detail}", report.id, report.outcome)
        }
        Body::SnapshotTaken { seq, .. } => format!("of the state at {seq}"),
    }
}

fn recorded(certificate: &Certificate) -> String {
    let Certificate { id, kind, name, not_after, .. } = certificate;
    let under = certificate.grant.map_or_else(String::new, |grant| format!(" under {grant}"));
    format!("{id} for {kind} {name}{under} until {not_after}")
}

fn settled_line(Settled { id, enforced, expired, .. }: &Settled) -> String {
    format!("{id}: over ({}), honoured until it expired ({})", counted(enforced), counted(expired))
}

fn counted(CutCounts { grants, tokens, certificates, leases }: &CutCounts) -> String {
    format!("grants {grants}, tokens {tokens}, certificates {certificates}, leases {leases}")
}

/// Logs of before say how much died; since then that is found outside the turn, and stands with what came of it.
fn revoked(revocation: &Revocation) -> String {
    let Revocation { target, reason, cut, .. } = revocation;
    match *cut == CutCounts::default() {
        true => format!("{target}: {reason}"),
        false => {
            let died = format!("grants {}, tokens {}, certificates {}", cut.grants, cut.tokens, cut.certificates);
            format!("{target}: {reason} ({died})")
        }
    }
}

fn invoked(invocation: &Invocation) -> String {
    let verdict = match (invocation.allowed, invocation.reasons.first().map(String::as_str)) {
        (true, _) => "allow",
        (false, Some("approval_needed")) => "step_up",
        (false, _) => "deny",
    };
    let call = invocation.call.as_ref().map_or_else(String::new, ToString::to_string);
    format!("{verdict} {call}: {}", invocation.reasons.join(", "))
}
