//! The cut: one event, whatever is below. Descendants die whether or not anybody enumerates them.

use super::{Caller, Context, Decide, Decision};
use crate::domain::agent::Kind;
use crate::domain::cut::Target;
use crate::domain::effect::Cutting;
use crate::domain::error::Error;
use crate::domain::event::{Actor, Body, CutCounts, Revocation};
use crate::domain::grant::{Grant, Status};
use crate::domain::id::{GrantId, RevocationId};
use crate::domain::name::{Line, Name};
use crate::domain::policy::{AboutTarget, Right};
use crate::domain::time::SKEW;

/// Revokes one target and all below it.
#[derive(Debug)]
pub struct Revoke {
    /// What.
    pub target: Target,
    /// Why.
    pub reason: Line,
    /// Only tell what would die.
    pub dry_run: bool,
}

/// A revocation as it was decided. Who died by it is found by walking the trees ([`crate::domain::effect::Walk`]),
/// outside the turn.
#[derive(Debug)]
pub struct Revoked {
    /// The record; of a dry run, the one that would be made.
    pub revocation: Revocation,
    /// The cut, for whoever walks.
    pub cut: Cutting,
    /// Who made it.
    pub by: Actor,
    /// Whether the same was cut before.
    pub again: bool,
}

impl Decide for Revoke {
    type Answer = Revoked;
    const VERB: &'static str = "revoke";

    fn is_urgent(&self) -> bool {
        !self.dry_run
    }

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Revoked>, Error> {
        if self.target.time().is_some_and(|dated| dated > ctx.now.plus(SKEW)) {
            let why = "it is dated in the future; check the id and the clocks";
            return Err(Error::malformed("target", &self.target.to_string(), why));
        }
        let known = self.permitted(ctx)?;
        if let Some(made) = self.made_before(ctx) {
            return Ok(Decision::new(Vec::new(), made));
        }
        let revocation = Revocation {
            id: RevocationId::mint(ctx.now, ctx.entropy),
            target: self.target.clone(),
            tree: self.tree(ctx),
            reason: self.reason.clone(),
            known,
            until: self.target.forget_at(ctx.now),
            // What dies is not counted here: however much it is, the turn is as short.
            cut: CutCounts::default(),
        };
        let cut = Cutting { target: self.target.clone(), seq: ctx.next_seq(), at: ctx.now, again: true };
        let again = ctx.view.cut(&self.target).is_some();
        let events = if self.dry_run { Vec::new() } else { vec![Body::Revoked(revocation.clone())] };
        Ok(Decision::new(events, Revoked { revocation, cut, by: ctx.caller.actor(), again }))
    }
}

impl Revoke {
    /// An id is cut for good: to cut it again changes nothing, and is nothing to remember.
    fn made_before(&self, ctx: &Context<'_>) -> Option<Revoked> {
        self.target.time()?;
        let made = ctx.view.revocation(&ctx.view.cut(&self.target)?.id)?;
        let (revocation, cut) = (made.revocation.clone(), Cutting::from(made));
        Some(Revoked { revocation, cut, by: made.by.clone(), again: true })
    }

    /// Whether the target is known to somebody who may cut it.
    fn permitted(&self, ctx: &Context<'_>) -> Result<bool, Error> {
        let known = self.is_known(ctx);
        let unknown = || Error::not_found("target", &self.target).on("target");
        match ctx.caller {
            Caller::Agent(presenter) => {
                let agent = ctx.known_agent(presenter)?;
                // To an agent, the unknown and the foreign look the same.
                if self.is_below(ctx, &agent.name) { Ok(true) } else { Err(unknown()) }
            }
            _ => {
                ctx.operator_about(Right::Revoke, Some(self.about(ctx)))?;
                // A name that nobody bears is a slip; an id never seen may turn up yet, and is remembered.
                if known || self.target.time().is_some() { Ok(known) } else { Err(unknown()) }
            }
        }
    }

    /// What policies may know of the target.
    fn about<'a>(&'a self, ctx: &Context<'a>) -> AboutTarget<'a> {
        let view = &ctx.view;
        let of_grant = |id: GrantId| view.grant(id).map(|grant| &grant.owner);
        let (kind, owner) = match &self.target {
            Target::Grant(id) => ("grant", of_grant(*id)),
            Target::Task(id) => {
                let task = view.task(id);
                ("task", task.and_then(|task| view.agent(&task.agent)).map(|agent| &agent.owner))
            }
            Target::Token(id) => ("token", view.token(id).and_then(|token| of_grant(token.grant))),
            Target::Certificate(id) => {
                let known = view.certificate(id);
                let holder = known.filter(|one| one.kind == Kind::Agent).and_then(|one| view.agent(&one.name));
                ("certificate", holder.map(|agent| &agent.owner))
            }
            Target::Lease(id) => ("lease", view.lease(id).and_then(|lease| of_grant(lease.grant))),
            Target::Agent(name) => ("agent", view.agent(name).map(|agent| &agent.owner)),
            Target::Owner(owner) => ("owner", Some(owner)),
            Target::Subject(_) => ("subject", None),
        };
        AboutTarget { kind, owner }
    }

    pub(super) fn is_known(&self, ctx: &Context<'_>) -> bool {
        let view = &ctx.view;
        match &self.target {
            Target::Grant(id) => view.grant(*id).is_some(),
            Target::Task(id) => view.task(id).is_some(),
            Target::Token(id) => view.token(id).is_some(),
            Target::Certificate(id) => view.certificate(id).is_some(),
            Target::Lease(id) => view.lease(id).is_some(),
            Target::Agent(name) => view.agent(name).is_some(),
            Target::Owner(owner) => view.agents().any(|agent| agent.owner == *owner),
            Target::Subject(subject) => view.tasks().any(|task| task.subject.as_ref() == Some(subject)),
        }
    }

    /// What an agent holds, and all below it: never above or beside.
    pub(super) fn is_below(&self, ctx: &Context<'_>, agent: &Name) -> bool {
        let view = &ctx.view;
        let held = |grant: GrantId| view.ancestry(grant).any(|link| link.agent == *agent);
        match &self.target {
            Target::Grant(id) => held(*id),
            Target::Task(id) => view.task(id).is_some_and(|task| task.agent == *agent),
            Target::Token(id) => view.token(id).is_some_and(|token| held(token.grant)),
            Target::Certificate(id) => view.certificate(id).is_some_and(|one| match one.grant {
                Some(grant) => held(grant),
                None => one.kind == Kind::Agent && one.name == *agent,
            }),
            Target::Lease(id) => view.lease(id).is_some_and(|lease| held(lease.grant)),
            Target::Agent(name) => name == agent,
            Target::Owner(_) | Target::Subject(_) => false,
        }
    }

    /// The tree that it is in, for what hangs on a grant.
    fn tree(&self, ctx: &Context<'_>) -> Option<GrantId> {
        let view = &ctx.view;
        let grant = match &self.target {
            Target::Grant(id) => Some(*id),
            Target::Token(id) => view.token(id).map(|token| token.grant),
            Target::Certificate(id) => view.certificate(id).and_then(|one| one.grant),
            Target::Lease(id) => view.lease(id).map(|lease| lease.grant),
            Target::Task(_) | Target::Agent(_) | Target::Owner(_) | Target::Subject(_) => None,
        };
        grant.and_then(|id| view.grant(id)).map(|grant| grant.root)
    }
}

/// Whether a grant has been active: one that waits, or was denied, reaches nothing.
pub(super) fn is_counted(grant: &Grant) -> bool {
    !matches!(grant.status, Status::Pending | Status::Denied)
}
