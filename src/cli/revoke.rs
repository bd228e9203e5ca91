//! `belay revoke`: one call a target, and what each of them cut.
//!
//! A target that is refused does not keep the others from being cut; the exit code is that of the first refusal.

use clap::Args;
use serde_json::{Value, json};

use super::connect::{Global, answer};
use super::output::{Answer, Outcome, given, rows, sparse};
use crate::wire::v1::revocations_client::RevocationsClient;
use crate::wire::v1::{RevokeRequest, RevokeResponse};

/// What to cut, and why.
#[derive(Debug, Args)]
pub struct Command {
    /// `grt_…`, `tok_…`, `crt_…`, `tsk_…`, `agent:NAME`, `owner:NAME` or `subject:NAME`
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
    /// Why, for the audit
    #[arg(long)]
    reason: String,
    /// Only tell what would be cut
    #[arg(long)]
    dry_run: bool,
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        let mut revocations = RevocationsClient::new(global.channel().await?);
        let alone = self.targets.len() == 1;
        let (mut done, mut refused) = (Vec::new(), None);
        for target in self.targets {
            let request = RevokeRequest { target, reason: self.reason.clone(), dry_run: self.dry_run };
            match (answer(revocations.revoke(request).await), &refused) {
                (Ok(revoked), _) => done.push(revoked),
                (Err(refusal), None) => refused = Some(refusal),
                (Err(refusal), Some(_)) => global.printer().fail(&refusal),
            }
        }
        if !done.is_empty() {
            global.printer().print(&documents(&done, alone), || table(&done))?;
        }
        refused.map_or(Ok(Outcome::Done), Err)
    }
}

fn documents(revoked: &[RevokeResponse], alone: bool) -> Value {
    match revoked {
        [one] if alone => document(one),
        many => json!({ "revocations": many.iter().map(document).collect::<Vec<_>>() }),
    }
}

fn document(revoked: &RevokeResponse) -> Value {
    let cut = revoked.cut.unwrap_or_default();
    let effects = revoked.effects.iter().map(|effect| {
        sparse(json!({
            "credential": effect.credential,
            "kind": effect.kind,
            "state": effect.state,
            "at": effect.at,
            "detail": given(&effect.detail),
        }))
    });
    sparse(json!({
        "revocation": sparse(json!({
            "id": given(&revoked.id),
            "target": revoked.target,
            "at": revoked.at,
            "reason": revoked.reason,
            "by": revoked.by,
        })),
        "dry_run": revoked.id.is_empty().then_some(true),
        "final": revoked.r#final,
        "known": revoked.known,
        "cut": {
            "grants": cut.grants,
            "tokens": cut.tokens,
            "certificates": cut.certificates,
            "leases": cut.leases,
        },
        "effects": effects.collect::<Vec<_>>(),
    }))
}

fn table(revoked: &[RevokeResponse]) -> String {
    let row = |revoked: &RevokeResponse| {
        let cut = revoked.cut.unwrap_or_default();
        let state = match (revoked.id.is_empty(), revoked.known) {
            (true, _) => "dry run",
            (false, true) => "revoked",
            (false, false) => "revoked, unknown here",
        };
        let counts = [cut.grants, cut.tokens, cut.certificates].map(|count| count.to_string());
        let [grants, tokens, certificates] = counts;
        [revoked.target.clone(), state.to_owned(), grants, tokens, certificates]
    };
    rows(["TARGET", "STATE", "GRANTS", "TOKENS", "CERTIFICATES"], revoked.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v1::Cut;

    fn revoked() -> RevokeResponse {
        let cut = Some(Cut { grants: 2, tokens: 1, ..Cut::default() });
        RevokeResponse { id: "rev_1".into(), r#final: true, known: true, cut, ..RevokeResponse::default() }
    }

    #[test]
    fn a_revocation_has_the_keys_that_scripts_read() {
        let document = documents(&[revoked()], true);
        for key in ["id", "target", "at", "reason", "by"] {
            assert!(document["revocation"].get(key).is_some(), "{key}");
        }
        assert_eq!(document["cut"], json!({ "grants": 2, "tokens": 1, "certificates": 0, "leases": 0 }));
        assert_eq!((&document["final"], &document["known"]), (&json!(true), &json!(true)));
        assert!(document["effects"].is_array() && document.get("dry_run").is_none());
    }

    #[test]
    fn several_targets_are_one_document_and_a_dry_run_says_so() {
        assert!(documents(&[revoked()], false)["revocations"].is_array());
        assert_eq!(documents(&[revoked(), revoked()], false)["revocations"].as_array().map(Vec::len), Some(2));
        let dry = documents(&[RevokeResponse::default()], true);
        assert_eq!(dry["dry_run"], json!(true));
        assert!(dry["revocation"].get("id").is_none());
    }
}
