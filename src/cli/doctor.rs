//! `belay doctor`: proves that the hook of a coding agent decides, and says what would happen where it does not.
//!
//! All of it is the real thing: this binary, a broker of its own, the hook as the agent would run it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command as Process;
use tokio::time::timeout;

use super::connect::Global;
use super::guard::Kind;
use super::output::{Answer, Outcome, Printer};
use super::story::cluster::{Cluster, Programs};
use super::story::stage::Stage;
use crate::guard::hook::{Agent, settings};

/// An agent gives up on a hook much later.
const PATIENCE: Duration = Duration::from_secs(20);
/// What the agent of the examination may do, and what it may not do without a ticket.
const SCOPES: [&str; 2] = ["claude:read@file/srv/**", "codex:update_plan@local"];
const LEASE: &str = "orders:lease@reader";

/// What to look at.
#[derive(Debug, Args)]
pub struct Command {
    /// Whose hook [default: both]
    agent: Option<Kind>,
    /// The directory of a project: its settings have to have the hook
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Prints what was found, as it is found.
struct Findings {
    printer: Printer,
    well: bool,
}

/// What a hook answered.
struct Heard {
    code: i32,
    out: String,
    err: String,
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        let mut findings = Findings { printer: global.printer(), well: true };
        let agents = self.agent.map_or_else(|| vec![Kind::Claude, Kind::Codex], |agent| vec![agent]);
        if let Some(dir) = &self.dir {
            for agent in &agents {
                findings.found("settings", *agent, settings_of(*agent, dir).await);
            }
        }
        if let Err(error) = examine(&mut findings, &agents).await {
            findings.line("broker", None, false, &format!("{error:#}"));
        }
        Ok(if findings.well { Outcome::Done } else { Outcome::Failed })
    }
}

