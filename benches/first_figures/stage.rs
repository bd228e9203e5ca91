//! The processes of a measurement and the directory that they work in. All of it goes when this is dropped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use belay::domain::event::Body;
use belay::store::{Sqlite, Store as _};
use serde_json::Value;
use tempfile::TempDir;

use super::client::Setup;
use super::{CONNECTIONS, IN_FLIGHT, Load, Plan, Window};

/// A process that is killed, by its own id, when this is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// The order of the fields is the order in which they are dropped: the directory last.
pub struct Stage {
    told: ChildStdin,
    answers: BufReader<ChildStdout>,
    _client: Process,
    floor: Process,
    broker: Process,
    directory: TempDir,
    tokens: usize,
    calls: usize,
}

impl Stage {
    /// A broker with one agent, a floor, and a client that is connected to both.
    pub fn build(program: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("figures-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let home = directory.path();
        let log = std::fs::File::create(home.join("serve.log")).unwrap();
        let mut serve = belay(program, home);
        serve.args(["serve", "--dev", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]).stderr(log);
        serve.env("BELAY_LOG", "info,belay::store=debug");
        let (broker, ready) = spawn(&mut serve);
        let ready: Value = serde_json::from_str(&ready).unwrap();
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        let (identity, token_bytes) = agent(program, home, &text("grpc"));
        let floor_identity = home.join("floor");
        let (floor, floor_at) = spawn(own().arg("floor").arg(&floor_identity).arg(token_bytes.to_string()));
        let origin = run(program, home, &text("grpc"), &["audit", "list", "--kind", "origin"]);
        let origin = &origin["events"][0]["detail"];
        let setup = Setup {
            broker: text("grpc"),
            http: text("http"),
            identity,
            floor: floor_at,
            floor_identity,
            issuer: origin["issuer"].as_str().unwrap().to_owned(),
            epoch: origin["epoch"].as_str().unwrap().to_owned(),
        };
        let mut client = own().arg("client").arg(serde_json::to_string(&setup).unwrap()).spawn().unwrap();
        let (told, answers) = (client.stdin.take().unwrap(), BufReader::new(client.stdout.take().unwrap()));
        let mut stage = Self { told, answers, _client: Process(client), floor, broker, directory, tokens: 0, calls: 0 };
        assert_eq!(stage.answer(), "ready");
        stage
    }

    /// One window of a load.
    pub fn window(&mut self, load: Load, millis: u64) -> Window {
        let server = if load.floor() == load { &self.floor } else { &self.broker };
        let (server, before) = (server.0.id(), processor_time(server.0.id()));
        writeln!(self.told, "{}", serde_json::to_string(&(load, millis)).unwrap()).unwrap();
        let mut window: Window = serde_json::from_str(&self.answer()).unwrap();
        window.cpu_us = (processor_time(server) - before) * 1e6 / window.calls as f64;
        self.tokens += window.verified;
        if load == Load::Authorize {
            self.calls += window.calls;
        }
        window
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the client has failed; its words are above");
        line.trim_end().to_owned()
    }

    /// What is measured, and on what.
    pub fn describe(&self, plan: &Plan<'_>) -> String {
        let home = self.directory.path();
        let log = std::fs::read_to_string(home.join("serve.log")).unwrap();
        let opened = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let opened = opened.map(|line| line["fields"].clone()).find(|fields| !fields["synchronous"].is_null()).unwrap();
        let cores = std::thread::available_parallelism().unwrap();
        format!(
            "belay {}, {CONNECTIONS} connections x {IN_FLIGHT} in flight, client, broker and floor on {cores} cores\n\
             {} rounds of {} ms per load\n\
             data on {}, journal_mode={}, synchronous={} (as the broker read them back)\n",
            env!("CARGO_PKG_VERSION"),
            plan.rounds,
            plan.millis,
            file_system(home),
            opened["journal_mode"].as_str().unwrap(),
            opened["synchronous"],
        )
    }

    /// Kills the broker without warning, and counts in its log what it had answered.
    pub fn end(mut self) -> String {
        // A call's record follows its answer within 50 ms.
        std::thread::sleep(std::time::Duration::from_millis(200));
        self.broker.0.kill().unwrap();
        self.broker.0.wait().unwrap();
        let store = Sqlite::open(&self.directory.path().join("dev")).unwrap();
        let (reader, mut after) = (store.reader().unwrap(), 0);
        let (mut tokens, mut calls) = (0, 0);
        loop {
            let page = reader.entries(after, 1000).unwrap();
            after += page.len() as u64;
            for entry in &page {
                match belay::wire::decode(entry).unwrap().body {
                    Body::TokenIssued { .. } => tokens += 1,
                    Body::Invoked(_) => calls += 1,
                    _ => {}
                }
            }
            if page.is_empty() {
                break;
            }
        }
        let found = format!(
            "{} tokens and {} calls were answered; after kill -9 the log holds {tokens} and {calls}",
            self.tokens, self.calls
        );
        assert!(tokens >= self.tokens && calls >= self.calls, "{found}");
        format!("\n{found}\n")
    }
}

/// Registers and enrolls the agent that asks: its identity, and how long a token of its is.
fn agent(program: &str, home: &Path, at: &str) -> (std::path::PathBuf, usize) {
    let registered =
        run(program, home, at, &["agent", "register", "bench", "--owner", "team", "--purpose", "measuring"]);
    let identity = home.join("bench");
    let (out, join) = (identity.to_str().unwrap(), registered["join_token"].as_str().unwrap());
    run(program, home, at, &["agent", "enroll", "--join-token", join, "--out", out]);
    let task = run(program, home, at, &["--identity", out, "task", "start", "measuring"]);
    let task = task["task"]["id"].as_str().unwrap();
    let scope = super::load::SCOPE;
    let grant =
        run(program, home, at, &["--identity", out, "grant", "request", "--task", task, "--scope", scope, "--token"]);
    let bytes = grant["token"]["token"].as_str().unwrap().len();
    (identity, bytes)
}

fn belay(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    for name in ["BELAY_ADDR", "BELAY_IDENTITY", "BELAY_LOG", "BELAY_CRASH"] {
        command.env_remove(name);
    }
    command.env("BELAY_HOME", home).env("BELAY_OUTPUT", "json").stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// The answer of a command line that must succeed.
fn run(program: &str, home: &Path, at: &str, arguments: &[&str]) -> Value {
    let output = belay(program, home).arg("--addr").arg(at).args(arguments).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Seconds of processor time that a process has used, in user and kernel mode, of all its threads.
fn processor_time(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // Fields 14 and 15 of proc_pid_stat(5); the second is a name in brackets, so they are counted behind it.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

/// This program, in another part.
fn own() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Starts a process and waits for its first line.
fn spawn(command: &mut Command) -> (Process, String) {
    let mut process = Process(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(!line.is_empty(), "{command:?} ended at once");
    (process, line.trim_end().to_owned())
}

/// The type of the file system that holds `path`: what is fast on tmpfs proves nothing.
fn file_system(path: &Path) -> String {
    let path = path.canonicalize().unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        Some((before.split(' ').nth(4)?, after.split(' ').next()?))
    });
    let nearest = mounts.filter(|(at, _)| path.starts_with(at)).max_by_key(|(at, _)| at.len());
    nearest.map_or("an unknown file system".to_owned(), |(_, kind)| kind.to_owned())
}
