//! What it means for one scope to cover another, over scopes and calls whose wildcards meet.

use belay::domain::scope::{Call, Scope, Scopes};
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::model;
use crate::support::property::check;

/// Few names, so that patterns meet, and twins by text: `x` and `xx`, `p` and `p.`.
const ACTIONS: [&str; 9] = ["x", "xx", "y", "x.y", "x.y.x", "*", "x.*", "xx.*", "x.y.*"];
const PARTS: [&str; 4] = ["p", "p.", "q", "*"];
const LAST: [&str; 5] = ["p", "p.", "q", "*", "**"];

fn scope() -> impl Strategy<Value = Scope> {
    let path = (proptest::collection::vec(select(&PARTS), 0..3), select(&LAST));
    (select(&["a", "b"]), select(&ACTIONS), path).prop_map(|(tool, action, (mut path, last))| {
        path.push(last);
        format!("{tool}:{action}@{}", path.join("/")).parse().unwrap()
    })
}

/// All calls over the names of the patterns and one, `n`, that is in none.
fn calls() -> Vec<Call> {
    let paths = |longer: &[String]| -> Vec<String> {
        longer.iter().flat_map(|path| ["p", "p.", "q", "n"].map(|part| format!("{path}/{part}"))).collect()
    };
    let one = ["p", "p.", "q", "n"].map(str::to_owned);
    let two = paths(&one);
    let all = [&one[..], &two, &paths(&two)].concat();
    let of = |tool, action| all.iter().map(move |path| Call::parse(tool, action, path).unwrap());
    let actions = ["x", "xx", "y", "x.y", "x.y.x", "n"];
    ["a", "b"].iter().flat_map(|tool| actions.iter().flat_map(move |action| of(tool, action))).collect()
}

/// A scope that the given one often covers: some of its wildcards are filled in.
fn narrowed(scope: &Scope, choices: &[u8]) -> Scope {
    let mut choices = choices.iter().copied().cycle();
    let action = match (&*scope.action().to_string(), choices.next()) {
        ("*", Some(0..100)) => "x.*".to_owned(),
        ("*", Some(100..200)) => "y".to_owned(),
        (below, Some(0..128)) if below.ends_with(".*") => below.replace('*', "y"),
        (as_it_is, _) => as_it_is.to_owned(),
    };
    let fill = |part: &str| match (part, choices.next()) {
        ("*", Some(0..150)) => "p".to_owned(),
        ("**", Some(0..80)) => "q".to_owned(),
        ("**", Some(80..160)) => "*/**".to_owned(),
        (as_it_is, _) => as_it_is.to_owned(),
    };
    let path: Vec<String> = scope.resource().to_string().split('/').map(fill).collect();
    format!("{}:{action}@{}", scope.tool(), path.join("/")).parse().unwrap()
}

#[test]
fn a_scope_covers_itself_and_prints_as_it_was_read() {
    check(1000, &scope(), |scope| {
        prop_assert!(scope.covers(&scope));
        prop_assert_eq!(scope.to_string().parse::<Scope>().unwrap(), scope.clone());
        let json = serde_json::to_string(&scope).unwrap();
        prop_assert_eq!(serde_json::from_str::<Scope>(&json).unwrap(), scope);
        Ok(())
    });
}

#[test]
fn what_a_covered_scope_allows_the_covering_one_allows() {
    let met = std::cell::Cell::new(0);
    let calls = calls();
    let values = (scope(), scope(), any::<bool>(), any::<[u8; 8]>());
    check(2000, &values, |(parent, other, narrow, choices)| {
        let child = if narrow { narrowed(&parent, &choices) } else { other };
        for call in calls.iter().filter(|call| parent.covers(&child) && child.allows(call)) {
            met.set(met.get() + 1);
            prop_assert!(parent.allows(call), "{} covers {}, which alone allows {}", parent, child, call);
        }
        Ok(())
    });
    assert!(met.get() > 500, "only {} calls were within a covered scope", met.get());
}

#[test]
fn covering_is_transitive() {
    let met = std::cell::Cell::new(0);
    let values = (scope(), any::<[u8; 8]>(), any::<[u8; 8]>());
    check(2000, &values, |(top, first, second)| {
        let middle = narrowed(&top, &first);
        let bottom = narrowed(&middle, &second);
        if top.covers(&middle) && middle.covers(&bottom) {
            met.set(met.get() + 1);
            prop_assert!(top.covers(&bottom), "{} {} {}", top, middle, bottom);
        }
        Ok(())
    });
    assert!(met.get() > 100, "only {} chains of three", met.get());
}

/// Every pair of a universe in which no list of names exhausts a wildcard: there, covering *is* inclusion.
#[test]
fn over_a_whole_universe_covering_is_inclusion() {
    let patterns = model::patterns();
    let calls: Vec<Call> = model::universe().iter().map(|(t, a, r)| Call::parse(t, a, r).unwrap()).collect();
    let scopes: Vec<Scope> = patterns.iter().map(|text| text.parse().unwrap()).collect();
    let sets: Vec<model::Calls> = patterns.iter().map(|text| model::calls(text)).collect();
    let (mut yes, mut no) = (0, 0);
    for (scope, set) in scopes.iter().zip(&sets) {
        for (at, call) in calls.iter().enumerate() {
            assert_eq!(scope.allows(call), set.contains(&at), "{scope} {call}");
        }
        for (other, within) in scopes.iter().zip(&sets) {
            let covers = scope.covers(other);
            assert_eq!(covers, within.is_subset(set), "{scope} {other}");
            *(if covers { &mut yes } else { &mut no }) += 1;
        }
    }
    assert!(yes > 200 && no > 1000, "{yes} covered, {no} not");
}

/// A union may include a scope that none of its members covers: it is refused, and may be asked for in parts.
#[test]
fn a_set_covers_only_by_one_of_its_scopes() {
    let parent = Scopes::parse(&["pg:select@*", "pg:select@*/**"]).unwrap();
    let whole = Scopes::parse(&["pg:select@**"]).unwrap();
    assert_eq!(parent.first_uncovered(&whole).unwrap().to_string(), "pg:select@**");
    assert!(parent.first_uncovered(&Scopes::parse(&["pg:select@db/*", "pg:select@db"]).unwrap()).is_none());
}
