//! Grants: requested, delegated, renewed, halted, given back. None ever outlives or outscopes its parent.

use super::token::{TokenAnswer, again, issue};
use super::{Caller, Context, Decide, Decision, key_of_the_past};
use crate::domain::MAX_CHAIN;
use crate::domain::agent::{Agent, AgentStatus};
use crate::domain::cut::Target;
use crate::domain::error::Error;
use crate::domain::event::Body;
use crate::domain::grant::{Grant, GrantState, Status, Task};
use crate::domain::id::{GrantId, TaskId};
use crate::domain::name::{Audience, Line, Name};
use crate::domain::policy::Right;
use crate::domain::scope::Scopes;
use crate::domain::time::{Span, Timestamp};

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
    /// What it should allow, all of it within the parent.
    pub scopes: Scopes,
    /// For whom its tokens are; the parent's audience if none is named.
    pub audience: Option<Audience>,
    /// For how long.
    pub ttl: Span,
}

/// Moves a grant's expiry, within what it was given at activation.
#[derive(Debug)]
pub struct RenewGrant {
    /// Which.
    pub id: GrantId,
    /// For how long from now.
    pub ttl: Span,
}

/// Suspends, resumes or completes a grant.
#[derive(Debug)]
pub struct SetGrantStatus {
    /// Which.
    pub id: GrantId,
    /// To what.
    pub status: Status,
    /// Why.
    pub reason: Line,
}

/// A grant, how it stands, and the token that came with it.
#[derive(Debug)]
pub struct Granted {
    /// The grant.
    pub grant: Grant,
    /// How it stands.
    pub state: GrantState,
    /// The token, if one was asked for and the grant is live.
    pub token: Option<TokenAnswer>,
}

impl Decide for RequestGrant {
    type Answer = Granted;
    const VERB: &'static str = "grant.request";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Granted>, Error> {
        let (agent, presenter) = ctx.agent()?;
        if let Some(made) = ctx.replayed::<Self>()? {
            return replay(ctx, made.grant, made.token);
        }
        let task = ctx.view.task(&self.task).filter(|task| task.agent == agent.name);
        let task = task.ok_or_else(|| Error::not_found("task", self.task).on("task"))?;
        task_is_open(ctx, task)?;
        within_ceiling(agent, &self.scopes)?;
        let id = GrantId::mint(ctx.now, ctx.entropy);
        let audience = match &self.audience {
            Some(audience) => audience.clone(),
            None => ctx.origin()?.issuer.clone(),
        };
        let grant = new_grant(ctx, id, None, agent, task, self.scopes.clone(), audience, self.ttl)?;
        let mut events = vec![Body::GrantIssued { grant: grant.clone() }];
        let token = match self.token {
            true => Some(issue(ctx, &mut events, &grant, presenter)?),
            false => None,
        };
        Ok(Decision::new(events, Granted { grant, state: GrantState::Active, token }))
    }
}

impl Decide for Delegate {
    type Answer = Granted;
    const VERB: &'static str = "grant.delegate";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Granted>, Error> {
        let (agent, _) = ctx.agent()?;
        if let Some(made) = ctx.replayed::<Self>()? {
            return replay(ctx, made.grant, None);
        }
        let parent = ctx.own_grant(self.parent, &agent.name).map_err(|error| error.on("parent"))?;
        ctx.is_live(parent)?;
        if usize::from(parent.depth) + 1 >= MAX_CHAIN {
            return Err(Error::denied("depth_limit", format!("a chain has at most {MAX_CHAIN} grants")).on("parent"));
        }
        let holder = ctx.view.agent(&self.to).ok_or_else(|| Error::not_found("agent", &self.to).on("to"))?;
        if holder.status != AgentStatus::Active {
            return Err(
                Error::denied("agent_not_active", format!("agent `{}` is {}", holder.name, holder.status)).on("to")
            );
        }
        if let Some(wider) = parent.scopes.first_uncovered(&self.scopes) {
            return Err(Error::denied("scope_widened", format!("scope `{wider}` is not within grant `{}`", parent.id))
                .on("scope"));
        }
        within_ceiling(holder, &self.scopes)?;
        let audience = self.audience.clone().unwrap_or_else(|| parent.audience.clone());
        if audience != parent.audience {
            let message = format!("audience `{audience}` is not that of grant `{}`, `{}`", parent.id, parent.audience);
            return Err(Error::denied("audience_widened", message).on("audience"));
        }
        let task = ctx.view.task(&parent.task).ok_or_else(|| Error::not_found("task", parent.task))?;
        let id = GrantId::mint(ctx.now, ctx.entropy);
        let grant = new_grant(ctx, id, Some(parent), holder, task, self.scopes.clone(), audience, self.ttl)?;
        let answer = Granted { grant: grant.clone(), state: GrantState::Active, token: None };
        Ok(Decision::new(vec![Body::GrantIssued { grant }], answer))
    }
}

