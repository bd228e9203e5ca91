//! A retry is the same request: the same ids in their current state, and never a second grant.

use belay::domain::agent::{Kind, Role};
use belay::domain::cut::Target;
use belay::domain::decide::{
    AddOperator, Caller, Delegate, Granted, IssueToken, KeepSigned, Presenter, RenewIdentity, RequestGrant, Revoke,
    StartTask, TokenAnswer,
};
use belay::domain::digest::Digest;
use belay::domain::entropy::Entropy;
use belay::domain::error::{Code, Error};
use belay::domain::grant::GrantState;
use belay::domain::id::{CertificateId, TaskId};
use belay::domain::scope::Scopes;
use belay::domain::time::{KEY_KEPT, Span};
use serde_json::Value;

use crate::support::gate::{Gate, queued};
use crate::support::process::Broker;
use crate::support::world::{Hands, World, store};

const KEY: Option<(&str, &[u8])> = Some(("retry-1", b"body"));
const OTHER: Option<(&str, &[u8])> = Some(("retry-1", b"another body"));

fn request(task: TaskId) -> RequestGrant {
    let scopes = Scopes::parse(&["db:read@**"]).unwrap();
    RequestGrant {
        task,
        scopes,
        audience: None,
        ttl: Span::minutes(15),
        token: true,
        limits: Default::default(),
        narrow: false,
    }
}

impl World {
    async fn request(&self, caller: &Caller, task: TaskId, key: Option<(&str, &[u8])>) -> Result<Granted, Error> {
        self.submit_once(caller, request(task), key).await
    }

    /// Another certificate for this agent, for the key with this hash.
    async fn renewed(&self, agent: &Caller, key: &[u8]) -> Caller {
        let Caller::Agent(old) = agent else { panic!("an agent renews") };
        let (now, key_hash) = (self.ledger.now(), Digest::of(key));
        let id = CertificateId::mint(now, &mut Entropy::from_seed(self.ledger.seed()));
        let identity = self.certificate(id, Kind::Agent, old.name.as_str(), key_hash);
        let not_after = identity.not_after;
        self.submit(agent, RenewIdentity { new: identity }).await.unwrap();
        self.submit(&Caller::Broker, KeepSigned { id, der: vec![0x30, 0] }).await.unwrap();
        Caller::Agent(Presenter {
            certificate: id,
            thumbprint: Digest::of(&id.uuid().into_bytes()),
            key_hash,
            not_after,
            ..old.clone()
        })
    }
}

fn token(granted: &Granted) -> Option<(bool, belay::domain::id::TokenId)> {
    granted.token.as_ref().map(|token| match token {
        TokenAnswer::New(recorded) => (true, recorded.get().id),
        TokenAnswer::Again(id, _) => (false, *id),
    })
}

#[tokio::test]
async fn the_same_key_and_body_are_the_same_grant_as_it_stands_now() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    let (planner, coder) = (world.agent("planner").await, world.agent("coder").await);
    let (task, other) = (world.task(&planner).await.id, world.task(&coder).await.id);
    let first = world.request(&planner, task, KEY).await.unwrap();
    let head = world.ledger.checkpoint();
    let again = world.request(&planner, task, KEY).await.unwrap();
    assert_eq!((again.grant.id, again.state), (first.grant.id, GrantState::Active));
    assert_eq!((token(&first).unwrap().0, token(&again)), (true, Some((false, token(&first).unwrap().1))));
    assert_eq!(world.ledger.checkpoint(), head, "a retry is no event");

    // Another body is refused; another caller's key and another verb's key are their own.
    let error = world.request(&planner, task, OTHER).await.unwrap_err();
    assert_eq!(
        (error.code, error.reason, error.field),
        (Code::Conflict, "idempotency_conflict", Some("idempotency_key"))
    );
    assert_ne!(world.request(&coder, other, OTHER).await.unwrap().grant.id, first.grant.id);
    let scopes = Scopes::parse(&["db:read@a"]).unwrap();
    let (parent, to, ttl) = (first.grant.id, "coder".parse().unwrap(), Span::minutes(5));
    let delegate =
        Delegate { parent, to, scopes, audience: None, ttl, own: false, limits: Default::default(), narrow: false };
    let child = world.submit_once(&planner, delegate, OTHER).await.unwrap();
    assert_eq!(child.grant.parent, Some(first.grant.id));
    let start =
        || StartTask { purpose: "testing".parse().unwrap(), subject: None, ttl: Span::hours(1), envelope: None };
    let started = world.submit_once(&planner, start(), OTHER).await.unwrap();
    assert_eq!(world.submit_once(&planner, start(), OTHER).await.unwrap().task.id, started.task.id);
    let issue = || IssueToken { grant: first.grant.id, audience: None };
    let TokenAnswer::New(issued) = world.submit_once(&planner, issue(), KEY).await.unwrap() else { panic!("new") };
    let TokenAnswer::Again(id, _) = world.submit_once(&planner, issue(), KEY).await.unwrap() else { panic!("again") };
    assert_eq!(id, issued.get().id);

    // Cut: the same ids, revoked, and no token any more.
    let cut = Revoke { target: Target::Grant(first.grant.id), reason: "stop".parse().unwrap(), dry_run: false };
    world.submit(&planner, cut).await.unwrap();
    let after = world.request(&planner, task, KEY).await.unwrap();
    assert_eq!((after.grant.id, after.state, token(&after)), (first.grant.id, GrantState::Revoked, None));
    assert_eq!(world.submit_once(&planner, issue(), KEY).await.unwrap_err().reason, "grant_revoked");
}

