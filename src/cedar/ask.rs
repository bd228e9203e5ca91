//! A question in Cedar's terms: a request, and the entities that it speaks of.

use std::sync::LazyLock;

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression as Expression, Schema,
};

use crate::domain::agent::{Agent, Operator};
use crate::domain::policy::{AboutTarget, Action, Area, Object, Principal, Question, ToolFacts};
use crate::domain::radius::Figures;
use crate::domain::scope::Args;

use super::args;
use super::fields::{Field, Fields, UNIONS};
use super::load::one_line;

/// What Cedar decides on.
pub struct Asked {
    pub request: Request,
    pub entities: Entities,
}

type Pairs = Vec<(String, Expression)>;

/// Builds the fields `given` of a question; a number that does not fit is an error if it is among those `read`. With a
/// schema it is held against that, which a decision need not: a test does it for every action.
pub fn build(
    question: &Question<'_>,
    given: Fields,
    read: Fields,
    schema: Option<&Schema>,
) -> Result<Asked, Vec<String>> {
    let mut entities = Vec::with_capacity(5);
    let principal = match question.principal {
        Principal::Agent(agent) => of_agent(agent, given.has(Field::AboutPrincipal) || holds(question, given)),
        Principal::Operator(operator) => of_operator(operator, given),
    };
    entities.push(principal?);
    let pairs = match &question.object {
        Object::Tool(facts) => {
            entities.push(of_tool(facts, given)?);
            if given.has(Field::Args) {
                let tags = facts.args.map(args::texts).unwrap_or_default();
                entities.push(tagged(&TYPES.arguments, tags)?);
            }
            if given.has(Field::Numbers) {
                let tags = numbers(facts.args, read)?;
                entities.push(tagged(&TYPES.numbers, tags)?);
            }
            if given.has(Field::Holder) && !holds(question, given) {
                entities.push(of_agent(facts.holder, true)?);
            }
            of_call(facts, given)
        }
        Object::Area(area, about) => {
            entities.push(Entity::with_uid(of_area(*area)));
            of_target(*about, given)
        }
    };
    let [who, what] = [0, 1].map(|at: usize| entities[at].uid());
    let context = Context::from_pairs(pairs).map_err(|error| failed(&error))?;
    let request =
        Request::new(who, of_action(question.action), what, context, schema).map_err(|error| failed(&error))?;
    let entities = Entities::from_entities(entities, schema).map_err(|error| failed(&error))?;
    Ok(Asked { request, entities })
}

/// The numbers of a call. Those that do not fit are left out if no policy that can apply reads numbers.
fn numbers(given: Option<&Args>, read: Fields) -> Result<Pairs, Vec<String>> {
    let (tags, unfit) = given.map(args::numbers).unwrap_or_default();
    if read.has(Field::Numbers) && !unfit.is_empty() {
        let why = "does not fit: policies compare numbers of at most 4 decimal places within ±922337203685477.5807";
        return Err(unfit.iter().map(|name| format!("argument `{}` {why}", name.escape_debug())).collect());
    }
    Ok(tags)
}

/// Whether whoever asks is the holder that is given: one entity, which is there once.
fn holds(question: &Question<'_>, given: Fields) -> bool {
    match (question.principal, &question.object) {
        (Principal::Agent(agent), Object::Tool(facts)) => given.has(Field::Holder) && agent.name == facts.holder.name,
        _ => false,
    }
}

fn of_agent(agent: &Agent, whole: bool) -> Result<Entity, Vec<String>> {
    let mut attributes = Pairs::new();
    let mut labels = Pairs::new();
    if whole {
        attributes = vec![
            ("name".to_owned(), text(agent.name.as_str())),
            ("owner".to_owned(), text(agent.owner.as_str())),
            ("purpose".to_owned(), text(agent.purpose.as_str())),
        ];
        labels = agent.labels.iter().map(|(key, value)| (key.to_string(), text(value.as_str()))).collect();
    }
    let owner = uid(&TYPES.owner, agent.owner.as_str());
    entity(uid(&TYPES.agent, agent.name.as_str()), attributes, [owner], labels)
}

fn of_operator(operator: &Operator, given: Fields) -> Result<Entity, Vec<String>> {
    let name = given.has(Field::AboutPrincipal).then(|| ("name".to_owned(), text(operator.name.as_str())));
    let roles: Vec<_> = operator.roles.iter().map(|role| uid(&TYPES.role, role.as_str())).collect();
    entity(uid(&TYPES.operator, operator.name.as_str()), name, roles, Pairs::new())
}

fn of_tool(facts: &ToolFacts<'_>, given: Fields) -> Result<Entity, Vec<String>> {
    let mut attributes = Pairs::new();
    if given.has(Field::AboutResource) {
        attributes.push(("name".to_owned(), text(facts.tool)));
        attributes.push(("catalogued".to_owned(), Expression::new_bool(facts.tool_owner.is_some())));
    }
    let owner = facts.tool_owner.map(|owner| uid(&TYPES.owner, owner.as_str()));
    entity(uid(&TYPES.tool, facts.tool), attributes, owner, Pairs::new())
}

/// What Cedar would not build, it cannot decide on.
fn entity(
    uid: EntityUid,
    attributes: impl IntoIterator<Item = (String, Expression)>,
    parents: impl IntoIterator<Item = EntityUid>,
    tags: Pairs,
) -> Result<Entity, Vec<String>> {
    Entity::new_with_tags(uid, attributes, parents, tags).map_err(|error| failed(&error))
}

