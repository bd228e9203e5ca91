//! Names, texts, ceilings, roles and reasons that are not good: refused in a clear line, naming the field.

use belay::wire::v1;
use belay::wire::v1::agents_client::AgentsClient;
use belay::wire::v1::operators_client::OperatorsClient;
use tonic::Code;

use crate::support::calls::{refused, registration};
use crate::support::process::Broker;

fn label(key: &str, value: &str) -> v1::Label {
    v1::Label { key: key.to_owned(), value: value.to_owned() }
}

#[tokio::test]
async fn an_agent_is_registered_in_plain_words_or_not_at_all() {
    let broker = Broker::start();
    let operator = broker.channel().await;
    let mut agents = AgentsClient::new(operator.clone());
    let size = broker.log_size(&operator).await;
    let long = "a".repeat(64);
    let with = |change: &dyn Fn(&mut v1::RegisterAgentRequest)| {
        let mut request = registration("ana");
        change(&mut request);
        request
    };
    let named = ["Ana", &long, "a b", "-a", "a/b", "..", "a\n", "\u{430}na", "a\0", "*", "ana "];
    let mut wrong: Vec<_> = named.iter().map(|name| ("name", "malformed", registration(name))).collect();
    wrong.push(("name", "missing", registration("")));
    let line = "x".repeat(257);
    for text in [&line[..], "a\nb", "a\u{202e}b", "a\u{200b}b", " a", "\t"] {
        wrong.push(("owner", "malformed", with(&|request| request.owner = text.into())));
        wrong.push(("purpose", "malformed", with(&|request| request.purpose = text.into())));
        wrong.push(("label", "malformed", with(&|request| request.labels = vec![label("k", text)])));
    }
    wrong.push(("owner", "missing", with(&|request| request.owner.clear())));
    wrong.push(("purpose", "missing", with(&|request| request.purpose.clear())));
    wrong.push(("label", "malformed", with(&|request| request.labels = vec![label("K", "v")])));
    wrong.push(("label", "malformed", with(&|request| request.labels = vec![label("k", "v"), label("k", "w")])));
    let many = || (0..33).map(|at| label(&format!("k{at}"), "v")).collect();
    wrong.push(("label", "malformed", with(&|request| request.labels = many())));
    for ttl in [i64::MIN, -1, 1, 999, 7 * 86_400_000 + 1, i64::MAX] {
        wrong.push(("max_ttl", "malformed", with(&|request| request.max_ttl_ms = ttl)));
    }
    for ceiling in [vec![""], vec!["db"], vec!["db:read@a", "db:read@a"], vec!["db:read@../a"]] {
        let reason = if ceiling[0].is_empty() { "missing" } else { "malformed" };
        let ceiling: Vec<_> = ceiling.into_iter().map(str::to_owned).collect();
        wrong.push(("ceiling", reason, with(&|request| request.ceiling.clone_from(&ceiling))));
    }
    for (field, reason, request) in wrong {
        let what = format!("{request:?}");
        let refusal = refused(what, agents.register(request).await, Code::InvalidArgument, reason, 2);
        assert_eq!(refusal.field.as_deref(), Some(field), "{refusal}");
    }
    assert_eq!(broker.log_size(&operator).await, size);

    let longest = registration(&long[..63]);
    agents.register(longest.clone()).await.unwrap();
    let size = broker.log_size(&operator).await;
    refused("twice", agents.register(longest).await, Code::AlreadyExists, "agent_exists", 1);
    let change = |name: &str, reason: &str| v1::ChangeAgentRequest { name: name.into(), reason: reason.into() };
    refused("unknown", agents.suspend(change("bob", "x")).await, Code::NotFound, "not_found", 5);
    refused("unknown", agents.show(v1::ShowAgentRequest { name: "bob".into() }).await, Code::NotFound, "not_found", 5);
    refused("no reason", agents.suspend(change("bob", "")).await, Code::InvalidArgument, "missing", 2);
    refused("a long reason", agents.retire(change("bob", &line)).await, Code::InvalidArgument, "malformed", 2);
    assert_eq!(broker.log_size(&operator).await, size);
}

