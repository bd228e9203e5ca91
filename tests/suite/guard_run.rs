//! `belay run`: a command under a grant that ends with it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::process::{Broker, belay, ended, ran_in_time};

const LONG: Duration = Duration::from_secs(20);

fn run(broker: &Broker, coder: &PathBuf, words: &[&str], shell: &str) -> Command {
    let mut command = belay(&broker.home);
    command.args(["--addr", &broker.addr, "--identity"]).arg(coder).args(["run", "--task", "to test it"]);
    command.args(["--scope", "db:read@x"]).args(words).args(["--", "sh", "-c", shell]);
    command.env("SECRET", "hunter2");
    command
}

fn grants(broker: &Broker) -> Vec<Value> {
    broker.run(&["grant", "list"]).ok()["grants"].as_array().unwrap().clone()
}

fn within(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LONG, "{what}: not within {LONG:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Starts a command that goes on until its group is ended, and waits until it runs: its process id.
fn begun(broker: &Broker, coder: &PathBuf, words: &[&str]) -> (Child, String) {
    let place = broker.home.join("running");
    let _ = std::fs::remove_file(&place);
    // What goes on holds no pipe of the test.
    let shell = format!("sleep 600 2> /dev/null & echo $! > {0}.new; mv {0}.new {0}; wait", place.display());
    let mut command = run(broker, coder, words, &shell);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    within("the command runs", || place.exists());
    (child, std::fs::read_to_string(&place).unwrap().trim().to_owned())
}

fn is_gone(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn a_command_gets_a_socket_and_no_key_and_its_grant_ends_with_it() {
    let broker = Broker::start();
    let coder = broker.agent("coder");
    let asks = "import os,socket,json,sys\n\
        s=socket.socket(socket.AF_UNIX); s.connect(os.environ['BELAY_SOCKET']); f=s.makefile('rw')\n\
        for m in sys.argv[1:]:\n f.write(m+'\\n'); f.flush(); print(f.readline().strip())\n";
    let shell = format!(
        "env | sed 's/^/env /'; stat -c 'mode %a' $BELAY_SOCKET $(dirname $BELAY_SOCKET); python3 -c \"{asks}\" \
         '{{\"op\":\"token\"}}' \
         '{{\"op\":\"authorize\",\"tool\":\"db\",\"action\":\"read\",\"resource\":\"x\",\"args\":{{\"a\":1}}}}' \
         '{{\"op\":\"authorize\",\"tool\":\"db\",\"action\":\"write\",\"resource\":\"x\"}}' \
         '{{\"op\":\"token\",\"more\":1}}'; kill -TERM $$"
    );
    let ran = ran_in_time(run(&broker, &coder, &["--env", "HOME"], &shell));
    assert_eq!(ran.code, 143, "128 and the signal: {ran:?}");
    let names: Vec<&str> = ran.stdout.lines().filter_map(|line| line.strip_prefix("env ")?.split('=').next()).collect();
    let ours: Vec<&&str> = names.iter().filter(|name| name.starts_with("BELAY")).collect();
    assert_eq!((ours, names.contains(&"SECRET")), (vec![&"BELAY_SOCKET"], false), "{names:?}");
    assert!(ran.stdout.contains("mode 600") && ran.stdout.contains("mode 700"), "{}", ran.stdout);
    let said: Vec<Value> = ran.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(said[0]["token"].as_str().unwrap().starts_with("ey"), "{said:?}");
    assert_eq!((&said[1]["decision"], &said[2]["decision"]), (&"allow".into(), &"deny".into()), "{said:?}");
    assert_eq!(said[3]["error"]["code"], "malformed", "{said:?}");
    let all = grants(&broker);
    assert_eq!((all.len(), &all[0]["state"]), (1, &"completed".into()), "{all:?}");
    let named = ran_in_time(run(&broker, &coder, &["--env", "BELAY_HOME"], "true"));
    assert_eq!(named.code, 2, "what is Belay's is not passed on: {named:?}");
}

#[test]
fn a_cut_ends_the_command_and_all_that_it_started() {
    let broker = Broker::start();
    let coder = broker.agent("coder");
    let (child, pid) = begun(&broker, &coder, &[]);
    let grant = grants(&broker)[0]["id"].as_str().unwrap().to_owned();
    broker.run(&["revoke", &grant, "--reason", "enough"]).ok();
    let ended = ended(child);
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("revoked"), "{ended:?}");
    within("what it started ends", || is_gone(&pid));
}

#[test]
fn a_grant_is_renewed_while_the_command_lives_and_ends_when_nobody_renews_it() {
    let broker = Broker::start();
    let coder = broker.agent("coder");
    let (mut child, pid) = begun(&broker, &coder, &["--beat", "2s"]);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(grants(&broker)[0]["state"], "active", "it was renewed twice by then");
    assert!(!is_gone(&pid));
    child.kill().unwrap();
    child.wait().unwrap();
    within("the grant ends by itself", || grants(&broker)[0]["state"] == "expired");
    // It has no group that this test could end: its parent was killed as nothing can prevent.
    Command::new("kill").arg(&pid).status().unwrap();
}

#[test]
fn what_is_asked_over_the_socket_is_decided_in_its_own_words() {
    let broker = Broker::start();
    let coder = broker.agent("coder");
    let asks = "import os,socket,json,sys\n\
        s=socket.socket(socket.AF_UNIX); s.connect(os.environ['BELAY_SOCKET']); f=s.makefile('rw')\n\
        for m in sys.argv[1:]:\n f.write(m+'\\n'); f.flush(); print(f.readline().strip())\n";
    let asked =
        |args: &str| format!(r#"'{{"op":"authorize","tool":"db","action":"pay","resource":"x","args":{args}}}'"#);
    let lines = [r#"{"n":1}"#, r#"{"n":1.0000000000000000001}"#, r#"{"n":2,"n":1}"#, r#"{"n":1},"args":{"n":1}"#];
    let mut shell = format!("python3 -c \"{asks}\"");
    lines.iter().for_each(|args| shell.push_str(&format!(" {}", asked(args))));
    shell.push_str(r#" '["token"]'"#);
    let ran = ran_in_time(run(&broker, &coder, &["--scope", r#"db:pay@x{"args":{"n":{"max":1}}}"#], &shell));
    let said: Vec<Value> = ran.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let said: Vec<&str> =
        said.iter().map(|one| one["decision"].as_str().or(one["error"]["code"].as_str()).unwrap()).collect();
    assert_eq!(said, ["allow", "deny", "malformed", "malformed", "malformed"], "{ran:?}");
}

#[test]
fn a_command_does_not_outlive_the_terminal_of_its_guard() {
    let broker = Broker::start();
    let coder = broker.agent("coder");
    let (mut child, pid) = begun(&broker, &coder, &[]);
    // What outlives it would keep its stderr open.
    drop(child.stderr.take());
    Command::new("kill").args(["-HUP", &child.id().to_string()]).status().unwrap();
    let ended = ended(child);
    assert_eq!(ended.status.code(), Some(143), "{ended:?}");
    within("what it started ends", || is_gone(&pid));
    assert_eq!(grants(&broker)[0]["state"], "completed");
}
