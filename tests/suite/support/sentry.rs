//! A door of [`Hall`]: `belay guard mcp` in front of a server, one that stays for each grant and server.
//!
//! What the guard says without asking anybody about the very message is no case of this door, or comes to the same:
//!
//! - A line that is no message (not JSON, a list of messages, a member too many, an answer to nothing) gets the error of
//!   JSON-RPC. Messages here have a server, a method and params, so there is no such case among them; in the body of a
//!   request they are `body_malformed`, which is a case of the doors for requests.
//! - A tool that the server does not show is `tool_unknown`. What is behind this door shows every tool of [`TOOLS`], those
//!   that nobody can call too, so that the broker is asked.
//! - A `tools/call` without a name is `body_malformed`, as the broker has it.
//! - A grant under which nobody may hold a session with the server: the guard does not begin, and ends with the broker's
//!   word for that, which is the one for every message.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use super::cases::{Case, Mcp};
use super::hall::{Hall, Ruling};
use super::process::{Broker, belay};

/// Whatever a case calls at a server.
const TOOLS: [&str; 12] =
    ["read", "write", "wipe", "search", "pay", "open", "send", "read_file", "shake", "x", "mcp.ping", "a b"];

/// The guards that run, by the grant and the server.
#[derive(Default)]
pub struct Sentries(Mutex<BTreeMap<(&'static str, String), Sentry>>);

/// A guard, and its client.
pub struct Sentry {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    log: PathBuf,
    asked: u64,
    /// Why it ended, once it has.
    over: Option<String>,
}

impl Hall {
    /// What the guard makes of a message. It waits for the broker's word for some seconds only: on a machine that does
    /// much else it may say that it has none, and is asked again.
    pub fn guard(&self, case: &Case) -> Option<Ruling> {
        let message = self.message(case)?;
        let mut rulings = (0..10).map(|_| self.guarded(case, &message));
        rulings.find(|(_, code)| code != "unavailable").or_else(|| panic!("no word on {case:?}"))
    }

    fn guarded(&self, case: &Case, Mcp { server, method, params }: &Mcp) -> Ruling {
        let mut sentries = self.sentries.0.lock().unwrap();
        let place = (case.under, server.clone());
        let sentry = sentries.entry(place.clone()).or_insert_with(|| {
            let log = self.broker.home.join(format!("guard-{}-{server}.log", case.under));
            Sentry::post(&self.broker, &self.coder, server, &["--token", &self.token(case)], log)
        });
        let ruling = sentry.rules(method, params);
        // What was not decided may be by the next one.
        if matches!(ruling.1.as_str(), "quota_exceeded" | "unavailable") && sentry.over.is_some() {
            sentries.remove(&place);
        }
        ruling
    }
}

impl Sentry {
    /// Before a server of this name, under a grant or a token. It waits for no human. What it notes is in `log`.
    pub fn post(broker: &Broker, identity: &Path, server: &str, under: &[&str], log: PathBuf) -> Self {
        let mut command = belay(&broker.home);
        command.args(["--addr", &broker.addr, "-o", "json", "--identity"]).arg(identity);
        command.args(["guard", "mcp", "--tool", server, "--wait", "0s"]).args(under).args(["--", "sh"]);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/support/mcp/echo.sh")).args(TOOLS);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&log).unwrap());
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, stdin, stdout, log, asked: 0, over: None }
    }

    /// What becomes of a message.
    pub fn rules(&mut self, method: &str, params: &str) -> Ruling {
        let mut message = json!({ "jsonrpc": "2.0", "method": method });
        if !params.is_empty() {
            message["params"] = serde_json::from_str(params).unwrap();
        }
        if !method.starts_with("notifications/") {
            return self.asks(message).0;
        }
        // It has no answer: the next request sees whether the server heard it.
        self.says(&message);
        loop {
            match self.asks(json!({ "jsonrpc": "2.0", "method": "ping" })) {
                (_, before) if before == json!([message]) => return allowed(),
                (ruling, _) if ruling.1 == "quota_exceeded" && self.over.is_none() => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                (ruling, before) if ruling == allowed() => {
                    assert_eq!(before, json!([]), "{message}");
                    return denied(&self.noted());
                }
                (ruling, _) => return ruling,
            }
        }
    }

    /// What becomes of a request, and the notifications that the server had heard before it.
    fn asks(&mut self, mut message: Value) -> (Ruling, Value) {
        self.asked += 1;
        message["id"] = self.asked.into();
        self.says(&message);
        let Some(answer) = self.hears() else { return (denied(self.over.as_deref().unwrap()), Value::Null) };
        assert_eq!(answer["id"], message["id"], "{answer}");
        let result = &answer["result"];
        if result["asked"] == message {
            return (allowed(), result["before"].clone());
        }
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{message}: {answer}")).to_owned();
        let (code, approval) = match result["isError"] == true {
            true => {
                let why = text(&result["content"][0]["text"]);
                let (code, more) = why.rsplit_once(" (").unwrap().1.split_once(')').unwrap();
                (code.to_owned(), more.contains("; approval apr_"))
            }
            false => (text(&answer["error"]["data"]["code"]), answer["error"]["data"]["approval"].is_string()),
        };
        // It waits for humans only if there is something that they can approve.
        let decision = if approval { "step_up" } else { "deny" };
        ((decision.to_owned(), code), Value::Null)
    }

    /// As one line. The guard takes no line with a character in it that ends a line to some readers, so those are escaped.
    fn says(&mut self, message: &Value) {
        let mut line = String::new();
        for c in message.to_string().chars() {
            match c {
                ' '..='~' => line.push(c),
                _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| write!(line, "\\u{unit:04x}").unwrap()),
            }
        }
        // One that has ended does not read it.
        let _ = writeln!(self.stdin, "{line}");
    }

    /// The next line; none if it has ended.
    fn hears(&mut self) -> Option<Value> {
        let mut line = String::new();
        if self.over.is_none() && self.stdout.read_line(&mut line).unwrap() > 0 {
            return Some(serde_json::from_str(&line).unwrap());
        }
        if self.over.is_none() {
            let ended = self.child.wait().unwrap();
            let log = std::fs::read_to_string(&self.log).unwrap();
            let why: Value = serde_json::from_str(log.lines().last().unwrap_or_default()).unwrap_or_default();
            let code = why["error"]["detail"]["reason"].as_str();
            self.over = Some(code.unwrap_or_else(|| panic!("{ended}: {log}")).to_owned());
        }
        None
    }

    /// Why a notification was not passed on: it is noted before anything later is looked at.
    fn noted(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap();
        let line = log.lines().rfind(|line| line.contains("a notification is not passed on")).expect("it is not noted");
        line.split_once("code=\"").unwrap().1.split_once('"').unwrap().0.to_owned()
    }
}

impl Drop for Sentry {
    /// Its server ends with it: there is nothing to read any more.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn allowed() -> Ruling {
    ("allow".to_owned(), "in_scope".to_owned())
}

fn denied(code: &str) -> Ruling {
    ("deny".to_owned(), code.to_owned())
}