impl Decide for RenewGrant {
    type Answer = Granted;
    const VERB: &'static str = "grant.renew";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Granted>, Error> {
        let (agent, _) = ctx.agent()?;
        let grant = ctx.own_grant(self.id, &agent.name)?;
        ctx.is_live(grant)?;
        let parent = grant.parent.and_then(|parent| ctx.view.grant(parent));
        let wanted = ctx.now.plus(self.ttl).min(grant.renewable_until);
        let bounded = parent.map_or(wanted, |parent| wanted.min(parent.expires_at));
        // Renewal only ever moves the end later; a shorter wish leaves it where it is.
        let renewed = Grant { expires_at: bounded.max(grant.expires_at), ..grant.clone() };
        let events = match renewed.expires_at == grant.expires_at {
            true => Vec::new(),
            false => vec![Body::GrantRenewed {
                id: grant.id,
                root: grant.root,
                agent: grant.agent.clone(),
                expires_at: renewed.expires_at,
            }],
        };
        Ok(Decision::new(events, Granted { grant: renewed, state: GrantState::Active, token: None }))
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
            (Status::Active | Status::Suspended, _) => {
                ctx.operator(Right::Suspend)?;
                ctx.view.grant(self.id).ok_or_else(|| Error::not_found("grant", self.id))?
            }
        };
        let standing = ctx.view.standing(grant.id, ctx.now).map_or(GrantState::Expired, |standing| standing.state);
        if standing.is_ended() && self.status != Status::Completed {
            return Err(Error::denied(
                "grant_ended",
                format!("grant `{}` is {standing}; nothing brings it back", grant.id),
            ));
        }
        let changed = Grant { status: self.status, ..grant.clone() };
        if standing.is_ended() || grant.status == self.status {
            return Ok(Decision::new(Vec::new(), Granted { grant: grant.clone(), state: standing, token: None }));
        }
        let event = Body::GrantStatusChanged {
            id: grant.id,
            root: grant.root,
            agent: grant.agent.clone(),
            status: self.status,
            reason: self.reason.clone(),
        };
        let state = after(ctx, &changed);
        Ok(Decision::new(vec![event], Granted { grant: changed, state, token: None }))
    }
}

/// How a grant will stand once its own status is this: the worse of it and what is above.
fn after(ctx: &Context<'_>, grant: &Grant) -> GrantState {
    let above = grant.parent.and_then(|parent| ctx.view.standing(parent, ctx.now)).map(|standing| standing.state);
    let agent = ctx.view.agent(&grant.agent).map(|agent| agent.status);
    match grant.status {
        Status::Completed => GrantState::Completed,
        Status::Suspended => GrantState::Suspended,
        Status::Active if agent == Some(AgentStatus::Suspended) => GrantState::Suspended,
        Status::Active => above.unwrap_or(GrantState::Active),
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "each is one independent fact of the grant; a struct would be built once"
)]
fn new_grant(
    ctx: &Context<'_>,
    id: GrantId,
    parent: Option<&Grant>,
    holder: &Agent,
    task: &Task,
    scopes: Scopes,
    audience: Audience,
    ttl: Span,
) -> Result<Grant, Error> {
    ctx.not_cut(Target::Grant(id))?;
    let (expires_at, renewable_until) = life(ctx.now, ttl, parent, holder, task);
    Ok(Grant {
        id,
        parent: parent.map(|parent| parent.id),
        root: parent.map_or(id, |parent| parent.root),
        task: task.id,
        agent: holder.name.clone(),
        owner: holder.owner.clone(),
        subject: task.subject.clone(),
        scopes,
        audience,
        depth: parent.map_or(0, |parent| parent.depth + 1),
        seq: ctx.next_seq(),
        created_at: ctx.now,
        expires_at,
        renewable_until,
        status: Status::Active,
    })
}

/// Expiry and the furthest renewal, clamped to every ancestor, the task and the holder's longest life.
fn life(now: Timestamp, ttl: Span, parent: Option<&Grant>, holder: &Agent, task: &Task) -> (Timestamp, Timestamp) {
    let own = holder.max_ttl.map_or(task.expires_at, |max| task.expires_at.min(now.plus(max)));
    let renewable_until = parent.map_or(own, |parent| own.min(parent.renewable_until));
    let wanted = now.plus(ttl).min(renewable_until);
    (parent.map_or(wanted, |parent| wanted.min(parent.expires_at)), renewable_until)
}

fn within_ceiling(agent: &Agent, scopes: &Scopes) -> Result<(), Error> {
    match agent.ceiling.as_ref().and_then(|ceiling| ceiling.first_uncovered(scopes)) {
        None => Ok(()),
        Some(wider) => {
            let message = format!("scope `{wider}` is beyond what agent `{}` may ever hold", agent.name);
            Err(Error::denied("beyond_ceiling", message).on("scope"))
        }
    }
}

fn task_is_open(ctx: &Context<'_>, task: &Task) -> Result<(), Error> {
    ctx.not_cut(Target::Task(task.id)).map_err(|error| Error { reason: "task_revoked", ..error })?;
    if task.ended || ctx.now >= task.expires_at {
        return Err(Error::denied("task_ended", format!("task `{}` is over; start another", task.id)).on("task"));
    }
    Ok(())
}

/// The same ids with their current state; the token again only while the grant is live.
fn replay(
    ctx: &mut Context<'_>,
    grant: Option<GrantId>,
    token: Option<(crate::domain::id::TokenId, u64)>,
) -> Result<Decision<Granted>, Error> {
    let id = grant.ok_or_else(|| Error::not_found("grant", "of this idempotency key"))?;
    let grant = ctx.view.grant(id).ok_or_else(|| key_of_the_past("grant_expired", id))?;
    let state = ctx.view.standing(id, ctx.now).map_or(GrantState::Expired, |standing| standing.state);
    let token = match (state, token) {
        (GrantState::Active, Some((token, _))) => again(ctx, token)?,
        _ => None,
    };
    Ok(Decision::new(Vec::new(), Granted { grant: grant.clone(), state, token }))
}
