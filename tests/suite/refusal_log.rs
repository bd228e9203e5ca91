//! Each request that is refused is one line of the log, found by its id; what was sent in the wrong place is not in it.

use belay::client::Refusal;
use serde_json::Value;
use tonic::Code;

use crate::support::calls::Acting;
use crate::support::process::Broker;

/// The lines of the log about a request.
fn lines(broker: &Broker, request_id: &str) -> Vec<Value> {
    let log = std::fs::read_to_string(broker.home.join("serve.log")).unwrap();
    let lines = log.lines().filter(|line| line.contains(request_id));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_refused_request_is_one_line_with_its_id_and_its_reason() {
    let broker = Broker::start();
    let ana = Acting::with(&broker, &broker.enroll_agent("ana").await).await;
    let secret = broker.registered("ben").await;
    let unknown = "grt_01m82g50e7e5p8q7n47tp710d0";
    let nobody = Acting(broker.channel_of_nobody().await);
    let refused = [
        (ana.issue(unknown).await.map(drop), Code::NotFound, "not_found", "/belay.v1.Tokens/Issue"),
        (ana.revoke(&secret).await.map(drop), Code::InvalidArgument, "malformed", "/belay.v1.Revocations/Revoke"),
        (nobody.issue(unknown).await.map(drop), Code::Unauthenticated, "no_certificate", "/belay.v1.Tokens/Issue"),
    ];
    for (answer, code, reason, rpc) in refused {
        let status = answer.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        let id = Refusal::from(status).request_id.expect("a refused request has an id");
        let lines = lines(&broker, &id);
        assert_eq!(lines.len(), 1, "{lines:?}");
        let (line, span) = (&lines[0], &lines[0]["span"]);
        let told = (line["level"].as_str(), line["fields"]["reason"].as_str(), span["rpc"].as_str());
        assert_eq!(told, (Some("INFO"), Some(reason), Some(rpc)), "{line}");
    }
    let log = std::fs::read_to_string(broker.home.join("serve.log")).unwrap();
    assert!(!log.contains(&secret[..40]), "a join token in the wrong field stands in the log: {log}");
}
