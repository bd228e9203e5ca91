//! The audit is the log: filtered, paged, one event at a time, and the provenance of whatever has an id.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::process::Broker;

/// A broker with one story in its log: two grants and a delegation, a call allowed and one denied, a cut.
struct Story {
    broker: Broker,
    planner: PathBuf,
    task: String,
    root: String,
    child: String,
    other: String,
    token: String,
    invocations: [String; 2],
    revocation: String,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not text: {value}")).to_owned()
}

impl Story {
    fn tell() -> Self {
        let broker = Broker::start();
        let (planner, coder) = (broker.agent("planner"), broker.agent("coder"));
        let task = text(&broker.run_as(&planner, &["task", "start", "review pull request 42"]).ok()["task"]["id"]);
        let request = ["grant", "request", "--task", &task, "--scope", "db:read@**"];
        let [root, other] = [&request, &request].map(|r| text(&broker.run_as(&planner, r).ok()["grant"]["id"]));
        let delegate = ["grant", "delegate", "--parent", &root, "--to", "coder", "--scope", "db:read@a/*"];
        let child = text(&broker.run_as(&planner, &delegate).ok()["grant"]["id"]);
        let issued = broker.run_as(&coder, &["token", "issue", "--grant", &child]).ok();
        let (token, secret) = (text(&issued["id"]), text(&issued["token"]));
        let invocations = [("a/x", 0), ("b/x", 3)].map(|(resource, code)| {
            let call = ["authorize", "--token", &secret, "--tool", "db", "--action", "read", "--resource", resource];
            let ran = broker.run_as(&coder, &call);
            assert_eq!(ran.code, code, "{ran:?}");
            text(&serde_json::from_str::<Value>(&ran.stdout).unwrap()["id"])
        });
        let revoke = ["revoke", root.as_str(), "--reason", "the review is over"];
        let revocation = text(&broker.run_as(&planner, &revoke).ok()["revocation"]["id"]);
        // A decided call is in the log within 50 ms; the revoke may have overtaken it.
        let recorded = || broker.run(&["audit", "list", "--kind", "invoked"]).ok()["events"].as_array().unwrap().len();
        assert!((0..50).any(|_| recorded() == 2), "two calls were decided");
        Self { broker, planner, task, root, child, other, token, invocations, revocation }
    }

    fn list(&self, filter: &[&str]) -> Vec<Value> {
        let answer = self.broker.run(&[&["audit", "list"], filter].concat()).ok();
        answer["events"].as_array().unwrap().clone()
    }

    fn why(&self, id: &str) -> Value {
        let why = self.broker.run(&["why", id]).ok();
        assert_eq!(why["id"], id);
        why
    }
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["kind"].as_str().unwrap()).collect()
}

fn seqs(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["seq"].as_u64().unwrap()).collect()
}

