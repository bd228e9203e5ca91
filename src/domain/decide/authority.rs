//! What operators say there is, and what may be done: a catalog or a policy set, taken whole or not at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Context, Decide, Decision};
use crate::domain::agent::{Kind, Operator};
use crate::domain::applied::Applied;
use crate::domain::catalog::Catalog;
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::event::Body;
use crate::domain::name::Name;
use crate::domain::policy::{Object, Policies, Principal, Question, Right};
use crate::domain::view::View;

/// Puts another catalog in force.
#[derive(Debug)]
pub struct ApplyCatalog {
    /// It, read and found good.
    pub catalog: Arc<Catalog>,
    /// SHA-256 of its bytes, which go with the request.
    pub digest: Digest,
    /// The version that its difference was shown against.
    pub over: Option<u64>,
}

/// Puts another policy set in force.
#[derive(Debug)]
pub struct ApplyPolicy {
    /// It, read and found good.
    pub policies: Arc<dyn Policies>,
    /// SHA-256 of its bytes, which go with the request.
    pub digest: Digest,
    /// The version that it is to replace.
    pub over: Option<u64>,
    /// Even if nobody could apply another one after it.
    pub force: bool,
}

impl Decide for ApplyCatalog {
    type Answer = Applied<Catalog>;
    const VERB: &'static str = "catalog.apply";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Applied<Catalog>>, Error> {
        ctx.operator(Right::ManageCatalog)?;
        let before = ctx.view.applied_catalog();
        let version = next(before, self.over, "catalog")?;
        if let Some(same) = before.filter(|before| before.digest == self.digest) {
            return Ok(Decision::new(Vec::new(), same.clone()));
        }
        let applied = Applied { version, digest: self.digest, body: Some(Arc::clone(&self.catalog)) };
        Ok(Decision::new(vec![Body::CatalogApplied(applied.clone())], applied))
    }
}

impl Decide for ApplyPolicy {
    type Answer = Applied<dyn Policies>;
    const VERB: &'static str = "policy.apply";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Applied<dyn Policies>>, Error> {
        ctx.operator(Right::ManagePolicy)?;
        let before = ctx.view.applied_policies();
        let version = next(before, self.over, "policy")?;
        if let Some(same) = before.filter(|before| before.digest == self.digest) {
            return Ok(Decision::new(Vec::new(), same.clone()));
        }
        let alone = ctx.view.operators().next().is_none();
        if !self.force && !alone && who_may_apply(&ctx.view, &*self.policies).next().is_none() {
            let message = "under these policies no operator who has enrolled could apply others; nothing is changed; use --force to do it all the same";
            return Err(Error::denied("locks_out", message));
        }
        let applied = Applied { version, digest: self.digest, body: Some(Arc::clone(&self.policies)) };
        Ok(Decision::new(vec![Body::PolicyApplied(applied.clone())], applied))
    }
}

/// The operators who could apply others under these policies. One that is invited and never comes could not.
pub(super) fn who_may_apply<'a>(
    view: &View<'a>,
    policies: &'a dyn Policies,
) -> impl Iterator<Item = &'a Operator> + use<'a> {
    let (action, area) = Right::ManagePolicy.question();
    let identities = view.certificates().filter(|one| one.kind == Kind::Operator && one.grant.is_none());
    let enrolled: BTreeSet<&Name> = identities.map(|one| &one.name).collect();
    view.operators().filter(move |operator| !operator.removed && enrolled.contains(&operator.name)).filter(
        move |operator| {
            let object = Object::Area(area, None);
            policies.decide(&Question { principal: Principal::Operator(operator), action, object }).allowed
        },
    )
}

fn next<T: ?Sized>(before: Option<&Applied<T>>, over: Option<u64>, what: &str) -> Result<u64, Error> {
    let version = before.map_or(0, |before| before.version);
    if over.is_some_and(|over| over != version) {
        let message = format!("the {what} is of version {version} by now; look at the difference again");
        return Err(Error::new(Code::Conflict, "version_moved", message));
    }
    Ok(version + 1)
}
