//! Questions to policies, from values that a test may choose.

use std::sync::LazyLock;

use belay::cedar::Set;
use belay::domain::agent::{Agent, AgentStatus, Operator, Role};
use belay::domain::catalog::{Risk, Sensitivity};
use belay::domain::entropy::Entropy;
use belay::domain::id::AgentId;
use belay::domain::policy::{Action, Area, Mode, Object, Policies as _, Principal, Question, Ruling, ToolFacts};
use belay::domain::radius::{Figures, Unions};
use belay::domain::time::Timestamp;

/// An active agent.
pub fn agent(name: &str, owner: &str) -> Agent {
    let created_at = Timestamp::from_seconds(1_000_000);
    Agent {
        id: AgentId::mint(created_at, &mut Entropy::from_seed([7; 32])),
        name: name.parse().unwrap(),
        owner: owner.parse().unwrap(),
        purpose: "asks".parse().unwrap(),
        status: AgentStatus::Active,
        ceiling: None,
        max_ttl: None,
        labels: vec![("env".parse().unwrap(), "test".parse().unwrap())],
        retired: None,
        created_at,
    }
}

/// An operator of these roles, none included.
pub fn operator(name: &str, roles: &[Role]) -> Operator {
    let created_at = Timestamp::from_seconds(1_000_000);
    Operator { name: name.parse().unwrap(), roles: roles.to_vec(), removed: false, created_at }
}

/// A catalogued read of something public, by nobody's tool; `holder` of team-web is to hold it.
pub fn facts(tool: &str) -> ToolFacts<'_> {
    static HOLDER: LazyLock<Agent> = LazyLock::new(|| agent("holder", "team-web"));
    ToolFacts {
        holder: &HOLDER,
        tool,
        tool_owner: None,
        action: "items.read",
        resource: "shelf/1",
        risk: Risk::Read,
        sensitivity: Sensitivity::Public,
        catalogued: true,
        destination: None,
        args: None,
        approvals: 0,
        radius: Figures { score: 1, by: [1, 0, 0, 0], unbounded: false },
        unions: Unions::default(),
        seconds: 900,
        depth: 0,
        mode: Mode::Root,
        purpose: "try things",
        subject: None,
        attestation: "mtls",
    }
}

/// What an agent asks about a tool, for itself.
pub fn about<'a>(agent: &'a Agent, action: Action, facts: &ToolFacts<'a>) -> Question<'a> {
    let facts = ToolFacts { holder: agent, ..facts.clone() };
    Question { principal: Principal::Agent(agent), action, object: Object::Tool(Box::new(facts)) }
}

/// A set of one file, `set.cedar`.
pub fn set(text: &str) -> Set {
    Set::load(&[("set.cedar".to_owned(), text.to_owned())]).unwrap()
}

/// What `set` says of an operator and a part of the broker.
pub fn may(set: &Set, operator: &Operator, action: Action, area: Area) -> Ruling {
    set.decide(&Question { principal: Principal::Operator(operator), action, object: Object::Area(area, None) })
}
