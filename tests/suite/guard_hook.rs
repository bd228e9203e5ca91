//! `belay guard hook`, `guard init` and `doctor`: hooks of coding agents, as the agents run them.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::process::{Broker, Ran, belay, ended};

const SCOPES: [&str; 6] = [
    r#"claude:bash@shell{"args":{"command":{"glob":"cargo *"}}}"#,
    "claude:write@file/srv/**",
    "codex:bash@shell",
    r#"github:create_issue@mcp{"args":{"title":{"max_len":20}}}"#,
    r#"bank:pay@mcp{"args":{"amount":{"max":1}}}"#,
    r#"claude:pay@local{"args":{"amount":{"max":1}}}"#,
];

struct Place {
    broker: Broker,
    coder: std::path::PathBuf,
    grant: String,
}

fn place() -> Place {
    let broker = Broker::start();
    let coder = broker.agent("coder");
    let task = broker.run_as(&coder, &["task", "start", "to test hooks"]).ok();
    let request =
        [&["grant", "request", "--task", task["task"]["id"].as_str().unwrap(), "--scope"], &SCOPES[..]].concat();
    let granted = broker.run_as(&coder, &request).ok();
    Place { grant: granted["grant"]["id"].as_str().unwrap().to_owned(), broker, coder }
}

fn with_stdin(mut command: Command, stdin: &str) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that ends early does not read it.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = ended(child);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Place {
    fn hook(&self, words: &[&str], call: &Value) -> Ran {
        self.said(words, &call.to_string())
    }

    fn said(&self, words: &[&str], call: &str) -> Ran {
        let mut command = belay(&self.broker.home);
        command.args(["--addr", &self.broker.addr, "--identity"]).arg(&self.coder).args(["guard", "hook"]).args(words);
        command.args(["--grant", &self.grant]);
        with_stdin(command, call)
    }

    fn claude(&self, tool: &str, input: Value) -> (String, String) {
        let ran = self.hook(&["claude"], &json!({ "tool_name": tool, "tool_input": input, "cwd": "/srv" }));
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
        let said: Value = serde_json::from_str(&ran.stdout).unwrap();
        let said = &said["hookSpecificOutput"];
        assert_eq!(said["hookEventName"], "PreToolUse");
        let text = |name: &str| said[name].as_str().unwrap().to_owned();
        (text("permissionDecision"), text("permissionDecisionReason"))
    }
}

#[test]
fn a_hook_decides_each_tool_in_the_form_of_its_agent() {
    let place = place();
    assert_eq!(place.claude("Bash", json!({ "command": "cargo test" })).0, "allow");
    assert_eq!(place.claude("Write", json!({ "file_path": "src/a.rs", "content": "x" })).0, "allow");
    let (said, why) = place.claude("Bash", json!({ "command": "rm -rf ~" }));
    assert!(said == "deny" && why.contains("`command` must match") && why.contains("request inv_"), "{said} {why}");
    assert_eq!(place.claude("Write", json!({ "file_path": "/etc/passwd", "content": "x" })).0, "deny");
    assert_eq!(place.claude("mcp__github__create_issue", json!({ "title": "short" })).0, "allow");
    assert_eq!(place.claude("mcp__github__create_issue", json!({ "title": "x".repeat(21) })).0, "deny");
    assert_eq!(place.claude("mcp__gitlab__create_issue", json!({ "title": "short" })).0, "deny");
    // Codex hears of refusals alone: it takes anything else for a failure, and goes on.
    let allowed = place.hook(&["codex"], &json!({ "tool_name": "Bash", "tool_input": { "command": "ls" } }));
    assert_eq!((allowed.code, allowed.stdout.as_str()), (0, ""));
    let denied = place.hook(&["codex"], &json!({ "tool_name": "apply_patch", "tool_input": { "command": "x" } }));
    let said: Value = serde_json::from_str(&denied.stdout).unwrap();
    assert_eq!((denied.code, &said["hookSpecificOutput"]["permissionDecision"]), (0, &json!("deny")));
}

