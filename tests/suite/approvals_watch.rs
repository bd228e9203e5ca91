//! Following approvals: what the clock brings, who may not follow any more, and that no follower is in anybody's way.

use std::sync::Arc;
use std::time::Duration;

use belay::attest::PeerCertificate;
use belay::broker::OwnIdentity;
use belay::domain::agent::{Kind, Role};
use belay::domain::approval::PROMPTS_PER_HOUR;
use belay::domain::time::Span;
use belay::edge;
use belay::wire::v1::approvals_client::ApprovalsClient;
use belay::wire::v1::{self, WatchApprovalsRequest};
use rcgen::PublicKeyData as _;
use tokio::time::timeout;
use tonic::{Code, Streaming};

use crate::support::office::Office;
use crate::support::panel::{ONE, Panel};
use crate::support::world::{World, store};

const PATIENCE: Duration = Duration::from_secs(20);

async fn next(told: &mut Streaming<v1::Approval>) -> (String, String) {
    let told = timeout(PATIENCE, told.message()).await.unwrap().unwrap().unwrap();
    (told.id, told.state)
}

/// A panel over a whole broker, and bea's view of its approvals, each time anew.
struct Desk {
    panel: Panel,
    routes: tonic::service::Routes,
    der: Vec<u8>,
    stop: tokio::sync::watch::Sender<bool>,
}

impl Desk {
    async fn open(directory: &std::path::Path) -> Self {
        let office = Office::open(Box::new(store(directory)), directory).await;
        let Office { broker, world } = office;
        let World { ledger, hands } = &world;
        let world = World { ledger: Arc::clone(ledger), hands: Arc::clone(hands) };
        let panel = Panel::over(world).await;
        let key = rcgen::KeyPair::generate().unwrap();
        let (name, spki) = ("bea".parse().unwrap(), key.subject_public_key_info());
        let own = OwnIdentity { kind: Kind::Operator, name, spki, names: Vec::new(), why: "watch" };
        let der = broker.own_identity(own).await.unwrap().der;
        let (_, health) = tonic_health::server::health_reporter();
        let (stop, told) = tokio::sync::watch::channel(false);
        let routes = edge::routes(&Arc::new(broker), &Arc::default(), health, &edge::Drain::new(told));
        Self { panel, routes, der, stop }
    }

    async fn watch(&self) -> Result<Streaming<v1::Approval>, tonic::Status> {
        let mut request = tonic::Request::new(WatchApprovalsRequest {});
        let addr = "127.0.0.1:1".parse().unwrap();
        request.extensions_mut().insert(PeerCertificate::new(Some(self.der.clone()), addr));
        Ok(ApprovalsClient::new(self.routes.clone()).watch(request).await?.into_inner())
    }
}

#[tokio::test]
async fn a_queued_approval_is_told_when_its_time_comes() {
    let directory = tempfile::tempdir().unwrap();
    let desk = Desk::open(directory.path()).await;
    desk.panel.crowd().await;
    let mut told = desk.watch().await.unwrap();
    for _ in 0..PROMPTS_PER_HOUR {
        assert_eq!(next(&mut told).await.1, "pending");
    }
    desk.panel.world.hands.turn(Span::minutes(1));
    let queued = desk.panel.wait(ONE).await;
    assert!(timeout(Duration::from_millis(1500), told.message()).await.is_err(), "bea has been asked enough");
    desk.panel.world.hands.turn(Span::minutes(59));
    // Nothing happens in the log: the clock alone brings it, and ends what was asked an hour ago.
    let mut states = Vec::new();
    for _ in 0..=PROMPTS_PER_HOUR {
        states.push(next(&mut told).await);
    }
    assert_eq!(states.pop().unwrap(), (queued.id.to_string(), "pending".to_owned()));
    assert!(states.iter().all(|(_, state)| state == "expired"), "{states:?}");
}

#[tokio::test]
async fn a_follower_who_reads_nothing_delays_nobody_and_is_told_how_it_stands() {
    let directory = tempfile::tempdir().unwrap();
    let desk = Desk::open(directory.path()).await;
    let mut slow = Vec::new();
    for _ in 0..8 {
        slow.push(desk.watch().await.unwrap());
    }
    let approvals = [desk.panel.wait(ONE).await, desk.panel.wait(ONE).await];
    desk.panel.approve(&desk.panel.carl, &approvals[0]).await.unwrap();
    desk.panel.deny(&desk.panel.carl, approvals[1].id).await.unwrap();
    for told in &mut slow {
        let mut last = std::collections::BTreeMap::new();
        while last.values().filter(|state| **state != "pending").count() < 2 {
            let (id, state) = next(told).await;
            last.insert(id, state);
        }
        let states = approvals.each_ref().map(|one| last[&one.id.to_string()].as_str());
        assert_eq!(states, ["approved", "denied"]);
    }
}

#[tokio::test]
async fn a_follower_ends_with_its_identity_or_the_broker() {
    let directory = tempfile::tempdir().unwrap();
    let desk = Desk::open(directory.path()).await;
    let end = async |mut told: Streaming<v1::Approval>| timeout(PATIENCE, told.message()).await.unwrap().unwrap_err();
    let mut all = Vec::new();
    while let Ok(told) = desk.watch().await {
        all.push(told);
        assert!(all.len() <= 64, "as many as like follow");
    }
    assert_eq!(desk.watch().await.unwrap_err().code(), Code::ResourceExhausted);
    desk.panel.world.operator("eva", &[Role::Approver]).await;
    let one = all.pop().unwrap();
    desk.panel.world.hands.turn(Span::hours(25));
    let status = end(one).await;
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    drop(all);

    let directory = tempfile::tempdir().unwrap();
    let desk = Desk::open(directory.path()).await;
    let told = desk.watch().await.unwrap();
    desk.stop.send(true).unwrap();
    assert_eq!(end(told).await.code(), Code::Unavailable);
}
