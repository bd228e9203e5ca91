//! Radius, limits, policies and approvals as documents.

use serde_json::{Value, json};

use super::output::{given, sparse};
use crate::wire::v1::{Approval, Decided, Difference, Exposure, Figures, Limits, Vote, Weight};

/// What is reached, as numbers.
pub fn figures(figures: &Figures) -> Value {
    let Figures { score, public, internal, confidential, restricted, unbounded } = figures;
    json!({
        "score": score,
        "public": public,
        "internal": internal,
        "confidential": confidential,
        "restricted": restricted,
        "unbounded": unbounded,
    })
}

/// What is reached, in one line of a table.
pub fn summed(figures: &Figures) -> String {
    let Figures { score, public, internal, confidential, restricted, unbounded } = figures;
    let kinds =
        [(restricted, "restricted"), (confidential, "confidential"), (internal, "internal"), (public, "public")];
    let kinds: Vec<String> =
        kinds.iter().filter(|(count, _)| **count > 0).map(|(n, kind)| format!("{n} {kind}")).collect();
    let beyond = if *unbounded { ", and beyond the catalog" } else { "" };
    match kinds.is_empty() {
        true => format!("{score}{beyond}"),
        false => format!("{score}: {}{beyond}", kinds.join(", ")),
    }
}

/// What a grant reaches, and what that comes to.
pub fn weight(weight: &Weight) -> Value {
    let mut document = weight.radius.as_ref().map(figures).unwrap_or_default();
    let by = [("task", &weight.task), ("agent", &weight.agent), ("owner", &weight.owner), ("subject", &weight.subject)];
    let by: serde_json::Map<_, _> =
        by.into_iter().filter_map(|(name, union)| Some((name.to_owned(), figures(union.as_ref()?)))).collect();
    document["adds"] = weight.adds.as_ref().map(figures).unwrap_or_default();
    document["by"] = Value::Object(by);
    document
}

/// Limits that are set.
pub fn limits(limits: &Limits) -> Value {
    let sums: serde_json::Map<_, _> =
        limits.max_sum.iter().map(|sum| (sum.argument.clone(), Value::from(sum.most.clone()))).collect();
    sparse(json!({
        "max_depth": limits.max_depth,
        "max_calls": limits.max_calls,
        "max_sum": (!sums.is_empty()).then_some(sums),
        "max_distinct_resources": limits.max_distinct_resources,
        "max_exposure_ms": limits.max_exposure_ms,
    }))
}

/// Limits that are set, for people: that of the chain's length is the same for most.
pub fn limits_line(limits: Option<&Limits>) -> String {
    let Some(limits) = limits else { return String::new() };
    let mut told = Vec::new();
    told.extend(limits.max_calls.map(|most| format!("{most} calls")));
    told.extend(limits.max_sum.iter().map(|sum| format!("{} of {} in all", sum.most, sum.argument)));
    told.extend(limits.max_distinct_resources.map(|most| format!("{most} resources")));
    told.extend(limits.max_exposure_ms.map(|most| format!("{} s at most", most / 1000)));
    told.join(", ")
}

/// Which policies decided.
pub fn policy(Decided { version, policies }: &Decided) -> Value {
    json!({ "version": version, "policies": policies })
}

/// What of a wish was cut away; null if nothing was.
pub fn narrowed(differences: &[Difference]) -> Value {
    let one = |one: &Difference| json!({ "wanted": one.wanted, "became": one.became });
    if differences.is_empty() { Value::Null } else { differences.iter().map(one).collect() }
}

/// An approval as a document.
pub fn approval(approval: &Approval) -> Value {
    sparse(json!({
        "id": approval.id,
        "state": approval.state,
        "needed": approval.needed,
        "given": approval.given.iter().map(vote).collect::<Vec<_>>(),
        "denied": approval.denied.as_ref().map(vote),
        "message": given(&approval.message),
        "request": sparse(json!({
            "grant": given(&approval.grant),
            "task": approval.task,
            "purpose": approval.purpose,
            "requester": approval.requester,
            "holder": approval.holder,
            "chain": approval.chain,
            "subject": given(&approval.subject),
            "scopes": approval.scopes,
            "audience": given(&approval.audience),
            "ttl_ms": approval.ttl_ms,
            "renewable_until": given(&approval.renewable_until),
            "mode": given(&approval.mode),
            "parent": given(&approval.parent),
            "limits": approval.limits.as_ref().map(limits),
        })),
        "policy": approval.policy.as_ref().map(policy),
        "catalog": approval.catalog,
        "radius": approval.radius.as_ref().map(weight),
        "digest": approval.digest,
        "asked": approval.asked,
        "created_at": approval.created_at,
        "prompted_at": given(&approval.prompted_at),
        "expires_at": approval.expires_at,
    }))
}

fn vote(vote: &Vote) -> Value {
    sparse(json!({
        "by": vote.by,
        "at": vote.at,
        "reason": vote.reason,
        "scopes": (!vote.scopes.is_empty()).then_some(&vote.scopes),
        "ttl_ms": (vote.ttl_ms != 0).then_some(vote.ttl_ms),
    }))
}
/// How long something could still work after a cut, by who looks at it.
pub fn exposure(exposure: Option<&Exposure>) -> Value {
    exposure.map_or(Value::Null, |Exposure { broker_ms, feed_ms, status_list_ms, crl_ms, offline_until, unbounded }| {
        sparse(json!({
            "broker_ms": broker_ms,
            "feed_ms": feed_ms,
            "status_list_ms": status_list_ms,
            "crl_ms": crl_ms,
            "offline_until": given(offline_until),
            "unbounded": unbounded.then_some(true),
        }))
    })
}
