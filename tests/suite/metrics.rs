//! What a broker shows of itself, and that the board, the alerts and the documentation speak of nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Output};

use belay::measure::{Kind, METRICS, Metric};
use serde_json::{Value, json};

use crate::support::calls::Acting;
use crate::support::front::Front;
use crate::support::http::request;
use crate::support::needs;
use crate::support::process::Broker;

fn file(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// A sample: the family that it belongs to, its labels, its value.
type Sample<'a> = (&'static Metric, BTreeMap<&'a str, &'a str>, f64);

/// What the page says, line by line; every line belongs to a metric of the table.
fn samples(page: &str) -> Vec<Sample<'_>> {
    let lines = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.trim_end_matches('}').split(',').filter(|pair| !pair.is_empty());
            let labels =
                labels.map(|pair| pair.split_once('=').unwrap()).map(|(name, value)| (name, value.trim_matches('"')));
            (
                metric(name).unwrap_or_else(|| panic!("{name} is not in the table")),
                labels.collect(),
                value.parse().unwrap(),
            )
        })
        .collect()
}

/// The metric that a series is of.
fn metric(series: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| match metric.kind {
        Kind::Histogram(_) => {
            series.strip_prefix(metric.name).is_some_and(|part| ["_bucket", "_sum", "_count"].contains(&part))
        }
        _ => series == metric.name,
    })
}

fn value(page: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let line = page.lines().find(|line| {
        let rest = line.strip_prefix(name).and_then(|rest| rest.chars().next());
        matches!(rest, Some(' ' | '{'))
            && labels.iter().all(|(name, value)| line.contains(&format!("{name}=\"{value}\"")))
    });
    line.unwrap_or_else(|| panic!("no {name} {labels:?} in {page}")).rsplit_once(' ').unwrap().1.parse().unwrap()
}

/// A broker on which a little of everything has happened, and the ids that must not show.
async fn busy() -> (Broker, Vec<String>) {
    let broker = Broker::start();
    let ana = Acting::with(&broker, &broker.enroll_agent("ana-of-the-names").await).await;
    let (grant, id, token) = ana.granted().await;
    assert_eq!(ana.decided(&token).await, "in_scope");
    let operator = broker.run(&["authorize", "--token", &token, "--tool", "db", "--action", "drop", "--resource", "x"]);
    assert_eq!(operator.code, 3, "{operator:?}");
    broker.run_as(&broker.home.join("ana-of-the-names"), &["agent", "list"]).err(3);
    ana.revoke(&grant).await.unwrap();
    assert_eq!(ana.decided(&token).await, "grant_revoked");
    (broker, vec![grant, id, "ana-of-the-names".to_owned(), "testing".to_owned(), "belay.dev".to_owned()])
}

#[tokio::test]
async fn every_metric_of_the_table_is_shown_and_no_other_and_none_names_anybody() {
    let (broker, names) = busy().await;
    let (status, headers, page) = broker.page("/metrics").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(headers.contains("content-type: text/plain; version=0.0.4"), "{headers}");
    let shown = samples(&page);
    for metric in METRICS {
        let of: Vec<_> = shown.iter().filter(|(shown, ..)| shown.name == metric.name).collect();
        assert!(!of.is_empty(), "{} is not shown", metric.name);
        for (_, labels, _) in of {
            let labels: BTreeSet<_> = labels.keys().copied().filter(|label| *label != "le").collect();
            assert_eq!(labels, metric.labels.iter().copied().collect(), "{}", metric.name);
        }
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        for line in [format!("# HELP {} {}\n", metric.name, metric.help), format!("# TYPE {} {kind}\n", metric.name)] {
            assert!(page.contains(&line), "no {line}");
        }
    }
    for name in names {
        assert!(!page.contains(&name), "the page names {name}");
    }
}

