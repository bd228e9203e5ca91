//! What policies are asked, and what they answer. The engine behind [`Policies`] is Cedar, in `crate::cedar`.
//!
//! Deny by default. Step-up needs no second language: a question that is denied is asked again as if it had one to
//! [`MOST_APPROVALS`] approvals, and if one of these would do, that many humans are needed.

use serde::{Deserialize, Serialize};

use super::agent::{Agent, Operator, words};
use super::catalog::{Risk, Sensitivity};
use super::error::Error;
use super::name::Line;
use super::radius::{Figures, Unions};
use super::scope::Args;

/// The largest number of approvals that a policy may ask for.
pub const MOST_APPROVALS: u8 = 4;

/// A policy set that was loaded whole.
pub trait Policies: std::fmt::Debug + Send + Sync {
    /// Decides one question. An evaluation error is a deny.
    fn decide(&self, question: &Question<'_>) -> Ruling;
    /// Whether the answer to some question about this action may hang on [`ToolFacts::unions`]: where not, nobody has to
    /// count them.
    fn reads_unions(&self, action: Action) -> bool;
    /// How many policies there are.
    fn count(&self) -> usize;
}

/// What one evaluation said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruling {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The ids of the policies that decided; none where no policy applied.
    pub by: Vec<String>,
    /// Policies whose evaluation failed, each with why. Not empty means denied.
    pub errors: Vec<String>,
}

/// Who wants to do what to what, and all that a policy may look at.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// Who.
    pub principal: Principal<'a>,
    /// What.
    pub action: Action,
    /// To what.
    pub object: Object<'a>,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub enum Principal<'a> {
    /// An agent.
    Agent(&'a Agent),
    /// An operator.
    Operator(&'a Operator),
}

/// What somebody wants to do. `request`, `delegate` and `invoke` are agents' actions, the others operators'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Hold a root grant, or one delegated as its `own`.
    Request,
    /// Hand part of a grant on: asked of the agent that hands on.
    Delegate,
    /// Make one tool call.
    Invoke,
    /// Decide an approval.
    Approve,
    /// Cut, halt or resume something.
    Revoke,
    /// See something.
    Read,
    /// Change who and what there is.
    Administer,
}

/// What it is done to.
#[derive(Clone, Debug)]
pub enum Object<'a> {
    /// A tool; with what a policy may know of the grant or call. For request, delegate, invoke and approve.
    Tool(Box<ToolFacts<'a>>),
    /// Part of the broker itself. For revoke, read and administer.
    Area(Area, Option<AboutTarget<'a>>),
}

/// The parts of the broker that operators look after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// Agents: register, invite, retire.
    Agents,
    /// Operators: add, invite, remove.
    Operators,
    /// Signing keys.
    Keys,
    /// The catalog.
    Catalog,
    /// The policies.
    Policy,
    /// Grants, credentials, tasks and names: what is cut.
    Grants,
    /// Agents and grants: what is suspended and resumed.
    Suspensions,
    /// Agents, tasks, grants, approvals, radius, status: what is seen.
    State,
    /// The audit.
    Audit,
    /// What a credential would be answered.
    Decisions,
    /// Enforcement points: register, invite, retire.
    EnforcementPoints,
    /// The systems in which secrets are leased.
    Backends,
}

/// What is known of the target of a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AboutTarget<'a> {
    /// `grant`, `task`, `token`, `certificate`, `lease`, `agent`, `owner`, `subject`, `key` or `freeze`.
    pub kind: &'a str,
    /// Who answers for it, where that is one owner.
    pub owner: Option<&'a Line>,
}

/// One scope of a grant, or one call, with what it would reach.
#[derive(Clone, Debug)]
pub struct ToolFacts<'a> {
    /// Who is to hold it, or holds it. Whoever hands on is not whom a rule about a team is about.
    pub holder: &'a Agent,
    /// The tool.
    pub tool: &'a str,
    /// Who answers for the tool; none if it is not in the catalog.
    pub tool_owner: Option<&'a Line>,
    /// The action, or the pattern of actions.
    pub action: &'a str,
    /// The resource, or the pattern of resources.
    pub resource: &'a str,
    /// The worst that the action can do; of what is not in the catalog, `admin`.
    pub risk: Risk,
    /// The most sensitive that it touches directly; of what is not in the catalog, `restricted`.
    pub sensitivity: Sensitivity,
    /// Whether tool, action and resource are all in the catalog.
    pub catalogued: bool,
    /// Where the call goes, if that was said.
    pub destination: Option<&'a str>,
    /// The arguments of a call.
    pub args: Option<&'a Args>,
    /// Humans who have approved it so far.
    pub approvals: u8,
    /// What the grant reaches, all of its scopes together.
    pub radius: Figures,
    /// What that comes to with everything else of the same task, agent, owner and subject.
    pub unions: Unions,
    /// How long it would last, or still lasts.
    pub seconds: i64,
    /// Links above it.
    pub depth: u8,
    /// Root, narrowed or own.
    pub mode: Mode,
    /// What the task is for.
    pub purpose: &'a str,
    /// On whose behalf.
    pub subject: Option<&'a str>,
    /// How the caller proved who it is: `mtls`; of a credential whose holder is not known to present it, `none`.
    pub attestation: &'a str,
}

/// How a grant stands to the one above it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// There is none above.
    #[default]
    Root,
    /// Within its parent.
    Narrowed,
    /// The sub-agent's own authority under the same task; cut with the chain all the same.
    Own,
}

/// Which policies decided, of which version of the set: kept with every decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Decided {
    /// The version of the policy set; 0 if none was asked.
    pub version: u64,
    /// The ids of the policies that decided.
    pub policies: Vec<String>,
}

