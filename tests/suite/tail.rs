//! Following the log: what is seen, who may see it for how long, and that no follower is in anybody's way.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use belay::attest::PeerCertificate;
use belay::broker::OwnIdentity;
use belay::domain::agent::{Kind, Role};
use belay::domain::time::Span;
use belay::edge;
use belay::wire::v1::audit_client::AuditClient;
use belay::wire::v1::{self, TailEventsRequest};
use rcgen::PublicKeyData as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::support::calls::{Acting, registration};
use crate::support::office::Office;
use crate::support::process::{Broker, belay, ended};
use crate::support::world::store;

const PATIENCE: Duration = Duration::from_secs(20);
/// Far below the ten seconds that a drain may take.
const AT_ONCE: Duration = Duration::from_secs(4);

async fn tail(channel: &Channel, request: TailEventsRequest) -> Streaming<v1::Event> {
    AuditClient::new(channel.clone()).tail(request).await.unwrap().into_inner()
}

fn from_the_start() -> TailEventsRequest {
    TailEventsRequest { after: Some(0), ..Default::default() }
}

async fn next(events: &mut Streaming<v1::Event>) -> v1::Event {
    timeout(PATIENCE, events.message()).await.unwrap().unwrap().unwrap()
}

/// How it ended, once all that was still to be had is read.
async fn end(mut events: Streaming<v1::Event>) -> tonic::Status {
    timeout(PATIENCE, async {
        loop {
            match events.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended as if all was said"),
                Err(status) => return status,
            }
        }
    })
    .await
    .unwrap()
}

/// An agent whose registration makes a long event.
fn long(name: &str) -> v1::RegisterAgentRequest {
    let label = |n: u32| v1::Label { key: format!("k{n}"), value: "é".repeat(256) };
    v1::RegisterAgentRequest { labels: (0..32).map(label).collect(), ..registration(name) }
}

/// Events of some megabytes in all: more than every window and buffer between here and the broker holds.
async fn fill(channel: &Channel) {
    for n in 0..600 {
        let mut agents = v1::agents_client::AgentsClient::new(channel.clone());
        agents.register(long(&format!("long{n}"))).await.unwrap();
    }
}

