//! Leases and the systems that they are in: preflight, record, make, keep, hand out once.

use super::{Asked, Broker};
use crate::domain::decide::{AddBackend, GiveUpLease, IssueLease, KeepLease};
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::event::Idempotency;
use crate::domain::lease::{Backend, BackendKind, Lease};
use crate::domain::name::Name;
use crate::effect::lease::{Failure, Secret};

/// A backend, and what cannot be done in it.
#[derive(Debug)]
pub struct Checked {
    /// The backend.
    pub backend: Backend,
    /// In readable lines; none if all can be done.
    pub findings: Vec<String>,
}

/// A lease and its secret, which exists nowhere else.
#[derive(Debug)]
pub struct Leased {
    /// The lease, as recorded.
    pub lease: Lease,
    /// The secret.
    pub secret: Secret,
}

impl Broker {
    /// Adds a system to lease secrets in, once it is proven that all can be done there that will have to be.
    ///
    /// # Errors
    /// The caller may not, there is one of that name, its address is not one, or something cannot be done in it.
    pub async fn add_backend(
        &self,
        asked: &Asked,
        (name, kind): (Name, BackendKind),
        url: &str,
        roles: Vec<Name>,
        replace: bool,
    ) -> Result<Checked, Error> {
        let known = self.ledger.view(|view| view.backend(&name).cloned());
        let same_as = known.filter(|known| self.targets.is_same(known, kind, url)).map(|known| known.sealed);
        let command = |sealed| AddBackend { name: name.clone(), kind, roles: roles.clone(), sealed, replace, same_as };
        // Nobody has the broker connect anywhere who may not add it.
        let would = self.peek(asked, &command(Digest::of(&[])))?;
        let findings = self.targets.preflight(kind, url, &would.roles).await?;
        if !findings.is_empty() {
            let message = format!("backend `{name}` cannot be leased in: {}", findings.join("; "));
            return Err(Error::new(Code::Invalid, "preflight", message));
        }
        let (sealed, blob) = self.targets.seal(&name, url)?;
        let backend = self.submit_with(asked, command(sealed), vec![(sealed, blob)]).await?;
        Ok(Checked { backend, findings })
    }

    /// Proves once more that all can be done there.
    ///
    /// # Errors
    /// There is no such backend.
    pub async fn check_backend(&self, name: &Name) -> Result<Checked, Error> {
        let known = self.ledger.view(|view| view.backend(name).filter(|backend| !backend.removed).cloned());
        let backend = known.ok_or_else(|| Error::not_found("backend", name).on("name"))?;
        let findings = self.targets.check(&backend).await;
        Ok(Checked { backend, findings })
    }

    /// A secret under a grant that the caller holds: recorded, made, kept, and only then handed out, once.
    ///
    /// # Errors
    /// The grant does not allow it, or the secret could not be made: then its lease is cut.
    pub async fn issue_lease(
        &self,
        asked: &Asked,
        command: IssueLease,
        once: Option<Idempotency>,
    ) -> Result<Leased, Error> {
        let lease = self.submit_once(asked, command, once).await?;
        let kept = match self.targets.make(&lease).await {
            Ok(secret) => {
                let kept = self.submit(&self.own(asked), KeepLease { id: lease.id }).await;
                kept.map(|lease| Leased { lease, secret })
            }
            Err(failure) => Err(not_made(&lease, &failure)),
        };
        if kept.is_err() {
            // If this is not recorded either: what was never kept is ended when its time to be made is over.
            if let Err(error) = self.submit(&self.own(asked), GiveUpLease { id: lease.id }).await {
                tracing::warn!(lease = %lease.id, %error, "a lease that nobody has is not given up yet");
            }
        }
        kept
    }

    fn own(&self, asked: &Asked) -> Asked {
        Asked::broker(&asked.request_id)
    }
}

fn not_made(lease: &Lease, failure: &Failure) -> Error {
    let message = format!("lease `{}` was not made in backend `{}`: {failure}; ask again", lease.id, lease.backend);
    Error::new(Code::Unavailable, "lease_not_made", message)
}
