//! Who may call what: every RPC, as every kind of caller, held against a table that was read and agreed on.

use std::fmt::Write as _;

use belay::edge::access::{ACCESS, Operators};
use belay::wire::v1::{self, TailEventsRequest};
use belay::wire::{DESCRIPTOR, FOREIGN};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;
use tonic::transport::Channel;

use crate::support::calls::{Acting, raw, refused};
use crate::support::process::Broker;

/// What every caller below gets from every RPC. A change of the access table shows here, line by line.
const AGREED: &str = include_str!("access_matrix.txt");

/// Every RPC of the interface, as `/package.Service/Method`: those of the compiled descriptor, and gRPC health.
fn rpcs() -> Vec<String> {
    let mut rpcs = Vec::new();
    for set in [DESCRIPTOR, FOREIGN, tonic_health::pb::FILE_DESCRIPTOR_SET] {
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

/// A body that is decided upon, where the turn says who may: of something that is not there. Else an empty one.
fn body(rpc: &str) -> Vec<u8> {
    const GRANT: &str = "grt_01h455vb4pex5vsknk084sn02q";
    const TASK: &str = "tsk_01h455vb4pex5vsknk084sn02q";
    let text = |text: &str| text.to_owned();
    let (name, id, reason) = (text("nobody"), text(GRANT), text("testing"));
    match rpc.trim_start_matches("/belay.v1.") {
        // Whoever follows the log from its start has something to read.
        "Audit/Tail" => TailEventsRequest { after: Some(0), ..Default::default() }.encode_to_vec(),
        "Agents/Suspend" | "Agents/Resume" => v1::ChangeAgentRequest { name, reason }.encode_to_vec(),
        "Grants/Suspend" | "Grants/Resume" => v1::ChangeGrantRequest { id, reason }.encode_to_vec(),
        "Tasks/End" => v1::EndTaskRequest { id: text(TASK), reason }.encode_to_vec(),
        "Keys/Taint" => v1::TaintKeyRequest { kid: text("nokey"), reason }.encode_to_vec(),
        "Tasks/Suspend" | "Tasks/Resume" => v1::ChangeTaskRequest { id: text(TASK), reason }.encode_to_vec(),
        "Freezes/Freeze" => v1::FreezeRequest { scope: text("db:*@**"), reason, ..Default::default() }.encode_to_vec(),
        "Freezes/Thaw" => v1::ThawRequest { id: text("frz_01h455vb4pex5vsknk084sn02q"), reason }.encode_to_vec(),
        "Revocations/Revoke" => v1::RevokeRequest { target: id, reason, dry_run: true }.encode_to_vec(),
        _ => Vec::new(),
    }
}

/// What the caller got: `allow` if it was let through, whatever the handler then said of what it was sent.
async fn verdict(channel: &Channel, rpc: &str) -> &'static str {
    let patience = std::time::Duration::from_secs(if rpc.ends_with("Approvals/Watch") { 1 } else { 5 });
    let answer = match tokio::time::timeout(patience, raw(channel, rpc, body(rpc))).await {
        // Nothing waits: whoever may watch goes on watching.
        Err(_) if rpc.ends_with("Approvals/Watch") => return "allow",
        answer => answer.unwrap(),
    };
    match answer.as_ref().map_err(tonic::Status::code) {
        Ok(_) | Err(Code::InvalidArgument | Code::NotFound) => "allow",
        Err(Code::Unauthenticated) => "unauth",
        Err(Code::PermissionDenied) => "deny",
        Err(_) if is_shut_out(answer.as_ref().unwrap_err()) => "unauth",
        Err(_) => panic!("{rpc}: {answer:?}"),
    }
}

/// Whether the connection was closed, and no other one is opened to it.
fn is_shut_out(status: &tonic::Status) -> bool {
    belay::client::Refusal::from(status.clone()).reason == "tls_refused"
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
    for role in ["admin", "approver", "responder", "auditor", "break_glass"] {
        let directory = broker.operator(&role.replace('_', "-"), &[role]).await;
        callers.push((role, broker.channel_as(&directory).await.unwrap()));
    }
    let holder = broker.enroll_agent("holder").await;
    let holder = Acting::with(&broker, &holder).await;
    let (grant, ..) = holder.granted().await;
    let certificate = broker.home.join("certificate");
    holder.certified(&grant, &certificate).await;
    callers.push(("holder", broker.channel_as(&certificate).await.unwrap()));
    for name in ["pep", "retired-pep"] {
        let directory = broker.pep(name, &["https://orders.example"]).await;
        callers.push((name, broker.channel_as(&directory).await.unwrap()));
    }
    let gone = broker.operator("removed", &["admin", "approver", "responder", "auditor", "break_glass"]).await;
    callers.push(("removed", broker.channel_as(&gone).await.unwrap()));

    // Those who are about to be shut out were let in before, over the same connections.
    for (name, rpc) in [
        ("suspended", "Tasks/Start"),
        ("retired", "Tasks/Start"),
        ("removed", "Agents/Register"),
        ("retired-pep", "Tokens/Verify"),
    ] {
        let (_, channel) = callers.iter().find(|(caller, _)| *caller == name).unwrap();
        assert_eq!(verdict(channel, &format!("/belay.v1.{rpc}")).await, "allow", "{name}");
    }
    broker.run(&["agent", "suspend", "suspended"]).ok();
    broker.run(&["agent", "retire", "retired"]).ok();
    broker.run(&["operator", "remove", "removed"]).ok();
    broker.run(&["pep", "retire", "retired-pep"]).ok();

    let mut columns = Vec::new();
    // The last one first: a connection of nobody's is closed after a few seconds.
    for (_, channel) in callers.iter().rev() {
        columns.push(verdicts(channel, &rpcs).await);
    }
    columns.reverse();
    let mut matrix = String::new();
    let mut line = |first: &str, cells: Vec<&str>| {
        let cells: String = cells.iter().map(|cell| format!(" {cell:<11}")).collect();
        writeln!(matrix, "{}", format!("{first:<32}{cells}").trim_end()).unwrap();
    };
    line("", callers.iter().map(|(name, _)| *name).collect());
    for (at, rpc) in rpcs.iter().enumerate() {
        line(rpc, columns.iter().map(|column| column[at]).collect());
    }
    let changed: Vec<_> = matrix.lines().zip(AGREED.lines()).filter(|(is, agreed)| is != agreed).collect();
    assert!(matrix == AGREED, "(is, agreed on in access_matrix.txt): {changed:#?}\n{matrix}");
}

/// Where the turn decides who may, it decides: nobody else's role does it, and nothing of it is kept.
#[tokio::test]
async fn what_the_turn_decides_is_refused_to_the_wrong_role_and_leaves_no_trace() {
    let broker = Broker::start();
    let holder = Acting::with(&broker, &broker.enroll_agent("holder").await).await;
    let (grant, token_id, token) = holder.granted().await;
    let task = holder.task().await;
    let mut agents = v1::agents_client::AgentsClient::new(broker.channel().await);
    agents.register(crate::support::calls::registration("other")).await.unwrap();
    let kid = broker.run(&["keys", "list"]).ok()["keys"][0]["kid"].as_str().unwrap().to_owned();
    let reason = || "testing".to_owned();
    let frozen = broker.run(&["freeze", "--scope", "none:none@none", "--reason", "testing"]).ok()["freeze"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let revoke =
        |target: &str| v1::RevokeRequest { target: target.into(), reason: reason(), dry_run: false }.encode_to_vec();
    let agent = || v1::ChangeAgentRequest { name: "other".to_owned(), reason: reason() }.encode_to_vec();
    let halt = || v1::ChangeGrantRequest { id: grant.clone(), reason: reason() }.encode_to_vec();
    let halted = || v1::ChangeTaskRequest { id: task.clone(), reason: reason() }.encode_to_vec();
    let calls = [
        ("Agents/Suspend", agent()),
        ("Agents/Resume", agent()),
        ("Grants/Suspend", halt()),
        ("Grants/Resume", halt()),
        ("Tasks/Suspend", halted()),
        ("Tasks/Resume", halted()),
        ("Tasks/End", v1::EndTaskRequest { id: task.clone(), reason: reason() }.encode_to_vec()),
        (
            "Freezes/Freeze",
            v1::FreezeRequest { scope: "none:*@**".into(), reason: reason(), ..Default::default() }.encode_to_vec(),
        ),
        ("Freezes/Thaw", v1::ThawRequest { id: frozen, reason: reason() }.encode_to_vec()),
        ("Keys/Taint", v1::TaintKeyRequest { kid, reason: reason() }.encode_to_vec()),
        ("Revocations/Revoke", revoke(&token_id)),
        ("Revocations/Revoke", revoke(&grant)),
        ("Revocations/Revoke", revoke("agent:holder")),
        ("Revocations/Revoke", revoke("owner:team")),
    ];
    let decided: Vec<_> = ACCESS.iter().filter(|row| row.operators == Operators::Decided).map(|row| row.rpc).collect();
    let here = |rpc: &str| calls.iter().any(|(call, _)| rpc.ends_with(call)) || rpc.contains("Approvals/");
    assert!(decided.iter().all(|rpc| here(rpc)), "{decided:?}");
    let admin = broker.channel().await;
    for role in ["approver", "auditor", "break_glass"] {
        let directory = broker.operator(&role.replace('_', "-"), &[role]).await;
        let channel = broker.channel_as(&directory).await.unwrap();
        let before = broker.log_size(&admin).await;
        for (rpc, body) in &calls {
            // Who breaks the glass cuts, and halts nothing.
            let halts = ["Suspend", "Resume", "Freeze", "Thaw"].iter().any(|verb| rpc.ends_with(verb));
            if role == "break_glass" && !halts {
                continue;
            }
            let rpc = format!("/belay.v1.{rpc}");
            let answer = raw(&channel, &rpc, body.clone()).await.map(tonic::Response::new);
            refused(format!("{rpc} as {role}"), answer, Code::PermissionDenied, "role", 3);
        }
        assert_eq!(broker.log_size(&admin).await, before, "{role}: something was recorded");
    }
    assert_eq!(holder.decided(&token).await, "in_scope");
    // And to a responder it is done.
    let directory = broker.operator("responder", &["responder"]).await;
    let channel = broker.channel_as(&directory).await.unwrap();
    for (rpc, body) in calls {
        let answer = raw(&channel, &format!("/belay.v1.{rpc}"), body).await;
        answer.unwrap_or_else(|status| panic!("{rpc} as responder: {status}"));
    }
    assert_ne!(holder.decided(&token).await, "in_scope");
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
