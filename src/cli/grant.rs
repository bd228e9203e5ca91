//! `belay grant`: authority for one task, and parts of it handed on.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::connect::{Global, answer};
use super::enroll::key_in;
use super::output::{Answer, Outcome, given, pairs, rows, sparse};
use super::waiting::{Waiting, Wish};
use super::{NO_REASON, cert, lifetime, token, tree, weights};
use crate::client::Refusal;
use crate::wire::v1::grants_client::GrantsClient;
use crate::wire::v1::{ChangeGrantRequest, DelegateRequest, Grant, GrantResponse, ListGrantsRequest};
use crate::wire::v1::{RenewGrantRequest, RequestGrantRequest, ShowGrantRequest, ShowGrantResponse};

const REQUEST: &str = "Example:
  belay --identity ./planner grant request --task tsk_01m826b1x1ec8vm5xb46v44k2n --token \\
      --scope 'github:issues.*@repo/acme/web'";
const DELEGATE: &str = "Example:
  belay --identity ./planner grant delegate --parent grt_01m826b20gfdtagbpvxzh7napv --to coder \\
      --scope 'github:issues.read@repo/acme/web'";

/// What to do with grants.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask for a root grant under a task of one's own, as an agent
    #[command(after_help = REQUEST)]
    Request(Request),
    /// Hand part of a grant to another agent, which then issues its own tokens
    #[command(after_help = DELEGATE)]
    Delegate(Delegate),
    /// Show a grant, or with --tree all below it
    #[command(after_help = "Example:\n  belay grant show grt_01m826b20gfdtagbpvxzh7napv --tree")]
    Show {
        /// The grant
        id: String,
        /// Everything delegated from it too
        #[arg(long)]
        tree: bool,
    },
    /// List grants: an agent sees its own
    #[command(after_help = "Example:\n  belay grant list --agent coder --state active")]
    List(List),
    /// Move a grant's end later, within what it was given at first
    #[command(after_help = "Example:\n  belay --identity ./planner grant renew grt_01m826b20gfdtagbpvxzh7napv")]
    Renew {
        /// The grant
        id: String,
        /// For how long from now [default: 15m]
        #[arg(long, value_name = "DURATION", value_parser = lifetime)]
        ttl: Option<i64>,
    },
    /// Give a grant back, with all below it
    #[command(after_help = "Example:\n  belay --identity ./planner grant complete grt_01m826b20gfdtagbpvxzh7napv")]
    Complete(Change),
    /// Halt a grant and all below it, until it is resumed
    #[command(after_help = "Example:\n  belay grant suspend grt_01m826b20gfdtagbpvxzh7napv --reason 'looking into it'")]
    Suspend(Change),
    /// Let a suspended grant go on
    #[command(after_help = "Example:\n  belay grant resume grt_01m826b20gfdtagbpvxzh7napv")]
    Resume(Change),
}

/// A root grant to be.
#[derive(Debug, Args)]
pub struct Request {
    /// The task that it is for
    #[arg(long, value_name = "TASK")]
    task: String,
    /// What it should allow: `tool:action@resource`
    #[arg(long, required = true, num_args = 1.., value_name = "SCOPE")]
    scope: Vec<String>,
    /// For whom its tokens are [default: the broker]
    #[arg(long)]
    audience: Option<String>,
    /// For how long [default: 15m]
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    ttl: Option<i64>,
    /// Issue a token with it
    #[arg(long)]
    token: bool,
    /// Issue a certificate with it: where cert.pem, key.pem and ca.pem are written
    #[arg(long, value_name = "DIR")]
    cert: Option<PathBuf>,
    #[command(flatten)]
    terms: Terms,
}

/// A delegation to be.
#[derive(Debug, Args)]
pub struct Delegate {
    /// The grant that it is part of
    #[arg(long, value_name = "GRANT")]
    parent: String,
    /// Who gets it
    #[arg(long, value_name = "AGENT")]
    to: String,
    /// What it should allow, within the parent
    #[arg(long, required = true, num_args = 1.., value_name = "SCOPE")]
    scope: Vec<String>,
    /// For whom its tokens are [default: as the parent's]
    #[arg(long)]
    audience: Option<String>,
    /// For how long [default: 15m]
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    ttl: Option<i64>,
    /// Within the parent, or the other agent's own authority under the same task
    #[arg(long, value_parser = ["narrowed", "own"], default_value = "narrowed")]
    mode: String,
    #[command(flatten)]
    terms: Terms,
}

