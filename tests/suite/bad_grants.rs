//! Grants that nobody may have: widened, empty, doubled, malformed, overlong, out of place. Refused in a
//! clear line that names the field, and nothing changes; the twin that is in order is granted.

use belay::wire::v1;
use belay::wire::v1::tasks_client::TasksClient;
use tonic::Code;

use crate::support::calls::{Acting, refused};
use crate::support::process::Broker;

const INVALID: Code = Code::InvalidArgument;

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

/// A broker, the agents `ana` and `bob`, and a task of `ana`.
async fn cast() -> (Broker, Acting, Acting, String) {
    let broker = Broker::start();
    let ana = Acting::with(&broker, &broker.enroll_agent("ana").await).await;
    let bob = Acting::with(&broker, &broker.enroll_agent("bob").await).await;
    let task = ana.task().await;
    (broker, ana, bob, task)
}

#[tokio::test]
async fn a_grant_is_asked_for_in_form() {
    let (broker, ana, bob, task) = cast().await;
    let operator = broker.channel().await;
    let good = v1::RequestGrantRequest { task: task.clone(), scopes: texts(&["db:read@**"]), ..Default::default() };
    let scoped = |scopes: Vec<String>| v1::RequestGrantRequest { scopes, ..good.clone() };
    let mut wrong = vec![("scope", "missing", scoped(vec![])), ("scope", "missing", scoped(texts(&["db:read@a", ""])))];
    let overlong = format!("db:read@{}", "a".repeat(505));
    for scope in [
        "db", "db:read", "db@a", ":read@a", "db:@a", "db:read@", "Db:read@a", "db:read@a//b", "db:read@/a",
        "db:read@a/", "db:read@../a", "db:read@a/./b", "db:read@**/a", "db:read@a*", "db:re*@a", "*:read@a",
        "db:*.read@a", "db:read@%2e%2e", "db:read@a\0", "db:read@a\nb", "db:read@\u{430}", "db:read@a@b:c d",
        &overlong,
    ] {
        let reason = if scope.contains(' ') { "constraint_unsupported" } else { "malformed" };
        wrong.push(("scope", reason, scoped(texts(&[scope]))));
    }
    for scope in ["db:read@a?limit<=5", "db:read@a[limit]", "db:read@a;closed"] {
        wrong.push(("scope", "constraint_unsupported", scoped(texts(&[scope]))));
    }
    for scope in ["db:read@a{limit:5}", "db:read@a{\"limit\":5}", "db:read@a{\"args\":{\"n\":{\"max\":1,\"max\":2}}}"] {
        wrong.push(("scope", "malformed", scoped(texts(&[scope]))));
    }
    wrong.push(("scope", "malformed", scoped(texts(&["db:read@a", "db:read@b", "db:read@a"]))));
    wrong.push(("scope", "malformed", scoped((0..65).map(|at| format!("db:read@{at}")).collect())));
    let heavy = (0..20).map(|at| format!("db:read@{at}/{}", "a".repeat(480))).collect();
    wrong.push(("scope", "malformed", scoped(heavy)));
    for ttl_ms in [i64::MIN, -1, 1, 999, 7 * 86_400_000 + 1, i64::MAX] {
        wrong.push(("ttl", "malformed", v1::RequestGrantRequest { ttl_ms, ..good.clone() }));
    }
    for audience in ["a b", "*", "https://x/#f", "a\"b", "\u{e4}", "a\n", &"x".repeat(257)] {
        wrong.push(("audience", "malformed", v1::RequestGrantRequest { audience: audience.into(), ..good.clone() }));
    }
    for idempotency_key in ["a b", "\u{e4}", "a\n", &"x".repeat(129)] {
        let idempotency_key = idempotency_key.to_owned();
        wrong.push(("idempotency_key", "malformed", v1::RequestGrantRequest { idempotency_key, ..good.clone() }));
    }
    let upper = task.to_uppercase();
    for id in
        ["", "tsk_", "tsk_1", &task[4..], &upper, &task.replace("tsk", "grt"), &format!("{task} "), &"x".repeat(9999)]
    {
        wrong.push(("task", "", v1::RequestGrantRequest { task: id.into(), ..good.clone() }));
    }
    let size = broker.log_size(&operator).await;
    for (field, reason, request) in wrong {
        let what = format!("{request:?}");
        let reason = if reason.is_empty() && request.task.is_empty() { "missing" } else { reason };
        let reason = if reason.is_empty() { "malformed" } else { reason };
        let refusal = refused(&what, ana.request(request).await, INVALID, reason, 2);
        assert_eq!(refusal.field.as_deref(), Some(field), "{what}: {refusal}");
    }
    let unknown = v1::RequestGrantRequest { task: "tsk_01m826ztsmftpv12p7sz9axtjn".into(), ..good.clone() };
    refused("an unknown task", ana.request(unknown).await, Code::NotFound, "not_found", 5);
    refused("another's task", bob.request(good.clone()).await, Code::NotFound, "not_found", 5);
    assert_eq!(broker.log_size(&operator).await, size);

    let keyed = v1::RequestGrantRequest { idempotency_key: "k".into(), ..good.clone() };
    let granted = ana.request(keyed.clone()).await.unwrap().into_inner().grant.unwrap();
    let size = broker.log_size(&operator).await;
    assert_eq!(ana.request(keyed.clone()).await.unwrap().into_inner().grant.unwrap().id, granted.id);
    let other = v1::RequestGrantRequest { scopes: texts(&["db:read@a"]), ..keyed };
    refused("another body", ana.request(other).await, Code::AlreadyExists, "idempotency_conflict", 1);
    assert_eq!(broker.log_size(&operator).await, size);
}

