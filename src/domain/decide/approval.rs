//! Humans decide: bound to what they were shown, never on their own behalf, and never wider than was asked.

use super::grant::life;
use super::pend::{is_party, is_waiting};
use super::weigh::{Weight, Wish, ask, may_approve, weigh};
use super::{Caller, Context, Decide, Decision};
use crate::domain::agent::{Agent, Operator};
use crate::domain::approval::{Approval, ApprovalState, ApprovalStatus, Envelope, Vote};
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::event::{Activation, Body};
use crate::domain::grant::{Grant, GrantState, Task};
use crate::domain::id::ApprovalId;
use crate::domain::limits::Limits;
use crate::domain::name::Line;
use crate::domain::policy::{Action, Decided, Mode, Outcome};
use crate::domain::radius::{Figures, Unions};
use crate::domain::scope::Scopes;
use crate::domain::time::{Span, Timestamp};
use crate::domain::view::View;

/// Approves: all of it, or less.
#[derive(Debug)]
pub struct Approve {
    /// Which.
    pub id: ApprovalId,
    /// The digest of what was shown.
    pub digest: Digest,
    /// Why.
    pub reason: Line,
    /// No more than this.
    pub scopes: Option<Scopes>,
    /// No longer than this.
    pub ttl: Option<Span>,
}

/// Denies, for all.
#[derive(Debug)]
pub struct Deny {
    /// Which.
    pub id: ApprovalId,
    /// Why.
    pub reason: Line,
}

/// What became of an approval.
#[derive(Debug)]
pub struct Voted {
    /// The approval as it is now.
    pub approval: Approval,
    /// How it stands.
    pub state: ApprovalState,
}

impl Decide for Approve {
    type Answer = Voted;
    const VERB: &'static str = "approval.approve";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Voted>, Error> {
        let operator = ctx.calling_operator()?;
        let case = Case::open(ctx, self.id, operator)?;
        let approval = case.approval;
        if approval.digest != self.digest {
            let message = format!("approval `{}` is not what was shown; look at it again", self.id);
            return Err(Error::new(Code::Conflict, "approval_changed", message).on("digest"));
        }
        if let Some(vote) = approval.given.iter().find(|vote| vote.by == operator.name) {
            let message =
                format!("`{}` has approved `{}` at {}; another human has to", operator.name, self.id, vote.at);
            return Err(Error::new(Code::Conflict, "already_given", message));
        }
        let vote = Vote {
            by: operator.name.clone(),
            at: ctx.now,
            reason: self.reason.clone(),
            scopes: self.narrowed(approval)?,
            ttl: self.ttl,
        };
        let left = approval.meet(Some(&vote)).ok_or_else(|| {
            Error::denied("nothing_left", "what the approvals so far and this one have in common is nothing")
                .on("scope")
        })?;
        let given = u8::try_from(approval.given.len() + 1).unwrap_or(u8::MAX);
        let decided = case.still_holds(ctx, &left, given)?;
        let mut now =
            Approval { given: approval.given.iter().cloned().chain([vote.clone()]).collect(), ..approval.clone() };
        let mut events = vec![Body::ApprovalGiven { id: self.id, grant: approval.grant, vote }];
        if given >= approval.needed {
            events.push(case.effect(ctx, left, &now.given, decided));
            now.status = ApprovalStatus::Approved;
        }
        let state = state_of(&ctx.view, &now, ctx.now);
        Ok(Decision::new(events, Voted { approval: now, state }))
    }
}

impl Approve {
    /// What the approver would rather allow: within what was asked for, naming the field if it is not.
    fn narrowed(&self, approval: &Approval) -> Result<Option<Scopes>, Error> {
        if self.ttl.is_some_and(|ttl| ttl > approval.ttl) {
            let message = format!("an approval never widens: {} s were asked for", approval.ttl.as_millis() / 1000);
            return Err(Error::denied("approval_widens", message).on("ttl"));
        }
        let Some(scopes) = &self.scopes else { return Ok(None) };
        approval.scopes.within(scopes).map(Some).map_err(|widening| {
            Error::denied("approval_widens", format!("an approval never widens: {widening}")).on("scope")
        })
    }
}