/// What a request and a delegation have in common.
#[derive(Debug, Args)]
pub struct Terms {
    /// At most: max_depth=N, max_calls=N, max_sum(ARGUMENT)=N, max_distinct_resources=N, max_exposure=DURATION
    #[arg(long, value_name = "KEY=VALUE", value_parser = limit)]
    limit: Vec<String>,
    /// Take less, where so much may not be had, and say what was cut away
    #[arg(long)]
    narrow: bool,
    /// Wait so long for humans, if they have to approve it; without it, what waits is exit 4 at once
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    wait: Option<i64>,
    /// A retry with the same key is the same grant
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

/// Which grants.
#[derive(Debug, Args)]
pub struct List {
    /// Held by this agent
    #[arg(long)]
    agent: Option<String>,
    /// Under this task
    #[arg(long)]
    task: Option<String>,
    /// In this state
    #[arg(long, value_parser = ["pending", "active", "suspended", "expired", "revoked", "completed", "denied"])]
    state: Option<String>,
}

/// Which grant to change, and why.
#[derive(Debug, Args)]
pub struct Change {
    /// The grant
    id: String,
    /// Why, for the audit
    #[arg(long, default_value = NO_REASON)]
    reason: String,
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        if let Self::Request(Request { cert: Some(dir), .. }) = &self {
            // A directory that will not do is told before there is a grant.
            key_in(dir)?;
        }
        let channel = global.channel().await?;
        let mut grants = GrantsClient::new(channel.clone()).max_decoding_message_size(super::audit::LARGEST_ANSWER);
        let granted = match self {
            Self::Request(request) => {
                let (wait, cert) = (request.terms.wait, request.cert.clone());
                return obtained(global, channel, Wish::Root(request.message()), wait, cert).await;
            }
            Self::Delegate(delegate) => {
                let wait = delegate.terms.wait;
                return obtained(global, channel, Wish::Part(delegate.message()), wait, None).await;
            }
            Self::Renew { id, ttl } => grants.renew(RenewGrantRequest { id, ttl_ms: ttl.unwrap_or_default() }).await,
            Self::Complete(change) => grants.complete(change.message()).await,
            Self::Suspend(change) => grants.suspend(change.message()).await,
            Self::Resume(change) => grants.resume(change.message()).await,
            Self::Show { id, tree } => {
                return show(global, &answer(grants.show(ShowGrantRequest { id, tree }).await)?, tree);
            }
            Self::List(wanted) => return list(global, &answer(grants.list(wanted.message()).await)?.grants),
        };
        let granted = answer(granted)?;
        global.printer().print(&granted_document(&granted), || granted_table(&granted))
    }
}

impl Request {
    fn message(self) -> RequestGrantRequest {
        RequestGrantRequest {
            task: self.task,
            scopes: self.scope,
            audience: self.audience.unwrap_or_default(),
            ttl_ms: self.ttl.unwrap_or_default(),
            token: self.token,
            idempotency_key: self.terms.idempotency_key.unwrap_or_default(),
            limits: self.terms.limit,
            narrow: self.terms.narrow,
        }
    }
}

impl Delegate {
    fn message(self) -> DelegateRequest {
        DelegateRequest {
            parent: self.parent,
            to: self.to,
            scopes: self.scope,
            audience: self.audience.unwrap_or_default(),
            ttl_ms: self.ttl.unwrap_or_default(),
            idempotency_key: self.terms.idempotency_key.unwrap_or_default(),
            limits: self.terms.limit,
            narrow: self.terms.narrow,
            mode: self.mode,
        }
    }
}

impl List {
    fn message(self) -> ListGrantsRequest {
        ListGrantsRequest {
            agent: self.agent.unwrap_or_default(),
            task: self.task.unwrap_or_default(),
            state: self.state.unwrap_or_default(),
        }
    }
}

impl Change {
    fn message(self) -> ChangeGrantRequest {
        ChangeGrantRequest { id: self.id, reason: self.reason }
    }
}

/// A grant as a document.
pub fn document(grant: &Grant) -> Value {
    sparse(json!({
        "id": grant.id,
        "parent": given(&grant.parent),
        "root": grant.root,
        "task": grant.task,
        "agent": grant.agent,
        "owner": given(&grant.owner),
        "subject": given(&grant.subject),
        "state": grant.state,
        "reason": given(&grant.reason),
        "scopes": grant.scopes,
        "audience": grant.audience,
        "depth": grant.depth,
        "created_at": grant.created_at,
        "expires_at": grant.expires_at,
        "renewable_until": given(&grant.renewable_until),
        "mode": given(&grant.mode),
        "approvals": grant.approvals,
        "limits": grant.limits.as_ref().map(weights::limits),
        "policy": grant.policy.as_ref().map(weights::policy),
    }))
}

/// Asks for a grant, waits for humans if it may, and has a certificate issued under it once it is there. One
/// idempotency key names both, each by its verb.
async fn obtained(global: &Global, channel: Channel, wish: Wish, wait: Option<i64>, cert: Option<PathBuf>) -> Answer {
    let (printer, once) = (global.printer(), wish.key().to_owned());
    let waiting = Waiting::new(wish, wait);
    let granted = waiting.obtain(&printer, &channel).await?;
    let outcome = outcome(&granted);
    let (mut document, mut table) = (granted_document(&granted), granted_table(&granted));
    let name = waiting.name(&granted);
    if let Some(key) = name.as_str() {
        table = format!("{table}\n{}", pairs([("go on with", &format!("--idempotency-key {key}"))]));
        document["idempotency_key"] = name;
    }
    if let (Some(dir), Outcome::Done) = (cert, outcome) {
        let grant = granted.grant.clone().unwrap_or_default().id;
        let issued = cert::issue(channel, grant.clone(), &dir, once).await;
        let issued = issued.map_err(|refusal| Refusal {
            message: format!("grant `{grant}` was made, and no certificate: {}", refusal.message),
            ..refusal
        })?;
        document["certificate"] = cert::document(&issued);
        table = format!("{table}\n{}", cert::table(&issued, &dir));
    }
    printer.print(&document, || table)?;
    Ok(outcome)
}

