//! Tasks: begun by an agent, ended by it or by a responder.

use super::{Caller, Context, Decide, Decision, key_of_the_past};
use crate::domain::cut::Target;
use crate::domain::error::Error;
use crate::domain::event::Body;
use crate::domain::grant::Task;
use crate::domain::id::TaskId;
use crate::domain::name::Line;
use crate::domain::policy::Right;
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
}

/// Ends a task, and with it all its grants.
#[derive(Debug)]
pub struct EndTask {
    /// Which.
    pub id: TaskId,
    /// Why.
    pub reason: Line,
}

impl Decide for StartTask {
    type Answer = Task;
    const VERB: &'static str = "task.start";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Task>, Error> {
        let (agent, _) = ctx.agent()?;
        if let Some(id) = ctx.replayed::<Self>()?.and_then(|made| made.task) {
            let task = ctx.view.task(&id).ok_or_else(|| key_of_the_past("task_expired", id))?;
            return Ok(Decision::new(Vec::new(), task.clone()));
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
            ended: false,
            created_at: ctx.now,
        };
        Ok(Decision::new(vec![Body::TaskStarted { task: task.clone() }], task))
    }
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
                ctx.operator(Right::Revoke)?;
                task
            }
        };
        let task = task.ok_or_else(|| Error::not_found("task", self.id))?;
        let ended = Task { ended: true, ..task.clone() };
        if task.ended || ctx.now >= task.expires_at {
            return Ok(Decision::new(Vec::new(), task.clone()));
        }
        let event = Body::TaskEnded { id: self.id, agent: task.agent.clone(), reason: self.reason.clone() };
        Ok(Decision::new(vec![event], ended))
    }
}
