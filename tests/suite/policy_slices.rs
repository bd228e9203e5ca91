//! The index of policies: what it leaves out could not have decided.

use std::fmt::Write as _;

use belay::cedar::Set;
use belay::domain::agent::Role;
use belay::domain::name::Line;
use belay::domain::policy::{AboutTarget, Action, Area, Object, Policies as _, Principal, Question};
use belay::domain::scope::{Args, Decimal, Value};
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::prop_assert_eq;

use crate::support::property;
use crate::support::questions::{agent, facts, may, operator, set};

/// Cases; each is a set of its own and all questions of one seed to it.
const CASES: u32 = 48;

const OF_AGENTS: [&str; 6] = [
    "principal", "principal is Agent", "principal == Agent::\"a\"", "principal in Owner::\"o\"",
    "principal in Agent::\"b\"", "principal is Agent in Owner::\"p\"",
];
const OF_OPERATORS: [&str; 6] = [
    "principal",
    "principal is Operator",
    "principal == Operator::\"a\"",
    "principal in Role::\"admin\"",
    "principal in Operator::\"b\"",
    "principal is Operator in Role::\"auditor\"",
];
const ON_TOOLS: [&str; 6] = [
    "resource", "resource is Tool", "resource == Tool::\"t\"", "resource in Owner::\"o\"", "resource in Tool::\"u\"",
    "resource is Tool in Owner::\"p\"",
];
const ON_AREAS: [&str; 4] =
    ["resource", "resource is Area", "resource == Area::\"state\"", "resource in Area::\"audit\""];
const ACTIONS_OF_AGENTS: [&str; 4] = [
    "action == Action::\"request\"",
    "action in [Action::\"request\", Action::\"invoke\"]",
    "action in Action::\"delegate\"",
    "action in [Action::\"request\", Action::\"delegate\", Action::\"invoke\"]",
];
const ACTIONS_ON_AREAS: [&str; 3] = [
    "action == Action::\"read\"",
    "action in [Action::\"read\", Action::\"revoke\"]",
    "action in [Action::\"administer\"]",
];
const OF_CALLS: [&str; 18] = [
    "context.holder in Owner::\"o\"",
    "context.holder.name == \"a\" || context.holder.hasTag(\"env\") && context.holder.owner == \"team-web\"",
    "true",
    "context.approvals >= 2",
    "context has destination && context.destination like \"https://*\"",
    "context.numbers.hasTag(\"n\") && context.numbers.getTag(\"n\").lessThan(decimal(\"10.5\"))",
    "context.args.hasTag(\"s\") && context.args.getTag(\"s\") == \"x\"",
    "context.unions.task.score > 10",
    "context.unions.owner == context.unions.task",
    "context.radius.unbounded || context.unions has agent && context.unions.agent.score > 10",
    "context == context",
    "context.seconds + 9223372036854775000 > 0",
    "[context.risk, context.sensitivity].contains(\"read\")",
    "if context has subject then context.subject == \"ada\" else context.depth > 1",
    "{a: context.purpose, b: context.mode}.b == \"root\" && context.attestation == \"mtls\"",
    "context.action == \"items.read\" && context.resource like \"shelf/*\"",
    "context.catalogued && context.risk_level < context.sensitivity_level",
    "resource.catalogued && resource.name == \"t\"",
];
const OF_THE_AGENT: [&str; 3] = [
    "principal.name == \"a\" && principal.purpose == \"asks\"",
    "principal.hasTag(\"env\") && principal.getTag(\"env\") == \"test\"",
    "principal in Owner::\"o\" && resource in Owner::\"o\" && principal.owner == \"o\"",
];
const OF_TARGETS: [&str; 5] = [
    "true",
    "context has kind && context.kind == \"grant\"",
    "context has owner && context.owner == \"o\"",
    "principal.name == \"a\"",
    "principal in Role::\"approver\" && resource == Area::\"state\"",
];

