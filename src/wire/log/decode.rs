//! Message to domain. Strict: every part that a record cannot do without must be there and well formed.

use std::str::FromStr;

use super::pb::entry::Body as Kind;
use super::{DecodeError, pb};
use crate::domain::agent::{Agent, Join, Operator};
use crate::domain::certificate::Certificate;
use crate::domain::confirmation::Confirmation;
use crate::domain::digest::Digest;
use crate::domain::error::Error;
use crate::domain::event::{Body, CutCounts, Entry, Idempotency, Origin, Revocation};
use crate::domain::grant::{Grant, Link, Status, Task, Token};
use crate::domain::key::Key;
use crate::domain::limits::Limits;
use crate::domain::policy::{Decided, Mode};
use crate::domain::scope::Scopes;
use crate::domain::status::StatusPlace;
use crate::domain::time::{Span, Timestamp};

pub(super) type Decoded<T> = Result<T, DecodeError>;

impl TryFrom<pb::Entry> for Entry {
    type Error = DecodeError;
    fn try_from(entry: pb::Entry) -> Decoded<Self> {
        Ok(Self {
            at: time(entry.at),
            actor: text("actor", &entry.actor)?,
            request_id: entry.request_id,
            idempotency: entry.idempotency.map(TryInto::try_into).transpose()?,
            body: present("body", entry.body)?.try_into()?,
        })
    }
}

impl TryFrom<pb::Idempotency> for Idempotency {
    type Error = DecodeError;
    fn try_from(given: pb::Idempotency) -> Decoded<Self> {
        Ok(Self { verb: given.verb, key: given.key, digest: digest("idempotency.digest", &given.digest)? })
    }
}

