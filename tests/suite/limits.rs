//! Limits on a grant: what they let pass, alone and together, now and after a restart.

use std::sync::Arc;

use belay::broker::{Authorized, Wanted};
use belay::domain::agent::Role;
use belay::domain::decide::{Caller, Delegate, RequestGrant, Revoke, SetFreeze, Thaw};
use belay::domain::error::Error;
use belay::domain::event::Body;
use belay::domain::grant::Grant;
use belay::domain::id::GrantId;
use belay::domain::limits::Limits;
use belay::domain::scope::{Args, Call, Decimal, Scopes};
use belay::domain::time::Span;
use belay::store::Sqlite;

use crate::support::gate::{Gate, queued};
use crate::support::office::{Office, asked};
use crate::support::world::Hands;

fn limits(texts: &[&str]) -> Limits {
    Limits::parse(texts).unwrap()
}

impl Office {
    async fn limited(&self, caller: &Caller, texts: &[&str]) -> Grant {
        let task = self.world.task(caller).await.id;
        let command = RequestGrant {
            task,
            scopes: Scopes::parse(&["bank:pay@**"]).unwrap(),
            // Whoever takes it cannot be told of a cut: an exposure is met by living no longer.
            audience: texts
                .iter()
                .any(|text| text.starts_with("max_exposure"))
                .then(|| "https://bank.example".parse().unwrap()),
            ttl: Span::minutes(15),
            token: false,
            limits: limits(texts),
            narrow: false,
        };
        self.world.submit(caller, command).await.unwrap().grant
    }

    async fn handed_on(&self, caller: &Caller, parent: GrantId, to: &str, texts: &[&str], own: bool) -> Grant {
        let command = Delegate {
            parent,
            to: to.parse().unwrap(),
            scopes: Scopes::parse(&["bank:pay@**"]).unwrap(),
            audience: None,
            ttl: Span::minutes(10),
            own,
            limits: limits(texts),
            narrow: false,
        };
        self.world.submit(caller, command).await.unwrap().grant
    }

    async fn pay(&self, caller: &Caller, token: &str, to: &str, args: &str, key: &str) -> Result<Authorized, Error> {
        let call = Call::parse("bank", "pay", to).unwrap().with_args(Args::parse(args).unwrap());
        tokio::time::timeout(
            std::time::Duration::from_secs(20),
            self.broker.authorize(&asked(caller), token, Wanted { key, ..Wanted::from(call) }),
        )
        .await
        .unwrap()
    }

    /// The code of a payment: `in_scope` if it is allowed.
    async fn code(&self, caller: &Caller, token: &str, to: &str, args: &str) -> &'static str {
        let verdict = self.pay(caller, token, to, args, "").await.unwrap().verdict;
        assert_eq!(verdict.allowed, verdict.reasons[0].code == "in_scope", "{verdict:?}");
        verdict.reasons[0].code
    }
}

async fn office(directory: &std::path::Path, hands: &Arc<Hands>, snapshot_every: u64) -> Office {
    Office::at(Box::new(Sqlite::open(directory).unwrap()), directory, Arc::clone(hands), snapshot_every).await
}

