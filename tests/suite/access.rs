//! Who may call what: every RPC, as every kind of caller, held against a table that was read and agreed on.

use std::fmt::Write as _;

use belay::edge::access::ACCESS;
use belay::wire::DESCRIPTOR;
use belay::wire::v1::{self, TailEventsRequest};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;
use tonic::transport::Channel;

use crate::support::calls::{Acting, raw, refused};
use crate::support::process::Broker;

/// What every caller below gets from every RPC. A change of the access table shows here, line by line.
const AGREED: &str = include_str!("access_matrix.txt");

/// Nobody is asked for an approval here: whoever may follow them waits.
const ASKED_NOTHING: &str = "/belay.v1.Approvals/Watch";

/// Every RPC of the interface, as `/package.Service/Method`: those of the compiled descriptor, and gRPC health.
fn rpcs() -> Vec<String> {
    let mut rpcs = Vec::new();
    for set in [DESCRIPTOR, tonic_health::pb::FILE_DESCRIPTOR_SET] {
        for file in &FileDescriptorSet::decode(set).unwrap().file {
            for service in &file.service {
                let name = |method: &str| format!("/{}.{}/{method}", file.package(), service.name());
                rpcs.extend(service.method.iter().map(|method| name(method.name())));
            }
        }
    }
    rpcs.sort();
    rpcs
}

/// What the caller got: `allow` if the table let it through, whatever the handler then said of an empty body.
async fn verdict(channel: &Channel, rpc: &str) -> &'static str {
    // Whoever follows the log from its start has something to read.
    let body = if rpc.ends_with("/Tail") {
        TailEventsRequest { after: Some(0), ..Default::default() }.encode_to_vec()
    } else {
        Vec::new()
    };
    let patience = std::time::Duration::from_secs(if rpc == ASKED_NOTHING { 1 } else { 5 });
    let answer = match tokio::time::timeout(patience, raw(channel, rpc, body)).await {
        Err(_) if rpc == ASKED_NOTHING => return "allow",
        answer => answer.unwrap(),
    };
    match answer.as_ref().map_err(tonic::Status::code) {
        Ok(_) | Err(Code::InvalidArgument | Code::NotFound) => "allow",
        Err(Code::Unauthenticated) => "unauth",
        Err(Code::PermissionDenied) => "deny",
        Err(_) => panic!("{rpc}: {answer:?}"),
    }
}

async fn verdicts(channel: &Channel, rpcs: &[String]) -> Vec<&'static str> {
    let mut verdicts = Vec::new();
    for rpc in rpcs {
        verdicts.push(verdict(channel, rpc).await);
    }
    verdicts
}

#[tokio::test]
async fn every_rpc_is_in_the_access_table() {
    let rpcs = rpcs();
    assert!(rpcs.len() >= 35 && rpcs.iter().any(|rpc| rpc == "/belay.v1.Revocations/Revoke"), "{rpcs:?}");
    let mut rows: Vec<&str> = ACCESS.iter().map(|row| row.rpc).collect();
    rows.sort_unstable();
    assert_eq!(rows, rpcs, "each RPC has one row, and no row is stale");

    let broker = Broker::start();
    let mut callers = vec![("nobody", broker.channel_of_nobody().await)];
    for name in ["agent", "suspended", "retired"] {
        let directory = broker.enroll_agent(name).await;
        callers.push((name, broker.channel_as(&directory).await.unwrap()));
    }
    for role in ["admin", "approver", "responder", "auditor"] {
        let directory = broker.operator(role, &[role]).await;
        callers.push((role, broker.channel_as(&directory).await.unwrap()));
    }
    let holder = broker.enroll_agent("holder").await;
    let holder = Acting::with(&broker, &holder).await;
    let (grant, ..) = holder.granted().await;
    let certificate = broker.home.join("certificate");
    holder.certified(&grant, &certificate).await;
    callers.push(("holder", broker.channel_as(&certificate).await.unwrap()));
    let gone = broker.operator("removed", &["admin", "approver", "responder", "auditor"]).await;
    callers.push(("removed", broker.channel_as(&gone).await.unwrap()));

    // Those who are about to be shut out were let in before, over the same connections.
    for (name, rpc) in [("suspended", "Tasks/Start"), ("retired", "Tasks/Start"), ("removed", "Agents/Register")] {
        let (_, channel) = callers.iter().find(|(caller, _)| *caller == name).unwrap();
        assert_eq!(verdict(channel, &format!("/belay.v1.{rpc}")).await, "allow", "{name}");
    }
    broker.run(&["agent", "suspend", "suspended"]).ok();
    broker.run(&["agent", "retire", "retired"]).ok();
    broker.run(&["operator", "remove", "removed"]).ok();

    let mut columns = Vec::new();
    for (_, channel) in &callers {
        columns.push(verdicts(channel, &rpcs).await);
    }
    let mut matrix = String::new();
    let mut line = |first: &str, cells: Vec<&str>| {
        let cells: String = cells.iter().map(|cell| format!(" {cell:<9}")).collect();
        writeln!(matrix, "{}", format!("{first:<32}{cells}").trim_end()).unwrap();
    };
    line("", callers.iter().map(|(name, _)| *name).collect());
    for (at, rpc) in rpcs.iter().enumerate() {
        line(rpc, columns.iter().map(|column| column[at]).collect());
    }
    let changed: Vec<_> = matrix.lines().zip(AGREED.lines()).filter(|(is, agreed)| is != agreed).collect();
    assert!(matrix == AGREED, "(is, agreed on in access_matrix.txt): {changed:#?}\n{matrix}");
}