#[test]
fn names_say_what_is_measured_and_in_which_unit() {
    for Metric { name, kind, help, .. } in METRICS {
        assert!(name.starts_with("belay_") || name.starts_with("process_"), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
        assert!(help.ends_with('.') && !help.contains('\n'), "{name}: {help}");
        for other in ["_ms", "_millis", "_kb", "_mb", "_minutes", "_percent"] {
            assert!(!name.contains(other), "{name} is not in a base unit");
        }
    }
}

#[tokio::test]
async fn what_happened_is_counted() {
    let (broker, _) = busy().await;
    let (_, _, page) = broker.page("/metrics").await;
    let counted = [
        ("belay_decisions_total", &[("decision", "allow"), ("reason", "in_scope")][..], 1.0),
        ("belay_decisions_total", &[("decision", "deny"), ("reason", "out_of_scope")], 1.0),
        ("belay_decisions_total", &[("decision", "deny"), ("reason", "grant_revoked")], 1.0),
        ("belay_decision_seconds_count", &[], 3.0),
        ("belay_revocations_total", &[("target", "grant")], 1.0),
        ("belay_revoke_seconds_count", &[], 1.0),
        ("belay_cut_total", &[("kind", "grant")], 1.0),
        ("belay_cut_total", &[("kind", "token")], 1.0),
        ("belay_issued_total", &[("kind", "grant")], 1.0),
        ("belay_live", &[("kind", "grant")], 0.0),
        ("belay_live", &[("kind", "agent")], 1.0),
        ("belay_access_refused_total", &[("reason", "operators_only")], 1.0),
        ("belay_rpcs_total", &[("rpc", "belay.v1.Agents/List"), ("code", "PERMISSION_DENIED")], 1.0),
        ("belay_rpcs_total", &[("rpc", "belay.v1.Decisions/Authorize"), ("code", "OK")], 3.0),
        ("belay_rpcs_running", &[], 0.0),
        ("belay_ready", &[], 1.0),
        ("belay_panics_total", &[("thread", "sequencer")], 0.0),
        ("belay_queue_limit", &[("lane", "urgent")], 4096.0),
    ];
    for (name, labels, expected) in counted {
        assert!(
            (value(&page, name, labels) - expected).abs() < f64::EPSILON,
            "{name} {labels:?} is not {expected}: {page}"
        );
    }
    let handshakes = value(&page, "belay_tls_handshakes_total", &[("listener", "grpc"), ("outcome", "ok")]);
    assert!(handshakes >= 4.0, "{handshakes}");
}

#[tokio::test]
async fn a_page_that_decides_is_counted_like_a_call() {
    let front = Front::usual().await;
    let (bearer, certificate) = (front.bearer(), front.certificate());
    let ask = async |uri: &str, more: &[(&str, &str)]| {
        let usual = [
            ("x-original-method", "GET"),
            ("x-original-uri", uri),
            ("x-original-host", "orders.example"),
            ("authorization", bearer.as_str()),
            ("x-client-cert", certificate.as_str()),
        ];
        let text = request("GET /v1/authorize", &[&usual[..], more].concat(), "");
        front.page(Some(&front.pep), &text).await.status
    };
    // Allowed, denied, and not decided at all: the proxy is told by 200 and 403, which say two things of three.
    assert_eq!(ask("/orders/7", &[]).await, 200);
    assert_eq!(ask("/customers/7", &[]).await, 403);
    assert_eq!(ask("/orders/7", &[("x-forwarded-host", "else.example")]).await, 403);
    let nobody = request("GET /v1/authorize", &[], "");
    assert_eq!(front.page(None, &nobody).await.status, 403);
    let json = [("content-type", "application/json")];
    let body = json!({
        "subject": { "type": "agent", "id": "", "properties": { "token": front.token } },
        "action": { "name": "read" },
        "resource": { "type": "orders", "id": "orders/7" },
    });
    for (page, body, status) in [
        ("evaluation", body.to_string(), 200),
        ("evaluation", "{}".to_owned(), 400),
        ("evaluations", "[]".to_owned(), 400),
        ("elsewhere", "{}".to_owned(), 404),
    ] {
        let text = request(&format!("POST /access/v1/{page}"), &json, &body);
        assert_eq!(front.page(Some(&front.pep), &text).await.status, status, "{page} {body}");
    }
    let (_, _, page) = front.broker.page("/metrics").await;
    for (rpc, code, expected) in [
        ("v1/authorize", "OK", 2.0),
        ("v1/authorize", "INVALID_ARGUMENT", 1.0),
        ("v1/authorize", "UNAUTHENTICATED", 1.0),
        ("access/v1/evaluation", "OK", 1.0),
        ("access/v1/evaluation", "INVALID_ARGUMENT", 1.0),
        ("access/v1/evaluations", "INVALID_ARGUMENT", 1.0),
    ] {
        let counted = value(&page, "belay_rpcs_total", &[("rpc", rpc), ("code", code)]);
        assert!((counted - expected).abs() < f64::EPSILON, "{rpc} {code} is {counted}: {page}");
    }
    for (rpc, expected) in [("v1/authorize", 4.0), ("access/v1/evaluation", 2.0), ("access/v1/evaluations", 1.0)] {
        let counted = value(&page, "belay_rpc_seconds_count", &[("rpc", rpc)]);
        assert!((counted - expected).abs() < f64::EPSILON, "{rpc} is {counted}: {page}");
    }
    assert!(!page.contains("elsewhere"), "a label is of the table, never of the request");
}

#[tokio::test]
async fn a_failed_handshake_is_counted() {
    let broker = Broker::start();
    // The client of one broker does not believe another.
    let stranger = Broker::start();
    stranger.channel_as(&broker.home.join("operator")).await.map(drop).unwrap_err();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let (_, _, page) = stranger.page("/metrics").await;
        if value(&page, "belay_tls_handshakes_total", &[("listener", "grpc"), ("outcome", "failed")]) >= 1.0 {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{page}");
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn who_scrapes_at_once_shares_one_reading() {
    let broker = std::sync::Arc::new(Broker::start());
    let scrapes: Vec<_> = (0..24)
        .map(|_| {
            let broker = std::sync::Arc::clone(&broker);
            tokio::spawn(async move { broker.page("/metrics").await.2 })
        })
        .collect();
    let mut pages = BTreeSet::new();
    for scrape in scrapes {
        pages.insert(scrape.await.unwrap());
    }
    // Each reading lasts for a second.
    assert!(pages.len() < 8, "{} readings", pages.len());
}

/// The names of metrics in an expression.
fn asked(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("belay_") || word.starts_with("process_")).collect()
}

/// Every expression of the board, with its variables filled in.
fn board() -> Vec<String> {
    let board: Value = serde_json::from_str(&file("deploy/grafana/belay.json")).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "two panels share an id");
    let variables: Vec<_> = board["templating"]["list"].as_array().unwrap().iter().map(|v| &v["name"]).collect();
    assert_eq!(variables, ["datasource", "instance"]);
    let mut expressions = Vec::new();
    for target in panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten() {
        assert_eq!(target["datasource"]["uid"], "${datasource}", "{target}");
        let expression = target["expr"].as_str().unwrap();
        expressions.push(expression.replace("$__rate_interval", "5m").replace("$instance", ".*"));
    }
    assert!(expressions.len() > 30, "this test has gone blind");
    expressions
}

/// The names of the alerts.
fn alerts() -> Vec<String> {
    let rules = file("deploy/prometheus/alerts.yaml");
    rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_owned).collect()
}

