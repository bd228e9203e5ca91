//! What the policies that Belay ships answer: who × what × how it stands, held against a table that was read and agreed on.

use std::fmt::Write as _;
use std::path::Path;

use belay::broker::Readers;
use belay::cedar::{Set, cases};
use belay::domain::agent::Role;
use belay::domain::catalog::{Risk, Sensitivity};
use belay::domain::name::Line;
use belay::domain::policy::{Action, Area, Mode, Object, Outcome, Principal, Question, Right, ToolFacts, step_up};
use belay::domain::scope::Scope;
use belay::ledger::Bodies as _;

use crate::support::questions::{agent, facts, may, operator};

/// A change of what the production policies decide shows here, line by line. `BELAY_AGREE=1` writes it anew.
const AGREED: &str = include_str!("policy_matrix.txt");

const AREAS: [Area; 10] = [
    Area::Agents,
    Area::Operators,
    Area::Keys,
    Area::Catalog,
    Area::Policy,
    Area::Grants,
    Area::Suspensions,
    Area::State,
    Area::Audit,
    Area::Decisions,
];

type Change = fn(&mut ToolFacts<'_>);

/// How a request or call stands, by what differs from a catalogued read of something public.
const SITUATIONS: [(&str, Change); 28] = [
    ("read public", |_| {}),
    ("read confidential", |facts| facts.sensitivity = Sensitivity::Confidential),
    ("read restricted", |facts| facts.sensitivity = Sensitivity::Restricted),
    ("read restricted, 1 approved", |facts| (facts.sensitivity, facts.approvals) = (Sensitivity::Restricted, 1)),
    ("write internal", |facts| (facts.risk, facts.sensitivity) = (Risk::Write, Sensitivity::Internal)),
    ("destructive", |facts| facts.risk = Risk::Destructive),
    ("destructive, 1 approved", |facts| (facts.risk, facts.approvals) = (Risk::Destructive, 1)),
    ("admin", |facts| facts.risk = Risk::Admin),
    ("admin restricted", |facts| (facts.risk, facts.sensitivity) = (Risk::Admin, Sensitivity::Restricted)),
    ("admin restricted, 1 approved", |facts| {
        (facts.risk, facts.sensitivity, facts.approvals) = (Risk::Admin, Sensitivity::Restricted, 1);
    }),
    ("admin restricted, 2 approved", |facts| {
        (facts.risk, facts.sensitivity, facts.approvals) = (Risk::Admin, Sensitivity::Restricted, 2);
    }),
    ("uncatalogued", |facts| uncatalogued(facts)),
    ("uncatalogued, 4 approved", |facts| {
        uncatalogued(facts);
        facts.approvals = 4;
    }),
    ("beside something unbounded", |facts| facts.radius.unbounded = true),
    ("task reaches 1000", |facts| facts.unions.task.score = 1000),
    ("task reaches 1001", |facts| facts.unions.task.score = 1001),
    ("task reaches 10001", |facts| facts.unions.task.score = 10001),
    ("agent reaches 1000", |facts| facts.unions.agent.score = 1000),
    ("agent reaches 1001", |facts| facts.unions.agent.score = 1001),
    ("agent reaches 10001", |facts| facts.unions.agent.score = 10001),
    ("subject reaches 1000", |facts| facts.unions.subject.score = 1000),
    ("subject reaches 1001", |facts| facts.unions.subject.score = 1001),
    ("subject reaches 10001", |facts| facts.unions.subject.score = 10001),
    ("owner reaches 10001", |facts| facts.unions.owner.score = 10001),
    ("depth 8", |facts| (facts.depth, facts.mode) = (8, Mode::Narrowed)),
    ("depth 9", |facts| (facts.depth, facts.mode) = (9, Mode::Narrowed)),
    ("own, depth 9", |facts| (facts.depth, facts.mode) = (9, Mode::Own)),
    ("own, for a subject, unattested", |facts| {
        (facts.depth, facts.mode, facts.subject, facts.attestation) = (1, Mode::Own, Some("ada"), "none");
    }),
];

fn uncatalogued(facts: &mut ToolFacts<'_>) {
    (facts.catalogued, facts.tool_owner) = (false, None);
    (facts.risk, facts.sensitivity, facts.radius.unbounded) = (Risk::Admin, Sensitivity::Restricted, true);
}

fn word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Allowed(_) => "allow".to_owned(),
        Outcome::Needs(approvals, _) => format!("needs {approvals}"),
        Outcome::Denied(_, errors) => {
            assert!(errors.is_empty(), "{errors:?}");
            "-".to_owned()
        }
    }
}

