//! Enforcement points on the real binary: registered, asked for their word, followed by the feed, shut out.

use std::path::Path;
use std::time::{Duration, Instant};

use belay::client::Identity;
use belay::client::feed::{Feed, Offline};
use belay::domain::name::Audience;
use belay::domain::scope::Call;
use belay::verifier::Answer;
use belay::wire::v1::feed_client::FeedClient;
use belay::wire::v1::feed_message::Said;
use belay::wire::v1::feed_request::Said as Asks;
use belay::wire::v1::{
    self, AuthorizeRequest, AuthorizeResponse, FeedHello, FeedMessage, FeedRequest, VerifyTokenRequest,
    VerifyTokenResponse,
};
use prost::Message as _;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::support::calls::{Acting, Answer as Called, raw, refused};
use crate::support::process::Broker;
use crate::support::world::unseen;

const ORDERS: &str = "https://orders.example";

async fn verify(channel: &Channel, token: &str, presenter: &[u8]) -> Called<VerifyTokenResponse> {
    let request = VerifyTokenRequest { token: token.to_owned(), presenter: presenter.to_vec(), ..Default::default() };
    v1::tokens_client::TokensClient::new(channel.clone()).verify(request).await
}

async fn decide(channel: &Channel, token: &str, presenter: &[u8]) -> Called<AuthorizeResponse> {
    let [token, tool, action, resource] = [token, "db", "read", "orders"].map(str::to_owned);
    let presenter = presenter.to_vec();
    let request = AuthorizeRequest { token, tool, action, resource, presenter, ..Default::default() };
    v1::decisions_client::DecisionsClient::new(channel.clone()).authorize(request).await
}

/// The word of the decision: `in_scope` if it is allowed.
async fn decided(channel: &Channel, token: &str, presenter: &[u8]) -> String {
    let verdict = decide(channel, token, presenter).await.unwrap().into_inner();
    assert_eq!(verdict.decision == "allow", verdict.reasons[0].code == "in_scope", "{verdict:?}");
    assert!(verdict.decision != "allow" || verdict.possession == "proven", "{verdict:?}");
    verdict.reasons[0].code.clone()
}

/// A grant of `db:read@**` for the orders, and a token under it: its id, the grant's id, the token.
async fn granted(holder: &Acting) -> (String, String) {
    let (task, scopes) = (holder.task().await, vec!["db:read@**".to_owned()]);
    let audience = ORDERS.to_owned();
    let request = v1::RequestGrantRequest { task, scopes, audience, token: true, ..Default::default() };
    let granted = holder.request(request).await.unwrap().into_inner();
    (granted.grant.unwrap().id, granted.token.unwrap().token)
}

/// `crt_…`: a certificate's number is the id.
fn id_of(certificate: &[u8]) -> String {
    let serial = x509_parser::parse_x509_certificate(certificate).unwrap().1.raw_serial().to_vec();
    belay::domain::id::CertificateId::from_uuid(uuid::Uuid::from_slice(&serial).unwrap()).unwrap().to_string()
}

fn certificate(directory: &Path) -> Vec<u8> {
    Identity::load(directory).unwrap().certificate().to_vec()
}

