//! Tokens that are bound to a key (RFC 9449): honoured with a proof of that key, made for this request, once.

use std::path::Path;
use std::time::Duration;

use belay::client::{Identity, ProofKey};
use belay::wire::v1::{self, AuthorizeRequest, AuthorizeResponse, DpopProof};
use tonic::Code;
use tonic::transport::Channel;

use crate::support::calls::{Acting, Answer, refused};
use crate::support::process::Broker;

const ORDERS: &str = "https://orders.example";
const PLACE: &str = "https://orders.example/v1/orders";
const AUTHORIZE: &str = "/belay.v1.Decisions/Authorize";

/// An agent that holds a grant for the orders, a token that is bound to its key, and the gateway before the orders.
struct Scene {
    broker: Broker,
    ana: Acting,
    grant: String,
    token: String,
    key: ProofKey,
    gateway: Channel,
    nonce: String,
}

/// What came to an enforcement point with a token.
fn came(proof: String) -> Option<DpopProof> {
    Some(DpopProof { proof, method: "GET".to_owned(), url: format!("{PLACE}?page=2") })
}

async fn ask(channel: &Channel, request: AuthorizeRequest) -> Answer<AuthorizeResponse> {
    let [tool, action, resource] = ["db", "read", "orders"].map(str::to_owned);
    let request = AuthorizeRequest { tool, action, resource, ..request };
    v1::decisions_client::DecisionsClient::new(channel.clone()).authorize(request).await
}

/// The code of the decision; `in_scope` if it is allowed, and then it is proven.
async fn asked(channel: &Channel, request: AuthorizeRequest) -> String {
    let verdict = ask(channel, request).await.unwrap().into_inner();
    assert_eq!(verdict.decision == "allow", verdict.reasons[0].code == "in_scope", "{verdict:?}");
    assert_eq!(
        verdict.decision == "allow",
        verdict.possession == "proven" && verdict.decision != "deny",
        "{verdict:?}"
    );
    verdict.reasons[0].code.clone()
}

fn certificate(directory: &Path) -> Vec<u8> {
    Identity::load(directory).unwrap().certificate().to_vec()
}

/// A token under a grant, for the key in this file.
async fn issued(scene: &Acting, grant: &str, key: &ProofKey, at: &str, once: &str) -> Answer<v1::Token> {
    let proof = key.prove("POST", &format!("{at}/belay.v1.Tokens/Issue"), None, None).unwrap();
    let dpop = Some(DpopProof { proof, ..Default::default() });
    let request =
        v1::IssueTokenRequest { grant: grant.into(), dpop, idempotency_key: once.into(), ..Default::default() };
    v1::tokens_client::TokensClient::new(scene.0.clone()).issue(request).await
}

impl Scene {
    async fn new() -> Self {
        let broker = Broker::start();
        let directory = broker.enroll_agent("ana").await;
        let ana = Acting::with(&broker, &directory).await;
        let gateway = broker.channel_as(&broker.pep("gateway", &[ORDERS]).await).await.unwrap();
        let request = v1::RequestGrantRequest {
            task: ana.task().await,
            scopes: vec!["db:read@**".to_owned()],
            audience: ORDERS.to_owned(),
            ..Default::default()
        };
        let grant = ana.request(request).await.unwrap().into_inner().grant.unwrap().id;
        let key = ProofKey::load_or_make(&broker.home.join("proof.pem")).unwrap();
        let made = issued(&ana, &grant, &key, &broker.addr, "").await.unwrap().into_inner();
        assert!(!made.dpop_nonce.is_empty());
        Self { broker, ana, grant, token: made.token, key, gateway, nonce: made.dpop_nonce }
    }

    /// A new proof that is as good as can be.
    fn proof(&self) -> String {
        self.key.prove("GET", PLACE, Some(&self.token), Some(&self.nonce)).unwrap()
    }

    fn request(&self, dpop: Option<DpopProof>) -> AuthorizeRequest {
        AuthorizeRequest { token: self.token.clone(), dpop, ..Default::default() }
    }