fn matrix(set: &Set) -> String {
    let planner = agent("planner", "team-web");
    let mut operators = vec![("no role", operator("nobody", &[]))];
    operators.extend(
        Role::ALL
            .iter()
            .filter(|role| role.as_str() != "break_glass")
            .map(|role| (role.as_str(), operator("somebody", &[*role]))),
    );
    let mut askers = vec![("agent", Principal::Agent(&planner))];
    askers.extend(operators.iter().map(|(name, operator)| (*name, Principal::Operator(operator))));

    let mut text = String::new();
    let mut line = |name: String, words: Vec<String>| {
        let words: String = words.iter().map(|word| format!("{word:<10}")).collect();
        writeln!(text, "{}", format!("{name:<46}{words}").trim_end()).unwrap();
    };
    line(String::new(), askers.iter().map(|(name, _)| (*name).to_owned()).collect());
    for action in [Action::Request, Action::Delegate, Action::Invoke, Action::Approve] {
        for (situation, change) in SITUATIONS {
            let owner: Line = "team-dev".parse().unwrap();
            let mut facts = ToolFacts { tool_owner: Some(&owner), ..facts("github") };
            change(&mut facts);
            let ask = |principal| {
                let question = Question { principal, action, object: Object::Tool(Box::new(facts.clone())) };
                word(&step_up(set, &question))
            };
            line(format!("{action}: {situation}"), askers.iter().map(|(_, asker)| ask(*asker)).collect());
        }
    }
    for action in [Action::Revoke, Action::Read, Action::Administer] {
        for area in AREAS {
            let ask =
                |principal| word(&step_up(set, &Question { principal, action, object: Object::Area(area, None) }));
            line(format!("{action} {area}"), askers.iter().map(|(_, asker)| ask(*asker)).collect());
        }
    }
    text
}

#[test]
fn the_default_policies_decide_as_was_agreed() {
    let found = matrix(&Set::production().unwrap());
    if std::env::var("BELAY_AGREE").is_ok() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/policy_matrix.txt");
        std::fs::write(path, &found).unwrap();
        return;
    }
    for (agreed, found) in AGREED.lines().zip(found.lines()) {
        assert_eq!(agreed, found);
    }
    assert_eq!(AGREED, found, "BELAY_AGREE=1 writes the table anew");
}

#[test]
fn the_default_policies_give_operators_the_rights_that_they_had() {
    for set in [Set::production().unwrap(), Set::dev().unwrap()] {
        for right in Right::ALL {
            let (action, area) = right.question();
            for role in Role::ALL {
                let carriers: &[Role] = match right {
                    Right::ManageAgents | Right::ManageOperators | Right::ManageKeys => &[Role::Admin],
                    Right::ManageCatalog | Right::ManagePolicy => &[Role::Admin],
                    Right::ManagePeps | Right::ManageBackends => &[Role::Admin],
                    Right::Suspend | Right::Revoke => &[Role::Admin, Role::Responder],
                    Right::ReadAudit => &[Role::Admin, Role::Responder, Role::Auditor],
                    Right::Read | Right::Ask => &[Role::Admin, Role::Approver, Role::Responder, Role::Auditor],
                };
                let expected = carriers.contains(&role);
                let ruling = may(&set, &operator("somebody", &[role]), action, area);
                assert_eq!(ruling.allowed, expected, "{role}: {right:?} {ruling:?}");
                assert!(ruling.errors.is_empty() && ruling.by.len() == usize::from(expected), "{ruling:?}");
            }
            assert!(!may(&set, &operator("somebody", &[]), action, area).allowed);
        }
    }
}

#[test]
fn a_development_broker_asks_about_what_the_catalog_calls_dangerous() {
    let set = Set::dev().unwrap();
    let planner = agent("planner", "team-web");
    let owner: Line = "team-dev".parse().unwrap();
    for action in [Action::Request, Action::Delegate, Action::Invoke] {
        for (situation, change) in SITUATIONS {
            for owner in [None, Some(&owner)] {
                let mut facts = ToolFacts { tool_owner: owner, ..facts("github") };
                change(&mut facts);
                let dangerous = facts.tool_owner.is_some() && facts.risk >= Risk::Destructive && facts.approvals == 0;
                let question =
                    Question { principal: Principal::Agent(&planner), action, object: Object::Tool(Box::new(facts)) };
                let expected = if dangerous { "needs 1" } else { "allow" };
                assert_eq!(word(&step_up(&set, &question)), expected, "{action} {situation} {owner:?}");
            }
        }
    }
}

