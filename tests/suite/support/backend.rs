//! Every backend that meets the store's contract: the suites that are written for any run over each.

use std::path::PathBuf;

use belay::store::{Sqlite, Store, StoreError};
use tempfile::TempDir;

use super::memory::Disk;

type Opened = Result<Box<dyn Store>, StoreError>;

/// One store, opened as often as one likes.
pub struct Backend {
    open: Box<dyn Fn() -> Opened>,
    directory: TempDir,
}

impl Backend {
    /// The embedded store.
    pub fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        Self { open: Box::new(move || Ok(Box::new(Sqlite::open(&path)?))), directory }
    }

    /// The store in memory.
    pub fn memory() -> Self {
        let disk = Disk::default();
        Self { open: Box::new(move || Ok(Box::new(disk.open()))), directory: tempfile::tempdir().unwrap() }
    }

    /// Every backend, each with nothing in it.
    pub fn all() -> [Self; 2] {
        [Self::memory(), Self::sqlite()]
    }

    /// Opens the store; a backend may refuse a second opening beside the first.
    pub fn try_open(&self) -> Opened {
        (self.open)()
    }

    /// Opens the store.
    pub fn open(&self) -> Box<dyn Store> {
        self.try_open().unwrap()
    }

    /// A directory for what lies beside the store; for SQLite, where the store is.
    pub fn directory(&self) -> PathBuf {
        self.directory.path().to_owned()
    }
}

/// Makes of each function over a [`Backend`] one test per backend.
macro_rules! over_every_backend {
    ($($case:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $case() { super::$case(&crate::support::backend::Backend::memory()); })*
        }
        mod sqlite {
            $(#[test] fn $case() { super::$case(&crate::support::backend::Backend::sqlite()); })*
        }
    };
}
pub(crate) use over_every_backend;
