//! Connections and the certificates that they show: who is let in, and how long who is in may stay.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use belay::client::Identity;
use belay::wire::v1;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::support::calls::Acting;
use crate::support::needs;
use crate::support::process::Broker;

/// Longer than a connection stays that is refused everything.
const STAYS: Duration = Duration::from_secs(12);

/// Follows the broker's health on a connection of its own, until that ends: how long that took.
async fn followed(broker: &Broker, identity: &std::path::Path) -> tokio::task::JoinHandle<Duration> {
    let mut health = HealthClient::new(broker.channel_as(identity).await.unwrap());
    let mut watched = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert!(watched.message().await.unwrap().is_some());
    belay::server::task::spawn(async move {
        let since = Instant::now();
        let _ = tokio::time::timeout(STAYS, async { while let Ok(Some(_)) = watched.message().await {} }).await;
        since.elapsed()
    })
}

#[tokio::test]
async fn a_stream_ends_with_the_certificate_that_its_connection_shows() {
    let broker = Broker::start();
    let (ana, bob) = (broker.enroll_agent("ana").await, broker.enroll_agent("bob").await);
    let eve = broker.operator("eve", &["auditor"]).await;
    let certificate = broker.home.join("certificate");
    let acting = Acting::with(&broker, &ana).await;
    let (grant, ..) = acting.granted().await;
    acting.certified(&grant, &certificate).await;
    let mut audit = v1::audit_client::AuditClient::new(broker.channel_as(&eve).await.unwrap());
    let mut tail = audit.tail(v1::TailEventsRequest::default()).await.unwrap().into_inner();
    let (over, stays) = (followed(&broker, &certificate).await, followed(&broker, &bob).await);
    let halted = broker.home.join("halted");
    let (other, ..) = acting.granted().await;
    acting.certified(&other, &halted).await;
    let kept = followed(&broker, &halted).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    broker.run(&["grant", "suspend", &other, "--reason", "testing"]);
    broker.run(&["revoke", &grant, "--reason", "testing"]).ok();
    broker.run(&["operator", "remove", "eve", "--reason", "testing"]).ok();
    let took = over.await.unwrap();
    assert!(took < STAYS, "the stream goes on");
    println!("a stream ends {} ms after it began, some 3 s after the revoke", took.as_millis());
    let ended = tokio::time::timeout(STAYS, async { while let Ok(Some(_)) = tail.message().await {} }).await;
    assert!(ended.is_ok(), "a removed operator follows the log");
    assert!(broker.channel_as(&eve).await.is_err(), "a removed operator opens a connection");
    assert!(broker.channel_as(&certificate).await.is_err());
    assert!(stays.await.unwrap() >= STAYS && kept.await.unwrap() >= STAYS, "others stay, halted ones too");
}

#[tokio::test]
async fn a_retired_agent_still_connects_to_give_back_what_it_holds() {
    let broker = Broker::start();
    let ana = broker.enroll_agent("ana").await;
    let (_, token, _) = Acting::with(&broker, &ana).await.granted().await;
    broker.run(&["agent", "retire", "ana", "--reason", "testing"]).ok();
    let revoked = Acting::with(&broker, &ana).await.revoke(&token).await.unwrap().into_inner();
    assert_eq!(revoked.cut.unwrap().tokens, 1);
}

#[tokio::test]
async fn whoever_is_refused_at_the_handshake_is_told_in_a_line() {
    let broker = Broker::start();
    let ana = broker.enroll_agent("ana").await;
    let events = broker.run(&["audit", "list", "--kind", "certificate_recorded", "--agent", "ana"]).ok();
    let identity = events["events"][0]["detail"]["certificate"]["id"].as_str().unwrap().to_owned();
    broker.run(&["revoke", &identity, "--reason", "testing"]).ok();
    let error = broker.run_as(&ana, &["task", "list"]).err(6);
    assert_eq!(error["detail"]["reason"], "tls_refused", "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("it refused our certificate as revoked") && !message.contains('\n'), "{message}");
}

#[tokio::test]
async fn no_session_is_resumed_past_a_revoke() {
    if !needs("no_session_is_resumed_past_a_revoke", "openssl", Command::new("openssl").arg("version").output().is_ok())
    {
        return;
    }
    let broker = Broker::start();
    let ana = Acting::with(&broker, &broker.enroll_agent("ana").await).await;
    let (grant, ..) = ana.granted().await;
    let directory = broker.home.join("certificate");
    ana.certified(&grant, &directory).await;
    assert!(Identity::load(&directory).is_ok());
    let address = broker.addr.trim_start_matches("https://").to_owned();
    let connect = |version: &str, more: &str| {
        let arguments = format!(
            "s_client -connect {address} -servername localhost -alpn h2 -cert cert.pem -key key.pem -CAfile ca.pem \
             -{version} {more}"
        );
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace()).current_dir(&directory).stdin(Stdio::null());
        let ran = command.output().unwrap();
        String::from_utf8_lossy(&[&ran.stdout[..], &ran.stderr].concat()).into_owned()
    };
    for version in ["tls1_2", "tls1_3"] {
        let first = connect(version, "-sess_out session.pem");
        assert!(first.contains("New, TLSv1.") && !first.contains("session ticket:"), "{first}");
        if directory.join("session.pem").exists() {
            let again = connect(version, "-sess_in session.pem");
            assert!(again.contains("New, TLSv1.") && !again.contains("Reused"), "{again}");
        }
    }
    let again = connect("tls1_2", "-reconnect");
    assert!(again.contains("New, TLSv1.2") && !again.contains("Reused"), "{again}");
    broker.run(&["revoke", &grant, "--reason", "testing"]).ok();
    for version in ["tls1_2", "tls1_3"] {
        // In TLS 1.3 the refusal comes after the client's handshake: it has to wait for it.
        let session = if directory.join("session.pem").exists() { "-ign_eof -sess_in session.pem" } else { "-ign_eof" };
        let refused = connect(version, session);
        // OpenSSL names the alert of RFC 8446 section 6.2: certificate_revoked.
        assert!(refused.contains("certificate revoked"), "{version}: {refused}");
    }
}

#[tokio::test]
async fn a_connection_ends_soon_after_the_certificate_that_it_shows() {
    let broker = Broker::start();
    let ana = Acting::with(&broker, &broker.enroll_agent("ana").await).await;
    let (task, scopes) = (ana.task().await, vec!["db:read@**".to_owned()]);
    let request = v1::RequestGrantRequest { task, scopes, ttl_ms: 5000, ..Default::default() };
    let grant = ana.request(request).await.unwrap().into_inner().grant.unwrap().id;
    let certificate = broker.home.join("certificate");
    ana.certified(&grant, &certificate).await;
    let took = followed(&broker, &certificate).await.await.unwrap();
    assert!(took < STAYS, "the stream goes on");
    assert!(took > Duration::from_secs(2), "the certificate was good for longer: {took:?}");
}
