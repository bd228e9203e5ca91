//! Tool calls as the audit tells of them.

use super::tokens::possession;
use crate::broker::JoinedCall;
use crate::wire::v1;

/// A call with what became of it, as it is sent.
pub(super) fn joined(call: &JoinedCall) -> v1::Invocation {
    let made = &call.invocation;
    let told = call.told.as_ref();
    let named = made.call.as_ref();
    v1::Invocation {
        id: made.id.to_string(),
        seq: call.seq,
        at: call.at.to_string(),
        by: call.by.to_string(),
        agent: text(made.agent.as_ref()),
        grant: text(made.grant),
        tree: text(made.tree),
        call: text(named),
        destination: text(named.and_then(|call| call.destination.as_ref())),
        decision: call.decision().to_owned(),
        reasons: made.reasons.clone(),
        possession: possession(made.proven),
        outcome: text(told.map(|told| told.outcome)),
        outcome_at: text(told.map(|told| told.at)),
        outcome_by: text(told.map(|told| &told.by)),
        detail: text(told.and_then(|told| told.detail.as_ref())),
        open_until: text(made.allowed.then(|| call.open_until())),
        ticket_expires_at: text(made.ticket.as_ref().map(|ticket| ticket.expires_at)),
        redeemed_by: text(call.redeemed_by),
        redeems: text(made.redeems),
    }
}

fn text(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}
