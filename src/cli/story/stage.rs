//! The throw-away broker, its directory, and the processes that talk to it.
//!
//! Only the broker that was started here is ended, by its own id. Secrets go to the processes on stdin.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

const READY: Duration = Duration::from_secs(20);
const CALL: Duration = Duration::from_secs(20);
const DRAIN: Duration = Duration::from_secs(10);

/// A running broker in a directory of its own. Dropping it ends both.
pub struct Stage {
    // Dropped in this order, after `drop` has ended the process: it writes to the directory.
    broker: Child,
    home: TempDir,
    belay: PathBuf,
    addr: String,
}

/// What a process said.
#[derive(Debug)]
pub struct Said {
    /// Its exit code; -1 if a signal ended it.
    pub exit: i32,
    /// Its one document on stdout.
    pub out: Value,
    /// The `error` of its one document on stderr.
    pub error: Value,
}

impl Stage {
    /// Starts a broker on free ports and waits until it is ready.
    pub async fn open() -> Result<(Self, String)> {
        let belay = std::env::current_exe().context("cannot find this program's own file")?;
        let home =
            tempfile::Builder::new().prefix("belay-try-").tempdir().context("cannot make a temporary directory")?;
        let log = File::create(home.path().join("broker.log"))?;
        let mut broker = command(&belay, home.path())
            .args(["serve", "--dev", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data"])
            .arg(home.path().join("data"))
            .env_remove("BELAY_IDENTITY")
            .stderr(log)
            .spawn()
            .context("cannot start a broker")?;
        let out = broker.stdout.take();
        let mut stage = Self { broker, home, belay, addr: String::new() };
        let mut line = String::new();
        let read = timeout(READY, BufReader::new(out.context("the broker has no stdout")?).read_line(&mut line)).await;
        let ready = read.ok().and_then(Result::ok).and_then(|_| serde_json::from_str::<Value>(&line).ok());
        let ready = ready.filter(|ready| ready["ready"] == true);
        let ready = ready.ok_or_else(|| anyhow!("the broker did not become ready:\n{}", stage.last_words()))?;
        stage.addr = ready["grpc"].as_str().context("the broker did not say where it listens")?.to_owned();
        let detail = format!("{} for {}", stage.addr, ready["trust_domain"].as_str().unwrap_or_default());
        Ok((stage, detail))
    }

    /// Runs one command as an agent, or as the operator if none is named, with `input` on its stdin.
    pub async fn run(&self, who: Option<&str>, words: &[&str], input: &str) -> Result<Said> {
        let mut process = command(&self.belay, self.home.path());
        process.args(words).env("BELAY_ADDR", &self.addr).stdin(Stdio::piped()).stderr(Stdio::piped());
        if let Some(agent) = who {
            process.env("BELAY_IDENTITY", self.identity(agent));
        }
        let mut process = process.spawn().context("cannot start a process")?;
        let mut stdin = process.stdin.take().context("the process has no stdin")?;
        // One that does not read it closes its end; that is its choice.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let ended = timeout(CALL, process.wait_with_output()).await;
        let output = ended.map_err(|_| anyhow!("`belay {}` did not end within {CALL:?}", words.join(" ")))??;
        let last = |bytes: &[u8]| -> Value {
            let text = String::from_utf8_lossy(bytes);
            text.lines().rev().find_map(|line| serde_json::from_str(line).ok()).unwrap_or(Value::Null)
        };
        let error = last(&output.stderr)["error"].take();
        Ok(Said { exit: output.status.code().unwrap_or(-1), out: last(&output.stdout), error })
    }

    /// Starts a command as an agent, to be talked to.
    pub fn spawn(&self, agent: &str, words: &[&str]) -> Result<Child> {
        let mut process = command(&self.belay, self.home.path());
        process.args(words).env("BELAY_ADDR", &self.addr).env("BELAY_IDENTITY", self.identity(agent));
        process.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().context("cannot start a process")
    }

    /// This program's own file.
    pub fn belay(&self) -> &Path {
        &self.belay
    }

    /// Where the broker listens for gRPC on this machine.
    pub fn port(&self) -> Result<u16> {
        let port = self.addr.rsplit(':').next().and_then(|port| port.parse().ok());
        port.with_context(|| format!("there is no port in `{}`", self.addr))
    }

    /// A file of the story.
    pub fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.home.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    /// Where an agent's or an operator's identity is.
    pub fn identity(&self, agent: &str) -> PathBuf {
        self.home.path().join("agents").join(agent)
    }

    /// The end of the broker's log, for whoever has to find out why.
    pub fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.home.path().join("broker.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    /// Asks the broker to stop, and waits until it has.
    pub async fn close(mut self) -> Result<((), String)> {
        let id = self.broker.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        let id = id.context("the broker stopped on its own")?;
        rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
        let status =
            timeout(DRAIN, self.broker.wait()).await.map_err(|_| anyhow!("it did not stop within {DRAIN:?}"))??;
        ensure!(status.success(), "it ended with {status}:\n{}", self.last_words());
        let place = self.home.path().to_owned();
        drop(self);
        ensure!(!place.exists(), "its directory `{}` is still there", place.display());
        Ok(((), "its directory is removed".to_owned()))
    }
}

impl Drop for Stage {
    /// Ends the broker and waits for it, so that nothing writes to the directory while it is removed.
    fn drop(&mut self) {
        let _ = self.broker.start_kill();
        for _ in 0..500 {
            if !matches!(self.broker.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Said {
    /// What it printed, if it did what was asked.
    pub fn done(self) -> Result<Value> {
        if self.exit != 0 {
            bail!("expected exit 0, got {}: {}", self.exit, self.why());
        }
        Ok(self.out)
    }

    /// The stable reason of its refusal, if it was refused with exit 3.
    pub fn refused(&self) -> Result<&str> {
        ensure!(self.exit == 3, "expected a refusal with exit 3, got exit {}: {}", self.exit, self.why());
        let verdict = self.out["reasons"][0]["code"].as_str();
        verdict.or_else(|| self.error["detail"]["reason"].as_str()).context("it was refused without a reason")
    }

    fn why(&self) -> String {
        let reason = self.out["reasons"][0]["message"].as_str();
        reason.or_else(|| self.error["message"].as_str()).unwrap_or("no reason given").to_owned()
    }
}

/// This binary, as somebody with an empty home: nothing of the caller's own configuration reaches it.
fn command(belay: &Path, home: &Path) -> Command {
    let mut command = Command::new(belay);
    command
        .env("BELAY_HOME", home.join("home"))
        .env("BELAY_OUTPUT", "json")
        .env_remove("BELAY_ADDR")
        .env_remove("BELAY_IDENTITY")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(exit: i32, out: Value, error: Value) -> Said {
        Said { exit, out, error }
    }

    #[test]
    fn only_exit_0_is_done_and_only_exit_3_is_refused() {
        assert!(said(0, json!({}), Value::Null).done().is_ok());
        assert!(said(1, json!({}), Value::Null).done().is_err());
        let reason = json!({ "detail": { "reason": "scope_widened" } });
        assert_eq!(said(3, Value::Null, reason.clone()).refused().unwrap(), "scope_widened");
        let denied = json!({ "reasons": [{ "code": "out_of_scope" }] });
        assert_eq!(said(3, denied, Value::Null).refused().unwrap(), "out_of_scope");
        for exit in [-1, 0, 1, 2, 4, 5, 6, 7] {
            assert!(said(exit, Value::Null, reason.clone()).refused().is_err(), "{exit}");
        }
    }

    #[tokio::test]
    async fn a_dropped_stage_leaves_neither_process_nor_directory() {
        let home = tempfile::tempdir().unwrap();
        let place = home.path().to_owned();
        let broker = Command::new("sleep").arg("30").spawn().unwrap();
        let id = broker.id().unwrap();
        drop(Stage { broker, home, belay: PathBuf::new(), addr: String::new() });
        assert!(!place.exists() && !Path::new(&format!("/proc/{id}/fd/0")).exists());
    }
}
