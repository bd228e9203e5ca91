//! Tasks: begun by an agent, ended by it or by a responder.

use super::grant::within_ceiling;
use super::pend::{Elevated, pend};
use super::weigh::Wish;
use super::{Caller, Context, Decide, Decision, key_of_the_past};
use crate::domain::agent::Agent;
use crate::domain::approval::Approval;
use crate::domain::cut::Target;
use crate::domain::error::Error;
use crate::domain::event::Body;
use crate::domain::grant::Task;
use crate::domain::id::TaskId;
use crate::domain::name::Line;
use crate::domain::policy::{AboutTarget, Action, Mode, Outcome, Right};
use crate::domain::scope::Scopes;
use crate::domain::time::Span;

/// Declares a purpose with a deadline.
#[derive(Debug)]
pub struct StartTask {
    /// What for.
    pub purpose: Line,
    /// On whose behalf.
    pub subject: Option<Line>,
    /// For how long.
    pub ttl: Span,
    /// What a human is asked to approve for this purpose beforehand, and for how long.
    pub envelope: Option<(Scopes, Span)>,
}

/// A task that began, and the approval that its envelope waits for.
#[derive(Debug)]
pub struct Started {
    /// The task.
    pub task: Task,
    /// Of its envelope, if it wants one.
    pub approval: Option<Approval>,
}

/// Ends a task, and with it all its grants.
#[derive(Debug)]
pub struct EndTask {
    /// Which.
    pub id: TaskId,
    /// Why.
    pub reason: Line,
}

/// Halts a task and all its grants, or lets them go on.
#[derive(Debug)]
pub struct SetTaskStatus {
    /// Which.
    pub id: TaskId,
    /// Whether it is halted.
    pub suspended: bool,
    /// Why.
    pub reason: Line,
}

impl Decide for SetTaskStatus {
    type Answer = Task;
    const VERB: &'static str = "task.status";

    fn is_urgent(&self) -> bool {
        self.suspended
    }

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Task>, Error> {
        let task = ctx.view.task(&self.id);
        let owner = task.and_then(|task| ctx.view.agent(&task.agent)).map(|agent| &agent.owner);
        ctx.operator_about(Right::Suspend, Some(AboutTarget { kind: "task", owner }))?;
        let task = task.ok_or_else(|| Error::not_found("task", self.id))?;
        let state = ctx.view.task_state(task, ctx.now);
        if state.is_ended() {
            let message = format!("task `{}` is {state}; nothing brings it back", task.id);
            return Err(Error::denied("task_ended", message));
        }
        if task.suspended == self.suspended {
            return Ok(Decision::new(Vec::new(), task.clone()));
        }
        let event = Body::TaskStatusChanged {
            id: self.id,
            agent: task.agent.clone(),
            suspended: self.suspended,
            reason: self.reason.clone(),
        };
        Ok(Decision::new(vec![event], Task { suspended: self.suspended, ..task.clone() }))
    }
}

impl Decide for StartTask {
    type Answer = Started;
    const VERB: &'static str = "task.start";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Started>, Error> {
        let (agent, _) = ctx.agent()?;
        if let Some(id) = ctx.replayed::<Self>()?.and_then(|made| made.task) {
            let task = ctx.view.task(&id).ok_or_else(|| key_of_the_past("task_expired", id))?;
            let approval = ctx.view.approvals().find(|one| one.task == id && one.grant.is_none()).cloned();
            return Ok(Decision::new(Vec::new(), Started { task: task.clone(), approval }));
        }
        if let Some(subject) = self.subject.as_ref().filter(|subject| subject.as_str().starts_with("spiffe://")) {
            // A token's `sub` would then name a workload that is not in the chain.
            return Err(Error::malformed(
                "subject",
                subject.as_str(),
                "a task runs on behalf of a person, not of a workload",
            ));
        }
        let id = TaskId::mint(ctx.now, ctx.entropy);
        ctx.not_cut(Target::Task(id))?;
        let task = Task {
            id,
            purpose: self.purpose.clone(),
            agent: agent.name.clone(),
            subject: self.subject.clone(),
            expires_at: ctx.now.plus(self.ttl),
            envelope: None,
            ended: None,
            suspended: false,
            created_at: ctx.now,
        };
        let mut events = vec![Body::TaskStarted { task: task.clone() }];
        let approval = match &self.envelope {
            Some((scopes, ttl)) => Some(envelope(ctx, agent, &task, scopes, *ttl)?),
            None => None,
        };
        events.extend(approval.clone().map(|approval| Body::ApprovalRequested { approval }));
        Ok(Decision::new(events, Started { task, approval }))
    }
}

/// Asks humans for an envelope: as many as the policies want for its scopes, and never none.
fn envelope(ctx: &mut Context<'_>, agent: &Agent, task: &Task, scopes: &Scopes, ttl: Span) -> Result<Approval, Error> {
    let scopes = within_ceiling(agent, scopes.clone(), false, &mut Vec::new())?;
    ctx.not_frozen(&scopes).map_err(|error| error.on("envelope"))?;
    let wish = Wish {
        action: Action::Request,
        asks: agent,
        holder: agent,
        task,
        scopes: &scopes,
        approvals: 0,
        ttl: agent.max_ttl.into_iter().fold(ttl.min(task.expires_at.since(ctx.now)), Span::min),
        depth: 0,
        mode: Mode::Root,
    };
    let (weight, outcome, decided) = ctx.consider(&wish)?;
    let needed = if let Outcome::Needs(needed, _) = outcome { needed } else { 1 };
    pend(ctx, Elevated { wish: &wish, weight, needed, decided, grant: None })
}

impl Decide for EndTask {
    type Answer = Task;
    const VERB: &'static str = "task.end";

    fn is_urgent(&self) -> bool {
        true
    }

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Task>, Error> {
        let task = ctx.view.task(&self.id);
        let task = match ctx.caller {
            // Ending is giving back: even a suspended agent may.
            Caller::Agent(presenter) => {
                let agent = ctx.known_agent(presenter)?;
                task.filter(|task| task.agent == agent.name)
            }
            _ => {
                let owner = task.and_then(|task| ctx.view.agent(&task.agent)).map(|agent| &agent.owner);
                ctx.operator_about(Right::Revoke, Some(AboutTarget { kind: "task", owner }))?;
                task
            }
        };
        let task = task.ok_or_else(|| Error::not_found("task", self.id))?;
        let ended = Task { ended: Some(ctx.next_seq()), ..task.clone() };
        if task.ended.is_some() || ctx.now >= task.expires_at {
            return Ok(Decision::new(Vec::new(), task.clone()));
        }
        let event = Body::TaskEnded { id: self.id, agent: task.agent.clone(), reason: self.reason.clone() };
        Ok(Decision::new(vec![event], ended))
    }
}
