//! What is too large for an event: its bytes are a blob named by digest, and the event names the digest.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::digest::Digest;

/// A catalog or a policy set, as it was applied.
#[derive(Debug)]
pub struct Applied<T: ?Sized> {
    /// Counts from 1 with every one that was applied.
    pub version: u64,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// What the bytes mean; none until somebody has loaded them.
    pub body: Option<Arc<T>>,
}

impl<T: ?Sized> Clone for Applied<T> {
    fn clone(&self) -> Self {
        Self { version: self.version, digest: self.digest, body: self.body.clone() }
    }
}

impl<T: ?Sized> PartialEq for Applied<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.version, self.digest) == (other.version, other.digest)
    }
}

impl<T: ?Sized> Serialize for Applied<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Named {
            version: u64,
            digest: Digest,
        }
        Named { version: self.version, digest: self.digest }.serialize(serializer)
    }
}
