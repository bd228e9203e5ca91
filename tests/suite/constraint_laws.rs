//! The laws of scopes with constraints, over few names and values that lie next to each other.

use std::cell::Cell;

use belay::domain::scope::{Args, Call, Scope, Scopes};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::property::check;

/// Values on both sides of every bound below.
const VALUES: &[&str] = &[
    "0", "1", "1.5", "2", "3", "null", "true", "[1]", "[1,2,3]", r#""""#, r#""a""#, r#""ab""#, r#""b""#, r#""aXb""#,
    r#""a/b""#, r#""a/b/c""#, r#""ab/c""#, r#""a/../b""#, r#""/a""#, r#""acme.com""#, r#""eu.acme.com""#,
    r#""evilacme.com""#, r#""a@acme.com""#, r#""a@eu.acme.com""#, r#""a@b@acme.com""#, r#""acme.com.""#,
];
const NUMBERS: &[&str] = &["0", "1", "1.5", "2"];
const PREFIXES: &[&str] = &["a", "a/b", "b", "/a"];
const SUFFIXES: &[&str] = &["acme.com", "@acme.com", "eu.acme.com", "@eu.acme.com"];
const GLOBS: &[&str] = &["*", "a*", "a?b", "*b", "?", "a*b", "*@*", "??*", "a*b*", "ab"];
const LENGTHS: &[&str] = &["0", "1", "2", "4"];

