//! The command line as a contract: the keys, exit codes and refusals that scripts outside rely on.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::needs;
use crate::support::process::{Broker, Ran, belay, ended, ran};

const GRANT: &str = "id root task agent state scopes audience depth created_at expires_at limits";
const AGENT: &str = "id name spiffe_id owner purpose status";
const EVENT: &str = "seq at kind actor detail";

/// Holds if each of these dotted paths is in the document; `0` is the first of a list.
fn has(document: &Value, at: &str, keys: &str) {
    let found =
        at.split('.').filter(|part| !part.is_empty()).fold(document, |value, part| match part.parse::<usize>() {
            Ok(index) => &value[index],
            Err(_) => &value[part],
        });
    for key in keys.split_whitespace() {
        assert!(found.get(key).is_some_and(|value| !value.is_null()), "no `{at}.{key}` in {document}");
    }
}

/// Runs with what it reads on stdin.
fn fed(broker: &Broker, identity: &Path, arguments: &[&str], input: &str) -> Ran {
    let mut command = belay(&broker.home);
    command.arg("--addr").arg(&broker.addr).arg("--identity").arg(identity).args(["-o", "json"]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn every_command_prints_the_keys_that_scripts_read() {
    let broker = Broker::start();
    let run = |arguments: &[&str]| broker.run(arguments).ok();
    let status = run(&["status"]);
    has(&status, "", "version node trust_domain ready store seq freshness_ms live checkpoint");
    has(&status, "live", "agents tasks grants tokens certificates leases");
    has(&status, "checkpoint", "size root");
    let about =
        ["--owner", "team", "--purpose", "testing", "--ceiling", "db:*@**", "--max-ttl", "1h", "--label", "a=b"];
    let registered = run(&[&["agent", "register", "ana"], &about[..]].concat());
    has(&registered, "", "join_token");
    has(&registered, "agent", AGENT);
    let ana = broker.home.join("ana");
    let enroll = ["--join-token", registered["join_token"].as_str().unwrap(), "--out", ana.to_str().unwrap()];
    let enrolled = run(&[&["agent", "enroll"], &enroll[..]].concat());
    has(&enrolled, "", "expires_at");
    has(&enrolled, "agent", AGENT);
    has(&run(&["agent", "list"]), "agents.0", AGENT);
    has(&run(&["agent", "show", "ana"]), "agent", AGENT);
    has(&run(&["agent", "invite", "ana"]), "", "agent join_token");
    let bob = broker.agent("bob");
    has(&run(&["operator", "add", "eve", "--role", "auditor"]), "operator", "name roles status");
    has(&run(&["operator", "invite", "eve"]), "", "operator join_token");
    has(&run(&["operator", "list"]), "operators.0", "name roles status");
    has(&run(&["operator", "remove", "eve"]), "operator", "name roles status");

    let as_ana = |arguments: &[&str]| broker.run_as(&ana, arguments).ok();
    let task = as_ana(&["task", "start", "testing", "--ttl", "30m"]);
    has(&task, "task", "id purpose agent state expires_at");
    let task = task["task"]["id"].as_str().unwrap();
    has(&as_ana(&["task", "list"]), "tasks.0", "id purpose agent state expires_at");
    let granted = as_ana(&["grant", "request", "--task", task, "--scope", "db:read@**", "db:list@*", "--token"]);
    has(&granted, "", "grant exposure token");
    has(&granted, "grant", GRANT);
    has(&granted, "token", "id token expires_at");
    let grant = granted["grant"]["id"].as_str().unwrap();
    let delegated = as_ana(&["grant", "delegate", "--parent", grant, "--to", "bob", "--scope", "db:read@a"]);
    has(&delegated, "grant", &format!("{GRANT} parent"));
    assert!(delegated.get("token").is_none());
    let child = delegated["grant"]["id"].as_str().unwrap();
    has(&broker.run_as(&bob, &["grant", "list"]).ok(), "grants.0", GRANT);
    has(&run(&["grant", "show", grant]), "grant", GRANT);
    has(&run(&["grant", "show", grant, "--tree"]), "grant", &format!("{GRANT} children"));
    has(&run(&["grant", "show", grant, "--tree"]), "grant.children.0", &format!("{GRANT} children"));
    has(&as_ana(&["grant", "renew", grant, "--ttl", "20m"]), "grant", GRANT);
    has(&run(&["grant", "suspend", child]), "grant", GRANT);
    has(&run(&["grant", "resume", child]), "grant", GRANT);
    let issued = as_ana(&["token", "issue", "--grant", grant]);
    has(&issued, "", "token id expires_at");
    let token = issued["token"].as_str().unwrap();
    let verified = as_ana(&["token", "verify", token]);
    has(&verified, "", "active claims possession");
    has(&verified, "claims", "iss sub aud client_id iat exp jti authorization_details cnf grant task seq epoch chain");
    assert_eq!((verified["active"].as_bool(), verified["possession"].as_str()), (Some(true), Some("proven")));
    assert_eq!(run(&["token", "verify", token])["possession"], "unproven");
    has(&as_ana(&["token", "inspect", token]), "claims", "iss sub jti");
    let call = ["authorize", "--token", token, "--tool", "db", "--action", "read", "--resource", "a"];
    let decided = as_ana(&call);
    has(&decided, "", "decision id reasons grant possession");
    has(&decided, "reasons.0", "code message");
    has(&broker.run_as(&bob, &["grant", "complete", child]).ok(), "grant", GRANT);

    has(&run(&["revoke", grant, "--reason", "testing", "--dry-run"]), "", "dry_run cut effects known");
    let revoked = run(&["revoke", grant, "--reason", "testing"]);
    has(&revoked, "", "revocation final known cut effects");
    has(&revoked, "revocation", "id target at reason by");
    has(&revoked, "cut", "grants tokens certificates leases");
    has(&revoked, "effects.0", "credential kind state at detail");
    has(&run(&["audit", "list", "--kind", "revoked"]), "events.0", EVENT);
    has(&run(&["audit", "list", "--grant", grant]), "events.0", &format!("{EVENT} agent grant tree"));
    has(&run(&["audit", "show", "1"]), "events.0", EVENT);
    has(&run(&["why", grant]), "", "kind id state purpose agent chain events policy");
    has(&as_ana(&["task", "end", task]), "task", "id purpose agent state expires_at");
    for verb in ["suspend", "resume", "retire"] {
        has(&run(&["agent", verb, "bob"]), "agent", AGENT);
    }
    has(&as_ana(&["agent", "renew"]), "", "agent expires_at");
}

#[test]
fn each_exit_code_means_one_thing() {
    let broker = Broker::start();
    let ana = broker.agent("ana");
    broker.run(&["status"]).ok();
    let codes = [
        (1, &["agent", "register", "ana", "--owner", "o", "--purpose", "p"][..], "conflict"),
        (2, &["agent", "register", "Ana", "--owner", "o", "--purpose", "p"], "invalid"),
        (2, &["agent", "nonsense"], "invalid"),
        (2, &["revoke", "--reason", "x"], "invalid"),
        (3, &["task", "start", "testing"], "denied"),
        (5, &["agent", "show", "bob"], "not_found"),
    ];
    for (code, arguments, word) in codes {
        let error = broker.run(arguments).err(code);
        assert_eq!(error["code"], word, "{error}");
        has(&error, "", "code message detail");
        has(&error, "detail", "reason");
    }
    let hint = broker.run(&["task", "start", "testing"]).err(3);
    assert!(hint["message"].as_str().unwrap().contains("--identity"), "{hint}");
    assert_eq!(broker.run_as(&broker.home.join("nobody"), &["status"]).err(6)["code"], "unauthenticated");
    assert_eq!(broker.run_as(&ana, &["status"]).err(3)["code"], "denied");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = belay(&broker.home);
    command.args(["-o", "json", "--addr", &format!("https://{free}"), "status"]);
    let absent = ran(command).err(7);
    assert_eq!(absent["code"], "unavailable", "{absent}");
    // Refused by the broker, it can be found in the broker's log.
    let refused = broker.run(&["agent", "show", "bob"]).err(5);
    let id = refused["request_id"].as_str().unwrap_or_else(|| panic!("no request_id in {refused}"));
    assert_eq!(id.len(), 16);
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    let home = tempfile::tempdir().unwrap();
    let unbuilt: [(&[&str], &[&str]); 5] = [
        (&["status"], &["--output", "toml"]),
        (&["token", "verify", "x"], &["--offline", "dir"]),
        (&["audit"], &["verify"]),
        (&["audit"], &["export"]),
        (&[], &["backup", "file"]),
    ];
    for (built, not) in unbuilt {
        let mut command = belay(home.path());
        command.args(built).args(not);
        let ended = ran(command);
        let name = if not[0] == "--output" { not[1] } else { not[0] };
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{built:?} {not:?}: {ended:?}");
        assert!(ended.stderr.contains(&format!("'{name}")), "{built:?} {not:?}: {ended:?}");
        let mut command = belay(home.path());
        command.args(["-o", "json"]).args(built).args(not);
        if not[0] != "--output" {
            let error = ran(command).err(2);
            assert!(error["message"].as_str().unwrap().contains(name), "{error}");
        }
    }
}

#[test]
fn a_secret_comes_by_value_by_file_or_on_stdin() {
    let broker = Broker::start();
    let joined = broker.run(&["agent", "register", "ana", "--owner", "o", "--purpose", "p"]).ok();
    let join = joined["join_token"].as_str().unwrap();
    let ana = broker.home.join("ana");
    let operator = broker.home.join("operator");
    let out = ["--out", ana.to_str().unwrap()];
    let enroll = [&["agent", "enroll", "--join-token", "-"], &out[..]].concat();
    fed(&broker, &operator, &enroll, "").err(2);
    fed(&broker, &operator, &enroll, &format!("{join}\n")).ok();
    let task = broker.run_as(&ana, &["task", "start", "testing"]).ok();
    let task = task["task"]["id"].as_str().unwrap();
    let granted = broker.run_as(&ana, &["grant", "request", "--task", task, "--scope", "db:read@**", "--token"]).ok();
    let token = granted["token"]["token"].as_str().unwrap();
    let file = broker.home.join("token");
    std::fs::write(&file, format!("{token}\n")).unwrap();
    let file = format!("@{}", file.display());
    for source in [token, &file, "-"] {
        let call = ["authorize", "--token", source, "--tool", "db", "--action", "read", "--resource", "a"];
        assert_eq!(fed(&broker, &ana, &call, token).ok()["decision"], "allow");
        assert_eq!(fed(&broker, &ana, &["token", "verify", source], token).ok()["active"], true);
        assert_eq!(fed(&broker, &ana, &["token", "inspect", source], token).ok()["verified"], false);
    }
    for source in ["@/nonexistent/token", "@/dev/null", ""] {
        let error = broker.run_as(&ana, &["token", "verify", source]).err(2);
        assert_eq!(error["detail"]["reason"], "malformed", "{error}");
    }
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let broker = Broker::start();
    let all = [
        &["agent", "list"][..],
        &["audit", "list"],
        &["audit", "list", "-o", "yaml"],
        &["audit", "tail", "--from", "1"],
        &["audit", "tail", "--from", "1", "-o", "yaml"],
        &["status", "--field", "seq"],
        &["completions", "bash"],
        &["man"],
        &["try"],
        &["--help"],
        &["audit", "tail", "--help"],
        &["--version"],
    ];
    for arguments in all {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = belay(&broker.home);
        command.arg("--addr").arg(&broker.addr).args(arguments).stdout(writer).stderr(Stdio::piped());
        let output = ended(command.spawn().unwrap());
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn an_answer_that_a_full_disk_did_not_take_is_a_failure() {
    if !needs("an_answer_that_a_full_disk_did_not_take_is_a_failure", "/dev/full", Path::new("/dev/full").exists()) {
        return;
    }
    let broker = Broker::start();
    for arguments in [
        &["agent", "list"][..],
        &["audit", "list", "-o", "json"],
        &["audit", "tail", "--from", "1"],
        &["status", "--field", "seq"],
        &["completions", "bash"],
        &["man"],
        &["--help"],
        &["audit", "tail", "--help"],
        &["--version"],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = belay(&broker.home);
        command.arg("--addr").arg(&broker.addr).args(arguments).stdout(full).stderr(Stdio::piped());
        let output = ended(command.spawn().unwrap());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(
            said.contains("cannot write to stdout: No space left") && said.lines().count() == 1,
            "{arguments:?}: {said}"
        );
    }
}

#[test]
fn a_field_is_printed_bare() {
    let broker = Broker::start();
    broker.agent("ana");
    let shown = |arguments: &[&str]| {
        let ran = broker.run(arguments);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
        ran.stdout
    };
    assert_eq!(shown(&["agent", "show", "ana", "--field", "agent.name"]), "ana\n");
    assert_eq!(shown(&["status", "--field", "live.agents"]), "1\n");
    assert_eq!(shown(&["--field", "events.0.seq", "audit", "list", "-o", "table"]), "1\n");
    assert!(shown(&["agent", "list", "--field", "agents.0"]).starts_with("{\""));
    // The exit code stays the command's own.
    let verdict = broker.run(&["token", "verify", "x.y.z", "--field", "active"]);
    assert_eq!((verdict.code, verdict.stdout.as_str()), (3, "false\n"), "{verdict:?}");

    let absent = broker.run(&["agent", "show", "ana", "--field", "agent.nam"]);
    let error = absent.err(2);
    assert_eq!((absent.stdout.as_str(), &error["detail"]["field"]), ("", &"field".into()));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("`agent.nam`") && message.contains("name, owner, purpose"), "{message}");
    for wrong in ["", "agent.", ".agent", "a..b"] {
        // Refused before anything is done.
        broker.run(&["agent", "register", "bob", "--owner", "o", "--purpose", "p", "--field", wrong]).err(2);
    }
    broker.run(&["agent", "show", "bob"]).err(5);
    for plain in [&["completions", "bash"][..], &["man"]] {
        broker.run(&[plain, &["--field", "a"]].concat()).err(2);
    }
}

/// What a YAML reader that is not ours makes of it.
fn read_by_python(yaml: &str) -> Value {
    let script = "import sys, yaml, json; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))";
    let mut python = Command::new("python3");
    python.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut python = python.spawn().unwrap();
    python.stdin.take().unwrap().write_all(yaml.as_bytes()).unwrap();
    serde_json::from_slice(&python.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn yaml_says_what_json_says() {
    let python = Command::new("python3").args(["-c", "import yaml"]).stderr(Stdio::null()).status();
    let found = python.is_ok_and(|status| status.success());
    if !needs("yaml_says_what_json_says", "python3 with PyYAML", found) {
        return;
    }
    let broker = Broker::start();
    let long = "x ".repeat(127) + "y";
    let texts = [
        "no", "1", "1e3", "0x1f", "null", "~", "- a", "a: b", "# c", "é 日本", "{a}", "[a]", "*a", "&a", "!a", "%a",
        "'", "\"", "2026-11-22", "12:30:45", "y", "=", "<<", "a #b", "\\n", "?", "---", "...", "01", "1_000", ".inf",
        &long,
    ];
    for (number, text) in texts.iter().enumerate() {
        let name = format!("a{number}");
        let [owner, purpose, label] = ["owner=", "purpose=", "label=k="].map(|flag| format!("--{flag}{text}"));
        broker.run(&["agent", "register", &name, &owner, &purpose, &label]).ok();
    }
    for arguments in [&["agent", "list"][..], &["audit", "list"], &["status"], &["audit", "show", "1"]] {
        let json = broker.run(arguments).ok();
        let yaml = broker.run(&[arguments, &["-o", "yaml"]].concat());
        assert_eq!(read_by_python(&yaml.stdout), Value::Array(vec![json]), "{arguments:?}");
    }
    // A stream is a document for each item.
    let mut command = belay(&broker.home);
    command.args(["try", "-o", "yaml"]);
    let told = ran(command);
    assert_eq!(told.code, 0, "{told:?}");
    let steps = read_by_python(&told.stdout);
    let steps = steps.as_array().unwrap();
    assert!(steps.len() > 10 && steps.iter().all(|step| step["ok"] == true), "{steps:?}");

    // What is wrong is said in YAML as well.
    for (arguments, code) in [(&["agent", "show", "nobody"][..], "not_found"), (&["nonsense"], "invalid")] {
        let refused = broker.run(&[arguments, &["-o", "yaml"]].concat());
        assert_eq!(read_by_python(&refused.stderr)[0]["error"]["code"], code, "{refused:?}");
    }
}

#[test]
fn the_manual_has_a_page_for_every_command() {
    let home = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = belay(home.path());
        command.args(arguments);
        let ran = ran(command);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
        ran.stdout
    };
    let main = run(&["man"]);
    assert!(main.contains(".TH belay 1") && main.contains("Exit codes"), "{main}");
    let out = home.path().join("man1");
    let written: Value = serde_json::from_str(&run(&["-o", "json", "man", "--out", out.to_str().unwrap()])).unwrap();
    let pages: Vec<&str> = written["pages"].as_array().unwrap().iter().map(|page| page.as_str().unwrap()).collect();
    for name in ["belay.1", "belay-audit-tail.1", "belay-grant-request.1", "belay-man.1"] {
        assert!(pages.iter().any(|page| page.ends_with(&format!("/{name}"))), "{name}: {pages:?}");
    }
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), pages.len());
    let groff =
        Command::new("groff").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    if needs("the_manual_has_a_page_for_every_command", "groff", groff) {
        for page in pages {
            let set = Command::new("groff").args(["-k", "-man", "-ww", "-z", "-Tutf8", page]).output().unwrap();
            assert!(set.status.success() && set.stderr.is_empty(), "{page}: {}", String::from_utf8_lossy(&set.stderr));
        }
    }
    let mut command = belay(home.path());
    command.args(["man", "--out", "/dev/null/x"]);
    let refused = ran(command);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.starts_with("error: the manual cannot be written to /dev/null/x: "), "{refused:?}");
}

#[test]
fn a_file_that_is_no_certificate_is_named_with_what_it_holds() {
    let broker = Broker::start();
    let ana = broker.agent("ana");
    let good = |name: &str| std::fs::read_to_string(ana.join(name)).unwrap();
    let [cert, key, ca] = ["cert.pem", "key.pem", "ca.pem"].map(good);
    let crl = "-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n";
    for (name, text, why) in [
        ("cert.pem", crl, "a revocation list (CRL)"),
        ("ca.pem", crl, "a revocation list (CRL)"),
        ("key.pem", crl, "a revocation list (CRL)"),
        ("cert.pem", "", "it is empty"),
        ("ca.pem", "", "it is empty"),
        ("key.pem", "", "it is empty"),
        ("cert.pem", &key, "a private key"),
        ("ca.pem", &key, "a private key"),
        ("key.pem", &cert, "a certificate"),
        ("cert.pem", &format!("{cert}{key}"), "a private key"),
        ("cert.pem", &format!("{cert}{ca}"), "2 certificates"),
        ("cert.pem", "hunter2", "not PEM"),
        ("cert.pem", &cert.replace("MII", "!!!"), "damaged"),
        ("ca.pem", &ca.replace("MII", "AAA"), "damaged"),
        ("cert.pem", &cert[..cert.len() / 2], "cut off"),
    ] {
        let before = good(name);
        std::fs::write(ana.join(name), text).unwrap();
        let error = broker.run_as(&ana, &["task", "list"]).err(2);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(ana.join(name).to_str().unwrap()) && message.contains(why), "{name} {why}: {message}");
        assert!(!message.contains("hunter2") && !message.contains("MII"), "{message}");
        std::fs::write(ana.join(name), before).unwrap();
    }
    broker.run_as(&ana, &["task", "list"]).ok();
}

#[test]
fn a_table_is_plain_where_there_is_no_terminal() {
    let broker = Broker::start();
    broker.agent("ana");
    for (arguments, shown) in
        [(&["agent", "list"][..], "ana"), (&["status"], "belay.dev"), (&["audit", "list"], "agent_registered")]
    {
        let mut command = belay(&broker.home);
        command.arg("--addr").arg(&broker.addr).args(arguments);
        let ended = ran(command);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
        assert!(ended.stdout.contains(shown) && !ended.stdout.contains('\u{1b}'), "{ended:?}");
    }
    let mut command = belay(&broker.home);
    command.arg("--addr").arg(&broker.addr).args(["agent", "show", "bob"]);
    let ended = ran(command);
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (5, "", "error: no agent `bob`\n"));
}
