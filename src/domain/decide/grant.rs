//! Grants: requested and delegated. None ever outscopes what it lies within, and none passes without the policies.

use super::pend::{Elevated, pend};
use super::token::{TokenAnswer, again, issue};
use super::weigh::{Weight, Wish, weigh};
use super::{Context, Decide, Decision, Presenter, key_of_the_past};
use crate::domain::MAX_CHAIN;
use crate::domain::agent::{Agent, AgentStatus};
use crate::domain::approval::{Approval, Envelope};
use crate::domain::cut::Target;
use crate::domain::error::Error;
use crate::domain::event::Body;
use crate::domain::exposure::longest_life;
use crate::domain::grant::{Grant, GrantState, Status, Task};
use crate::domain::id::{GrantId, TaskId};
use crate::domain::limits::Limits;
use crate::domain::name::{Audience, Name};
use crate::domain::policy::{Action, Mode, Outcome};
use crate::domain::scope::{Difference, Scopes};
use crate::domain::state::Remembered;
use crate::domain::time::{Span, Timestamp};

/// Different scopes that may be granted under one task.
const MOST_GRANTED: usize = 4096;

/// Asks for a root grant under one's own task.
#[derive(Debug)]
pub struct RequestGrant {
    /// The task.
    pub task: TaskId,
    /// What it should allow.
    pub scopes: Scopes,
    /// For whom its tokens are; the issuer if none is named.
    pub audience: Option<Audience>,
    /// For how long.
    pub ttl: Span,
    /// What may be done under it at most.
    pub limits: Limits,
    /// Whether less will do, where so much may not be had.
    pub narrow: bool,
    /// Whether a token is wanted with it.
    pub token: bool,
}

/// Hands part of a grant to another agent.
#[derive(Debug)]
pub struct Delegate {
    /// From which grant; the caller holds it.
    pub parent: GrantId,
    /// To whom.
    pub to: Name,
    /// What it should allow: within the parent, or of the other agent's own.
    pub scopes: Scopes,
    /// For whom its tokens are; the parent's audience if none is named.
    pub audience: Option<Audience>,
    /// For how long.
    pub ttl: Span,
    /// Within the parent, or the other agent's own authority.
    pub own: bool,
    /// What may be done under it at most.
    pub limits: Limits,
    /// Whether less will do, where so much may not be had.
    pub narrow: bool,
}

/// A grant, how it stands, and what came with it.
#[derive(Debug)]
pub struct Granted {
    /// The grant.
    pub grant: Grant,
    /// How it stands.
    pub state: GrantState,
    /// The token, if one was asked for and the grant is live.
    pub token: Option<TokenAnswer>,
    /// What it reaches, and what that comes to.
    pub weight: Weight,
    /// What it waits for, or waited for.
    pub approval: Option<Approval>,
    /// What of the wish was cut away, because less would do.
    pub narrowed: Vec<Difference>,
}

impl Decide for RequestGrant {
    type Answer = Granted;
    const VERB: &'static str = "grant.request";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Granted>, Error> {
        let (agent, presenter) = ctx.agent()?;
        if let Some(made) = ctx.replayed::<Self>()? {
            return replay(ctx, made, presenter, self.token);
        }
        let task = ctx.view.task(&self.task).filter(|task| task.agent == agent.name);
        let task = task.ok_or_else(|| Error::not_found("task", self.task).on("task"))?;
        task_is_open(ctx, task)?;
        let mut narrowed = Vec::new();
        let scopes = within_ceiling(agent, self.scopes.clone(), self.narrow, &mut narrowed)?;
        let audience = match &self.audience {
            Some(audience) => audience.clone(),
            None => ctx.origin()?.issuer.clone(),
        };
        let shape = Shape { parent: None, mode: Mode::Root, asks: agent, holder: agent, task };
        let (mut events, mut granted) = shape.grant(ctx, scopes, audience, self.ttl, &self.limits)?;
        granted.narrowed = narrowed;
        if self.token && granted.state == GrantState::Active {
            granted.token = Some(issue(ctx, &mut events, &granted.grant, presenter)?);
        }
        Ok(Decision::new(events, granted))
    }
}

