//! The turn over any store: learn what was missed, decide over state and batch, append, commit, answer.

use std::sync::{Arc, Mutex};

use belay::broker::Readers;
use belay::domain::agent::AgentStatus;
use belay::domain::cut::Target;
use belay::domain::decide::{Caller, RegisterAgent, Revoke};
use belay::domain::digest::Digest;
use belay::domain::time::Span;
use belay::ledger::{Ledger, Seeds};
use belay::store::{Batch, BatchId, CommitError, Head, Reader, Store, StoreError};

use crate::support::backend::{Backend, over_every_backend};
use crate::support::block_on;
use crate::support::faulty::{Faulty, Stage};
use crate::support::world::{Hands, World};

over_every_backend![
    what_was_answered_is_there_after_opening_again,
    history_is_replayed_and_a_snapshot_with_its_tail_is_the_same,
    what_another_wrote_is_learned_before_anything_is_decided,
    one_batch_is_decided_in_order_over_what_it_has_decided_so_far,
    nothing_is_answered_while_its_commit_is_under_way,
];

pub fn cut(target: Target) -> Revoke {
    Revoke { target, reason: "testing".parse().unwrap(), dry_run: false }
}

/// Some history with everything in it that a state can hold.
async fn live(world: &World) {
    let (planner, coder) = (world.agent("planner").await, world.agent("coder").await);
    let task = world.task(&planner).await;
    for round in 0..4 {
        let root = world.grant(&planner, task.id, &["db:read@**"]).await.unwrap();
        let child = world.delegate(&planner, root.id, "coder", &["db:read@orders"]).await.unwrap();
        let token = belay::domain::decide::IssueToken { grant: child.id, audience: None };
        world.submit_once(&coder, token, Some((&format!("token-{round}"), b"body"))).await.unwrap();
        world.hands.turn(Span::seconds(30));
        if round % 2 == 0 {
            world.submit(&Caller::Broker, cut(Target::Grant(root.id))).await.unwrap();
            assert_eq!(world.state(child.id), Some("revoked"));
        }
    }
    world.set_agent("coder", AgentStatus::Suspended).await;
}

/// What a ledger knows: its end and the bytes of its state.
fn known(ledger: &Ledger) -> (u64, String, Vec<u8>) {
    let (size, root) = ledger.checkpoint();
    (size, root.to_string(), ledger.fingerprint().unwrap())
}

fn what_was_answered_is_there_after_opening_again(backend: &Backend) {
    block_on(async {
        let hands = Hands::new();
        let world = World::over(backend.open(), Arc::clone(&hands), 1_000_000).await;
        live(&world).await;
        let before = known(&world.ledger);
        world.ledger.close();
        drop(world);
        let again = World::over(backend.open(), hands, 1_000_000).await;
        assert!(known(&again.ledger) == before, "the state that was opened is not the state that was closed");
        again.set_agent("coder", AgentStatus::Active).await;
        assert_eq!(again.ledger.checkpoint().0, before.0 + 1);
    });
}

fn history_is_replayed_and_a_snapshot_with_its_tail_is_the_same(backend: &Backend) {
    block_on(async {
        let hands = Hands::new();
        let world = World::over(backend.open(), Arc::clone(&hands), 7).await;
        live(&world).await;
        world.ledger.close();
        let before = known(&world.ledger);
        drop(world);
        let mut store = backend.open();
        let mut head = store.begin().unwrap();
        assert!(head.snapshot > 0 && head.size > head.snapshot, "there is a snapshot and a tail: {head:?}");
        store.rollback();
        drop(store);
        let from_snapshot = World::over(backend.open(), Arc::clone(&hands), 1_000_000).await;
        assert!(known(&from_snapshot.ledger) == before, "snapshot and tail are not what was there");
        drop(from_snapshot);
        // The same log without its snapshot.
        let bare = Backend::memory();
        let mut store = bare.open();
        store.begin().unwrap();
        head.snapshot = 0;
        let entries = backend.open().reader().unwrap().entries(0, u32::MAX).unwrap();
        let policies = belay::cedar::Set::dev().unwrap().to_bytes();
        let blobs = vec![(Digest::of(&policies), policies)];
        store.append(&Batch { id: [1; 16], after: 0, entries, blobs, forget: None, head }).unwrap();
        store.commit().unwrap();
        let replayed = World::over(store, hands, 1_000_000).await;
        assert!(known(&replayed.ledger) == before, "a replay is not what was there");
    });
}

fn what_another_wrote_is_learned_before_anything_is_decided(backend: &Backend) {
    block_on(async {
        let (hands, shared) = (Hands::new(), Shared(Arc::new(Mutex::new(backend.open()))));
        let open = || World::over(Box::new(shared.clone()), Arc::clone(&hands), 1_000_000);
        let (one, other) = (open().await, open().await);
        let planner = one.agent("planner").await;
        let task = one.task(&planner).await;
        let grant = one.grant(&planner, task.id, &["db:read@**"]).await.unwrap();
        assert_eq!(other.state(grant.id), None);
        other.submit(&Caller::Broker, cut(Target::Grant(grant.id))).await.unwrap();
        assert_eq!(other.state(grant.id), Some("revoked"));
        let refusal = one.delegate(&planner, grant.id, "planner", &["db:read@orders"]).await.unwrap_err();
        assert_eq!(refusal.reason, "grant_revoked", "{refusal}");
        one.agent("coder").await;
        let refusal = other.submit(&Caller::Broker, register("coder")).await.unwrap_err();
        assert_eq!(refusal.reason, "agent_exists", "{refusal}");
        assert!(known(&one.ledger) == known(&other.ledger), "two nodes over one log know different things");
    });
}

