//! Approvals through the real binary: the agent that waits, the human who decides, and what is between them.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use belay::domain::time::Span;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::block_on;
use crate::support::panel::CATALOG;
use crate::support::process::{Broker, Ran, belay, ended};
use crate::support::world::{Hands, NOW, World};

const PATIENCE: Duration = Duration::from_secs(20);

/// A broker with a catalog, an agent with a task, and two approvers beside the development operator.
struct Shop {
    broker: Broker,
    ana: PathBuf,
    bea: PathBuf,
    task: String,
    _home: TempDir,
}

impl Shop {
    fn open() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut broker = Broker::start_in(home.path(), &[]);
        broker.kill();
        catalog(home.path());
        let broker = Broker::start_in(home.path(), &[]);
        let ana = broker.agent("ana");
        let bea = operator(&broker, "bea", "approver");
        let task = broker.run_as(&ana, &["task", "start", "tidy up", "--ttl", "2h"]).ok();
        let task = task["task"]["id"].as_str().unwrap().to_owned();
        Self { broker, ana, bea, task, _home: home }
    }

    fn ana(&self, arguments: &[&str]) -> Ran {
        self.broker.run_as(&self.ana, arguments)
    }

    fn bea(&self, arguments: &[&str]) -> Ran {
        self.broker.run_as(&self.bea, arguments)
    }

    /// Asks for what needs a human: the document, which says that it waits.
    fn pending(&self, more: &[&str]) -> Value {
        let ran =
            self.ana(&[&["grant", "request", "--task", &self.task, "--scope", "db:drop@orders/a"], more].concat());
        assert_eq!(ran.code, 4, "{ran:?}");
        serde_json::from_str(&ran.stdout).unwrap()
    }

    /// The same in a process of its own, which waits.
    fn waiting(&self, more: &[&str]) -> Child {
        let mut command = belay(&self.broker.home);
        command.args(["--addr", &self.broker.addr, "-o", "json", "--identity"]).arg(&self.ana);
        command.args(["grant", "request", "--task", &self.task, "--scope", "db:drop@orders/a", "--wait", "1m"]);
        command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The one approval that bea is asked about, once it is there.
    fn asked(&self) -> String {
        for _ in 0..200 {
            let listed = self.bea(&["approval", "list"]).ok();
            if let Some(one) = listed["approvals"].as_array().unwrap().first() {
                return text(&one["id"]);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("nothing waits");
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// Puts the catalog in force, in the ledger of a broker that does not run.
fn catalog(home: &Path) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let hands = Hands::new();
    hands.turn(Span::millis(i64::try_from(now).unwrap() - NOW));
    block_on(async { World::open(&home.join("dev"), hands).await.apply_catalog(CATALOG).await });
}

fn operator(broker: &Broker, name: &str, role: &str) -> PathBuf {
    let added = broker.run(&["operator", "add", name, "--role", role]).ok();
    let out = broker.home.join(name);
    let token = added["join_token"].as_str().unwrap();
    broker.run(&["operator", "enroll", "--join-token", token, "--out", out.to_str().unwrap()]).ok();
    out
}

fn tokens(broker: &Broker) -> usize {
    broker.run(&["audit", "list", "--kind", "token_issued"]).ok()["events"].as_array().unwrap().len()
}

#[test]
fn what_waits_is_shown_and_decided_by_another() {
    let shop = Shop::open();
    let pending = shop.pending(&[]);
    let id = text(&pending["approval"]["id"]);
    assert_eq!((&pending["grant"]["state"], &pending["approval"]["state"]), (&"pending".into(), &"pending".into()));
    assert!(text(&pending["approval"]["message"]).contains("the operators are asked"), "{pending}");
    // The same to whoever looks: who, for whom, why, what it adds, how long, by which policies.
    for shown in [shop.bea(&["approval", "show", &id]).ok(), shop.ana(&["approval", "show", &id]).ok()] {
        let approval = &shown["approval"];
        for key in ["id", "state", "needed", "given", "request", "radius", "expires_at", "digest", "policy"] {
            assert!(approval.get(key).is_some(), "{key}: {shown}");
        }
        assert_eq!(approval["radius"]["adds"]["internal"], 1);
        let request = &approval["request"];
        assert_eq!(
            (&request["holder"], &request["purpose"], &request["ttl_ms"]),
            (&"ana".into(), &"tidy up".into(), &900_000.into())
        );
        assert_eq!(approval["policy"]["policies"].as_array().unwrap().len(), 1, "{shown}");
    }
    let eve = shop.broker.agent("eve");
    shop.broker.run_as(&eve, &["approval", "show", &id]).err(5);
    assert_eq!(shop.broker.run_as(&eve, &["approval", "list", "--all"]).ok()["approvals"], Value::Array(Vec::new()));
    let auditor = operator(&shop.broker, "aud", "auditor");
    assert_eq!(shop.broker.run_as(&auditor, &["approval", "list"]).ok()["approvals"], Value::Array(Vec::new()));
    assert_eq!(shop.broker.run_as(&auditor, &["approval", "list", "--all"]).ok()["approvals"][0]["id"], id);
    shop.broker.run_as(&auditor, &["approval", "approve", &id, "--reason", "x"]).err(3);
    shop.ana(&["approval", "approve", &id, "--reason", "x"]).err(3);
    shop.ana(&["approval", "watch"]).err(3);
    shop.bea(&["approval", "approve", "apr_01m826b20gfdtagbpvxzh7napv", "--reason", "x"]).err(5);
    shop.bea(&["approval", "approve", &id]).err(2);
    shop.bea(&["approval", "approve", &id, "--reason", "x", "--ttl", "16m"]).err(3);
    shop.bea(&["approval", "approve", &id, "--reason", "a\nb"]).err(2);

    let approved = shop.bea(&["approval", "approve", &id, "--reason", "as announced", "--ttl", "5m"]).ok();
    let given = &approved["approval"]["given"][0];
    assert_eq!(
        (&approved["approval"]["state"], &given["by"], &given["reason"]),
        (&"approved".into(), &"bea".into(), &"as announced".into())
    );
    assert_eq!(shop.bea(&["approval", "approve", &id, "--reason", "x"]).err(1)["detail"]["reason"], "approval_decided");
    assert_eq!(shop.bea(&["approval", "list"]).ok()["approvals"], Value::Array(Vec::new()));
    let grant = text(&pending["grant"]["id"]);
    shop.ana(&["token", "issue", "--grant", &grant]).ok();
    for id in [&grant, &id] {
        let why = shop.broker.run(&["why", id]).ok();
        let kinds: Vec<_> = why["events"].as_array().unwrap().iter().map(|event| text(&event["kind"])).collect();
        for kind in ["grant_issued", "approval_requested", "approval_given", "grant_activated"] {
            assert!(kinds.iter().any(|known| known == kind), "{id}: {kinds:?}");
        }
    }
    let denied = text(&shop.pending(&[])["approval"]["id"]);
    shop.bea(&["approval", "deny", &denied, "--reason", "not today"]).ok();
    assert_eq!(
        shop.bea(&["approval", "approve", &denied, "--reason", "x"]).err(1)["detail"]["reason"],
        "approval_decided"
    );
}

#[test]
fn who_waits_gets_its_token_and_certificate_once_approved() {
    let shop = Shop::open();
    let cert = shop.broker.home.join("cert");
    let child = shop.waiting(&["--token", "--cert", cert.to_str().unwrap()]);
    let id = shop.asked();
    shop.bea(&["approval", "approve", &id, "--reason", "yes"]).ok();
    let output = ended(child);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&document["grant"]["state"], &document["approval"]["state"]), (&"active".into(), &"approved".into()));
    assert!(!text(&document["token"]["token"]).is_empty() && cert.join("cert.pem").exists(), "{document}");
    assert_eq!(tokens(&shop.broker), 1);

    let child = shop.waiting(&["--token"]);
    shop.bea(&["approval", "deny", &shop.asked(), "--reason", "no"]).ok();
    let output = ended(child);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&document["grant"]["state"], document.get("token")), (&"denied".into(), None));
    assert_eq!(tokens(&shop.broker), 1);
}

