//! `belay approval`: what waits for a human, shown as the broker has it, and decided as it was shown.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::{Args, Subcommand};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tonic::transport::Channel;

use super::connect::{Global, answer};
use super::output::{Answer, Outcome, failed, note, pairs, rows, visible};
use super::{lifetime, weights};
use crate::client::Refusal;
use crate::domain::error::{Code, Error};
use crate::wire::v1::approvals_client::ApprovalsClient;
use crate::wire::v1::{Approval, ApproveRequest, DenyRequest, Figures, ListApprovalsRequest};
use crate::wire::v1::{ShowApprovalRequest, Vote, WatchApprovalsRequest};

/// What to do with approvals.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List what waits for one's decision; an agent sees what waits on its behalf
    #[command(after_help = "Example:\n  belay approval list")]
    List {
        /// Also what is decided, over, queued, or for others to decide
        #[arg(long)]
        all: bool,
    },
    /// Show who asks for what, for whom, why, for how long, and what it adds
    #[command(after_help = "Example:\n  belay approval show apr_01m826b20gfdtagbpvxzh7napv")]
    Show {
        /// The approval
        id: String,
    },
    /// Follow what one is asked to decide, and what becomes of it
    #[command(after_help = "Example:\n  belay approval watch -o json")]
    Watch,
    /// Approve exactly what is shown, or less
    #[command(
        after_help = "Example:\n  belay approval approve apr_01m826b20gfdtagbpvxzh7napv --ttl 5m --reason 'as announced'"
    )]
    Approve(Approve),
    /// Deny it, for everybody
    #[command(after_help = "Example:\n  belay approval deny apr_01m826b20gfdtagbpvxzh7napv --reason 'not on a Friday'")]
    Deny {
        /// The approval
        id: String,
        /// Why, for the audit and for whoever asked
        #[arg(long)]
        reason: String,
    },
}

/// What to approve, and how much of it.
#[derive(Debug, Args)]
pub struct Approve {
    /// The approval
    id: String,
    /// No longer than this, renewals included
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    ttl: Option<i64>,
    /// No more than this of what is asked for
    #[arg(long, num_args = 1.., value_name = "SCOPE")]
    scope: Vec<String>,
    /// Why, for the audit
    #[arg(long)]
    reason: String,
    /// Do not ask again at a terminal
    #[arg(long)]
    yes: bool,
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        let printer = global.printer();
        let channel = global.channel().await?;
        let mut approvals = ApprovalsClient::new(channel).max_decoding_message_size(super::audit::LARGEST_ANSWER);
        let approval = match self {
            Self::Watch => return watch(global, approvals).await,
            Self::List { all } => {
                let found = answer(approvals.list(ListApprovalsRequest { all }).await)?.approvals;
                let document = json!({ "approvals": found.iter().map(weights::approval).collect::<Vec<_>>() });
                return printer.print(&document, || list_table(&found));
            }
            Self::Show { id } => answer(approvals.show(ShowApprovalRequest { id }).await)?,
            Self::Deny { id, reason } => answer(approvals.deny(DenyRequest { id, reason }).await)?,
            Self::Approve(approve) => {
                let shown = answer(approvals.show(ShowApprovalRequest { id: approve.id.clone() }).await)?;
                let asks = !approve.yes && io::stdin().is_terminal() && io::stderr().is_terminal();
                if asks || printer.is_for_people() {
                    note(&table(&shown));
                }
                if asks && !confirmed()? {
                    return Err(Error::new(Code::Conflict, "not_confirmed", "nothing was approved").into());
                }
                answer(approvals.approve(approve.message(shown.digest)).await)?
            }
        };
        printer.print(&json!({ "approval": weights::approval(&approval) }), || table(&approval))
    }
}

impl Approve {
    fn message(self, digest: String) -> ApproveRequest {
        let Self { id, ttl, scope, reason, yes: _ } = self;
        ApproveRequest { id, digest, reason, scopes: scope, ttl_ms: ttl.unwrap_or_default() }
    }
}

