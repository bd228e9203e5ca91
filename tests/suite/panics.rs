//! A panic ends one request: whoever made it gets INTERNAL and an id, all others go on, the log names the place
//! and not what was at hand there, and it is counted.

use std::path::Path;

use belay::client::Refusal;
use belay::wire::v1::audit_client::AuditClient;
use belay::wire::v1::{ListAgentsRequest, ListEventsRequest, agents_client::AgentsClient};
use tonic::{Code, Status};

use crate::support::process::Broker;

/// A broker that panics at the third time it comes by `place`.
fn faulty(home: &Path, place: &str) -> Broker {
    Broker::start_in(home, &[("BELAY_PANIC", &format!("{place}:3"))])
}

/// Holds if `panics` panics are counted, and the log has their line, with what belongs to it, and no secret.
async fn told(broker: &Broker, panics: u32, request_id: &str) {
    let (_, _, metrics) = broker.page("/metrics").await;
    let counted = format!("belay_panics_total{{thread=\"worker\"}} {panics}\n");
    assert!(metrics.contains(&counted), "{metrics}");
    let log = std::fs::read_to_string(broker.home.join("serve.log")).unwrap();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("panicked: this is a defect")).collect();
    assert_eq!(lines.len(), panics as usize, "{log}");
    assert!(lines.iter().all(|line| line.contains("fault.rs") && line.contains(request_id)), "{lines:?}");
    assert!(!log.contains("sesame"), "the log shows what the panic held: {log}");
}

async fn list(broker: &Broker, calls: usize) -> Vec<Result<(), Status>> {
    let channel = broker.channel().await;
    let calls: Vec<_> = (0..calls)
        .map(|_| {
            let mut audit = AuditClient::new(channel.clone());
            tokio::spawn(async move { audit.list(ListEventsRequest::default()).await.map(drop) })
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    answers
}

#[tokio::test]
async fn a_panic_ends_one_request_and_no_other_of_its_connection() {
    for place in ["access", "handler"] {
        let home = tempfile::tempdir().unwrap();
        let broker = faulty(home.path(), place);
        let answers = list(&broker, 8).await;
        let failed: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
        assert_eq!(failed.len(), 1, "{place}: {failed:?}");
        assert_eq!(failed[0].code(), Code::Internal);
        let refusal = Refusal::from(failed[0].clone());
        assert_eq!(refusal.reason, "panicked");
        assert!(!refusal.message.contains("sesame"), "{refusal}");
        told(&broker, 1, &refusal.request_id.expect("a failed request has an id")).await;
        assert!(list(&broker, 8).await.iter().all(Result::is_ok));
    }
}

#[tokio::test]
async fn a_panic_in_a_long_read_ends_that_read_and_not_those_that_wait() {
    let home = tempfile::tempdir().unwrap();
    let broker = faulty(home.path(), "aside");
    for nth in 1..=5 {
        let status = broker.run(&["status"]);
        match nth {
            3 => {
                let error = status.err(1);
                assert_eq!(error["detail"]["reason"], "panicked", "{error}");
                told(&broker, 1, error["request_id"].as_str().unwrap()).await;
            }
            _ => drop(status.ok()),
        }
    }
}

#[tokio::test]
async fn a_panic_in_a_page_ends_that_page() {
    let home = tempfile::tempdir().unwrap();
    let broker = faulty(home.path(), "page");
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(broker.page("/healthz").await.0);
    }
    let good = "HTTP/1.1 200 OK";
    assert_eq!(statuses, [good, good, "HTTP/1.1 500 Internal Server Error", good, good]);
    told(&broker, 1, "").await;
}

#[tokio::test]
async fn a_panic_in_a_handshake_ends_that_connection() {
    let home = tempfile::tempdir().unwrap();
    let broker = faulty(home.path(), "handshake");
    // An open connection lives on beside it.
    let mut agents = AgentsClient::new(broker.channel().await);
    agents.list(ListAgentsRequest::default()).await.unwrap();
    let codes: Vec<i32> = (0..4).map(|_| broker.run(&["agent", "list"]).code).collect();
    assert_eq!(codes, [0, 7, 0, 0]);
    agents.list(ListAgentsRequest::default()).await.unwrap();
    told(&broker, 1, "").await;
}
