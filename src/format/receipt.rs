//! Receipts of revocations: a JWS of who revoked what, when, and what came of it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::domain::effect::{Counts, Effect};
use crate::domain::event::CutCounts;
use crate::domain::name::Audience;
use crate::domain::receipt::CutRecord;
use crate::domain::time::Timestamp;

/// The media type of a receipt: no token is one, and no receipt is a token.
pub const TYPE: &str = "belay-revocation+jwt";

/// What came of it by the time that the receipt is made.
#[derive(Debug)]
pub struct Found<'a> {
    /// By kind and state.
    pub counts: &'a Counts,
    /// The first of them.
    pub effects: &'a [Effect],
    /// Whether nothing more is to come of it.
    pub terminal: bool,
}

/// What is signed: header and payload, each in base64url, with a dot between.
pub fn signing_input(issuer: &Audience, kid: &str, now: Timestamp, cut: &CutRecord, found: &Found<'_>) -> String {
    let header = json!({ "typ": TYPE, "alg": "ES256", "kid": kid });
    let payload = payload(issuer, now, cut, found);
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(payload.to_string()))
}

fn payload(issuer: &Audience, now: Timestamp, cut: &CutRecord, found: &Found<'_>) -> Value {
    let CutRecord { revocation, seq, at, by, leaf } = cut;
    let listed = found.effects.len() as u64;
    json!({
        "iss": issuer.as_str(),
        "iat": now.seconds(),
        "jti": revocation.id.to_string(),
        "seq": seq,
        "leaf": leaf.to_string(),
        "target": revocation.target.to_string(),
        "known": revocation.known,
        "at": at.to_string(),
        "by": by.to_string(),
        "reason": revocation.reason.as_str(),
        "terminal": found.terminal,
        "counts": counts(found.counts),
        "effects": found.effects.iter().map(effect).collect::<Vec<_>>(),
        "unlisted": found.counts.sum().saturating_sub(listed),
    })
}

fn counts(counts: &Counts) -> Value {
    let of = |CutCounts { grants, tokens, certificates, leases }: CutCounts| json!({ "grants": grants, "tokens": tokens, "certificates": certificates, "leases": leases });
    let Counts { tasks, enforced, pending, failed, expires } = *counts;
    let [enforced, pending, failed, expires] = [enforced, pending, failed, expires].map(of);
    json!({ "tasks": tasks, "enforced": enforced, "pending": pending, "failed": failed, "expires": expires })
}

fn effect(effect: &Effect) -> Value {
    json!({
        "credential": effect.ended.to_string(),
        "kind": effect.ended.kind(),
        "state": effect.state.as_str(),
        "at": effect.at.to_string(),
        "detail": effect.detail,
        "owner": effect.owner.as_ref().map(|owner| owner.as_str()),
    })
}