/// Whether a person says yes.
fn confirmed() -> Result<bool, Refusal> {
    let unread = |error: io::Error| failed("stdin", format!("cannot read the answer: {error}; use --yes"));
    let mut out = io::stderr().lock();
    write!(out, "approve this? [y/N] ").and_then(|()| out.flush()).map_err(unread)?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(unread)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// Follows until it is interrupted, which is how it is meant to end.
async fn watch(global: &Global, mut approvals: ApprovalsClient<Channel>) -> Answer {
    let interrupted = signal(SignalKind::interrupt());
    let mut interrupted =
        interrupted.map_err(|error| failed("signals", format!("cannot receive an interrupt: {error}")))?;
    let printer = global.printer();
    let follow = async {
        let mut told = answer(approvals.watch(WatchApprovalsRequest {}).await)?;
        while let Some(approval) = told.message().await? {
            let document = json!({ "approval": weights::approval(&approval) });
            if !printer.item(&document, || line(&approval))? {
                return Ok(Outcome::Done);
            }
        }
        Err(Error::new(Code::Unavailable, "stream_ended", "the broker ended the stream").into())
    };
    tokio::select! {
        followed = follow => followed,
        _ = interrupted.recv() => Ok(Outcome::Done),
    }
}

fn line(approval: &Approval) -> String {
    let Approval { id, state, holder, purpose, scopes, .. } = approval;
    visible(&format!("{id}  {state:<8}  {holder}: {purpose}  {}", scopes.join(" "))).replace('\n', "\\n")
}

fn list_table(found: &[Approval]) -> String {
    let row = |one: &Approval| {
        let adds = one.adds.as_ref().map(score).unwrap_or_default();
        let [id, state, holder] = [&one.id, &one.state, &one.holder].map(Clone::clone);
        [id, state, holder, adds, one.expires_at.clone(), one.scopes.join("\n")]
    };
    rows(["APPROVAL", "STATE", "HOLDER", "ADDS", "UNTIL", "SCOPES"], found.iter().map(row))
}

/// All that is bound by an approval, and how it stands.
pub fn table(approval: &Approval) -> String {
    let figures = |figures: Option<&Figures>| figures.map(reached).unwrap_or_default();
    let task = approval.radius.as_ref().and_then(|radius| radius.task.as_ref());
    let policy = approval.policy.clone().unwrap_or_default();
    let policies = format!("{} (version {})", policy.policies.join(", "), policy.version);
    pairs([
        ("approval", &approval.id),
        ("state", &approval.state),
        ("", &approval.message),
        ("agent", &approval.holder),
        ("asked by", if approval.requester == approval.holder { "" } else { &approval.requester }),
        ("chain", &approval.chain.join(" > ")),
        ("for", &approval.subject),
        ("purpose", &approval.purpose),
        ("task", &approval.task),
        ("grant", if approval.grant.is_empty() { "none: an envelope of the task" } else { &approval.grant }),
        ("scopes", &approval.scopes.join("\n")),
        ("audience", &approval.audience),
        ("mode", &standing(approval)),
        ("how long", &how_long(approval)),
        ("limits", &approval.limits.as_ref().map(weights::limits).map(|limits| limits.to_string()).unwrap_or_default()),
        ("reaches", &figures(approval.radius.as_ref().and_then(|radius| radius.radius.as_ref()))),
        ("adds", &figures(approval.adds.as_ref())),
        ("task then", &figures(task)),
        ("policies", &policies),
        ("needed", &approval.needed.to_string()),
        ("approved", &approval.given.iter().map(said).collect::<Vec<_>>().join("\n")),
        ("denied", &approval.denied.as_ref().map(said).unwrap_or_default()),
        ("asked", &approval.asked.join(", ")),
        ("until", &approval.expires_at),
        ("digest", &approval.digest),
    ])
}

fn standing(approval: &Approval) -> String {
    let Approval { mode, parent, .. } = approval;
    if parent.is_empty() { mode.clone() } else { format!("{mode}, below {parent}") }
}

fn how_long(approval: &Approval) -> String {
    let ttl = duration(approval.ttl_ms);
    match &*approval.renewable_until {
        "" => ttl,
        end => format!("for {ttl}, renewable until {end}"),
    }
}

fn said(Vote { by, at, reason, scopes, ttl_ms }: &Vote) -> String {
    let scopes = if scopes.is_empty() { String::new() } else { format!(", only {}", scopes.join(" ")) };
    let ttl = if *ttl_ms == 0 { String::new() } else { format!(", no longer than {}", duration(*ttl_ms)) };
    format!("{by} at {at}: {reason}{scopes}{ttl}")
}

fn score(figures: &Figures) -> String {
    format!("{}{}", figures.score, if figures.unbounded { "+" } else { "" })
}

fn reached(figures: &Figures) -> String {
    let Figures { public, internal, confidential, restricted, unbounded, .. } = figures;
    let words =
        [("restricted", restricted), ("confidential", confidential), ("internal", internal), ("public", public)];
    let mut parts: Vec<String> =
        words.iter().filter(|(_, count)| **count > 0).map(|(word, count)| format!("{count} {word}")).collect();
    if *unbounded {
        parts.push("what is not in the catalog".to_owned());
    }
    let parts = if parts.is_empty() { "nothing new".to_owned() } else { parts.join(", ") };
    format!("{parts} (score {})", score(figures))
}

/// As durations are written: `1h30m`.
fn duration(millis: i64) -> String {
    let seconds = millis / 1000;
    let parts = [(seconds / 3600, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    let text: String = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_approved_is_shown_by_sensitivity() {
        let figures = Figures { score: 82, restricted: 1, confidential: 1, public: 2, ..Figures::default() };
        assert_eq!(reached(&figures), "1 restricted, 1 confidential, 2 public (score 82)");
        let unknown = Figures { unbounded: true, ..Figures::default() };
        assert_eq!(reached(&unknown), "what is not in the catalog (score 0+)");
        assert_eq!(reached(&Figures::default()), "nothing new (score 0)");
        assert_eq!([5_400_000, 900_000, 1_000, 0].map(duration), ["1h30m", "15m", "1s", "0s"]);
    }

    #[test]
    fn what_an_agent_wrote_does_not_steer_whoever_decides() {
        let purpose = "tidy up\u{1b}[2J\u{202e}txt.exe\u{200b}".to_owned();
        let approval = Approval { id: "apr_1".into(), purpose, ..Approval::default() };
        for text in [table(&approval), line(&approval)] {
            assert!(text.contains("tidy up\\u{1b}[2J\\u{202e}txt.exe\\u{200b}"), "{text:?}");
        }
    }
}