fn failed(error: &dyn std::fmt::Display) -> Vec<String> {
    vec![format!("the question: {}", one_line(error))]
}

fn tagged(kind: &EntityTypeName, tags: Pairs) -> Result<Entity, Vec<String>> {
    entity(uid(kind, "call"), Pairs::new(), [], tags)
}

fn of_call(facts: &ToolFacts<'_>, given: Fields) -> Pairs {
    let mut pairs = Pairs::with_capacity(20);
    let mut put = |field: Field, name: &str, value: &dyn Fn() -> Expression| {
        if given.has(field) {
            pairs.push((name.to_owned(), value()));
        }
    };
    let holder = facts.holder.name.as_str();
    put(Field::Holder, "holder", &|| Expression::new_entity_uid(uid(&TYPES.agent, holder)));
    put(Field::Approvals, "approvals", &|| Expression::new_long(facts.approvals.into()));
    put(Field::Action, "action", &|| text(facts.action));
    put(Field::Resource, "resource", &|| text(facts.resource));
    put(Field::Risk, "risk", &|| text(facts.risk.as_str()));
    put(Field::RiskLevel, "risk_level", &|| Expression::new_long(facts.risk as i64));
    put(Field::Sensitivity, "sensitivity", &|| text(facts.sensitivity.as_str()));
    put(Field::SensitivityLevel, "sensitivity_level", &|| Expression::new_long(facts.sensitivity as i64));
    put(Field::Catalogued, "catalogued", &|| Expression::new_bool(facts.catalogued));
    put(Field::Args, "args", &|| Expression::new_entity_uid(uid(&TYPES.arguments, "call")));
    put(Field::Numbers, "numbers", &|| Expression::new_entity_uid(uid(&TYPES.numbers, "call")));
    put(Field::Radius, "radius", &|| of_figures(&facts.radius));
    put(Field::Seconds, "seconds", &|| Expression::new_long(facts.seconds));
    put(Field::Depth, "depth", &|| Expression::new_long(facts.depth.into()));
    put(Field::Mode, "mode", &|| text(facts.mode.as_str()));
    put(Field::Purpose, "purpose", &|| text(facts.purpose));
    put(Field::Attestation, "attestation", &|| text(facts.attestation));
    if let Some(destination) = facts.destination {
        put(Field::Destination, "destination", &|| text(destination));
    }
    if let Some(subject) = facts.subject {
        put(Field::Subject, "subject", &|| text(subject));
    }
    let unions = of_unions(facts, given);
    if !unions.is_empty() {
        pairs.push(("unions".to_owned(), record(unions)));
    }
    pairs
}

fn of_unions(facts: &ToolFacts<'_>, given: Fields) -> Pairs {
    let unions = &facts.unions;
    let all = [&unions.task, &unions.agent, &unions.owner, &unions.subject];
    let given = UNIONS.iter().zip(all).filter(|((_, field), _)| given.has(*field));
    given.map(|((name, _), figures)| ((*name).to_owned(), of_figures(figures))).collect()
}

fn of_figures(figures: &Figures) -> Expression {
    // A score beyond what Cedar counts is as bad as the largest that it does.
    let long = |number: u64| Expression::new_long(i64::try_from(number).unwrap_or(i64::MAX));
    let [public, internal, confidential, restricted] = figures.by.map(long);
    record([
        ("score".to_owned(), long(figures.score)),
        ("public".to_owned(), public),
        ("internal".to_owned(), internal),
        ("confidential".to_owned(), confidential),
        ("restricted".to_owned(), restricted),
        ("unbounded".to_owned(), Expression::new_bool(figures.unbounded)),
    ])
}

fn of_target(about: Option<AboutTarget<'_>>, given: Fields) -> Pairs {
    let kind = about.filter(|_| given.has(Field::TargetKind)).map(|about| ("kind".to_owned(), text(about.kind)));
    let owner = about.filter(|_| given.has(Field::TargetOwner)).and_then(|about| about.owner);
    kind.into_iter().chain(owner.map(|owner| ("owner".to_owned(), text(owner.as_str())))).collect()
}

fn of_action(action: Action) -> EntityUid {
    uid(&TYPES.action, action.as_str())
}

fn of_area(area: Area) -> EntityUid {
    uid(&TYPES.area, area.as_str())
}

fn uid(kind: &EntityTypeName, name: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(name))
}

fn text(text: &str) -> Expression {
    Expression::new_string(text.to_owned())
}

fn record(pairs: impl IntoIterator<Item = (String, Expression)>) -> Expression {
    Expression::new_record(pairs).expect("the names of a record are distinct words of this file")
}

/// The types of the schema, parsed once.
struct Types {
    agent: EntityTypeName,
    operator: EntityTypeName,
    role: EntityTypeName,
    owner: EntityTypeName,
    tool: EntityTypeName,
    area: EntityTypeName,
    action: EntityTypeName,
    arguments: EntityTypeName,
    numbers: EntityTypeName,
}

static TYPES: LazyLock<Types> = LazyLock::new(|| {
    let named = |name: &str| name.parse().expect("the names of types are words of this file");
    Types {
        agent: named("Agent"),
        operator: named("Operator"),
        role: named("Role"),
        owner: named("Owner"),
        tool: named("Tool"),
        area: named("Area"),
        action: named("Action"),
        arguments: named("Arguments"),
        numbers: named("Numbers"),
    }
});
