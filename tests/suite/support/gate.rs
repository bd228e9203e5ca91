//! A store with a gate before the turn: while it is shut, requests pile up behind it, and what a turn takes
//! together is known.

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Waker};

use belay::store::{Batch, BatchId, CommitError, Head, Reader, Sqlite, Store, StoreError};

use super::world::store;

/// The handle of the gate, for the test.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<Inside>, Condvar)>);

#[derive(Default)]
struct Inside {
    shut: bool,
    waiting: bool,
    appended: Vec<usize>,
}

struct Gated {
    inner: Sqlite,
    gate: Gate,
}

impl Gate {
    /// The embedded store in `directory`, behind this gate.
    pub fn store(&self, directory: &Path) -> Box<dyn Store> {
        Box::new(Gated { inner: store(directory), gate: self.clone() })
    }

    /// No turn is taken from now on, until what this returns is dropped: also by a test that fails meanwhile.
    #[must_use]
    pub fn shut(&self) -> Shut {
        self.0.0.lock().unwrap().shut = true;
        Shut(self.clone())
    }

    /// Waits until the sequencer stands before the gate with a batch in its hands: what is queued now is in
    /// the next one.
    pub fn wait_for_sequencer(&self) {
        let waited = self.0.1.wait_while(self.0.0.lock().unwrap(), |inside| !inside.waiting);
        drop(waited.unwrap());
    }

    /// How many entries each batch had.
    pub fn batches(&self) -> Vec<usize> {
        self.0.0.lock().unwrap().appended.clone()
    }
}

/// A gate that is shut.
pub struct Shut(Gate);

impl Drop for Shut {
    fn drop(&mut self) {
        self.0.0.0.lock().unwrap().shut = false;
        self.0.0.1.notify_all();
    }
}

/// Asks a future once, so that its request stands in the queue; its answer is still to come.
pub fn queued<F: Future>(future: F) -> Pin<Box<F>> {
    let mut future = Box::pin(future);
    assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(), "answered before its turn");
    future
}

impl Store for Gated {
    fn begin(&mut self) -> Result<Head, StoreError> {
        let mut inside = self.gate.0.0.lock().unwrap();
        inside.waiting = inside.shut;
        self.gate.0.1.notify_all();
        let mut inside = self.gate.0.1.wait_while(inside, |inside| inside.shut).unwrap();
        inside.waiting = false;
        drop(inside);
        self.inner.begin()
    }

    fn missed(&mut self, after: u64, limit: u32) -> Result<Vec<Vec<u8>>, StoreError> {
        self.inner.missed(after, limit)
    }

    fn append(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.gate.0.0.lock().unwrap().appended.push(batch.entries.len());
        self.inner.append(batch)
    }

    fn commit(&mut self) -> Result<(), CommitError> {
        self.inner.commit()
    }

    fn rollback(&mut self) {
        self.inner.rollback();
    }

    fn contains(&mut self, batch: BatchId, after: u64) -> Result<bool, StoreError> {
        self.inner.contains(batch, after)
    }

    fn is_full(&self) -> bool {
        self.inner.is_full()
    }

    fn release_reserve(&mut self) {
        self.inner.release_reserve();
    }

    fn retake_reserve(&mut self) -> bool {
        self.inner.retake_reserve()
    }

    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        self.inner.reader()
    }

    fn name(&self) -> &'static str {
        self.inner.name()
    }
}
