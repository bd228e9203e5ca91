//! A store in memory: what the contract asks and nothing more. Volatile until the commit; every handle on
//! the same disk is another opening of the same store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use belay::domain::digest::Digest;
use belay::merkle::empty_root;
use belay::store::{Batch, BatchId, CommitError, Head, Reader, Store, StoreError};

/// What survives: shared by all who open it.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<Platter>>);

#[derive(Default)]
struct Platter {
    kept: Content,
    in_turn: bool,
}

#[derive(Clone, Default)]
struct Content {
    log: Vec<(BatchId, Vec<u8>)>,
    blobs: BTreeMap<Digest, Vec<u8>>,
    head: Option<Head>,
}

/// One opening.
pub struct Memory {
    disk: Disk,
    draft: Option<Content>,
}

impl Disk {
    /// Opens the store, again or for the first time.
    pub fn open(&self) -> Memory {
        Memory { disk: self.clone(), draft: None }
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }
}

impl Content {
    fn head(&self) -> Head {
        self.head.unwrap_or(Head { size: 0, root: empty_root(), snapshot: 0 })
    }

    fn behind(&self, after: u64, limit: u32) -> Vec<Vec<u8>> {
        self.log.iter().skip(after as usize).take(limit as usize).map(|(_, body)| body.clone()).collect()
    }
}

impl Memory {
    fn draft(&self) -> Result<&Content, StoreError> {
        self.draft.as_ref().ok_or_else(|| StoreError::new("in memory", "no turn is taken"))
    }
}

impl Store for Memory {
    fn begin(&mut self) -> Result<Head, StoreError> {
        let mut platter = self.disk.platter();
        if platter.in_turn {
            return Err(StoreError::new("taking the turn", "another has it"));
        }
        platter.in_turn = true;
        let draft = platter.kept.clone();
        let head = draft.head();
        self.draft = Some(draft);
        Ok(head)
    }

    fn missed(&mut self, after: u64, limit: u32) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(self.draft()?.behind(after, limit))
    }

    fn append(&mut self, batch: &Batch) -> Result<(), StoreError> {
        if self.draft()?.head().size != batch.after {
            return Err(StoreError::new("appending", "the log has another size"));
        }
        let draft = self.draft.as_mut().unwrap();
        draft.log.extend(batch.entries.iter().map(|body| (batch.id, body.clone())));
        draft.blobs.extend(batch.blobs.iter().cloned());
        if let Some(digest) = &batch.forget {
            draft.blobs.remove(digest);
        }
        draft.head = Some(batch.head);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), CommitError> {
        let draft = self.draft.take().ok_or_else(|| CommitError::Failed("no turn is taken".to_owned()))?;
        let mut platter = self.disk.platter();
        platter.kept = draft;
        platter.in_turn = false;
        Ok(())
    }

    fn rollback(&mut self) {
        if self.draft.take().is_some() {
            self.disk.platter().in_turn = false;
        }
    }

    fn contains(&mut self, batch: BatchId, after: u64) -> Result<bool, StoreError> {
        Ok(self.draft()?.log.iter().skip(after as usize).any(|(id, _)| *id == batch))
    }

    fn is_full(&self) -> bool {
        false
    }

    fn release_reserve(&mut self) {}

    fn retake_reserve(&mut self) -> bool {
        true
    }

    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        Ok(Box::new(self.disk.clone()))
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.rollback();
    }
}

impl Reader for Disk {
    fn entries(&self, after: u64, limit: u32) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(self.platter().kept.behind(after, limit))
    }

    fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        match self.platter().kept.blobs.get(&digest) {
            Some(body) if Digest::of(body) != digest => {
                Err(StoreError::new(format!("reading blob {digest}"), "its bytes are damaged"))
            }
            body => Ok(body.cloned()),
        }
    }
}
