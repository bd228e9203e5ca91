//! Grants that are there: renewed, halted, given back.

use super::grant::{Granted, current, wish};
use super::weigh::{Weight, weigh};
use super::{Caller, Context, Decide, Decision};
use crate::domain::agent::AgentStatus;
use crate::domain::error::Error;
use crate::domain::event::Body;
use crate::domain::grant::{Grant, GrantState, Status};
use crate::domain::id::GrantId;
use crate::domain::name::Line;
use crate::domain::policy::{AboutTarget, Mode, Outcome, Right};
use crate::domain::time::Span;

/// Moves a grant's expiry, within what it was given at activation.
#[derive(Debug)]
pub struct RenewGrant {
    /// Which.
    pub id: GrantId,
    /// For how long from now.
    pub ttl: Span,
}

/// Suspends, resumes or completes a grant. What it reaches is not said: nothing that is urgent waits for a count.
#[derive(Debug)]
pub struct SetGrantStatus {
    /// Which.
    pub id: GrantId,
    /// To what.
    pub status: Status,
    /// Why.
    pub reason: Line,
}

impl Decide for RenewGrant {
    type Answer = Granted;
    const VERB: &'static str = "grant.renew";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Granted>, Error> {
        let (agent, _) = ctx.agent()?;
        let grant = ctx.own_grant(self.id, &agent.name)?;
        ctx.is_live(grant)?;
        ctx.not_all_frozen(&grant.scopes)?;
        let parent = grant.parent.and_then(|parent| ctx.view.grant(parent));
        let wanted = ctx.now.plus(self.ttl).min(grant.renewable_until);
        let bounded = parent.map_or(wanted, |parent| wanted.min(parent.expires_at));
        // Renewal only ever moves the end later; a shorter wish leaves it where it is.
        let renewed = Grant { expires_at: bounded.max(grant.expires_at), ..grant.clone() };
        self.still_allowed(ctx, &renewed)?;
        let events = match renewed.expires_at == grant.expires_at {
            true => Vec::new(),
            false => vec![Body::GrantRenewed {
                id: grant.id,
                root: grant.root,
                agent: grant.agent.clone(),
                expires_at: renewed.expires_at,
            }],
        };
        Ok(Decision::new(events, Granted::of(renewed, GrantState::Active, current(ctx, grant))))
    }
}

impl RenewGrant {
    /// What the policies would not allow any more is not prolonged.
    fn still_allowed(&self, ctx: &Context<'_>, renewed: &Grant) -> Result<(), Error> {
        let task = ctx.view.task(&renewed.task).ok_or_else(|| Error::not_found("task", renewed.task))?;
        let holder = ctx.view.agent(&renewed.agent).ok_or_else(|| Error::not_found("agent", &renewed.agent))?;
        let parent =
            renewed.parent.and_then(|parent| ctx.view.grant(parent)).filter(|_| renewed.mode == Mode::Narrowed);
        let asks = parent.and_then(|parent| ctx.view.agent(&parent.agent)).unwrap_or(holder);
        // It adds nothing: what others came to hold meanwhile is not held against it.
        let wish = wish(ctx, renewed, asks, holder, task, &renewed.scopes);
        let alone = weigh(&ctx.view, &wish).alone();
        match ctx.consider_as(&wish, &alone)?.0 {
            Outcome::Allowed(_) => Ok(()),
            Outcome::Needs(needed, _) => {
                let message = format!("grant `{}` would need {needed} approvals by now; request another", renewed.id);
                Err(Error::denied("approval_needed", message))
            }
            // Refused before it comes here.
            Outcome::Denied(..) => {
                Err(Error::denied("policy_denied", format!("grant `{}` is not renewed", renewed.id)))
            }
        }
    }
}

impl Decide for SetGrantStatus {
    type Answer = Granted;
    const VERB: &'static str = "grant.status";

    fn is_urgent(&self) -> bool {
        self.status != Status::Active
    }

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Granted>, Error> {
        let grant = match (self.status, ctx.caller) {
            // Completing is giving back: even a suspended holder may.
            (Status::Completed, Caller::Agent(presenter)) => {
                let agent = ctx.known_agent(presenter)?;
                ctx.own_grant(self.id, &agent.name)?
            }
            (Status::Completed, _) => {
                return Err(Error::denied("agents_only", "only its holder completes a grant; revoke it instead"));
            }
            (Status::Pending | Status::Denied, _) => {
                return Err(Error::denied("approvals_only", "whether a grant waits is for its approval to say"));
            }
            (Status::Active | Status::Suspended, _) => {
                let grant = ctx.view.grant(self.id);
                let about = AboutTarget { kind: "grant", owner: grant.map(|grant| &grant.owner) };
                ctx.operator_about(Right::Suspend, Some(about))?;
                grant.ok_or_else(|| Error::not_found("grant", self.id))?
            }
        };
        if matches!(grant.status, Status::Pending) && self.status != Status::Completed {
            let message = format!("grant `{}` waits for approval; deny that, or revoke the grant", grant.id);
            return Err(Error::denied("awaits_approval", message));
        }
        let standing = ctx.view.standing(grant.id, ctx.now).map_or(GrantState::Expired, |standing| standing.state);
        if standing.is_ended() && self.status != Status::Completed {
            return Err(Error::denied(
                "grant_ended",
                format!("grant `{}` is {standing}; nothing brings it back", grant.id),
            ));
        }
        let changed = Grant { status: self.status, ..grant.clone() };
        if standing.is_ended() || grant.status == self.status {
            return Ok(Decision::new(Vec::new(), Granted::of(grant.clone(), standing, Weight::default())));
        }
        let event = Body::GrantStatusChanged {
            id: grant.id,
            root: grant.root,
            agent: grant.agent.clone(),
            status: self.status,
            reason: self.reason.clone(),
        };
        let state = after(ctx, &changed);
        Ok(Decision::new(vec![event], Granted::of(changed, state, Weight::default())))
    }
}

/// How a grant will stand once its own status is this: the worse of it and what is above.
fn after(ctx: &Context<'_>, grant: &Grant) -> GrantState {
    let above = grant.parent.and_then(|parent| ctx.view.standing(parent, ctx.now)).map(|standing| standing.state);
    let agent = ctx.view.agent(&grant.agent).map(|agent| agent.status);
    match grant.status {
        Status::Completed => GrantState::Completed,
        Status::Suspended => GrantState::Suspended,
        Status::Pending => GrantState::Pending,
        Status::Denied => GrantState::Denied,
        Status::Active if agent == Some(AgentStatus::Suspended) => GrantState::Suspended,
        Status::Active => above.unwrap_or(GrantState::Active),
    }
}
