//! A tool call through the MCP guard: a server of somebody else's, which the agent reaches in no other way.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

use super::acts::{Act, text};
use super::stage::Stage;

const SCOPE: &str = r#"notes:read_note@mcp{"args":{"note":{"prefix":"todo"}}}"#;
/// How soon an answer is there, and a server gone.
const SOON: Duration = Duration::from_secs(20);

/// A session with the guarded server.
pub struct Open {
    grant: String,
    guard: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
    asked: u64,
}

impl Open {
    async fn ask(&mut self, method: &str, params: Value) -> Result<Value> {
        self.asked += 1;
        let message = json!({ "jsonrpc": "2.0", "id": self.asked, "method": method, "params": params });
        self.to.write_all(format!("{message}\n").as_bytes()).await?;
        let line = timeout(SOON, self.from.next_line()).await.context("the guard does not answer")??;
        let answer: Value = serde_json::from_str(&line.context("the guard has ended")?)?;
        ensure!(answer["id"] == self.asked, "it answers something else: {answer}");
        Ok(answer["result"].clone())
    }

    async fn call(&mut self, tool: &str, note: &str) -> Result<(bool, String)> {
        let answer = self.ask("tools/call", json!({ "name": tool, "arguments": { "note": note } })).await?;
        Ok((answer["isError"] == true, text(&answer, "/content/0/text")?.to_owned()))
    }
}

/// A server starts behind the guard; its client sees what the grant allows.
pub async fn start(stage: &Stage, task: &str) -> Act<Open> {
    let request = ["grant", "request", "--task", task, "--scope", SCOPE, "--ttl", "15m"];
    let grant = text(&stage.run(Some("planner"), &request, "").await?.done()?, "/grant/id")?.to_owned();
    let belay = stage.belay().display().to_string();
    let words = ["guard", "mcp", "--tool", "notes", "--grant", &grant, "--wait", "0s", "--", &belay, "try", "--notes"];
    let mut guard = stage.spawn("planner", &words)?;
    let to = guard.stdin.take().context("the guard has no stdin")?;
    let from = BufReader::new(guard.stdout.take().context("the guard has no stdout")?).lines();
    let mut open = Open { grant, guard, to, from, asked: 0 };
    let hello = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "story", "version": "1" } });
    open.ask("initialize", hello).await?;
    let listed = open.ask("tools/list", json!({})).await?;
    let tools = listed["tools"].as_array().context("no tools are listed")?;
    let names: Vec<_> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();
    ensure!(names == ["read_note"], "it sees {names:?}");
    Ok((open, "of two tools it sees `read_note`".to_owned()))
}

/// What the grant covers is made, with the arguments that it covers.
pub async fn allowed(open: &mut Open) -> Act<()> {
    let (refused, said) = open.call("read_note", "todo").await?;
    ensure!(!refused, "it is refused: {said}");
    Ok(((), "allow notes:read_note@mcp".to_owned()))
}

/// What it does not cover never reaches the server, and the model is told what to change.
pub async fn denied(open: &mut Open) -> Act<()> {
    let (refused, said) = open.call("delete_note", "todo").await?;
    ensure!(refused && said.contains("delete_note"), "it is not refused: {said}");
    let (refused, said) = open.call("read_note", "secrets").await?;
    ensure!(refused && said.contains("`note`"), "it is not refused for its argument: {said}");
    Ok(((), said.lines().next().unwrap_or_default().chars().take(90).collect()))
}

/// One revoke: the guard ends, and the server with it.
pub async fn cut(stage: &Stage, mut open: Open) -> Act<()> {
    let begun = super::now();
    stage.run(None, &["revoke", &open.grant, "--reason", "the notes are none of its business"], "").await?.done()?;
    let ended = timeout(SOON, open.guard.wait()).await.context("the guard goes on")??;
    ensure!(ended.code() == Some(3), "the guard ended with {ended}");
    Ok(((), format!("guard and server are gone {} ms after the revoke was typed", begun.elapsed().as_millis())))
}

/// The scene.
pub async fn play(teller: &mut super::Teller, stage: &Stage, task: &str) -> Result<()> {
    let title = ("guard_started", "planner's MCP server starts behind the guard");
    let mut open = teller.step(title, start(stage, task)).await?;
    teller.step(("guard_allowed", "a tool call through the guard is made"), allowed(&mut open)).await?;
    teller.step(("guard_denied", "others are denied, in words for a model"), denied(&mut open)).await?;
    teller.step(("guard_cut", "one revoke ends the guard and the server"), cut(stage, open)).await
}
