//! Backends: the systems in which secrets are leased, added and removed.

use super::{Context, Decide, Decision};
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::event::Body;
use crate::domain::lease::{Backend, BackendKind, LeaseStatus, MAX_ROLES};
use crate::domain::name::{Line, Name};
use crate::domain::policy::Right;
use crate::domain::scope::Call;

/// Adds a system to lease secrets in. How it is reached was sealed before, and goes with the event as a blob.
#[derive(Debug)]
pub struct AddBackend {
    /// Its name.
    pub name: Name,
    /// What it is.
    pub kind: BackendKind,
    /// The roles that a lease may be made from; at least one.
    pub roles: Vec<Name>,
    /// The blob.
    pub sealed: Digest,
    /// Whether it may take the place of one of that name: what is leased there is then found by the new address.
    pub replace: bool,
    /// The blob of the address that this one was found to lead to the same system as, if it was.
    pub same_as: Option<Digest>,
}

/// Removes one: nothing new is leased, and what is leased is ended.
#[derive(Debug)]
pub struct RemoveBackend {
    /// Which.
    pub name: Name,
    /// Why.
    pub reason: Line,
}

impl Decide for AddBackend {
    type Answer = Backend;
    const VERB: &'static str = "backend.add";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Backend>, Error> {
        ctx.operator(Right::ManageBackends)?;
        let roles = self.roles()?;
        let known = ctx.view.backend(&self.name);
        if let Some(known) = known {
            self.stays(ctx, known)?;
        }
        let created_at = match known {
            Some(_) if !self.replace && (known.is_some_and(|known| !known.removed) || self.is_leased(ctx)) => {
                let message =
                    format!("backend `{}` exists, or something leased there is not gone yet; replace it", self.name);
                return Err(Error::new(Code::Conflict, "backend_exists", message).on("name"));
            }
            // Another address of the same system: what is leased there stays.
            Some(known) if !known.removed => known.created_at,
            _ => ctx.now,
        };
        let (name, kind, sealed) = (self.name.clone(), self.kind, self.sealed);
        let backend = Backend { name, kind, roles, sealed, removed: false, created_at };
        Ok(Decision::new(vec![Body::BackendAdded(backend.clone())], backend))
    }
}

impl AddBackend {
    fn roles(&self) -> Result<Vec<Name>, Error> {
        let mut roles = self.roles.clone();
        roles.sort_unstable();
        roles.dedup();
        if roles.is_empty() {
            return Err(Error::missing("role"));
        }
        if roles.len() > MAX_ROLES {
            return Err(Error::malformed("role", &format!("{} roles", roles.len()), "a backend has at most 64"));
        }
        for role in &roles {
            call(&self.name, role)?;
        }
        Ok(roles)
    }

    /// What is leased in one system is not looked for in another, where it would be found gone at once.
    fn stays(&self, ctx: &Context<'_>, known: &Backend) -> Result<(), Error> {
        let same = known.sealed == self.sealed || self.same_as == Some(known.sealed);
        if same || !self.replace || !self.is_leased(ctx) {
            return Ok(());
        }
        let message = format!(
            "what is leased in backend `{}` is not gone yet, and the new URL names another host, port or database; end \
             that first (`belay lease list`), or add the new one under another name",
            self.name
        );
        Err(Error::new(Code::Conflict, "backend_leased", message).on("url"))
    }

    fn is_leased(&self, ctx: &Context<'_>) -> bool {
        ctx.view.leases().any(|lease| lease.backend == self.name && lease.status != LeaseStatus::Ended)
    }
}

impl Decide for RemoveBackend {
    type Answer = Backend;
    const VERB: &'static str = "backend.remove";

    fn is_urgent(&self) -> bool {
        true
    }

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Backend>, Error> {
        ctx.operator(Right::ManageBackends)?;
        let known = ctx.view.backend(&self.name).ok_or_else(|| Error::not_found("backend", &self.name))?;
        let removed = Backend { removed: true, ..known.clone() };
        if known.removed {
            return Ok(Decision::new(Vec::new(), removed));
        }
        let event = Body::BackendRemoved { name: self.name.clone(), reason: self.reason.clone() };
        Ok(Decision::new(vec![event], removed))
    }
}

/// The call that leasing a role of a backend is: what a scope has to allow.
pub(super) fn call(backend: &Name, role: &Name) -> Result<Call, Error> {
    Call::parse(backend.as_str(), "lease", role.as_str()).map_err(|error| match error.field {
        Some("tool") => error.on("name"),
        _ => error.on("role"),
    })
}
