//! Who somebody is, over time: identities renewed, suspended, retired, removed, expired.

use std::sync::Arc;

use belay::attest::csr;
use belay::broker::{Asked, Broker as Inner, Foundation};
use belay::client::{Identity, identity};
use belay::domain::decide::{Caller, RegisterAgent};
use belay::domain::error::Error;
use belay::domain::time::Span;
use belay::format::join::JoinToken;
use belay::ledger::Seeds;
use belay::store::Sqlite;
use belay::wire::v1;
use belay::wire::v1::{grants_client::GrantsClient, identity_client::IdentityClient, tasks_client::TasksClient};
use tonic::Code;

use crate::support::calls::{Acting, enroll, refused};
use crate::support::process::Broker;
use crate::support::world::Hands;

#[tokio::test]
async fn a_removed_operator_is_nobody_at_once_and_for_good() {
    let broker = Broker::start();
    let directory = broker.operator("ana", &["admin", "responder", "auditor"]).await;
    let open = Acting(broker.channel_as(&directory).await.unwrap());
    let mut agents = v1::agents_client::AgentsClient::new(open.0.clone());
    agents.list(v1::ListAgentsRequest {}).await.unwrap();
    let invited = broker.run(&["operator", "invite", "ana"]).ok()["join_token"].as_str().unwrap().to_owned();
    assert_eq!(broker.run(&["operator", "remove", "ana", "--reason", "left"]).ok()["operator"]["status"], "removed");

    let listed = agents.list(v1::ListAgentsRequest {}).await;
    refused("on its open connection", listed, Code::Unauthenticated, "caller_unknown", 6);
    refused("its revokes", open.revoke("agent:bob").await, Code::Unauthenticated, "caller_unknown", 6);
    let (_, csr) = identity::request(None).unwrap();
    let renewed = IdentityClient::new(open.0).renew(v1::RenewIdentityRequest { csr: csr.clone() }).await;
    refused("its renewal", renewed, Code::Unauthenticated, "caller_unknown", 6);
    let enrolled = enroll(broker.channel_of_nobody().await, &invited, csr).await;
    refused("its invitation", enrolled, Code::PermissionDenied, "not_active", 3);
    assert_eq!(broker.run_as(&directory, &["agent", "list"]).err(6)["detail"]["reason"], "tls_refused");
    assert_eq!(broker.run(&["operator", "invite", "ana"]).err(5)["detail"]["reason"], "not_found");
    assert_eq!(
        broker.run(&["operator", "add", "ana", "--role", "auditor"]).err(1)["detail"]["reason"],
        "operator_exists"
    );
    // Saying it again changes nothing.
    assert_eq!(broker.run(&["operator", "remove", "ana"]).ok()["operator"]["status"], "removed");
}

