//! `belay why`: where an id comes from. Who, for whom, by which chain, on what policy.

use clap::Args;
use serde_json::{Value, json};

use super::connect::{Global, answer};
use super::output::{Answer, given, pairs, rows, sparse};
use super::{audit, calls, grant};
use crate::wire::v1::audit_client::AuditClient;
use crate::wire::v1::{Grant, Invocation, WhyRequest, WhyResponse};

/// What to explain.
#[derive(Debug, Args)]
pub struct Command {
    /// A task, grant, token, certificate, approval, revocation or invocation
    id: String,
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        let mut audit = AuditClient::new(global.channel().await?).max_decoding_message_size(audit::LARGEST_ANSWER);
        let why = answer(audit.why(WhyRequest { id: self.id }).await)?;
        global.printer().print(&document(&why), || table(&why))
    }
}

fn document(why: &WhyResponse) -> Value {
    sparse(json!({
        "kind": why.kind,
        "id": why.id,
        "state": given(&why.state),
        "purpose": given(&why.purpose),
        "agent": given(&why.agent),
        "subject": given(&why.subject),
        "chain": why.chain.iter().map(grant::document).collect::<Vec<_>>(),
        "events": why.events.iter().map(audit::document).collect::<Vec<_>>(),
        "policy": given(&why.policy),
        "invocation": why.invocation.as_ref().map(calls::document),
    }))
}

fn table(why: &WhyResponse) -> String {
    let facts = pairs([
        (why.kind.as_str(), &why.id),
        ("state", &why.state),
        ("purpose", &why.purpose),
        ("agent", &why.agent),
        ("for", &why.subject),
        ("policy", &why.policy),
        ("outcome", &outcome(why.invocation.as_ref())),
        ("ticket", &ticket(why.invocation.as_ref())),
    ]);
    let link = |grant: &Grant| [grant.id.clone(), grant.state.clone(), grant.agent.clone(), grant.scopes.join(", ")];
    let mut parts = vec![facts];
    if !why.chain.is_empty() {
        parts.push(rows(["CHAIN", "STATE", "AGENT", "SCOPES"], why.chain.iter().map(link)));
    }
    parts.push(audit::list_table(&why.events));
    parts.join("\n\n")
}

/// What became of a call that was allowed.
fn outcome(call: Option<&Invocation>) -> String {
    match call {
        Some(call) if !call.outcome.is_empty() => {
            let detail = if call.detail.is_empty() { String::new() } else { format!(": {}", call.detail) };
            format!("{}, by {} at {}{detail}", call.outcome, call.outcome_by, call.outcome_at)
        }
        Some(call) if call.decision == "allow" => "nobody has said what became of it".to_owned(),
        _ => String::new(),
    }
}

/// What became of its ticket.
fn ticket(call: Option<&Invocation>) -> String {
    match call {
        Some(call) if !call.redeemed_by.is_empty() => format!("spent by {}", call.redeemed_by),
        Some(call) if !call.ticket_expires_at.is_empty() => {
            format!("given until {}, and not spent", call.ticket_expires_at)
        }
        Some(call) if !call.redeems.is_empty() => format!("the one of {}, which it spent", call.redeems),
        _ => String::new(),
    }
}
