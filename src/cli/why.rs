//! `belay why`: where an id comes from. Who, for whom, by which chain, on what policy.

use clap::Args;
use serde_json::{Value, json};

use super::connect::{Global, answer};
use super::output::{Answer, given, pairs, rows, sparse};
use super::{audit, grant};
use crate::wire::v1::audit_client::AuditClient;
use crate::wire::v1::{Grant, WhyRequest, WhyResponse};

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
    ]);
    let link = |grant: &Grant| [grant.id.clone(), grant.state.clone(), grant.agent.clone(), grant.scopes.join(", ")];
    let mut parts = vec![facts];
    if !why.chain.is_empty() {
        parts.push(rows(["CHAIN", "STATE", "AGENT", "SCOPES"], why.chain.iter().map(link)));
    }
    parts.push(audit::list_table(&why.events));
    parts.join("\n\n")
}