#[test]
fn a_pattern_that_no_catalogued_action_covers_counts_as_admin() {
    let catalog = Readers
        .catalog(
            br#"
[[tool]]
name = "github"
owner = "team-dev"
action = [{ name = "issues.*", risk = "write" }, { name = "branch.delete", risk = "destructive" }]
[[resource]]
path = "github:repo/acme/*"
sensitivity = "internal"
"#,
        )
        .unwrap();
    let planner = agent("planner", "team-web");
    let (set, dev) = (Set::production().unwrap(), Set::dev().unwrap());
    for (scope, production, development) in [
        ("github:issues.read@repo/acme/web", "allow", "allow"),
        ("github:branch.delete@repo/acme/web", "needs 1", "needs 1"),
        ("github:branch.delete@**", "-", "needs 1"),
        ("github:branch.*@repo/acme/web", "-", "needs 1"),
        ("github:*@repo/acme/web", "-", "needs 1"),
        ("github:*@**", "-", "needs 1"),
        ("github:issues.read@**", "-", "allow"),
        ("leftpad:publish@**", "-", "allow"),
    ] {
        let scope: Scope = scope.parse().unwrap();
        let about = catalog.about(scope.tool(), scope.action(), scope.resource());
        let mut facts = ToolFacts { tool_owner: about.owner, ..facts(scope.tool()) };
        (facts.risk, facts.sensitivity, facts.catalogued) = (about.risk, about.sensitivity, about.catalogued);
        let object = Object::Tool(Box::new(facts));
        let question = Question { principal: Principal::Agent(&planner), action: Action::Request, object };
        assert_eq!(word(&step_up(&set, &question)), production, "{scope}");
        assert_eq!(word(&step_up(&dev, &question)), development, "{scope}");
    }
}

#[test]
fn the_shipped_sets_are_the_files_of_deploy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/policies");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    for (directory, set) in [(root.clone(), Set::production().unwrap()), (root.join("dev"), Set::dev().unwrap())] {
        let mut files: Vec<(String, String)> = Vec::new();
        if directory.ends_with("dev") {
            files.push(("operators.cedar".to_owned(), read("operators.cedar")));
        }
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|kind| kind == "cedar") {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                files.push((name, std::fs::read_to_string(path).unwrap()));
            }
        }
        files.sort();
        assert_eq!(set.files(), files);
        // Who starts from them sees a name for each, not a number.
        assert!(set.ids().all(|id| !id.contains('.')), "{:?}", set.ids().collect::<Vec<_>>());
    }
}

#[test]
fn the_shipped_cases_pass() {
    let text = include_str!("../../deploy/policies/tests.toml");
    let results = cases::run(&Set::production().unwrap(), text).unwrap();
    assert!(results.len() >= 10);
    for result in &results {
        assert!(result.passed, "{result:?}");
    }
    // The same cases tell another set from this one.
    let failed: Vec<_> =
        cases::run(&Set::dev().unwrap(), text).unwrap().into_iter().filter(|case| !case.passed).collect();
    assert!(failed.iter().any(|case| case.expected == "approvals:2" && case.got == "approvals:1"), "{failed:?}");
    assert!(failed.iter().any(|case| case.by == ["dev-agents-request-anything"]), "{failed:?}");
}

#[test]
fn the_examples_in_comments_are_policies() {
    let mut policies = 0;
    for (name, text) in Set::production().unwrap().files() {
        let examples: Vec<&str> = text.split("\n\n").filter(|part| part.contains("// @id")).collect();
        for example in examples {
            let from = example.find("// @id").unwrap();
            let code: String =
                example[from..].lines().map(|line| format!("{}\n", line.trim_start_matches("//"))).collect();
            let set = Set::load(&[(name.clone(), code.clone())]);
            assert!(set.is_ok(), "{name}: {set:?}\n{code}");
            policies += 1;
        }
    }
    assert!(policies >= 3);
}

#[test]
fn a_case_that_says_nothing_is_refused() {
    let set = Set::production().unwrap();
    let case = |more: &str| {
        format!("[[case]]\nname = \"x\"\nprincipal = \"agent:a\"\naction = \"request\"\nexpect = \"deny\"\n{more}")
    };
    assert!(cases::run(&set, &case("scope = \"a:b@c\"")).is_ok());
    let wrong = [
        (String::new(), "no [[case]]"),
        ("[[case]]".to_owned(), "line 1"),
        (case("colour = 1"), "colour"),
        (case(""), "scope or area"),
        (case("scope = \"a:b@c\"\narea = \"state\""), "scope or area"),
        (case("scope = \"a:b\""), "line"),
        (case("scope = \"a:b@c\"\nargs = { at = 2026-01-01 }"), "no dates"),
        (case("scope = \"a:b@c\"\nargs = { n = nan }"), "number"),
        (case("scope = \"a:b@c\"").replace("deny", "approvals:5"), "approvals:5"),
        (case("scope = \"a:b@c\"").replace("agent:a", "planner"), "agent:NAME"),
    ];
    for (text, what) in wrong {
        let error = cases::run(&set, &text).unwrap_err().message;
        assert!(error.contains(what) && error.lines().count() == 1, "{text}\n{error}");
    }
}
