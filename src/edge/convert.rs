//! Domain records as they go over the wire, and the fields of requests as domain values.

use super::weights;
use crate::broker::Found;
use crate::domain::MAX_CHAIN;
use crate::domain::agent::{Agent, Kind, Operator};
use crate::domain::error::Error;
use crate::domain::grant::{Grant, GrantState, Task};
use crate::domain::name::{Audience, Line, TrustDomain};
use crate::domain::time::Span;
use crate::format::spiffe::SpiffeId;
use crate::wire::v1;

/// A line of text, naming its field if it is not one.
pub(super) fn line(text: &str, field: &'static str) -> Result<Line, Error> {
    text.parse().map_err(|error: Error| Error { message: error.message.replacen("text", field, 1), ..error.on(field) })
}

/// A lifetime in milliseconds; 0 means the default.
pub(super) fn lifetime(millis: i64, default: Span) -> Result<Span, Error> {
    if millis == 0 { Ok(default) } else { Span::lifetime(millis) }
}

/// An audience; empty means none was named.
pub(super) fn audience(text: &str) -> Result<Option<Audience>, Error> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

/// Something parsed; empty means it was not given.
pub(super) fn given<T: std::str::FromStr<Err = Error>>(text: &str) -> Result<Option<T>, Error> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

pub(super) fn agent(agent: &Agent, domain: &TrustDomain) -> v1::Agent {
    v1::Agent {
        id: agent.id.to_string(),
        name: agent.name.to_string(),
        spiffe_id: SpiffeId::of(domain, Kind::Agent, &agent.name).to_string(),
        owner: agent.owner.to_string(),
        purpose: agent.purpose.to_string(),
        status: agent.status.to_string(),
        ceiling: agent.ceiling.iter().flat_map(|scopes| scopes.iter().map(ToString::to_string)).collect(),
        max_ttl_ms: agent.max_ttl.map_or(0, Span::as_millis),
        labels: agent
            .labels
            .iter()
            .map(|(key, value)| v1::Label { key: key.to_string(), value: value.to_string() })
            .collect(),
        created_at: agent.created_at.to_string(),
    }
}

pub(super) fn operator(operator: &Operator) -> v1::Operator {
    v1::Operator {
        name: operator.name.to_string(),
        roles: operator.roles.iter().map(ToString::to_string).collect(),
        status: if operator.removed { "removed" } else { "active" }.to_owned(),
        created_at: operator.created_at.to_string(),
    }
}

pub(super) fn task(task: &Task, state: GrantState) -> v1::Task {
    v1::Task {
        id: task.id.to_string(),
        purpose: task.purpose.to_string(),
        agent: task.agent.to_string(),
        subject: task.subject.as_ref().map_or_else(String::new, ToString::to_string),
        state: state.to_string(),
        expires_at: task.expires_at.to_string(),
        created_at: task.created_at.to_string(),
        envelope: task.envelope.as_ref().map(weights::envelope),
    }
}

pub(super) fn grant(grant: &Grant, state: GrantState, reason: &str) -> v1::Grant {
    v1::Grant {
        id: grant.id.to_string(),
        parent: grant.parent.map_or_else(String::new, |parent| parent.to_string()),
        root: grant.root.to_string(),
        task: grant.task.to_string(),
        agent: grant.agent.to_string(),
        state: state.to_string(),
        scopes: grant.scopes.iter().map(ToString::to_string).collect(),
        audience: grant.audience.to_string(),
        depth: grant.depth.into(),
        created_at: grant.created_at.to_string(),
        expires_at: grant.expires_at.to_string(),
        renewable_until: grant.renewable_until.to_string(),
        limits: Some(weights::limits(&grant.limits, MAX_CHAIN)),
        owner: grant.owner.to_string(),
        subject: grant.subject.as_ref().map_or_else(String::new, ToString::to_string),
        reason: if state == GrantState::Active { String::new() } else { reason.to_owned() },
        mode: grant.mode.to_string(),
        approvals: grant.approvals.into(),
        policy: Some(weights::decided(&grant.decided)),
    }
}

pub(super) fn event(found: &Found) -> v1::Event {
    let body = &found.entry.body;
    let detail =
        serde_json::to_value(body).ok().and_then(|mut value| value.get_mut("detail").map(serde_json::Value::take));
    v1::Event {
        seq: found.seq,
        at: found.entry.at.to_string(),
        kind: body.kind().to_owned(),
        actor: found.entry.actor.to_string(),
        agent: body.agent().map_or_else(String::new, ToString::to_string),
        grant: body.grant().map_or_else(String::new, |id| id.to_string()),
        tree: body.tree().map_or_else(String::new, |id| id.to_string()),
        detail: detail.map_or_else(|| "{}".to_owned(), |value| value.to_string()),
        request_id: found.entry.request_id.clone(),
        leaf: found.leaf.to_string(),
        summary: super::summary::of(body),
    }
}