#[test]
fn the_log_is_read_by_what_it_is_about() {
    let story = Story::tell();
    let all = story.list(&[]);
    assert_eq!(seqs(&all), (1..=all.len() as u64).collect::<Vec<_>>());

    // Each filter takes exactly the events that say so of themselves, and some but not all of them.
    for (flag, field, value) in [
        ("--grant", "grant", story.child.as_str()),
        ("--tree", "tree", &story.root),
        ("--agent", "agent", "coder"),
        ("--kind", "kind", "grant_issued"),
        ("--actor", "actor", "agent:planner"),
    ] {
        let expected: Vec<Value> = all.iter().filter(|event| event[field] == value).cloned().collect();
        assert!(!expected.is_empty() && expected.len() < all.len(), "{flag}");
        assert_eq!(story.list(&[flag, value]), expected, "{flag}");
    }
    let mut child = story.list(&["--grant", &story.child]);
    child.sort_by_key(|event| text(&event["kind"]));
    assert_eq!(kinds(&child), ["grant_issued", "invoked", "invoked", "token_issued"]);
    let tree = story.list(&["--tree", &story.root]);
    assert_eq!(tree.len(), 6, "two grants, a token, two calls, a cut: {:?}", kinds(&tree));
    let both = story.list(&["--tree", &story.root, "--kind", "revoked"]);
    assert_eq!(both[0]["detail"]["reason"], "the review is over");
    assert_eq!((both.len(), &both[0]["actor"]), (1, &"agent:planner".into()));

    // From a moment on, that moment included.
    let since = text(&both[0]["at"]);
    let later: Vec<Value> = all.iter().filter(|event| text(&event["at"]) >= since).cloned().collect();
    assert!(later.len() < all.len());
    assert_eq!(story.list(&["--since", &since]), later);

    // A page at a time, each from where the last one ended: every event once.
    let (mut after, mut paged) = (0, Vec::new());
    loop {
        let place = after.to_string();
        let page = story.broker.run(&["audit", "list", "--limit", "4", "--after", &place]).ok();
        assert!(page["events"].as_array().unwrap().len() <= 4);
        paged.extend(page["events"].as_array().unwrap().clone());
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(paged, all);

    let shown = story.broker.run(&["audit", "show", "3"]).ok();
    assert_eq!(shown["events"][0], all[2]);
    for nothing in ["0", "999999"] {
        story.broker.run(&["audit", "show", nothing]).err(5);
    }
    story.broker.run(&["audit", "list", "--since", "yesterday"]).err(2);
    story.broker.run(&["audit", "list", "--grant", "grt_x"]).err(2);
    story.broker.run_as(&story.planner, &["audit", "list"]).err(3);
    assert!(story.list(&["--agent", "nobody"]).is_empty());
}

#[test]
fn whatever_has_an_id_has_a_provenance() {
    let story = Story::tell();
    let links = |why: &Value| -> Vec<String> {
        why["chain"].as_array().unwrap().iter().map(|link| text(&link["id"])).collect()
    };
    let whole = [story.root.clone(), story.child.clone()];
    for (id, kind) in [(&story.child, "grant"), (&story.token, "token")] {
        let why = story.why(id);
        assert_eq!((&why["kind"], links(&why)), (&kind.into(), whole.to_vec()));
        assert_eq!((&why["purpose"], &why["agent"]), (&"review pull request 42".into(), &"coder".into()));
        assert_eq!(why["state"], "revoked");
        let events = why["events"].as_array().unwrap();
        for kind in ["agent_registered", "task_started", "grant_issued", "revoked"] {
            assert!(kinds(events).contains(&kind), "{id}: {kind} is not in {:?}", kinds(events));
        }
        assert!(seqs(events).is_sorted());
        let named: Vec<String> = events.iter().filter_map(|event| event["grant"].as_str().map(str::to_owned)).collect();
        assert!(!named.contains(&story.other), "the grant beside it is not in its story");
    }
    for (id, decision) in story.invocations.iter().zip([true, false]) {
        let why = story.why(id);
        assert_eq!((&why["kind"], links(&why)), (&"invocation".into(), whole.to_vec()));
        let events = why["events"].as_array().unwrap();
        let own: Vec<&Value> = events.iter().filter(|event| event["kind"] == "invoked").collect();
        assert_eq!((own.len(), &own[0]["detail"]["id"]), (1, &id.as_str().into()));
        assert_eq!(own[0]["detail"]["allowed"], decision);
    }
    let why = story.why(&story.revocation);
    assert_eq!((&why["kind"], links(&why)), (&"revocation".into(), vec![story.root.clone()]));
    let why = story.why(&story.task);
    assert_eq!((&why["kind"], &why["agent"]), (&"task".into(), &"planner".into()));
    assert_eq!(kinds(why["events"].as_array().unwrap())[0], "task_started");

    // Unknown, of another kind, or not an id: each is told apart, and none is a story.
    let unknown = story.child.replace("grt_", "tok_");
    story.broker.run(&["why", &unknown]).err(5);
    story.broker.run(&["why", "planner"]).err(2);
}