impl Decide for Deny {
    type Answer = Voted;
    const VERB: &'static str = "approval.deny";

    fn is_urgent(&self) -> bool {
        true
    }

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Voted>, Error> {
        let operator = ctx.calling_operator()?;
        let case = Case::open(ctx, self.id, operator)?;
        let vote =
            Vote { by: operator.name.clone(), at: ctx.now, reason: self.reason.clone(), scopes: None, ttl: None };
        let approval = Approval { denied: Some(vote.clone()), status: ApprovalStatus::Denied, ..case.approval.clone() };
        let event = Body::ApprovalDenied { id: self.id, grant: approval.grant, vote };
        Ok(Decision::new(vec![event], Voted { approval, state: ApprovalState::Denied }))
    }
}

/// An approval that may be decided by this operator, with what it is about.
struct Case<'a> {
    approval: &'a Approval,
    grant: Option<&'a Grant>,
    task: &'a Task,
    asks: &'a Agent,
    holder: &'a Agent,
}

impl<'a> Case<'a> {
    fn open(ctx: &Context<'a>, id: ApprovalId, operator: &Operator) -> Result<Self, Error> {
        let approval = ctx.view.approval(&id).ok_or_else(|| Error::not_found("approval", id))?;
        let state = state_of(&ctx.view, approval, ctx.now);
        if !matches!(state, ApprovalState::Pending | ApprovalState::Queued) {
            let reason = if state == ApprovalState::Expired { "approval_expired" } else { "approval_decided" };
            return Err(Error::new(Code::Conflict, reason, format!("approval `{id}` is {state}")));
        }
        let gone = |kind: &str, name: &dyn std::fmt::Display| Error::not_found(kind, name);
        let task = ctx.view.task(&approval.task).ok_or_else(|| gone("task", &approval.task))?;
        let agent = |name| ctx.view.agent(name).ok_or_else(|| gone("agent", name));
        let grant = approval.grant.and_then(|grant| ctx.view.grant(grant));
        let (holder, requester) = (agent(&approval.holder)?, agent(&approval.requester)?);
        let asks = if grant.is_some_and(|grant| grant.mode == Mode::Narrowed) { requester } else { holder };
        let case = Self { approval, grant, task, asks, holder };
        if is_party(approval, &operator.name) {
            let message =
                format!("`{}` asks for, holds or is served by `{id}`; another human has to decide", operator.name);
            return Err(Error::denied("own_request", message));
        }
        let weight = Weight { radius: Figures::default(), adds: approval.adds, unions: approval.unions };
        if !may_approve(&ctx.view, operator, &case.wish(ctx, &approval.scopes, approval.ttl, 0), &weight)? {
            let message = format!("operator `{}` may not decide `{id}`", operator.name);
            return Err(Error::denied("not_entitled", message));
        }
        Ok(case)
    }

