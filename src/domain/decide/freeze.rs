//! Freezes: set and lifted by responders. What one stops is in [`crate::domain::freeze`].

use std::collections::BTreeSet;

use super::{Caller, Context, Decide, Decision};
use crate::domain::catalog::Sensitivity;
use crate::domain::error::{Code, Error};
use crate::domain::event::Body;
use crate::domain::freeze::{Freeze, MAX_FREEZES};
use crate::domain::id::FreezeId;
use crate::domain::name::{Line, Name};
use crate::domain::policy::{AboutTarget, Right};
use crate::domain::scope::{Scope, Scopes};

/// Voids whatever authority matches a scope, for as long as it lasts.
#[derive(Debug)]
pub struct SetFreeze {
    /// The calls that it stops.
    pub scope: Scope,
    /// Only those that touch something at least as sensitive.
    pub sensitivity: Option<Sensitivity>,
    /// Why.
    pub reason: Line,
}

/// Lifts a freeze: what it stopped, and is not over, may be used again.
#[derive(Debug)]
pub struct Thaw {
    /// Which.
    pub id: FreezeId,
    /// Why.
    pub reason: Line,
}

impl Decide for SetFreeze {
    type Answer = Freeze;
    const VERB: &'static str = "freeze.set";

    fn is_urgent(&self) -> bool {
        true
    }

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Freeze>, Error> {
        let by = responder(ctx)?;
        let lasting: BTreeSet<FreezeId> = ctx.view.freezes().map(|freeze| freeze.id).collect();
        if lasting.len() >= MAX_FREEZES {
            let message = format!("{MAX_FREEZES} freezes last already; thaw one, or freeze a wider scope instead");
            return Err(Error::new(Code::Exhausted, "too_many_freezes", message));
        }
        let freeze = Freeze {
            id: FreezeId::mint(ctx.now, ctx.entropy),
            scope: self.scope.clone(),
            sensitivity: self.sensitivity,
            reason: self.reason.clone(),
            by,
            at: ctx.now,
            thawed: None,
        };
        Ok(Decision::new(vec![Body::Frozen(freeze.clone())], freeze))
    }
}

impl Decide for Thaw {
    type Answer = Freeze;
    const VERB: &'static str = "freeze.thaw";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Freeze>, Error> {
        responder(ctx)?;
        let freeze = ctx.view.freeze(&self.id).ok_or_else(|| Error::not_found("freeze", self.id))?;
        if freeze.thawed.is_some() {
            return Ok(Decision::new(Vec::new(), freeze.clone()));
        }
        let event = Body::Thawed { id: self.id, reason: self.reason.clone() };
        Ok(Decision::new(vec![event], Freeze { thawed: Some(ctx.now), ..freeze.clone() }))
    }
}

/// The calling operator, who may halt things.
fn responder(ctx: &Context<'_>) -> Result<Name, Error> {
    ctx.operator_about(Right::Suspend, Some(AboutTarget { kind: "freeze", owner: None }))?;
    match ctx.caller {
        Caller::Operator(presenter) => Ok(presenter.name.clone()),
        _ => "broker".parse(),
    }
}

impl Context<'_> {
    /// Nothing new is had that a freeze could stop.
    pub(super) fn not_frozen(&self, scopes: &Scopes) -> Result<(), Error> {
        match scopes.iter().find_map(|scope| self.view.may_be_frozen(scope).map(|freeze| (scope, freeze))) {
            None => Ok(()),
            Some((scope, freeze)) => {
                let message =
                    format!("`{scope}` is frozen by `{}`: {}; ask again once it was thawed", freeze.id, freeze.reason);
                Err(Error::denied("frozen", message).on("scope"))
            }
        }
    }

    /// Of what may partly be used, the rest may be had in another form: the same authority, and no more of it.
    pub(super) fn not_all_frozen(&self, scopes: &Scopes) -> Result<(), Error> {
        match self.view.all_frozen(scopes) {
            None => Ok(()),
            Some(freeze) => {
                let message =
                    format!("all of it is frozen, by `{}`: {}; ask again once it was thawed", freeze.id, freeze.reason);
                Err(Error::denied("frozen", message).on("scope"))
            }
        }
    }
}