#[tokio::test]
async fn a_limit_of_an_ancestor_is_spent_by_everybody_below() {
    let directory = tempfile::tempdir().unwrap();
    let office = office(directory.path(), &Hands::new(), 1_000_000).await;
    let [ana, bob, cid] =
        [office.world.agent("ana").await, office.world.agent("bob").await, office.world.agent("cid").await];
    let root = office.limited(&ana, &["max_calls=4", "max_sum(amount)=10", "max_distinct_resources=2"]).await;
    let child = office.handed_on(&ana, root.id, "bob", &["max_calls=2"], false).await;
    // One's own authority does not leave the limits of the chain behind.
    let own = office.handed_on(&ana, root.id, "cid", &[], true).await;
    let [of_root, of_child, of_own] =
        [office.token(&ana, root.id).await, office.token(&bob, child.id).await, office.token(&cid, own.id).await];
    assert_eq!(office.code(&bob, &of_child, "a", r#"{"amount":2.5}"#).await, "in_scope");
    assert_eq!(office.code(&cid, &of_own, "b", r#"{"amount":2.5}"#).await, "in_scope");
    // A third resource, and a cent too much: neither costs a call.
    assert_eq!(office.code(&ana, &of_root, "c", r#"{"amount":1}"#).await, "limit_reached");
    assert_eq!(office.code(&cid, &of_own, "a", r#"{"amount":5.01}"#).await, "limit_reached");
    assert_eq!(office.code(&bob, &of_child, "b", r#"{"amount":0}"#).await, "in_scope");
    // Its own limit of two.
    let denied = office.pay(&bob, &of_child, "b", r#"{"amount":0}"#, "").await.unwrap().verdict;
    assert_eq!(denied.reasons[0].code, "limit_reached");
    assert!(denied.reasons[0].message.contains(&format!("`max_calls=2` of grant `{}`", child.id)), "{denied:?}");
    assert_eq!(office.code(&ana, &of_root, "a", r#"{"amount":5}"#).await, "in_scope");
    // The root's four are spent, by three holders; the line says nothing of them.
    let denied = office.pay(&cid, &of_own, "a", r#"{"amount":0}"#, "").await.unwrap().verdict;
    let message = &denied.reasons[0].message;
    assert!(message.contains(&format!("`max_calls=4` of grant `{}`", root.id)), "{message}");
    assert!(!message.contains("ana") && !message.contains("bob"), "{message}");
    office.world.ledger.view(|view| {
        assert_eq!([root.id, child.id, own.id].map(|id| view.calls_spent(id)), [4, 2, 0]);
        assert_eq!(view.sum_spent(root.id, "amount"), Decimal::parse("10").unwrap());
        assert_eq!(view.resources_spent(root.id), 2);
    });
}

#[tokio::test]
async fn what_does_not_add_up_is_denied_under_a_sum() {
    let directory = tempfile::tempdir().unwrap();
    let office = office(directory.path(), &Hands::new(), 1_000_000).await;
    let ana = office.world.agent("ana").await;
    let grant = office.limited(&ana, &["max_sum(amount)=100"]).await;
    let token = office.token(&ana, grant.id).await;
    for wrong in [
        "{}", r#"{"amount":-1}"#, r#"{"amount":"1"}"#, r#"{"amount":null}"#, r#"{"amount":[1]}"#,
        r#"{"amount":{"n":1}}"#, r#"{"Amount":1}"#,
    ] {
        assert_eq!(office.code(&ana, &token, "a", wrong).await, "limit_argument", "{wrong}");
    }
    // Ten times ten cents are one.
    for _ in 0..10 {
        assert_eq!(office.code(&ana, &token, "a", r#"{"amount":0.1}"#).await, "in_scope");
    }
    assert_eq!(office.code(&ana, &token, "a", r#"{"amount":99.00000000000000000001}"#).await, "limit_reached");
    assert_eq!(office.code(&ana, &token, "a", r#"{"amount":1e-99}"#).await, "limit_argument");
    assert_eq!(office.code(&ana, &token, "a", r#"{"amount":9.9e1}"#).await, "in_scope");
    assert_eq!(office.code(&ana, &token, "a", r#"{"amount":1e-20}"#).await, "limit_reached");
    assert_eq!(office.code(&ana, &token, "a", r#"{"amount":0}"#).await, "in_scope");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_requests_cannot_pass_together_what_neither_may_alone() {
    let directory = tempfile::tempdir().unwrap();
    let office = Arc::new(office(directory.path(), &Hands::new(), 1_000_000).await);
    let ana = office.world.agent("ana").await;
    let root = office.limited(&ana, &["max_calls=30", "max_sum(amount)=20", "max_distinct_resources=5"]).await;
    let mut tasks = tokio::task::JoinSet::new();
    for at in 0..8 {
        let name = format!("sub{at}");
        let sub = office.world.agent(&name).await;
        let child = office.handed_on(&ana, root.id, &name, &["max_calls=9"], at % 2 == 0).await;
        let token = office.token(&sub, child.id).await;
        for call in 0..20 {
            let (office, sub, token) = (Arc::clone(&office), sub.clone(), token.clone());
            tasks.spawn(async move {
                let resource = format!("r{}", (at * 20 + call) % 7);
                office.code(&sub, &token, &resource, r#"{"amount":0.9}"#).await
            });
        }
    }
    let codes = tasks.join_all().await;
    let allowed = codes.iter().filter(|code| **code == "in_scope").count();
    assert!(codes.iter().all(|code| ["in_scope", "limit_reached"].contains(code)), "{codes:?}");
    // 22 times 0.9 is 19.8.
    assert_eq!(allowed, 22);
    office.world.ledger.view(|view| {
        assert_eq!(view.calls_spent(root.id), 22);
        assert_eq!(view.sum_spent(root.id, "amount"), Decimal::parse("19.8").unwrap());
        assert_eq!(view.resources_spent(root.id), 5);
    });
}

#[tokio::test]
async fn a_retry_under_the_same_key_is_one_call() {
    let directory = tempfile::tempdir().unwrap();
    let office = office(directory.path(), &Hands::new(), 1_000_000).await;
    let ana = office.world.agent("ana").await;
    let grant = office.limited(&ana, &["max_calls=2"]).await;
    let token = office.token(&ana, grant.id).await;
    let first = office.pay(&ana, &token, "a", r#"{"amount":1}"#, "k1").await.unwrap();
    assert!(first.verdict.allowed && first.verdict.decided.version == 1, "{first:?}");
    let another_token = office.token(&ana, grant.id).await;
    for token in [&token, &another_token] {
        let again = office.pay(&ana, token, "a", r#"{"amount":1.0}"#, "k1").await.unwrap();
        assert_eq!((again.id, again.verdict.allowed, &again.verdict.decided), (first.id, true, &first.verdict.decided));
    }
    // Another body under the key is refused: nothing is decided, nothing is charged.
    for (to, args) in [("b", r#"{"amount":1}"#), ("a", r#"{"amount":2}"#), ("a", "{}")] {
        let refused = office.pay(&ana, &token, to, args, "k1").await.unwrap_err();
        assert_eq!((refused.reason, refused.field), ("idempotency_conflict", Some("idempotency_key")));
    }
    let second = office.pay(&ana, &token, "a", r#"{"amount":1}"#, "k2").await.unwrap();
    assert!(second.verdict.allowed && second.id != first.id);
    // Spent: a new call has no room, the old ones keep their answer.
    assert_eq!(office.code(&ana, &token, "a", "{}").await, "limit_reached");
    let denied = office.pay(&ana, &token, "a", "{}", "k3").await.unwrap();
    assert_eq!(denied.verdict.reasons[0].code, "limit_reached");
    assert!(office.pay(&ana, &token, "a", r#"{"amount":1}"#, "k1").await.unwrap().verdict.allowed);
    assert_eq!(office.world.ledger.view(|view| view.calls_spent(grant.id)), 2);
    for key in ["a b", "\u{e4}", &"x".repeat(129)] {
        assert_eq!(office.pay(&ana, &token, "a", "{}", key).await.unwrap_err().field, Some("idempotency_key"));
    }
    // What came up since counts, though not what the call itself took.
    let ops = office.world.operator("ops", &[Role::Responder]).await;
    let scope = "bank:*@**".parse().unwrap();
    let freeze = SetFreeze { scope, sensitivity: None, reason: "testing".parse().unwrap() };
    let freeze = office.world.submit(&ops, freeze).await.unwrap().id;
    let frozen = office.pay(&ana, &token, "a", r#"{"amount":1}"#, "k1").await.unwrap().verdict;
    assert_eq!((frozen.allowed, frozen.reasons[0].code), (false, "frozen"));
    office.world.submit(&ops, Thaw { id: freeze, reason: "testing".parse().unwrap() }).await.unwrap();
    assert!(office.pay(&ana, &token, "a", r#"{"amount":1}"#, "k1").await.unwrap().verdict.allowed);
    // Once the chain is cut the old answer is none.
    let cut =
        Revoke { target: grant.id.to_string().parse().unwrap(), reason: "testing".parse().unwrap(), dry_run: false };
    office.world.submit(&ana, cut).await.unwrap();
    let dead = office.pay(&ana, &token, "a", r#"{"amount":1}"#, "k1").await.unwrap();
    assert_eq!((dead.verdict.allowed, dead.verdict.reasons[0].code), (false, "grant_revoked"));
    let charged = |entry: &Body| matches!(entry, Body::Invoked(one) if one.charged.is_some());
    let log = office.world.ledger.entries(0, 1000).unwrap();
    assert_eq!(log.iter().filter(|(_, entry, _)| charged(&entry.body)).count(), 2, "what was charged, and no more");
}

#[tokio::test]
async fn what_was_spent_is_spent_after_a_restart_from_the_log_and_from_a_snapshot() {
    for snapshot_every in [1_000_000, 3] {
        let (directory, hands) = (tempfile::tempdir().unwrap(), Hands::new());
        let before = office(directory.path(), &hands, snapshot_every).await;
        let ana = before.world.agent("ana").await;
        let grant = before.limited(&ana, &["max_calls=3", "max_sum(amount)=3", "max_distinct_resources=1"]).await;
        let token = before.token(&ana, grant.id).await;
        let first = before.pay(&ana, &token, "a", r#"{"amount":1.5}"#, "k").await.unwrap();
        assert_eq!(before.code(&ana, &token, "a", r#"{"amount":0.5}"#).await, "in_scope");
        let fingerprint = before.world.ledger.fingerprint().unwrap();
        drop(before);
        let after = office(directory.path(), &hands, snapshot_every).await;
        if snapshot_every > 3 {
            assert_eq!(after.world.ledger.fingerprint().unwrap(), fingerprint);
        }
        let again = after.pay(&ana, &token, "a", r#"{"amount":1.5}"#, "k").await.unwrap();
        assert_eq!((again.id, again.verdict.allowed), (first.id, true));
        assert_eq!(after.code(&ana, &token, "b", r#"{"amount":0}"#).await, "limit_reached");
        assert_eq!(after.code(&ana, &token, "a", r#"{"amount":1.1}"#).await, "limit_reached");
        assert_eq!(after.code(&ana, &token, "a", r#"{"amount":1}"#).await, "in_scope");
        assert_eq!(after.code(&ana, &token, "a", r#"{"amount":0}"#).await, "limit_reached");
        let exercised = after.world.ledger.view(|view| view.exercised(grant.id));
        assert_eq!(exercised.calls.into_iter().collect::<Vec<_>>(), ["bank:pay@a"]);
    }
}

#[tokio::test]
async fn what_an_operator_only_asks_about_is_not_spent() {
    let directory = tempfile::tempdir().unwrap();
    let office = office(directory.path(), &Hands::new(), 1_000_000).await;
    let ana = office.world.agent("ana").await;
    let aud = office.world.operator("aud", &[belay::domain::agent::Role::Auditor]).await;
    let grant = office.limited(&ana, &["max_calls=1"]).await;
    let token = office.token(&ana, grant.id).await;
    for _ in 0..3 {
        let asked = office.pay(&aud, &token, "a", "{}", "").await.unwrap();
        assert_eq!((asked.verdict.allowed, asked.proven), (true, false));
    }
    assert_eq!(office.code(&ana, &token, "a", "{}").await, "in_scope");
    assert_eq!(office.code(&aud, &token, "a", "{}").await, "limit_reached");
}

#[tokio::test]
async fn a_grant_says_what_of_it_was_exercised() {
    let directory = tempfile::tempdir().unwrap();
    let office = office(directory.path(), &Hands::new(), 1_000_000).await;
    let ana = office.world.agent("ana").await;
    let task = office.world.task(&ana).await.id;
    let grant = office.world.grant(&ana, task, &["bank:pay@a/**"]).await.unwrap();
    let token = office.token(&ana, grant.id).await;
    for at in 0..70 {
        for _ in 0..2 {
            assert_eq!(office.code(&ana, &token, &format!("a/{at}"), "{}").await, "in_scope");
        }
        assert_eq!(office.code(&ana, &token, &format!("b/{at}"), "{}").await, "out_of_scope");
    }
    // Behind all the records.
    office.world.task(&ana).await;
    let exercised = office.world.ledger.view(|view| view.exercised(grant.id));
    assert_eq!((exercised.calls.len(), exercised.more), (64, true));
    assert!(exercised.calls.iter().all(|call| call.starts_with("bank:pay@a/")), "{exercised:?}");
}

#[tokio::test]
async fn a_revoke_in_the_same_batch_comes_before_a_call_that_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let office = Office::open(gate.store(directory.path()), directory.path()).await;
    let ana = office.world.agent("ana").await;
    let grant = office.limited(&ana, &["max_calls=9"]).await;
    let token = office.token(&ana, grant.id).await;
    assert_eq!(office.code(&ana, &token, "a", "{}").await, "in_scope");
    let shut = gate.shut();
    let plug = queued(office.world.task(&ana));
    gate.wait_for_sequencer();
    // Allowed from memory a moment ago, and in the queue first.
    let call = queued(office.code(&ana, &token, "a", "{}"));
    let target = grant.id.to_string().parse().unwrap();
    let cut = queued(office.world.submit(&ana, Revoke { target, reason: "testing".parse().unwrap(), dry_run: false }));
    drop(shut);
    plug.await;
    assert_eq!(call.await, "grant_revoked");
    cut.await.unwrap();
    assert_eq!(office.world.ledger.view(|view| view.calls_spent(grant.id)), 1);
}

#[tokio::test]
async fn a_chain_is_no_longer_and_lasts_no_longer_than_any_of_its_limits() {
    let directory = tempfile::tempdir().unwrap();
    let office = office(directory.path(), &Hands::new(), 1_000_000).await;
    let ana = office.world.agent("ana").await;
    office.world.agent("bob").await;
    let root = office.limited(&ana, &["max_depth=2", "max_exposure=60000"]).await;
    let now = office.world.ledger.now();
    assert_eq!([root.expires_at, root.renewable_until], [now.plus(Span::minutes(1)); 2]);
    let child = office.handed_on(&ana, root.id, "ana", &["max_depth=9", "max_exposure=600000"], true).await;
    assert_eq!(child.renewable_until, root.renewable_until);
    let deeper = office.world.delegate(&ana, child.id, "bob", &["bank:pay@a"]).await.unwrap_err();
    assert_eq!((deeper.reason, deeper.field), ("depth_limit", Some("parent")));
}