#[tokio::test]
async fn an_operator_has_roles_that_exist() {
    let broker = Broker::start();
    let operator = broker.channel().await;
    let mut operators = OperatorsClient::new(operator.clone());
    let size = broker.log_size(&operator).await;
    let add = |name: &str, roles: &[&str]| v1::AddOperatorRequest {
        name: name.to_owned(),
        roles: roles.iter().map(ToString::to_string).collect(),
    };
    for (name, roles, reason) in [
        ("ana", &[][..], "missing"),
        ("ana", &["root"], "malformed"),
        ("ana", &["Admin"], "malformed"),
        ("ana", &["admin", ""], "malformed"),
        ("", &["admin"], "missing"),
        ("Ana", &["admin"], "malformed"),
    ] {
        refused((name, roles), operators.add(add(name, roles)).await, Code::InvalidArgument, reason, 2);
    }
    refused("taken", operators.add(add("dev", &["auditor"])).await, Code::AlreadyExists, "operator_exists", 1);
    let remove = |name: &str| v1::RemoveOperatorRequest { name: name.to_owned(), reason: "testing".to_owned() };
    refused("itself", operators.remove(remove("dev")).await, Code::PermissionDenied, "own_removal", 3);
    refused("unknown", operators.remove(remove("bob")).await, Code::NotFound, "not_found", 5);
    assert_eq!(broker.log_size(&operator).await, size);
    let added = operators.add(add("ana", &["auditor", "admin", "auditor"])).await.unwrap().into_inner();
    assert_eq!(added.operator.unwrap().roles, ["admin", "auditor"]);
}

#[tokio::test]
async fn the_audit_is_asked_in_its_own_terms() {
    let broker = Broker::start();
    let mut audit = v1::audit_client::AuditClient::new(broker.channel().await);
    let list = |change: &dyn Fn(&mut v1::ListEventsRequest)| {
        let mut request = v1::ListEventsRequest::default();
        change(&mut request);
        request
    };
    for request in [
        list(&|request| request.limit = 1001),
        list(&|request| request.limit = u32::MAX),
        list(&|request| request.since = "yesterday".into()),
        list(&|request| request.since = "2026-13-01T00:00:00Z".into()),
        list(&|request| request.grant = "grt_1".into()),
        list(&|request| request.tree = "tsk_01m826ztspf8fv6vxgstkferfd".into()),
        list(&|request| request.agent = "Ana".into()),
        list(&|request| request.actor = "ana".into()),
        list(&|request| request.kind = "no_such_kind".into()),
    ] {
        let what = format!("{request:?}");
        refused(what, audit.list(request).await, Code::InvalidArgument, "malformed", 2);
    }
    for seq in [0, u64::MAX, 1 << 40] {
        refused(seq, audit.show(v1::ShowEventRequest { seq }).await, Code::NotFound, "not_found", 5);
    }
    for (id, code, reason, exits) in [
        ("", Code::InvalidArgument, "malformed", 2),
        ("agent:ana", Code::InvalidArgument, "malformed", 2),
        ("grt_", Code::InvalidArgument, "malformed", 2),
        ("grt_01m826ztspf8fv6vxgstkferfd", Code::NotFound, "not_found", 5),
    ] {
        refused(id, audit.why(v1::WhyRequest { id: id.into() }).await, code, reason, exits);
    }
    let page = audit.list(list(&|request| request.limit = 1)).await.unwrap().into_inner();
    assert_eq!((page.events.len(), page.events[0].seq), (1, 1));
    let beyond = audit.list(list(&|request| request.after = u64::MAX)).await.unwrap().into_inner();
    assert_eq!((beyond.events.len(), beyond.next), (0, 0));
}
