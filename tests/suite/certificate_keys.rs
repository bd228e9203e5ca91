//! Whose key a certificate under a grant may be for: one that serves this grant and nothing else.

use std::path::{Path, PathBuf};

use belay::client::identity::request_with;
use belay::wire::v1;
use tonic::Code;

use crate::support::calls::{Acting, enroll, refused};
use crate::support::process::Broker;

/// A request by the key in this directory.
fn csr(directory: &Path) -> Vec<u8> {
    request_with(&std::fs::read_to_string(directory.join("key.pem")).unwrap(), None).unwrap()
}

struct Two {
    broker: Broker,
    ana: PathBuf,
    bob: PathBuf,
}

impl Two {
    async fn new() -> Self {
        let broker = Broker::start();
        let (ana, bob) = (broker.enroll_agent("ana").await, broker.enroll_agent("bob").await);
        Self { broker, ana, bob }
    }

    async fn acting(&self) -> (Acting, Acting) {
        (Acting::with(&self.broker, &self.ana).await, Acting::with(&self.broker, &self.bob).await)
    }
}

#[tokio::test]
async fn the_key_of_a_certificate_serves_one_grant_of_one_agent_alone() {
    let two = Two::new().await;
    let (ana, bob) = two.acting().await;
    let ((grant, ..), (other, ..), (bobs, ..)) = (ana.granted().await, ana.granted().await, bob.granted().await);
    let certificate = two.broker.home.join("certificate");
    ana.certified(&grant, &certificate).await;
    let in_use = async |what: &str, agent: &Acting, grant: &str, key: &Path| {
        let answer = agent.certify(grant, csr(key), "").await;
        let refusal = refused(what, answer, Code::PermissionDenied, "key_in_use", 3);
        assert_eq!(refusal.field.as_deref(), Some("csr"), "{what}");
    };
    in_use("its identity's key", &ana, &grant, &two.ana).await;
    in_use("another's identity's key", &ana, &grant, &two.bob).await;
    in_use("the operator's key", &ana, &grant, &two.broker.home.join("operator")).await;
    in_use("the key of another grant", &ana, &other, &certificate).await;
    in_use("the key of another's grant", &bob, &bobs, &certificate).await;
    // For this grant it may be had again, as after a renewal.
    ana.certify(&grant, csr(&certificate), "").await.unwrap();
}

#[tokio::test]
async fn requests_at_once_do_not_get_one_key_under_two_grants() {
    let two = Two::new().await;
    let (ana, _) = two.acting().await;
    let mut grants = Vec::new();
    for _ in 0..8 {
        grants.push(ana.granted().await.0);
    }
    let key = belay::client::identity::request(None).unwrap().0;
    let asks = grants.iter().map(|grant| {
        let (ana, grant, csr) = (ana.clone(), grant.clone(), request_with(&key, None).unwrap());
        tokio::spawn(async move { ana.certify(&grant, csr, "").await.is_ok() })
    });
    let mut issued = 0;
    for ask in asks.collect::<Vec<_>>() {
        issued += u32::from(ask.await.unwrap());
    }
    assert_eq!(issued, 1);
}

#[tokio::test]
async fn a_key_whose_certificate_was_revoked_gets_no_other() {
    let two = Two::new().await;
    let (ana, _) = two.acting().await;
    let (grant, ..) = ana.granted().await;
    let certificate = two.broker.home.join("certificate");
    let id = ana.certified(&grant, &certificate).await;
    two.broker.run(&["revoke", &id, "--reason", "the key was stolen"]).ok();
    let answer = ana.certify(&grant, csr(&certificate), "").await;
    refused("a stolen key", answer, Code::PermissionDenied, "key_revoked", 3);
    ana.certified(&grant, &two.broker.home.join("fresh")).await;
}

#[tokio::test]
async fn the_key_of_a_certificate_under_a_grant_becomes_nobodys_identity() {
    let two = Two::new().await;
    let (ana, bob) = two.acting().await;
    let (grant, ..) = ana.granted().await;
    let certificate = two.broker.home.join("certificate");
    ana.certified(&grant, &certificate).await;
    for (what, agent) in [("its holder", &ana), ("another", &bob)] {
        let request = v1::RenewIdentityRequest { csr: csr(&certificate) };
        let answer = v1::identity_client::IdentityClient::new(agent.0.clone()).renew(request).await;
        let refusal = refused(what, answer, Code::PermissionDenied, "key_in_use", 3);
        assert_eq!(refusal.field.as_deref(), Some("csr"), "{what}");
    }
    let (token, nobody) = (two.broker.registered("eve").await, two.broker.channel_of_nobody().await);
    let answer = enroll(nobody.clone(), &token, csr(&certificate)).await;
    refused("who joins", answer, Code::PermissionDenied, "key_in_use", 3);
    // That did not spend the invitation.
    let (_, fresh) = belay::client::identity::request(None).unwrap();
    enroll(nobody, &token, fresh).await.unwrap();
}
