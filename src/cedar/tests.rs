//! What only this module sees: what a question looks like to Cedar, and how many slices there are.

use std::sync::LazyLock;

use cedar_policy::{PolicySet, ValidationMode, Validator};

use crate::domain::agent::{Agent, AgentStatus, Operator, Role};
use crate::domain::catalog::{Risk, Sensitivity};
use crate::domain::entropy::Entropy;
use crate::domain::id::AgentId;
use crate::domain::name::Line;
use crate::domain::policy::{AboutTarget, Action, Area, Mode, Object, Policies as _, Principal, Question, ToolFacts};
use crate::domain::radius::{Figures, Unions};
use crate::domain::scope::{Args, Decimal, Value};
use crate::domain::time::Timestamp;

use super::{Fields, Set, Slices, ask, shipped};

const AT: Timestamp = Timestamp::from_seconds(1_000_000);

fn agent(name: &str, owner: &str) -> Agent {
    Agent {
        id: AgentId::mint(AT, &mut Entropy::from_seed([7; 32])),
        name: name.parse().unwrap(),
        owner: owner.parse().unwrap(),
        purpose: "asks".parse().unwrap(),
        status: AgentStatus::Active,
        ceiling: None,
        max_ttl: None,
        labels: vec![("env".parse().unwrap(), "test".parse().unwrap())],
        retired: None,
        created_at: AT,
    }
}

fn operator(roles: &[Role]) -> Operator {
    Operator { name: "ana".parse().unwrap(), roles: roles.to_vec(), removed: false, created_at: AT }
}

fn facts<'a>(tool: &'a str, owner: Option<&'a Line>) -> ToolFacts<'a> {
    static HOLDER: LazyLock<Agent> = LazyLock::new(|| agent("holder", "team-web"));
    ToolFacts {
        holder: &HOLDER,
        tool,
        tool_owner: owner,
        action: "items.read",
        resource: "shelf/1",
        risk: Risk::Read,
        sensitivity: Sensitivity::Public,
        catalogued: true,
        destination: None,
        args: None,
        approvals: 0,
        radius: Figures::default(),
        unions: Unions::default(),
        seconds: 900,
        depth: 0,
        mode: Mode::Root,
        purpose: "try",
        subject: None,
        attestation: "mtls",
    }
}

/// Every kind of question that is asked, with and without what may be absent.
fn every_question<'a>(agent: &'a Agent, operator: &'a Operator, owner: &'a Line, args: &'a Args) -> Vec<Question<'a>> {
    let full =
        ToolFacts { args: Some(args), destination: Some("https://x"), subject: Some("ada"), ..facts("t", Some(owner)) };
    let mut questions = Vec::new();
    for facts in [facts("t", None), full] {
        let object = Object::Tool(Box::new(facts));
        for action in [Action::Request, Action::Delegate, Action::Invoke] {
            questions.push(Question { principal: Principal::Agent(agent), action, object: object.clone() });
        }
        questions.push(Question { principal: Principal::Operator(operator), action: Action::Approve, object });
    }
    for about in
        [None, Some(AboutTarget { kind: "agent", owner: Some(owner) }), Some(AboutTarget { kind: "key", owner: None })]
    {
        for action in [Action::Revoke, Action::Read, Action::Administer] {
            for area in [Area::Agents, Area::Grants] {
                let object = Object::Area(area, about);
                questions.push(Question { principal: Principal::Operator(operator), action, object });
            }
        }
    }
    questions
}

#[test]
fn every_question_is_what_the_schema_says() {
    let (agent, operator) = (agent("planner", "team-web"), operator(&[Role::Admin, Role::Auditor]));
    let owner: Line = "team-dev".parse().unwrap();
    let args: Args = [
        ("amount".to_owned(), Value::Number(Decimal::parse("98.7").unwrap())),
        ("to".to_owned(), Value::List(vec![Value::Text("a".to_owned()), Value::Null])),
    ]
    .into_iter()
    .collect();
    let schema = shipped::schema();
    for question in every_question(&agent, &operator, &owner, &args) {
        let asked = ask::build(&question, Fields::ALL, Fields::ALL, Some(&schema));
        assert!(asked.is_ok(), "{question:?}: {:?}", asked.err());
    }
    // The schema does see what is wrong.
    let wrong = Question {
        principal: Principal::Agent(&agent),
        action: Action::Administer,
        object: Object::Area(Area::Keys, None),
    };
    assert!(ask::build(&wrong, Fields::ALL, Fields::ALL, Some(&schema)).is_err());
}

