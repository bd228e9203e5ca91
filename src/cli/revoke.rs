//! `belay revoke`: one call a target, and what each of them cut.
//!
//! A target that is refused does not keep the others from being cut; the exit code is that of the first refusal.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::connect::{Global, answer};
use super::lifetime;
use super::output::{Answer, Outcome, given, rows, sparse};
use crate::client::Refusal;
use crate::domain::error::{Code, Error};
use crate::wire::v1::revocations_client::RevocationsClient;
use crate::wire::v1::{Cut, Effect, RevokeRequest, RevokeResponse, ShowRevocationRequest};

/// Looks at first so often, and then ever less.
const FIRST: Duration = Duration::from_millis(50);
const LAST: Duration = Duration::from_secs(1);

/// What to cut, and why.
#[derive(Debug, Args)]
pub struct Command {
    /// `grt_…`, `tok_…`, `crt_…`, `lse_…`, `tsk_…`, `agent:NAME`, `owner:NAME` or `subject:NAME`
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
    /// Why, for the audit
    #[arg(long)]
    reason: String,
    /// Only tell what would be cut, and whose it is
    #[arg(long)]
    dry_run: bool,
    /// Wait until nothing more is to come of it, for so long at most; what is still awaited then is exit 7
    #[arg(long, value_name = "DURATION", value_parser = lifetime, conflicts_with = "dry_run")]
    wait: Option<i64>,
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
        let waited = match self.wait {
            Some(wait) => await_all(&mut revocations, &mut done, wait).await,
            None => Ok(()),
        };
        if !done.is_empty() {
            global.printer().print(&documents(&done, alone), || table(&done))?;
        }
        let awaited = self.wait.and_then(|_| still_awaited(&done));
        // What was cut is told first, whatever became of the waiting.
        refused.or(waited.err()).or(awaited).map_or(Ok(Outcome::Done), Err)
    }
}

/// Looks again until nothing more is to come of any, or the time is over.
async fn await_all(
    revocations: &mut RevocationsClient<Channel>,
    done: &mut [RevokeResponse],
    wait: i64,
) -> Result<(), Refusal> {
    let all = async {
        for revoked in done.iter_mut() {
            *revoked = awaited(revocations, revoked.clone()).await?;
        }
        Ok(())
    };
    // Out of time is no error of itself: what is there is told.
    tokio::time::timeout(Duration::from_millis(wait.unsigned_abs()), all).await.unwrap_or(Ok(()))
}

/// One revocation, once nothing more is to come of it.
pub(super) async fn awaited(
    revocations: &mut RevocationsClient<Channel>,
    mut revoked: RevokeResponse,
) -> Result<RevokeResponse, Refusal> {
    let mut pause = FIRST;
    while !revoked.terminal {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST);
        let request = ShowRevocationRequest { id: revoked.id.clone(), ..ShowRevocationRequest::default() };
        revoked = answer(revocations.show(request).await)?;
    }
    Ok(revoked)
}

/// That something is still awaited: trying again later may find it done.
pub(super) fn still_awaited(done: &[RevokeResponse]) -> Option<Refusal> {
    let open = done.iter().find(|revoked| !revoked.terminal)?;
    let message =
        format!("not all of `{}` is over yet; look again with `belay revocation show {}`", open.target, open.id);
    Some(Error::new(Code::Unavailable, "cut_awaited", message).into())
}

fn documents(revoked: &[RevokeResponse], alone: bool) -> Value {
    match revoked {
        [one] if alone => document(one),
        many => json!({ "revocations": many.iter().map(document).collect::<Vec<_>>() }),
    }
}

pub(super) fn document(revoked: &RevokeResponse) -> Value {
    let states = revoked.states.unwrap_or_default();
    let effects = revoked.effects.iter().map(|effect| {
        sparse(json!({
            "credential": effect.credential,
            "kind": effect.kind,
            "state": effect.state,
            "at": effect.at,
            "detail": given(&effect.detail),
            "holder": given(&effect.holder),
            "owner": given(&effect.owner),
            "grant": given(&effect.grant),
        }))
    });
    sparse(json!({
        "revocation": sparse(json!({
            "id": given(&revoked.id),
            "target": revoked.target,
            "at": revoked.at,
            "reason": revoked.reason,
            "by": revoked.by,
            "seq": (revoked.seq > 0).then_some(revoked.seq),
        })),
        "dry_run": revoked.id.is_empty().then_some(true),
        "final": revoked.r#final,
        "known": revoked.known,
        "cut": cut(revoked.cut),
        "tasks": revoked.tasks,
        "states": {
            "enforced": cut(states.enforced),
            "pending": cut(states.pending),
            "failed": cut(states.failed),
            "expires": cut(states.expires),
        },
        "terminal": revoked.terminal,
        "settled_at": given(&revoked.settled_at),
        "effects": effects.collect::<Vec<_>>(),
        "next_page": given(&revoked.next_page),
    }))
}

fn cut(cut: Option<Cut>) -> Value {
    let Cut { grants, tokens, certificates, leases } = cut.unwrap_or_default();
    json!({ "grants": grants, "tokens": tokens, "certificates": certificates, "leases": leases })
}

fn table(revoked: &[RevokeResponse]) -> String {
    let row = |revoked: &RevokeResponse| {
        let cut = revoked.cut.unwrap_or_default();
        let state = match (revoked.id.is_empty(), revoked.known) {
            (true, _) => "dry run",
            (false, true) => "revoked",
            (false, false) => "revoked, unknown here",
        };
        let counts = [cut.grants, cut.tokens, cut.certificates, cut.leases].map(|count| count.to_string());
        let [grants, tokens, certificates, leases] = counts;
        [revoked.target.clone(), state.to_owned(), grants, tokens, certificates, leases]
    };
    let head = rows(["TARGET", "STATE", "GRANTS", "TOKENS", "CERTIFICATES", "LEASES"], revoked.iter().map(row));
    let open = revoked
        .iter()
        .flat_map(|one| one.effects.iter().filter(|effect| one.id.is_empty() || effect.state != "enforced"));
    match effects(open) {
        None => head,
        Some(open) => format!("{head}\n\n{open}"),
    }
}

/// What is not over yet, or would die: a line each.
pub(super) fn effects<'a>(effects: impl Iterator<Item = &'a Effect>) -> Option<String> {
    let line = |effect: &Effect| {
        [&effect.credential, &effect.state, &effect.at, &effect.owner, &effect.detail].map(Clone::clone)
    };
    let lines: Vec<_> = effects.map(line).collect();
    (!lines.is_empty()).then(|| rows(["CREDENTIAL", "STATE", "AT", "OWNER", "DETAIL"], lines))
}

#[cfg(test)]
mod tests {
    use super::*;

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
