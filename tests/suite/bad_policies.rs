//! Policies that are wrong: refused whole, in one line that says where; what fails when it is asked denies.

use belay::cedar::{MAX_BYTES, Set};
use belay::domain::agent::Role;
use belay::domain::policy::{Action, Area, Policies as _, Ruling};
use belay::domain::scope::{Args, Decimal, Value};

use crate::support::questions::{about, agent, facts, may, operator, set};

fn load(files: &[(&str, &str)]) -> Result<Set, String> {
    let files: Vec<_> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    Set::load(&files).map_err(|error| error.message)
}

/// The message that a file is refused with, which is one line.
fn refusal(text: &str) -> String {
    let message = load(&[("bad.cedar", text)]).unwrap_err();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

const GOOD: &str = "permit (principal, action, resource);\n";

#[test]
fn a_set_without_a_policy_is_refused() {
    for files in [&[][..], &[("a.cedar", "")], &[("a.cedar", "// nothing\n"), ("b.cedar", " \n")]] {
        let message = load(files).unwrap_err();
        assert!(message.contains("denies everything"), "{message}");
    }
}

#[test]
fn one_wrong_file_of_many_refuses_them_all() {
    let many: Vec<(String, String)> = (0..200).map(|at| (format!("{at:03}.cedar"), GOOD.to_owned())).collect();
    assert_eq!(Set::load(&many).unwrap().count(), 200);
    let mut wrong = many;
    wrong[199].1 = format!("{GOOD}{GOOD}permit (principal, action resource);\n");
    let message = Set::load(&wrong).unwrap_err().message;
    assert!(message.starts_with("199.cedar:3: "), "{message}");
    wrong[199].1 = format!("{GOOD}permit (principal, action");
    let message = Set::load(&wrong).unwrap_err().message;
    assert!(message.starts_with("199.cedar:2: "), "{message}");
}

#[test]
fn what_the_schema_does_not_know_is_refused_where_it_stands() {
    let request = r#"principal, action == Action::"request", resource"#;
    let wrong = [
        (format!("{GOOD}permit ({request})\nwhen {{ context.colour == \"red\" }};"), "bad.cedar:3: ", "colour"),
        (format!("{GOOD}permit (principal, action == Action::\"borrow\", resource);"), "bad.cedar:2: ", "borrow"),
        (format!("permit ({request}) when {{ principal.salary > 1 }};"), "bad.cedar:1: ", "salary"),
        (format!("permit ({request}) when {{ context.destination == \"x\" }};"), "bad.cedar:1: ", "destination"),
        (format!("permit ({request}) when {{ context.args.getTag(\"x\") == \"x\" }};"), "bad.cedar:1: ", "x"),
        (format!("permit ({request}) when {{ context.approvals == \"1\" }};"), "bad.cedar:1: ", ""),
        (format!("permit ({request}) when {{ principal in Team::\"a\" }};"), "bad.cedar:1: ", "Team"),
        // What can never apply is a rule that somebody believes in.
        ("forbid (principal is Agent, action == Action::\"approve\", resource);".to_owned(), "bad.cedar:1: ", ""),
        (format!("forbid ({request}) when {{ context.catalogued && false }};"), "bad.cedar:1: ", ""),
        // Everything of every action: `approvals` is not there when an operator reads.
        (
            "permit (principal, action, resource) when { context.approvals > 0 };".to_owned(),
            "bad.cedar:1: ",
            "approvals",
        ),
    ];
    for (text, place, what) in wrong {
        let message = refusal(&text);
        assert!(message.starts_with(place) && message.contains(what), "{text}\n{message}");
    }
}

#[test]
fn an_optional_fact_may_be_read_once_it_was_asked_for() {
    let text = r#"permit (principal, action == Action::"invoke", resource)
        when { context has destination && context.destination like "https://*.example"
            && context.args.hasTag("x") && context.args.getTag("x") == "y" };"#;
    assert!(load(&[("good.cedar", text)]).is_ok());
}

#[test]
fn templates_are_refused() {
    let message = refusal(&format!("{GOOD}permit (principal == ?principal, action, resource);"));
    assert!(message.contains("policy 2 is a template"), "{message}");
}

#[test]
fn each_policy_has_one_id_of_its_own() {
    let one = "@id(\"same\") permit (principal, action, resource);\n";
    let message = load(&[("a.cedar", one), ("b.cedar", one)]).unwrap_err();
    assert!(message.contains("b.cedar") && message.contains("`same`") && message.contains("a.cedar"), "{message}");
    assert!(refusal(&format!("{one}{one}")).contains("`same`"));
    // A name that was given is not another's by its place.
    assert!(refusal(&format!("{GOOD}@id(\"bad.1\") {GOOD}")).contains("`bad.1`"));
    for id in ["", " ", "a\\u{202e}b", &"x".repeat(65)] {
        refusal(&format!("@id(\"{id}\") {GOOD}"));
    }
    assert_eq!(
        load(&[("a.cedar", &format!("{GOOD}{one}{GOOD}"))]).unwrap().ids().collect::<Vec<_>>(),
        ["a.1", "a.3", "same"]
    );
    let message = load(&[("a.cedar", GOOD), ("a.cedar", GOOD)]).unwrap_err();
    assert!(message.contains("`a.cedar` is given twice"), "{message}");
}

#[test]
fn what_is_too_long_is_refused_before_it_is_read() {
    // Parsing this would take minutes, and comments count like all else.
    let long = GOOD.repeat(100_000_000 / GOOD.len());
    let started = std::time::Instant::now();
    let message = load(&[("a.cedar", GOOD), ("z.cedar", &long)]).unwrap_err();
    assert!(message.contains(&MAX_BYTES.to_string()), "{message}");
    assert!(started.elapsed().as_secs() < 2, "{:?}", started.elapsed());
    let blob = serde_json::to_vec(&[("z.cedar", &long)]).unwrap();
    assert!(Set::from_bytes(&blob).unwrap_err().message.contains(&MAX_BYTES.to_string()));
}

#[test]
fn what_is_nested_deeply_ends_nothing() {
    let agent = agent("planner", "team-web");
    let shapes = [
        ("(", "true", ")"),
        ("!", "true", ""),
        ("[", "1", "]"),
        ("-", "1", ""),
        ("{a: ", "1", "}"),
        ("true && ", "true", ""),
        ("false || ", "true", ""),
        ("1 + ", "1", ""),
        ("if true then true else ", "true", ""),
        ("if ", "true", " then true else true"),
        ("!(", "true", ")"),
        ("context.args", ".a", ""),
        ("(true && ", "true", ")"),
        ("\"a\" like \"", "*", "\" && true"),
    ];
    let mut accepted = 0;
    for (open, middle, close) in shapes {
        for depth in [2, 8, 20, 31, 60, 127, 250, 10_000, 100_000] {
            let text = format!("{}{middle}{}", open.repeat(depth), close.repeat(depth));
            let text = format!("permit (principal, action == Action::\"request\", resource) when {{ {text} }};");
            // Accepted or refused, but this process goes on.
            if let Ok(set) = load(&[("deep.cedar", &text)]) {
                accepted += 1;
                set.decide(&about(&agent, Action::Request, &facts("ls")));
                set.decide_whole(&about(&agent, Action::Request, &facts("ls")));
            }
        }
    }
    assert!(accepted > 10, "{accepted}");
    let deep = format!("{GOOD}// ((((\npermit (principal, action, resource) when {{\n{}true", "(".repeat(100));
    assert!(refusal(&deep).starts_with("bad.cedar:4: brackets"), "{}", refusal(&deep));
    let text = format!("permit (principal, action, resource) when {{ \"\\\"{}\" == \"\" || true }};", "(".repeat(100));
    assert!(load(&[("string.cedar", &text)]).is_ok(), "what stands in a string is not nested");
}

#[test]
fn a_forbid_wins_over_a_permit_and_is_named() {
    let set = set(r#"
        @id("yes") permit (principal, action == Action::"request", resource);
        @id("no") forbid (principal, action, resource == Tool::"rm");
        @id("never") forbid (principal, action == Action::"request", resource) when { context.depth > 3 };"#);
    let agent = agent("planner", "team-web");
    let rm = set.decide(&about(&agent, Action::Request, &facts("rm")));
    assert_eq!(rm, Ruling { allowed: false, by: vec!["no".to_owned()], errors: vec![] });
    let ls = set.decide(&about(&agent, Action::Request, &facts("ls")));
    assert_eq!(ls, Ruling { allowed: true, by: vec!["yes".to_owned()], errors: vec![] });
    // Nobody permits it: nobody is named.
    let invoke = set.decide(&about(&agent, Action::Invoke, &facts("ls")));
    assert_eq!(invoke, Ruling::default());
}

#[test]
fn a_policy_that_fails_when_it_is_asked_denies() {
    let set = set(r#"
        @id("yes") permit (principal, action == Action::"request", resource);
        @id("overflows") forbid (principal, action == Action::"request", resource)
            when { context.seconds + 9223372036854775807 < 0 };
        @id("nobody") forbid (principal, action == Action::"delegate", resource)
            when { Agent::"nobody".owner == "x" };
        @id("too") permit (principal, action == Action::"delegate", resource);"#);
    let agent = agent("planner", "team-web");
    for (action, failed) in [(Action::Request, "overflows"), (Action::Delegate, "nobody")] {
        let ruling = set.decide(&about(&agent, action, &facts("ls")));
        assert!(!ruling.allowed && ruling.by.is_empty(), "{ruling:?}");
        assert_eq!(ruling.errors.len(), 1, "{ruling:?}");
        assert!(ruling.errors[0].starts_with(&format!("policy `{failed}`: ")), "{ruling:?}");
    }
}

#[test]
fn a_number_that_does_not_fit_denies_if_some_policy_reads_numbers() {
    let set = set(r#"
        @id("any") permit (principal, action == Action::"invoke", resource);
        @id("small") forbid (principal, action == Action::"invoke", resource == Tool::"bank")
            when { context.numbers.hasTag("amount") && context.numbers.getTag("amount").greaterThan(decimal("100.0")) };"#);
    let agent = agent("payer", "team-finance");
    let rule = |tool: &str, amount: &str| {
        let args: Args = [
            ("amount".to_owned(), Value::Number(Decimal::parse(amount).unwrap())),
            ("note".to_owned(), Value::Text("1e99".to_owned())),
        ]
        .into_iter()
        .collect();
        let mut facts = facts(tool);
        facts.args = Some(&args);
        let question = about(&agent, Action::Invoke, &facts);
        let ruling = set.decide(&question);
        assert_eq!(ruling, set.decide_whole(&question));
        ruling
    };
    assert!(rule("bank", "98.7").allowed && rule("bank", "100.0000").allowed);
    assert_eq!(rule("bank", "100.0001").by, ["small"]);
    for amount in ["99.00001", "-1e15", "1e30", "1e-30"] {
        let ruling = rule("bank", amount);
        assert!(!ruling.allowed && ruling.by.is_empty(), "{amount} {ruling:?}");
        assert!(
            ruling.errors.len() == 1 && ruling.errors[0].starts_with("argument `amount` does not fit"),
            "{ruling:?}"
        );
        assert!(!ruling.errors[0].contains(amount), "what is refused is not repeated");
        assert!(rule("shop", amount).allowed, "{amount}: nobody reads numbers there");
    }
}

#[test]
fn a_set_that_was_kept_reads_back_the_same() {
    let files = [("b.cedar".to_owned(), GOOD.to_owned()), ("a.cedar".to_owned(), format!("// é\n{GOOD}"))];
    let set = Set::load(&files).unwrap();
    assert_eq!(set.files().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a.cedar", "b.cedar"]);
    let again = Set::from_bytes(&set.to_bytes()).unwrap();
    assert_eq!((again.files(), again.to_bytes()), (set.files(), set.to_bytes()));
    let swapped = Set::load(&[files[1].clone(), files[0].clone()]).unwrap();
    assert_eq!(swapped.to_bytes(), set.to_bytes(), "whatever order they came in");
    for wrong in [&b""[..], b"[]", b"{}", b"[[\"a\"]]", b"\xff"] {
        assert!(Set::from_bytes(wrong).is_err());
    }
}

#[test]
fn empty_roles_may_do_nothing() {
    let set = Set::production().unwrap();
    for action in [Action::Read, Action::Revoke, Action::Administer] {
        assert!(!may(&set, &operator("nobody", &[]), action, Area::State).allowed);
    }
    assert!(may(&set, &operator("somebody", &[Role::Auditor]), Action::Read, Area::State).allowed);
}