#[test]
fn what_still_waits_at_the_end_can_be_taken_up_again() {
    let shop = Shop::open();
    let pending = shop.pending(&["--wait", "1s", "--token"]);
    let key = text(&pending["idempotency_key"]);
    assert!(pending.get("token").is_none());
    // The same wish under that name is the same request.
    let again = shop.pending(&["--idempotency-key", &key, "--token"]);
    assert_eq!((&again["grant"]["id"], again.get("idempotency_key")), (&pending["grant"]["id"], None));
    shop.bea(&["approval", "approve", &text(&pending["approval"]["id"]), "--reason", "yes"]).ok();
    let request =
        ["grant", "request", "--task", &shop.task, "--scope", "db:drop@orders/a", "--token", "--idempotency-key", &key];
    let [one, two] = [shop.ana(&request).ok(), shop.ana(&request).ok()];
    assert_eq!((&one["token"]["id"], tokens(&shop.broker)), (&two["token"]["id"], 1));
}

#[test]
fn who_is_killed_while_it_waits_goes_on_under_the_same_key_after_a_restart() {
    let mut shop = Shop::open();
    let key = ["--token", "--idempotency-key", "job-7"];
    let mut child = shop.waiting(&key);
    let id = shop.asked();
    child.kill().unwrap();
    child.wait().unwrap();
    shop.broker.kill();
    let other = Broker::start_in(&shop.broker.home.clone(), &[]);
    shop.broker.replace(other);
    let child = shop.waiting(&key);
    shop.bea(&["approval", "approve", &id, "--reason", "yes"]).ok();
    let output = ended(child);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let again = ended(shop.waiting(&key));
    let id =
        |output: &std::process::Output| text(&serde_json::from_slice::<Value>(&output.stdout).unwrap()["token"]["id"]);
    assert_eq!((id(&output), tokens(&shop.broker)), (id(&again), 1));
}

