//! A real Envoy before a service: what it lets through, and what of a request arrives there.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::support::envoy::{Configuration, Envoy, NEEDED, envoy, sample, typed};
use crate::support::front::{CATALOG, Front, USUAL};
use crate::support::http::{self, Reply, Service, request};
use crate::support::process::Broker;
use crate::support::{compile, needs, there, within};

/// The filter as it is to be configured; see `docs/ENFORCEMENT.md`.
fn filter(changes: &Value) -> Value {
    let mut filter = json!({
        "@type": typed("envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"),
        "transport_api_version": "V3",
        "failure_mode_allow": false,
        "include_peer_certificate": true,
        "with_request_body": { "max_request_bytes": 65536, "allow_partial_message": false, "pack_as_bytes": true },
        "grpc_service": { "envoy_grpc": { "cluster_name": "belay" }, "timeout": "0.5s" },
    });
    for (name, value) in changes.as_object().unwrap() {
        filter[name] = value.clone();
    }
    json!({ "name": "belay", "typed_config": filter })
}

fn cluster(name: &str, port: u16, more: Value) -> Value {
    let address = json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }] },
    });
    for (name, value) in more.as_object().unwrap() {
        cluster[name] = value.clone();
    }
    cluster
}

struct Scene {
    front: Front,
    service: Service,
    envoy: Envoy,
}

impl Scene {
    /// With these changes of the filter. None if there is no Envoy.
    async fn new(test: &str, front: impl Future<Output = Front>, changes: Value) -> Option<Self> {
        let program = envoy();
        if !needs(test, NEEDED, program.is_some()) {
            return None;
        }
        let (front, service) = (front.await, Service::start().await);
        let envoy = start(&program?, &front, &service, &changes).await;
        let scene = Self { front, service, envoy };
        // Envoy connects when it is first asked.
        within("the first request", async || match scene.get("/orders/7").await {
            reply if reply.status == 200 => Ok(()),
            reply => Err(format!("{reply:?}")),
        })
        .await;
        scene.service.arrived();
        Some(scene)
    }

    async fn send(&self, bytes: &str) -> Reply {
        let config = self.front.client(&self.envoy.own);
        http::exchange(self.envoy.port, config, bytes).await.unwrap()
    }

    async fn get(&self, path: &str) -> Reply {
        let bearer = self.front.bearer();
        let headers = [("host", "orders.example"), ("authorization", bearer.as_str())];
        self.send(&request(&format!("GET {path}"), &headers, "")).await
    }

    async fn post(&self, host: &str, path: &str, body: &str) -> Reply {
        let bearer = self.front.bearer();
        let headers = [("host", host), ("authorization", bearer.as_str()), ("content-type", "application/json")];
        self.send(&request(&format!("POST {path}"), &headers, body)).await
    }

    /// Holds if this was denied so, and nothing of it went on.
    fn denied(&self, reply: &Reply, status: u16, code: &str) {
        assert_eq!(reply.status, status, "{reply:?}");
        assert_eq!(reply.code(), code, "{reply:?}");
        assert!(self.service.arrived().is_empty(), "{code}: it went on");
    }
}

async fn start(program: &Path, front: &Front, service: &Service, changes: &Value) -> Envoy {
    let file = |name: &str| json!({ "filename": front.pep.join(name) });
    let port = front.broker.addr.rsplit(':').next().unwrap().parse().unwrap();
    let tls = json!({
        "@type": typed("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
        "common_tls_context": {
            "tls_certificates": [{ "certificate_chain": file("cert.pem"), "private_key": file("key.pem") }],
            "validation_context": {
                "trusted_ca": file("ca.pem"),
                "match_typed_subject_alt_names": [{ "san_type": "IP_ADDRESS", "matcher": { "exact": "127.0.0.1" } }],
            },
        },
    });
    let http2 = json!({
        "transport_socket": { "name": "envoy.transport_sockets.tls", "typed_config": tls },
        "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": typed("envoy.extensions.upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": { "http2_protocol_options": {} },
        }},
    });
    Envoy::start(program, |_| Configuration {
        clients: json!({ "common_tls_context": { "validation_context": { "trusted_ca": file("ca.pem") } } }),
        http_filters: vec![filter(changes)],
        action: ("route", json!({ "cluster": "service" })),
        clusters: vec![cluster("service", service.port, json!({})), cluster("belay", port, http2)],
    })
    .await
}

