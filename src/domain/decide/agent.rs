//! Agents: registered, invited, halted, retired.

use super::{Context, Decide, Decision};
use crate::domain::agent::{Agent, AgentStatus, Join, Kind};
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::event::Body;
use crate::domain::id::{AgentId, JoinId};
use crate::domain::name::{Line, Name};
use crate::domain::policy::{AboutTarget, Right};
use crate::domain::scope::Scopes;
use crate::domain::time::{JOIN_LIFE, Span};

/// Registers an agent and invites it.
#[derive(Debug)]
pub struct RegisterAgent {
    /// Its name.
    pub name: Name,
    /// Who answers for it.
    pub owner: Line,
    /// What it is for.
    pub purpose: Line,
    /// What it may ever hold.
    pub ceiling: Option<Scopes>,
    /// The longest a grant of its lives.
    pub max_ttl: Option<Span>,
    /// Free labels.
    pub labels: Vec<(Name, Line)>,
    /// SHA-256 of the join token's secret.
    pub secret_hash: Digest,
}

/// Invites somebody known again.
#[derive(Debug)]
pub struct Invite {
    /// Agent, operator or enforcement point.
    pub kind: Kind,
    /// Whom.
    pub name: Name,
    /// SHA-256 of the join token's secret.
    pub secret_hash: Digest,
}

/// Suspends, resumes or retires an agent.
#[derive(Debug)]
pub struct SetAgentStatus {
    /// Which.
    pub name: Name,
    /// To what.
    pub status: AgentStatus,
    /// Why.
    pub reason: Line,
}

impl Decide for RegisterAgent {
    type Answer = (Agent, Join);
    const VERB: &'static str = "agent.register";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Self::Answer>, Error> {
        ctx.operator(Right::ManageAgents)?;
        if ctx.view.agent(&self.name).is_some() {
            let message =
                format!("agent `{}` is registered already; `agent invite` gives it a new join token", self.name);
            return Err(Error::new(Code::Conflict, "agent_exists", message).on("name"));
        }
        let agent = Agent {
            id: AgentId::mint(ctx.now, ctx.entropy),
            name: self.name.clone(),
            owner: self.owner.clone(),
            purpose: self.purpose.clone(),
            status: AgentStatus::Active,
            ceiling: self.ceiling.clone(),
            max_ttl: self.max_ttl,
            labels: self.labels.clone(),
            retired: None,
            created_at: ctx.now,
        };
        let join = join(ctx, Kind::Agent, &self.name, self.secret_hash);
        Ok(Decision::new(vec![Body::AgentRegistered { agent: agent.clone(), join: join.clone() }], (agent, join)))
    }
}

impl Decide for Invite {
    type Answer = Join;
    const VERB: &'static str = "invite";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Join>, Error> {
        match self.kind {
            Kind::Agent => {
                ctx.operator(Right::ManageAgents)?;
                let agent = ctx.view.agent(&self.name).ok_or_else(|| Error::not_found("agent", &self.name))?;
                if agent.status == AgentStatus::Retired {
                    return Err(Error::denied("agent_retired", format!("agent `{}` is retired", self.name)));
                }
            }
            Kind::Operator => {
                ctx.operator(Right::ManageOperators)?;
                ctx.view
                    .operator(&self.name)
                    .filter(|operator| !operator.removed)
                    .ok_or_else(|| Error::not_found("operator", &self.name))?;
            }
            Kind::Pep => {
                ctx.operator(Right::ManagePeps)?;
                let pep = ctx.view.pep(&self.name).ok_or_else(|| Error::not_found("enforcement point", &self.name))?;
                if pep.retired.is_some() {
                    let message = format!("enforcement point `{}` is retired", self.name);
                    return Err(Error::denied("pep_retired", message));
                }
            }
            Kind::Server => return Err(Error::malformed("kind", "server", "the broker invites itself")),
        }
        let join = join(ctx, self.kind, &self.name, self.secret_hash);
        Ok(Decision::new(vec![Body::Invited { join: join.clone() }], join))
    }
}

impl Decide for SetAgentStatus {
    type Answer = Agent;
    const VERB: &'static str = "agent.status";

    fn is_urgent(&self) -> bool {
        self.status != AgentStatus::Active
    }

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Agent>, Error> {
        // Retiring is for good: that is management, not response.
        let right = if self.status == AgentStatus::Retired { Right::ManageAgents } else { Right::Suspend };
        let owner = ctx.view.agent(&self.name).map(|agent| &agent.owner);
        ctx.operator_about(right, Some(AboutTarget { kind: "agent", owner }))?;
        let agent = ctx.view.agent(&self.name).ok_or_else(|| Error::not_found("agent", &self.name))?;
        if agent.status == self.status {
            return Ok(Decision::new(Vec::new(), agent.clone()));
        }
        if agent.status == AgentStatus::Retired {
            return Err(Error::denied("agent_retired", format!("agent `{}` is retired for good", self.name)));
        }
        let changed = Agent { status: self.status, ..agent.clone() };
        let event =
            Body::AgentStatusChanged { name: self.name.clone(), status: self.status, reason: self.reason.clone() };
        Ok(Decision::new(vec![event], changed))
    }
}

/// A new invitation; its secret stays with whoever made the hash.
pub(super) fn join(ctx: &mut Context<'_>, kind: Kind, name: &Name, secret_hash: Digest) -> Join {
    let id = JoinId::mint(ctx.now, ctx.entropy);
    Join { id, kind, name: name.clone(), secret_hash, expires_at: ctx.now.plus(JOIN_LIFE), used: None }
}