#[tokio::test]
async fn a_role_may_what_it_is_for_and_no_more() {
    let broker = Broker::start();
    broker.registered("bob").await;
    let bob = ["agent", "suspend", "bob", "--reason", "testing"];
    let register = ["agent", "register", "carol", "--owner", "team", "--purpose", "testing"];
    let audit = ["audit", "list", "--limit", "1"];
    for (role, suspends, registers, reads) in
        [("approver", 3, 3, 3), ("auditor", 3, 3, 0), ("responder", 0, 3, 0), ("admin", 0, 0, 0)]
    {
        let directory = broker.operator(role, &[role]).await;
        for (arguments, code) in [(&bob[..], suspends), (&register, registers), (&audit, reads)] {
            let ran = broker.run_as(&directory, arguments);
            assert_eq!(ran.code, code, "{role}: {ran:?}");
            if code == 3 {
                assert!(ran.err(3)["message"].as_str().unwrap().contains(role), "{ran:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_agent_that_was_halted_may_only_give_back() {
    let broker = Broker::start();
    for (verb, status) in [("suspend", "suspended"), ("retire", "retired")] {
        let directory = broker.enroll_agent(status).await;
        let agent = Acting::with(&broker, &directory).await;
        let (grants, mut tasks) = (GrantsClient::new(agent.0.clone()), TasksClient::new(agent.0.clone()));
        let (kept, _, token) = agent.granted().await;
        let (given, ..) = agent.granted().await;
        let (cut, token_id, _) = agent.granted().await;
        let task = agent.task().await;
        assert_eq!(agent.verify(&token).await, "");
        broker.run(&["agent", verb, status, "--reason", "testing"]).ok();

        let refuse = |what: &str, answer: Result<tonic::Response<()>, tonic::Status>| {
            let refusal = refused(what, answer, Code::PermissionDenied, "agent_not_active", 3);
            assert!(refusal.message.contains(status), "{refusal}");
        };
        let start = v1::StartTaskRequest { purpose: "testing".into(), ..Default::default() };
        refuse("a task", tasks.start(start).await.map(|answer| answer.map(|_| ())));
        refuse("a token", agent.issue(&kept).await.map(|answer| answer.map(|_| ())));
        let renew = v1::RenewGrantRequest { id: kept.clone(), ttl_ms: 0 };
        refuse("a renewal", grants.clone().renew(renew).await.map(|answer| answer.map(|_| ())));
        let verify = v1::VerifyTokenRequest { token: token.clone(), presenter: Vec::new(), ..Default::default() };
        let verified = v1::tokens_client::TokensClient::new(agent.0.clone()).verify(verify).await;
        refuse("a question", verified.map(|answer| answer.map(|_| ())));
        let (_, csr) = identity::request(None).unwrap();
        let renewed = IdentityClient::new(agent.0.clone()).renew(v1::RenewIdentityRequest { csr }).await;
        refuse("a new identity", renewed.map(|answer| answer.map(|_| ())));

        let operator = Acting(broker.channel().await);
        let expected = if status == "retired" { "agent_retired" } else { "agent_suspended" };
        assert_eq!(operator.verify(&token).await, expected);
        agent.revoke(&token_id).await.unwrap();
        agent.revoke(&cut).await.unwrap();
        let change = v1::ChangeGrantRequest { id: given, reason: "testing".into() };
        grants.clone().complete(change).await.unwrap();
        tasks.end(v1::EndTaskRequest { id: task, reason: "testing".into() }).await.unwrap();
        refused("another's", agent.revoke("agent:dev").await, Code::NotFound, "not_found", 5);

        let resumed = broker.run(&["agent", "resume", status]);
        if status == "retired" {
            assert_eq!(resumed.err(3)["detail"]["reason"], "agent_retired");
        } else {
            // What it did not give back lives again, and nothing else.
            resumed.ok();
            assert_eq!(agent.verify(&token).await, "");
            refused("cut", agent.issue(&cut).await, Code::PermissionDenied, "grant_revoked", 3);
        }
        agent.revoke(&format!("agent:{status}")).await.unwrap();
    }
}

#[tokio::test]
async fn a_renewed_identity_is_another_and_the_old_one_keeps_its_tokens() {
    let broker = Broker::start();
    let directory = broker.enroll_agent("ana").await;
    let old = Acting::with(&broker, &directory).await;
    let (grant, _, token) = old.granted().await;
    let before = Identity::load(&directory).unwrap().certificate().to_vec();
    let kept = broker.home.join("kept");
    std::fs::create_dir(&kept).unwrap();
    for name in ["cert.pem", "key.pem", "ca.pem"] {
        std::fs::copy(directory.join(name), kept.join(name)).unwrap();
    }
    broker.run_as(&directory, &["agent", "renew"]).ok();
    let after = Identity::load(&directory).unwrap().certificate().to_vec();
    assert_ne!(before, after);

    let new = Acting::with(&broker, &directory).await;
    let fresh = new.issue(&grant).await.unwrap().into_inner().token;
    let again = Acting::with(&broker, &kept).await;
    for (holder, mine, other) in [(&new, &fresh, &token), (&old, &token, &fresh), (&again, &token, &fresh)] {
        assert_eq!((holder.verify(mine).await, holder.decided(mine).await), (String::new(), "in_scope".to_owned()));
        assert_eq!(holder.verify(other).await, "possession");
    }

    // Nobody renews without the key of a valid identity, and nobody for another.
    let (_, csr) = identity::request(None).unwrap();
    let request = || v1::RenewIdentityRequest { csr: csr.clone() };
    let mut nobody = IdentityClient::new(broker.channel_of_nobody().await);
    refused("nobody", nobody.renew(request()).await, Code::Unauthenticated, "no_certificate", 6);
    let bob = broker.enroll_agent("bob").await;
    let mut bob = IdentityClient::new(broker.channel_as(&bob).await.unwrap());
    let (_, asking) = identity::request(Some("spiffe://belay.dev/agent/ana")).unwrap();
    let stolen = bob.renew(v1::RenewIdentityRequest { csr: asking }).await;
    refused("bob as ana", stolen, Code::InvalidArgument, "csr_asks", 2);
    assert_eq!(bob.renew(request()).await.unwrap().into_inner().spiffe_id, "spiffe://belay.dev/agent/bob");
}

/// A broker in this process, whose clock a test turns.
async fn inner(directory: &std::path::Path, hands: &Arc<Hands>) -> Inner {
    let foundation = Foundation {
        store: Box::new(Sqlite::open(directory).unwrap()),
        clock: Arc::clone(hands) as _,
        seeds: Seeds::system(),
        snapshot_every: 1_000,
        trust_domain: "belay.dev".parse().unwrap(),
        issuer: "https://belay.dev".parse().unwrap(),
        address: "https://127.0.0.1:1".to_owned(),
        policies: belay::cedar::Set::dev,
    };
    Inner::open(foundation, directory).await.unwrap()
}

#[tokio::test]
async fn a_join_token_lives_ten_minutes_and_an_identity_a_day() {
    let (directory, hands) = (tempfile::tempdir().unwrap(), Hands::new());
    let broker = inner(directory.path(), &hands).await;
    let (boss, nobody) = (Asked::broker("test"), Asked { caller: Caller::Stranger, request_id: "test".to_owned() });
    let (_, csr) = identity::request(None).unwrap();
    let spki = csr::prove(&csr).unwrap().spki;
    let mut tokens = Vec::new();
    for name in ["early", "late"] {
        let secret = broker.join_secret();
        let [owner, purpose] = ["team", "testing"].map(|text| text.parse().unwrap());
        let (name, labels) = (name.parse().unwrap(), Vec::new());
        let secret_hash = secret.hash();
        let command = RegisterAgent { name, owner, purpose, ceiling: None, max_ttl: None, labels, secret_hash };
        let (_, join) = broker.submit(&boss, command).await.unwrap();
        tokens.push(broker.join_token(&join, secret).parse::<JoinToken>().unwrap());
    }
    hands.turn(Span::millis(10 * 60_000 - 1));
    let issued = broker.enroll(&nobody, &tokens[0], None, &spki, |_| Ok(())).await.unwrap();
    hands.turn(Span::millis(1));
    for token in &tokens {
        let refused = broker.enroll(&nobody, token, None, &spki, |_| Ok(())).await.unwrap_err();
        assert_eq!((refused.reason, tonic::Status::from(refused).code()), ("join_expired", Code::Unauthenticated));
    }

    let (kind, presenter) = belay::attest::mtls::present(&issued.der, &"belay.dev".parse().unwrap()).unwrap();
    assert_eq!(kind.as_str(), "agent");
    let agent = Asked { caller: Caller::Agent(presenter.clone()), request_id: "test".to_owned() };
    let renew = async || broker.renew(&agent, &spki, |_| Ok(())).await.map(|_| ());
    renew().await.unwrap();
    let left = presenter.not_after.since(broker.ledger().now());
    assert!(left > Span::hours(23) && left <= Span::hours(24), "{left:?}");
    hands.turn(Span::millis(left.as_millis() - 1));
    renew().await.unwrap();
    hands.turn(Span::millis(1));
    let code = |error: Error| tonic::Status::from(error).code();
    let refused = renew().await.unwrap_err();
    assert_eq!((refused.reason, code(refused)), ("certificate_expired", Code::Unauthenticated));
}