#[test]
fn the_board_and_the_alerts_ask_only_for_what_is_measured() {
    let rules = file("deploy/prometheus/alerts.yaml");
    let board = board();
    let mut seen = BTreeSet::new();
    for expression in board.iter().map(String::as_str).chain([rules.as_str()]) {
        for name in asked(expression) {
            seen.insert(
                metric(name).unwrap_or_else(|| panic!("nothing measures {name}, asked for in {expression}")).name,
            );
        }
    }
    let unseen: Vec<_> = METRICS.iter().map(|metric| metric.name).filter(|name| !seen.contains(name)).collect();
    assert!(unseen.is_empty(), "measured, and shown nowhere: {unseen:?}");
}

#[test]
fn the_operations_page_explains_every_metric_and_every_alert() {
    let page = file("docs/OPERATIONS.md");
    for Metric { name, help, labels, .. } in METRICS {
        let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(" ");
        let row = format!("| `{name}` | {labels} | {help} |");
        assert!(page.contains(&row), "docs/OPERATIONS.md lacks the row\n{row}");
    }
    let (alerts, tested) = (alerts(), file("deploy/prometheus/alerts_test.yaml"));
    assert!(alerts.len() >= 10, "{alerts:?}");
    for alert in alerts {
        assert!(page.contains(&format!("| `{alert}` |")), "docs/OPERATIONS.md does not say what to do about {alert}");
        assert!(tested.contains(&format!("\"{alert}\"")), "no test fires {alert}");
    }
}

fn promtool(arguments: &[&str]) -> Option<Output> {
    let directory = format!("{}/deploy/prometheus", env!("CARGO_MANIFEST_DIR"));
    Command::new("promtool").args(arguments).current_dir(directory).output().ok()
}

#[test]
fn every_expression_parses_and_every_alert_fires_when_it_should() {
    let found = promtool(&["--version"]).is_some();
    if !needs("every_expression_parses_and_every_alert_fires_when_it_should", "promtool", found) {
        return;
    }
    let mut rules = "groups:\n  - name: board\n    rules:\n".to_owned();
    for (nth, expression) in board().iter().enumerate() {
        rules += &format!("      - {{record: 'board:{nth}', expr: '{expression}'}}\n");
    }
    let directory = tempfile::tempdir().unwrap();
    let expressions = directory.path().join("board.yaml");
    std::fs::write(&expressions, rules).unwrap();
    for arguments in [
        &["check", "rules", "alerts.yaml"][..],
        &["check", "rules", expressions.to_str().unwrap()],
        &["check", "config", "--syntax-only", "prometheus.yml"],
        &["test", "rules", "alerts_test.yaml"],
    ] {
        let output = promtool(arguments).unwrap();
        assert!(output.status.success(), "promtool {arguments:?}: {output:?}");
    }
}