#[tokio::test]
async fn a_call_without_a_row_is_refused_to_everybody() {
    let broker = Broker::start();
    for channel in [broker.channel().await, broker.channel_of_nobody().await] {
        for rpc in [
            "/belay.v1.Agents/Destroy",
            "/belay.v1.Nothing/List",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/belay.v1.Identity/enroll",
            "/belay.v1.Identity/Enroll/",
            "//belay.v1.Identity/Enroll",
            "/",
        ] {
            refused(
                rpc,
                raw(&channel, rpc, Vec::new()).await.map(tonic::Response::new),
                Code::PermissionDenied,
                "not_in_table",
                3,
            );
        }
        assert_eq!(verdict(&channel, "/belay.v1.Identity/Enroll").await, "allow");
    }
}

#[tokio::test]
async fn what_another_agent_holds_does_not_exist() {
    let broker = Broker::start();
    let holder = Acting::with(&broker, &broker.enroll_agent("holder").await).await;
    let other = Acting::with(&broker, &broker.enroll_agent("other").await).await;
    let (grant, token_id, token) = holder.granted().await;
    let task = holder.task().await;
    let [id, reason] = [grant.clone(), "testing".to_owned()];
    let by_grant = v1::ChangeGrantRequest { id, reason }.encode_to_vec();
    let revoke = |target: &str| v1::RevokeRequest { target: target.into(), reason: "x".into(), ..Default::default() };
    let scopes = vec!["db:read@orders".to_owned()];
    let parts = (task.clone(), grant.clone(), scopes.clone());
    let delegate = v1::DelegateRequest { parent: parts.1, to: "other".into(), scopes, ..Default::default() };
    let request = v1::RequestGrantRequest { task: parts.0, scopes: parts.2, ..Default::default() };
    // The holder's own turn comes after the other's, and what ends things comes last.
    let calls: [(&str, Vec<u8>); 9] = [
        ("Grants/Request", request.encode_to_vec()),
        ("Grants/Delegate", delegate.encode_to_vec()),
        ("Grants/Show", v1::ShowGrantRequest { id: grant.clone(), tree: true }.encode_to_vec()),
        ("Grants/Renew", v1::RenewGrantRequest { id: grant.clone(), ttl_ms: 0 }.encode_to_vec()),
        ("Tokens/Issue", v1::IssueTokenRequest { grant: grant.clone(), ..Default::default() }.encode_to_vec()),
        ("Revocations/Revoke", revoke(&token_id).encode_to_vec()),
        ("Revocations/Revoke", revoke(&grant).encode_to_vec()),
        ("Grants/Complete", by_grant),
        ("Tasks/End", v1::EndTaskRequest { id: task, reason: "testing".into() }.encode_to_vec()),
    ];
    assert_eq!(
        (holder.decided(&token).await.as_str(), other.decided(&token).await.as_str()),
        ("in_scope", "possession")
    );
    for (rpc, body) in calls {
        let rpc = format!("/belay.v1.{rpc}");
        let answer = raw(&other.0, &rpc, body.clone()).await.map(tonic::Response::new);
        refused(&rpc, answer, Code::NotFound, "not_found", 5);
        raw(&holder.0, &rpc, body).await.unwrap_or_else(|status| panic!("{rpc} as its holder: {status}"));
    }
    let mut grants = v1::grants_client::GrantsClient::new(other.0.clone());
    let listed = grants.list(v1::ListGrantsRequest::default()).await.unwrap().into_inner().grants;
    // What was delegated to it is its own; the parent of that is not.
    assert_eq!(listed.iter().map(|grant| grant.parent.as_str()).collect::<Vec<_>>(), [grant.as_str()]);
    let mut tasks = v1::tasks_client::TasksClient::new(other.0);
    assert_eq!(tasks.list(v1::ListTasksRequest {}).await.unwrap().into_inner().tasks, []);
}