/// Whether the settings of a project have the hook, for every tool, and it blocks what is no call.
async fn settings_of(kind: Kind, dir: &Path) -> Result<String> {
    let agent = Agent::from(kind);
    let file = settings::file(agent, dir);
    let found = settings::installed(agent, dir).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    let settings::Found { belay, command } = found.with_context(|| {
        format!(
            "{} has no hook for every tool as `belay guard init {}` puts it there, or hooks are switched off: calls \
             would be made unasked",
            file.display(),
            word(kind)
        )
    })?;
    // What is named there is run below: nothing but this very program is.
    let ours = std::env::current_exe().and_then(std::fs::canonicalize)?;
    let theirs = std::fs::canonicalize(&belay).ok();
    ensure!(
        theirs.as_ref() == Some(&ours),
        "the hook in {} runs `{}`, which is not this program, {}; run `belay guard init {}` again",
        file.display(),
        belay.display(),
        ours.display(),
        word(kind)
    );
    let heard = hook(&command, r#"{"tool_name":""}"#).await?;
    ensure!(heard.code == 2, "the hook in {} blocks nothing: it ended with {}", file.display(), heard.code);
    ensure!(
        heard.err.contains("tool_name"),
        "the hook in {} cannot decide: {}; whatever is called is blocked",
        file.display(),
        heard.err.trim()
    );
    Ok(format!("the hook in {} is there for every tool, and blocks a call without a name", file.display()))
}

async fn examine(findings: &mut Findings, agents: &[Kind]) -> Result<()> {
    let (stage, _) = Stage::open().await?;
    let register = ["agent", "register", "doctor", "--owner", "doctor", "--purpose", "to be examined"];
    let registered = stage.run(None, &register, "").await?.done()?;
    let identity = stage.identity("doctor").display().to_string();
    let token = text(&registered, "/join_token")?;
    stage.run(None, &["agent", "enroll", "--join-token", "-", "--out", &identity], token).await?.done()?;
    let started = stage.run(Some("doctor"), &["task", "start", "to be examined"], "").await?.done()?;
    let task = text(&started, "/task/id")?.to_owned();
    let request = ["grant", "request", "--task", &task, "--scope", SCOPES[0], SCOPES[1], LEASE];
    let grant = text(&stage.run(Some("doctor"), &request, "").await?.done()?, "/grant/id")?.to_owned();
    for kind in agents {
        in_place(findings, &stage, *kind, &grant).await?;
    }
    let ticket = without_a_ticket(&stage, &grant).await;
    let said = match &ticket {
        Ok(Some(said)) => said.as_str(),
        Ok(None) => "left out: there is no PostgreSQL here in which a lease could be made",
        Err(_) => "a lease was had without a ticket",
    };
    for kind in agents {
        let missing = format!("without the hook the call would be made unasked; {said}");
        findings.line("hook_missing", Some(*kind), ticket.is_ok(), &missing);
        crashing(findings, *kind, said, ticket.is_ok()).await;
    }
    if let Err(error) = ticket {
        findings.line("ticket", None, false, &format!("{error:#}"));
    }
    stage.close().await?;
    Ok(())
}

/// The hook where it belongs: what is allowed, what is not, and what goes wrong around it.
async fn in_place(findings: &mut Findings, stage: &Stage, kind: Kind, grant: &str) -> Result<()> {
    let dir = stage.identity("doctor").join(word(kind));
    let place = dir.display().to_string();
    std::fs::create_dir_all(&dir)?;
    stage.run(Some("doctor"), &["guard", "init", word(kind), "--dir", &place, "--grant", grant], "").await?.done()?;
    let found = settings::installed(Agent::from(kind), &dir).ok().flatten().context("no hook was put in place")?;
    let command = found.command;
    let (good, bad) = match kind {
        Kind::Claude => (
            json!({ "tool_name": "Read", "tool_input": { "file_path": "/srv/README.md" } }),
            json!({ "tool_name": "Bash", "tool_input": { "command": "rm -rf /" } }),
        ),
        Kind::Codex => (
            json!({ "tool_name": "update_plan", "tool_input": {} }),
            json!({ "tool_name": "Bash", "tool_input": { "command": "rm -rf /" } }),
        ),
    };
    findings.found("allowed_call", kind, allowed(kind, &command, &good).await);
    findings.found("forbidden_call", kind, denied(&command, &bad, "out_of_scope").await);
    let server = json!({ "tool_name": "mcp__github__delete_repository", "tool_input": { "name": "web" } });
    findings.found("forbidden_mcp_call", kind, denied(&command, &server, "out_of_scope").await);
    findings.found("no_tool_name", kind, blocked(&command, r#"{"tool_name":"","tool_input":{}}"#).await);
    findings.found("not_json", kind, blocked(&command, "rm -rf /").await);
    let away = away(&command).context("the hook names no broker")?;
    findings.found("broker_away", kind, blocked(&away, &good.to_string()).await);
    let nameless = format!("{} guard hook {}", program(&command), word(kind));
    findings.found("no_identity", kind, blocked(&nameless, &good.to_string()).await);
    Ok(())
}

/// The same command, to where no broker is.
fn away(command: &str) -> Option<String> {
    let (before, rest) = command.split_once("--addr ")?;
    let (_, after) = rest.split_once(' ')?;
    Some(format!("{before}--addr https://127.0.0.1:1 {after}"))
}

fn program(command: &str) -> &str {
    command.split_once(" --addr ").map_or(command, |(program, _)| program)
}

async fn allowed(kind: Kind, command: &str, call: &Value) -> Result<String> {
    let heard = hook(command, &call.to_string()).await?;
    ensure!(heard.code == 0, "it ended with {}: {}", heard.code, heard.err.trim());
    match kind {
        Kind::Claude => ensure!(decision(&heard.out) == "allow", "it said {}", heard.out),
        Kind::Codex => ensure!(heard.out.is_empty(), "it said {}, where silence allows", heard.out),
    }
    Ok("what the grant covers is allowed".to_owned())
}

async fn denied(command: &str, call: &Value, code: &str) -> Result<String> {
    let heard = hook(command, &call.to_string()).await?;
    ensure!(heard.code == 0 && decision(&heard.out) == "deny", "it was not denied: {} {}", heard.code, heard.out);
    ensure!(heard.out.contains(code), "it was denied for another reason: {}", heard.out);
    Ok(format!("{} is denied: {code}", call["tool_name"].as_str().unwrap_or_default()))
}

async fn blocked(command: &str, stdin: &str) -> Result<String> {
    let heard = hook(command, stdin).await?;
    ensure!(heard.code == 2 && heard.out.is_empty(), "it ended with {}, and said {}", heard.code, heard.out);
    ensure!(!heard.err.trim().is_empty(), "it did not say why");
    Ok(heard.err.trim().to_owned())
}

/// A hook that ends as no answer does: the agents take that for nothing said.
async fn crashing(findings: &mut Findings, kind: Kind, said: &str, ok: bool) {
    for (how, command) in [("ends with 1", "exit 1"), ("is killed", "kill -9 $$")] {
        let heard = hook(command, "{}").await;
        let silent = heard.is_ok_and(|heard| heard.code != 0 && heard.code != 2 && heard.out.is_empty());
        let detail = format!("where the hook {how} the call would be made all the same; {said}");
        findings.line("hook_crashes", Some(kind), ok && silent, &detail);
    }
}

/// A tool that asks for tickets hands out nothing to whoever has none: what is left when there is no hook. None where
/// there is no PostgreSQL to lease from.
async fn without_a_ticket(stage: &Stage, grant: &str) -> Result<Option<String>> {
    let Ok(programs) = Programs::find().await else { return Ok(None) };
    let cluster = Cluster::start(programs).await?;
    cluster.ask("CREATE ROLE reader NOLOGIN; GRANT pg_read_all_stats TO reader").await?;
    let add = ["backend", "add", "orders", "--kind", "postgres", "--url", "-", "--role", "reader"];
    stage.run(None, &add, cluster.url()).await?.done()?;
    let catalog = stage.file("catalog.toml", CATALOG)?;
    stage.run(None, &["catalog", "apply", &catalog, "--yes"], "").await?.done()?;
    let lease = ["lease", "issue", "--grant", grant, "--backend", "orders", "--role", "reader"];
    let refused = stage.run(Some("doctor"), &lease, "").await?;
    let code = refused.refused()?.to_owned();
    ensure!(code == "ticket_required", "it was refused for another reason: {code}");
    let issued = stage.run(Some("doctor"), &["token", "issue", "--grant", grant], "").await?.done()?;
    let call =
        ["authorize", "--token", "-", "--tool", "orders", "--action", "lease", "--resource", "reader", "--ticket"];
    let decided = stage.run(Some("doctor"), &call, text(&issued, "/token")?).await?.done()?;
    let with = [&lease[..], &["--ticket", "-"]].concat();
    stage.run(Some("doctor"), &with, text(&decided, "/ticket")?).await?.done().context("with a ticket")?;
    Ok(Some("a tool with `ticket = true` leased nothing without a call ticket, and a login with one".to_owned()))
}

const CATALOG: &str = "[[tool]]\nname = \"orders\"\nowner = \"doctor\"\nticket = true\n\
                       [[tool.action]]\nname = \"lease\"\nrisk = \"read\"\n";

/// Runs a command as an agent runs its hooks.
async fn hook(command: &str, stdin: &str) -> Result<Heard> {
    let mut process = Process::new("sh");
    process.args(["-c", command]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BELAY_")) {
        process.env_remove(name);
    }
    let mut process = process.kill_on_drop(true).spawn().context("there is no sh")?;
    if let Some(mut pipe) = process.stdin.take() {
        // One that does not read it has ended.
        let _ = pipe.write_all(stdin.as_bytes()).await;
    }
    let output = timeout(PATIENCE, process.wait_with_output()).await.context("the hook does not end")??;
    let read = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    Ok(Heard { code: output.status.code().unwrap_or(-1), out: read(&output.stdout), err: read(&output.stderr) })
}

fn decision(out: &str) -> String {
    let said: Value = serde_json::from_str(out).unwrap_or_default();
    said["hookSpecificOutput"]["permissionDecision"].as_str().unwrap_or_default().to_owned()
}

fn text<'a>(value: &'a Value, at: &str) -> Result<&'a str> {
    value.pointer(at).and_then(Value::as_str).with_context(|| format!("there is no {at} in {value}"))
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Claude => "claude",
        Kind::Codex => "codex",
    }
}

impl Findings {
    fn found(&mut self, check: &str, kind: Kind, found: Result<String>) {
        match found {
            Ok(detail) => self.line(check, Some(kind), true, &detail),
            Err(error) => self.line(check, Some(kind), false, &format!("{error:#}")),
        }
    }

    fn line(&mut self, check: &str, kind: Option<Kind>, ok: bool, detail: &str) {
        self.well &= ok;
        let agent = kind.map(word).unwrap_or_default();
        let document = json!({ "check": check, "agent": agent, "ok": ok, "detail": detail });
        let mark = if ok { "ok" } else { "NO" };
        // A reader that went away does not change what is found.
        let _ = self.printer.item(&document, || format!("{mark:3} {agent:6} {check}: {detail}"));
    }
}