/// Ids that are kept with one decision: an event has an end.
const MOST_NAMED: usize = 32;

impl Decided {
    /// These policies of this version, each once; beyond 32 only how many more.
    pub fn new(version: u64, mut policies: Vec<String>) -> Self {
        policies.sort_unstable();
        policies.dedup();
        let more = policies.len().saturating_sub(MOST_NAMED);
        policies.truncate(MOST_NAMED);
        policies.extend((more > 0).then(|| format!("and {more} more")));
        Self { version, policies }
    }
}

/// The answer to a question, step-up included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Allowed as it is.
    Allowed(Vec<String>),
    /// Allowed once so many humans approve, as these policies ask.
    Needs(u8, Vec<String>),
    /// Denied, however many approve; by these policies, or by none, since none permits it.
    Denied(Vec<String>, Vec<String>),
}

/// Asks as it is, and then as if more humans had approved.
pub fn step_up(policies: &dyn Policies, question: &Question<'_>) -> Outcome {
    let mut last = policies.decide(question);
    if last.allowed {
        return Outcome::Allowed(last.by);
    }
    let mut asked = question.clone();
    let Object::Tool(facts) = &mut asked.object else { return Outcome::Denied(last.by, last.errors) };
    for approvals in facts.approvals + 1..=MOST_APPROVALS {
        // What cannot be evaluated is denied, whatever else humans might say to it.
        if !last.errors.is_empty() {
            break;
        }
        if let Object::Tool(facts) = &mut asked.object {
            facts.approvals = approvals;
        }
        let before = std::mem::replace(&mut last, policies.decide(&asked));
        if last.allowed {
            // Those that bar it with one human fewer ask for them; where none does, those that let it pass with them.
            return Outcome::Needs(approvals, if before.by.is_empty() { last.by } else { before.by });
        }
    }
    // What only forbids it without approvals is not why it is denied.
    Outcome::Denied(last.by, last.errors)
}

/// Something that an operator may be allowed to do, as one fixed question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Register, invite and retire agents.
    ManageAgents,
    /// Add and remove operators.
    ManageOperators,
    /// Rotate signing keys.
    ManageKeys,
    /// Register, invite and retire enforcement points.
    ManagePeps,
    /// Add and remove the systems in which secrets are leased.
    ManageBackends,
    /// Apply a catalog.
    ManageCatalog,
    /// Apply policies.
    ManagePolicy,
    /// Halt an agent, a task or a grant, or freeze what matches a scope; and let it go on.
    Suspend,
    /// Cut grants, credentials, tasks and names.
    Revoke,
    /// See agents, tasks, grants, approvals, radius, policies and the status.
    Read,
    /// Read the audit.
    ReadAudit,
    /// Ask what a credential would be answered.
    Ask,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::ManageAgents,
        Self::ManageOperators,
        Self::ManageKeys,
        Self::ManagePeps,
        Self::ManageBackends,
        Self::ManageCatalog,
        Self::ManagePolicy,
        Self::Suspend,
        Self::Revoke,
        Self::Read,
        Self::ReadAudit,
        Self::Ask,
    ];

    /// What policies are asked about it.
    pub fn question(self) -> (Action, Area) {
        match self {
            Self::ManageAgents => (Action::Administer, Area::Agents),
            Self::ManageOperators => (Action::Administer, Area::Operators),
            Self::ManageKeys => (Action::Administer, Area::Keys),
            Self::ManagePeps => (Action::Administer, Area::EnforcementPoints),
            Self::ManageBackends => (Action::Administer, Area::Backends),
            Self::ManageCatalog => (Action::Administer, Area::Catalog),
            Self::ManagePolicy => (Action::Administer, Area::Policy),
            Self::Suspend => (Action::Revoke, Area::Suspensions),
            Self::Revoke => (Action::Revoke, Area::Grants),
            Self::Read => (Action::Read, Area::State),
            Self::ReadAudit => (Action::Read, Area::Audit),
            Self::Ask => (Action::Read, Area::Decisions),
        }
    }

    /// The words for it in a refusal: "may not …".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ManageAgents => "manage agents",
            Self::ManageOperators => "manage operators",
            Self::ManageKeys => "manage keys",
            Self::ManagePeps => "manage enforcement points",
            Self::ManageBackends => "manage backends",
            Self::ManageCatalog => "apply a catalog",
            Self::ManagePolicy => "apply policies",
            Self::Suspend => "suspend or resume",
            Self::Revoke => "revoke",
            Self::Read => "read",
            Self::ReadAudit => "read the audit",
            Self::Ask => "ask for decisions",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_names_so_many_policies_and_no_more() {
        let many = |count: usize| (0..count).chain(0..count).map(|at| format!("p{at:03}")).collect::<Vec<_>>();
        assert_eq!(Decided::new(1, many(32)).policies.len(), 32);
        let named = Decided::new(1, many(40));
        assert_eq!((named.policies.len(), named.policies[32].as_str()), (33, "and 8 more"));
    }
}

words! { Action "action": Request = "request", Delegate = "delegate", Invoke = "invoke", Approve = "approve",
Revoke = "revoke", Read = "read", Administer = "administer" }
words! { Area "area": Agents = "agents", Operators = "operators", Keys = "keys", Catalog = "catalog",
Policy = "policy", Grants = "grants", Suspensions = "suspensions", State = "state", Audit = "audit",
Decisions = "decisions", EnforcementPoints = "enforcement_points", Backends = "backends" }
words! { Mode "mode": Root = "root", Narrowed = "narrowed", Own = "own" }
