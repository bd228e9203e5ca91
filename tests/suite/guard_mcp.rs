//! `belay guard mcp`, between a server and a client of the official Python SDK.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::needs;
use crate::support::process::{Broker, belay};

/// What a machine that is busy does all the same.
const LONG: Duration = Duration::from_secs(20);

/// A client, the guard that it talks to, and what the server wrote down.
struct Session {
    client: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    log: PathBuf,
}

/// A broker, an agent's identity, and a task of its own.
struct Office {
    broker: Broker,
    coder: PathBuf,
    task: String,
}

/// A Python that has the SDK.
fn python(test: &str) -> Option<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/ci/python/bin/python3");
    let named = std::env::var_os("BELAY_PYTHON").map(PathBuf::from);
    let has = |python: &PathBuf| {
        let ran = Command::new(python).args(["-c", "import mcp.server.mcpserver"]).output();
        ran.is_ok_and(|ran| ran.status.success())
    };
    let found = [named, Some(ours), Some(PathBuf::from("python3"))].into_iter().flatten().find(has);
    needs(test, "Python with `mcp` from PyPI", found.is_some());
    found
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/support/mcp").join(name)
}

impl Office {
    fn open() -> Self {
        let broker = Broker::start();
        let coder = broker.agent("coder");
        let started = broker.run_as(&coder, &["task", "start", "to test the guard"]).ok();
        Self { broker, coder, task: started["task"]["id"].as_str().unwrap().to_owned() }
    }

    fn grant(&self, scopes: &[&str], more: &[&str]) -> String {
        let request = [&["grant", "request", "--task", &self.task, "--scope"], scopes, more].concat();
        let granted = self.broker.run_as(&self.coder, &request).ok();
        granted["grant"]["id"].as_str().unwrap().to_owned()
    }

    fn session(&self, python: &Path, grant: &str, guard: &[&str]) -> Session {
        self.session_in("legacy", python, grant, guard)
    }

    /// The client of the SDK starts the guard, which starts the server of the SDK.
    fn session_in(&self, mode: &str, python: &Path, grant: &str, guard: &[&str]) -> Session {
        let log = self.broker.home.join(format!("{grant}.log"));
        let mut client = Command::new(python);
        client.arg(script("client.py")).arg(mode).arg(env!("CARGO_BIN_EXE_belay"));
        client.args(["--addr", &self.broker.addr, "--identity"]).arg(&self.coder);
        client.args(["guard", "mcp", "--tool", "files", "--grant", grant, "--env", "LOG"]).args(guard).arg("--");
        client.arg(python).arg(script("server.py")).env("LOG", &log).env("BELAY_HOME", &self.broker.home);
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut client = client.spawn().unwrap();
        let (stdin, stdout) = (client.stdin.take(), BufReader::new(client.stdout.take().unwrap()));
        let mut session = Session { client, stdin, stdout, log };
        assert_eq!(session.hear(), json!({ "ready": true }));
        session
    }

    /// What the audit says of the ends of calls.
    fn outcomes(&self) -> Vec<String> {
        let events = self.broker.run(&["audit", "list", "--kind", "invocation_reported"]).ok();
        events["events"].as_array().unwrap().iter().map(Value::to_string).collect()
    }
}

impl Session {
    fn say(&mut self, step: &Value) {
        writeln!(self.stdin.as_mut().unwrap(), "{step}").unwrap();
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the client said {line:?}"))
    }

    fn step(&mut self, step: Value) -> Value {
        self.say(&step);
        self.hear()
    }

    /// Whether the call failed, and what it said.
    fn call(&mut self, tool: &str, args: Value) -> (bool, String) {
        let said = self.step(json!(["call", tool, args]));
        let ok = &said["ok"];
        (ok["error"].as_bool().unwrap_or_else(|| panic!("{said}")), ok["text"].as_str().unwrap().to_owned())
    }

