//! Domain to message. Every record is taken apart by name, so that a new field cannot be forgotten here.

use super::pb;
use super::pb::entry::Body as Kind;
use crate::domain::agent::{Agent, Join, Operator};
use crate::domain::certificate::Certificate;
use crate::domain::event::{Body, CutCounts, Entry, Idempotency, Origin, Revocation};
use crate::domain::grant::{Grant, Link, Status, Task, Token};
use crate::domain::id::{CertificateId, JoinId};
use crate::domain::key::Key;
use crate::domain::policy::{Decided, Mode};
use crate::domain::scope::Scopes;
use crate::domain::status::StatusPlace;
use crate::domain::time::Timestamp;

impl From<&Entry> for pb::Entry {
    fn from(entry: &Entry) -> Self {
        let Entry { at, actor, request_id, idempotency, body } = entry;
        Self {
            at: at.millis(),
            actor: actor.to_string(),
            request_id: request_id.clone(),
            idempotency: idempotency.as_ref().map(Into::into),
            body: Some(body.into()),
        }
    }
}

impl From<&Idempotency> for pb::Idempotency {
    fn from(Idempotency { verb, key, digest }: &Idempotency) -> Self {
        Self { verb: verb.clone(), key: key.clone(), digest: digest.0.into() }
    }
}

impl From<&Body> for Kind {
    fn from(body: &Body) -> Self {
        match body {
            Body::Origin(origin) => Self::Origin(origin.into()),
            Body::KeyAdded(key) => Self::KeyAdded(key.into()),
            Body::KeyTainted { kid, reason } => {
                Self::KeyTainted(pb::KeyTainted { kid: kid.clone(), reason: reason.to_string() })
            }
            Body::AgentRegistered { agent, join } => {
                Self::AgentRegistered(pb::AgentRegistered { agent: Some(agent.into()), join: Some(join.into()) })
            }
            Body::AgentStatusChanged { name, status, reason } => Self::AgentStatusChanged(pb::AgentStatusChanged {
                name: name.to_string(),
                status: status.to_string(),
                reason: reason.to_string(),
            }),
            Body::OperatorAdded { operator, join } => {
                Self::OperatorAdded(pb::OperatorAdded { operator: Some(operator.into()), join: Some(join.into()) })
            }
            Body::OperatorRemoved { name, reason } => {
                Self::OperatorRemoved(pb::OperatorRemoved { name: name.to_string(), reason: reason.to_string() })
            }
            Body::Invited { join } => Self::Invited(join.into()),
            Body::CertificateRecorded { certificate, join, replaces } => {
                Self::CertificateRecorded(certificate_recorded(certificate, *join, *replaces))
            }
            Body::CertificateSigned { id, der } => {
                Self::CertificateSigned(pb::CertificateSigned { id: id.to_string(), der: der.clone() })
            }
            Body::TaskStarted { task } => Self::TaskStarted(task.into()),
            Body::TaskEnded { id, agent, reason } => Self::TaskEnded(pb::TaskEnded {
                id: id.to_string(),
                agent: agent.to_string(),
                reason: reason.to_string(),
            }),
            Body::TaskStatusChanged { id, agent, suspended, reason } => {
                Self::TaskStatusChanged(pb::TaskStatusChanged {
                    id: id.to_string(),
                    agent: agent.to_string(),
                    suspended: *suspended,
                    reason: reason.to_string(),
                })
            }
            Body::PepRegistered { pep, join } => Self::PepRegistered(super::cut::registered(pep, join)),
            Body::PepRetired { name, reason } => {
                Self::PepRetired(pb::PepRetired { name: name.to_string(), reason: reason.to_string() })
            }
            Body::RevocationSettled(settled) => Self::RevocationSettled(settled.into()),
            Body::Frozen(freeze) => Self::Frozen(freeze.into()),
            Body::Thawed { id, reason } => Self::Thawed(pb::Thawed { id: id.to_string(), reason: reason.to_string() }),
            Body::BackendAdded(backend) => Self::BackendAdded(backend.into()),
            Body::BackendRemoved { name, reason } => {
                Self::BackendRemoved(pb::BackendRemoved { name: name.to_string(), reason: reason.to_string() })
            }
            Body::UpstreamAdded(upstream) => Self::UpstreamAdded(upstream.into()),
            Body::UpstreamRemoved { name, reason } => {
                Self::UpstreamRemoved(pb::UpstreamRemoved { name: name.to_string(), reason: reason.to_string() })
            }
            Body::LeaseIssued { lease } => Self::LeaseIssued(lease.into()),
            Body::LeaseChanged(change) => Self::LeaseChanged(change.into()),
            Body::InvocationReported(report) => Self::InvocationReported(report.into()),
            Body::GrantIssued { grant } => Self::GrantIssued(grant.into()),
            Body::GrantActivated(activation) => Self::GrantActivated(activation.into()),
            Body::ApprovalRequested { approval } => Self::ApprovalRequested(approval.into()),
            Body::ApprovalGiven { id, grant, vote } => Self::ApprovalGiven(super::approval::voted(*id, *grant, vote)),
            Body::ApprovalDenied { id, grant, vote } => Self::ApprovalDenied(super::approval::voted(*id, *grant, vote)),
            Body::EnvelopeOpened { task, agent, envelope } => {
                Self::EnvelopeOpened(super::approval::opened(*task, agent, envelope))
            }
            Body::CatalogApplied(catalog) => Self::CatalogApplied(catalog.into()),
            Body::PolicyApplied(policies) => Self::PolicyApplied(policies.into()),
            Body::GrantRenewed { id, root, agent, expires_at } => Self::GrantRenewed(pb::GrantRenewed {
                id: id.to_string(),
                root: root.to_string(),
                agent: agent.to_string(),
                expires_at: expires_at.millis(),
            }),
            Body::GrantStatusChanged { id, root, agent, status, reason } => {
                Self::GrantStatusChanged(pb::GrantStatusChanged {
                    id: id.to_string(),
                    root: root.to_string(),
                    agent: agent.to_string(),
                    status: status.to_string(),
                    reason: reason.to_string(),
                })
            }
            Body::TokenIssued { token } => Self::TokenIssued(token.into()),
            Body::Revoked(revocation) => Self::Revoked(revocation.into()),
            Body::Invoked(invocation) => Self::Invoked(invocation.into()),
            Body::SnapshotTaken { seq, digest, version } => {
                Self::SnapshotTaken(pb::SnapshotTaken { seq: *seq, digest: digest.0.into(), version: *version })
            }
        }
    }
}