pub fn register(name: &str) -> RegisterAgent {
    RegisterAgent {
        name: name.parse().unwrap(),
        owner: "team".parse().unwrap(),
        purpose: "testing".parse().unwrap(),
        ceiling: None,
        max_ttl: None,
        labels: Vec::new(),
        secret_hash: Digest::of(name.as_bytes()),
    }
}

fn one_batch_is_decided_in_order_over_what_it_has_decided_so_far(backend: &Backend) {
    block_on(async {
        let (store, control) = Faulty::over(backend.open());
        let world = World::over(store, Hands::new(), 1_000_000).await;
        let planner = world.agent("planner").await;
        let task = world.task(&planner).await;
        let grant = world.grant(&planner, task.id, &["db:read@**"]).await.unwrap();
        let before = control.commits();
        control.hold(Stage::Begin);
        // The turn waits with the first of them in hand; the others arrive meanwhile and are the next batch.
        let first = world.submit(&Caller::Broker, register("first"));
        let rest = async {
            control.held().await;
            tokio::join!(
                world.submit(&Caller::Broker, register("coder")),
                world.submit(&Caller::Broker, register("coder")),
                world.delegate(&planner, grant.id, "planner", &["db:read@orders"]),
                world.submit(&Caller::Broker, cut(Target::Grant(grant.id))),
                async { control.release() },
            )
        };
        let (first, (one, two, delegated, revoked, ())) = tokio::join!(first, rest);
        first.unwrap();
        one.unwrap();
        assert_eq!(two.unwrap_err().reason, "agent_exists");
        revoked.unwrap();
        assert_eq!(delegated.unwrap_err().reason, "grant_revoked", "revokes go first");
        assert_eq!(control.commits(), before + 2);
    });
}

fn nothing_is_answered_while_its_commit_is_under_way(backend: &Backend) {
    block_on(async {
        let (store, control) = Faulty::over(backend.open());
        let world = World::over(store, Hands::new(), 1_000_000).await;
        world.submit(&Caller::Broker, register("planner")).await.unwrap();
        control.hold(Stage::Commit);
        let accepted = world.submit(&Caller::Broker, register("coder"));
        tokio::pin!(accepted);
        let wait = std::time::Duration::from_millis(50);
        let early = tokio::time::timeout(wait, accepted.as_mut()).await;
        assert!(early.is_err(), "it was answered before it was durable: {early:?}");
        control.held().await;
        assert!(world.ledger.view(|view| view.agent(&"coder".parse().unwrap()).is_none()), "it was seen too early");
        control.release();
        accepted.await.unwrap();
        assert!(world.ledger.view(|view| view.agent(&"coder".parse().unwrap()).is_some()));
    });
}

/// One store under two ledgers, as a database is under two nodes.
#[derive(Clone)]
struct Shared(Arc<Mutex<Box<dyn Store>>>);

impl Store for Shared {
    fn begin(&mut self) -> Result<Head, StoreError> {
        self.0.lock().unwrap().begin()
    }
    fn missed(&mut self, after: u64, limit: u32) -> Result<Vec<Vec<u8>>, StoreError> {
        self.0.lock().unwrap().missed(after, limit)
    }
    fn append(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.0.lock().unwrap().append(batch)
    }
    fn commit(&mut self) -> Result<(), CommitError> {
        self.0.lock().unwrap().commit()
    }
    fn rollback(&mut self) {
        self.0.lock().unwrap().rollback();
    }
    fn contains(&mut self, batch: BatchId, after: u64) -> Result<bool, StoreError> {
        self.0.lock().unwrap().contains(batch, after)
    }
    fn is_full(&self) -> bool {
        self.0.lock().unwrap().is_full()
    }

    fn release_reserve(&mut self) {
        self.0.lock().unwrap().release_reserve();
    }

    fn retake_reserve(&mut self) -> bool {
        self.0.lock().unwrap().retake_reserve()
    }

    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        self.0.lock().unwrap().reader()
    }
    fn name(&self) -> &'static str {
        "shared"
    }
}

#[test]
fn a_store_that_cannot_be_read_opens_no_ledger() {
    let backend = Backend::memory();
    let (store, control) = Faulty::over(backend.open());
    control.fail(0, crate::support::faulty::Fault::Begin);
    let error =
        Ledger::open(store, Hands::new(), Seeds::fixed([1; 32]), 10, std::sync::Arc::new(Readers)).err().unwrap();
    assert_eq!((error.code, error.reason), (belay::domain::error::Code::Unavailable, "store"));
    Ledger::open(backend.open(), Hands::new(), Seeds::fixed([1; 32]), 10, std::sync::Arc::new(Readers)).unwrap();
}
