//! The life of a broker process: one line when it is ready, what it serves to everybody, and its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use belay::client::Refusal;
use belay::domain::digest::Digest;
use belay::wire::v1::StartTaskRequest;
use belay::wire::v1::tasks_client::TasksClient;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::support::process::Broker;

#[tokio::test]
async fn keys_bundle_and_health_are_there_for_everybody() {
    let broker = Broker::start();
    for (path, body) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let (status, _, answer) = broker.page(path).await;
        assert_eq!((status.as_str(), answer.as_str()), ("HTTP/1.1 200 OK", body));
    }
    let (_, headers, keys) = broker.page("/.well-known/jwks.json").await;
    assert!(headers.contains("content-type: application/json") && headers.contains("max-age="), "{headers}");
    let keys: Value = serde_json::from_str(&keys).unwrap();
    let key = keys["keys"][0].as_object().unwrap();
    assert_eq!(
        (key["kty"].as_str(), key["alg"].as_str(), key["use"].as_str()),
        (Some("EC"), Some("ES256"), Some("sig"))
    );
    assert!(key["kid"].is_string() && key.get("d").is_none(), "{key:?}");
    let (_, _, bundle) = broker.page("/bundle").await;
    let bundle: Value = serde_json::from_str(&bundle).unwrap();
    let root = base64::engine::general_purpose::STANDARD.decode(bundle["keys"][0]["x5c"][0].as_str().unwrap()).unwrap();
    assert_eq!(
        (bundle["keys"][0]["use"].as_str(), Digest::of(&root)),
        (Some("x509-svid"), Digest::of(&broker.authority()))
    );
    // Two authorities, sixteen lists each.
    let (_, _, lists) = broker.page("/crl").await;
    assert_eq!(lists.lines().count(), 32, "{lists}");
    for list in lists.lines() {
        let path = list.strip_prefix("https://belay.dev").unwrap_or_else(|| panic!("{list}"));
        assert_eq!(broker.file(path).await.0, "HTTP/1.1 200 OK", "{list}");
    }
    for path in ["/", "/bundle/", "/../etc/passwd", "/.well-known/jwks.json/x", "/master.key"] {
        assert_eq!(broker.page(path).await.0, "HTTP/1.1 404 Not Found", "{path}");
    }

    let mut health = HealthClient::new(broker.channel_of_nobody().await);
    let serving = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(serving.status, tonic_health::pb::health_check_response::ServingStatus::Serving as i32);
    let unknown = HealthCheckRequest { service: "nothing".to_owned() };
    assert_eq!(health.check(unknown).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn told_to_stop_it_finishes_what_it_began_and_ends_well() {
    let home = tempfile::tempdir().unwrap();
    let mut broker = Broker::start_in(home.path(), &[]);
    let channel = broker.channel_as(&broker.enroll_agent("ana").await).await.unwrap();
    let stopped = Arc::new(AtomicBool::new(false));
    let asking: Vec<_> = (0..8)
        .map(|_| {
            let (mut tasks, stopped) = (TasksClient::new(channel.clone()), Arc::clone(&stopped));
            tokio::spawn(async move {
                let (mut begun, mut after) = (Vec::new(), 0);
                loop {
                    let request = StartTaskRequest { purpose: "testing".to_owned(), ..Default::default() };
                    match tasks.start(request).await {
                        Ok(started) => begun.push(started.into_inner().task.unwrap().id),
                        Err(lost) => {
                            // The broker refuses nothing; it is only not there any more.
                            let lost = Refusal::from(lost);
                            assert_eq!(lost.code, belay::domain::error::Code::Unavailable, "{lost}");
                            return (begun, after);
                        }
                    }
                    after += u32::from(stopped.load(Ordering::SeqCst));
                }
            })
        })
        .collect();
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    stopped.store(true, Ordering::SeqCst);
    kill_process(Pid::from_raw(broker.pid().cast_signed()).unwrap(), Signal::TERM).unwrap();
    let (mut begun, mut finished) = (Vec::new(), 0);
    for task in asking {
        let (ids, after) = task.await.unwrap();
        begun.extend(ids);
        finished += after;
    }
    assert!(begun.len() > 8 && finished > 0, "{} begun, {finished} of them under way when it was told", begun.len());
    let ended = tokio::task::spawn_blocking(move || broker.wait()).await.unwrap();
    assert_eq!(ended.code(), Some(0));

    // What it answered, it kept.
    let broker = Broker::start_in(home.path(), &[]);
    let listed = broker.run_as(&home.path().join("ana"), &["task", "list"]).ok();
    let listed: Vec<_> = listed["tasks"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap()).collect();
    assert!(begun.iter().all(|id| listed.contains(&id.as_str())));
    assert!(listed.len() <= begun.len() + 8, "{} begun, {} listed", begun.len(), listed.len());
}

#[test]
fn it_says_once_where_it_is_and_that_it_is_not_for_production() {
    use crate::support::process::serve;
    use std::io::Read as _;
    let home = tempfile::tempdir().unwrap();
    let arguments = ["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let mut child = serve(home.path(), &arguments, &[]).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        out.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    let ready: Value = serde_json::from_slice(&line).unwrap();
    let expected = (Some(true), Some("belay.dev"), home.path().to_str());
    assert_eq!((ready["ready"].as_bool(), ready["trust_domain"].as_str(), ready["home"].as_str()), expected, "{ready}");
    for listener in ["grpc", "http"] {
        let port = ready[listener].as_str().unwrap().strip_prefix("https://127.0.0.1:").unwrap();
        assert_ne!(port.parse::<u16>().unwrap(), 0);
    }
    assert!(home.path().join("operator/cert.pem").exists() && home.path().join("dev/ledger.db").exists());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    assert!(std::fs::read_to_string(home.path().join("serve.log")).unwrap().contains("NOT FOR PRODUCTION"));
}
