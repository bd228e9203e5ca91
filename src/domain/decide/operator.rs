//! Operators: added with roles, removed at once.

use super::authority::who_may_apply;
use super::weigh::policies;
use super::{Caller, Context, Decide, Decision, agent::join};
use crate::domain::agent::{Join, Kind, Operator, Role};
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::event::Body;
use crate::domain::name::{Line, Name};
use crate::domain::policy::Right;

/// Adds an operator and invites it.
#[derive(Debug)]
pub struct AddOperator {
    /// Its name.
    pub name: Name,
    /// What it is for; at least one.
    pub roles: Vec<Role>,
    /// SHA-256 of the join token's secret.
    pub secret_hash: Digest,
}

/// Removes an operator: refused from the next call on, on open connections too.
#[derive(Debug)]
pub struct RemoveOperator {
    /// Which.
    pub name: Name,
    /// Why.
    pub reason: Line,
}

impl Decide for AddOperator {
    type Answer = (Operator, Join);
    const VERB: &'static str = "operator.add";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Self::Answer>, Error> {
        ctx.operator(Right::ManageOperators)?;
        if self.roles.is_empty() {
            return Err(Error::missing("role"));
        }
        if ctx.view.operator(&self.name).is_some() {
            let message = format!("operator `{}` exists or existed; names are not given again", self.name);
            return Err(Error::new(Code::Conflict, "operator_exists", message).on("name"));
        }
        let mut roles = self.roles.clone();
        roles.sort_unstable();
        roles.dedup();
        let operator = Operator { name: self.name.clone(), roles, removed: false, created_at: ctx.now };
        let join = join(ctx, Kind::Operator, &self.name, self.secret_hash);
        Ok(Decision::new(
            vec![Body::OperatorAdded { operator: operator.clone(), join: join.clone() }],
            (operator, join),
        ))
    }
}

impl RemoveOperator {
    /// Whether it is the only one who could apply policies.
    fn is_last(&self, ctx: &Context<'_>) -> bool {
        let Ok((policies, _)) = policies(&ctx.view) else { return false };
        let mut able = who_may_apply(&ctx.view, policies).peekable();
        able.peek().is_some() && able.all(|operator| operator.name == self.name)
    }
}

impl Decide for RemoveOperator {
    type Answer = Operator;
    const VERB: &'static str = "operator.remove";

    fn is_urgent(&self) -> bool {
        true
    }

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Operator>, Error> {
        ctx.operator(Right::ManageOperators)?;
        let operator = ctx.view.operator(&self.name).ok_or_else(|| Error::not_found("operator", &self.name))?;
        let removed = Operator { removed: true, ..operator.clone() };
        if operator.removed {
            return Ok(Decision::new(Vec::new(), removed));
        }
        if ctx.caller.presenter().is_some_and(|presenter| presenter.name == self.name) {
            return Err(Error::denied("own_removal", "an operator does not remove itself; another admin has to"));
        }
        if !matches!(ctx.caller, Caller::Broker) && self.is_last(ctx) {
            let message = format!(
                "without operator `{}` nobody who has enrolled could apply policies; enroll another who may first",
                self.name
            );
            return Err(Error::denied("locks_out", message));
        }
        let event = Body::OperatorRemoved { name: self.name.clone(), reason: self.reason.clone() };
        Ok(Decision::new(vec![event], removed))
    }
}
