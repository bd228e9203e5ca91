//! `belay audit calls`: tool calls, each with what became of it.

use clap::Args;
use serde_json::{Value, json};

use super::audit::{PAGE, client};
use super::connect::{Global, answer};
use super::output::{Answer, given, rows, sparse};
use super::progress::Progress;
use crate::wire::v1::{Invocation, ListCallsRequest};

/// Which calls, and how many.
#[derive(Debug, Args)]
pub struct Calls {
    /// Under this grant
    #[arg(long)]
    grant: Option<String>,
    /// Of this agent
    #[arg(long)]
    agent: Option<String>,
    /// In the tree of this root grant
    #[arg(long, value_name = "ROOT")]
    tree: Option<String>,
    /// From this moment on (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Of which this became; none: allowed, and nobody has said so far what became of it
    #[arg(long, value_parser = ["done", "failed", "not_executed", "none"])]
    outcome: Option<String>,
    /// Behind this sequence number
    #[arg(long, value_name = "SEQ")]
    after: Option<u64>,
    /// At most so many [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

impl Calls {
    /// Lists them.
    pub async fn run(self, global: &Global) -> Answer {
        let (printer, mut audit) = (global.printer(), client(global).await?);
        let limit = self.limit.map_or(usize::MAX, |limit| limit as usize);
        let mut request = self.message();
        let (mut calls, mut next) = (Vec::new(), None);
        let progress = Progress::of(&printer);
        while calls.len() < limit && next != Some(0) {
            request.after = next.unwrap_or(request.after);
            request.limit = u32::try_from(limit - calls.len()).map_or(PAGE, |left| left.min(PAGE));
            let page = answer(audit.calls(request.clone()).await)?;
            calls.extend(page.calls);
            next = Some(page.next);
            if page.next > 0 {
                progress.say(format!("{} calls found, {} events looked at", calls.len(), page.next));
            }
        }
        drop(progress);
        let document = json!({
            "calls": calls.iter().map(document).collect::<Vec<_>>(),
            "next": next.filter(|next| *next > 0),
        });
        printer.print(&sparse(document), || list_table(&calls))
    }

    fn message(self) -> ListCallsRequest {
        let Self { grant, agent, tree, since, outcome, after, limit: _ } = self;
        let [grant, agent, tree, since, outcome] = [grant, agent, tree, since, outcome].map(Option::unwrap_or_default);
        ListCallsRequest { grant, agent, tree, since, outcome, after: after.unwrap_or_default(), limit: 0 }
    }
}

/// A call as a document. What nobody has said is null: it is asked for.
pub fn document(call: &Invocation) -> Value {
    let mut document = sparse(json!({
        "id": call.id,
        "seq": call.seq,
        "at": call.at,
        "by": call.by,
        "agent": given(&call.agent),
        "grant": given(&call.grant),
        "tree": given(&call.tree),
        "call": given(&call.call),
        "destination": given(&call.destination),
        "decision": call.decision,
        "reasons": call.reasons,
        "possession": call.possession,
        "outcome_at": given(&call.outcome_at),
        "outcome_by": given(&call.outcome_by),
        "detail": given(&call.detail),
        "open_until": given(&call.open_until),
        "ticket_expires_at": given(&call.ticket_expires_at),
        "redeemed_by": given(&call.redeemed_by),
        "redeems": given(&call.redeems),
    }));
    document["outcome"] = json!(given(&call.outcome));
    document
}

fn list_table(calls: &[Invocation]) -> String {
    let row = |call: &Invocation| {
        let Invocation { at, agent, call, decision, reasons, outcome, id, .. } = call.clone();
        [at, agent, call, decision, reasons.join(", "), outcome, id]
    };
    rows(["AT", "AGENT", "CALL", "DECISION", "WHY", "OUTCOME", "INVOCATION"], calls.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_the_keys_that_scripts_read() {
        let call =
            Invocation { agent: "ana".into(), grant: "grt_1".into(), call: "a:b@c".into(), ..Default::default() };
        let document = document(&call);
        for key in ["id", "at", "agent", "grant", "call", "decision", "reasons", "outcome"] {
            assert!(document.get(key).is_some(), "{key}");
        }
        assert!(document["outcome"].is_null() && document.get("redeems").is_none());
    }
}