#[tokio::test]
async fn twenty_at_once_are_one_grant() {
    let directory = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let world = World::over(gate.store(directory.path()), Hands::new(), 1_000_000).await;
    let planner = world.agent("planner").await;
    let task = world.task(&planner).await.id;
    // Of one batch, where the second must see what the first has only been decided.
    let shut = gate.shut();
    let plug = queued(world.task(&planner));
    gate.wait_for_sequencer();
    let all: Vec<_> = (0..20).map(|_| queued(world.request(&planner, task, KEY))).collect();
    drop(shut);
    plug.await;
    let mut granted = Vec::new();
    for answer in all {
        granted.push(answer.await.unwrap());
    }
    assert_eq!(gate.batches().last(), Some(&2), "a grant and its token");
    assert!(granted.iter().all(|one| one.grant == granted[0].grant));
    assert_eq!(granted.iter().filter(|one| token(one).unwrap().0).count(), 1);
    assert!(granted.iter().all(|one| token(one).unwrap().1 == token(&granted[0]).unwrap().1));
    assert_eq!(world.ledger.view(|view| view.grants().count()), 1);
}

#[tokio::test]
async fn a_key_lives_an_hour_longer_than_what_it_made_and_through_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let hands = Hands::new();
    let world = World::over(Box::new(store(directory.path())), hands.clone(), 5).await;
    let planner = world.agent("planner").await;
    let task = world.task(&planner).await.id;
    let first = world.request(&planner, task, KEY).await.unwrap().grant;
    drop(world);
    let world = World::over(Box::new(store(directory.path())), hands.clone(), 1_000_000).await;
    assert!(world.ledger.entries(0, 1000).unwrap().iter().any(|(_, entry, _)| entry.body.kind() == "snapshot_taken"));
    assert_eq!(world.request(&planner, task, KEY).await.unwrap().grant, first);

    // Just over, it is still told as it stands. Later only its id is: never is a second one made in its place.
    hands.turn(first.expires_at.plus(Span::minutes(4)).since(world.ledger.now()));
    let over = world.request(&planner, task, KEY).await.unwrap();
    assert_eq!((over.grant.id, over.state, token(&over)), (first.id, GrantState::Expired, None));
    hands.turn(Span::minutes(1));
    beat(&world, "one").await;
    let error = world.request(&planner, task, KEY).await.unwrap_err();
    assert_eq!((error.code, error.reason), (Code::Denied, "grant_expired"));
    assert!(error.message.contains(&first.id.to_string()), "{error}");
    // The task that it is under lives on, and another grant may be had under another key.
    assert_ne!(world.request(&planner, task, Some(("retry-2", b"body"))).await.unwrap().grant.id, first.id);

    // Renewal could have carried the grant to the task's end: the key is kept an hour beyond that.
    let kept = first.renewable_until.plus(KEY_KEPT);
    hands.turn(Span::millis(kept.since(world.ledger.now()).as_millis() - 1));
    beat(&world, "two").await;
    assert_eq!(world.request(&planner, task, KEY).await.unwrap_err().reason, "grant_expired");
    assert_eq!(world.request(&planner, task, OTHER).await.unwrap_err().reason, "idempotency_conflict");
    hands.turn(Span::millis(1));
    beat(&world, "three").await;
    let fresh = world.task(&planner).await.id;
    assert_ne!(world.request(&planner, fresh, OTHER).await.unwrap().grant.id, first.id, "the key is free again");
}

