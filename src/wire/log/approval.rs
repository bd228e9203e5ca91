//! Approvals, activations, envelopes, and what was applied: to messages and back.

use super::DecodeError;
use super::decode::{Decoded, count, digest, limits, maybe, present, scopes as read_scopes, span, text as read, time};
use super::encode::{scopes, text};
use super::pb;
use crate::domain::applied::Applied;
use crate::domain::approval::{Approval, ApprovalStatus, Envelope, Vote};
use crate::domain::event::{Activation, Body};
use crate::domain::id::{ApprovalId, GrantId, TaskId};
use crate::domain::name::Name;
use crate::domain::radius::{Figures, Unions};
use crate::domain::time::Timestamp;

impl From<&Activation> for pb::GrantActivated {
    fn from(activation: &Activation) -> Self {
        #[rustfmt::skip]
        let Activation {
            id, approval, root, agent, scopes: allowed, expires_at, renewable_until, approvals, decided,
        } = activation;
        Self {
            id: id.to_string(),
            approval: approval.to_string(),
            root: root.to_string(),
            agent: agent.to_string(),
            scopes: scopes(allowed),
            expires_at: expires_at.millis(),
            renewable_until: renewable_until.millis(),
            approvals: u32::from(*approvals),
            decided: Some(decided.into()),
        }
    }
}

impl TryFrom<pb::GrantActivated> for Activation {
    type Error = DecodeError;
    fn try_from(body: pb::GrantActivated) -> Decoded<Self> {
        Ok(Self {
            id: read("grant_activated.id", &body.id)?,
            approval: read("grant_activated.approval", &body.approval)?,
            root: read("grant_activated.root", &body.root)?,
            agent: read("grant_activated.agent", &body.agent)?,
            scopes: read_scopes("grant_activated.scopes", &body.scopes)?,
            expires_at: time(body.expires_at),
            renewable_until: time(body.renewable_until),
            approvals: count("grant_activated.approvals", body.approvals)?,
            decided: present("grant_activated.decided", body.decided)?.into(),
        })
    }
}

impl From<&Approval> for pb::Approval {
    fn from(approval: &Approval) -> Self {
        #[rustfmt::skip]
        let Approval {
            id, grant, task, purpose, requester, holder, chain, subject, scopes: wanted, audience, ttl, needed, decided,
            catalog, adds, unions, digest, asked, created_at, expires_at, given, denied, status, renewable_until, parent,
            mode, limits, radius, names,
        } = approval;
        debug_assert!(
            given.is_empty() && denied.is_none() && *status == ApprovalStatus::Pending,
            "an event holds a record as it was new"
        );
        let one = |(operator, at): &(Name, Timestamp)| pb::Asked { operator: operator.to_string(), at: at.millis() };
        Self {
            id: id.to_string(),
            grant: grant.as_ref().map(text),
            task: task.to_string(),
            purpose: purpose.to_string(),
            requester: requester.to_string(),
            holder: holder.to_string(),
            chain: chain.iter().map(text).collect(),
            subject: subject.as_ref().map(text),
            scopes: scopes(wanted),
            audience: audience.as_ref().map(text),
            ttl: ttl.as_millis(),
            needed: u32::from(*needed),
            decided: Some(decided.into()),
            catalog: *catalog,
            adds: Some((*adds).into()),
            unions: Some((*unions).into()),
            digest: digest.0.into(),
            asked: asked.iter().map(one).collect(),
            created_at: created_at.millis(),
            expires_at: expires_at.millis(),
            renewable_until: renewable_until.map(Timestamp::millis),
            parent: parent.as_ref().map(text).unwrap_or_default(),
            mode: mode.to_string(),
            limits: limits.texts(),
            radius: Some((*radius).into()),
            names: names.as_ref().map(|names| names.0.into()),
        }
    }
}

impl TryFrom<pb::Approval> for Approval {
    type Error = DecodeError;
    fn try_from(body: pb::Approval) -> Decoded<Self> {
        let one = |asked: &pb::Asked| Ok((read("approval.asked.operator", &asked.operator)?, time(asked.at)));
        Ok(Self {
            id: read("approval.id", &body.id)?,
            grant: maybe("approval.grant", body.grant.as_deref())?,
            task: read("approval.task", &body.task)?,
            purpose: read("approval.purpose", &body.purpose)?,
            requester: read("approval.requester", &body.requester)?,
            holder: read("approval.holder", &body.holder)?,
            chain: body.chain.iter().map(|name| read("approval.chain", name)).collect::<Decoded<_>>()?,
            subject: maybe("approval.subject", body.subject.as_deref())?,
            scopes: read_scopes("approval.scopes", &body.scopes)?,
            audience: maybe("approval.audience", body.audience.as_deref())?,
            ttl: span("approval.ttl", body.ttl)?,
            needed: count("approval.needed", body.needed)?,
            decided: present("approval.decided", body.decided)?.into(),
            catalog: body.catalog,
            adds: present("approval.adds", body.adds)?.into(),
            unions: present("approval.unions", body.unions)?.try_into()?,
            digest: digest("approval.digest", &body.digest)?,
            asked: body.asked.iter().map(one).collect::<Decoded<_>>()?,
            created_at: time(body.created_at),
            expires_at: time(body.expires_at),
            renewable_until: body.renewable_until.map(time),
            parent: maybe("approval.parent", (!body.parent.is_empty()).then_some(&*body.parent))?,
            // Events from before these were bound say none of them.
            mode: maybe("approval.mode", (!body.mode.is_empty()).then_some(&*body.mode))?.unwrap_or_default(),
            limits: limits("approval.limits", &body.limits)?,
            names: body.names.as_deref().map(|names| digest("approval.names", names)).transpose()?,
            radius: body.radius.or(body.adds).map(Figures::from).unwrap_or_default(),
            given: Vec::new(),
            denied: None,
            status: ApprovalStatus::Pending,
        })
    }
}

