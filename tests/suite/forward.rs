//! `/v1/authorize` for nginx and for those who forward what was asked in headers: who may ask, and what is believed.

use std::path::Path;

use crate::support::front::Front;
use crate::support::http::{Reply, Service, request};
use crate::support::needs;
use crate::support::nginx::{NEEDED, Nginx, nginx};

#[tokio::test]
async fn nginx_lets_through_what_the_grant_allows_and_nothing_else() {
    let test = "nginx_lets_through_what_the_grant_allows_and_nothing_else";
    let program = nginx();
    if !needs(test, NEEDED, program.is_some()) {
        return;
    }
    let (mut front, service) = (Front::usual().await, Service::start().await);
    let nginx = Nginx::start(&program.unwrap(), &front, service.port).await;
    let bearer = front.bearer();
    let usual = [("host", "orders.example"), ("authorization", bearer.as_str())];
    let ask = async |line: &str, more: &[(&str, &str)]| {
        nginx.send(Some(front.agent.as_path()), &request(line, &[&usual[..], more].concat(), "")).await
    };
    let allowed = ask("GET /orders/7?a=b", &[("x-belay-agent", "root"), ("x-belay-chain", "root")]).await;
    assert_eq!((allowed.status, allowed.body.as_str()), (200, "done\n"), "{allowed:?}");
    let arrived = service.arrived().remove(0);
    assert_eq!(arrived.uri, "/orders/7?a=b");
    let all = |name: &str| arrived.headers.get_all(name).iter().map(|one| one.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!((all("x-belay-agent"), all("x-belay-chain")), (vec!["ana"], vec!["ana"]));
    assert_eq!(all("x-belay-grant"), [front.grant.as_str()]);
    assert!(all("authorization").is_empty(), "{arrived:?}");

    let body = r#"{"amount":1}"#;
    let refund =
        request("POST /orders/7/refund", &[&usual[..], &[("content-type", "application/json")]].concat(), body);
    // Its body would allow it; nginx does not show it.
    for (reply, status) in [
        (nginx.send(Some(front.agent.as_path()), &refund).await, 403),
        (ask("POST /orders/7/close", &[]).await, 403),
        (ask("GET /customers/7", &[]).await, 403),
        (ask("GET /orders/%2e%2e", &[]).await, 403),
        (ask("GET /customers/7", &[("x-original-uri", "/orders/7"), ("x-forwarded-uri", "/orders/7")]).await, 403),
        (ask("GET /customers/7", &[("x-forwarded-host", "orders.example")]).await, 403),
        (nginx.send(None, &request("GET /orders/7", &usual, "")).await, 401),
        (nginx.send(Some(front.pep.as_path()), &request("GET /orders/7", &usual, "")).await, 401),
        (nginx.send(Some(front.agent.as_path()), &request("GET /orders/7", &usual[..1], "")).await, 401),
    ] {
        assert_eq!(reply.status, status, "{reply:?}");
        assert!(service.arrived().is_empty(), "it went on: {reply:?}");
    }
    let challenged = nginx.send(None, &request("GET /orders/7", &usual, "")).await;
    assert!(challenged.header("www-authenticate").is_some_and(|said| said.contains("invalid_token")), "{challenged:?}");

    front.broker.kill();
    let gone = nginx.send(Some(front.agent.as_path()), &request("GET /orders/7", &usual, "")).await;
    assert!(gone.status >= 500, "{gone:?}");
    assert!(service.arrived().is_empty());
}

/// Asks as Traefik and Caddy do, with further header fields.
async fn asked(front: &Front, identity: Option<&Path>, more: &[(&str, &str)]) -> Reply {
    let (bearer, certificate) = (front.bearer(), front.certificate());
    let usual = [("host", "belay"), ("authorization", bearer.as_str()), ("x-client-cert", certificate.as_str())];
    front.page(identity, &request("GET /v1/authorize", &[&usual[..], more].concat(), "")).await
}

const FORWARDED: [(&str, &str); 4] = [
    ("x-forwarded-method", "GET"),
    ("x-forwarded-host", "orders.example"),
    ("x-forwarded-uri", "/orders/7"),
    ("x-forwarded-proto", "https"),
];

#[tokio::test]
async fn only_an_enforcement_point_asks_for_others_over_https() {
    let front = Front::usual().await;
    let allowed = asked(&front, Some(&front.pep), &FORWARDED).await;
    assert_eq!(allowed.status, 200, "{allowed:?}");
    assert_eq!(allowed.header("x-belay-agent"), Some("ana"), "{allowed:?}");
    let operator = front.broker.home.join("operator");
    for (identity, code) in
        [(None, "no_certificate"), (Some(&front.agent), "operators_only"), (Some(&operator), "agents_only")]
    {
        let refused = asked(&front, identity.map(|path| path.as_path()), &FORWARDED).await;
        assert_eq!((refused.status, refused.code().as_str()), (403, code), "{refused:?}");
        for page in ["evaluation", "evaluations"] {
            let ask = request(&format!("POST /access/v1/{page}"), &[("content-type", "application/json")], "{}");
            let refused = front.page(identity.map(|path| path.as_path()), &ask).await;
            assert_eq!((refused.status, refused.code().as_str()), (403, code), "{page}: {refused:?}");
        }
    }
    // What everybody may read, everybody may read still.
    for path in ["/healthz", "/.well-known/jwks.json", "/.well-known/authzen-configuration"] {
        assert_eq!(front.page(None, &request(&format!("GET {path}"), &[], "")).await.status, 200, "{path}");
    }
    let retired = front.broker.pep("retired", &["https://orders.example"]).await;
    front.broker.run(&["pep", "retire", "retired"]).ok();
    let port = front.broker.http.rsplit(':').next().unwrap().parse().unwrap();
    let config = crate::support::http::client(&[front.broker.authority().into()], Some(&retired));
    let shut = crate::support::http::exchange(port, config, &request("GET /v1/authorize", &[], "")).await;
    assert!(shut.is_err() || shut.is_ok_and(|reply| reply.status == 403), "a retired one asked");
}

#[tokio::test]
async fn what_two_families_of_headers_say_differently_is_refused() {
    let front = Front::usual().await;
    let original =
        [("x-original-method", "GET"), ("x-original-host", "orders.example"), ("x-original-uri", "/orders/7")];
    let pep = Some(front.pep.as_path());
    assert_eq!(asked(&front, pep, &original).await.status, 200);
    assert_eq!(asked(&front, pep, &[&original[..], &FORWARDED].concat()).await.status, 200, "they say the same");
    for (name, value) in [
        ("x-original-method", "POST"),
        ("x-original-host", "other.example"),
        ("x-original-uri", "/orders/8"),
        ("x-original-scheme", "http"),
    ] {
        let refused = asked(&front, pep, &[&FORWARDED[..], &[(name, value)]].concat()).await;
        assert_eq!((refused.status, refused.code().as_str()), (403, "original_ambiguous"), "{name}: {refused:?}");
        let twice = asked(&front, pep, &[&original[..], &[(name, value), (name, value)]].concat()).await;
        assert_eq!(twice.status, 401, "{name}: {twice:?}");
    }
    for missing in 0..3 {
        let some: Vec<_> = FORWARDED.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, one)| *one).collect();
        let refused = asked(&front, pep, &some).await;
        assert_eq!((refused.status, refused.code().as_str()), (403, "missing"), "{refused:?}");
    }
}

#[tokio::test]
async fn a_rule_that_needs_a_body_is_refused_where_none_is_seen() {
    let front = Front::usual().await;
    let post = [("x-original-method", "POST"), ("x-original-host", "orders.example")];
    let pep = Some(front.pep.as_path());
    let refused = asked(&front, pep, &[&post[..], &[("x-original-uri", "/orders/7/refund")]].concat()).await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "body_needed"), "{refused:?}");
    // Nor does a query stand in for it.
    let query = [("x-original-uri", "/orders/7/refund?amount=1")];
    let refused = asked(&front, pep, &[&post[..], &query].concat()).await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "body_needed"), "{refused:?}");
}