#[tokio::test]
async fn a_token_is_signed_again_only_for_the_key_that_it_was_issued_for() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    let planner = world.agent("planner").await;
    let task = world.task(&planner).await.id;
    let first = world.request(&planner, task, KEY).await.unwrap();
    // A new certificate for another key is another holder, as far as the old token goes.
    let other = world.renewed(&planner, b"another key").await;
    let error = world.request(&other, task, KEY).await.unwrap_err();
    assert_eq!((error.code, error.reason), (Code::Denied, "other_key"));
    // The old certificate is good until it ends, and so is what it was given.
    assert_eq!(token(&world.request(&planner, task, KEY).await.unwrap()).unwrap().1, token(&first).unwrap().1);
    // And a token that was cut is not signed again for anybody, though its grant lives.
    let id = token(&first).unwrap().1;
    let cut = Revoke { target: Target::Token(id), reason: "lost".parse().unwrap(), dry_run: false };
    world.submit(&planner, cut).await.unwrap();
    let after = world.request(&planner, task, KEY).await.unwrap();
    assert_eq!((after.state, token(&after)), (GrantState::Active, None));
}

/// The real thing: what comes back after a lost answer is, up to the signature, the same bytes.
#[test]
fn a_lost_token_comes_back_byte_for_byte() {
    let home = tempfile::tempdir().unwrap();
    let mut broker = Broker::start_in(home.path(), &[]);
    let planner = broker.agent("planner");
    let task = broker.run_as(&planner, &["task", "start", "testing"]).ok()["task"]["id"].as_str().unwrap().to_owned();
    let request = ["grant", "request", "--task", &task, "--scope", "db:read@**", "--token", "--idempotency-key", "k1"];
    let first = broker.run_as(&planner, &request).ok();
    let again = broker.run_as(&planner, &request).ok();
    let input = |answer: &Value| answer["token"]["token"].as_str().unwrap().rsplit_once('.').unwrap().0.to_owned();
    assert_eq!((&again["grant"]["id"], input(&again)), (&first["grant"]["id"], input(&first)));
    let wider = ["grant", "request", "--task", &task, "--scope", "db:*@**", "--token", "--idempotency-key", "k1"];
    assert_eq!(broker.run_as(&planner, &wider).err(1)["detail"]["reason"], "idempotency_conflict");

    broker.kill();
    let broker = Broker::start_in(home.path(), &[]);
    let restarted = broker.run_as(&planner, &request).ok();
    assert_eq!((&restarted["grant"]["id"], input(&restarted)), (&first["grant"]["id"], input(&first)));
    let token = restarted["token"]["token"].as_str().unwrap();
    let call = ["authorize", "--token", token, "--tool", "db", "--action", "read", "--resource", "a"];
    assert_eq!(broker.run_as(&planner, &call).ok()["decision"], "allow");

    broker.run_as(&planner, &["agent", "renew"]).ok();
    broker.run_as(&planner, &request).err(3);
    let grant = first["grant"]["id"].as_str().unwrap();
    broker.run_as(&planner, &["revoke", grant, "--reason", "done"]).ok();
    let revoked = broker.run_as(&planner, &request).ok();
    assert_eq!((&revoked["grant"]["id"], &revoked["grant"]["state"]), (&first["grant"]["id"], &"revoked".into()));
    assert!(revoked.get("token").is_none());
}

/// A batch, whatever it holds: what is over is collected by it.
async fn beat(world: &World, name: &str) {
    let (name, secret_hash) = (name.parse().unwrap(), Digest::of(name.as_bytes()));
    world.submit(&Caller::Broker, AddOperator { name, roles: vec![Role::Auditor], secret_hash }).await.unwrap();
}
