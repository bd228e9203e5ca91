//! Incidents that happened, lived through again on the real binary: each with a control run, of the same shape and without
//! the wrong, that has to pass. `docs/ENFORCEMENT.md` says what stopped each, and where that ends.

use std::time::Instant;

use belay::wire::v1;
use belay::wire::v1::decisions_client::DecisionsClient;
use serde_json::Value;
use tonic::Code;

use crate::support::calls::refused;
use crate::support::mission::{Ask, Held, Member, Mission, code, report, request};

/// Three sub-agents of one lead, each with its part of the lead's grant.
async fn lead_and_three(mission: &Mission, limits: &[&str]) -> (Member, Held, Vec<(Member, Held)>) {
    let lead = mission.member("lead").await;
    let root = lead.root(&["bank:pay@**"], limits).await;
    let mut subs = Vec::new();
    for name in ["sub-1", "sub-2", "sub-3"] {
        let sub = mission.member(name).await;
        let held = lead.hands_on(&root, &sub, &["bank:pay@**"]).await;
        subs.push((sub, held));
    }
    (lead, root, subs)
}

/// All pay so much at once, each under a key of its own.
async fn together(mission: &Mission, subs: &[(Member, Held)], args: &str) -> Vec<v1::AuthorizeResponse> {
    let keys: Vec<String> = (1..=subs.len()).map(|at| format!("payment-{at}")).collect();
    let pays = subs.iter().zip(&keys).map(|((sub, held), key)| {
        mission.asks(&sub.shown, &held.token, Ask { call: "bank:pay@a", args, key, ..Ask::default() })
    });
    futures_util::future::join_all(pays).await
}

fn allowed(decided: &[v1::AuthorizeResponse]) -> Vec<usize> {
    (0..decided.len()).filter(|at| decided[*at].decision == "allow").collect()
}