impl Decide for Delegate {
    type Answer = Granted;
    const VERB: &'static str = "grant.delegate";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Granted>, Error> {
        let (agent, presenter) = ctx.agent()?;
        if let Some(made) = ctx.replayed::<Self>()? {
            return replay(ctx, made, presenter, false);
        }
        let parent = ctx.own_grant(self.parent, &agent.name).map_err(|error| error.on("parent"))?;
        ctx.is_live(parent)?;
        not_too_deep(ctx, parent)?;
        let holder = ctx.view.agent(&self.to).ok_or_else(|| Error::not_found("agent", &self.to).on("to"))?;
        if holder.status != AgentStatus::Active {
            return Err(
                Error::denied("agent_not_active", format!("agent `{}` is {}", holder.name, holder.status)).on("to")
            );
        }
        let task = ctx.view.task(&parent.task).ok_or_else(|| Error::not_found("task", parent.task))?;
        let mut narrowed = Vec::new();
        let audience = self.audience.clone().unwrap_or_else(|| parent.audience.clone());
        let (scopes, mode, asks) = match self.own {
            true => (self.scopes.clone(), Mode::Own, holder),
            false => {
                if audience != parent.audience {
                    let message =
                        format!("audience `{audience}` is not that of grant `{}`, `{}`", parent.id, parent.audience);
                    return Err(Error::denied("audience_widened", message).on("audience"));
                }
                let within = format!("not within grant `{}`", parent.id);
                let scopes = bounded(&parent.scopes, self.scopes.clone(), self.narrow, &mut narrowed);
                (
                    scopes.map_err(|why| Error::denied("scope_widened", format!("{why}; {within}")).on("scope"))?,
                    Mode::Narrowed,
                    agent,
                )
            }
        };
        let scopes = within_ceiling(holder, scopes, self.narrow, &mut narrowed)?;
        let shape = Shape { parent: Some(parent), mode, asks, holder, task };
        let (events, mut granted) = shape.grant(ctx, scopes, audience, self.ttl, &self.limits)?;
        granted.narrowed = narrowed;
        Ok(Decision::new(events, granted))
    }
}

/// Where a new grant hangs, and between whom.
struct Shape<'a> {
    parent: Option<&'a Grant>,
    mode: Mode,
    asks: &'a Agent,
    holder: &'a Agent,
    task: &'a Task,
}