impl TryFrom<Kind> for Body {
    type Error = DecodeError;
    fn try_from(kind: Kind) -> Decoded<Self> {
        Ok(match kind {
            Kind::Origin(origin) => Self::Origin(origin.try_into()?),
            Kind::KeyAdded(key) => Self::KeyAdded(key.try_into()?),
            Kind::KeyTainted(body) => {
                Self::KeyTainted { kid: body.kid, reason: text("key_tainted.reason", &body.reason)? }
            }
            Kind::AgentRegistered(body) => Self::AgentRegistered {
                agent: present("agent_registered.agent", body.agent)?.try_into()?,
                join: present("agent_registered.join", body.join)?.try_into()?,
            },
            Kind::AgentStatusChanged(body) => Self::AgentStatusChanged {
                name: text("agent_status_changed.name", &body.name)?,
                status: text("agent_status_changed.status", &body.status)?,
                reason: text("agent_status_changed.reason", &body.reason)?,
            },
            Kind::OperatorAdded(body) => Self::OperatorAdded {
                operator: present("operator_added.operator", body.operator)?.try_into()?,
                join: present("operator_added.join", body.join)?.try_into()?,
            },
            Kind::OperatorRemoved(body) => Self::OperatorRemoved {
                name: text("operator_removed.name", &body.name)?,
                reason: text("operator_removed.reason", &body.reason)?,
            },
            Kind::Invited(join) => Self::Invited { join: join.try_into()? },
            Kind::CertificateRecorded(body) => certificate_recorded(&body)?,
            Kind::CertificateSigned(body) => {
                Self::CertificateSigned { id: text("certificate_signed.id", &body.id)?, der: body.der }
            }
            Kind::TaskStarted(task) => Self::TaskStarted { task: task.try_into()? },
            Kind::TaskEnded(body) => Self::TaskEnded {
                id: text("task_ended.id", &body.id)?,
                agent: text("task_ended.agent", &body.agent)?,
                reason: text("task_ended.reason", &body.reason)?,
            },
            Kind::TaskStatusChanged(body) => Self::TaskStatusChanged {
                id: text("task_status_changed.id", &body.id)?,
                agent: text("task_status_changed.agent", &body.agent)?,
                suspended: body.suspended,
                reason: text("task_status_changed.reason", &body.reason)?,
            },
            Kind::PepRegistered(body) => Self::PepRegistered {
                pep: present("pep_registered.pep", body.pep)?.try_into()?,
                join: present("pep_registered.join", body.join)?.try_into()?,
            },
            Kind::PepRetired(body) => Self::PepRetired {
                name: text("pep_retired.name", &body.name)?,
                reason: text("pep_retired.reason", &body.reason)?,
            },
            Kind::RevocationSettled(body) => Self::RevocationSettled(body.try_into()?),
            Kind::Frozen(body) => Self::Frozen(body.try_into()?),
            Kind::Thawed(body) => {
                Self::Thawed { id: text("thawed.id", &body.id)?, reason: text("thawed.reason", &body.reason)? }
            }
            Kind::BackendAdded(body) => Self::BackendAdded(body.try_into()?),
            Kind::BackendRemoved(body) => Self::BackendRemoved {
                name: text("backend_removed.name", &body.name)?,
                reason: text("backend_removed.reason", &body.reason)?,
            },
            Kind::UpstreamAdded(body) => Self::UpstreamAdded(body.try_into()?),
            Kind::UpstreamRemoved(body) => Self::UpstreamRemoved {
                name: text("upstream_removed.name", &body.name)?,
                reason: text("upstream_removed.reason", &body.reason)?,
            },
            Kind::LeaseIssued(body) => Self::LeaseIssued { lease: body.try_into()? },
            Kind::LeaseChanged(body) => Self::LeaseChanged(body.try_into()?),
            Kind::InvocationReported(body) => Self::InvocationReported(body.try_into()?),
            Kind::GrantIssued(grant) => Self::GrantIssued { grant: grant.try_into()? },
            Kind::GrantActivated(body) => Self::GrantActivated(body.try_into()?),
            Kind::ApprovalRequested(body) => Self::ApprovalRequested { approval: body.try_into()? },
            Kind::ApprovalGiven(body) => {
                let (id, grant, vote) = super::approval::vote(&body)?;
                Self::ApprovalGiven { id, grant, vote }
            }
            Kind::ApprovalDenied(body) => {
                let (id, grant, vote) = super::approval::vote(&body)?;
                Self::ApprovalDenied { id, grant, vote }
            }
            Kind::EnvelopeOpened(body) => super::approval::envelope(&body)?,
            Kind::CatalogApplied(body) => Self::CatalogApplied(super::approval::applied("catalog_applied", &body)?),
            Kind::PolicyApplied(body) => Self::PolicyApplied(super::approval::applied("policy_applied", &body)?),
            Kind::GrantRenewed(body) => Self::GrantRenewed {
                id: text("grant_renewed.id", &body.id)?,
                root: text("grant_renewed.root", &body.root)?,
                agent: text("grant_renewed.agent", &body.agent)?,
                expires_at: time(body.expires_at),
            },
            Kind::GrantStatusChanged(body) => Self::GrantStatusChanged {
                id: text("grant_status_changed.id", &body.id)?,
                root: text("grant_status_changed.root", &body.root)?,
                agent: text("grant_status_changed.agent", &body.agent)?,
                status: text("grant_status_changed.status", &body.status)?,
                reason: text("grant_status_changed.reason", &body.reason)?,
            },
            Kind::TokenIssued(token) => Self::TokenIssued { token: token.try_into()? },
            Kind::Revoked(revocation) => Self::Revoked(revocation.try_into()?),
            Kind::Invoked(invocation) => Self::Invoked(invocation.try_into()?),
            Kind::SnapshotTaken(body) => Self::SnapshotTaken {
                seq: body.seq,
                digest: digest("snapshot_taken.digest", &body.digest)?,
                version: body.version,
            },
        })
    }
}

impl TryFrom<pb::Origin> for Origin {
    type Error = DecodeError;
    fn try_from(origin: pb::Origin) -> Decoded<Self> {
        Ok(Self {
            trust_domain: text("origin.trust_domain", &origin.trust_domain)?,
            issuer: text("origin.issuer", &origin.issuer)?,
            epoch: origin.epoch,
        })
    }
}

impl TryFrom<pb::Key> for Key {
    type Error = DecodeError;
    fn try_from(key: pb::Key) -> Decoded<Self> {
        Ok(Self {
            kid: key.kid,
            purpose: text("key.purpose", &key.purpose)?,
            public: key.public,
            certificate: key.certificate,
            sealed: digest("key.sealed", &key.sealed)?,
            created_at: time(key.created_at),
            use_from: time(key.use_from),
            not_after: key.not_after.map(time),
            tainted: None,
        })
    }
}