/// One policy, chosen by seven numbers.
fn policy(at: usize, dice: [u8; 7]) -> String {
    let pick = |from: &[&'static str], die: usize| from[usize::from(dice[die]) % from.len()];
    let (principal, action, resource, when) = match dice[0] % 4 {
        0 | 1 => {
            let when = if dice[6].is_multiple_of(4) { pick(&OF_THE_AGENT, 5) } else { pick(&OF_CALLS, 5) };
            (pick(&OF_AGENTS, 1), pick(&ACTIONS_OF_AGENTS, 2), pick(&ON_TOOLS, 3), when)
        }
        2 => (pick(&OF_OPERATORS, 1), "action == Action::\"approve\"", pick(&ON_TOOLS, 3), pick(&OF_CALLS, 5)),
        _ => (pick(&OF_OPERATORS, 1), pick(&ACTIONS_ON_AREAS, 2), pick(&ON_AREAS, 3), pick(&OF_TARGETS, 5)),
    };
    let (effect, word) = (
        if dice[4].is_multiple_of(3) { "forbid" } else { "permit" },
        if dice[4].is_multiple_of(5) { "unless" } else { "when" },
    );
    // What could never apply is refused, so what is always so stands in no `unless`.
    let word = if when == "true" || when == "context == context" { "when" } else { word };
    format!("@id(\"p{at}\") {effect} ({principal}, {action}, {resource}) {word} {{ {when} }};\n")
}

/// Holds the two ways of deciding against each other, for every kind of question; the second time over a slice that is
/// there already.
fn agree(set: &Set, seed: &[u8; 8]) -> Result<usize, String> {
    let agents = [agent("a", "o"), agent("b", "p"), agent("c", "q"), agent("c", "o")];
    let operators = [
        operator("a", &[Role::Admin]),
        operator("b", &[Role::Approver, Role::Auditor]),
        operator("c", &[Role::Responder]),
        operator("d", &[]),
    ];
    let owners: [Line; 3] = ["o", "p", "q"].map(|owner| owner.parse().unwrap());
    let numbers = ["3", "10.5", "11", "1e30", "0.00001"];
    let number = Decimal::parse(numbers[usize::from(seed[0]) % numbers.len()]).unwrap();
    let args: Args = [
        ("n".to_owned(), Value::Number(number)),
        ("s".to_owned(), Value::Text(if seed[1].is_multiple_of(2) { "x" } else { "y" }.to_owned())),
    ]
    .into_iter()
    .collect();
    let mut questions = Vec::new();
    for (tool, owner) in [("t", Some(0)), ("u", Some(1)), ("v", Some(2)), ("v", None)] {
        let mut facts = facts(tool);
        facts.holder = &agents[usize::from(seed[1]) % agents.len()];
        facts.tool_owner = owner.map(|at: usize| &owners[at]);
        facts.args = (!seed[2].is_multiple_of(3)).then_some(&args);
        facts.destination = seed[3].is_multiple_of(2).then_some("https://x.example");
        facts.subject = seed[4].is_multiple_of(2).then_some("ada");
        (facts.approvals, facts.depth) = (seed[5] % 4, seed[6] % 3);
        facts.unions.task.score = u64::from(seed[7] % 20);
        facts.seconds = i64::from(seed[7]) * 10;
        let object = Object::Tool(Box::new(facts));
        for action in [Action::Request, Action::Delegate, Action::Invoke] {
            let asks = |agent| Question { principal: Principal::Agent(agent), action, object: object.clone() };
            questions.extend(agents.iter().map(asks));
        }
        let asks = |operator| Question {
            principal: Principal::Operator(operator),
            action: Action::Approve,
            object: object.clone(),
        };
        questions.extend(operators.iter().map(asks));
    }
    let about = (!seed[0].is_multiple_of(3))
        .then_some(AboutTarget { kind: "grant", owner: (!seed[0].is_multiple_of(2)).then_some(&owners[0]) });
    for area in [Area::State, Area::Audit, Area::Keys] {
        for action in [Action::Read, Action::Revoke, Action::Administer] {
            let asks = |operator| Question {
                principal: Principal::Operator(operator),
                action,
                object: Object::Area(area, about),
            };
            questions.extend(operators.iter().map(asks));
        }
    }
    let mut decided = 0;
    for question in &questions {
        let (slice, again, whole) = (set.decide(question), set.decide(question), set.decide_whole(question));
        if slice != whole || again != whole {
            return Err(format!("{question:?}\nslice: {slice:?}\nagain: {again:?}\nwhole: {whole:?}"));
        }
        decided += usize::from(!slice.by.is_empty());
    }
    Ok(decided)
}

#[test]
fn a_slice_decides_as_the_whole_set() {
    let decided = std::cell::Cell::new(0);
    property::check(CASES, &(vec(any::<[u8; 7]>(), 1..12), any::<[u8; 8]>()), |(dice, seed)| {
        let text: String = dice.iter().enumerate().map(|(at, dice)| policy(at, *dice)).collect();
        let set = Set::load(&[("set.cedar".to_owned(), text.clone())]);
        let set = set.unwrap_or_else(|error| panic!("{error}\n{text}"));
        let agreed = agree(&set, &seed);
        prop_assert_eq!(agreed.as_ref().err(), None, "{}", text);
        decided.set(decided.get() + agreed.unwrap_or(0));
        Ok(())
    });
    assert!(decided.get() > 100 * CASES as usize / 10, "the questions miss the policies: {}", decided.get());
}

#[test]
fn a_policy_counts_for_whom_it_names_from_above() {
    let set = set(r#"
        @id("role") permit (principal in Role::"auditor", action == Action::"read", resource);
        @id("team") permit (principal in Owner::"team-web", action == Action::"request", resource in Owner::"team-dev");
        @id("not") forbid (principal, action == Action::"request", resource in Owner::"team-sec");"#);
    assert_eq!(may(&set, &operator("bea", &[Role::Approver, Role::Auditor]), Action::Read, Area::Keys).by, ["role"]);
    assert!(!may(&set, &operator("bea", &[Role::Approver]), Action::Read, Area::Keys).allowed);
    let [dev, sec] = ["team-dev", "team-sec"].map(|owner| owner.parse::<Line>().unwrap());
    let [web, ops] = [agent("planner", "team-web"), agent("planner", "team-ops")];
    let by = |agent, owner| {
        let facts = belay::domain::policy::ToolFacts { tool_owner: owner, ..facts("github") };
        set.decide(&crate::support::questions::about(agent, Action::Request, &facts)).by
    };
    assert_eq!(by(&web, Some(&dev)), ["team"]);
    assert_eq!(by(&web, Some(&sec)), ["not"]);
    assert!(by(&ops, Some(&dev)).is_empty() && by(&web, None).is_empty());
}

#[test]
fn policies_decide_in_many_threads_at_once() {
    let mut text = String::new();
    for at in 0..200 {
        writeln!(text, "permit (principal == Agent::\"a{at}\", action == Action::\"request\", resource);").unwrap();
    }
    let set = set(&text);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let set = &set;
            let asks = move || {
                for at in 0..400 {
                    let at = (at * 7 + thread * 31) % 400;
                    let agent = agent(&format!("a{at}"), "o");
                    let ruling = set.decide(&crate::support::questions::about(&agent, Action::Request, &facts("t")));
                    assert_eq!(ruling.allowed, at < 200, "{at}");
                }
            };
            std::thread::Builder::new().spawn_scoped(scope, asks).unwrap();
        }
    });
}
