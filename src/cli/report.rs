//! `belay report`: what became of a call that was allowed.

use clap::Args;
use serde_json::json;

use super::connect::{Global, answer};
use super::output::{Answer, pairs};
use crate::wire::v1::ReportRequest;
use crate::wire::v1::decisions_client::DecisionsClient;

/// A call, and what became of it.
#[derive(Debug, Args)]
pub struct Command {
    /// The call, by the id that its decision came with
    invocation: String,
    /// What became of it; that it was not executed is believed of an enforcement point alone
    #[arg(long, value_parser = ["done", "failed", "not_executed"])]
    outcome: String,
    /// More about it, in one line, for the audit
    #[arg(long, default_value = "", hide_default_value = true)]
    detail: String,
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        let Self { invocation, outcome, detail } = self;
        let mut decisions = DecisionsClient::new(global.channel().await?);
        let told = answer(decisions.report(ReportRequest { invocation, outcome, detail }).await)?;
        let document = json!({ "invocation": told.invocation, "outcome": told.outcome, "refunded": told.refunded });
        let refunded = if told.refunded { "yes: what it took of its limits" } else { "" };
        let table =
            || pairs([("invocation", told.invocation.as_str()), ("outcome", &told.outcome), ("given back", refunded)]);
        global.printer().print(&document, table)
    }
}