impl TryFrom<pb::Agent> for Agent {
    type Error = DecodeError;
    fn try_from(agent: pb::Agent) -> Decoded<Self> {
        let label =
            |label: &pb::Label| Ok((text("agent.labels.key", &label.key)?, text("agent.labels.value", &label.value)?));
        Ok(Self {
            id: text("agent.id", &agent.id)?,
            name: text("agent.name", &agent.name)?,
            owner: text("agent.owner", &agent.owner)?,
            purpose: text("agent.purpose", &agent.purpose)?,
            status: text("agent.status", &agent.status)?,
            ceiling: agent.ceiling.map(|ceiling| scopes("agent.ceiling", &ceiling.scopes)).transpose()?,
            max_ttl: agent.max_ttl.map(|millis| span("agent.max_ttl", millis)).transpose()?,
            labels: agent.labels.iter().map(label).collect::<Decoded<_>>()?,
            retired: None,
            created_at: time(agent.created_at),
        })
    }
}

impl TryFrom<pb::Operator> for Operator {
    type Error = DecodeError;
    fn try_from(operator: pb::Operator) -> Decoded<Self> {
        Ok(Self {
            name: text("operator.name", &operator.name)?,
            roles: operator.roles.iter().map(|role| text("operator.roles", role)).collect::<Decoded<_>>()?,
            removed: false,
            created_at: time(operator.created_at),
        })
    }
}

impl TryFrom<pb::Join> for Join {
    type Error = DecodeError;
    fn try_from(join: pb::Join) -> Decoded<Self> {
        Ok(Self {
            id: text("join.id", &join.id)?,
            kind: text("join.kind", &join.kind)?,
            name: text("join.name", &join.name)?,
            secret_hash: digest("join.secret_hash", &join.secret_hash)?,
            expires_at: time(join.expires_at),
            used: None,
        })
    }
}

fn certificate_recorded(body: &pb::CertificateRecorded) -> Decoded<Body> {
    let certificate = Certificate {
        id: text("certificate_recorded.id", &body.id)?,
        kind: text("certificate_recorded.kind", &body.kind)?,
        name: text("certificate_recorded.name", &body.name)?,
        key_hash: digest("certificate_recorded.key_hash", &body.key_hash)?,
        tbs_digest: digest("certificate_recorded.tbs_digest", &body.tbs_digest)?,
        grant: maybe("certificate_recorded.grant", body.grant.as_deref())?,
        authority: body.authority.clone(),
        not_before: time(body.not_before),
        not_after: time(body.not_after),
        der: None,
    };
    Ok(Body::CertificateRecorded {
        certificate,
        join: maybe("certificate_recorded.join", body.join.as_deref())?,
        replaces: maybe("certificate_recorded.replaces", body.replaces.as_deref())?,
    })
}

impl TryFrom<pb::Task> for Task {
    type Error = DecodeError;
    fn try_from(task: pb::Task) -> Decoded<Self> {
        Ok(Self {
            id: text("task.id", &task.id)?,
            purpose: text("task.purpose", &task.purpose)?,
            agent: text("task.agent", &task.agent)?,
            subject: maybe("task.subject", task.subject.as_deref())?,
            expires_at: time(task.expires_at),
            envelope: None,
            ended: None,
            suspended: false,
            created_at: time(task.created_at),
        })
    }
}

impl TryFrom<pb::Grant> for Grant {
    type Error = DecodeError;
    fn try_from(grant: pb::Grant) -> Decoded<Self> {
        let too_deep = |_| wrong("grant.depth", format!("{} is too deep", grant.depth));
        let mode = match (grant.mode.as_str(), &grant.parent) {
            ("", None) => Mode::Root,
            ("", Some(_)) => Mode::Narrowed,
            (mode, _) => text("grant.mode", mode)?,
        };
        Ok(Self {
            id: text("grant.id", &grant.id)?,
            parent: maybe("grant.parent", grant.parent.as_deref())?,
            root: text("grant.root", &grant.root)?,
            task: text("grant.task", &grant.task)?,
            agent: text("grant.agent", &grant.agent)?,
            owner: text("grant.owner", &grant.owner)?,
            subject: maybe("grant.subject", grant.subject.as_deref())?,
            scopes: scopes("grant.scopes", &grant.scopes)?,
            audience: text("grant.audience", &grant.audience)?,
            depth: u8::try_from(grant.depth).map_err(too_deep)?,
            seq: grant.seq,
            created_at: time(grant.created_at),
            expires_at: time(grant.expires_at),
            renewable_until: time(grant.renewable_until),
            mode,
            limits: limits("grant.limits", &grant.limits)?,
            approvals: count("grant.approvals", grant.approvals)?,
            decided: grant.decided.map(Into::into).unwrap_or_default(),
            status: if grant.pending { Status::Pending } else { Status::Active },
        })
    }
}

