//! `belay policy` on the real binary: applied whole or not at all, tested and explained.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::catalog_commands::CATALOG;
use crate::support::process::{Broker, Ran, belay, ran};

const OPERATORS: &str = r#"
@id("admins") permit (principal in Role::"admin", action, resource is Area);
@id("approvers") permit (principal in Role::"approver", action == Action::"approve", resource is Tool);
"#;

/// Agents may ask for anything; nobody for `rm`; two have to approve `bank`.
const AGENTS: &str = r#"
@id("yes") permit (principal is Agent, action in [Action::"request", Action::"delegate"], resource is Tool);
@id("no-rm") forbid (principal, action == Action::"request", resource == Tool::"rm");
@id("two-for-bank") forbid (principal, action == Action::"request", resource == Tool::"bank")
    when { context.approvals < 2 };
"#;

/// Names and texts.
type Files<'a> = &'a [(&'a str, &'a str)];

/// A directory of policy files.
fn directory(home: &Path, name: &str, files: Files<'_>) -> PathBuf {
    let directory = home.join(name);
    std::fs::create_dir_all(&directory).unwrap();
    for (name, text) in files {
        std::fs::write(directory.join(name), text).unwrap();
    }
    directory
}

fn apply(broker: &Broker, directory: &Path, more: &[&str]) -> Ran {
    broker.run(&[&["policy", "apply", directory.to_str().unwrap()], more].concat())
}

fn shown(broker: &Broker) -> Value {
    broker.run(&["policy", "show"]).ok()["policy"].clone()
}

fn explain(broker: &Broker, arguments: &[&str]) -> (i32, Value) {
    let ran = broker.run(&[&["policy", "explain"], arguments].concat());
    assert!(!ran.stdout.is_empty(), "{ran:?}");
    (ran.code, serde_json::from_str(&ran.stdout).unwrap())
}

fn applied() -> Broker {
    let broker = Broker::start();
    let good = directory(&broker.home, "good", &[("agents.cedar", AGENTS), ("operators.cedar", OPERATORS)]);
    apply(&broker, &good, &[]).ok();
    broker
}

#[test]
fn a_policy_set_is_applied_once_and_shown_with_its_text() {
    let broker = Broker::start();
    assert_eq!(shown(&broker)["version"], 1);
    let good = directory(&broker.home, "good", &[("operators.cedar", OPERATORS), ("agents.cedar", AGENTS)]);
    let checked = broker.run(&["policy", "check", good.to_str().unwrap()]).ok();
    let would = apply(&broker, &good, &["--dry-run"]).ok();
    assert_eq!((&would["dry_run"], &would["policy"]["version"]), (&json!(true), &json!(2)));
    assert_eq!(shown(&broker)["version"], 1);
    let applied = apply(&broker, &good, &[]).ok();
    assert_eq!(applied["policy"]["digest"], checked["policy"]["digest"]);
    assert_eq!(applied["policy"]["policies"], 5);
    assert_eq!(apply(&broker, &good, &[]).ok()["policy"]["version"], 2, "the same files are no new version");
    let files = json!([{ "name": "agents.cedar", "text": AGENTS }, { "name": "operators.cedar", "text": OPERATORS }]);
    assert_eq!(shown(&broker)["files"], files);
    let events = broker.run(&["audit", "list", "--kind", "policy_applied"]).ok();
    assert_eq!(events["events"][1]["detail"], json!({ "version": 2, "digest": checked["policy"]["digest"] }));
    let moved = apply(&broker, &good, &["--over", "1"]).err(1);
    assert!(moved["message"].as_str().unwrap().contains("of version 2 by now"), "{moved}");
}