/// S17: one payment that is too large is made of three that are not, by three sub-agents at once.
#[tokio::test]
async fn s17_slices_of_three_agents_at_once_are_summed_up_on_the_grant_above_them() {
    let mission = Mission::open().await;
    let (lead, root, subs) = lead_and_three(&mission, &["max_sum(amount)=10000"]).await;
    let nine = r#"{"amount":9000}"#;
    let decided = together(&mission, &subs, nine).await;
    let passed = allowed(&decided);
    assert_eq!(passed.len(), 1, "{decided:?}");
    let others: Vec<usize> = (0..3).filter(|at| *at != passed[0]).collect();
    assert!(others.iter().all(|at| code(&decided[*at]) == "limit_reached"), "{decided:?}");
    // It is in flight, and counts; what was denied cost nothing: there is room for exactly another thousand.
    let pay = async |at: usize, amount: &str, key: &str| {
        let (sub, held) = &subs[at];
        let args = format!(r#"{{"amount":{amount}}}"#);
        let ask = Ask { call: "bank:pay@a", args: &args, key, ..Ask::default() };
        mission.asks(&sub.shown, &held.token, ask).await
    };
    assert_eq!(code(&pay(others[0], "1000.01", "").await), "limit_reached");
    assert_eq!(code(&pay(others[0], "1000", "").await), "in_scope");
    // A retry is the payment that it was, and leaves room for nothing.
    let key = format!("payment-{}", passed[0] + 1);
    assert_eq!(pay(passed[0], "9000", &key).await.id, decided[passed[0]].id);
    for at in 0..3 {
        assert_eq!(code(&pay(at, "0.01", "").await), "limit_reached");
    }
    assert_eq!(mission.said(&lead, &root, "bank:pay@a", r#"{"amount":0.01}"#).await, "limit_reached");

    // That it was never made is believed of the enforcement point, once, and of nobody who gains by it.
    let payment = &decided[passed[0]].id;
    let own = report(&subs[passed[0]].0.acting.0, payment, "not_executed", "").await;
    refused("the agent's own word", own, Code::PermissionDenied, "peps_only", 3);
    assert_eq!(code(&pay(others[1], "9000", "").await), "limit_reached");
    assert!(mission.report(payment, "not_executed", "the bank was closed").await.unwrap().into_inner().refunded);
    let second = pay(others[1], "9000", "").await;
    assert_eq!(code(&second), "in_scope");
    assert!(!mission.report(&second.id, "done", "").await.unwrap().into_inner().refunded);
    assert_eq!(code(&pay(others[0], "0.01", "").await), "limit_reached");
}

/// S17, control: the same three with sums that are within the limit together.
#[tokio::test]
async fn s17_control_three_payments_within_the_limit_pass_at_once() {
    let mission = Mission::open().await;
    let (_, _, subs) = lead_and_three(&mission, &["max_sum(amount)=10000"]).await;
    let decided = together(&mission, &subs, r#"{"amount":3000}"#).await;
    assert_eq!(allowed(&decided), [0, 1, 2], "{decided:?}");
}

const SALES: &str = r#"
[[tool]]
name = "salesforce"
owner = "sales"
destinations = ["https://acme.my.salesforce.example"]
[[tool.action]]
name = "query"
risk = "read"
[[tool.action]]
name = "jobs.delete"
risk = "destructive"
[[resource]]
path = "salesforce:**"
sensitivity = "confidential"
"#;

/// S2 (Salesloft Drift, August 2025): tokens of an integration were stolen, and with them all objects were counted, then
/// taken away in bulk, and the jobs deleted.
#[tokio::test]
async fn s2_a_stolen_token_is_worth_nothing_and_its_holder_takes_no_more_than_was_meant() {
    let mission = Mission::over(SALES, "").await;
    let (drift, worker, thief) =
        (mission.member("drift").await, mission.member("worker").await, mission.member("thief").await);
    let scope = r#"salesforce:query@objects/*{"args":{"rows":{"min":1,"max":200}},"closed":true}"#;
    let limits = ["max_sum(rows)=500", "max_distinct_resources=1"];
    let held = drift.root(&[scope], &limits).await;
    let child = drift.hands_on(&held, &worker, &[scope]).await;
    let destination = "https://acme.my.salesforce.example";
    let ask = |call: &'static str, args: &'static str| Ask { call, args, destination, ..Ask::default() };
    let said = async |member: &Member, held: &Held, ask: Ask<'_>| {
        code(&mission.asks(&member.shown, &held.token, ask).await).to_owned()
    };
    // Control: what it is for.
    let case = ask("salesforce:query@objects/Case", r#"{"rows":200}"#);
    let first = mission.asks(&drift.shown, &held.token, case).await;
    assert_eq!(code(&first), "in_scope");
    mission.report(&first.id, "done", "200 rows").await.unwrap();
    assert_eq!(said(&worker, &child, case).await, "in_scope");

    // (a) The token from elsewhere: with the certificate of somebody else, with none, and to the broker itself.
    for shown in [thief.shown.as_slice(), &[]] {
        let stolen = mission.asks(shown, &held.token, case).await;
        assert_eq!((stolen.decision.as_str(), code(&stolen)), ("deny", "possession"), "{stolen:?}");
    }
    let asked = DecisionsClient::new(thief.acting.0.clone()).authorize(request(&[], &held.token, case)).await;
    assert_eq!(asked.unwrap().into_inner().decision, "deny");
    // (b) The other objects, then more of the one, by either: the budget is that of all of them.
    for call in ["Account", "Contact", "User", "Opportunity"].map(|object| format!("salesforce:query@objects/{object}"))
    {
        let count = Ask { call: &call, args: r#"{"rows":1}"#, destination, ..Ask::default() };
        assert_eq!(said(&drift, &held, count).await, "limit_reached", "{call}");
    }
    let bulk = ask("salesforce:query@objects/Case", r#"{"rows":50000}"#);
    assert_eq!(said(&drift, &held, bulk).await, "out_of_scope");
    assert_eq!(said(&drift, &held, ask("salesforce:query@objects/Case", "{}")).await, "out_of_scope");
    assert_eq!(
        said(&drift, &held, Ask { destination: "https://files.evil.example", ..case }).await,
        "destination_denied"
    );
    assert_eq!(said(&worker, &child, case).await, "limit_reached");
    assert_eq!(said(&worker, &child, ask("salesforce:query@objects/Case", r#"{"rows":100}"#)).await, "in_scope");
    assert_eq!(said(&drift, &held, ask("salesforce:query@objects/Case", r#"{"rows":1}"#)).await, "limit_reached");
    // (c) Nothing is wiped away.
    assert_eq!(said(&drift, &held, ask("salesforce:jobs.delete@jobs/1", "")).await, "out_of_scope");

    // The audit has what was tried and what became of what was allowed.
    mission.audited("invoked", |event| {
        event["summary"] == "deny salesforce:jobs.delete@jobs/1: out_of_scope" && event["agent"] == "drift"
    });
    let outcome = mission.audited("invocation_reported", |event| event["grant"] == held.grant.as_str());
    assert!(outcome["summary"].as_str().unwrap().contains(&first.id), "{outcome}");
    // Nobody is cut because a token turned up elsewhere: whoever reads of it does that.
    let stolen = mission
        .audited("invoked", |event| event["summary"].as_str().is_some_and(|summary| summary.ends_with(": possession")));
    assert!(stolen["actor"].as_str().unwrap().contains("gateway"), "{stolen}");
    let since = Instant::now();
    let cut = mission.broker.run(&["revoke", &held.task, "--reason", "a token turned up elsewhere"]).ok();
    let took = since.elapsed();
    assert_eq!(cut["final"], true, "{cut}");
    assert_eq!(said(&drift, &held, case).await, "task_revoked");
    assert_eq!(said(&worker, &child, case).await, "task_revoked");
    let again = drift.acting.issue(&held.grant).await;
    refused("a token below the cut", again, Code::PermissionDenied, "task_revoked", 3);
    println!("revoked in {} ms, by a command line that had to start", took.as_millis());
}

/// Six sub-agents, each with a subnet of its own, and the lead above them.
async fn scanners(mission: &Mission, limit: &str) -> (Member, Held, Vec<(Member, Held)>) {
    let lead = mission.member("lead").await;
    let root = lead.root(&["scan:host@**", "creds:test@**"], &[limit]).await;
    let mut subs = Vec::new();
    for (at, name) in ["sub-0", "sub-1", "sub-2", "sub-3", "sub-4", "sub-5"].into_iter().enumerate() {
        let sub = mission.member(name).await;
        let subnet = format!("scan:host@net-{at}/*");
        let held = lead.hands_on(&root, &sub, &[&subnet, "creds:test@**"]).await;
        subs.push((sub, held));
    }
    (lead, root, subs)
}

/// Each of the six scans seven hosts of its own, all at once: what was decided, by agent and host.
async fn scan(mission: &Mission, subs: &[(Member, Held)]) -> Vec<(usize, String, String)> {
    let calls = subs.iter().enumerate().flat_map(|(at, (sub, held))| {
        (0..7).map(move |host| async move {
            let call = format!("scan:host@net-{at}/h{host}");
            let said = mission.said(sub, held, &call, "").await;
            (at, call, said)
        })
    });
    futures_util::future::join_all(calls).await
}

/// S1 (GTG-1002, November 2025): an espionage campaign was cut into pieces, each of which looked innocent.
#[tokio::test]
async fn s1_six_agents_together_reach_no_more_than_their_mission_may() {
    let mission = Mission::open().await;
    let (lead, root, subs) = scanners(&mission, "max_distinct_resources=20").await;
    let scanned = scan(&mission, &subs).await;
    let (passed, stopped): (Vec<_>, Vec<_>) = scanned.iter().partition(|(_, _, said)| said == "in_scope");
    assert_eq!((passed.len(), stopped.len()), (20, 22), "{scanned:?}");
    assert!(stopped.iter().all(|(_, _, said)| said == "limit_reached"), "{scanned:?}");
    // What was reached goes on to be reachable; nothing new does, for any of them, by another tool neither.
    let (at, call, _) = passed[0];
    assert_eq!(mission.said(&subs[*at].0, &subs[*at].1, call, "").await, "in_scope");
    for (at, (sub, held)) in subs.iter().enumerate() {
        assert_eq!(mission.said(sub, held, &format!("creds:test@system-{at}"), "").await, "limit_reached");
    }
    // Nor by handing on once more.
    let deeper = subs[0].0.hands_on(&subs[0].1, &subs[1].0, &["creds:test@**"]).await;
    assert_eq!(mission.said(&subs[1].0, &deeper, "creds:test@system-9", "").await, "limit_reached");

    // Whoever watches sees one mission, and who of it.
    mission.audited("invoked", |event| event["summary"] == "deny creds:test@system-9: limit_reached");
    let denied: Vec<Value> =
        mission.audit("invoked").into_iter().filter(|event| event["tree"] == root.grant.as_str()).collect();
    for (sub, _) in &subs {
        assert!(denied.iter().any(|event| event["agent"] == sub.name), "{}: {denied:?}", sub.name);
    }
    // The responder halts it: nobody of the six goes on, and only a human takes it up again.
    let reason = ["--reason", "too many hosts"];
    mission.broker.run(&[&["task", "suspend", &root.task][..], &reason].concat()).ok();
    for (sub, held) in &subs {
        assert_eq!(mission.said(sub, held, call, "").await, "task_suspended", "{}", sub.name);
    }
    mission.broker.run_as(&lead.identity, &["task", "resume", &root.task]).err(3);
    mission.broker.run(&["task", "resume", &root.task]).ok();
    assert_eq!(mission.said(&subs[*at].0, &subs[*at].1, call, "").await, "in_scope");
    // Or ends it: with one command, for all of them, and for what they would have asked for next.
    let since = Instant::now();
    mission.broker.run(&[&["revoke", &root.task][..], &reason].concat()).ok();
    let took = since.elapsed();
    for (sub, held) in &subs {
        assert_eq!(mission.said(sub, held, call, "").await, "task_revoked", "{}", sub.name);
        sub.acting.issue(&held.grant).await.unwrap_err();
    }
    let request = ["grant", "request", "--task", &root.task, "--scope", "scan:host@net-9/*"];
    let next = mission.broker.run_as(&lead.identity, &request);
    assert!([3, 5].contains(&next.code), "{next:?}");
    println!("a mission of six was revoked in {} ms, by a command line that had to start", took.as_millis());
}

/// S1, control: the same load of an inventory whose owner said how much it is.
#[tokio::test]
async fn s1_control_a_declared_inventory_scans_all_its_hosts() {
    let mission = Mission::open().await;
    let (_, _, subs) = scanners(&mission, "max_distinct_resources=42").await;
    let scanned = scan(&mission, &subs).await;
    assert!(scanned.iter().all(|(_, _, said)| said == "in_scope"), "{scanned:?}");
}