    fn done(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn pid(&self) -> String {
        self.done().lines().find_map(|line| line.strip_prefix("pid ").map(str::to_owned)).unwrap()
    }

    /// The client goes away; it ends when the guard has.
    fn close(mut self) {
        self.stdin = None;
        within("the client ends", || self.client.try_wait().unwrap().is_some());
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

fn within(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LONG, "{what}: not within {LONG:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process that nobody has waited for yet has ended all the same.
fn is_gone(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn a_guarded_server_does_what_the_grant_covers_and_nothing_else() {
    let Some(python) = python("a_guarded_server_does_what_the_grant_covers_and_nothing_else") else { return };
    let office = Office::open();
    let read = r#"files:read_file@mcp{"args":{"path":{"prefix":"/srv"}}}"#;
    for mode in ["legacy", "modern"] {
        let discover: &[&str] = if mode == "modern" { &["files:mcp.server.discover@mcp"] } else { &[] };
        let grant = office.grant(&[&[read, "files:environment@mcp", "files:sample@mcp"], discover].concat(), &[]);
        let mut session = office.session_in(mode, &python, &grant, &[]);
        // Called before anything was listed, too.
        assert_eq!(session.call("read_file", json!({ "path": "/srv/a" })), (false, "contents of /srv/a".to_owned()));
        assert_eq!(session.step(json!(["list"]))["ok"], json!(["environment", "read_file", "sample"]), "{mode}");
        let (failed, why) = session.call("read_file", json!({ "path": "/etc/passwd" }));
        assert!(failed && why.starts_with("denied: `path` must be `/srv`"), "{why}");
        assert!(why.contains("(out_of_scope)") && why.contains("request inv_"), "{why}");
        let (failed, why) = session.call("delete_file", json!({ "path": "/srv/a" }));
        assert!(failed && why.contains("out_of_scope"), "{why}");
        let (_, names) = session.call("environment", json!({}));
        assert!(!names.contains("BELAY") && names.contains("PATH") && names.contains("LOG"), "{names}");
        assert!(!session.done().contains("/etc/passwd") && !session.done().contains("delete"), "{}", session.done());
        if mode == "legacy" {
            // What the server wants of the client is decided, too.
            let (_, said) = session.call("sample", json!({}));
            assert!(said.contains("denied") && said.contains("mcp.sampling.createMessage"), "{said}");
        }
        let pid = session.pid();
        session.close();
        within("the server ends", || is_gone(&pid));
    }
    let outcomes = office.outcomes();
    assert!(outcomes.iter().any(|one| one.contains(r#""outcome":"done""#)), "{outcomes:?}");
}

#[test]
fn every_method_that_is_not_listed_is_decided_and_none_passes_by_default() {
    let Some(python) = python("every_method_that_is_not_listed_is_decided_and_none_passes_by_default") else { return };
    let office = Office::open();
    let steps = [
        json!(["resource", "file:///secret"]),
        json!(["prompt", "greet", { "name": "x" }]),
        json!(["complete", { "name": "name", "value": "x" }]),
    ];
    let narrow = office.grant(&["files:read_file@mcp"], &[]);
    let mut session = office.session(&python, &narrow, &[]);
    for step in &steps {
        let said = session.step(step.clone());
        assert_eq!(said["code"], -32001, "{said}");
    }
    assert_eq!(session.done().lines().count(), 1, "{}", session.done());
    session.close();
    // The control: with the scopes they pass.
    let scopes = ["files:mcp.resources.read@mcp", "files:mcp.prompts.get@mcp", "files:mcp.completion.complete@mcp"];
    let mut session = office.session(&python, &office.grant(&scopes, &[]), &[]);
    for step in &steps {
        let said = session.step(step.clone());
        assert!(said.get("ok").is_some(), "{said}");
    }
    for word in ["resource", "prompt", "completion"] {
        assert!(session.done().contains(word), "{}", session.done());
    }
}

#[test]
fn a_tool_that_changes_within_the_session_is_refused_and_hidden() {
    let Some(python) = python("a_tool_that_changes_within_the_session_is_refused_and_hidden") else { return };
    let office = Office::open();
    let mut session = office.session(&python, &office.grant(&["files:*@mcp"], &[]), &[]);
    let before = session.step(json!(["list"]))["ok"].clone();
    assert!(before.to_string().contains("read_file"), "{before}");
    assert!(!session.call("read_file", json!({ "path": "a" })).0, "the control");
    assert!(!session.call("morph", json!({})).0);
    let (failed, why) = session.call("read_file", json!({ "path": "b" }));
    assert!(failed && why.contains("(schema_changed)"), "{why}");
    let after = session.step(json!(["list"]))["ok"].clone();
    assert!(!after.to_string().contains("read_file") && after.to_string().contains("transfer"), "{after}");
    assert!(!session.done().contains("sent"), "{}", session.done());
}

#[test]
fn a_call_that_needs_a_human_waits_for_one_and_is_made_once() {
    let Some(python) = python("a_call_that_needs_a_human_waits_for_one_and_is_made_once") else { return };
    let office = Office::open();
    let grant = office.grant(&["files:transfer@mcp", "files:read_file@mcp"], &[]);
    let catalog = office.broker.home.join("catalog.toml");
    let text = "[[tool]]\nname = \"files\"\nowner = \"bank\"\n[[tool.action]]\nname = \"transfer\"\n\
                risk = \"destructive\"\n[[tool.action]]\nname = \"read_file\"\nrisk = \"read\"\n";
    std::fs::write(&catalog, text).unwrap();
    office.broker.run(&["catalog", "apply", catalog.to_str().unwrap(), "--yes"]).ok();
    let pending = || {
        let listed = office.broker.run(&["approval", "list"]).ok();
        let waits = |one: &&Value| one["state"] == "pending";
        let all = listed["approvals"].as_array().cloned().unwrap_or_default();
        all.iter().filter(waits).map(|one| one["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let approve = |id: &str| office.broker.run(&["approval", "approve", id, "--reason", "it is due"]).ok();
    let due = json!({ "to": "landlord", "amount": 900 });
    // Without waiting: it says which request is to be approved, and the same call finds the same one.
    let mut session = office.session(&python, &grant, &["--wait", "0s"]);
    for _ in 0..2 {
        let (failed, why) = session.call("transfer", due.clone());
        assert!(failed && why.contains("approval_needed") && why.contains("approval apr_"), "{why}");
    }
    assert_eq!(pending().len(), 1);
    session.close();
    // Approved while the guard was away: the same call after a restart is made, once.
    approve(&pending()[0]);
    let mut session = office.session(&python, &grant, &["--wait", "0s"]);
    assert_eq!(session.call("transfer", due.clone()), (false, "sent 900 to landlord".to_owned()));
    let (failed, why) = session.call("transfer", due.clone());
    assert!(failed && why.contains("approval_needed"), "a second time is another call: {why}");
    let (failed, _) = session.call("transfer", json!({ "to": "landlord", "amount": 901 }));
    assert!(failed, "another amount is another call");
    assert_eq!(session.done().matches("transfer").count(), 1, "{}", session.done());
    session.close();
    for id in pending() {
        office.broker.run(&["approval", "deny", &id, "--reason", "no"]).ok();
    }
    // While it waits, the client hears of it, and other calls go on.
    let mut session = office.session(&python, &grant, &["--wait", "60s"]);
    session.say(&json!(["call", "transfer", { "to": "bakery", "amount": 3 }]));
    within("a human is asked", || !pending().is_empty());
    approve(&pending()[0]);
    let said = session.hear();
    assert_eq!((&said["ok"]["error"], &said["ok"]["text"]), (&json!(false), &json!("sent 3 to bakery")), "{said}");
    let told = said["ok"]["progress"].to_string();
    assert!(told.contains("waiting for a human"), "{told}");
}

#[test]
fn a_cut_ends_the_call_that_goes_on_and_the_server() {
    let Some(python) = python("a_cut_ends_the_call_that_goes_on_and_the_server") else { return };
    let office = Office::open();
    let grant = office.grant(&["files:slow@mcp", "files:read_file@mcp"], &[]);
    let mut session = office.session(&python, &grant, &[]);
    session.say(&json!(["call", "slow", { "seconds": 30 }]));
    within("the call begins", || session.done().contains("slow begins"));
    // A slow call is in nobody's way.
    assert!(!session.call("read_file", json!({ "path": "a" })).0);
    let pid = session.pid();
    assert!(!is_gone(&pid));
    office.broker.run(&["revoke", &grant, "--reason", "it does what it should not"]).ok();
    let since = Instant::now();
    let said = session.hear();
    assert_eq!(said["ok"]["error"], true, "{said}");
    assert!(said["ok"]["text"].as_str().unwrap().contains("(grant_revoked)"), "{said}");
    within("the server ends", || is_gone(&pid));
    println!("the call and the server ended {:?} after the revoke had returned", since.elapsed());
    assert!(!session.done().contains("slow ends"));
}

#[test]
fn a_token_is_renewed_before_it_ends_and_no_call_fails_for_it() {
    let Some(python) = python("a_token_is_renewed_before_it_ends_and_no_call_fails_for_it") else { return };
    let office = Office::open();
    let grant = office.grant(&["files:read_file@mcp", "files:slow@mcp"], &["--ttl", "8s"]);
    let mut session = office.session(&python, &grant, &["--keep"]);
    session.say(&json!(["call", "slow", { "seconds": 18 }]));
    let begun = Instant::now();
    let mut calls = 0;
    let mut slow = None;
    while begun.elapsed() < Duration::from_secs(20) {
        session.say(&json!(["call", "read_file", { "path": "a" }]));
        let mut said = session.hear();
        if said["step"][1] == "slow" {
            slow = Some(said);
            said = session.hear();
        }
        assert_eq!(said["ok"]["error"], false, "{said}");
        calls += 1;
    }
    assert!(calls > 10, "{calls}");
    assert_eq!(slow.expect("it ended")["ok"]["text"], "done", "it went on over the ends of two tokens");
}

#[test]
fn nothing_passes_while_the_broker_is_away() {
    let Some(python) = python("nothing_passes_while_the_broker_is_away") else { return };
    let mut office = Office::open();
    let grant = office.grant(&["files:read_file@mcp"], &[]);
    let mut session = office.session(&python, &grant, &[]);
    assert!(!session.call("read_file", json!({ "path": "before" })).0);
    let addr = office.broker.addr.trim_start_matches("https://").to_owned();
    office.broker.kill();
    let (failed, why) = session.call("read_file", json!({ "path": "during" }));
    assert!(failed && why.contains("(unavailable)"), "{why}");
    assert!(!is_gone(&session.pid()), "the server lives on");
    let home = office.broker.home.clone();
    office.broker.replace(Broker::start_at(&home, &addr));
    within("it is there again", || !session.call("read_file", json!({ "path": "after" })).0);
    assert!(!session.done().contains("during"), "{}", session.done());
}

#[test]
fn what_is_no_message_never_reaches_the_server() {
    let office = Office::open();
    let grant = office.grant(&["files:*@mcp"], &[]);
    let seen = office.broker.home.join("seen");
    let mut guard = belay(&office.broker.home);
    guard.args(["--addr", &office.broker.addr, "--identity"]).arg(&office.coder);
    guard.args(["guard", "mcp", "--tool", "files", "--grant", &grant, "--", "tee"]).arg(&seen);
    guard.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut guard = guard.spawn().unwrap();
    let mut stdin = guard.stdin.take().unwrap();
    let lines = [
        (r#"[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"Method":"tools/call"}"#, -32600),
        ("nonsense", -32700),
        (r#"{"jsonrpc":"2.0","id":1,"method":"unknown/method"} trailing"#, -32700),
    ];
    let mut out = BufReader::new(guard.stdout.take().unwrap());
    for (line, code) in lines {
        writeln!(stdin, "{line}").unwrap();
        let mut answer = String::new();
        out.read_line(&mut answer).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code), &Value::Null), "{line}");
    }
    // An answer to what nobody asked is dropped, and so is the notification that no scope covers.
    writeln!(stdin, r#"{{"jsonrpc":"2.0","id":7,"result":{{}}}}"#).unwrap();
    writeln!(stdin, r#"{{"jsonrpc":"2.0","method":"notifications/initialized"}}"#).unwrap();
    within("the last line is there", || std::fs::read_to_string(&seen).is_ok_and(|seen| seen.contains('\n')));
    drop(stdin);
    guard.wait().unwrap();
    let seen = std::fs::read_to_string(&seen).unwrap();
    assert_eq!(seen, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n");
}

impl Office {
    /// The guard of a server that is this shell script, its client's end held by the test.
    fn guard(&self, under: &[&str], shell: &str) -> Child {
        let mut guard = belay(&self.broker.home);
        guard.args(["--addr", &self.broker.addr, "--identity"]).arg(&self.coder);
        guard.args(["guard", "mcp", "--tool", "files"]).args(under).args(["--", "sh", "-c", shell]);
        guard.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// Its exit code, and what it said at its end.
fn over(mut guard: Child) -> (Option<i32>, String) {
    within("the guard ends", || guard.try_wait().unwrap().is_some());
    let ended = guard.wait_with_output().unwrap();
    (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
}

#[test]
fn a_server_does_not_outlive_a_token_that_nobody_replaces() {
    let office = Office::open();
    let grant = office.grant(&["files:*@mcp"], &["--ttl", "3s"]);
    let issued = office.broker.run_as(&office.coder, &["token", "issue", "--grant", &grant]).ok();
    // The grant goes on; a cut of it is not heard of with a token that has ended.
    office.broker.run_as(&office.coder, &["grant", "renew", &grant, "--ttl", "1h"]).ok();
    let (place, token) = (office.broker.home.join("pid"), office.broker.home.join("token"));
    std::fs::write(&token, issued["token"].as_str().unwrap()).unwrap();
    let shell = format!("echo $$ > {}; exec cat", place.display());
    let mut guard = office.guard(&["--token", &format!("@{}", token.display())], &shell);
    let stdin = guard.stdin.take();
    within("the server runs", || std::fs::read_to_string(&place).is_ok_and(|pid| pid.ends_with('\n')));
    let pid = std::fs::read_to_string(&place).unwrap().trim().to_owned();
    let (code, said) = over(guard);
    assert!(code == Some(3) && said.contains("the token is over"), "{code:?} {said}");
    assert!(is_gone(&pid));
    drop(stdin);
}

#[test]
fn a_server_does_not_outlive_its_grant_where_the_broker_says_nothing() {
    let office = Office::open();
    let grant = office.grant(&["files:*@mcp"], &["--ttl", "4s"]);
    let place = office.broker.home.join("runs");
    let mut guard = office.guard(&["--grant", &grant], &format!("touch {}; exec cat", place.display()));
    let stdin = guard.stdin.take();
    within("the server runs", || place.exists());
    Command::new("kill").args(["-STOP", &office.broker.pid().to_string()]).status().unwrap();
    let (code, said) = over(guard);
    assert!(code == Some(3) && said.contains("the grant is over"), "{code:?} {said}");
    drop(stdin);
}

#[test]
fn a_server_asks_no_more_than_its_client_answers() {
    let office = Office::open();
    let grant = office.grant(&["files:mcp.sampling.createMessage@mcp"], &[]);
    let seen = office.broker.home.join("seen");
    let shell = format!(
        r#"i=0; while [ $i -lt 70 ]; do i=$((i+1));
           echo "{{\"jsonrpc\":\"2.0\",\"id\":$i,\"method\":\"sampling/createMessage\",\"params\":{{}}}}"; done; cat > {}"#,
        seen.display()
    );
    let mut guard = office.guard(&["--grant", &grant], &shell);
    let stdin = guard.stdin.take();
    let refused = || std::fs::read_to_string(&seen).unwrap_or_default().matches("no answer yet").count();
    within("six are refused", || refused() == 6);
    let mut out = BufReader::new(guard.stdout.take().unwrap());
    let mut line = String::new();
    for _ in 0..64 {
        line.clear();
        out.read_line(&mut line).unwrap();
        assert!(line.contains("sampling/createMessage"), "{line}");
    }
    drop(stdin);
    assert_eq!(over(guard).0, Some(0));
}