#[test]
fn arguments_are_tags_as_they_are_or_as_json() {
    let args: Args = [
        ("text".to_owned(), Value::Text("a \"b\"".to_owned())),
        ("list".to_owned(), Value::List(vec![Value::Text("a\"".to_owned()), Value::Null, Value::Bool(true)])),
        ("object".to_owned(), Value::Object([("k".to_owned(), Value::Number(Decimal::parse("1.50").unwrap()))].into())),
        ("number".to_owned(), Value::Number(Decimal::parse("1e2").unwrap())),
    ]
    .into_iter()
    .collect();
    let text = r#"permit (principal, action == Action::"invoke", resource) when {
        context.args.hasTag("text") && context.args.getTag("text") == "a \"b\""
        && context.args.hasTag("list") && context.args.getTag("list") == "[\"a\\\"\",null,true]"
        && context.args.hasTag("object") && context.args.getTag("object") == "{\"k\":1.5}"
        && context.args.hasTag("number") && context.args.getTag("number") == "100"
        && context.numbers.hasTag("number") && context.numbers.getTag("number") == decimal("100.0")
        && !context.numbers.hasTag("text") && !context.args.hasTag("other") };"#;
    let set = Set::load(&[("set.cedar".to_owned(), text.to_owned())]).unwrap();
    let agent = agent("planner", "team-web");
    let object = Object::Tool(Box::new(ToolFacts { args: Some(&args), ..facts("t", None) }));
    let ruling = set.decide(&Question { principal: Principal::Agent(&agent), action: Action::Invoke, object });
    assert!(ruling.allowed, "{ruling:?}");
}

#[test]
fn agents_that_no_policy_names_share_one_slice() {
    let text = r#"permit (principal, action == Action::"request", resource);
        permit (principal == Agent::"named", action == Action::"request", resource == Tool::"named");"#;
    let set = Set::load(&[("set.cedar".to_owned(), text.to_owned())]).unwrap();
    let ask = |name: &str, tool: &str| {
        let agent = agent(name, name);
        let object = Object::Tool(Box::new(facts(tool, None)));
        set.decide(&Question { principal: Principal::Agent(&agent), action: Action::Request, object }).by.len()
    };
    for at in 0..1000 {
        assert_eq!(ask(&format!("a{at}"), &format!("t{at}")), 1);
    }
    assert_eq!(set.slices.count(), 1);
    assert_eq!((ask("named", "named"), ask("named", "t1"), ask("a1", "named")), (2, 1, 1));
    assert_eq!(set.slices.count(), 4);
}

#[test]
fn slices_are_bounded_and_made_again() {
    let named = |at| format!("permit (principal == Agent::\"a{at}\", action == Action::\"request\", resource);\n");
    let mut set = Set::load(&[("set.cedar".to_owned(), (0..50).map(named).collect())]).unwrap();
    // Each holds one policy, and counts for two.
    set.slices = Slices::holding(10);
    for round in 0..2 {
        for at in 0..50 {
            let agent = agent(&format!("a{at}"), "o");
            let object = Object::Tool(Box::new(facts("t", None)));
            let ruling = set.decide(&Question { principal: Principal::Agent(&agent), action: Action::Request, object });
            assert_eq!(ruling.by, [format!("set.{}", at + 1)], "{round}");
            assert!((1..=5).contains(&set.slices.count()), "{}", set.slices.count());
        }
    }
}

#[test]
fn what_a_policy_reads_is_found_wherever_it_stands() {
    let reads = [
        ("true", vec![]),
        ("context.approvals > 1", vec!["Approvals"]),
        ("context.holder.hasTag(\"env\") && context.holder in Owner::\"o\"", vec!["Holder"]),
        ("context has destination && context.destination == \"x\"", vec!["Destination"]),
        ("context.unions.task.score > 1", vec!["UnionTask"]),
        (
            "(if context.catalogued then context.radius else context.unions.owner).score > 1",
            vec!["Catalogued", "Radius", "UnionOwner"],
        ),
        ("[context.depth].contains(1) && {a: context.mode}.a like \"*context*\"", vec!["Depth", "Mode"]),
        ("principal.hasTag(\"x\") && resource.catalogued", vec!["AboutPrincipal", "AboutResource"]),
        ("context.numbers.hasTag(context.purpose)", vec!["Numbers", "Purpose"]),
    ];
    for (when, expected) in reads {
        let text = format!("permit (principal, action == Action::\"invoke\", resource) when {{ {when} }};");
        let policies: PolicySet = text.parse().unwrap();
        let valid = Validator::new(shipped::schema()).validate(&policies, ValidationMode::Strict);
        assert!(valid.validation_passed(), "{when}: {valid}");
        let fields = Fields::of(policies.policies().next().unwrap());
        assert_eq!(fields.names(), expected, "{when}");
    }
}
