//! `belay catalog` on the real binary: what changes is shown first, and applied whole or not at all.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use belay::domain::digest::Digest;
use belay::wire::v1::catalogs_client::CatalogsClient;
use belay::wire::v1::{ApplyCatalogRequest, ShowCatalogRequest};
use serde_json::{Value, json};
use tonic::Code;

use crate::support::process::Broker;

pub const CATALOG: &str = r#"
[[tool]]
name = "github"
owner = "team-dev"
[[tool.action]]
name = "issues.*"
risk = "read"
[[tool.action]]
name = "workflows.write"
risk = "write"

[[tool]]
name = "aws"
owner = "team-ops"
[[tool.action]]
name = "assume"
risk = "admin"

[[resource]]
path = "github:repo/acme/web"
sensitivity = "internal"
[[resource]]
path = "aws:role/deploy-prod"
sensitivity = "restricted"

[[edge]]
from = "github:workflows.write@repo/acme/web"
to = "aws:role/deploy-prod"
"#;

fn file(broker: &Broker, text: &str) -> PathBuf {
    let path = broker.home.join("catalog.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn apply(broker: &Broker, text: &str) -> Value {
    broker.run(&["catalog", "apply", file(broker, text).to_str().unwrap()]).ok()
}

fn shown(broker: &Broker) -> Value {
    broker.run(&["catalog", "show"]).ok()["catalog"].clone()
}

#[test]
fn a_catalog_is_shown_as_a_difference_and_applied_once() {
    let broker = Broker::start();
    assert_eq!(shown(&broker)["version"], 0);
    let path = file(&broker, CATALOG);
    let would = broker.run(&["catalog", "apply", path.to_str().unwrap(), "--dry-run"]).ok();
    assert_eq!((&would["dry_run"], &would["over"], &would["catalog"]["version"]), (&json!(true), &json!(0), &json!(1)));
    let changes = would["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 8, "{would}");
    assert!(changes.contains(&json!("added resource aws:role/deploy-prod: restricted")), "{would}");
    assert_eq!(shown(&broker)["version"], 0, "a dry run changes nothing");

    let digest = Digest::of(CATALOG.as_bytes()).to_string();
    let applied = apply(&broker, CATALOG);
    let expected = json!({ "version": 1, "digest": digest, "tools": 2, "resources": 2, "edges": 1, "routes": 0 });
    assert_eq!(applied["catalog"], expected);
    let catalog = shown(&broker);
    assert_eq!(catalog["text"], CATALOG);
    assert_eq!(apply(&broker, CATALOG)["catalog"]["version"], 1, "the same bytes are no new version");

    let changed = apply(&broker, &CATALOG.replace("\"internal\"", "\"confidential\""));
    assert_eq!(changed["changes"], json!(["changed resource github:repo/acme/web: internal -> confidential"]));
    assert_eq!((&changed["over"], &changed["catalog"]["version"]), (&json!(1), &json!(2)));
    let events = broker.run(&["audit", "list", "--kind", "catalog_applied"]).ok();
    assert_eq!(events["events"].as_array().unwrap().len(), 2);
    assert_eq!(events["events"][0]["detail"], json!({ "version": 1, "digest": digest }));
    assert_eq!(events["events"][0]["actor"], "operator:dev");

    let people = |arguments: &[&str]| broker.run(&[arguments, &["-o", "table"]].concat());
    let again = people(&["catalog", "apply", path.to_str().unwrap()]);
    assert!(again.stderr.contains("nothing changes against version 2"), "{again:?}");
    let text = people(&["catalog", "show", "--text"]);
    assert_eq!(text.stdout, CATALOG.replace("\"internal\"", "\"confidential\""));
}

#[test]
fn routes_are_shown_as_a_difference_and_counted() {
    let broker = Broker::start();
    let route = "[[route]]\nhost = \"api.github.com\"\nmethod = \"GET\"\npath = \"/repos/{owner}/{repo}/issues\"\n\
                 call = \"github:issues.read@repo/{owner}/{repo}\"\n";
    apply(&broker, CATALOG);
    let applied = apply(&broker, &format!("{CATALOG}{route}"));
    let line = "route GET api.github.com/repos/{owner}/{repo}/issues: github:issues.read@repo/{owner}/{repo}";
    assert_eq!((&applied["changes"], &applied["catalog"]["routes"]), (&json!([format!("added {line}")]), &json!(1)));
    assert_eq!(shown(&broker)["routes"], 1);
    let table = broker.run(&["catalog", "show", "-o", "table"]).stdout;
    assert!(table.lines().any(|line| line.starts_with("routes") && line.ends_with('1')), "{table}");
    let path = file(&broker, &format!("{CATALOG}{}", route.replace("issues.read", "mcp.ping")));
    let error = broker.run(&["catalog", "apply", path.to_str().unwrap()]).err(2);
    assert!(error["message"].as_str().unwrap().contains("mcp.ping"), "{error}");
    assert_eq!(apply(&broker, CATALOG)["changes"], json!([format!("removed {line}")]));
}

#[test]
fn a_catalog_with_an_error_changes_nothing() {
    let broker = Broker::start();
    apply(&broker, CATALOG);
    let before = shown(&broker);
    let resource = "[[resource]]\npath = \"github:repo/acme/web\"\nsensitivity = \"public\"\n";
    let wrong = [
        ("not = [toml".to_owned(), "line 1"),
        (format!("{CATALOG}[[edge]]\nfrom = \"gitlab:x@y\"\nto = \"aws:role/deploy-prod\"\n"), "gitlab"),
        (format!("{CATALOG}[[edge]]\nfrom = \"aws:assume@role/deploy-prod\"\nto = \"gcp:role/x\"\n"), "gcp"),
        (format!("{CATALOG}{resource}"), "github:repo/acme/web"),
        (format!("{CATALOG}[[resource]]\npath = \"github:x\"\nsensitivity = \"secret\"\n"), "secret"),
        (format!("{CATALOG}[[ressource]]\npath = \"github:x\"\n"), "ressource"),
        (format!("{CATALOG}[[tool]]\nname = \"aws\"\nowner = \"x\"\n"), "aws"),
    ];
    for (text, named) in wrong {
        let error = broker.run(&["catalog", "apply", file(&broker, &text).to_str().unwrap()]).err(2);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(named) && message.lines().count() == 1, "{message}");
    }
    let large = broker.home.join("large.toml");
    std::fs::File::create(&large).unwrap().set_len(1 << 40).unwrap();
    let error = broker.run(&["catalog", "apply", large.to_str().unwrap()]).err(2);
    assert!(error["message"].as_str().unwrap().contains("at most 67108864 are read"), "{error}");
    broker.run(&["catalog", "apply", broker.home.join("absent").to_str().unwrap()]).err(2);
    assert_eq!(shown(&broker), before);
}

#[test]
fn a_cycle_of_edges_is_a_catalog() {
    let broker = Broker::start();
    let back = "[[edge]]\nfrom = \"aws:assume@role/deploy-prod\"\nto = \"github:repo/acme/web\"\n";
    assert_eq!(apply(&broker, &format!("{CATALOG}{back}"))["catalog"]["edges"], 2);
    broker.agent("coder");
    let explained = broker.run(&["policy", "explain", "--agent", "coder", "--scope", "aws:assume@role/deploy-prod"]);
    let radius = &serde_json::from_str::<Value>(&explained.stdout).unwrap()["radius"];
    assert_eq!(radius["score"], 68, "{radius}");
}

#[tokio::test]
async fn a_catalog_that_has_moved_is_looked_at_again() {
    let broker = Broker::start();
    let mut catalogs = CatalogsClient::new(broker.channel().await);
    let mut apply = async |text: &str, over: Option<u64>, dry_run: bool| {
        let request = ApplyCatalogRequest { text: text.to_owned(), dry_run, over };
        catalogs.apply(request).await.map(|answer| answer.into_inner())
    };
    let would = apply(CATALOG, None, true).await.unwrap();
    assert_eq!((would.over, would.catalog.unwrap().version), (0, 1));
    apply("", None, false).await.unwrap();
    for dry_run in [true, false] {
        let moved = apply(CATALOG, Some(would.over), dry_run).await.unwrap_err();
        assert_eq!(moved.code(), Code::AlreadyExists);
        assert!(moved.message().contains("of version 1 by now"), "{moved}");
    }
    let applied = apply(CATALOG, Some(1), false).await.unwrap();
    assert_eq!(applied.catalog.unwrap().version, 2);
    let shown = catalogs.show(ShowCatalogRequest { text: true }).await.unwrap().into_inner();
    assert_eq!((shown.version, shown.text.as_str()), (2, CATALOG));
}

#[test]
fn a_hundred_thousand_resources_are_applied() {
    let broker = Broker::start();
    let mut text = CATALOG.to_owned();
    for at in 0..100_000 {
        writeln!(text, "[[resource]]\npath = \"github:repo/acme/{at}\"\nsensitivity = \"internal\"").unwrap();
    }
    let started = Instant::now();
    let applied = apply(&broker, &text);
    let took = started.elapsed();
    println!("{} bytes of catalog: read, compared and applied within {took:?}", text.len());
    assert_eq!(applied["catalog"]["resources"], 100_002);
    let listed = applied["changes"].as_array().unwrap().len() as u64;
    assert_eq!(listed + applied["unlisted"].as_u64().unwrap(), 100_008);
    assert_eq!(shown(&broker)["text"].as_str().unwrap().len(), text.len());
    broker.agent("coder");
    let explain = ["policy", "explain", "--agent", "coder", "--scope", "github:issues.read@repo/acme/*"];
    let explained = broker.run(&explain).ok();
    assert_eq!(explained["radius"]["internal"], 100_001, "{explained}");
}