#[test]
fn policies_with_an_error_change_nothing_and_the_old_ones_decide() {
    let broker = applied();
    broker.agent("coder");
    let before = shown(&broker);
    let many: Vec<(String, &str)> = (0..50).map(|at| (format!("{at:02}.cedar"), OPERATORS)).collect();
    let mut many: Vec<(&str, String)> = many
        .iter()
        .enumerate()
        .map(|(at, (name, text))| (name.as_str(), text.replace("@id(\"", &format!("@id(\"{at}-"))))
        .collect();
    many.push(("99.cedar", "permit (principal, action resource);".to_owned()));
    let many: Vec<(&str, &str)> = many.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let request = r#"principal, action == Action::"request", resource"#;
    let attribute = format!("{OPERATORS}permit ({request}) when {{ context.colour == \"red\" }};");
    let action = format!("{OPERATORS}permit (principal, action == Action::\"borrow\", resource);");
    let wrong: [(&str, Files<'_>, &str); 6] = [
        ("none", &[], "no *.cedar file"),
        ("empty", &[("a.cedar", ""), ("b.cedar", "// nothing\n")], "denies everything"),
        ("many", &many, "99.cedar:1: "),
        ("attribute", &[("a.cedar", &attribute)], "colour"),
        ("action", &[("a.cedar", &action)], "borrow"),
        ("template", &[("a.cedar", "permit (principal == ?principal, action, resource);")], "template"),
    ];
    for (name, files, named) in wrong {
        let directory = directory(&broker.home, name, files);
        for more in [&[][..], &["--dry-run"], &["--force"]] {
            let error = apply(&broker, &directory, more).err(2);
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(named) && message.lines().count() == 1, "{name}: {message}");
        }
        broker.run(&["policy", "check", directory.to_str().unwrap()]).err(2);
    }
    let large = directory(&broker.home, "large", &[("a.cedar", OPERATORS)]);
    std::fs::File::create(large.join("b.cedar")).unwrap().set_len(100_000_000).unwrap();
    let started = std::time::Instant::now();
    let error = apply(&broker, &large, &[]).err(2);
    assert!(error["message"].as_str().unwrap().contains("at most 4194304 are read"), "{error}");
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    assert_eq!(shown(&broker), before);
    assert_eq!(explain(&broker, &["--agent", "coder", "--scope", "rm:do@x"]).0, 3);
}

#[test]
fn policies_that_lock_everybody_out_need_force() {
    let broker = applied();
    let before = shown(&broker);
    let nobody = directory(&broker.home, "nobody", &[("agents.cedar", AGENTS)]);
    for more in [&[][..], &["--dry-run"]] {
        let error = apply(&broker, &nobody, more).err(3);
        assert_eq!(error["detail"]["reason"], "locks_out", "{error}");
    }
    assert_eq!(shown(&broker), before);
    assert_eq!(apply(&broker, &nobody, &["--force"]).ok()["policy"]["version"], 3);
    let good = broker.home.join("good");
    let error = apply(&broker, &good, &["--force"]).err(3);
    assert!(error["message"].as_str().unwrap().contains("may not apply policies under policy version 3"), "{error}");
}

#[test]
fn explain_says_what_would_be_answered_and_records_nothing() {
    let broker = applied();
    broker.run(&["catalog", "apply", write(&broker, CATALOG).to_str().unwrap()]).ok();
    let coder = broker.agent("coder");
    broker.agent("tester");
    let as_coder = |arguments: &[&str]| broker.run_as(&coder, arguments);
    let task = as_coder(&["task", "start", "testing"]).ok()["task"]["id"].as_str().unwrap().to_owned();
    let size = broker.run(&["status"]).ok()["seq"].clone();

    let (code, allowed) = explain(&broker, &["--agent", "coder", "--scope", "github:issues.read@repo/acme/web"]);
    assert_eq!((code, &allowed["outcome"], &allowed["needed"]), (0, &json!("allow"), &json!(0)));
    assert_eq!(allowed["policy"], json!({ "version": 2, "policies": ["yes"] }));
    assert_eq!((&allowed["radius"]["score"], &allowed["radius"]["unbounded"]), (&json!(4), &json!(false)));
    let (code, denied) = explain(&broker, &["--agent", "coder", "--scope", "rm:do@x"]);
    assert_eq!((code, &denied["outcome"]), (3, &json!("deny")));
    assert_eq!(denied["policy"]["policies"], json!(["no-rm"]), "the one that forbids is named");
    assert_eq!(denied["reasons"][0]["code"], "policy_denied");
    let (code, stepped) = explain(&broker, &["--agent", "coder", "--scope", "bank:pay@x", "--task", &task]);
    assert_eq!((code, &stepped["outcome"], &stepped["needed"]), (4, &json!("step_up"), &json!(2)));
    assert_eq!(broker.run(&["status"]).ok()["seq"], size, "nothing is recorded");

    // What is explained is what is answered.
    for (scope, code) in [("github:issues.read@repo/acme/web", 0), ("rm:do@x", 3), ("bank:pay@x", 4)] {
        let asked = ["--task", &task, "--scope", scope];
        assert_eq!(explain(&broker, &[&["--agent", "coder"], &asked[..]].concat()).0, code, "{scope}");
        assert_eq!(as_coder(&[&["grant", "request"], &asked[..]].concat()).code, code, "{scope}");
    }
    let grant = as_coder(&["grant", "request", "--task", &task, "--scope", "github:issues.*@repo/acme/web"]).ok();
    let grant = grant["grant"]["id"].as_str().unwrap();
    for (scope, code) in [("github:issues.read@repo/acme/web", 0), ("github:workflows.write@repo/acme/web", 3)] {
        let asked = ["--parent", grant, "--to", "tester", "--scope", scope];
        let (explained, answer) = explain(&broker, &asked);
        assert_eq!(explained, code, "{scope} {answer}");
        assert_eq!(as_coder(&[&["grant", "delegate"], &asked[..]].concat()).code, code, "{scope}");
    }
    let unknown = ["policy", "explain", "--scope", "a:b@c"];
    broker.run(&[&unknown[..], &["--agent", "nobody"]].concat()).err(5);
    broker.run(&[&unknown[..], &["--agent", "tester", "--task", &task]].concat()).err(5);
    broker.run_as(&coder, &[&unknown[..], &["--agent", "coder"]].concat()).err(3);
}