impl From<Figures> for pb::Figures {
    fn from(Figures { score, by: [public, internal, confidential, restricted], unbounded }: Figures) -> Self {
        Self { score, public, internal, confidential, restricted, unbounded }
    }
}

impl From<pb::Figures> for Figures {
    fn from(figures: pb::Figures) -> Self {
        let pb::Figures { score, public, internal, confidential, restricted, unbounded } = figures;
        Self { score, by: [public, internal, confidential, restricted], unbounded }
    }
}

impl From<Unions> for pb::Unions {
    fn from(Unions { task, agent, owner, subject }: Unions) -> Self {
        let [task, agent, owner, subject] = [task, agent, owner, subject].map(|figures| Some(figures.into()));
        Self { task, agent, owner, subject }
    }
}

impl TryFrom<pb::Unions> for Unions {
    type Error = DecodeError;
    fn try_from(unions: pb::Unions) -> Decoded<Self> {
        Ok(Self {
            task: present("unions.task", unions.task)?.into(),
            agent: present("unions.agent", unions.agent)?.into(),
            owner: present("unions.owner", unions.owner)?.into(),
            subject: present("unions.subject", unions.subject)?.into(),
        })
    }
}

pub(super) fn voted(id: ApprovalId, grant: Option<GrantId>, vote: &Vote) -> pb::ApprovalVoted {
    let Vote { by, at, reason, scopes: narrowed, ttl } = vote;
    pb::ApprovalVoted {
        id: id.to_string(),
        grant: grant.as_ref().map(text),
        by: by.to_string(),
        at: at.millis(),
        reason: reason.to_string(),
        scopes: narrowed.as_ref().map(scopes).unwrap_or_default(),
        ttl: ttl.map(|span| span.as_millis()),
    }
}

pub(super) fn vote(body: &pb::ApprovalVoted) -> Decoded<(ApprovalId, Option<GrantId>, Vote)> {
    let narrowed = (!body.scopes.is_empty()).then(|| read_scopes("voted.scopes", &body.scopes)).transpose()?;
    let vote = Vote {
        by: read("voted.by", &body.by)?,
        at: time(body.at),
        reason: read("voted.reason", &body.reason)?,
        scopes: narrowed,
        ttl: body.ttl.map(|millis| span("voted.ttl", millis)).transpose()?,
    };
    Ok((read("voted.id", &body.id)?, maybe("voted.grant", body.grant.as_deref())?, vote))
}

pub(super) fn opened(task: TaskId, agent: &Name, envelope: &Envelope) -> pb::EnvelopeOpened {
    let Envelope { approval, scopes: approved, radius, approvals, expires_at } = envelope;
    pb::EnvelopeOpened {
        task: task.to_string(),
        agent: agent.to_string(),
        approval: approval.to_string(),
        scopes: scopes(approved),
        approvals: u32::from(*approvals),
        expires_at: expires_at.millis(),
        radius: Some((*radius).into()),
    }
}

pub(super) fn envelope(body: &pb::EnvelopeOpened) -> Decoded<Body> {
    let envelope = Envelope {
        approval: read("envelope_opened.approval", &body.approval)?,
        scopes: read_scopes("envelope_opened.scopes", &body.scopes)?,
        // One that does not say what it was shown to reach covers only what reaches nothing.
        radius: body.radius.map(Figures::from).unwrap_or_default(),
        approvals: count("envelope_opened.approvals", body.approvals)?,
        expires_at: time(body.expires_at),
    };
    let (task, agent) = (read("envelope_opened.task", &body.task)?, read("envelope_opened.agent", &body.agent)?);
    Ok(Body::EnvelopeOpened { task, agent, envelope })
}

impl<T: ?Sized> From<&Applied<T>> for pb::Applied {
    fn from(Applied { version, digest, body: _ }: &Applied<T>) -> Self {
        Self { version: *version, digest: digest.0.into() }
    }
}

/// What the bytes mean is for whoever has them.
pub(super) fn applied<T: ?Sized>(field: &'static str, body: &pb::Applied) -> Decoded<Applied<T>> {
    Ok(Applied { version: body.version, digest: digest(field, &body.digest)?, body: None })
}