impl From<&Origin> for pb::Origin {
    fn from(Origin { trust_domain, issuer, epoch }: &Origin) -> Self {
        Self { trust_domain: trust_domain.to_string(), issuer: issuer.to_string(), epoch: epoch.clone() }
    }
}

impl From<&Key> for pb::Key {
    fn from(key: &Key) -> Self {
        let Key { kid, purpose, public, certificate, not_after, sealed, created_at, use_from, tainted } = key;
        debug_assert!(tainted.is_none(), "an event holds a record as it was new");
        Self {
            kid: kid.clone(),
            purpose: purpose.to_string(),
            public: public.clone(),
            certificate: certificate.clone(),
            sealed: sealed.0.into(),
            created_at: created_at.millis(),
            use_from: use_from.millis(),
            not_after: not_after.map(Timestamp::millis),
        }
    }
}

impl From<&Agent> for pb::Agent {
    fn from(agent: &Agent) -> Self {
        let Agent { id, name, owner, purpose, status, ceiling, max_ttl, labels, retired, created_at } = agent;
        debug_assert!(retired.is_none(), "an event holds a record as it was new");
        let label = |(key, value): &(_, _)| pb::Label { key: text(key), value: text(value) };
        Self {
            id: id.to_string(),
            name: name.to_string(),
            owner: owner.to_string(),
            purpose: purpose.to_string(),
            status: status.to_string(),
            ceiling: ceiling.as_ref().map(|ceiling| pb::Scopes { scopes: scopes(ceiling) }),
            max_ttl: max_ttl.map(|span| span.as_millis()),
            labels: labels.iter().map(label).collect(),
            created_at: created_at.millis(),
        }
    }
}

impl From<&Operator> for pb::Operator {
    fn from(Operator { name, roles, removed, created_at }: &Operator) -> Self {
        debug_assert!(!removed, "an event holds a record as it was new");
        Self { name: name.to_string(), roles: roles.iter().map(text).collect(), created_at: created_at.millis() }
    }
}

impl From<&Join> for pb::Join {
    fn from(Join { id, kind, name, secret_hash, expires_at, used }: &Join) -> Self {
        debug_assert!(used.is_none(), "an event holds a record as it was new");
        Self {
            id: id.to_string(),
            kind: kind.to_string(),
            name: name.to_string(),
            secret_hash: secret_hash.0.into(),
            expires_at: expires_at.millis(),
        }
    }
}