    /// What the gateway is told of this token with this proof.
    async fn told(&self, proof: String) -> String {
        asked(&self.gateway, self.request(came(proof))).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_token_is_honoured_with_a_proof_of_its_key_alone() {
    let scene = Scene::new().await;
    let claims: serde_json::Value = {
        let told = scene.broker.run(&["token", "inspect", &scene.token]).ok();
        told["claims"]["cnf"].clone()
    };
    assert_eq!(claims.as_object().unwrap().keys().collect::<Vec<_>>(), ["jkt"], "one member, as clients ask");
    assert_eq!(scene.told(scene.proof()).await, "in_scope");

    // Stolen: without the key, with another key, with what the thief has of the holder.
    let own = certificate(&scene.broker.home.join("ana"));
    let verdict = ask(&scene.gateway, scene.request(None)).await.unwrap().into_inner();
    assert_eq!((verdict.reasons[0].code.as_str(), verdict.dpop_nonce.is_empty()), ("dpop_required", false));
    let bearer = AuthorizeRequest { presenter: own.clone(), ..scene.request(None) };
    assert_eq!(asked(&scene.gateway, bearer).await, "dpop_required");
    let thief = ProofKey::load_or_make(&scene.broker.home.join("thief.pem")).unwrap();
    let proof = thief.prove("GET", PLACE, Some(&scene.token), Some(&scene.nonce)).unwrap();
    assert_eq!(scene.told(proof).await, "possession");
    let kept = scene.proof();
    assert_eq!(scene.told(kept.clone()).await, "in_scope");
    assert_eq!(scene.told(kept).await, "dpop_replayed");

    // A proof of the right key for anything else.
    let (token, nonce) = (Some(scene.token.as_str()), Some(scene.nonce.as_str()));
    for (method, url, token, nonce, expected) in [
        ("POST", PLACE, token, nonce, "dpop_invalid"),
        ("GET", "https://orders.example/v1", token, nonce, "dpop_invalid"),
        ("GET", "https://evil.example/v1/orders", token, nonce, "dpop_invalid"),
        ("GET", PLACE, Some("another"), nonce, "dpop_invalid"),
        ("GET", PLACE, None, nonce, "dpop_invalid"),
        ("GET", PLACE, token, Some("stale"), "use_dpop_nonce"),
        ("GET", "https://ORDERS.example:443/v1/orders", token, nonce, "in_scope"),
    ] {
        let proof = scene.key.prove(method, url, token, nonce).unwrap();
        assert_eq!(scene.told(proof).await, expected, "{method} {url}");
    }
    assert_eq!(scene.told("x.y.z".to_owned()).await, "dpop_invalid");

    // A token that is bound to the certificate is none for a key, whoever holds both.
    let plain = scene.ana.issue(&scene.grant).await.unwrap().into_inner();
    assert!(plain.dpop_nonce.is_empty());
    let proof = scene.key.prove("GET", PLACE, Some(&plain.token), Some(&scene.nonce)).unwrap();
    let request = AuthorizeRequest { token: plain.token, dpop: came(proof), presenter: own, ..Default::default() };
    assert_eq!(asked(&scene.gateway, request.clone()).await, "possession");
    assert_eq!(asked(&scene.gateway, AuthorizeRequest { dpop: None, ..request }).await, "in_scope");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_show_a_proof_and_for_which_request() {
    let scene = Scene::new().await;
    let bare = |proof: String| Some(DpopProof { proof, ..Default::default() });
    // To the agent itself the identity of its connection is no proof of this key; a proof for the broker's own call is.
    assert_eq!(asked(&scene.ana.0, scene.request(None)).await, "dpop_required");
    let here = format!("{}{AUTHORIZE}", scene.broker.addr);
    let own = || scene.key.prove("POST", &here, Some(&scene.token), Some(&scene.nonce)).unwrap();
    assert_eq!(asked(&scene.ana.0, scene.request(bare(own()))).await, "in_scope");
    // What was made for a tool proves nothing here, whatever is said of it: the tool could show it as well.
    assert_eq!(asked(&scene.ana.0, scene.request(bare(scene.proof()))).await, "dpop_invalid");
    let bob = Acting::with(&scene.broker, &scene.broker.enroll_agent("bob").await).await;
    let said = ask(&bob.0, scene.request(came(scene.proof()))).await;
    refused("dpop", said, Code::InvalidArgument, "malformed", 2);
    for caller in [scene.broker.channel().await, {
        let under = scene.broker.home.join("under");
        scene.ana.certified(&scene.grant, &under).await;
        scene.broker.channel_as(&under).await.unwrap()
    }] {
        let said = ask(&caller, scene.request(bare(own()))).await;
        refused("dpop", said, Code::PermissionDenied, "proof_asserted", 3);
    }
    for wrong in [
        DpopProof { method: String::new(), ..came(scene.proof()).unwrap() },
        DpopProof { url: "orders.example".to_owned(), ..came(scene.proof()).unwrap() },
        DpopProof { url: "https://me@orders.example/".to_owned(), ..came(scene.proof()).unwrap() },
        DpopProof { proof: String::new(), ..came(String::new()).unwrap() },
    ] {
        refused("dpop", ask(&scene.gateway, scene.request(Some(wrong))).await, Code::InvalidArgument, "malformed", 2);
    }
    // Whoever may not ask about a token uses up none of its proofs.
    let elsewhere = scene.broker.pep("elsewhere", &["https://else.example"]).await;
    let elsewhere = scene.broker.channel_as(&elsewhere).await.unwrap();
    let proof = scene.proof();
    assert_eq!(asked(&elsewhere, scene.request(came(proof.clone()))).await, "token_audience");
    assert_eq!(scene.told(proof.clone()).await, "in_scope");
    // A check of the token is a use of the proof.
    let verify = |proof: String| {
        let request = v1::VerifyTokenRequest { token: scene.token.clone(), dpop: came(proof), ..Default::default() };
        let mut tokens = v1::tokens_client::TokensClient::new(scene.gateway.clone());
        async move { tokens.verify(request).await.unwrap().into_inner() }
    };
    let told = verify(proof).await;
    assert_eq!((told.active, told.reason.as_str(), told.dpop_nonce.is_empty()), (false, "dpop_replayed", false));
    let proof = scene.proof();
    let told = verify(proof.clone()).await;
    assert!(told.active && told.possession == "proven", "{told:?}");
    assert_eq!(scene.told(proof).await, "dpop_replayed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_is_shown_at_once_by_many_passes_once() {
    let scene = Scene::new().await;
    for round in 0..8 {
        let proof = scene.proof();
        let asks = (0..16).map(|at| {
            let request =
                AuthorizeRequest { idempotency_key: format!("{round}-{at}"), ..scene.request(came(proof.clone())) };
            asked(&scene.gateway, request)
        });
        let told = futures_util::future::join_all(asks).await;
        let count = |code: &str| told.iter().filter(|one| *one == code).count();
        assert_eq!((count("in_scope"), count("dpop_replayed")), (1, 15), "{told:?}");
    }
    // The same request again, by the same enforcement point, is a retry; by another, or under another name, it is not.
    let proof = scene.proof();
    let named = |key: &str| AuthorizeRequest { idempotency_key: key.to_owned(), ..scene.request(came(proof.clone())) };
    assert_eq!(asked(&scene.gateway, named("a")).await, "in_scope");
    assert_eq!(asked(&scene.gateway, named("a")).await, "in_scope");
    assert_eq!(asked(&scene.gateway, named("b")).await, "dpop_replayed");
    assert_eq!(asked(&scene.gateway, named("")).await, "dpop_replayed");
    let second = scene.broker.channel_as(&scene.broker.pep("second", &[ORDERS]).await).await.unwrap();
    assert_eq!(asked(&second, named("a")).await, "dpop_replayed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_with_its_proof_is_the_same_request_and_nothing_else_under_its_name() {
    let scene = Scene::new().await;
    let mut decisions = v1::decisions_client::DecisionsClient::new(scene.gateway.clone());
    let mut says = async |request: AuthorizeRequest| {
        decisions.authorize(request).await.unwrap().into_inner().reasons.remove(0).code
    };
    let text = |text: &str| text.to_owned();
    let base = AuthorizeRequest { idempotency_key: text("k"), ..scene.request(None) };
    let call = AuthorizeRequest {
        tool: text("db"),
        action: text("read"),
        resource: text("orders"),
        args: text(r#"{"limit":1}"#),
        destination: text("https://db.example"),
        ..base.clone()
    };
    let http = v1::HttpRequest {
        method: text("POST"),
        host: text("orders.example"),
        path: text("/v1/orders"),
        body: b"{}".to_vec(),
        ..Default::default()
    };
    let mcp = v1::McpRequest {
        server: text("db"),
        method: text("tools/call"),
        params: text(r#"{"name":"read"}"#),
        ..Default::default()
    };
    let by_http = AuthorizeRequest { http: Some(http.clone()), ..base.clone() };
    let by_mcp = AuthorizeRequest { mcp: Some(mcp.clone()), ..base.clone() };
    let schema = format!("sha256:{}", "0".repeat(64));
    let others_of_call = vec![
        AuthorizeRequest { action: text("drop"), ..call.clone() },
        AuthorizeRequest { resource: text("customers"), ..call.clone() },
        AuthorizeRequest { args: text(r#"{"limit":2}"#), ..call.clone() },
        AuthorizeRequest { args: String::new(), ..call.clone() },
        AuthorizeRequest { destination: text("https://evil.example"), ..call.clone() },
        AuthorizeRequest { ticket: true, ..call.clone() },
        AuthorizeRequest { redeem: text("x"), ..call.clone() },
        by_http.clone(),
        by_mcp.clone(),
    ];
    let http = |http: v1::HttpRequest| AuthorizeRequest { http: Some(http), ..base.clone() };
    let one = by_http.http.clone().unwrap();
    let others_of_http = vec![
        http(v1::HttpRequest { method: text("PUT"), ..one.clone() }),
        http(v1::HttpRequest { scheme: text("http"), ..one.clone() }),
        http(v1::HttpRequest { host: text("else.example"), ..one.clone() }),
        http(v1::HttpRequest { path: text("/v1/orders?all=true"), ..one.clone() }),
        http(v1::HttpRequest { body: br#"{"all":true}"#.to_vec(), ..one.clone() }),
        http(v1::HttpRequest { body: Vec::new(), body_state: text("withheld"), ..one }),
    ];
    let mcp = |mcp: v1::McpRequest| AuthorizeRequest { mcp: Some(mcp), ..base.clone() };
    let one = by_mcp.mcp.clone().unwrap();
    let others_of_mcp = vec![
        mcp(v1::McpRequest { server: text("files"), ..one.clone() }),
        mcp(v1::McpRequest { method: text("resources/list"), ..one.clone() }),
        mcp(v1::McpRequest { params: text(r#"{"name":"drop"}"#), ..one.clone() }),
        mcp(v1::McpRequest { schema_digest: schema, ..one }),
    ];
    for (first, others) in [(call, others_of_call), (by_http, others_of_http), (by_mcp, others_of_mcp)] {
        let dpop = came(scene.proof());
        let with = |request: &AuthorizeRequest| AuthorizeRequest { dpop: dpop.clone(), ..request.clone() };
        let answer = says(with(&first)).await;
        assert!(!answer.starts_with("dpop_"), "{answer}: {first:?}");
        for other in &others {
            assert_eq!(says(with(other)).await, "dpop_replayed", "{other:?}");
        }
        assert_eq!(says(with(&first)).await, answer, "the same again is a retry");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_began_again_takes_no_proof_that_it_may_have_seen() {
    let mut scene = Scene::new().await;
    let fresh = |scene: &Scene| scene.key.prove("GET", PLACE, Some(&scene.token), None).unwrap();
    let (bare, spent) = (fresh(&scene), scene.proof());
    assert_eq!(scene.told(spent.clone()).await, "in_scope");
    scene.broker.kill();
    let (home, addr) = (scene.broker.home.clone(), scene.broker.addr.trim_start_matches("https://").to_owned());
    scene.broker.replace(Broker::start_at(&home, &addr));
    scene.gateway = scene.broker.channel_as(&home.join("gateway")).await.unwrap();
    assert_eq!(scene.told(spent).await, "use_dpop_nonce", "its nonce is the former process's");
    assert_eq!(scene.told(bare).await, "use_dpop_nonce");
    let verdict = ask(&scene.gateway, scene.request(came(fresh(&scene)))).await.unwrap().into_inner();
    assert_eq!(verdict.reasons[0].code, "use_dpop_nonce", "it could be from before, by a clock that is ahead");
    scene.nonce = verdict.dpop_nonce;
    assert_eq!(scene.told(scene.proof()).await, "in_scope");
    // Five seconds on, a new proof needs none.
    tokio::time::sleep(Duration::from_millis(6100)).await;
    assert_eq!(scene.told(fresh(&scene)).await, "in_scope");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_issued_for_the_key_that_was_proven() {
    let scene = Scene::new().await;
    let (ana, grant, addr) = (&scene.ana, &scene.grant, scene.broker.addr.as_str());
    let made = issued(ana, grant, &scene.key, addr, "once").await.unwrap().into_inner();
    let again = issued(ana, grant, &scene.key, addr, "once").await.unwrap().into_inner();
    assert_eq!(again.id, made.id, "another proof of the same key is the same request");
    let other = ProofKey::load_or_make(&scene.broker.home.join("other.pem")).unwrap();
    let said = issued(ana, grant, &other, addr, "once").await;
    refused("another key", said, Code::AlreadyExists, "idempotency_conflict", 1);
    let plain = v1::IssueTokenRequest { grant: grant.clone(), idempotency_key: "once".into(), ..Default::default() };
    let mut tokens = v1::tokens_client::TokensClient::new(ana.0.clone());
    refused("no key", tokens.issue(plain.clone()).await, Code::AlreadyExists, "idempotency_conflict", 1);
    // By the issuer's name as well; by no other.
    issued(ana, grant, &other, "https://belay.dev", "").await.unwrap();
    let said = issued(ana, grant, &other, "https://evil.example", "").await;
    refused("elsewhere", said, Code::PermissionDenied, "dpop_invalid", 3);
    let dpop = Some(DpopProof { proof: "x.y.z".to_owned(), ..Default::default() });
    let said = tokens.issue(v1::IssueTokenRequest { dpop, idempotency_key: String::new(), ..plain }).await;
    refused("no proof", said, Code::PermissionDenied, "dpop_invalid", 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_identity_ends_what_is_bound_to_it_and_a_cut_grant_all_that_is_under_it() {
    let scene = Scene::new().await;
    let own = certificate(&scene.broker.home.join("ana"));
    let plain = scene.ana.issue(&scene.grant).await.unwrap().into_inner().token;
    let shown = AuthorizeRequest { token: plain, presenter: own.clone(), ..Default::default() };
    let boss = Acting(scene.broker.channel().await);
    let serial = x509_parser::parse_x509_certificate(&own).unwrap().1.raw_serial().to_vec();
    let id = belay::domain::id::CertificateId::from_uuid(uuid::Uuid::from_slice(&serial).unwrap()).unwrap();
    boss.revoke(&id.to_string()).await.unwrap();
    assert_eq!(asked(&scene.gateway, shown).await, "certificate_revoked");
    assert_eq!(scene.told(scene.proof()).await, "in_scope", "its key is another");
    boss.revoke(&scene.grant).await.unwrap();
    assert_eq!(scene.told(scene.proof()).await, "grant_revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_binds_a_token_to_a_key_and_proves_it() {
    let scene = Scene::new().await;
    let file = scene.broker.home.join("mine.pem");
    let key = file.to_str().unwrap();
    let ana = scene.broker.home.join("ana");
    let issue = |more: &[&str]| {
        scene.broker.run_as(&ana, &[&["token", "issue", "--grant", &scene.grant, "--dpop-key", key], more].concat())
    };
    let made = issue(&[]).ok();
    let (token, nonce) = (made["token"].as_str().unwrap(), made["dpop_nonce"].as_str().unwrap());
    let prove = |more: &[&str]| {
        let prove = ["token", "proof", "--dpop-key", key, "--method", "GET", "--url", PLACE, "--token", token];
        scene.broker.run(&[&prove, more].concat()).ok()["proof"].as_str().unwrap().to_owned()
    };
    let gateway = scene.broker.home.join("gateway");
    let call =
        ["--tool", "db", "--action", "read", "--resource", "orders", "--dpop-method", "GET", "--dpop-url", PLACE];
    let authorize = |proof: &str| {
        let request = ["authorize", "--token", token, "--dpop", proof];
        scene.broker.run_as(&gateway, &[&request[..], &call].concat())
    };
    let proof = prove(&["--nonce", nonce]);
    let verdict = authorize(&proof).ok();
    assert_eq!((verdict["decision"].as_str(), verdict["possession"].as_str()), (Some("allow"), Some("proven")));
    let verdict = authorize(&proof);
    assert_eq!(verdict.code, 3, "{verdict:?}");
    let verdict: serde_json::Value = serde_json::from_str(&verdict.stdout).unwrap();
    assert_eq!(verdict["reasons"][0]["code"], "dpop_replayed");
    let nonce = verdict["dpop_nonce"].as_str().unwrap();
    let verify = ["token", "verify", token, "--dpop-method", "GET", "--dpop-url", PLACE, "--dpop"];
    let proof = prove(&["--nonce", nonce]);
    assert_eq!(scene.broker.run_as(&gateway, &[&verify[..], &[proof.as_str()]].concat()).ok()["active"], true);
    let said = scene.broker.run_as(&ana, &["token", "issue", "--grant", &scene.grant, "--issuer", "https://x.example"]);
    assert_eq!(said.code, 2, "an issuer is for a key: {said:?}");
    issue(&["--issuer", "https://belay.dev"]).ok();
    assert_eq!(issue(&["--issuer", "https://x.example"]).err(3)["detail"]["reason"], "dpop_invalid");
}