impl Shape<'_> {
    /// The grant, active or waiting for approval, with its events.
    fn grant(
        &self,
        ctx: &mut Context<'_>,
        scopes: Scopes,
        audience: Audience,
        ttl: Span,
        limits: &Limits,
    ) -> Result<(Vec<Body>, Granted), Error> {
        let id = GrantId::mint(ctx.now, ctx.entropy);
        ctx.not_cut(Target::Grant(id))?;
        ctx.not_frozen(&scopes)?;
        if ctx.view.granted_count(self.task.id) >= MOST_GRANTED {
            let message = format!("task `{}` has {MOST_GRANTED} different scopes; start another", self.task.id);
            return Err(Error::denied("task_too_wide", message).on("scope"));
        }
        let longest = longest_life(&ctx.view, &audience, limits, self.parent.map(|parent| parent.id));
        let (expires_at, renewable_until) = life(ctx.now, ttl, longest, self.parent, self.holder, self.task);
        let mut grant = Grant {
            id,
            parent: self.parent.map(|parent| parent.id),
            root: self.parent.map_or(id, |parent| parent.root),
            task: self.task.id,
            agent: self.holder.name.clone(),
            owner: self.holder.owner.clone(),
            subject: self.task.subject.clone(),
            scopes,
            audience,
            mode: self.mode,
            limits: limits.clone(),
            approvals: self.parent.filter(|_| self.mode == Mode::Narrowed).map_or(0, |parent| parent.approvals),
            decided: crate::domain::policy::Decided::default(),
            depth: self.parent.map_or(0, |parent| parent.depth + 1),
            seq: ctx.next_seq(),
            created_at: ctx.now,
            expires_at,
            renewable_until,
            status: Status::Active,
        };
        let scopes = grant.scopes.clone();
        let wish = wish(ctx, &grant, self.asks, self.holder, self.task, &scopes);
        let (mut weight, mut outcome, mut decided) = ctx.consider(&wish)?;
        if let (Outcome::Needs(..), Some(envelope)) = (&outcome, envelope(ctx, &wish, &weight)) {
            // A human has approved this for the task's purpose, until a moment that the grant does not outlive.
            let approved = Wish { approvals: envelope.approvals, ..wish };
            (weight, outcome, decided) = ctx.consider(&approved)?;
            if matches!(outcome, Outcome::Allowed(_)) {
                grant.approvals = envelope.approvals;
                grant.expires_at = grant.expires_at.min(envelope.expires_at);
                grant.renewable_until = grant.renewable_until.min(envelope.expires_at);
            }
        }
        grant.decided = decided.clone();
        let mut granted = Granted::of(grant, GrantState::Active, weight.clone());
        let Outcome::Needs(needed, _) = outcome else {
            return Ok((vec![Body::GrantIssued { grant: granted.grant.clone() }], granted));
        };
        granted.grant.status = Status::Pending;
        let elevated = Elevated { wish: &wish, weight, needed, decided, grant: Some(&granted.grant) };
        let approval = pend(ctx, elevated)?;
        granted.grant.expires_at = approval.expires_at;
        granted.grant.renewable_until = approval.expires_at;
        granted.state = GrantState::Pending;
        granted.approval = Some(approval.clone());
        let issued = Body::GrantIssued { grant: granted.grant.clone() };
        Ok((vec![issued, Body::ApprovalRequested { approval }], granted))
    }
}

/// What humans have approved for the task's purpose, if the wish lies within it: in scopes, in time, and in what they
/// were shown that it reaches.
pub(super) fn envelope<'a>(ctx: &Context<'_>, wish: &Wish<'a>, weight: &Weight) -> Option<&'a Envelope> {
    wish.task.envelope.as_ref().filter(|open| {
        ctx.now < open.expires_at
            && wish.mode != Mode::Narrowed
            && open.scopes.first_uncovered(wish.scopes).is_none()
            && !weight.radius.exceeds(&open.radius)
            && !ctx.view.is_cut_since(wish.task, open.approval.time())
    })
}

/// A grant as policies are asked about it.
pub(super) fn wish<'a>(
    ctx: &Context<'_>,
    grant: &Grant,
    asks: &'a Agent,
    holder: &'a Agent,
    task: &'a Task,
    scopes: &'a Scopes,
) -> Wish<'a> {
    Wish {
        action: if grant.mode == Mode::Narrowed { Action::Delegate } else { Action::Request },
        asks,
        holder,
        task,
        scopes,
        approvals: grant.approvals,
        ttl: grant.expires_at.since(ctx.now),
        depth: grant.depth,
        mode: grant.mode,
    }
}

impl Granted {
    /// A grant and how it stands; nothing came with it.
    pub(super) fn of(grant: Grant, state: GrantState, weight: Weight) -> Self {
        Self { grant, state, token: None, weight, approval: None, narrowed: Vec::new() }
    }
}

/// End of life, and the moment beyond which no renewal goes: never after the parent, the task or the longest life
/// that the agent allows, or `longest` where those who take it would not know of a cut in time.
pub(super) fn life(
    now: Timestamp,
    ttl: Span,
    longest: Option<Span>,
    parent: Option<&Grant>,
    holder: &Agent,
    task: &Task,
) -> (Timestamp, Timestamp) {
    let spans = holder.max_ttl.into_iter().chain(longest);
    let own = spans.map(|most| now.plus(most)).fold(task.expires_at, Timestamp::min);
    let renewable_until = parent.map_or(own, |parent| own.min(parent.renewable_until));
    let wanted = now.plus(ttl).min(renewable_until);
    (parent.map_or(wanted, |parent| wanted.min(parent.expires_at)), renewable_until)
}