#[test]
fn whatever_fails_in_a_hook_blocks() {
    let place = place();
    let good = json!({ "tool_name": "Bash", "tool_input": { "command": "cargo test" } });
    let blocks = |ran: Ran, why: &str| {
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
        assert!(ran.stderr.contains(why), "{ran:?}");
    };
    for agent in ["claude", "codex"] {
        for (call, why) in [
            (json!({ "tool_name": "" }), "tool_name"),
            (json!({}), "tool_name"),
            (json!([]), "tool_name"),
            (json!({ "tool_name": "mcp__a__b__c" }), "tool_name"),
            (json!({ "tool_name": "Bash", "tool_input": "ls" }), "tool_input"),
        ] {
            blocks(place.hook(&[agent], &call), why);
        }
        let command = |identity: &Path, words: &[&str]| {
            let mut command = belay(&place.broker.home);
            command.args(["--addr", &place.broker.addr, "--identity"]).arg(identity).args(["guard", "hook", agent]);
            command.args(words);
            command
        };
        let under = ["--grant", place.grant.as_str()];
        blocks(with_stdin(command(&place.coder, &under), "rm -rf"), "JSON");
        blocks(with_stdin(command(&place.coder, &under), ""), "JSON");
        blocks(with_stdin(command(&place.coder, &[]), &good.to_string()), "BELAY_GRANT");
        blocks(with_stdin(command(&place.coder, &["--grant", ""]), &good.to_string()), "BELAY_GRANT");
        blocks(with_stdin(command(&place.coder, &["--grant", "grt_none"]), &good.to_string()), "grt_none");
        blocks(with_stdin(command(&place.broker.home.join("nobody"), &under), &good.to_string()), "nobody");
        let mut nameless = belay(&place.broker.home);
        nameless.args(["guard", "hook", agent]).args(under);
        blocks(with_stdin(nameless, &good.to_string()), "BELAY_IDENTITY");
        let mut away = command(&place.coder, &under);
        away.args(["--addr", "https://127.0.0.1:1"]);
        blocks(with_stdin(away, &good.to_string()), "cannot reach");
    }
    // A broker that takes the connection and says nothing: four seconds, then no.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = belay(&place.broker.home);
    command.args(["--addr", &format!("https://{}", silent.local_addr().unwrap()), "--identity"]).arg(&place.coder);
    command.args(["guard", "hook", "claude", "--grant", &place.grant]);
    let begun = std::time::Instant::now();
    blocks(with_stdin(command, &good.to_string()), "4 s");
    assert!(begun.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
fn a_hook_decides_what_was_said_to_the_last_digit_and_member() {
    let place = place();
    let decides = |call: &str| -> String {
        let ran = place.said(&["claude"], call);
        match ran.code {
            0 => serde_json::from_str::<Value>(&ran.stdout).unwrap()["hookSpecificOutput"]["permissionDecision"]
                .as_str()
                .unwrap()
                .to_owned(),
            2 if ran.stdout.is_empty() && !ran.stderr.is_empty() => "blocks".to_owned(),
            _ => panic!("{ran:?}"),
        }
    };
    let write = |input: &str| decides(&format!(r#"{{"tool_name":"Write","cwd":"/srv","tool_input":{input}}}"#));
    for tool in ["mcp__bank__pay", "pay"] {
        let pay = |amount: &str| decides(&format!(r#"{{"tool_name":"{tool}","tool_input":{{"amount":{amount}}}}}"#));
        // What is 1 in a reader's floating point is more here.
        let said =
            ["1", "1.0000000000000000000", "1.0000000000000000001", r#"2,"amount":1"#, r#"1,"Amount":2"#].map(pay);
        let refused = if tool == "pay" { "blocks" } else { "deny" };
        assert_eq!(said, ["allow", "allow", "deny", refused, refused], "{tool}");
    }
    assert_eq!(write(r#"{"file_path":"/srv/a","content":"x"}"#), "allow");
    for input in [
        r#"{"file_path":"/etc/passwd","file_path":"/srv/a"}"#,
        r#"{"file_path":"/srv/a"},"tool_input":{"file_path":"/srv/b"}"#,
        r#"{"file_path":"/srv/a"},"tool_name":"Write""#,
        r#"{"file_path":"/srv/a"},"cwd":"/srv""#,
        r#"{"file_path":"/srv/a"},"hook_event_name":"PostToolUse""#,
        r#"{"file_path":"/srv/a"},"hook_event_name":"PreToolUse","hook_event_name":"PreToolUse""#,
    ] {
        assert_eq!(write(input), "blocks", "{input}");
    }
    assert_eq!(write(r#"{"file_path":"/srv/a"},"hook_event_name":"PreToolUse""#), "allow", "the control");
    // An agent takes white space away, and has a home: these are other files to it.
    for path in ["~/x", "~", " /etc/passwd", "\t/etc/passwd"] {
        assert_eq!(write(&json!({ "file_path": path }).to_string()), "blocks", "{path:?}");
    }
}

#[test]
fn what_became_of_a_hooked_call_is_told_once() {
    let place = place();
    let mut call = json!({ "tool_name": "Bash", "tool_input": { "command": "cargo test" }, "tool_use_id": "toolu_1" });
    assert_eq!(place.hook(&["claude"], &call).code, 0);
    call["tool_response"] = json!({ "is_error": true });
    for _ in 0..2 {
        let told = place.hook(&["claude", "--post"], &call);
        assert_eq!((told.code, told.stdout.as_str()), (0, ""), "{told:?}");
    }
    let listed = place.broker.run(&["audit", "list", "--kind", "invocation_reported"]).ok().to_string();
    assert_eq!(listed.matches("is failed").count(), 1, "{listed}");
}

#[test]
fn the_doctor_finds_a_hook_that_is_there_and_one_that_is_not() {
    let place = place();
    let project = place.broker.home.join("project");
    let dir = project.to_str().unwrap();
    let doctor = |dir: Option<&str>| {
        let mut command = belay(&place.broker.home);
        command.args(["-o", "json", "doctor", "claude"]);
        command.args(dir.map(|dir| ["--dir", dir]).into_iter().flatten());
        with_stdin(command, "")
    };
    let finds = |ran: &Ran, check: &str| -> Value {
        let lines = ran.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.into_iter().find(|line| line["check"] == check).unwrap_or_else(|| panic!("no {check} in {ran:?}"))
    };
    let missing = doctor(Some(dir));
    assert_eq!((missing.code, &finds(&missing, "settings")["ok"]), (1, &json!(false)), "{missing:?}");
    let init = ["guard", "init", "claude", "--dir", dir, "--grant", &place.grant];
    assert_eq!(place.broker.run_as(&place.coder, &init).ok()["changed"], true);
    assert_eq!(place.broker.run_as(&place.coder, &init).ok()["changed"], false);
    let there = doctor(Some(dir));
    assert_eq!(there.code, 0, "{there:?}");
    for check in ["settings", "allowed_call", "forbidden_call", "hook_missing", "hook_crashes"] {
        assert_eq!(finds(&there, check)["ok"], true, "{there:?}");
    }
    if finds(&there, "hook_missing")["detail"].as_str().unwrap().contains("left out") {
        crate::support::needs("the_doctor_finds_a_hook_that_is_there_and_one_that_is_not", "PostgreSQL", false);
    }
    // What only looks like the hook is none, and is not run.
    let (settings, ran) = (project.join(".claude/settings.json"), project.join("ran"));
    let text = std::fs::read_to_string(&settings).unwrap();
    let theirs = project.join("belay");
    std::fs::write(&theirs, format!("#!/bin/sh\ntouch {}\necho tool_name >&2\nexit 2\n", ran.display())).unwrap();
    std::fs::set_permissions(&theirs, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(&settings, text.replace(env!("CARGO_BIN_EXE_belay"), theirs.to_str().unwrap())).unwrap();
    let weak = doctor(Some(dir));
    assert_eq!((weak.code, &finds(&weak, "settings")["ok"]), (1, &json!(false)), "{weak:?}");
    assert!(!ran.exists(), "a project's settings are no program");
}
