//! What a grant reaches, who decided on it and what was approved, as they go over the wire.

use crate::broker::Shown;
use crate::domain::MAX_CHAIN;
use crate::domain::approval::{Approval, ApprovalState, Envelope, Vote};
use crate::domain::decide::Weight;
use crate::domain::exposure::Exposure;
use crate::domain::limits::Limits;
use crate::domain::policy::Decided;
use crate::domain::radius::Figures;
use crate::domain::scope::{Difference, Scopes};
use crate::domain::time::{Span, Timestamp};
use crate::wire::v1;

pub(super) fn figures(figures: &Figures) -> v1::Figures {
    let Figures { score, by: [public, internal, confidential, restricted], unbounded } = *figures;
    v1::Figures { score, public, internal, confidential, restricted, unbounded }
}

pub(super) fn weight(weight: &Weight) -> v1::Weight {
    let Weight { radius, adds, unions } = weight;
    v1::Weight {
        radius: Some(figures(radius)),
        adds: Some(figures(adds)),
        task: Some(figures(&unions.task)),
        agent: Some(figures(&unions.agent)),
        owner: Some(figures(&unions.owner)),
        subject: Some(figures(&unions.subject)),
    }
}

pub(super) fn decided(Decided { version, policies }: &Decided) -> v1::Decided {
    v1::Decided { version: *version, policies: policies.clone() }
}

/// How long something could still work after a cut.
pub(super) fn exposure(exposure: &Exposure) -> v1::Exposure {
    let Exposure { broker, feed, status_list, crl, offline_until } = *exposure;
    v1::Exposure {
        broker_ms: broker.as_millis(),
        feed_ms: feed.map(Span::as_millis),
        status_list_ms: status_list.map(Span::as_millis),
        crl_ms: crl.map(Span::as_millis),
        offline_until: offline_until.map_or_else(String::new, |at| at.to_string()),
        unbounded: offline_until.is_none(),
    }
}

pub(super) fn limits(limits: &Limits, longest: usize) -> v1::Limits {
    let Limits { max_depth, max_calls, max_sum, max_distinct_resources, max_exposure } = limits;
    let sum = |(argument, most): &(String, _)| v1::Sum { argument: argument.clone(), most: ToString::to_string(most) };
    v1::Limits {
        max_depth: max_depth.map_or_else(|| u32::try_from(longest).unwrap_or(u32::MAX), u32::from),
        max_calls: *max_calls,
        max_sum: max_sum.iter().map(sum).collect(),
        max_distinct_resources: *max_distinct_resources,
        max_exposure_ms: max_exposure.map(Span::as_millis),
    }
}

pub(super) fn difference(Difference { wanted, became }: &Difference) -> v1::Difference {
    v1::Difference { wanted: wanted.clone(), became: became.clone() }
}

pub(super) fn envelope(envelope: &Envelope) -> v1::Envelope {
    v1::Envelope {
        approval: envelope.approval.to_string(),
        scopes: texts(&envelope.scopes),
        approvals: u32::from(envelope.approvals),
        expires_at: envelope.expires_at.to_string(),
    }
}

/// An approval, with the one line that whoever waits is told.
pub(super) fn approval(Shown { approval, state, missing }: &Shown) -> v1::Approval {
    let prompted = approval.prompted_at();
    let weight = Weight { radius: approval.radius, adds: approval.adds, unions: approval.unions };
    v1::Approval {
        id: approval.id.to_string(),
        state: state.to_string(),
        needed: u32::from(approval.needed),
        given: approval.given.iter().map(vote).collect(),
        denied: approval.denied.as_ref().map(vote),
        grant: approval.grant.map_or_else(String::new, |id| id.to_string()),
        task: approval.task.to_string(),
        purpose: approval.purpose.to_string(),
        requester: approval.requester.to_string(),
        holder: approval.holder.to_string(),
        chain: approval.chain.iter().map(ToString::to_string).collect(),
        subject: approval.subject.as_ref().map_or_else(String::new, ToString::to_string),
        scopes: texts(&approval.scopes),
        audience: approval.audience.as_ref().map_or_else(String::new, ToString::to_string),
        ttl_ms: approval.ttl.as_millis(),
        policy: Some(decided(&approval.decided)),
        catalog: approval.catalog,
        adds: Some(figures(&approval.adds)),
        radius: Some(self::weight(&weight)),
        digest: approval.digest.to_string(),
        created_at: approval.created_at.to_string(),
        expires_at: approval.expires_at.to_string(),
        prompted_at: prompted.map_or_else(String::new, |at| at.to_string()),
        asked: approval.asked.iter().map(|(name, _)| name.to_string()).collect(),
        message: message(approval, *state, *missing, prompted),
        renewable_until: approval.renewable_until.map_or_else(String::new, |at| at.to_string()),
        parent: approval.parent.map_or_else(String::new, |id| id.to_string()),
        mode: approval.grant.map_or_else(String::new, |_| approval.mode.to_string()),
        limits: (approval.limits != Limits::default()).then(|| limits(&approval.limits, MAX_CHAIN)),
    }
}

fn message(approval: &Approval, state: ApprovalState, missing: u8, prompted: Option<Timestamp>) -> String {
    let end = approval.expires_at;
    match (state, prompted) {
        (ApprovalState::Pending, None) => format!(
            "needs {} approvals, and {} operators were found to ask: have an approver added, and ask again",
            approval.needed,
            approval.asked.len()
        ),
        (ApprovalState::Pending, Some(_)) => {
            let more = if missing == 1 { "one more approval".to_owned() } else { format!("{missing} more approvals") };
            format!("the operators are asked; it waits for {more}, until {end}")
        }
        (ApprovalState::Queued, Some(at)) if at < end => {
            format!("queued: the operators have been asked enough; they are asked at {at}, and it waits until {end}")
        }
        (ApprovalState::Queued, _) => {
            format!("queued: the operators have been asked enough; it ends at {end}, before they are asked again")
        }
        (ApprovalState::Denied, _) => match &approval.denied {
            Some(vote) => format!("denied by {}: {}", vote.by, vote.reason),
            None => "denied".to_owned(),
        },
        (state, _) => state.to_string(),
    }
}

fn vote(Vote { by, at, reason, scopes, ttl }: &Vote) -> v1::Vote {
    v1::Vote {
        by: by.to_string(),
        at: at.to_string(),
        reason: reason.to_string(),
        scopes: scopes.as_ref().map(texts).unwrap_or_default(),
        ttl_ms: ttl.map_or(0, Span::as_millis),
    }
}

fn texts(scopes: &Scopes) -> Vec<String> {
    scopes.iter().map(ToString::to_string).collect()
}
