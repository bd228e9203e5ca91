//! Bodies that are too large for an event: read from their blobs before the event is folded.

use std::sync::Arc;

use super::damaged;
use crate::domain::applied::Applied;
use crate::domain::catalog::Catalog;
use crate::domain::error::Error;
use crate::domain::event::{Body, Entry};
use crate::domain::policy::Policies;
use crate::store::{Reader, StoreError};

/// What the bytes of a catalog and of a policy set mean.
pub trait Bodies: Send + Sync {
    /// Reads a catalog.
    ///
    /// # Errors
    /// The bytes are not a catalog.
    fn catalog(&self, bytes: &[u8]) -> Result<Arc<Catalog>, Error>;

    /// Reads a policy set.
    ///
    /// # Errors
    /// The bytes are not a policy set.
    fn policies(&self, bytes: &[u8]) -> Result<Arc<dyn Policies>, Error>;
}

/// Gives an entry the body that it names.
pub(super) fn load(entry: &mut Entry, reader: &dyn Reader, bodies: &dyn Bodies) -> Result<(), StoreError> {
    match &mut entry.body {
        Body::CatalogApplied(applied) => fill(applied, reader, |bytes| bodies.catalog(bytes)),
        Body::PolicyApplied(applied) => fill(applied, reader, |bytes| bodies.policies(bytes)),
        _ => Ok(()),
    }
}

pub(super) fn fill<T: ?Sized>(
    applied: &mut Applied<T>,
    reader: &dyn Reader,
    read: impl FnOnce(&[u8]) -> Result<Arc<T>, Error>,
) -> Result<(), StoreError> {
    let digest = applied.digest;
    let bytes = reader.blob(digest)?.ok_or_else(|| damaged(format!("blob {digest} is missing")))?;
    applied.body = Some(read(&bytes).map_err(|error| damaged(format!("blob {digest}: {error}")))?);
    Ok(())
}