#[test]
fn an_approval_that_a_crash_comes_into_counts_once_or_not_at_all() {
    for point in ["appended", "committed"] {
        let mut shop = Shop::open();
        let id = text(&shop.pending(&["--token", "--idempotency-key", "k"])["approval"]["id"]);
        let home = shop.broker.home.clone();
        shop.broker.kill();
        // It comes by some times while it starts: the first that it starts in spite of is that of the approval.
        let start = |nth: u32| {
            let crash = format!("{point}:{nth}");
            std::panic::catch_unwind(|| Broker::start_in(&home, &[("BELAY_CRASH", &crash)])).ok()
        };
        shop.broker.replace((1..20).find_map(start).unwrap());
        let ran = shop.bea(&["approval", "approve", &id, "--reason", "yes"]);
        assert_eq!(ran.code, 7, "{point}: {ran:?}");
        assert!(shop.broker.died(), "{point}");
        shop.broker.replace(Broker::start_in(&home, &[]));
        let shown = shop.bea(&["approval", "show", &id]).ok();
        let kept = shown["approval"]["state"] == "approved";
        assert_eq!(
            (kept, shown["approval"]["given"].as_array().unwrap().len()),
            (point == "committed", usize::from(kept))
        );
        if !kept {
            shop.bea(&["approval", "approve", &id, "--reason", "yes"]).ok();
        }
        for _ in 0..2 {
            let request = [
                "grant", "request", "--task", &shop.task, "--scope", "db:drop@orders/a", "--token",
                "--idempotency-key", "k",
            ];
            shop.ana(&request).ok();
        }
        assert_eq!(tokens(&shop.broker), 1, "{point}");
    }
}