#[tokio::test]
async fn a_task_has_a_purpose_and_a_life() {
    let (broker, ana, _, task) = cast().await;
    let operator = broker.channel().await;
    let size = broker.log_size(&operator).await;
    let mut tasks = TasksClient::new(ana.0.clone());
    let long = "x".repeat(257);
    for (purpose, ttl_ms, reason) in [
        ("", 0, "missing"),
        (&long[..], 0, "malformed"),
        ("a\u{202e}b", 0, "malformed"),
        ("a\nb", 0, "malformed"),
        ("testing", -1, "malformed"),
        ("testing", 999, "malformed"),
        ("testing", 7 * 86_400_000 + 1, "malformed"),
        ("testing", i64::MAX, "malformed"),
    ] {
        let request = v1::StartTaskRequest { purpose: purpose.into(), ttl_ms, ..Default::default() };
        refused((purpose, ttl_ms), tasks.start(request).await, INVALID, reason, 2);
    }
    assert_eq!(broker.log_size(&operator).await, size);
    let start = |ttl_ms| v1::StartTaskRequest { purpose: "testing".into(), ttl_ms, ..Default::default() };
    tasks.start(start(7 * 86_400_000)).await.unwrap();
    let end = |id: &str| v1::EndTaskRequest { id: id.into(), reason: "testing".into() };
    tasks.end(end(&task)).await.unwrap();
    let request = v1::RequestGrantRequest { task, scopes: texts(&["db:read@a"]), ..Default::default() };
    refused("an ended task", ana.request(request).await, Code::PermissionDenied, "task_ended", 3);
}

