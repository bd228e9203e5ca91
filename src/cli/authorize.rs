//! `belay authorize`: one tool call, decided now. Exit 0 allows, 3 denies, 4 waits.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::connect::{Global, answer};
use super::dpop;
use super::output::{Answer, Outcome, given, pairs, sparse};
use super::pep::presented;
use super::secret::Secret;
use super::weights;
use crate::domain::error::Error;
use crate::wire::v1::decisions_client::DecisionsClient;
use crate::wire::v1::{AuthorizeRequest, AuthorizeResponse};

/// A call, and the credential that it is made under.
#[derive(Debug, Args)]
pub struct Command {
    /// The token, `@FILE`, or `-` for stdin [default: the certificate under a grant that --identity names]
    #[arg(long, value_name = "TOKEN|@FILE|-")]
    token: Option<Secret>,
    /// The tool, as in scopes
    #[arg(long)]
    tool: String,
    /// What it is to do
    #[arg(long)]
    action: String,
    /// To what
    #[arg(long)]
    resource: String,
    /// Its arguments, as one JSON object, `@FILE`, or `-` for stdin
    #[arg(long, value_name = "JSON|@FILE|-")]
    args: Option<Secret>,
    /// Where it goes: a URL, or a host with or without a port
    #[arg(long)]
    destination: Option<String>,
    /// The certificate that came with the call, in PEM: only an enforcement point says so
    #[arg(long, value_name = "FILE")]
    presenter: Option<PathBuf>,
    #[command(flatten)]
    dpop: dpop::Shown,
    /// Your own name for this call: a retry under it is counted once where a limit counts calls
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Have a call ticket with an allow: good once, for this very call, for a minute at most
    #[arg(long)]
    ticket: bool,
    /// The ticket of this very call, `@FILE`, or `-` for stdin: it is spent
    #[arg(long, value_name = "TICKET|@FILE|-", conflicts_with = "ticket")]
    redeem: Option<Secret>,
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        let both =
            [&self.token, &self.args, &self.redeem].into_iter().flatten().filter(|one| **one == Secret::Stdin).count()
                + usize::from(self.dpop.is_stdin())
                > 1;
        if both {
            return Err(Error::malformed("args", "-", "stdin is read once; take the others from @FILE").into());
        }
        let token = self.token.map(Secret::read).transpose()?.unwrap_or_default();
        let args = self.args.map(Secret::read).transpose()?.unwrap_or_default();
        let redeem = self.redeem.map(Secret::read).transpose()?.unwrap_or_default();
        let mut decisions = DecisionsClient::new(global.channel().await?);
        let call = AuthorizeRequest {
            token,
            tool: self.tool,
            action: self.action,
            resource: self.resource,
            args,
            destination: self.destination.unwrap_or_default(),
            presenter: presented(self.presenter)?,
            dpop: self.dpop.read()?,
            idempotency_key: self.idempotency_key.unwrap_or_default(),
            ticket: self.ticket,
            redeem,
            ..Default::default()
        };
        let verdict = answer(decisions.authorize(call).await)?;
        global.printer().print(&document(&verdict), || table(&verdict))?;
        Ok(outcome(&verdict.decision))
    }
}

/// Only the word `allow` allows.
fn outcome(decision: &str) -> Outcome {
    match decision {
        "allow" => Outcome::Done,
        "step_up" => Outcome::Pending,
        _ => Outcome::Denied,
    }
}

fn document(verdict: &AuthorizeResponse) -> Value {
    let reasons = verdict.reasons.iter().map(|reason| json!({ "code": reason.code, "message": reason.message }));
    sparse(json!({
        "decision": verdict.decision,
        "id": verdict.id,
        "reasons": reasons.collect::<Vec<_>>(),
        "grant": given(&verdict.grant),
        "possession": given(&verdict.possession),
        "call": given(&verdict.call),
        "approval": given(&verdict.approval),
        "ticket": given(&verdict.ticket),
        "ticket_expires_at": given(&verdict.ticket_expires_at),
        "dpop_nonce": given(&verdict.dpop_nonce),
        "policy": verdict.policy.as_ref().map(weights::policy),
    }))
}

fn table(verdict: &AuthorizeResponse) -> String {
    let why: Vec<_> = verdict.reasons.iter().map(|reason| reason.message.as_str()).collect();
    let unproven = if verdict.possession == "unproven" { "unproven: do not act on it" } else { "" };
    pairs([
        ("decision", &verdict.decision),
        ("why", &why.join("; ")),
        ("grant", &verdict.grant),
        ("invocation", &verdict.id),
        ("possession", unproven),
        ("ticket", &verdict.ticket),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v1::Reason;

    #[test]
    fn nothing_but_allow_allows() {
        assert_eq!(outcome("allow"), Outcome::Done);
        assert_eq!(outcome("step_up"), Outcome::Pending);
        for other in ["deny", "", "Allow", "maybe"] {
            assert_eq!(outcome(other), Outcome::Denied, "{other}");
        }
    }

    #[test]
    fn a_verdict_says_why() {
        let reasons = vec![Reason { code: "out_of_scope".into(), message: "no".into() }];
        let verdict = AuthorizeResponse { decision: "deny".into(), id: "inv_1".into(), reasons, ..Default::default() };
        let reasons = json!([{ "code": "out_of_scope", "message": "no" }]);
        assert_eq!(document(&verdict), json!({ "decision": "deny", "id": "inv_1", "reasons": reasons }));
    }
}