    fn wish<'b>(&'b self, ctx: &Context<'_>, scopes: &'b Scopes, ttl: Span, approvals: u8) -> Wish<'b> {
        let mode = self.grant.map_or(Mode::Root, |grant| grant.mode);
        let carried = self.grant.map_or(0, |grant| grant.approvals);
        let (expires_at, _) = self.life(ctx, ttl);
        Wish {
            action: if mode == Mode::Narrowed { Action::Delegate } else { Action::Request },
            asks: self.asks,
            holder: self.holder,
            task: self.task,
            scopes,
            approvals: approvals.max(carried),
            ttl: expires_at.since(ctx.now),
            depth: self.grant.map_or(0, |grant| grant.depth),
            mode,
        }
    }

    fn life(&self, ctx: &Context<'_>, ttl: Span) -> (Timestamp, Timestamp) {
        let parent = self.grant.and_then(|grant| grant.parent).and_then(|parent| ctx.view.grant(parent));
        let none = Limits::default();
        life(ctx.now, ttl, self.grant.map_or(&none, |grant| &grant.limits), parent, self.holder, self.task)
    }

    /// Stale if the policies or the catalog have moved in a way that changes the answer, or if it would add more than
    /// was shown. What neighbours did since changes nothing: their unions count as they were shown.
    fn still_holds(&self, ctx: &Context<'_>, left: &(Scopes, Span), given: u8) -> Result<Decided, Error> {
        let approval = self.approval;
        let stale = |why: String| {
            let message = format!("approval `{}` is stale: {why}; it has to be asked for again", approval.id);
            Error::new(Code::Conflict, "approval_stale", message)
        };
        let as_if = given.max(approval.needed);
        let wish = self.wish(ctx, &left.0, left.1, as_if);
        let now = weigh(&ctx.view, &wish);
        if exceeds(&now.adds, &approval.adds) {
            return Err(stale(format!(
                "it would add a score of {} and {} was shown",
                now.adds.score, approval.adds.score
            )));
        }
        let shown = Unions { task: now.unions.task, ..approval.unions };
        let (outcome, decided) = ask(&ctx.view, &wish, &Weight { unions: shown, ..now })?;
        match outcome {
            Outcome::Allowed(_) => Ok(decided),
            Outcome::Needs(needed, _) => Err(stale(format!("it would need {needed} approvals by now"))),
            Outcome::Denied(..) => Err(stale(format!("policy version {} denies it", decided.version))),
        }
    }

    fn effect(&self, ctx: &Context<'_>, (scopes, ttl): (Scopes, Span), given: &[Vote], decided: Decided) -> Body {
        let approval = self.approval;
        let approvals = u8::try_from(given.len()).unwrap_or(u8::MAX);
        let Some(grant) = self.grant else {
            let expires_at = ctx.now.plus(ttl).min(self.task.expires_at);
            let envelope = Envelope { approval: approval.id, scopes, approvals, expires_at };
            return Body::EnvelopeOpened { task: self.task.id, agent: self.task.agent.clone(), envelope };
        };
        let (expires_at, renewable_until) = self.life(ctx, ttl);
        // An approver who says for how long means renewals too.
        let shortened = given.iter().any(|vote| vote.ttl.is_some());
        Body::GrantActivated(Activation {
            id: grant.id,
            approval: approval.id,
            root: grant.root,
            agent: grant.agent.clone(),
            scopes,
            expires_at,
            renewable_until: if shortened { expires_at } else { renewable_until },
            approvals: approvals.max(grant.approvals),
            decided,
        })
    }
}

fn exceeds(now: &Figures, shown: &Figures) -> bool {
    let more = now.by.iter().zip(&shown.by).any(|(now, shown)| now > shown);
    more || now.score > shown.score || (now.unbounded && !shown.unbounded)
}

/// How an approval stands: its own status, time, and what it is for.
pub fn state_of(view: &View<'_>, approval: &Approval, now: Timestamp) -> ApprovalState {
    match approval.status {
        ApprovalStatus::Approved => return ApprovalState::Approved,
        ApprovalStatus::Denied => return ApprovalState::Denied,
        ApprovalStatus::Pending => {}
    }
    if !is_waiting(approval, now) {
        return ApprovalState::Expired;
    }
    let stands = match approval.grant {
        Some(grant) => view.standing(grant, now).is_some_and(|standing| standing.state == GrantState::Pending),
        None => view.task(&approval.task).is_some_and(|task| view.task_state(task, now) == GrantState::Active),
    };
    match (stands, approval.prompted_at()) {
        (false, _) => ApprovalState::Revoked,
        (true, Some(at)) if at > now => ApprovalState::Queued,
        (true, _) => ApprovalState::Pending,
    }
}

impl<'a> Context<'a> {
    /// The calling operator, whatever it may do.
    fn calling_operator(&self) -> Result<&'a Operator, Error> {
        let Caller::Operator(presenter) = self.caller else {
            return Err(Error::denied("operators_only", "only a human decides an approval"));
        };
        self.presentable(presenter)?;
        let operator = self.view.operator(&presenter.name).filter(|operator| !operator.removed);
        operator.ok_or_else(|| super::unknown_caller("operator", &presenter.name))
    }
}
