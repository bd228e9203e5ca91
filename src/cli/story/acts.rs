//! The acts of the story. Each runs commands, checks exit code and content, and says what it saw.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::stage::{Said, Stage};

/// What an act made, and what it saw.
pub type Act<T> = Result<(T, String)>;

/// A call: tool, action, resource.
pub type Call = [&'static str; 3];

const PURPOSE: &str = "triage the issues of acme/web";
const PLANNER_SCOPE: &str = "github:issues.*@repo/acme/*";
const CODER_SCOPE: &str = "github:issues.read@repo/acme/web";
const TOO_WIDE: &str = "github:*@repo/acme/web";

/// Within planner's scope, beyond coder's.
pub const PLANNED: Call = ["github", "issues.label", "repo/acme/web"];
/// Within coder's scope.
pub const INSIDE: Call = ["github", "issues.read", "repo/acme/web"];
/// Beyond coder's scope, although within planner's.
pub const OUTSIDE: Call = ["github", "issues.close", "repo/acme/web"];

/// Who holds what.
pub struct Cast {
    /// The task.
    pub task: String,
    /// Planner's grant, the root.
    pub root: String,
    /// Coder's grant, below it.
    pub child: String,
    /// Planner's token.
    pub planner: Held,
    /// Coder's token.
    pub coder: Held,
}

/// A token in somebody's hands.
pub struct Held {
    id: String,
    token: String,
}

impl Held {
    /// What a thief would want.
    pub fn secret(&self) -> &str {
        &self.token
    }

    /// Whether both are the same token, signed once or twice.
    pub fn is(&self, other: &Held) -> bool {
        self.id == other.id
    }
}

pub async fn enroll(stage: &Stage, name: &str) -> Act<()> {
    let purpose = format!("the {name} of the story");
    let register = ["agent", "register", name, "--owner", "you", "--purpose", &purpose];
    let registered = stage.run(None, &register, "").await?.done()?;
    let out = stage.identity(name).display().to_string();
    let enroll = ["agent", "enroll", "--join-token", "-", "--out", &out];
    let enrolled = stage.run(None, &enroll, text(&registered, "/join_token")?).await?.done()?;
    for file in ["cert.pem", "key.pem", "ca.pem"] {
        ensure!(stage.identity(name).join(file).is_file(), "enrolment left no {file}");
    }
    Ok(((), text(&enrolled, "/agent/spiffe_id")?.to_owned()))
}

pub async fn start(stage: &Stage) -> Act<String> {
    let task = stage.run(Some("planner"), &["task", "start", PURPOSE, "--ttl", "30m"], "").await?.done()?;
    let task = &task["task"];
    ensure!(task["agent"] == "planner" && task["state"] == "active", "the task is not planner's: {task}");
    Ok((text(task, "/id")?.to_owned(), format!("\"{PURPOSE}\"")))
}

pub async fn request(stage: &Stage, task: &str) -> Act<(String, Held)> {
    let request = ["grant", "request", "--task", task, "--scope", PLANNER_SCOPE, "--ttl", "15m", "--token"];
    let granted = stage.run(Some("planner"), &request, "").await?.done()?;
    ensure!(granted["grant"]["state"] == "active", "the grant is not active: {}", granted["grant"]);
    let held = held(&granted["token"])?;
    Ok(((text(&granted, "/grant/id")?.to_owned(), held), PLANNER_SCOPE.to_owned()))
}

pub async fn delegate(stage: &Stage, root: &str) -> Act<String> {
    let granted = handed_on(stage, root, CODER_SCOPE).await?.done()?;
    let grant = &granted["grant"];
    ensure!(grant["parent"] == root && grant["agent"] == "coder", "it is not coder's, below the root: {grant}");
    ensure!(granted.get("token").is_none(), "a delegation hands out no token");
    Ok((text(&granted, "/grant/id")?.to_owned(), CODER_SCOPE.to_owned()))
}

pub async fn issue(stage: &Stage, child: &str) -> Act<Held> {
    let held = held(&stage.run(Some("coder"), &["token", "issue", "--grant", child], "").await?.done()?)?;
    let detail = format!("{}, bound to coder's key", held.id);
    Ok((held, detail))
}

pub async fn allowed(stage: &Stage, who: &str, held: &Held, call: Call) -> Act<()> {
    let verdict = authorize(stage, who, held, call).await?.done()?;
    ensure!(verdict["decision"] == "allow", "it is not allowed: {verdict}");
    ensure!(verdict["possession"] == "proven", "it was not proven who holds the token: {verdict}");
    Ok(((), format!("allow {}", shown(call))))
}

pub async fn denied(stage: &Stage, who: &str, held: &Held, call: Call, reason: &str) -> Act<()> {
    let said = authorize(stage, who, held, call).await?;
    let given = said.refused()?;
    ensure!(given == reason, "it was refused for another reason: `{given}`, not `{reason}`");
    ensure!(said.out["decision"] == "deny", "there is no decision to deny: {}", said.out);
    Ok(((), format!("deny {}: {given}", shown(call))))
}

pub async fn stolen(stage: &Stage, thief: &str, held: &Held) -> Act<()> {
    let said = authorize(stage, thief, held, PLANNED).await?;
    Ok(((), format!("deny: {}", said.refused()?)))
}

pub async fn widen(stage: &Stage, root: &str) -> Act<()> {
    let said = handed_on(stage, root, TOO_WIDE).await?;
    let reason = said.refused()?;
    ensure!(reason == "scope_widened", "it was refused for another reason: `{reason}`");
    let message = said.error["message"].as_str().unwrap_or_default();
    ensure!(message.contains(TOO_WIDE), "the refusal does not name the scope: {message}");
    Ok(((), format!("{reason}: {TOO_WIDE}")))
}

pub async fn revoke(stage: &Stage, root: &str) -> Act<()> {
    let revoked = stage.run(None, &["revoke", root, "--reason", "the story's end"], "").await?.done()?;
    ensure!(revoked["final"] == true && revoked["known"] == true, "the cut is not final: {revoked}");
    ensure!(revoked["cut"]["grants"] == 2 && revoked["cut"]["tokens"] == 2, "it did not cut all: {}", revoked["cut"]);
    Ok(((), "2 grants and 2 tokens cut, final".to_owned()))
}

/// Every way to get something below the cut, tried by the agents that could before.
pub async fn regrow(stage: &Stage, cast: &Cast) -> Act<()> {
    let mut tries = vec![handed_on(stage, &cast.root, CODER_SCOPE).await?];
    for (who, grant) in [("planner", &cast.root), ("coder", &cast.child)] {
        tries.push(stage.run(Some(who), &["token", "issue", "--grant", grant], "").await?);
        tries.push(stage.run(Some(who), &["grant", "renew", grant], "").await?);
    }
    for said in &tries {
        let reason = said.refused()?;
        ensure!(reason == "grant_revoked", "it was refused for another reason: `{reason}`");
    }
    Ok(((), format!("{} attempts, {} refusals: grant_revoked", tries.len(), tries.len())))
}

/// The tree's events, as lines. A decided call is recorded moments after its answer: this waits a little.
pub async fn audit(stage: &Stage, cast: &Cast) -> Act<Vec<String>> {
    let wanted = [("grant_issued", 2), ("token_issued", 2), ("invoked", 5), ("revoked", 1)];
    for _ in 0..20 {
        let listed = stage.run(None, &["audit", "list", "--tree", &cast.root], "").await?.done()?;
        let events = listed["events"].as_array().context("there are no events")?;
        let count = |kind: &str| events.iter().filter(|event| event["kind"] == kind).count();
        if wanted.iter().all(|(kind, least)| count(kind) >= *least) {
            let whole = listed.to_string();
            let leaked = [&cast.planner, &cast.coder].iter().any(|held| whole.contains(&held.token));
            ensure!(!leaked, "the log holds a token");
            let detail = format!("{} events in this tree, no secret in them", events.len());
            return Ok((events.iter().map(told).collect(), detail));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("the log does not hold every grant, token, call and cut of the tree")
}

pub async fn why(stage: &Stage, cast: &Cast) -> Act<()> {
    let why = stage.run(None, &["why", &cast.coder.id], "").await?.done()?;
    let links = why["chain"].as_array().into_iter().flatten();
    let chain: Vec<_> = links.filter_map(|link| link["agent"].as_str()).collect();
    ensure!(chain == ["planner", "coder"], "the chain is another: {chain:?}");
    ensure!(why["purpose"] == PURPOSE, "the purpose is another: {}", why["purpose"]);
    Ok(((), format!("{} for \"{PURPOSE}\"", chain.join(" → "))))
}

pub async fn status(stage: &Stage) -> Act<()> {
    let status = stage.run(None, &["status"], "").await?.done()?;
    ensure!(status["live"]["grants"] == 0 && status["live"]["tokens"] == 0, "something is live: {}", status["live"]);
    let (size, root) = (&status["checkpoint"]["size"], text(&status, "/checkpoint/root")?);
    ensure!(size.as_u64() > Some(0) && root.len() == 64, "the log has no size and root: {}", status["checkpoint"]);
    Ok(((), format!("{size} leaves, root {}…", &root.chars().take(12).collect::<String>())))
}

/// The root grant with all below it.
pub async fn tree(stage: &Stage, root: &str) -> Result<Value> {
    let mut shown = stage.run(None, &["grant", "show", root, "--tree"], "").await?.done()?;
    Ok(shown["grant"].take())
}

async fn handed_on(stage: &Stage, root: &str, scope: &str) -> Result<Said> {
    stage.run(Some("planner"), &["grant", "delegate", "--parent", root, "--to", "coder", "--scope", scope], "").await
}

async fn authorize(stage: &Stage, who: &str, held: &Held, [tool, action, resource]: Call) -> Result<Said> {
    let words = ["authorize", "--token", "-", "--tool", tool, "--action", action, "--resource", resource];
    stage.run(Some(who), &words, &held.token).await
}

pub fn held(document: &Value) -> Result<Held> {
    Ok(Held { id: text(document, "/id")?.to_owned(), token: text(document, "/token")?.to_owned() })
}

pub fn text<'a>(document: &'a Value, pointer: &str) -> Result<&'a str> {
    let text = document.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.with_context(|| format!("the answer holds no {pointer}"))
}

fn shown([tool, action, resource]: Call) -> String {
    format!("{tool}:{action}@{resource}")
}

/// Who, what, to whom.
fn told(event: &Value) -> String {
    let word = |key: &str| event[key].as_str().unwrap_or_default();
    format!("{:>4}  {:<14} {:<13} {}", event["seq"], word("actor"), word("kind"), word("summary"))
}
