//! The audit of calls: each attempt with what became of it, and those that were allowed and never made.

use belay::broker::{CallFilter, JoinedCall, Wanted, Wish};
use belay::domain::agent::Role;
use belay::domain::decide::IssueLease;
use belay::domain::digest::Digest;
use belay::domain::event::{Body, LeaseChange};
use belay::domain::id::InvocationId;
use belay::domain::invocation::Outcome::{self, Done, Failed, NotExecuted};
use belay::domain::lease::{Backend, BackendKind, LeaseStatus};

use crate::support::office::asked;
use crate::support::process::Broker;
use crate::support::till::{Till, code, pay};

impl Till {
    fn calls(&self, filter: &CallFilter) -> Vec<JoinedCall> {
        self.office.broker.calls(filter, 0, 1000).unwrap().0
    }

    fn of_outcome(&self, outcome: &str) -> Vec<InvocationId> {
        let filter = CallFilter { outcome: Some(outcome.parse().unwrap()), ..CallFilter::default() };
        self.calls(&filter).into_iter().map(|call| call.invocation.id).collect()
    }

    /// Behind everything that is recorded a little later.
    async fn settled(&self) {
        self.office.world.task(&self.ana).await;
    }
}

#[tokio::test]
async fn an_attempt_is_joined_with_what_became_of_it_and_what_was_allowed_and_never_made_is_found() {
    let till = Till::open().await;
    let (limited, token) = till.root(&["max_calls=9"]).await;
    let (plain, free) = till.root(&[]).await;
    let mut told = Vec::new();
    for (token, outcome) in [(&token, Done), (&free, Failed), (&token, NotExecuted), (&free, NotExecuted)] {
        let id = till.ana(token, pay("a", "{}")).await.id;
        till.report(&till.gate, id, outcome).await.unwrap();
        told.push((id, outcome));
    }
    let untold = till.ana(&free, pay("a", "{}")).await.id;
    let denied = till.ana(&free, pay("a", "{}")).await;
    assert_eq!(code(&denied), "in_scope");
    let out_of_scope = belay::domain::scope::Call::parse("db", "read", "a").unwrap();
    let denied_id = till.ana(&free, Wanted::from(out_of_scope)).await.id;
    till.report(&till.gate, denied.id, Done).await.unwrap();
    // Asked by the agent itself: another agent says nothing of it, an enforcement point does.
    let own = till.at(&till.ana, &till.ana, &free, pay("a", "{}")).await.unwrap().id;
    let lied_about = till.at(&till.ana, &till.ana, &free, pay("a", "{}")).await.unwrap().id;
    till.settled().await;
    till.report(&till.bob, lied_about, Done).await.unwrap();
    till.report(&till.bob, own, Failed).await.unwrap();
    till.report(&till.other, own, Done).await.unwrap();
    till.report(&till.other, own, Failed).await.unwrap();
    // An operator only asked.
    let aud = till.office.world.operator("aud", &[Role::Admin]).await;
    let unproven = till.office.broker.authorize(&asked(&aud), &free, pay("a", "{}")).await.unwrap().id;
    till.settled().await;

    let all = till.calls(&CallFilter::default());
    let find = |id: InvocationId| all.iter().find(|call| call.invocation.id == id).unwrap();
    for (id, outcome) in told.iter().copied().chain([(own, Done), (denied.id, Done)]) {
        let seen = find(id).told.as_ref().unwrap_or_else(|| panic!("{id} is not joined"));
        assert_eq!(seen.outcome, outcome);
        assert_eq!(seen.by, if id == own { till.other.actor() } else { till.gate.actor() });
    }
    for id in [untold, lied_about, denied_id, unproven] {
        assert!(find(id).told.is_none(), "{:?}", find(id));
    }
    assert_eq!((find(denied_id).decision(), find(untold).decision()), ("deny", "allow"));
    assert_eq!(find(untold).open_until(), untold.time().plus(belay::domain::time::Span::minutes(60)));
    assert_eq!(till.of_outcome("none"), [untold, lied_about]);
    assert_eq!(till.of_outcome("not_executed"), [told[2].0, told[3].0]);
    assert_eq!(till.of_outcome("failed"), [told[1].0]);
    assert_eq!(till.of_outcome("done"), [told[0].0, denied.id, own]);
    let only = |filter: CallFilter| till.calls(&filter).len();
    assert_eq!(only(CallFilter { grant: Some(limited.id), ..CallFilter::default() }), 2);
    assert_eq!(only(CallFilter { tree: Some(plain.root), ..CallFilter::default() }), all.len() - 2);
    assert_eq!(only(CallFilter { agent: Some("bob".parse().unwrap()), ..CallFilter::default() }), 0);
    assert_eq!(
        only(CallFilter {
            since: Some(till.office.world.ledger.now().plus(belay::domain::time::Span::millis(1))),
            ..CallFilter::default()
        }),
        0
    );

    // Page by page it is the same, with a filter and without.
    for outcome in [None, Some(Wish::Untold), Some(Wish::Was(Outcome::Done))] {
        let filter = CallFilter { outcome, ..CallFilter::default() };
        let whole: Vec<_> =
            till.calls(&filter).into_iter().map(|call| (call.seq, call.told.map(|one| one.outcome))).collect();
        let (mut paged, mut after) = (Vec::new(), 0);
        loop {
            let (page, next) = till.office.broker.calls(&filter, after, 1).unwrap();
            assert!(page.len() <= 1);
            paged.extend(page.into_iter().map(|call| (call.seq, call.told.map(|one| one.outcome))));
            let Some(next) = next else { break };
            assert!(next > after);
            after = next;
        }
        assert_eq!(paged, whole, "{outcome:?}");
    }
}

