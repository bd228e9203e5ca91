//! The systems in which secrets are leased, opened from what the log holds sealed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::{Failure, Order, Postgres, Probe, Secret, Target};
use crate::domain::digest::Digest;
use crate::domain::entropy::Entropy;
use crate::domain::error::{Code, Error};
use crate::domain::event::Origin;
use crate::domain::id::LeaseId;
use crate::domain::lease::{Backend, BackendKind, Lease, MAKING};
use crate::domain::name::{Name, TrustDomain};
use crate::ledger::Ledger;
use crate::sign::Vault;

/// What an address is sealed as.
const SEALED: &str = "backend";

/// Every system that is leased in. One that changes its address is opened anew.
pub struct Targets {
    ledger: Arc<Ledger>,
    vault: Vault,
    domain: TrustDomain,
    open: Mutex<HashMap<Name, Opened>>,
}

/// A system, by the address that it was opened with.
type Opened = (Digest, Arc<dyn Target>);

impl Targets {
    /// None is open yet.
    pub fn new(ledger: Arc<Ledger>, vault: Vault, origin: &Origin) -> Self {
        Self { ledger, vault, domain: origin.trust_domain.clone(), open: Mutex::default() }
    }

    /// How a system is reached, sealed: its digest, and the blob.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn seal(&self, name: &Name, url: &str) -> Result<(Digest, Vec<u8>), Error> {
        let blob = self.vault.seal(SEALED, name.as_str(), url.as_bytes())?;
        Ok((Digest::of(&blob), blob))
    }

    /// What cannot be done in a system that is not added yet.
    ///
    /// # Errors
    /// Its address is not one.
    pub async fn preflight(&self, kind: BackendKind, url: &str, roles: &[Name]) -> Result<Vec<String>, Error> {
        let target = self.opened(kind, url)?;
        Ok(target.check(&self.probes(roles)).await)
    }

    /// Whether a URL leads to a system that was added. One whose address cannot be read is not known to be the same.
    pub fn is_same(&self, backend: &Backend, kind: BackendKind, url: &str) -> bool {
        match (self.target(backend), self.opened(kind, url)) {
            (Ok(known), Ok(new)) => backend.kind == kind && known.place() == new.place(),
            _ => false,
        }
    }

    /// What cannot be done in a system that was added.
    pub async fn check(&self, backend: &Backend) -> Vec<String> {
        match self.target(backend) {
            Ok(target) => target.check(&self.probes(&backend.roles)).await,
            Err(failure) => vec![failure.reason],
        }
    }

    /// Makes what was recorded. Nobody but whoever asked for it ever sees the password.
    ///
    /// # Errors
    /// It was not made, or nobody knows whether it was.
    pub async fn make(&self, lease: &Lease) -> Result<Secret, Failure> {
        let target = self.target_of(&lease.backend)?;
        let left = || {
            let now = self.ledger.now();
            (lease.created_at.plus(MAKING).since(now), lease.expires_at.since(now))
        };
        let (username, password) = (lease.username(), self.password());
        let order = Order { username: &username, role: &lease.role, password: &password, left: &left };
        target.make(order).await
    }

    /// The system of that name, removed or not: what is leased there is still to be ended.
    pub(super) fn target_of(&self, name: &Name) -> Result<Arc<dyn Target>, Failure> {
        let backend = self.ledger.view(|view| view.backend(name).cloned());
        self.target(&backend.ok_or_else(|| Failure::refused(format!("backend `{name}` is not known")))?)
    }

    fn target(&self, backend: &Backend) -> Result<Arc<dyn Target>, Failure> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((sealed, target)) = open.get(&backend.name)
            && *sealed == backend.sealed
        {
            return Ok(Arc::clone(target));
        }
        let opened = self.unseal(backend).and_then(|url| self.opened(backend.kind, &url));
        let opened = opened.map_err(|error| Failure::refused(error.message))?;
        open.insert(backend.name.clone(), (backend.sealed, Arc::clone(&opened)));
        Ok(opened)
    }

    fn unseal(&self, backend: &Backend) -> Result<Zeroizing<String>, Error> {
        let blob = self.ledger.blob(backend.sealed)?;
        let url = self.vault.open(SEALED, backend.name.as_str(), &blob)?;
        let text = String::from_utf8(url.to_vec()).map(Zeroizing::new);
        text.map_err(|_| Error::new(Code::Internal, "sealed", format!("the address of `{}` is not text", backend.name)))
    }

    fn opened(&self, kind: BackendKind, url: &str) -> Result<Arc<dyn Target>, Error> {
        match kind {
            BackendKind::Postgres => Ok(Arc::new(Postgres::at(url, &self.domain)?)),
        }
    }

    fn probes(&self, roles: &[Name]) -> Vec<Probe> {
        let mut entropy = Entropy::from_seed(self.ledger.seed());
        let mut id = || LeaseId::mint(self.ledger.now(), &mut entropy);
        roles.iter().map(|role| Probe { id: id(), role: role.clone(), password: self.password() }).collect()
    }

    fn password(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(Zeroizing::new(self.ledger.seed())))
    }
}
