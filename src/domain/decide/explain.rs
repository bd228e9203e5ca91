//! What a request would be answered, and by which policies: asked by operators, and never recorded.

use super::call::judge_call;
use super::grant::{bounded, current, envelope, life, not_too_deep, task_is_open, within_ceiling};
use super::invoke::{Attempt, Reason};
use super::weigh::{Weight, Wish, ask, policies, weigh};
use super::{Context, Decide, Decision};
use crate::domain::agent::{Agent, AgentStatus};
use crate::domain::error::Error;
use crate::domain::grant::{Grant, Task};
use crate::domain::id::{GrantId, TaskId};
use crate::domain::name::Name;
use crate::domain::policy::{Action, Decided, MOST_APPROVALS, Mode, Outcome, Right};
use crate::domain::scope::{Call, Scopes};
use crate::domain::time::{DEFAULT_TASK, Span};

/// Asks what an agent would be answered.
#[derive(Debug)]
pub struct Explain {
    /// Who would ask for what kind of grant.
    pub subject: Subject,
    /// What it should allow.
    pub scopes: Scopes,
    /// For how long.
    pub ttl: Span,
}

/// Asks what a call under a grant would be answered, made by its holder.
#[derive(Debug)]
pub struct ExplainCall {
    /// Under which grant.
    pub grant: GrantId,
    /// The call.
    pub call: Call,
}

/// Who would ask.
#[derive(Debug)]
pub enum Subject {
    /// An agent for a root grant.
    Request {
        /// Which.
        agent: Name,
        /// Under which task; none: one that has just begun.
        task: Option<TaskId>,
    },
    /// The holder of a grant, to hand part of it on.
    Delegation {
        /// Part of which.
        parent: GrantId,
        /// To whom.
        to: Name,
        /// Its holder, if the caller says who that is.
        by: Option<Name>,
    },
}

/// What would be answered.
#[derive(Debug)]
pub struct Explained {
    /// In a word.
    pub ruled: Ruled,
    /// The policies that decide, forbidding ones included.
    pub decided: Decided,
    /// What it would reach.
    pub weight: Weight,
    /// Why; at least one.
    pub reasons: Vec<Reason>,
}

/// An outcome in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruled {
    /// Granted at once.
    Allow,
    /// Granted once so many humans approve.
    StepUp(u8),
    /// Refused.
    Deny,
}

/// The parties to a grant that nobody makes.
struct Parties<'a> {
    asks: &'a Agent,
    holder: &'a Agent,
    task: Task,
    parent: Option<&'a Grant>,
}

impl Decide for Explain {
    type Answer = Explained;
    const VERB: &'static str = "policy.explain";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Explained>, Error> {
        ctx.operator(Right::Ask)?;
        let parties = self.parties(ctx)?;
        let explained = match self.admitted(ctx, &parties) {
            Ok(scopes) => self.asked(ctx, &parties, &scopes)?,
            // Refused before any policy is asked.
            Err(error) => Explained {
                ruled: Ruled::Deny,
                decided: Decided { version: policies(&ctx.view)?.1, policies: Vec::new() },
                weight: weigh(&ctx.view, &self.wish(ctx, &parties, &self.scopes)),
                reasons: vec![Reason { code: error.reason, message: error.message }],
            },
        };
        Ok(Decision::new(Vec::new(), explained))
    }
}

impl Decide for ExplainCall {
    type Answer = Explained;
    const VERB: &'static str = "policy.explain_call";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Explained>, Error> {
        ctx.operator(Right::Ask)?;
        let unknown = || Error::not_found("grant", self.grant).on("grant");
        let grant = ctx.view.grant(self.grant).ok_or_else(unknown)?;
        let verdict = judge_call(&ctx.view, ctx.now, grant, Attempt::of(&self.call, true));
        let ruled = match (verdict.allowed, verdict.needs) {
            (true, _) => Ruled::Allow,
            (false, 0) => Ruled::Deny,
            (false, needed) => Ruled::StepUp(needed),
        };
        let (decided, reasons) = (verdict.decided, verdict.reasons);
        Ok(Decision::new(Vec::new(), Explained { ruled, decided, weight: current(ctx, grant), reasons }))
    }
}

