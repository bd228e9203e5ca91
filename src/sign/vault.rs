//! Secrets of others at rest: how the systems are reached in which secrets are leased.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{MasterKey, internal, seal};
use crate::domain::error::Error;
use crate::domain::event::Origin;

/// Seals under the broker's master key, bound to what a secret is of and to the log that holds it.
#[derive(Clone, Debug)]
pub struct Vault {
    master: Arc<MasterKey>,
    origin: Origin,
}

impl Vault {
    /// Over this master key, for the log that began so.
    pub fn new(master: Arc<MasterKey>, origin: Origin) -> Self {
        Self { master, origin }
    }

    /// Seals a secret of the `kind` of thing that has this name.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn seal(&self, kind: &'static str, name: &str, secret: &[u8]) -> Result<Vec<u8>, Error> {
        seal::seal_for(&self.master, &[kind, name], &self.origin, secret)
    }

    /// Opens what was sealed for the same kind, name and log.
    ///
    /// # Errors
    /// It was sealed for something else, or is damaged.
    pub fn open(&self, kind: &'static str, name: &str, blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        seal::open_for(&self.master, &[kind, name], &self.origin, blob).ok_or_else(|| {
            let why = "the master key file is another one, or the store is damaged";
            internal("sealed", format!("what is sealed for {kind} `{name}` does not open: {why}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::tests::{master, origin};

    #[test]
    fn what_is_sealed_opens_for_its_own_kind_name_and_log_alone() {
        let master = Arc::new(master());
        let vault = Vault::new(Arc::clone(&master), origin("example.org", "e1"));
        let blob = vault.seal("backend", "orders", b"postgresql://secret").unwrap();
        assert_eq!(vault.open("backend", "orders", &blob).unwrap().as_slice(), b"postgresql://secret");
        assert!(vault.open("backend", "other", &blob).is_err());
        assert!(vault.open("other", "orders", &blob).is_err());
        let elsewhere = Vault::new(master, origin("example.org", "e2"));
        assert!(elsewhere.open("backend", "orders", &blob).is_err());
        assert!(!format!("{vault:?}").contains("MasterKey(["), "{vault:?}");
    }
}
