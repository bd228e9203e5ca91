//! What the heads of policies ask for, and whether a question can match one.

use std::collections::HashMap;

use cedar_policy::{
    ActionConstraint, EntityTypeName, EntityUid, Policy, PolicySet, PrincipalConstraint, ResourceConstraint,
};

use crate::domain::policy::{Action, Object, Principal, Question};

use super::fields::Fields;

/// Who and what a policy can apply to, by its head alone.
#[derive(Debug)]
pub struct Head {
    id: String,
    fields: Fields,
    principal: Side,
    /// None: any.
    actions: Option<Vec<Action>>,
    resource: Side,
}

/// One side of a head: of a type, and one of these or below it.
#[derive(Debug, Default)]
struct Side {
    kind: Option<Kind>,
    within: Option<u32>,
}

/// The types that can stand in a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Agent,
    Operator,
    Owner,
    Role,
    Tool,
    Area,
}

/// The heads of a set, with the policies that they belong to.
pub struct Heads<'a> {
    pub heads: &'a [Head],
    pub whole: &'a PolicySet,
}

/// The entities that heads name, numbered.
#[derive(Debug, Default)]
pub struct Names([HashMap<String, u32>; 6]);

/// What matters of a question to the heads of a set: questions that are equal here match the same heads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    action: Action,
    principal: Kind,
    /// Itself and all above it, as far as some head names them.
    principals: Vec<u32>,
    resource: Kind,
    resources: Vec<u32>,
}

impl Head {
    /// Reads the head of `policy`, and numbers what it names.
    pub fn of(policy: &Policy, names: &mut Names) -> Self {
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any => Side::default(),
            PrincipalConstraint::Is(kind) => Side { kind: Kind::of(&kind), within: None },
            PrincipalConstraint::Eq(of) | PrincipalConstraint::In(of) => Side { kind: None, within: names.number(&of) },
            PrincipalConstraint::IsIn(kind, of) => Side { kind: Kind::of(&kind), within: names.number(&of) },
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Any => Side::default(),
            ResourceConstraint::Is(kind) => Side { kind: Kind::of(&kind), within: None },
            ResourceConstraint::Eq(of) | ResourceConstraint::In(of) => Side { kind: None, within: names.number(&of) },
            ResourceConstraint::IsIn(kind, of) => Side { kind: Kind::of(&kind), within: names.number(&of) },
        };
        // The schema has no groups of actions, and its actions are ours: the validator has refused any other.
        let known = |uid: &EntityUid| uid.id().unescaped().parse::<Action>().ok();
        let actions = match policy.action_constraint() {
            ActionConstraint::Any => None,
            ActionConstraint::Eq(one) => known(&one).map(|one| vec![one]),
            ActionConstraint::In(many) => many.iter().map(known).collect(),
        };
        Self { id: policy.id().to_string(), fields: Fields::of(policy), principal, actions, resource }
    }

    /// The id of the policy.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it can apply to questions about this action.
    pub fn is_for(&self, action: Action) -> bool {
        self.actions.as_ref().is_none_or(|actions| actions.contains(&action))
    }

    /// What its conditions read.
    pub fn fields(&self) -> Fields {
        self.fields
    }

    /// Whether the policy can apply. Never no where it can; `==` counts as `in`, which Cedar tells apart itself.
    pub fn may_match(&self, asked: &Asked) -> bool {
        self.actions.as_ref().is_none_or(|actions| actions.contains(&asked.action))
            && self.principal.may_match(asked.principal, &asked.principals)
            && self.resource.may_match(asked.resource, &asked.resources)
    }
}

impl Side {
    fn may_match(&self, kind: Kind, named: &[u32]) -> bool {
        self.kind.is_none_or(|wanted| wanted == kind) && self.within.is_none_or(|wanted| named.contains(&wanted))
    }
}

impl Kind {
    fn of(name: &EntityTypeName) -> Option<Self> {
        match name.basename() {
            "Agent" => Some(Self::Agent),
            "Operator" => Some(Self::Operator),
            "Owner" => Some(Self::Owner),
            "Role" => Some(Self::Role),
            "Tool" => Some(Self::Tool),
            "Area" => Some(Self::Area),
            _ => None,
        }
    }
}

impl Names {
    fn number(&mut self, uid: &EntityUid) -> Option<u32> {
        let next = self.0.iter().map(HashMap::len).sum::<usize>();
        let names = &mut self.0[Kind::of(uid.type_name())? as usize];
        let next = u32::try_from(next).ok()?;
        Some(*names.entry(uid.id().unescaped().to_owned()).or_insert(next))
    }

    /// What heads can tell of a question.
    pub fn asked(&self, question: &Question<'_>) -> Asked {
        let named = |kind: Kind, name: &str| self.0[kind as usize].get(name).copied();
        let (principal, mut principals) = match question.principal {
            Principal::Agent(agent) => {
                let up = [named(Kind::Agent, agent.name.as_str()), named(Kind::Owner, agent.owner.as_str())];
                (Kind::Agent, up.into_iter().flatten().collect::<Vec<u32>>())
            }
            Principal::Operator(operator) => {
                let roles = operator.roles.iter().map(|role| named(Kind::Role, role.as_str()));
                (Kind::Operator, roles.chain([named(Kind::Operator, operator.name.as_str())]).flatten().collect())
            }
        };
        principals.sort_unstable();
        let (resource, resources) = match &question.object {
            Object::Tool(facts) => {
                let owner = facts.tool_owner.and_then(|owner| named(Kind::Owner, owner.as_str()));
                (Kind::Tool, [named(Kind::Tool, facts.tool), owner].into_iter().flatten().collect())
            }
            Object::Area(area, _) => (Kind::Area, named(Kind::Area, area.as_str()).into_iter().collect()),
        };
        Asked { action: question.action, principal, principals, resource, resources }
    }
}