#[tokio::test]
async fn a_ticket_that_was_spent_is_not_a_call_that_was_never_made_and_a_lease_is_one_that_was() {
    let till = Till::open().await;
    let (_, token) = till.root(&[]).await;
    let mut given = Vec::new();
    for _ in 0..2 {
        given.push(till.ana(&token, Wanted { ticket: true, ..pay("a", "{}") }).await);
    }
    let text = &given[0].ticket.as_ref().unwrap().ticket;
    let spends = till.ana(&token, Wanted { redeem: text, ..pay("a", "{}") }).await.id;
    let world = &till.office.world;
    let (name, roles) = ("orders".parse().unwrap(), vec!["reader".parse().unwrap()]);
    let (sealed, created_at) = (Digest([7; 32]), world.ledger.now());
    let backend = Backend { name, kind: BackendKind::Postgres, roles, sealed, removed: false, created_at };
    world.happens(Body::BackendAdded(backend)).await;
    let task = world.task(&till.ana).await.id;
    let grant = world.grant(&till.ana, task, &["orders:lease@reader"]).await.unwrap();
    for status in [LeaseStatus::Made, LeaseStatus::Ended] {
        let (backend, role) = ("orders".parse().unwrap(), "reader".parse().unwrap());
        let issue = IssueLease { grant: grant.id, backend, role, ttl: None, ticket: None };
        let lease = world.submit(&till.ana, issue).await.unwrap();
        let (id, agent) = (lease.id, lease.agent);
        let change = LeaseChange { id, grant: grant.id, root: grant.root, agent, status, trouble: None };
        world.happens(Body::LeaseChanged(change)).await;
    }
    assert_eq!(
        till.of_outcome("none"),
        [given[1].id, spends],
        "the ticket that nobody spent, and what the other was spent on"
    );
    let all = till.calls(&CallFilter::default());
    assert_eq!(all[0].redeemed_by, Some(spends));
    let leases: Vec<_> = all[3..].iter().map(|call| call.told.as_ref().unwrap().outcome).collect();
    assert_eq!(leases, [Done, Failed]);
    let why = till.office.broker.why(&given[0].id.to_string()).unwrap().call.unwrap();
    assert_eq!(why.redeemed_by, Some(spends));
}

#[test]
fn the_command_line_reports_lists_and_explains_calls() {
    let broker = Broker::start();
    let ana = broker.agent("ana");
    let task = broker.run_as(&ana, &["task", "start", "testing"]).ok()["task"]["id"].as_str().unwrap().to_owned();
    let request = ["grant", "request", "--task", &task, "--scope", "bank:pay@a", "--token"];
    let granted = broker.run_as(&ana, &request).ok();
    let token = granted["token"]["token"].as_str().or(granted["token"].as_str()).unwrap().to_owned();
    let call = ["authorize", "--token", &token, "--tool", "bank", "--action", "pay", "--resource"];
    let asks = |more: &[&str]| broker.run_as(&ana, &[&call[..], more].concat());
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let done = text(&asks(&["a"]).ok()["id"]);
    let ticketed = asks(&["a", "--ticket"]).ok();
    assert_eq!(asks(&["b"]).code, 3);
    let report = |by: &std::path::Path, id: &str, outcome: &str| {
        broker.run_as(by, &["report", id, "--outcome", outcome, "--detail", "as it went"])
    };
    let told = report(&ana, &done, "done").ok();
    assert_eq!((&told["outcome"], &told["refunded"]), (&"done".into(), &false.into()));
    assert_eq!(report(&ana, &done, "not_executed").code, 3);
    assert_eq!(report(&broker.home.join("operator"), &done, "done").code, 3);
    assert_eq!(report(&ana, &done, "perhaps").code, 2);
    assert_eq!(report(&ana, "inv_x", "done").code, 2);
    assert_eq!(report(&ana, "inv_01m826b1x1ec8vm5xb46v44k2n", "done").code, 5);

    let why = broker.run(&["why", &done]).ok();
    let seen = &why["invocation"];
    assert_eq!(
        (&seen["outcome"], &seen["outcome_by"], &seen["detail"]),
        (&"done".into(), &"agent:ana".into(), &"as it went".into())
    );
    assert!(why["events"].to_string().contains("invocation_reported"), "{why}");
    let id = text(&ticketed["id"]);
    let why = broker.run(&["why", &id]).ok();
    assert!(why["invocation"]["ticket_expires_at"].is_string() && why["invocation"]["outcome"].is_null(), "{why}");
    let ticket = text(&ticketed["ticket"]);
    let spends = asks(&["a", "--redeem", &ticket]).ok();
    assert_eq!(asks(&["a", "--redeem", &ticket]).code, 3);
    let why = broker.run(&["why", &id]).ok();
    assert_eq!(why["invocation"]["redeemed_by"], spends["id"]);

    let listed = |more: &[&str]| -> Vec<serde_json::Value> {
        let calls = broker.run(&[&["audit", "calls", "--agent", "ana"], more].concat()).ok();
        calls["calls"].as_array().unwrap().clone()
    };
    let decisions: Vec<_> = listed(&[]).iter().map(|call| text(&call["decision"])).collect();
    assert_eq!(decisions, ["allow", "allow", "deny", "allow", "deny"]);
    let none = listed(&["--outcome", "none"]);
    assert_eq!((none.len(), &none[0]["id"]), (1, &spends["id"]));
    assert_eq!(listed(&["--outcome", "done"])[0]["id"], done.as_str());
    assert_eq!(listed(&["--limit", "2"]).len(), 2);
    assert_eq!(broker.run(&["audit", "calls", "--outcome", "perhaps"]).code, 2);
    assert_eq!(broker.run_as(&ana, &["audit", "calls"]).code, 3);
}