#[tokio::test]
async fn a_delegation_widens_nothing_and_hangs_where_its_holder_may() {
    let (broker, ana, bob, task) = cast().await;
    let operator = broker.channel().await;
    for name in ["suspended", "retired"] {
        broker.registered(name).await;
    }
    broker.run(&["agent", "suspend", "suspended"]).ok();
    broker.run(&["agent", "retire", "retired"]).ok();
    let register = ["agent", "register", "capped", "--owner", "t", "--purpose", "p", "--ceiling", "db:read@a/b"];
    broker.run(&register).ok();
    let scopes = texts(&["db:read@a/**", "db:list@*"]);
    let audience = "https://tool.example".to_owned();
    let request = v1::RequestGrantRequest { task, scopes, audience, ..Default::default() };
    let root = ana.request(request).await.unwrap().into_inner().grant.unwrap().id;
    let good = v1::DelegateRequest {
        parent: root.clone(),
        to: "bob".into(),
        scopes: texts(&["db:read@a/b"]),
        ..Default::default()
    };
    let child = ana.delegate(good.clone()).await.unwrap().into_inner().grant.unwrap();
    assert_eq!((child.parent.as_str(), child.audience.as_str()), (root.as_str(), "https://tool.example"));

    let size = broker.log_size(&operator).await;
    let denied = Code::PermissionDenied;
    let scoped = |scopes: &[&str]| v1::DelegateRequest { scopes: texts(scopes), ..good.clone() };
    for wider in [
        "db:read@**", "db:read@b", "db:read@a", "db:*@a/b", "db:read.x@a/b", "db:write@a/b", "dbx:read@a/b",
        "db:list@a/b",
    ] {
        let refusal = refused(wider, ana.delegate(scoped(&["db:read@a/b", wider])).await, denied, "scope_widened", 3);
        assert_eq!(refusal.field.as_deref(), Some("scope"));
        assert!(refusal.message.contains(&format!("`{wider}`")), "{refusal}");
    }
    let to = |to: &str| v1::DelegateRequest { to: to.into(), ..good.clone() };
    let at = |parent: &str| v1::DelegateRequest { parent: parent.into(), ..good.clone() };
    let elsewhere = v1::DelegateRequest { audience: "https://other.example".into(), ..good.clone() };
    let capped = v1::DelegateRequest { scopes: texts(&["db:read@a/c"]), ..to("capped") };
    for (what, field, request, code, reason, exits) in [
        ("another audience", "audience", elsewhere, denied, "audience_widened", 3),
        ("beyond the ceiling", "scope", capped, denied, "beyond_ceiling", 3),
        ("to a suspended agent", "to", to("suspended"), denied, "agent_not_active", 3),
        ("to a retired agent", "to", to("retired"), denied, "agent_not_active", 3),
        ("to nobody known", "to", to("carol"), Code::NotFound, "not_found", 5),
        ("to an operator", "to", to("dev"), Code::NotFound, "not_found", 5),
        ("to nobody", "to", to(""), INVALID, "missing", 2),
        ("to a malformed name", "to", to("Bob"), INVALID, "malformed", 2),
        ("an unknown parent", "parent", at("grt_01m826ztspf8fv6vxgstkferfd"), Code::NotFound, "not_found", 5),
        ("one's own descendant", "parent", at(&child.id), Code::NotFound, "not_found", 5),
        ("no parent", "parent", at(""), INVALID, "missing", 2),
        ("a malformed parent", "parent", at("grt_0"), INVALID, "malformed", 2),
        ("a task as parent", "parent", at(&child.task), INVALID, "malformed", 2),
        ("no scope", "scope", scoped(&[]), INVALID, "missing", 2),
        ("a scope twice", "scope", scoped(&["db:read@a/b", "db:read@a/b"]), INVALID, "malformed", 2),
    ] {
        let refusal = refused(what, ana.delegate(request).await, code, reason, exits);
        assert_eq!(refusal.field.as_deref(), Some(field), "{what}: {refusal}");
    }
    refused("another's grant", bob.delegate(at(&root)).await, Code::NotFound, "not_found", 5);
    assert_eq!(broker.log_size(&operator).await, size);

    // Back to who is above it is a deeper grant, never a loop, and sixteen links are the most.
    let (mut parent, turns) = (child.id, [(&bob, "ana"), (&ana, "bob")]);
    for (holder, to) in turns.iter().cycle().take(14) {
        let request = v1::DelegateRequest { parent, to: (*to).into(), ..good.clone() };
        parent = holder.delegate(request).await.unwrap().into_inner().grant.unwrap().id;
    }
    let deepest = v1::DelegateRequest { parent, to: "ana".into(), ..good };
    refused("a seventeenth link", bob.delegate(deepest).await, denied, "depth_limit", 3);
}

#[tokio::test]
async fn a_revocation_names_what_it_means() {
    let (broker, ana, _, _) = cast().await;
    let operator = Acting(broker.channel().await);
    let (grant, _, token) = ana.granted().await;
    let size = broker.log_size(&operator.0).await;
    for target in
        ["", "*", "all", "agent:", "agent:*", "agent:Ana", "grant", "grt_", "grt_*", "agt_01m826ztspf8fv6vxgstkferfd"]
    {
        let refusal = operator.revoke(target).await.map_err(|status| (status.code(), status));
        let (code, status) = refusal.expect_err(target);
        assert!(code == INVALID, "{target}: {status}");
    }
    // Dated in the year 10889.
    refused("the future", operator.revoke("grt_7zzzzzzzzze00800000000000a").await, INVALID, "malformed", 2);
    for target in ["agent:carol", "owner:nobody", "subject:nobody"] {
        refused(target, operator.revoke(target).await, Code::NotFound, "not_found", 5);
    }
    assert_eq!(broker.log_size(&operator.0).await, size);
    assert_eq!(ana.verify(&token).await, "");
    operator.revoke(&grant).await.unwrap();
    assert_eq!(ana.verify(&token).await, "grant_revoked");
}