fn member(name: &'static str, values: &'static [&'static str]) -> impl Strategy<Value = Option<String>> {
    let quoted = !matches!(name, "min" | "max" | "max_len" | "eq");
    option::weighted(0.4, select(values)).prop_map(move |value| {
        value.map(|value| if quoted { format!("\"{name}\":\"{value}\"") } else { format!("\"{name}\":{value}") })
    })
}

fn constraint(optional: bool) -> impl Strategy<Value = String> {
    let listed = btree_set(select(VALUES), 1..4);
    let listed =
        listed.prop_map(|values| vec![Some(format!("\"in\":[{}]", values.into_iter().collect::<Vec<_>>().join(",")))]);
    let numbers = (member("min", NUMBERS), member("max", NUMBERS)).prop_map(|(min, max)| vec![min, max]);
    let places = (member("prefix", PREFIXES), member("suffix", SUFFIXES), member("max_len", LENGTHS));
    let places = places.prop_map(|(prefix, suffix, len)| vec![prefix, suffix, len]);
    let globs = btree_set(select(GLOBS), 1..3).prop_map(|globs| {
        vec![Some(format!(
            "\"glob\":[{}]",
            globs.iter().map(|glob| format!("\"{glob}\"")).collect::<Vec<_>>().join(",")
        ))]
    });
    let may = if optional { 0.4 } else { 0.0 };
    (prop_oneof![3 => listed, 3 => numbers, 3 => places, 2 => globs], proptest::bool::weighted(may)).prop_map(
        |(mut members, optional)| {
            members.push(optional.then(|| "\"optional\":true".to_owned()));
            format!("{{{}}}", members.into_iter().flatten().collect::<Vec<_>>().join(","))
        },
    )
}

fn scope_with(optional: bool) -> impl Strategy<Value = Scope> {
    let head = select(&["t:x@p", "t:x@p", "t:*@p", "t:x@*", "t:*@**"]);
    let args = btree_map(select(&["a", "b"]), constraint(optional), 0..3);
    (head, args, proptest::bool::weighted(0.4)).prop_filter_map("it allows nothing", |(head, args, closed)| {
        let args: Vec<String> = args.iter().map(|(name, constraint)| format!("\"{name}\":{constraint}")).collect();
        let closed = if closed { ",\"closed\":true" } else { "" };
        format!("{head}{{\"args\":{{{}}}{closed}}}", args.join(",")).parse().ok()
    })
}

fn scope() -> impl Strategy<Value = Scope> {
    scope_with(true)
}

fn sets() -> impl Strategy<Value = (Scopes, Scopes)> {
    let set =
        || vec(scope_with(false), 1..4).prop_filter_map("one is given twice", |scopes| Scopes::try_from(scopes).ok());
    (set(), set())
}

fn calls() -> Vec<Call> {
    let given = |name: &str, value: &Option<&str>| value.map(|value| format!("\"{name}\":{value}"));
    let all: Vec<Option<&str>> = VALUES.iter().copied().map(Some).chain([None]).collect();
    let few = [None, Some("1"), Some("2"), Some(r#""a""#), Some(r#""a/b""#), Some(r#""a@acme.com""#)];
    let mut pairs: Vec<_> = all.iter().flat_map(|a| few.iter().map(move |b| (*a, *b, None))).collect();
    pairs.extend(few.iter().flat_map(|a| all.iter().map(|b| (*a, *b, None))));
    pairs.extend(few.iter().map(|a| (*a, None, Some("1"))));
    let of = |(a, b, c): &(Option<&str>, Option<&str>, Option<&str>)| {
        let members: Vec<String> = [given("a", a), given("b", b), given("c", c)].into_iter().flatten().collect();
        let args = Args::parse(&format!("{{{}}}", members.join(","))).unwrap();
        [("x", "p"), ("y", "p/q")].map(|(action, path)| Call::parse("t", action, path).unwrap().with_args(args.clone()))
    };
    pairs.iter().flat_map(of).collect()
}

/// A scope that the first often covers: what it has in common with the second, or the second as it is.
fn child_of(parent: &Scope, other: Scope, narrow: bool) -> Scope {
    if narrow { parent.meet(&other).unwrap_or(other) } else { other }
}

/// Fails unless the count is at least this: a law that meets no case says nothing.
fn enough(name: &str, count: &Cell<u32>, least: u32) {
    assert!(count.get() >= least, "only {} {name}", count.get());
}

fn count(cell: &Cell<u32>) {
    cell.set(cell.get() + 1);
}

#[test]
fn a_constrained_scope_covers_itself_and_prints_as_it_was_read() {
    check(2000, &scope(), |scope| {
        prop_assert!(scope.covers(&scope));
        let text = scope.to_string();
        prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{}", text);
        prop_assert_eq!(text.parse::<Scope>().unwrap(), scope.clone());
        prop_assert_eq!(scope.meet(&scope), Some(scope.clone()));
        prop_assert_eq!(scope.inherit(&scope), Ok(scope.clone()));
        Ok(())
    });
}

#[test]
fn what_a_covered_scope_allows_with_its_arguments_the_covering_one_allows() {
    let (calls, covered, strangers, allowed) = (calls(), Cell::new(0), Cell::new(0), Cell::new(0));
    check(4000, &(scope(), scope(), any::<bool>()), |(parent, other, narrow)| {
        let child = child_of(&parent, other, narrow);
        if !parent.covers(&child) {
            return Ok(());
        }
        count(&covered);
        if !narrow {
            count(&strangers);
        }
        for call in calls.iter().filter(|call| child.allows(call)) {
            count(&allowed);
            prop_assert!(parent.allows(call), "{} covers {}, which alone allows {}", parent, child, call.args);
        }
        Ok(())
    });
    enough("covered pairs", &covered, 600);
    enough("covered pairs that were not made to be", &strangers, 60);
    enough("calls within a covered scope", &allowed, 5000);
}

#[test]
fn covering_with_constraints_is_transitive() {
    let chains = Cell::new(0);
    let values = (scope(), scope(), scope(), any::<bool>(), any::<bool>());
    check(4000, &values, |(top, one, two, first, second)| {
        let middle = child_of(&top, one, first);
        let bottom = child_of(&middle, two, second);
        if top.covers(&middle) && middle.covers(&bottom) {
            count(&chains);
            prop_assert!(top.covers(&bottom), "{} {} {}", top, middle, bottom);
        }
        Ok(())
    });
    enough("chains of three", &chains, 200);
}

#[test]
fn what_inherits_is_within_its_parent_and_allows_what_both_allow() {
    let (calls, inherited, refused) = (calls(), Cell::new(0), Cell::new(0));
    check(3000, &(scope(), scope(), 0..5usize), |(parent, child, first)| {
        match child.inherit(&parent) {
            Ok(found) => {
                count(&inherited);
                prop_assert!(parent.covers(&found), "{} {}", parent, found);
                for call in calls.iter().skip(first).step_by(5) {
                    let both = parent.allows(call) && child.allows(call);
                    prop_assert_eq!(found.allows(call), both, "{} of {}: {} at {}", child, parent, found, call.args);
                }
            }
            Err(widening) => {
                count(&refused);
                prop_assert!(!parent.covers(&child), "{} covers {}: {}", parent, child, widening);
            }
        }
        Ok(())
    });
    enough("that inherit", &inherited, 200);
    enough("that widen", &refused, 200);
}

#[test]
fn a_meet_allows_what_both_allow_and_an_intersection_is_never_missed() {
    let (calls, met, apart) = (calls(), Cell::new(0), Cell::new(0));
    check(3000, &(scope(), scope(), 0..5usize), |(one, two, first)| {
        let meet = one.meet(&two);
        prop_assert_eq!(&meet, &two.meet(&one));
        count(if meet.is_some() { &met } else { &apart });
        prop_assert!(meet.as_ref().is_none_or(|meet| one.covers(meet) && two.covers(meet)), "{} {}", one, two);
        for call in calls.iter().skip(first).step_by(5) {
            let both = one.allows(call) && two.allows(call);
            prop_assert!(!both || one.intersects(&two), "{} {} {}", one, two, call.args);
            // That an argument must be left out has a form only where no other may be given.
            let unsaid = meet.is_none() && ["a", "b"].iter().any(|name| call.args.get(name).is_none());
            let allowed = meet.as_ref().is_some_and(|meet| meet.allows(call));
            prop_assert!(allowed == both || (both && unsaid), "{} {} {}", one, two, call.args);
        }
        Ok(())
    });
    enough("that meet", &met, 300);
    enough("that are apart", &apart, 300);
}

#[test]
fn sets_within_narrowed_or_met_stay_within_both() {
    let (calls, within, narrowed) = (calls(), Cell::new(0), Cell::new(0));
    // One in five, each time others: a set has many more calls to be asked about than a scope.
    check(400, &(sets(), 0..5usize), |((parent, child), first)| {
        let calls = || calls.iter().skip(first).step_by(5);
        if let Ok(found) = parent.within(&child) {
            count(&within);
            prop_assert_eq!(parent.first_uncovered(&found), None);
            for call in calls().filter(|call| found.allow(call)) {
                prop_assert!(parent.allow(call) && child.allow(call), "{}", call.args);
            }
        }
        let (left, differences) = parent.narrow(&child);
        prop_assert_eq!(differences.is_empty(), left.as_ref() == Some(&child));
        let meet = parent.meet(&child);
        for found in [&left, &meet].into_iter().flatten() {
            count(&narrowed);
            prop_assert_eq!(parent.first_uncovered(found), None);
            prop_assert_eq!(child.first_uncovered(found), None);
        }
        for call in calls() {
            let both = parent.allow(call) && child.allow(call);
            prop_assert_eq!(left.as_ref().is_some_and(|left| left.allow(call)), both, "narrowed at {}", call.args);
            prop_assert_eq!(meet.as_ref().is_some_and(|meet| meet.allow(call)), both, "met at {}", call.args);
            prop_assert!(!both || parent.intersects(&child), "{}", call.args);
            prop_assert_eq!(parent.why_not(call) == "it is allowed", parent.allow(call));
        }
        Ok(())
    });
    enough("sets within", &within, 30);
    enough("sets narrowed", &narrowed, 60);
}