/// Only what is granted is done: what waits is exit 4, and what humans did not approve, or not in time, exit 3.
fn outcome(granted: &GrantResponse) -> Outcome {
    let state = granted.grant.as_ref().map_or("", |grant| &grant.state);
    let approved = granted.approval.as_ref().is_none_or(|approval| approval.state == "approved");
    match state {
        "pending" => Outcome::Pending,
        "denied" => Outcome::Denied,
        "expired" | "revoked" | "completed" if !approved => Outcome::Denied,
        _ => Outcome::Done,
    }
}

/// A limit as the broker reads it: an exposure in milliseconds.
fn limit(text: &str) -> Result<String, String> {
    match text.strip_prefix("max_exposure=") {
        Some(span) => lifetime(span).map(|millis| format!("max_exposure={millis}")).map_err(|error| error.to_string()),
        None => Ok(text.to_owned()),
    }
}

fn granted_document(granted: &GrantResponse) -> Value {
    sparse(json!({
        "grant": granted.grant.as_ref().map(document),
        "exposure": weights::exposure(granted.exposure.as_ref()),
        "token": granted.token.as_ref().map(token::document),
        "radius": granted.radius.as_ref().map(weights::weight),
        "approval": granted.approval.as_ref().map(weights::approval),
        "narrowed": weights::narrowed(&granted.narrowed),
    }))
}

fn granted_table(granted: &GrantResponse) -> String {
    let grant = granted.grant.clone().unwrap_or_default();
    let secret = granted.token.as_ref().map_or("", |token| &token.token);
    let table = table(&grant, secret);
    match &granted.approval {
        Some(approval) => format!("{table}\n{}", pairs([("approval", &approval.id), ("", &approval.message)])),
        None => table,
    }
}

fn show(global: &Global, shown: &ShowGrantResponse, tree: bool) -> Answer {
    let grant = shown.grant.clone().unwrap_or_default();
    if !tree {
        return global.printer().print(&json!({ "grant": document(&grant) }), || table(&grant, ""));
    }
    let nested = tree::nested(&grant, &shown.descendants);
    global.printer().print(&json!({ "grant": nested }), || tree::draw(&nested))
}

fn list(global: &Global, grants: &[Grant]) -> Answer {
    let document = json!({ "grants": grants.iter().map(document).collect::<Vec<_>>() });
    global.printer().print(&document, || {
        let row = |grant: &Grant| {
            let scopes = grant.scopes.join(", ");
            [grant.id.clone(), grant.state.clone(), grant.agent.clone(), grant.expires_at.clone(), scopes]
        };
        rows(["GRANT", "STATE", "AGENT", "UNTIL", "SCOPES"], grants.iter().map(row))
    })
}

fn table(grant: &Grant, token: &str) -> String {
    pairs([
        ("grant", &grant.id),
        ("parent", &grant.parent),
        ("task", &grant.task),
        ("agent", &grant.agent),
        ("for", &grant.subject),
        ("state", &grant.state),
        ("because", &grant.reason),
        ("scopes", &grant.scopes.join(", ")),
        ("limits", &weights::limits_line(grant.limits.as_ref())),
        ("audience", &grant.audience),
        ("until", &grant.expires_at),
        ("token", token),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v1::{Limits, Token};

    #[test]
    fn a_grant_has_the_keys_that_scripts_read() {
        let grant = Grant {
            id: "grt_1".into(),
            limits: Some(Limits { max_depth: 16, ..Limits::default() }),
            ..Grant::default()
        };
        let document = document(&grant);
        for key in ["id", "root", "task", "agent", "state", "scopes", "audience", "depth", "created_at", "expires_at"] {
            assert!(document.get(key).is_some(), "{key}");
        }
        assert_eq!(document["limits"], json!({ "max_depth": 16 }));
        assert!(document.get("parent").is_none() && document.get("reason").is_none());
    }

    #[test]
    fn a_token_is_there_only_if_one_came() {
        let bare = GrantResponse { grant: Some(Grant::default()), ..GrantResponse::default() };
        assert!(granted_document(&bare).get("token").is_none());
        let token =
            Token { id: "tok_1".into(), token: "secret".into(), expires_at: "soon".into(), ..Default::default() };
        let with = granted_document(&GrantResponse { token: Some(token), ..bare });
        assert_eq!(with["token"], json!({ "id": "tok_1", "token": "secret", "expires_at": "soon" }));
    }
}