#[test]
fn a_denial_names_what_no_number_of_approvals_overcomes() {
    let broker = Broker::start();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/policies");
    apply(&broker, &shipped, &[]).ok();
    broker.agent("coder");
    // `dangerous-needs-one` forbids it without approvals; with them, no policy permits what is not catalogued.
    let (code, denied) = explain(&broker, &["--agent", "coder", "--scope", "leftpad:publish@x"]);
    assert_eq!((code, &denied["policy"]["policies"]), (3, &json!([])), "{denied}");
    let message = denied["reasons"][0]["message"].as_str().unwrap();
    assert!(message.contains("no policy permits it, with up to 4 approvals"), "{message}");
}

#[test]
fn what_no_policy_is_asked_about_is_explained_too() {
    let broker = applied();
    let about = ["--owner", "team", "--purpose", "testing", "--ceiling", "github:issues.*@**"];
    broker.run(&[&["agent", "register", "bound"], &about[..]].concat()).ok();
    let (code, denied) = explain(&broker, &["--agent", "bound", "--scope", "bank:pay@x"]);
    assert_eq!((code, &denied["reasons"][0]["code"]), (3, &json!("beyond_ceiling")));
    broker.run(&["agent", "suspend", "bound"]).ok();
    let (code, denied) = explain(&broker, &["--agent", "bound", "--scope", "github:issues.read@x"]);
    assert_eq!((code, &denied["reasons"][0]["code"]), (3, &json!("agent_not_active")));
}