impl Explain {
    fn parties<'a>(&self, ctx: &mut Context<'a>) -> Result<Parties<'a>, Error> {
        let view = ctx.view;
        let agent = |name: &Name, field| view.agent(name).ok_or_else(|| Error::not_found("agent", name).on(field));
        match &self.subject {
            Subject::Request { agent: name, task } => {
                let holder = agent(name, "agent")?;
                let task = match task {
                    Some(id) => view.task(id).filter(|task| task.agent == *name).cloned(),
                    None => Some(just_begun(ctx, name)?),
                };
                let task = task.ok_or_else(|| {
                    let id = self.task().map(|id| id.to_string()).unwrap_or_default();
                    Error::not_found(&format!("task of agent `{name}`"), id).on("task")
                })?;
                Ok(Parties { asks: holder, holder, task, parent: None })
            }
            Subject::Delegation { parent, to, by } => {
                let held = view.grant(*parent).filter(|grant| by.as_ref().is_none_or(|name| grant.agent == *name));
                let grant = held.ok_or_else(|| Error::not_found("grant", parent).on("grant"))?;
                let task = view.task(&grant.task).cloned();
                let task = task.ok_or_else(|| Error::not_found("task", grant.task))?;
                Ok(Parties { asks: agent(&grant.agent, "agent")?, holder: agent(to, "to")?, task, parent: Some(grant) })
            }
        }
    }

    fn task(&self) -> Option<&TaskId> {
        match &self.subject {
            Subject::Request { task, .. } => task.as_ref(),
            Subject::Delegation { .. } => None,
        }
    }

    /// What is refused whatever the policies say; else the scopes as they would be granted.
    fn admitted(&self, ctx: &Context<'_>, parties: &Parties<'_>) -> Result<Scopes, Error> {
        for agent in [parties.asks, parties.holder] {
            if agent.status != AgentStatus::Active {
                let message = format!("agent `{}` is {}", agent.name, agent.status);
                return Err(Error::denied("agent_not_active", message));
            }
        }
        let mut scopes = self.scopes.clone();
        match parties.parent {
            None => task_is_open(ctx, &parties.task)?,
            Some(parent) => {
                ctx.is_live(parent)?;
                not_too_deep(ctx, parent)?;
                scopes = bounded(&parent.scopes, scopes, false, &mut Vec::new()).map_err(|why| {
                    Error::denied("scope_widened", format!("{why}; not within grant `{}`", parent.id))
                })?;
            }
        }
        let scopes = within_ceiling(parties.holder, scopes, false, &mut Vec::new())?;
        ctx.not_frozen(&scopes).map(|()| scopes)
    }

    fn wish<'a>(&self, ctx: &Context<'_>, parties: &'a Parties<'_>, scopes: &'a Scopes) -> Wish<'a> {
        let Parties { asks, holder, task, parent } = parties;
        let (expires_at, _) = life(ctx.now, self.ttl, None, *parent, holder, task);
        Wish {
            action: if parent.is_some() { Action::Delegate } else { Action::Request },
            asks,
            holder,
            task,
            scopes,
            approvals: parent.map_or(0, |parent| parent.approvals),
            ttl: expires_at.since(ctx.now),
            depth: parent.map_or(0, |parent| parent.depth + 1),
            mode: if parent.is_some() { Mode::Narrowed } else { Mode::Root },
        }
    }

    /// As the turn would ask, the task's envelope included.
    fn asked(&self, ctx: &Context<'_>, parties: &Parties<'_>, scopes: &Scopes) -> Result<Explained, Error> {
        let wish = self.wish(ctx, parties, scopes);
        let weight = weigh(&ctx.view, &wish);
        let (mut outcome, mut decided) = ask(&ctx.view, &wish, &weight)?;
        let mut within = String::new();
        if let (Outcome::Needs(..), Some(envelope)) = (&outcome, envelope(ctx, &wish, &weight)) {
            (outcome, decided) = ask(&ctx.view, &Wish { approvals: envelope.approvals, ..wish }, &weight)?;
            within = format!(", within what `{}` approved for the task", envelope.approval);
        }
        let version = decided.version;
        let (ruled, code, message) = match outcome {
            Outcome::Allowed(_) => {
                (Ruled::Allow, "policy_allowed", format!("policy version {version} permits it{within}"))
            }
            Outcome::Needs(needed, _) => {
                let message = format!("policy version {version} permits it once {needed} humans approve");
                (Ruled::StepUp(needed), "approval_needed", message)
            }
            Outcome::Denied(by, errors) => {
                let why = match (errors.first(), by.is_empty()) {
                    (Some(error), _) => format!("a policy could not be evaluated: {error}"),
                    (None, true) => format!("no policy permits it, with up to {MOST_APPROVALS} approvals"),
                    (None, false) => format!("forbidden by `{}`", by.join("`, `")),
                };
                decided.policies = by;
                (Ruled::Deny, "policy_denied", format!("policy version {version} denies it: {why}"))
            }
        };
        Ok(Explained { ruled, decided, weight, reasons: vec![Reason { code, message }] })
    }
}

/// A task that nobody started.
fn just_begun(ctx: &mut Context<'_>, agent: &Name) -> Result<Task, Error> {
    Ok(Task {
        id: TaskId::mint(ctx.now, ctx.entropy),
        purpose: "a task that has just begun".parse()?,
        agent: agent.clone(),
        subject: None,
        expires_at: ctx.now.plus(DEFAULT_TASK),
        envelope: None,
        ended: None,
        suspended: false,
        created_at: ctx.now,
    })
}