#[tokio::test]
async fn envoy_lets_through_what_the_grant_allows_and_nothing_else() {
    let test = "envoy_lets_through_what_the_grant_allows_and_nothing_else";
    let Some(scene) = Scene::new(test, Front::usual(), json!({})).await else { return };
    let allowed = scene.get("/orders/7").await;
    assert_eq!((allowed.status, allowed.body.as_str()), (200, "done\n"), "{allowed:?}");
    assert_eq!(scene.service.arrived()[0].uri.path(), "/orders/7");
    let refunded = scene.post("orders.example", "/orders/7/refund", r#"{"amount":98.70}"#).await;
    assert_eq!(refunded.status, 200, "{refunded:?}");
    assert_eq!(&scene.service.arrived()[0].body[..], br#"{"amount":98.70}"#);

    let refused = scene.post("orders.example", "/orders/7/refund", r#"{"amount":100.01}"#).await;
    scene.denied(&refused, 403, "out_of_scope");
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("amount"), "{refused:?}");
    assert!(refused.json()["error"]["invocation"].as_str().unwrap().starts_with("inv_"), "{refused:?}");
    scene.denied(&scene.post("orders.example", "/orders/7/close", "").await, 403, "out_of_scope");
    scene.denied(&scene.get("/customers/7").await, 403, "route_unknown");
    scene.denied(&scene.get("/orders/%2e%2e").await, 403, "route_malformed");
    scene.denied(&scene.post("orders.example", "/orders/7/refund", r#"{"amount":1"#).await, 403, "body_malformed");
    let twice = r#"{"amount":1,"amount":1000}"#;
    scene.denied(&scene.post("orders.example", "/orders/7/refund", twice).await, 403, "body_malformed");
    let bearer = scene.front.bearer();
    for (name, value) in [
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-type", "application/json; charset=utf-7"),
        ("content-encoding", "gzip"),
    ] {
        let headers = [("host", "orders.example"), ("authorization", bearer.as_str()), (name, value)];
        let other = scene.send(&request("POST /orders/7/refund", &headers, r#"{"amount":1}"#)).await;
        scene.denied(&other, 403, "body_malformed");
    }

    // An MCP server over HTTP: the tool is in the body.
    let call = |tool: &str| json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": tool } });
    assert_eq!(scene.post("mcp.example", "/mcp", &call("read").to_string()).await.status, 200);
    assert_eq!(scene.service.arrived().len(), 1);
    scene.denied(&scene.post("mcp.example", "/mcp", &call("write").to_string()).await, 403, "out_of_scope");
    let batch = json!([call("read"), call("write")]).to_string();
    scene.denied(&scene.post("mcp.example", "/mcp", &batch).await, 403, "body_malformed");
    let headers = [
        ("host", "mcp.example"),
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "write"),
    ];
    let other = scene.send(&request("POST /mcp", &headers, &call("read").to_string())).await;
    scene.denied(&other, 403, "mcp_mismatch");
}

#[tokio::test]
async fn envoy_passes_on_who_calls_and_nothing_that_the_client_proved_itself_by() {
    let test = "envoy_passes_on_who_calls_and_nothing_that_the_client_proved_itself_by";
    let Some(scene) = Scene::new(test, Front::usual(), json!({})).await else { return };
    let bearer = scene.front.bearer();
    let forged = [
        ("host", "orders.example"),
        ("authorization", bearer.as_str()),
        ("dpop", "a.b.c"),
        ("x-belay-agent", "root"),
        ("X-Belay-Agent", "admin"),
        ("x-belay-chain", "root"),
        ("x-belay-role", "admin"),
        ("X_Belay_Agent", "root"),
        ("x-kept", "yes"),
    ];
    let reply = scene.send(&request("GET /orders/7", &forged, "")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let arrived = scene.service.arrived().remove(0).headers;
    let all = |name: &str| arrived.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(all("x-belay-agent"), ["ana"]);
    assert_eq!(all("x-belay-chain"), ["ana"]);
    assert_eq!(all("x-belay-grant"), [scene.front.grant.as_str()]);
    assert_eq!(all("x-kept"), ["yes"]);
    assert!(all("x-belay-invocation")[0].starts_with("inv_"), "{arrived:?}");
    for gone in ["authorization", "dpop", "x-belay-role", "x_belay_agent", "x-belay-ticket"] {
        assert!(all(gone).is_empty(), "{gone}: {arrived:?}");
    }
    assert!(!format!("{arrived:?}").contains(&scene.front.token), "{arrived:?}");
}

/// Nothing that the agent has opens the service: the secret is the broker's, and goes with what was allowed.
#[tokio::test]
async fn envoy_puts_in_the_secret_of_a_service_and_none_without_a_ticket_where_one_is_asked_for() {
    let test = "envoy_puts_in_the_secret_of_a_service_and_none_without_a_ticket_where_one_is_asked_for";
    let Some(scene) = Scene::new(test, Front::usual(), json!({})).await else { return };
    let (broker, home) = (&scene.front.broker, &scene.front.broker.home);
    let at = |name: &str, text: &str| {
        std::fs::write(home.join(name), text).unwrap();
        format!("{}", home.join(name).display())
    };
    let value = format!("@{}", at("orders.secret", "hunter2"));
    let host = ["--tool", "orders", "--host", "orders.example", "--header", "authorization", "--prefix", "Bearer "];
    broker.run(&[&["upstream", "add", "orders"], &host[..], &["--value", &value]].concat()).ok();
    let secrets = || {
        let arrived = scene.service.arrived();
        let values = arrived.iter().flat_map(|one| one.headers.get_all("authorization"));
        values.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((scene.get("/orders/7").await.status, secrets()), (200, vec!["Bearer hunter2".to_owned()]));
    scene.denied(&scene.get("/customers/7").await, 403, "route_unknown");

    let catalog = CATALOG.replacen("owner = \"team\"", "owner = \"team\"\nticket = true", 1);
    broker.run(&["catalog", "apply", &at("ticketed.toml", &catalog), "--yes"]).ok();
    scene.denied(&scene.get("/orders/7").await, 403, "ticket_required");
    let token = format!("@{}", at("ana.token", &scene.front.token));
    let call = ["--tool", "orders", "--action", "read", "--resource", "orders/7"];
    let more = ["--destination", "https://orders.example", "--ticket", "--token", &token];
    let allowed = broker.run_as(&scene.front.agent, &[&["authorize"], &call[..], &more[..]].concat()).ok();
    let (bearer, ticket) = (scene.front.bearer(), allowed["ticket"].as_str().unwrap());
    let with = async |path: &str| {
        let headers = [("host", "orders.example"), ("authorization", bearer.as_str()), ("x-belay-ticket", ticket)];
        scene.send(&request(&format!("GET {path}"), &headers, "")).await
    };
    scene.denied(&with("/orders/8").await, 403, "ticket_other_call");
    assert_eq!((with("/orders/7").await.status, secrets()), (200, vec!["Bearer hunter2".to_owned()]));
    scene.denied(&with("/orders/7").await, 403, "ticket_spent");
    broker.run(&["upstream", "remove", "orders"]).ok();
    assert_eq!((scene.get("/orders/7").await.status, secrets()), (200, Vec::new()));
}

#[tokio::test]
async fn envoy_is_told_what_is_wrong_with_a_credential() {
    let test = "envoy_is_told_what_is_wrong_with_a_credential";
    let Some(scene) = Scene::new(test, Front::usual(), json!({})).await else { return };
    let with = async |values: &[&str]| {
        let mut headers = vec![("host", "orders.example")];
        headers.extend(values.iter().map(|value| ("authorization", *value)));
        scene.send(&request("GET /orders/7", &headers, "")).await
    };
    let (bearer, token) = (scene.front.bearer(), scene.front.token.clone());
    let none = with(&[]).await;
    scene.denied(&none, 401, "no_credential");
    assert!(none.header("www-authenticate").is_some_and(|value| value.starts_with("bearer")), "{none:?}");
    scene.denied(&with(&[&bearer, &bearer]).await, 401, "credential_malformed");
    scene.denied(&with(&["Basic YTpi"]).await, 401, "credential_malformed");
    scene.denied(&with(&[&format!("DPoP {token}")]).await, 401, "credential_malformed");
    let damaged = with(&[&format!("Bearer {token}x")]).await;
    assert_eq!(damaged.status, 401, "{damaged:?}");

    // The token is bound to the agent's certificate: in another's hands it is worth nothing.
    let bob = scene.front.broker.enroll_agent("bob").await;
    for identity in [Some(bob.as_path()), None] {
        let config = http::client(std::slice::from_ref(&scene.envoy.own), identity);
        let headers = [("host", "orders.example"), ("authorization", bearer.as_str())];
        let stolen = http::exchange(scene.envoy.port, config, &request("GET /orders/7", &headers, "")).await.unwrap();
        scene.denied(&stolen, 401, "possession");
    }

    scene.front.broker.run(&["revoke", &scene.front.grant, "--reason", "testing"]).ok();
    let cut = scene.get("/orders/7").await;
    assert!(matches!(cut.status, 401 | 403) && cut.code().contains("revoked"), "{cut:?}");
    assert!(scene.service.arrived().is_empty());
}

#[tokio::test]
async fn a_body_that_envoy_cut_off_is_never_decided_upon() {
    let test = "a_body_that_envoy_cut_off_is_never_decided_upon";
    let limits = json!({ "with_request_body": { "max_request_bytes": 64, "allow_partial_message": true } });
    let Some(scene) = Scene::new(test, Front::usual(), limits).await else { return };
    let whole = scene.post("orders.example", "/orders/7/refund", r#"{"amount":1}"#).await;
    assert_eq!(whole.status, 200, "{whole:?}");
    assert_eq!(scene.service.arrived().len(), 1);
    let long = format!(r#"{{"amount":1}}{}"#, " ".repeat(100));
    scene.denied(&scene.post("orders.example", "/orders/7/refund", &long).await, 403, "body_truncated");

    // What fills the buffer exactly is a whole JSON text, and Envoy says that there is no more: it has not looked.
    let first = format!(r#"{{"amount":1}}{}"#, " ".repeat(64 - 12));
    let bearer = scene.front.bearer();
    let mut stream = http::connect(scene.envoy.port, scene.front.client(&scene.envoy.own)).await.unwrap();
    let head = format!(
        "POST /orders/7/refund HTTP/1.1\r\nhost: orders.example\r\nauthorization: {bearer}\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(format!("{head}40\r\n{first}\r\n").as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let rest = r#"{"amount":1000000}"#;
    let sent = stream.write_all(format!("{:x}\r\n{rest}\r\n0\r\n\r\n", rest.len()).as_bytes()).await;
    let reply = http::answer(&mut stream).await;
    let reply = reply.unwrap_or_else(|error| panic!("{error} {sent:?}"));
    scene.denied(&reply, 403, "body_truncated");
}

#[tokio::test]
async fn envoy_that_shows_no_bodies_passes_nothing_that_depends_on_one() {
    let test = "envoy_that_shows_no_bodies_passes_nothing_that_depends_on_one";
    let Some(scene) = Scene::new(test, Front::usual(), json!({ "with_request_body": null })).await else { return };
    let bearer = scene.front.bearer();
    for forged in ["false", "true"] {
        let headers =
            [("host", "orders.example"), ("authorization", bearer.as_str()), ("x-envoy-auth-partial-body", forged)];
        let reply = scene.send(&request("POST /orders/7/refund", &headers, r#"{"amount":1}"#)).await;
        scene.denied(&reply, 403, "body_needed");
    }
    assert_eq!(scene.get("/orders/7").await.status, 200);
}

#[test]
fn the_sample_of_an_envoy_is_a_configuration() {
    let program = envoy();
    if !needs("the_sample_of_an_envoy_is_a_configuration", NEEDED, program.is_some()) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    for (name, text) in [("some.pem", own.pem()), ("some.key", key.serialize_pem())] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let file = |name: &str| directory.path().join(name).display().to_string();
    let sample = sample(&[
        ("/etc/envoy/tls/server.pem", file("some.pem")),
        ("/etc/envoy/tls/server.key", file("some.key")),
        ("/etc/envoy/belay/ca.pem", file("some.pem")),
        ("/etc/envoy/belay/cert.pem", file("some.pem")),
        ("/etc/envoy/belay/key.pem", file("some.key")),
    ]);
    std::fs::write(directory.path().join("envoy.yaml"), sample).unwrap();
    let mut command = Command::new(program.unwrap());
    let checked = command.args(["--mode", "validate", "-c"]).arg(directory.path().join("envoy.yaml")).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// What it answers, and that nothing went on.
async fn shut(scene: &Scene, why: &str) {
    let reply = scene.get("/orders/7").await;
    assert!(matches!(reply.status, 403 | 500..=599), "{why}: {reply:?}");
    assert!(scene.service.arrived().is_empty(), "{why}: it went on");
}

#[tokio::test]
async fn envoy_denies_while_the_broker_is_slow_or_gone() {
    let test = "envoy_denies_while_the_broker_is_slow_or_gone";
    let Some(mut scene) = Scene::new(test, Front::usual(), json!({})).await else { return };
    let signal = |broker: &Broker, name: &str| {
        assert!(Command::new("kill").args([name, &broker.pid().to_string()]).status().unwrap().success());
    };
    signal(&scene.front.broker, "-STOP");
    for _ in 0..3 {
        shut(&scene, "stopped by SIGSTOP").await;
    }
    signal(&scene.front.broker, "-CONT");
    within("it goes on", async || match scene.get("/orders/7").await {
        reply if reply.status == 200 => Ok(()),
        reply => Err(format!("{reply:?}")),
    })
    .await;
    scene.service.arrived();
    scene.front.broker.kill();
    for _ in 0..3 {
        shut(&scene, "killed").await;
    }
}

#[tokio::test]
async fn envoy_denies_while_the_broker_does_not_know_the_time() {
    let test = "envoy_denies_while_the_broker_does_not_know_the_time";
    if !needs(test, "a C compiler", there("cc", &["--version"])) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (library, hands) = (directory.path().join("stepclock.so"), directory.path().join("step"));
    compile("stepclock.c", &library);
    let set = |millis: i64| std::fs::write(&hands, millis.to_string()).unwrap();
    set(0);
    let env = [("LD_PRELOAD", library.to_str().unwrap()), ("STEPCLOCK", hands.to_str().unwrap())];
    let front = async { Front::over(Broker::start_in(directory.path(), &env), &USUAL).await };
    let Some(scene) = Scene::new(test, front, json!({})).await else { return };
    for step in [3_600_000, -3_600_000] {
        set(step);
        shut(&scene, "its clock jumped").await;
    }
}