#[test]
fn a_call_is_explained_as_it_would_be_decided() {
    let broker = Broker::start();
    let invoke = r#"@id("yes") permit (principal is Agent, action, resource is Tool);
        @id("small") forbid (principal, action == Action::"invoke", resource == Tool::"bank")
            unless { context.numbers.hasTag("amount")
                && context.numbers.getTag("amount").lessThanOrEqual(decimal("100.0")) };"#;
    let good = directory(&broker.home, "good", &[("agents.cedar", invoke), ("operators.cedar", OPERATORS)]);
    apply(&broker, &good, &[]).ok();
    let coder = broker.agent("coder");
    let as_coder = |arguments: &[&str]| broker.run_as(&coder, arguments);
    let task = as_coder(&["task", "start", "testing"]).ok()["task"]["id"].as_str().unwrap().to_owned();
    let granted = as_coder(&["grant", "request", "--task", &task, "--scope", "bank:pay@**", "--token"]).ok();
    let (grant, token) = (granted["grant"]["id"].as_str().unwrap(), granted["token"]["token"].as_str().unwrap());
    let calls = [
        (["--tool", "bank", "--action", "pay", "--resource", "a", "--args", r#"{"amount":7}"#], 0, "in_scope"),
        (["--tool", "bank", "--action", "pay", "--resource", "a", "--args", r#"{"amount":700}"#], 3, "policy_denied"),
        (["--tool", "bank", "--action", "take", "--resource", "a", "--args", "{}"], 3, "out_of_scope"),
    ];
    let size = broker.run(&["status"]).ok()["seq"].clone();
    for (call, code, reason) in calls {
        let (explained, answer) = explain(&broker, &[&["--grant", grant], &call[..]].concat());
        assert_eq!((explained, &answer["reasons"][0]["code"]), (code, &json!(reason)), "{answer}");
        if reason == "policy_denied" {
            assert_eq!(answer["policy"], json!({ "version": 2, "policies": ["small"] }));
        }
    }
    assert_eq!(broker.run(&["status"]).ok()["seq"], size, "nothing is recorded");
    for (call, code, reason) in calls {
        let decided = as_coder(&[&["authorize", "--token", token], &call[..]].concat());
        assert_eq!(decided.code, code, "{decided:?}");
        let document: Value = serde_json::from_str(&decided.stdout).unwrap();
        assert_eq!(document["reasons"][0]["code"], reason);
    }
    let radius = broker.run(&["radius", grant]).ok();
    assert_eq!(radius["exercised"], json!(["bank:pay@a"]), "what was denied was not exercised");
    let unknown = ["--grant", "grt_01m826b20gfdtagbpvxzh7napv"];
    broker.run(&[&["policy", "explain"], &unknown[..], &calls[0].0[..]].concat()).err(5);
}

#[test]
fn policies_are_tested_without_a_broker() {
    let home = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = belay(home.path());
        command.args(["-o", "json"]).args(arguments);
        ran(command)
    };
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/policies");
    let cases = shipped.join("tests.toml");
    let passed = run(&["policy", "test", cases.to_str().unwrap()]).ok();
    assert_eq!(passed["failed"], 0);
    assert!(passed["passed"].as_u64().unwrap() > 5, "{passed}");
    run(&["policy", "test", cases.to_str().unwrap(), "--policies", shipped.to_str().unwrap()]).ok();
    run(&["policy", "check", shipped.to_str().unwrap()]).ok();
    let ours = directory(home.path(), "ours", &[("agents.cedar", AGENTS)]);
    let case = "[[case]]\nname = \"rm\"\nprincipal = \"agent:a\"\naction = \"request\"\nscope = \"rm:do@x\"\n";
    for (expect, code) in [("deny", 0), ("allow", 1)] {
        let file = home.path().join("cases.toml");
        std::fs::write(&file, format!("{case}expect = \"{expect}\"\n")).unwrap();
        let tested = run(&["policy", "test", file.to_str().unwrap(), "--policies", ours.to_str().unwrap()]);
        assert_eq!(tested.code, code, "{tested:?}");
        let document: Value = serde_json::from_str(&tested.stdout).unwrap();
        assert_eq!(document["cases"][0]["by"], json!(["no-rm"]));
    }
}

#[test]
fn who_breaks_the_glass_revokes_though_policies_deny() {
    let broker = applied();
    broker.agent("coder");
    let added = broker.run(&["operator", "add", "glass", "--role", "break_glass"]).ok();
    assert_eq!(added["operator"]["roles"], json!(["break_glass"]));
    let glass = broker.home.join("glass");
    let token = added["join_token"].as_str().unwrap();
    broker.run(&["operator", "enroll", "--join-token", token, "--out", glass.to_str().unwrap()]).ok();
    let nobody = directory(&broker.home, "nobody", &[("agents.cedar", AGENTS)]);
    apply(&broker, &nobody, &["--force"]).ok();
    broker.run(&["revoke", "agent:coder", "--reason", "testing"]).err(3);
    let cut = broker.run_as(&glass, &["revoke", "agent:coder", "--reason", "testing"]).ok();
    assert_eq!(cut["final"], true);
    for other in [&["agent", "list"][..], &["audit", "list"], &["policy", "apply", nobody.to_str().unwrap()]] {
        broker.run_as(&glass, other).err(3);
    }
}

fn write(broker: &Broker, text: &str) -> PathBuf {
    let path = broker.home.join("catalog.toml");
    std::fs::write(&path, text).unwrap();
    path
}
