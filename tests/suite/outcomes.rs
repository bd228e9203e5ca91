//! What becomes of a call that was allowed, and what of its limits comes back.

use std::sync::Arc;

use belay::broker::Wanted;
use belay::domain::agent::Role;
use belay::domain::decide::RetirePep;
use belay::domain::error::Code;
use belay::domain::invocation::Outcome::{self, Done, Failed, NotExecuted};
use belay::domain::time::Span;

use crate::support::till::{Till, code, pay};

const ONE: &str = r#"{"amount":1.5}"#;

fn nothing() -> (u64, String, usize) {
    (0, "0".to_owned(), 0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn forty_calls_at_once_pass_no_limit_and_what_was_not_executed_is_given_back_to_the_whole_ancestry() {
    let till = Arc::new(Till::open().await);
    let (root, of_root) = till.root(&["max_calls=10", "max_sum(amount)=100", "max_distinct_resources=3"]).await;
    let (child, of_child) = till.below(root.id, &["max_calls=8", "max_distinct_resources=9"]).await;
    for _ in 0..2 {
        let mut calls = tokio::task::JoinSet::new();
        for at in 0..40 {
            let (till, of_root, of_child) = (Arc::clone(&till), of_root.clone(), of_child.clone());
            calls.spawn(async move {
                let (holder, token) = if at % 2 == 0 { (&till.ana, of_root) } else { (&till.bob, of_child) };
                till.at(&till.gate, holder, &token, pay(&format!("r{}", at % 5), ONE)).await.unwrap()
            });
        }
        let decided = calls.join_all().await;
        let allowed: Vec<_> = decided.iter().filter(|one| code(one) == "in_scope").map(|one| one.id).collect();
        assert!(decided.iter().all(|one| ["in_scope", "limit_reached"].contains(&code(one))));
        assert_eq!(allowed.len(), 10);
        let (calls, sum, resources) = till.spent(root.id);
        assert_eq!((calls, sum.as_str()), (10, "15"));
        assert!(resources <= 3, "{resources}");
        let (below, _, _) = till.spent(child.id);
        assert!(below <= 8 && below > 0, "{below}");
        let mut reports = tokio::task::JoinSet::new();
        for id in allowed {
            let till = Arc::clone(&till);
            reports.spawn(async move { till.report(&till.gate, id, NotExecuted).await.unwrap().refunded });
        }
        assert_eq!(reports.join_all().await, [true; 10]);
        assert_eq!(till.spent(root.id), nothing());
        assert_eq!(till.spent(child.id), nothing());
    }
}

#[tokio::test]
async fn a_resource_comes_back_when_no_other_call_named_it() {
    let till = Till::open().await;
    let (grant, token) = till.root(&["max_distinct_resources=1"]).await;
    let (one, two) = (till.ana(&token, pay("a", "{}")).await, till.ana(&token, pay("a", "{}")).await);
    assert_eq!(code(&till.ana(&token, pay("b", "{}")).await), "limit_reached");
    till.report(&till.gate, one.id, NotExecuted).await.unwrap();
    assert_eq!(till.spent(grant.id).2, 1);
    assert_eq!(code(&till.ana(&token, pay("b", "{}")).await), "limit_reached");
    till.report(&till.gate, two.id, NotExecuted).await.unwrap();
    assert_eq!(code(&till.ana(&token, pay("b", "{}")).await), "in_scope");
    assert_eq!(code(&till.ana(&token, pay("a", "{}")).await), "limit_reached");
}

#[tokio::test]
async fn what_was_done_or_failed_or_was_never_reported_stays_spent_and_a_denied_call_costs_nothing() {
    let till = Till::open().await;
    let (grant, token) = till.root(&["max_calls=3", "max_sum(amount)=100"]).await;
    let mut made = Vec::new();
    for outcome in [Some(Done), Some(Failed), None] {
        let call = till.ana(&token, pay("a", ONE)).await;
        assert_eq!(code(&call), "in_scope");
        if let Some(outcome) = outcome {
            assert!(!till.report(&till.gate, call.id, outcome).await.unwrap().refunded);
        }
        made.push(call.id);
    }
    let spent = (3, "4.5".to_owned(), 0);
    assert_eq!(till.spent(grant.id), spent);
    let denied = till.ana(&token, pay("a", ONE)).await;
    assert_eq!(code(&denied), "limit_reached");
    assert!(!till.report(&till.gate, denied.id, NotExecuted).await.unwrap().refunded);
    assert_eq!(till.spent(grant.id), spent);
    // Once an hour is over nobody can say any more that it was never made.
    till.office.world.hands.turn(Span::minutes(60));
    let late = till.report(&till.gate, made[2], NotExecuted).await.unwrap_err();
    assert_eq!((late.code, late.reason), (Code::NotFound, "not_found"));
    assert_eq!(till.spent(grant.id), spent);
}

#[tokio::test]
async fn only_who_asked_says_what_became_of_a_call_and_only_an_enforcement_point_that_it_was_never_made() {
    let till = Till::open().await;
    let (grant, token) = till.root(&["max_calls=9"]).await;
    let asked_by_agent = till.at(&till.ana, &till.ana, &token, pay("a", "{}")).await.unwrap().id;
    let asked_by_gate = till.ana(&token, pay("a", "{}")).await.id;
    let auditor = till.office.world.operator("aud", &[Role::Admin]).await;
    for (by, id, outcome, reason) in [
        (&till.ana, asked_by_agent, NotExecuted, "peps_only"),
        (&till.gate, asked_by_agent, NotExecuted, "not_found"),
        (&till.bob, asked_by_agent, Done, "not_found"),
        (&till.other, asked_by_gate, NotExecuted, "not_found"),
        (&till.other, asked_by_gate, Done, "not_found"),
        (&till.ana, asked_by_gate, Done, "not_found"),
        (&auditor, asked_by_gate, NotExecuted, "not_for_operators"),
    ] {
        assert_eq!(till.report(by, id, outcome).await.unwrap_err().reason, reason, "{by:?} {outcome}");
    }
    assert_eq!(till.spent(grant.id).0, 2);
    // The same once more is the same; anything else contradicts it.
    for _ in 0..2 {
        assert!(!till.report(&till.ana, asked_by_agent, Done).await.unwrap().refunded);
        assert!(till.report(&till.gate, asked_by_gate, NotExecuted).await.unwrap().refunded);
        assert_eq!(till.spent(grant.id).0, 1);
    }
    for (by, id, outcome) in [(&till.ana, asked_by_agent, Failed), (&till.gate, asked_by_gate, Done)] {
        let conflict = till.report(by, id, outcome).await.unwrap_err();
        assert_eq!((conflict.code, conflict.reason), (Code::Conflict, "reported"));
    }
    // Who is retired says nothing any more.
    let open = till.ana(&token, pay("a", "{}")).await.id;
    let retire = RetirePep { name: "gate".parse().unwrap(), reason: "testing".parse().unwrap() };
    till.office.world.submit(&auditor, retire).await.unwrap();
    assert_eq!(till.report(&till.gate, open, NotExecuted).await.unwrap_err().code, Code::Unauthenticated);
    assert_eq!(till.spent(grant.id).0, 2);
}

#[tokio::test]
async fn a_retry_is_one_call_until_it_was_not_executed_and_then_it_is_another() {
    for wait in [Span::millis(0), Span::minutes(70)] {
        let till = Till::open().await;
        let (grant, token) = till.root(&["max_calls=2", "max_sum(amount)=3"]).await;
        let keyed = || Wanted { key: "k", ..pay("a", ONE) };
        let first = till.ana(&token, keyed()).await;
        assert_eq!(till.ana(&token, keyed()).await.id, first.id);
        assert_eq!(till.spent(grant.id), (1, "1.5".to_owned(), 0));
        till.report(&till.gate, first.id, NotExecuted).await.unwrap();
        assert_eq!(till.spent(grant.id), nothing());
        till.office.world.hands.turn(wait);
        // To make it after all takes from the limits, or it would be free.
        let second = till.ana(&token, keyed()).await;
        assert!(second.verdict.allowed && second.id != first.id, "{second:?}");
        assert_eq!(till.spent(grant.id), (1, "1.5".to_owned(), 0));
        assert_eq!(till.ana(&token, keyed()).await.id, second.id);
        assert_eq!(till.spent(grant.id), (1, "1.5".to_owned(), 0));
    }
}

#[tokio::test]
async fn what_is_open_is_open_after_a_restart_from_the_log_and_from_a_snapshot() {
    for snapshot_every in [1_000_000, 3] {
        let till = Till::with(snapshot_every).await;
        let (grant, token) = till.root(&["max_calls=3", "max_sum(amount)=9", "max_distinct_resources=2"]).await;
        let mut ids = Vec::new();
        for to in ["a", "b", "b"] {
            ids.push(till.ana(&token, pay(to, ONE)).await.id);
        }
        till.report(&till.gate, ids[0], Outcome::Done).await.unwrap();
        let fingerprint = till.office.world.ledger.fingerprint().unwrap();
        let till = till.restarted(snapshot_every).await;
        if snapshot_every > 3 {
            assert_eq!(till.office.world.ledger.fingerprint().unwrap(), fingerprint);
        }
        assert_eq!(till.spent(grant.id), (3, "4.5".to_owned(), 2));
        assert_eq!(till.report(&till.gate, ids[0], NotExecuted).await.unwrap_err().reason, "reported");
        assert!(till.report(&till.gate, ids[1], NotExecuted).await.unwrap().refunded);
        let till = till.restarted(snapshot_every).await;
        assert_eq!(till.spent(grant.id), (2, "3".to_owned(), 2));
        assert!(till.report(&till.gate, ids[2], NotExecuted).await.unwrap().refunded);
        assert_eq!(till.spent(grant.id), (1, "1.5".to_owned(), 1));
    }
}