#[test]
fn an_enforcement_point_is_registered_enrolled_and_retired() {
    let broker = Broker::start();
    let register = |rest: &[&str]| broker.run(&[&["pep", "register", "gateway"], rest].concat());
    let missing = register(&[]);
    assert_eq!(missing.code, 2, "{missing:?}");
    for wrong in [
        &["--audience", "a b"][..],
        &["--audience", "x", "--max-staleness", "1s"],
        &["--audience", "x", "--max-staleness", "11m"],
    ] {
        register(wrong).err(2);
    }
    let registered = register(&["--audience", "https://b.example", ORDERS, "https://b.example"]).ok();
    let pep = &registered["pep"];
    assert_eq!((pep["name"].as_str(), pep["status"].as_str()), (Some("gateway"), Some("active")));
    assert_eq!(pep["audiences"], serde_json::json!(["https://b.example", ORDERS]));
    assert_eq!(pep["max_staleness_ms"], 5000);
    assert!(pep["id"].as_str().unwrap().starts_with("pep_"));
    assert_eq!(register(&["--audience", "x"]).err(1)["detail"]["reason"], "pep_exists");
    let token = registered["join_token"].as_str().unwrap();
    let out = broker.home.join("gateway");
    let enroll =
        |noun: &str, token: &str| broker.run(&[noun, "enroll", "--join-token", token, "--out", out.to_str().unwrap()]);
    assert_ne!(enroll("agent", token).code, 0, "it is no agent's");
    let enrolled = enroll("pep", token).ok();
    assert_eq!(enrolled["pep"]["name"], "gateway");
    assert!(enrolled["spiffe_id"].as_str().unwrap().ends_with("/pep/gateway"), "{enrolled}");
    broker.run_as(&out, &["pep", "renew"]).ok();
    // It may ask, and nothing else.
    assert_eq!(broker.run_as(&out, &["agent", "list"]).err(3)["detail"]["reason"], "not_for_peps");
    assert_eq!(broker.run_as(&out, &["revoke", "agent:x", "--reason", "x"]).err(3)["detail"]["reason"], "not_for_peps");
    let verdict = broker.run_as(&out, &["token", "verify", "x.y.z"]);
    assert_eq!(verdict.code, 3, "a bad token, not a bad caller: {verdict:?}");
    assert_eq!(broker.run(&["pep", "list"]).ok()["peps"][0]["name"], "gateway");
    let retired = broker.run(&["pep", "retire", "gateway", "--reason", "replaced"]).ok();
    assert_eq!(retired["pep"]["status"], "retired");
    assert_eq!(broker.run_as(&out, &["token", "verify", "x.y.z"]).err(6)["detail"]["reason"], "tls_refused");
    assert_eq!(broker.run(&["pep", "invite", "gateway"]).err(3)["detail"]["reason"], "pep_retired");
    assert_eq!(broker.run(&["pep", "retire", "nobody"]).err(5)["detail"]["reason"], "not_found");
    assert_eq!(register(&["--audience", "x"]).err(1)["detail"]["reason"], "pep_exists", "names are not given again");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_enforcement_point_says_who_presented_and_only_for_its_audiences() {
    let broker = Broker::start();
    let (ana, bob) = (broker.enroll_agent("ana").await, broker.enroll_agent("bob").await);
    let (own, others) = (certificate(&ana), certificate(&bob));
    let gateway = broker.channel_as(&broker.pep("gateway", &[ORDERS]).await).await.unwrap();
    let elsewhere = broker.channel_as(&broker.pep("elsewhere", &["https://else.example"]).await).await.unwrap();
    let holder = Acting::with(&broker, &ana).await;
    let (grant, token) = granted(&holder).await;
    assert_eq!(decided(&gateway, &token, &own).await, "in_scope");
    let verified = verify(&gateway, &token, &own).await.unwrap().into_inner();
    assert!(verified.active && verified.possession == "proven", "{verified:?}");
    // Whoever shows another certificate, or none, is not its holder. Whoever is said to show it is: an enforcement
    // point is believed.
    for other in [&others[..], &[]] {
        assert_eq!(decided(&gateway, &token, other).await, "possession");
        assert_eq!(verify(&gateway, &token, other).await.unwrap().into_inner().reason, "possession");
    }
    // Of what is for others it is told nothing.
    let foreign = verify(&elsewhere, &token, &own).await.unwrap().into_inner();
    assert_eq!((foreign.active, foreign.reason.as_str(), foreign.claims.as_str()), (false, "token_audience", ""));
    let foreign = decide(&elsewhere, &token, &own).await.unwrap().into_inner();
    assert_eq!((foreign.reasons[0].code.as_str(), foreign.grant.as_str()), ("token_audience", ""));
    // Nobody else says so, and nothing else is believed.
    for caller in [holder.0.clone(), broker.channel().await] {
        refused("presenter", verify(&caller, &token, &own).await, Code::PermissionDenied, "presenter_asserted", 3);
        refused("presenter", decide(&caller, &token, &own).await, Code::PermissionDenied, "presenter_asserted", 3);
    }
    for garbage in [&b"x"[..], &vec![0x30; 60_000], &broker.authority()] {
        refused("presenter", decide(&gateway, &token, garbage).await, Code::InvalidArgument, "malformed", 2);
    }
    // A certificate under a grant is a credential itself: the very one, for those whom its grant is for.
    assert_eq!(decided(&gateway, "", &own).await, "no_credential");
    let under = broker.home.join("under");
    holder.certified(&grant, &under).await;
    let under = certificate(&under);
    assert_eq!(decided(&gateway, "", &under).await, "in_scope");
    assert_eq!(decided(&elsewhere, "", &under).await, "token_audience");
    let mut forged = under.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(decided(&gateway, "", &forged).await, "certificate_unknown");
    assert_eq!(decided(&gateway, &token, &under).await, "possession");
    // What is cut is refused whoever asks.
    let serial = x509_parser::parse_x509_certificate(&own).unwrap().1.raw_serial().to_vec();
    let id = belay::domain::id::CertificateId::from_uuid(uuid::Uuid::from_slice(&serial).unwrap()).unwrap();
    let boss = Acting(broker.channel().await);
    boss.revoke(&id.to_string()).await.unwrap();
    assert_eq!(decided(&gateway, &token, &own).await, "certificate_revoked");
    boss.revoke(&grant).await.unwrap();
    assert_eq!(decided(&gateway, "", &under).await, "grant_revoked");
}

async fn subscribe(channel: &Channel, said: Option<Asks>) -> Result<Streaming<FeedMessage>, Status> {
    let requests = tokio_stream::StreamExt::chain(tokio_stream::once(FeedRequest { said }), tokio_stream::pending());
    Ok(FeedClient::new(channel.clone()).subscribe(requests).await?.into_inner())
}

/// How a stream ends, which it does in some seconds.
async fn end(mut stream: Streaming<FeedMessage>) -> Status {
    let ended = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended without a word"),
                Err(status) => return status,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("it goes on")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_enforcement_point_is_cut_off() {
    let broker = Broker::start();
    let hello = || Some(Asks::Hello(FeedHello::default()));
    let (retired, revoked) = (broker.pep("retired", &[ORDERS]).await, broker.pep("revoked", &[ORDERS]).await);
    let own = certificate(&revoked);
    let mut streams = Vec::new();
    for directory in [&retired, &revoked] {
        let channel = broker.channel_as(directory).await.unwrap();
        let mut stream = subscribe(&channel, hello()).await.unwrap();
        assert!(matches!(stream.message().await.unwrap().unwrap().said, Some(Said::State(_))));
        streams.push(stream);
    }
    assert_eq!(broker.run(&["pep", "list"]).ok()["peps"][0]["subscribers"], 1);
    broker.run(&["pep", "retire", "retired"]).ok();
    broker.run(&["revoke", &id_of(&own), "--reason", "lost"]).ok();
    for stream in streams {
        assert_eq!(end(stream).await.code(), Code::Unauthenticated);
    }
    for directory in [&retired, &revoked] {
        // Whoever is refused at the handshake already does not come so far.
        let Ok(channel) = broker.channel_as(directory).await else { continue };
        assert!(subscribe(&channel, hello()).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_begin_with_a_hello_is_told_nothing() {
    let broker = Broker::start();
    let channel = broker.channel_as(&broker.pep("gateway", &[ORDERS]).await).await.unwrap();
    let beat = |length| Asks::Beat(v1::FeedBeat { nonce: vec![1; length] });
    for said in [None, Some(beat(8)), Some(Asks::Ack(v1::FeedAck { seq: u64::MAX }))] {
        let status = end(subscribe(&channel, said).await.unwrap()).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    let with = |more: &[u8]| {
        let hello = FeedRequest { said: Some(Asks::Hello(FeedHello { after: Some(u64::MAX), epoch: "x".to_owned() })) };
        [&hello.encode_to_vec()[..], more].concat()
    };
    raw(&channel, "/belay.v1.Feed/Subscribe", with(&[])).await.unwrap();
    let unknown = raw(&channel, "/belay.v1.Feed/Subscribe", with(&[0x78, 1])).await.unwrap_err();
    assert_eq!(unknown.code(), Code::InvalidArgument, "{unknown}");
    let large = FeedRequest { said: Some(beat(1 << 20)) }.encode_to_vec();
    raw(&channel, "/belay.v1.Feed/Subscribe", large).await.unwrap_err();
    // A second hello, and a nonce that is too long, end it.
    for said in [Asks::Hello(FeedHello::default()), beat(65)] {
        let hello = FeedRequest { said: Some(Asks::Hello(FeedHello::default())) };
        let requests = tokio_stream::iter([hello, FeedRequest { said: Some(said) }]);
        let answer = FeedClient::new(channel.clone()).subscribe(requests).await.unwrap().into_inner();
        assert_eq!(end(answer).await.code(), Code::InvalidArgument);
    }
}

fn says(offline: &Offline, token: &str, certificate: &[u8]) -> &'static str {
    let audience: Audience = ORDERS.parse().unwrap();
    match offline.check(token, &audience, Some(certificate)) {
        Answer::Valid(claims) => match offline.allows(&claims, &Call::parse("db", "read", "orders").unwrap()) {
            Ok(()) => "valid",
            Err(error) => error.reason,
        },
        Answer::Invalid(error) => error.reason,
        Answer::Unavailable(error) => error.reason,
    }
}

/// Until the service says so; how long that took.
async fn until(offline: &Offline, token: &str, certificate: &[u8], expected: &str) -> Duration {
    let since = Instant::now();
    loop {
        let said = says(offline, token, certificate);
        if said == expected {
            return since.elapsed();
        }
        assert!(since.elapsed() < Duration::from_secs(20), "it says {said}, not {expected}: {:?}", offline.trouble());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_follows_the_feed_and_refuses_when_it_cannot() {
    let mut broker = Broker::start();
    let ana = broker.enroll_agent("ana").await;
    let own = certificate(&ana);
    let holder = Acting::with(&broker, &ana).await;
    let ((_, other), (grant, token)) = (granted(&holder).await, granted(&holder).await);
    let identity = broker.pep("gateway", &[ORDERS]).await;
    let feed = Feed { addr: broker.addr.clone(), identity, staleness: Duration::from_secs(2) };
    let (offline, follow) = feed.follow();
    assert_eq!(says(&offline, &token, &own), "feed_incomplete");
    tokio::spawn(follow);
    tokio::time::timeout(Duration::from_secs(20), offline.ready()).await.unwrap();
    assert_eq!((says(&offline, &token, &own), says(&offline, &token, b"another")), ("valid", "possession"));
    let boss = Acting(broker.channel().await);
    for (verb, expected) in [("suspend", "agent_suspended"), ("resume", "valid")] {
        broker.run(&["agent", verb, "ana", "--reason", "testing"]).ok();
        until(&offline, &token, &own, expected).await;
    }
    let tasks = broker.run(&["task", "list"]).ok();
    let tasks = tasks["tasks"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap().to_owned());
    let tasks: Vec<String> = tasks.collect();
    for (verb, expected) in [("suspend", "task_suspended"), ("resume", "valid")] {
        for task in &tasks {
            broker.run(&["task", verb, task, "--reason", "testing"]).ok();
        }
        until(&offline, &token, &own, expected).await;
    }
    let frozen = broker.run(&["freeze", "--scope", "db:*@orders", "--reason", "testing"]).ok();
    until(&offline, &token, &own, "frozen").await;
    broker.run(&["thaw", frozen["freeze"]["id"].as_str().unwrap()]).ok();
    until(&offline, &token, &own, "valid").await;
    boss.revoke(&grant).await.unwrap();
    let took = until(&offline, &token, &own, "grant_revoked").await;
    println!("the verifier refused {took:.1?} after the revoke was acknowledged");
    assert_eq!(says(&offline, &other, &own), "valid");
    // For longer than it may know nothing, it is told that nothing happens.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(says(&offline, &other, &own), "valid");
    broker.kill();
    until(&offline, &other, &own, "feed_stale").await;
    assert_eq!(says(&offline, &token, &own), "grant_revoked");
    // It comes back, at the same address.
    let (home, at) = (broker.home.clone(), broker.addr.trim_start_matches("https://").to_owned());
    broker.replace(Broker::start_at(&home, &at));
    until(&offline, &other, &own, "valid").await;
    assert_eq!(says(&offline, &token, &own), "grant_revoked");
    // A token is over with the certificate that it is bound to, though the agent is not.
    let cut = broker.run(&["revoke", &id_of(&own), "--reason", "its key was stolen", "--wait", "20s"]).ok();
    assert_eq!((&cut["cut"]["certificates"], &cut["terminal"]), (&1.into(), &true.into()));
    assert_eq!(says(&offline, &other, &own), "certificate_revoked", "it is said to be enforced");
}

/// More comes at once than could be acknowledged one by one: it is acknowledged together.
#[tokio::test]
async fn many_signals_at_once_do_not_end_the_feed() {
    let broker = Broker::start();
    let identity = broker.pep("gateway", &[ORDERS]).await;
    let boss = Acting(broker.channel().await);
    let feed = Feed { addr: broker.addr.clone(), identity, staleness: Duration::from_secs(60) };
    let (offline, follow) = feed.follow();
    let following = tokio::spawn(follow);
    tokio::time::timeout(Duration::from_secs(20), offline.ready()).await.unwrap();
    // What comes now waits on the wire: this thread does nothing else.
    let elsewhere = std::thread::scope(|scope| scope.spawn(|| revoke_many(&broker)).join().unwrap());
    boss.revoke(&elsewhere).await.unwrap();
    let patience = Instant::now();
    while offline.position().is_none_or(|seq| seq < 150) {
        assert!(patience.elapsed() < Duration::from_secs(20), "{:?}", offline.position());
        assert!(offline.trouble().is_none(), "{:?}", offline.trouble());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(offline.trouble().is_none(), "{:?}", offline.trouble());
    following.abort();
}

/// Cuts 150 grants that nobody has seen, while the caller's runtime stands still; one more that is not cut.
fn revoke_many(broker: &Broker) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let now = belay::domain::time::Timestamp::from_millis(jiff::Timestamp::now().as_millisecond());
    runtime.block_on(async {
        let boss = Acting(broker.channel().await);
        for at in 0..150 {
            boss.revoke(&unseen(&format!("many-{at}"), now)).await.unwrap();
        }
    });
    unseen("last", now)
}