impl TryFrom<pb::Token> for Token {
    type Error = DecodeError;
    fn try_from(token: pb::Token) -> Decoded<Self> {
        Ok(Self {
            id: text("token.id", &token.id)?,
            issuer: text("token.issuer", &token.issuer)?,
            subject: text("token.subject", &token.subject)?,
            audience: text("token.audience", &token.audience)?,
            issued_at: time(token.issued_at),
            expires_at: time(token.expires_at),
            grant: text("token.grant", &token.grant)?,
            task: text("token.task", &token.task)?,
            scopes: scopes("token.scopes", &token.scopes)?,
            seq: token.seq,
            epoch: token.epoch,
            chain: token.chain.into_iter().map(TryInto::try_into).collect::<Decoded<_>>()?,
            confirmation: match token.jkt[..] {
                [] => Confirmation::Certificate(digest("token.thumbprint", &token.thumbprint)?),
                // What is bound twice is not written again as it was, and so refused.
                _ => Confirmation::Key(digest("token.jkt", &token.jkt)?),
            },
            key_hash: digest("token.key_hash", &token.key_hash)?,
            kid: token.kid,
            status: token.status.map(|pb::StatusPlace { list, index }| StatusPlace { list, index }),
        })
    }
}

impl TryFrom<pb::Link> for Link {
    type Error = DecodeError;
    fn try_from(link: pb::Link) -> Decoded<Self> {
        Ok(Self {
            grant: text("token.chain.grant", &link.grant)?,
            agent: text("token.chain.agent", &link.agent)?,
            owner: text("token.chain.owner", &link.owner)?,
            subject: maybe("token.chain.subject", link.subject.as_deref())?,
        })
    }
}

impl TryFrom<pb::Revocation> for Revocation {
    type Error = DecodeError;
    fn try_from(body: pb::Revocation) -> Decoded<Self> {
        let pb::Revocation { grants, tokens, certificates, leases, .. } = body;
        Ok(Self {
            id: text("revoked.id", &body.id)?,
            target: text("revoked.target", &body.target)?,
            tree: maybe("revoked.tree", body.tree.as_deref())?,
            reason: text("revoked.reason", &body.reason)?,
            known: body.known,
            until: time(body.until),
            cut: CutCounts { grants, tokens, certificates, leases },
        })
    }
}

impl From<pb::Decided> for Decided {
    fn from(pb::Decided { version, policies }: pb::Decided) -> Self {
        Self { version, policies }
    }
}

pub(super) fn limits(field: &'static str, texts: &[String]) -> Decoded<Limits> {
    Limits::parse(texts).map_err(|error| wrong(field, error.message))
}

pub(super) fn count(field: &'static str, count: u32) -> Decoded<u8> {
    u8::try_from(count).map_err(|_| wrong(field, format!("{count} is too many")))
}

/// Grants, tokens, certificates, leases.
pub(super) fn count_of(field: &'static str, counts: &[u64]) -> Decoded<CutCounts> {
    match *counts {
        [grants, tokens, certificates, leases] => Ok(CutCounts { grants, tokens, certificates, leases }),
        _ => Err(wrong(field, format!("it has {} counts, not four", counts.len()))),
    }
}

pub(super) fn wrong(field: &'static str, why: String) -> DecodeError {
    DecodeError { field, why }
}

pub(super) fn present<T>(field: &'static str, part: Option<T>) -> Decoded<T> {
    part.ok_or_else(|| wrong(field, "it is missing, or of a kind that this version does not know".to_owned()))
}

pub(super) fn text<T: FromStr<Err = Error>>(field: &'static str, text: &str) -> Decoded<T> {
    text.parse().map_err(|error: Error| wrong(field, error.message))
}

pub(super) fn maybe<T: FromStr<Err = Error>>(field: &'static str, given: Option<&str>) -> Decoded<Option<T>> {
    given.map(|given| text(field, given)).transpose()
}

pub(super) fn digest(field: &'static str, bytes: &[u8]) -> Decoded<Digest> {
    Digest::from_slice(bytes).ok_or_else(|| wrong(field, format!("a digest has 32 bytes, this has {}", bytes.len())))
}

pub(super) fn scopes(field: &'static str, texts: &[String]) -> Decoded<Scopes> {
    Scopes::parse(texts).map_err(|error| wrong(field, error.message))
}

pub(super) fn time(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(super) fn span(field: &'static str, millis: i64) -> Decoded<Span> {
    if millis < 0 {
        return Err(wrong(field, format!("{millis}ms is negative")));
    }
    Ok(Span::millis(millis))
}