#[tokio::test]
async fn every_event_is_seen_once_and_in_order() {
    let broker = Broker::start();
    let channel = broker.channel().await;
    let size = broker.log_size(&channel).await;
    let mut all = tail(&channel, from_the_start()).await;
    let mut new = tail(&channel, TailEventsRequest::default()).await;
    let of_kind = |kind: &str| TailEventsRequest { kind: kind.to_owned(), ..from_the_start() };
    let mut registered = tail(&channel, of_kind("agent_registered")).await;
    for expected in 1..=size {
        assert_eq!(next(&mut all).await.seq, expected);
    }
    for n in 0..3 {
        broker.registered(&format!("agent{n}")).await;
        let event = next(&mut all).await;
        assert_eq!((event.seq, event.kind.as_str()), (size + 1 + n, "agent_registered"));
        assert_eq!(next(&mut new).await, event, "from now on is what came after");
        assert_eq!(next(&mut registered).await, event);
    }
    let mut later = tail(&channel, TailEventsRequest { after: Some(size + 1), ..Default::default() }).await;
    assert_eq!(next(&mut later).await.seq, size + 2);
    let wrong = AuditClient::new(channel.clone()).tail(of_kind("nonsense")).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn who_is_removed_sees_nothing_more() {
    let broker = Broker::start();
    let directory = broker.operator("eve", &["auditor"]).await;
    let eve = broker.channel_as(&directory).await.unwrap();
    let (waiting, mut reading) = (tail(&eve, TailEventsRequest::default()).await, tail(&eve, from_the_start()).await);
    next(&mut reading).await;
    broker.run(&["operator", "remove", "eve"]).ok();
    for events in [waiting, reading] {
        let status = end(events).await;
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    }
}

#[tokio::test]
async fn who_shows_a_certificate_that_is_cut_sees_nothing_more() {
    let broker = Broker::start();
    let eve = broker.channel_as(&broker.operator("eve", &["auditor"]).await).await.unwrap();
    let events = tail(&eve, TailEventsRequest::default()).await;
    let issued = broker.run(&["audit", "list", "--kind", "certificate_recorded"]).ok();
    let issued = issued["events"].as_array().unwrap();
    let own = issued.iter().rfind(|event| event.to_string().contains("eve")).unwrap();
    let certificate = own["detail"].to_string();
    let at = certificate.find("crt_").unwrap();
    broker.run(&["revoke", &certificate[at..at + 30], "--reason", "testing"]).ok();
    let status = end(events).await;
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    assert!(status.message().contains("was revoked"), "{status}");
}

#[tokio::test]
async fn a_slow_follower_delays_nobody() {
    let broker = Broker::start();
    let channel = broker.channel().await;
    let ana = Acting::with(&broker, &broker.enroll_agent("ana").await).await;
    // They read one event, and then nothing for as long as this lasts.
    let mut slow = Vec::new();
    for _ in 0..8 {
        // Each over a connection of its own: they do not hold up each other either.
        let mut events = tail(&broker.channel().await, from_the_start()).await;
        next(&mut events).await;
        slow.push(events);
    }
    fill(&channel).await;
    let begun = Instant::now();
    for _ in 0..20 {
        ana.task().await;
    }
    let started = TailEventsRequest { kind: "task_started".to_owned(), ..from_the_start() };
    let (mut fast, mut size) = (tail(&channel, started).await, 0);
    for _ in 0..20 {
        size = next(&mut fast).await.seq;
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    // And they lose nothing by being slow.
    let mut events = slow.pop().unwrap();
    for expected in 2..=size {
        assert_eq!(next(&mut events).await.seq, expected);
    }
}

#[tokio::test]
async fn only_so_many_follow_at_once() {
    let broker = Broker::start();
    let channel = broker.channel().await;
    let mut all = Vec::new();
    for _ in 0..32 {
        all.push(tail(&channel, TailEventsRequest::default()).await);
    }
    let ask = async || AuditClient::new(channel.clone()).tail(TailEventsRequest::default()).await;
    let refused = ask().await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    all.pop();
    let freed = async { while ask().await.is_err() {} };
    timeout(PATIENCE, freed).await.unwrap();
}

#[tokio::test]
async fn what_never_ends_by_itself_does_not_hold_up_the_end() {
    let mut broker = Broker::start();
    let channel = broker.channel().await;
    let waiting = tail(&channel, TailEventsRequest::default()).await;
    let mut watching =
        HealthClient::new(channel.clone()).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    timeout(PATIENCE, watching.message()).await.unwrap().unwrap();
    // One that has begun to ask, and does not go on.
    let half = tokio::spawn({
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        async move {
            grpc.ready().await.unwrap();
            let never = tokio_stream::pending::<v1::ListAgentsRequest>();
            let codec = tonic_prost::ProstCodec::<v1::ListAgentsRequest, v1::ListAgentsResponse>::default();
            let path = "/belay.v1.Agents/List".parse().unwrap();
            grpc.client_streaming(tonic::Request::new(never), path, codec).await.map(drop)
        }
    });
    // One that asks for much, and reads none of it.
    fill(&channel).await;
    let stalled = broker.channel().await;
    let mut unread = tail(&stalled, from_the_start()).await;
    next(&mut unread).await;
    tokio::time::sleep(Duration::from_millis(300)).await;

    let begun = Instant::now();
    kill_process(Pid::from_raw(broker.pid().cast_signed()).unwrap(), Signal::TERM).unwrap();
    let status = end(waiting).await;
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the broker is stopping; try again in a moment"));
    let watched = timeout(PATIENCE, async { while let Ok(Some(_)) = watching.message().await {} }).await;
    watched.unwrap();
    assert_eq!(timeout(PATIENCE, half).await.unwrap().unwrap().unwrap_err().code(), Code::Unavailable);
    let ended = tokio::task::spawn_blocking(move || broker.wait()).await.unwrap();
    assert_eq!(ended.code(), Some(0));
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    drop(unread);
}

/// A `belay audit tail` of its own, and its lines, which come in time or not at all.
fn followed(broker: &Broker, arguments: &[&str]) -> (Child, Receiver<String>) {
    let mut command = belay(&broker.home);
    command.args(["--addr", &broker.addr, "audit", "tail"]).args(arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let (lines, read) = std::sync::mpsc::sync_channel(0);
    std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
    (child, read)
}

/// How it ended by itself, and what it said on stderr.
fn said(child: Child) -> (Option<i32>, String) {
    let output = ended(child);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn the_command_follows_until_it_is_interrupted() {
    let broker = Broker::start();
    let (child, lines) = followed(&broker, &["--from", "1", "-o", "json"]);
    let all = broker.run(&["audit", "list"]).ok();
    for event in all["events"].as_array().unwrap() {
        let line: Value = serde_json::from_str(&lines.recv_timeout(PATIENCE).unwrap()).unwrap();
        assert_eq!(&line, event);
    }
    broker.agent("ana");
    let line: Value = serde_json::from_str(&lines.recv_timeout(PATIENCE).unwrap()).unwrap();
    assert_eq!((&line["kind"], &line["agent"]), (&"agent_registered".into(), &"ana".into()));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(said(child), (Some(0), String::new()));

    let (child, lines) = followed(&broker, &["--from", "1", "--kind", "agent_registered", "--field", "agent"]);
    assert_eq!(lines.recv_timeout(PATIENCE).unwrap(), "ana");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(said(child), (Some(0), String::new()));
    let ana = broker.home.join("ana");
    broker.run_as(&ana, &["audit", "tail"]).err(3);
    broker.run(&["audit", "tail", "--grant", "grt_x"]).err(2);
}

#[test]
fn a_follower_whose_reader_went_away_ends_with_the_next_event() {
    let broker = Broker::start();
    let (child, lines) = followed(&broker, &["--from", "1"]);
    assert!(lines.recv_timeout(PATIENCE).unwrap().contains("  "));
    drop(lines);
    broker.agent("ana");
    assert_eq!(said(child), (Some(0), String::new()));
}

#[test]
fn a_follower_of_a_broker_that_stops_is_told_where_to_go_on() {
    let mut broker = Broker::start();
    let (child, lines) = followed(&broker, &["--from", "1", "-o", "json"]);
    let size = broker.run(&["status"]).ok()["seq"].as_u64().unwrap();
    for _ in 0..size {
        lines.recv_timeout(PATIENCE).unwrap();
    }
    kill_process(Pid::from_raw(broker.pid().cast_signed()).unwrap(), Signal::TERM).unwrap();
    broker.wait();
    let (code, error) = said(child);
    assert_eq!(code, Some(7), "{error}");
    let error: Value = serde_json::from_str(&error).unwrap();
    assert!(
        error["error"]["message"].as_str().unwrap().ends_with(&format!("; go on with --from {}", size + 1)),
        "{error}"
    );
}

#[tokio::test]
async fn who_shows_a_certificate_that_ends_sees_nothing_more() {
    let directory = tempfile::tempdir().unwrap();
    let office = Office::open(Box::new(store(directory.path())), directory.path()).await;
    office.world.operator("eve", &[Role::Auditor]).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let (name, spki) = ("eve".parse().unwrap(), key.subject_public_key_info());
    let own = OwnIdentity { kind: Kind::Operator, name, spki, names: Vec::new(), why: "tail" };
    let issued = office.broker.own_identity(own).await.unwrap();
    let (_, health) = tonic_health::server::health_reporter();
    let (_stop, told) = tokio::sync::watch::channel(false);
    let hands = Arc::clone(&office.world.hands);
    let routes = edge::routes(&Arc::new(office.broker), &Arc::default(), health, &edge::Drain::new(told));
    let mut request = tonic::Request::new(from_the_start());
    let addr = "127.0.0.1:1".parse().unwrap();
    request.extensions_mut().insert(PeerCertificate::new(Some(issued.der), addr));
    let mut events = AuditClient::new(routes).tail(request).await.unwrap().into_inner();
    next(&mut events).await;
    hands.turn(Span::hours(23));
    next(&mut events).await;
    hands.turn(Span::hours(2));
    let status = end(events).await;
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    assert!(status.message().contains("has expired"), "{status}");
}
