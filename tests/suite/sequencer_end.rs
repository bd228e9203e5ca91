//! The sequencer ends by a panic of its own: nobody waits for it, and nothing is allowed that it would record.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use belay::domain::decide::{Caller, RecordInvocation};
use belay::domain::entropy::Entropy;
use belay::domain::error::Code;
use belay::domain::event::Invocation;
use belay::domain::id::InvocationId;
use belay::ledger::Request;
use belay::store::{Batch, BatchId, CommitError, Head, Reader, Sqlite, Store, StoreError};

use crate::support::world::{Hands, World};

/// A store whose next commit panics once it is told to.
struct Rotten {
    inner: Sqlite,
    told: Arc<AtomicBool>,
}

impl Store for Rotten {
    fn begin(&mut self) -> Result<Head, StoreError> {
        self.inner.begin()
    }
    fn missed(&mut self, after: u64, limit: u32) -> Result<Vec<Vec<u8>>, StoreError> {
        self.inner.missed(after, limit)
    }
    fn append(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.inner.append(batch)
    }
    fn commit(&mut self) -> Result<(), CommitError> {
        assert!(!self.told.load(Ordering::SeqCst), "told to panic");
        self.inner.commit()
    }
    fn rollback(&mut self) {
        self.inner.rollback();
    }
    fn contains(&mut self, batch: BatchId, after: u64) -> Result<bool, StoreError> {
        self.inner.contains(batch, after)
    }
    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        self.inner.reader()
    }
    fn name(&self) -> &'static str {
        "rotten"
    }
}

fn record(world: &World) -> Request<RecordInvocation> {
    let id = InvocationId::mint(world.ledger.now(), &mut Entropy::from_seed(world.ledger.seed()));
    let invocation = Invocation {
        id,
        token: None,
        grant: None,
        tree: None,
        agent: None,
        call: None,
        allowed: true,
        reasons: Vec::new(),
        proven: false,
    };
    Request {
        command: RecordInvocation { invocation },
        caller: Caller::Broker,
        request_id: "test".to_owned(),
        idempotency: None,
        seed: world.ledger.seed(),
        blobs: Vec::new(),
    }
}

#[tokio::test]
async fn a_panic_of_the_sequencer_ends_the_ledger_for_everybody() {
    let directory = tempfile::tempdir().unwrap();
    let told = Arc::new(AtomicBool::new(false));
    let store = Rotten { inner: Sqlite::open(directory.path()).unwrap(), told: Arc::clone(&told) };
    let world = World::over(Box::new(store), Hands::new(), 1_000_000).await;
    let planner = world.agent("planner").await;
    world.task(&planner).await;
    world.ledger.record(record(&world)).unwrap();
    assert!(world.ledger.is_ready());

    told.store(true, Ordering::SeqCst);
    let lost = world.grant(&planner, world.ledger.view(|view| view.tasks().next().unwrap().id), &["db:read@a"]);
    assert_eq!(lost.await.unwrap_err().code, Code::Unavailable);
    let stopped = tokio::time::timeout(std::time::Duration::from_secs(5), world.ledger.stopped());
    stopped.await.expect("a broker that waits for its ledger to stop is told");
    assert!(!world.ledger.is_ready());
    assert_eq!(world.ledger.record(record(&world)).unwrap_err().code, Code::Unavailable);
    let late = world.grant(&planner, world.ledger.view(|view| view.tasks().next().unwrap().id), &["db:read@a"]);
    assert_eq!(late.await.unwrap_err().code, Code::Unavailable);
}