pub(super) fn not_too_deep(ctx: &Context<'_>, parent: &Grant) -> Result<(), Error> {
    let links = usize::from(parent.depth) + 2;
    let limits = ctx.view.ancestry(parent.id).filter_map(|link| link.limits.max_depth);
    let most = limits.map(usize::from).fold(MAX_CHAIN, usize::min);
    if links > most {
        return Err(Error::denied("depth_limit", format!("the chain may have at most {most} grants")).on("parent"));
    }
    Ok(())
}

/// What of a wish lies within `outer`: all of it, or the exact field that does not; or what is left, if less will do.
pub(super) fn bounded(
    outer: &Scopes,
    wanted: Scopes,
    narrow: bool,
    differences: &mut Vec<Difference>,
) -> Result<Scopes, String> {
    if !narrow {
        return outer.within(&wanted).map_err(|widening| widening.to_string());
    }
    let (left, cut) = outer.narrow(&wanted);
    differences.extend(cut);
    left.ok_or_else(|| "nothing of what was asked for may be had".to_owned())
}

pub(super) fn within_ceiling(
    agent: &Agent,
    scopes: Scopes,
    narrow: bool,
    cut: &mut Vec<Difference>,
) -> Result<Scopes, Error> {
    let Some(ceiling) = &agent.ceiling else { return Ok(scopes) };
    bounded(ceiling, scopes, narrow, cut).map_err(|why| {
        let message = format!("{why}; it is beyond what agent `{}` may ever hold", agent.name);
        Error::denied("beyond_ceiling", message).on("scope")
    })
}

pub(super) fn task_is_open(ctx: &Context<'_>, task: &Task) -> Result<(), Error> {
    ctx.not_cut(Target::Task(task.id)).map_err(|error| Error { reason: "task_revoked", ..error })?;
    if task.ended.is_some() || ctx.now >= task.expires_at {
        return Err(Error::denied("task_ended", format!("task `{}` is over; start another", task.id)).on("task"));
    }
    if ctx.view.is_subject_cut(task) {
        let message =
            format!("task `{}` began on the word of somebody whose tasks were cut since; start another", task.id);
        return Err(Error::denied("subject_revoked", message).on("task"));
    }
    if task.suspended {
        let message = format!("task `{}` is suspended; ask again once it was resumed", task.id);
        return Err(Error::denied("task_suspended", message).on("task"));
    }
    Ok(())
}

/// The same ids with their current state. The token again only while the grant is live; one that was asked for while
/// the grant waited is issued now, once.
fn replay(
    ctx: &mut Context<'_>,
    made: &Remembered,
    presenter: &Presenter,
    wanted: bool,
) -> Result<Decision<Granted>, Error> {
    let id = made.grant.ok_or_else(|| Error::not_found("grant", "of this idempotency key"))?;
    let grant = ctx.view.grant(id).ok_or_else(|| key_of_the_past("grant_expired", id))?;
    let state = ctx.view.standing(id, ctx.now).map_or(GrantState::Expired, |standing| standing.state);
    let mut events = Vec::new();
    let mut granted = Granted::of(grant.clone(), state, current(ctx, grant));
    granted.approval = ctx.view.approval_of(id).cloned();
    granted.token = match (state, made.token) {
        (GrantState::Active, Some((token, _))) => again(ctx, token)?,
        (GrantState::Active, None) if wanted && ctx.view.all_frozen(&grant.scopes).is_none() => {
            Some(issue(ctx, &mut events, grant, presenter)?)
        }
        _ => None,
    };
    Ok(Decision::new(events, granted))
}

/// What a grant that is there reaches.
pub(super) fn current(ctx: &Context<'_>, grant: &Grant) -> Weight {
    let parties = ctx.view.task(&grant.task).zip(ctx.view.agent(&grant.agent));
    parties.map_or_else(Weight::default, |(task, holder)| {
        weigh(&ctx.view, &wish(ctx, grant, holder, holder, task, &grant.scopes))
    })
}