#[test]
fn a_task_asks_for_its_purpose_once() {
    let shop = Shop::open();
    let scopes = ["--envelope", "db:drop@orders/a", "db:drop@orders/b", "--envelope-ttl", "10m"];
    let started = shop.ana(&[&["task", "start", "tidy up"], &scopes[..]].concat()).ok();
    let (task, approval) = (text(&started["task"]["id"]), text(&started["approval"]["id"]));
    assert!(started["task"].get("envelope").is_none() && started["approval"]["request"].get("grant").is_none());
    shop.bea(&["approval", "approve", &approval, "--reason", "for the purpose"]).ok();
    let shown = shop.ana(&["task", "show", &task]).ok();
    assert_eq!(shown["task"]["envelope"]["scopes"].as_array().unwrap().len(), 2, "{shown}");
    let listed = shop.broker.run(&["task", "list"]).ok();
    assert!(listed["tasks"].as_array().unwrap().iter().any(|one| one["envelope"]["approval"] == *approval), "{listed}");
    let request = |scope: &str| shop.ana(&["grant", "request", "--task", &task, "--scope", scope]).code;
    assert_eq!((request("db:drop@orders/b"), request("db:drop@orders/c")), (0, 4));
    shop.ana(&["task", "show", "tsk_01m826b1x1ec8vm5xb46v44k2n"]).err(5);
    shop.ana(&["task", "start", "x", "--envelope-ttl", "10m"]).err(2);
}

#[test]
fn whoever_watches_is_told_what_it_is_asked_and_what_becomes_of_it() {
    let shop = Shop::open();
    let old = text(&shop.pending(&[])["approval"]["id"]);
    let mut command = belay(&shop.broker.home);
    command.args(["--addr", &shop.broker.addr, "-o", "json", "--identity"]).arg(&shop.bea);
    let mut child = command.args(["approval", "watch"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = lines(&mut child);
    let next = || {
        let line = lines.recv_timeout(PATIENCE).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        (text(&told["approval"]["id"]), text(&told["approval"]["state"]))
    };
    assert_eq!(next(), (old.clone(), "pending".to_owned()));
    let new = text(&shop.pending(&[])["approval"]["id"]);
    assert_eq!(next(), (new.clone(), "pending".to_owned()));
    shop.bea(&["approval", "deny", &old, "--reason", "no"]).ok();
    assert_eq!(next(), (old, "denied".to_owned()));
    shop.bea(&["approval", "approve", &new, "--reason", "yes"]).ok();
    assert_eq!(next(), (new, "approved".to_owned()));
    shop.broker.run(&["operator", "remove", "bea"]).ok();
    let output = ended(child);
    assert_eq!(output.status.code(), Some(6), "{output:?}");
}

fn lines(child: &mut Child) -> std::sync::mpsc::Receiver<String> {
    let out = BufReader::new(child.stdout.take().unwrap());
    let (lines, read) = std::sync::mpsc::channel();
    std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
    read
}

#[test]
fn nothing_that_an_agent_wrote_hides_what_it_is() {
    let shop = Shop::open();
    for purpose in ["tidy\u{202e}up", "tidy\u{1b}[2Jup", "tidy\u{200b}up", "a\nb"] {
        shop.ana(&["task", "start", purpose]).err(2);
    }
    let scope = "db:drop@orders/a{\"args\":{\"note\":{\"eq\":\"\u{202e}gnp.x\"}}}";
    let ran = shop.ana(&["grant", "request", "--task", &shop.task, "--scope", scope]);
    let pending: Value = serde_json::from_str(&ran.stdout).unwrap();
    let id = text(&pending["approval"]["id"]);
    let shown = shop.bea(&["approval", "show", &id]);
    assert!(shown.stdout.is_ascii() && shown.stdout.contains("\\\\u202e"), "{shown:?}");
    let table = |identity: &Path| {
        let mut command = belay(&shop.broker.home);
        command.args(["--addr", &shop.broker.addr, "--identity"]).arg(identity).args(["approval", "show", &id]);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let table = table(&shop.bea);
    assert!(table.is_ascii() && table.contains("\\u202e") && table.contains("1 internal (score 4)"), "{table}");
}
