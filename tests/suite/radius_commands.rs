//! `belay radius` on the real binary: what is reached and how, what is live, and what more would come to.

use std::path::Path;

use serde_json::{Value, json};

use crate::catalog_commands::CATALOG;
use crate::support::process::Broker;

const READ: &str = "github:issues.read@repo/acme/web";
const WRITE: &str = "github:workflows.write@repo/acme/web";

fn id(document: &Value, kind: &str) -> String {
    document[kind]["id"].as_str().unwrap().to_owned()
}

fn request(broker: &Broker, agent: &Path, task: &str, scope: &str) -> Value {
    broker.run_as(agent, &["grant", "request", "--task", task, "--scope", scope, "--token"]).ok()
}

/// A broker with a catalog and two agents, of which the first has begun a task.
fn begun() -> (Broker, std::path::PathBuf, std::path::PathBuf, String) {
    let broker = Broker::start();
    let catalog = broker.home.join("catalog.toml");
    std::fs::write(&catalog, CATALOG).unwrap();
    broker.run(&["catalog", "apply", catalog.to_str().unwrap()]).ok();
    let (planner, coder) = (broker.agent("planner"), broker.agent("coder"));
    let task = id(&broker.run_as(&planner, &["task", "start", "testing"]).ok(), "task");
    (broker, planner, coder, task)
}

#[test]
fn a_radius_is_what_is_reached_and_what_a_revoke_would_cut() {
    let (broker, planner, coder, task) = begun();
    let granted = request(&broker, &planner, &task, WRITE);
    let (grant, token) = (id(&granted, "grant"), id(&granted, "token"));
    let child = broker.run_as(&planner, &["grant", "delegate", "--parent", &grant, "--to", "coder", "--scope", WRITE]);
    let child = id(&child.ok(), "grant");
    broker.run_as(&coder, &["token", "issue", "--grant", &child]).ok();

    let radius = broker.run(&["radius", &grant]).ok();
    assert_eq!((&radius["score"], &radius["unbounded"]), (&json!(68), &json!(false)));
    let via = json!([format!("{WRITE} -> aws:role/deploy-prod")]);
    let reaches = json!([
        { "resource": "aws:role/deploy-prod", "sensitivity": "restricted", "hops": 1, "via": via },
        { "resource": "github:repo/acme/web", "sensitivity": "internal", "hops": 0, "via": [] },
    ]);
    assert_eq!(radius["reaches"], reaches);
    let cut = broker.run(&["revoke", &grant, "--reason", "testing", "--dry-run"]).ok();
    assert_eq!(radius["live"], cut["cut"]);
    assert_eq!(radius["live"], json!({ "grants": 2, "tokens": 2, "certificates": 0, "leases": 0 }));
    assert_eq!(radius["descendants"], 1);
    assert_eq!(radius["exposure_until"], granted["grant"]["expires_at"]);
    for union in ["task", "agent", "owner"] {
        assert_eq!(radius["by"][union]["score"], 68, "{union}");
    }
    assert_eq!(broker.run(&["radius", &token]).ok(), radius, "a token stands for its grant");
    for (target, grants) in [(task.as_str(), 2), ("agent:planner", 2), ("agent:coder", 1), ("owner:team", 2)] {
        let radius = broker.run(&["radius", target]).ok();
        assert_eq!((&radius["score"], &radius["live"]["grants"]), (&json!(68), &json!(grants)), "{target}");
        assert_eq!(radius["reaches"], reaches, "{target}");
        let cut = broker.run(&["revoke", target, "--reason", "testing", "--dry-run"]).ok();
        assert_eq!(radius["live"], cut["cut"], "{target}");
    }

    broker.run(&["revoke", &grant, "--reason", "testing"]).ok();
    let over = broker.run(&["radius", &grant]).ok();
    assert_eq!(
        (&over["score"], &over["live"]["grants"], &over["exposure_until"]),
        (&json!(0), &json!(0), &json!(null))
    );
    assert_eq!(over["by"]["task"]["score"], 68, "what a task was ever granted counts until it ends");
}

#[test]
fn what_more_would_come_to_is_said_before_it_is_there() {
    let (broker, planner, _, task) = begun();
    let grant = id(&request(&broker, &planner, &task, READ), "grant");
    for target in [grant.as_str(), task.as_str(), "agent:planner", "owner:team"] {
        let radius = broker.run(&["radius", target, "--if", WRITE]).ok();
        let of = |key: &str| radius[key]["score"].clone();
        assert_eq!((&radius["score"], of("adds"), of("comes_to")), (&json!(4), json!(64), json!(68)), "{target}");
        let beyond = broker.run(&["radius", target, "--if", "gitlab:x@y"]).ok();
        assert_eq!((&beyond["unbounded"], &beyond["comes_to"]["unbounded"]), (&json!(false), &json!(true)));
    }
    assert!(broker.run(&["radius", &grant]).ok().get("adds").is_none());
    broker.run(&["radius", &grant, "--if", "nonsense"]).err(2);
}

#[test]
fn an_agent_sees_the_radius_of_what_it_holds_and_of_nothing_else() {
    let (broker, planner, coder, task) = begun();
    let grant = id(&request(&broker, &planner, &task, READ), "grant");
    let child = broker.run_as(&planner, &["grant", "delegate", "--parent", &grant, "--to", "coder", "--scope", READ]);
    let child = id(&child.ok(), "grant");
    for target in [grant.as_str(), child.as_str(), task.as_str(), "agent:planner"] {
        broker.run_as(&planner, &["radius", target]).ok();
    }
    broker.run_as(&coder, &["radius", &child]).ok();
    let foreign = |target: &str| broker.run_as(&coder, &["radius", target]).err(5)["message"].clone();
    for target in [grant.as_str(), task.as_str(), "agent:planner", "owner:team", "subject:ana"] {
        assert_eq!(foreign(target), format!("no target `{target}`"));
    }
    let unknown = "grt_01m826b20gfdtagbpvxzh7napv";
    assert_eq!(foreign(unknown), format!("no target `{unknown}`"));
    broker.run(&["radius", unknown]).err(5);
    broker.run(&["radius", "owner:nobody"]).err(5);
    broker.run(&["radius", "nonsense"]).err(2);
}

#[test]
fn what_is_beyond_the_catalog_is_said_to_be() {
    let (broker, planner, _, task) = begun();
    let grant = id(&request(&broker, &planner, &task, "leftpad:publish@**"), "grant");
    let radius = broker.run(&["radius", &grant]).ok();
    assert_eq!((&radius["score"], &radius["unbounded"]), (&json!(0), &json!(true)));
    let people = broker.run(&["radius", &grant, "-o", "table"]);
    assert!(people.stdout.contains("at least: some lies beyond the catalog"), "{people:?}");
}