fn certificate_recorded(
    certificate: &Certificate,
    join: Option<JoinId>,
    replaces: Option<CertificateId>,
) -> pb::CertificateRecorded {
    let Certificate { id, kind, name, grant, key_hash, tbs_digest, authority, not_before, not_after, der } =
        certificate;
    debug_assert!(der.is_none(), "an event holds a record as it was new");
    pb::CertificateRecorded {
        id: id.to_string(),
        kind: kind.to_string(),
        name: name.to_string(),
        key_hash: key_hash.0.into(),
        tbs_digest: tbs_digest.0.into(),
        not_before: not_before.millis(),
        not_after: not_after.millis(),
        join: join.as_ref().map(text),
        replaces: replaces.as_ref().map(text),
        grant: grant.as_ref().map(text),
        authority: authority.clone(),
    }
}

impl From<&Task> for pb::Task {
    fn from(Task { id, purpose, agent, subject, expires_at, envelope, ended, suspended, created_at }: &Task) -> Self {
        debug_assert!(ended.is_none() && !suspended && envelope.is_none(), "an event holds a record as it was new");
        Self {
            id: id.to_string(),
            purpose: purpose.to_string(),
            agent: agent.to_string(),
            subject: subject.as_ref().map(text),
            expires_at: expires_at.millis(),
            created_at: created_at.millis(),
        }
    }
}

impl From<&Grant> for pb::Grant {
    fn from(grant: &Grant) -> Self {
        #[rustfmt::skip]
        let Grant {
            id, parent, root, task, agent, owner, subject, scopes: allowed, audience, depth, seq, created_at, expires_at,
            renewable_until, mode, limits, approvals, decided, status,
        } = grant;
        debug_assert!(matches!(status, Status::Active | Status::Pending), "an event holds a record as it was new");
        Self {
            id: id.to_string(),
            parent: parent.as_ref().map(text),
            root: root.to_string(),
            task: task.to_string(),
            agent: agent.to_string(),
            owner: owner.to_string(),
            subject: subject.as_ref().map(text),
            scopes: scopes(allowed),
            audience: audience.to_string(),
            depth: u32::from(*depth),
            seq: *seq,
            created_at: created_at.millis(),
            expires_at: expires_at.millis(),
            renewable_until: renewable_until.millis(),
            // Events from before there were modes say none.
            mode: if *mode == Mode::Own { mode.to_string() } else { String::new() },
            limits: limits.texts(),
            approvals: u32::from(*approvals),
            decided: decided_if_any(decided),
            pending: *status == Status::Pending,
        }
    }
}

impl From<&Token> for pb::Token {
    fn from(token: &Token) -> Self {
        #[rustfmt::skip]
        let Token {
            id, issuer, subject, audience, issued_at, expires_at, grant, task, scopes: allowed, seq, epoch, chain,
            confirmation, key_hash, kid, status,
        } = token;
        Self {
            id: id.to_string(),
            issuer: issuer.to_string(),
            subject: subject.to_string(),
            audience: audience.to_string(),
            issued_at: issued_at.millis(),
            expires_at: expires_at.millis(),
            grant: grant.to_string(),
            task: task.to_string(),
            scopes: scopes(allowed),
            seq: *seq,
            epoch: epoch.clone(),
            chain: chain.iter().map(Into::into).collect(),
            thumbprint: confirmation.certificate().map(|digest| digest.0.into()).unwrap_or_default(),
            key_hash: key_hash.0.into(),
            kid: kid.clone(),
            status: status.map(|StatusPlace { list, index }| pb::StatusPlace { list, index }),
            jkt: confirmation.key().map(|digest| digest.0.into()).unwrap_or_default(),
        }
    }
}

impl From<&Link> for pb::Link {
    fn from(Link { grant, agent, owner, subject }: &Link) -> Self {
        Self {
            grant: grant.to_string(),
            agent: agent.to_string(),
            owner: owner.to_string(),
            subject: subject.as_ref().map(text),
        }
    }
}

impl From<&Revocation> for pb::Revocation {
    fn from(Revocation { id, target, tree, reason, known, until, cut }: &Revocation) -> Self {
        let CutCounts { grants, tokens, certificates, leases } = *cut;
        Self {
            id: id.to_string(),
            target: target.to_string(),
            tree: tree.as_ref().map(text),
            reason: reason.to_string(),
            known: *known,
            until: until.millis(),
            grants,
            tokens,
            certificates,
            leases,
        }
    }
}

/// Events from before there were policies hold none.
pub(super) fn decided_if_any(decided: &Decided) -> Option<pb::Decided> {
    (*decided != Decided::default()).then(|| decided.into())
}

impl From<&Decided> for pb::Decided {
    fn from(Decided { version, policies }: &Decided) -> Self {
        Self { version: *version, policies: policies.clone() }
    }
}

pub(super) fn text(value: &impl ToString) -> String {
    value.to_string()
}

pub(super) fn scopes(scopes: &Scopes) -> Vec<String> {
    scopes.iter().map(text).collect()
}
