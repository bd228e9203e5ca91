//! The closure and its unions, against a reader of catalogs that knows no patterns: it does every call there is.

use std::collections::BTreeSet;

use belay::domain::catalog::{Catalog, Draft, DraftAction, DraftEdge, DraftResource, DraftTool, Risk, Sensitivity};
use belay::domain::radius::{Figures, More, Reach, Union};
use belay::domain::scope::Scopes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::property::check;

/// Few names, so that patterns meet. In the universe, `n` stands for all names that no pattern has.
const TOOLS: [&str; 2] = ["a", "b"];
const PATTERNS: [&str; 6] = ["x", "y", "x.y", "*", "x.*", "x.y.*"];
const NAMES: [&str; 7] = ["x", "y", "n", "x.y", "x.n", "x.y.n", "n.x"];
const PARTS: [&str; 3] = ["p", "q", "n"];

type Done = BTreeSet<(&'static str, &'static str, String)>;

/// Every path of one to four parts: patterns here have at most three, and one more stands for every longer tail.
fn paths() -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut last = PARTS.map(str::to_owned).to_vec();
    for _ in 0..3 {
        let next = last.iter().flat_map(|path| PARTS.map(|part| format!("{path}/{part}"))).collect();
        all.append(&mut std::mem::replace(&mut last, next));
    }
    all.extend(last);
    all
}

fn is_action(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(below) => name.starts_with(below) && name.len() > below.len(),
        None => name == pattern,
    }
}

fn is_path(pattern: &str, path: &str) -> bool {
    match (pattern.split_once('/'), path.split_once('/')) {
        _ if pattern == "**" => true,
        (None, None) => pattern == "*" || pattern == path,
        (Some((first, pattern)), Some((part, path))) => (first == "*" || first == part) && is_path(pattern, path),
        _ => false,
    }
}

/// All calls that `tool:action@path` or, with any action, `tool:path` means.
fn calls(text: &str, paths: &[String]) -> Done {
    let (tool, rest) = text.split_once(':').unwrap();
    let (action, pattern) = rest.split_once('@').unwrap_or(("*", rest));
    let tool = TOOLS.into_iter().find(|known| *known == tool).unwrap();
    let actions = NAMES.into_iter().filter(|name| is_action(action, name));
    let of = |name: &'static str| {
        paths.iter().filter(|path| is_path(pattern, path)).map(move |path| (tool, name, path.clone()))
    };
    actions.flat_map(of).collect()
}

/// For each resource after how many edges it is reached first, by doing every call and opening what that opens.
fn hops(draft: &Draft, scopes: &[String], paths: &[String]) -> Vec<(String, u32)> {
    let mut done: Done = scopes.iter().flat_map(|scope| calls(scope, paths)).collect();
    let resources: Vec<(&String, Done)> =
        draft.resource.iter().map(|resource| (&resource.path, calls(&resource.path, paths))).collect();
    let edges: Vec<(Done, Done)> =
        draft.edge.iter().map(|edge| (calls(&edge.from, paths), calls(&edge.to, paths))).collect();
    let mut found: Vec<(String, u32)> = Vec::new();
    for hop in 0.. {
        let before = done.len();
        for (path, means) in &resources {
            if !means.is_disjoint(&done) && !found.iter().any(|(known, _)| known == *path) {
                found.push(((*path).clone(), hop));
            }
        }
        let opened = edges.iter().filter(|(from, _)| !from.is_disjoint(&done));
        let opened: Vec<_> = opened.flat_map(|(_, to)| to.iter().cloned()).collect();
        done.extend(opened);
        if done.len() == before {
            break;
        }
    }
    found.sort();
    found
}

fn path() -> impl Strategy<Value = String> {
    let last = select(&["p", "q", "p", "q", "*", "**"]);
    (vec(select(&["p", "q", "p", "q", "*"]), 0..3), last).prop_map(|(mut parts, last)| {
        parts.push(last);
        parts.join("/")
    })
}

fn located() -> impl Strategy<Value = String> {
    (select(&TOOLS), path()).prop_map(|(tool, path)| format!("{tool}:{path}"))
}

fn scope() -> impl Strategy<Value = String> {
    (select(&TOOLS), select(&PATTERNS), path()).prop_map(|(tool, action, path)| format!("{tool}:{action}@{path}"))
}

fn draft() -> impl Strategy<Value = Draft> {
    let sensitivity = [Sensitivity::Public, Sensitivity::Internal, Sensitivity::Confidential, Sensitivity::Restricted];
    let risk = [Risk::Read, Risk::Write, Risk::Destructive];
    let resources = vec((located(), select(sensitivity.to_vec())), 1..8);
    let edges = vec((scope(), located(), any::<prop::sample::Index>()), 2..14);
    let actions = vec((select(&TOOLS), select(&PATTERNS), select(risk.to_vec())), 0..6);
    (resources, edges, actions).prop_map(|(resources, edges, actions)| {
        let mut draft = Draft::default();
        for name in TOOLS {
            let mut action: Vec<DraftAction> = Vec::new();
            for (_, pattern, risk) in actions.iter().filter(|(tool, ..)| *tool == name) {
                if !action.iter().any(|known| known.name == *pattern) {
                    action.push(DraftAction { name: (*pattern).to_owned(), risk: *risk, schema_digest: None });
                }
            }
            let (name, owner) = (name.to_owned(), "team".to_owned());
            draft.tool.push(DraftTool { name, owner, destinations: Vec::new(), ticket: false, action });
        }
        for (path, sensitivity) in resources {
            if !draft.resource.iter().any(|known| known.path == path) {
                draft.resource.push(DraftResource { path, sensitivity });
            }
        }
        for (from, to, at) in edges {
            // An end has to be in the catalog; one that is not leads to some resource of it.
            let one = Draft { edge: vec![DraftEdge { from: from.clone(), to: to.clone() }], ..draft.clone() };
            let to = if Catalog::build(one).is_ok() { to } else { at.get(&draft.resource).path.clone() };
            let edge = DraftEdge { from, to };
            if !draft.edge.contains(&edge) {
                draft.edge.push(edge);
            }
        }
        draft
    })
}

fn scopes() -> impl Strategy<Value = Vec<String>> {
    vec(scope(), 1..3).prop_map(|mut scopes| {
        scopes.sort();
        scopes.dedup();
        scopes
    })
}

/// The names of the places of a reach.
fn named(draft: &Draft, reach: &Reach) -> BTreeSet<String> {
    let mut all: Vec<_> = draft.resource.iter().map(|resource| &resource.path).collect();
    let order = |path: &str| {
        let (tool, path) = path.split_once(':').unwrap();
        (tool.to_owned(), belay::domain::scope::Path::parse(path).unwrap())
    };
    all.sort_by_key(|path| order(path));
    reach.resources.iter().map(|at| all[*at as usize].clone()).collect()
}

#[test]
fn the_reach_is_all_that_can_be_done_and_what_that_opens() {
    let paths = paths();
    let far = std::cell::Cell::new(0);
    check(500, &(draft(), scopes()), |(draft, scopes)| {
        let catalog = Catalog::build(draft.clone()).unwrap();
        let parsed = Scopes::parse(&scopes).unwrap();
        let expected = hops(&draft, &scopes, &paths);
        let reach = catalog.reach(&parsed);
        prop_assert!(reach.resources.is_sorted());
        prop_assert_eq!(named(&draft, &reach), expected.iter().map(|(path, _)| path.clone()).collect());

        let ways = catalog.ways(&parsed, usize::MAX);
        let mut found: Vec<_> = ways.iter().map(|way| (way.resource.clone(), way.hops)).collect();
        found.sort();
        prop_assert_eq!(&found, &expected);
        far.set(far.get() + expected.iter().filter(|(_, hops)| *hops > 1).count());
        for way in &ways {
            prop_assert_eq!(way.via.len(), way.hops as usize);
            let mut held: Done = scopes.iter().flat_map(|scope| calls(scope, &paths)).collect();
            for edge in &way.via {
                let (from, to) = edge.split_once(" -> ").unwrap();
                prop_assert!(!calls(from, &paths).is_disjoint(&held), "{} does not open {}", way.resource, edge);
                held = calls(to, &paths);
            }
            prop_assert!(!calls(&way.resource, &paths).is_disjoint(&held));
        }
        let key =
            |way: &belay::domain::radius::Way| (std::cmp::Reverse(way.sensitivity), way.hops, way.resource.clone());
        prop_assert!(ways.is_sorted_by_key(key));
        prop_assert_eq!(&catalog.ways(&parsed, 2)[..], &ways[..ways.len().min(2)]);
        Ok(())
    });
    assert!(far.get() > 20, "only {} resources lay behind a second edge", far.get());
}

#[test]
fn what_lies_outside_the_catalog_makes_a_reach_unbounded() {
    let paths = paths();
    let seen = std::cell::Cell::new((0, 0));
    check(800, &(draft(), scope()), |(draft, scope)| {
        let (tool, rest) = scope.split_once(':').unwrap();
        let (action, path) = rest.split_once('@').unwrap();
        let known = draft.tool.iter().find(|known| known.name == tool).unwrap();
        let names =
            |pattern: &str| -> Vec<&str> { NAMES.into_iter().filter(|name| is_action(pattern, name)).collect() };
        // In this universe a pattern within another is one whose names are: `n` is in no pattern but a wildcard.
        let within = |inner: &str, outer: &str| names(inner).iter().all(|name| is_action(outer, name));
        let acts = known.action.iter().any(|known| within(action, &known.name));
        let lies = draft.resource.iter().any(|resource| {
            resource.path.starts_with(&format!("{tool}:"))
                && calls(&format!("{tool}:{path}"), &paths).is_subset(&calls(&resource.path, &paths))
        });
        let meeting = known.action.iter().filter(|known| names(action).iter().any(|name| is_action(&known.name, name)));
        let worst = meeting.map(|known| known.risk).max().unwrap_or(Risk::Admin);

        let reach = Catalog::build(draft.clone()).unwrap().reach(&Scopes::parse(&[&scope]).unwrap());
        prop_assert_eq!(reach.unbounded, !(acts && lies));
        prop_assert_eq!(reach.risk, if acts { worst } else { Risk::Admin });
        let (bounded, unbounded) = seen.get();
        seen.set(if reach.unbounded { (bounded, unbounded + 1) } else { (bounded + 1, unbounded) });
        Ok(())
    });
    let (bounded, unbounded) = seen.get();
    assert!(bounded > 20 && unbounded > 20, "{bounded} bounded, {unbounded} not");
}

/// Forty resources of all sensitivities.
fn forty() -> Catalog {
    let sensitivity = ["public", "internal", "confidential", "restricted"];
    let resource =
        |at: usize| DraftResource { path: format!("a:r/{at}"), sensitivity: sensitivity[at % 4].parse().unwrap() };
    let (name, owner) = ("a".to_owned(), "team".to_owned());
    let tool = DraftTool { name, owner, destinations: Vec::new(), ticket: false, action: Vec::new() };
    Catalog::build(Draft { tool: vec![tool], resource: (0..40).map(resource).collect(), ..Draft::default() }).unwrap()
}

fn reach() -> impl Strategy<Value = Reach> {
    (proptest::collection::btree_set(0..40_u32, 0..12), prop::bool::weighted(0.1)).prop_map(|(resources, unbounded)| {
        Reach { resources: resources.into_iter().collect(), unbounded, risk: Risk::Read }
    })
}

/// Counts all of them again.
fn recount(catalog: &Catalog, reaches: &[&Reach]) -> Figures {
    let all: BTreeSet<u32> = reaches.iter().flat_map(|reach| reach.resources.iter().copied()).collect();
    let unbounded = reaches.iter().any(|reach| reach.unbounded);
    let mut figures = Figures { unbounded, ..Figures::default() };
    for at in all {
        figures.by[catalog.sensitivity(at) as usize] += 1;
        figures.score += [1, 4, 16, 64][catalog.sensitivity(at) as usize];
    }
    figures
}

#[test]
fn a_union_is_what_a_recount_finds_whatever_came_and_went() {
    let catalog = forty();
    check(500, &vec((reach(), any::<Option<prop::sample::Index>>()), 1..30), |steps| {
        let mut members: Vec<Reach> = Vec::new();
        let mut union = Union::default();
        for (reach, leaves) in steps {
            match leaves.filter(|_| !members.is_empty()) {
                Some(at) => union.remove(&catalog, &members.swap_remove(at.index(members.len()))),
                None => {
                    union.add(&catalog, &reach);
                    members.push(reach);
                }
            }
            prop_assert_eq!(union.figures(), recount(&catalog, &members.iter().collect::<Vec<_>>()));
        }
        for reach in &members {
            union.remove(&catalog, reach);
        }
        prop_assert_eq!(union, Union::default());
        Ok(())
    });
}

#[test]
fn what_a_reach_would_add_is_the_difference_that_it_makes() {
    let catalog = forty();
    let values = (vec(reach(), 0..4), vec(reach(), 0..3), reach());
    check(1000, &values, |(members, extra, one)| {
        let mut union = Union::default();
        members.iter().for_each(|reach| union.add(&catalog, reach));
        let before = union.clone();
        let extra: Vec<&Reach> = extra.iter().collect();
        let all: Vec<&Reach> = members.iter().chain(extra.iter().copied()).collect();
        let with = recount(&catalog, &all);
        let mut found = More::default();
        for reach in &extra {
            let next = union.more(&catalog, &[&found], reach);
            found.merge(&next);
        }
        prop_assert_eq!(union.figures().plus(found.figures()), with);

        let more = recount(&catalog, &[&all[..], &[&one]].concat());
        let adds = union.more(&catalog, &[&found], &one).figures();
        prop_assert_eq!(adds.score, more.score - with.score);
        for (kind, adds) in adds.by.iter().enumerate() {
            prop_assert_eq!(*adds, more.by[kind] - with.by[kind]);
        }
        prop_assert_eq!(adds.unbounded, one.unbounded);
        prop_assert_eq!(union, before);
        Ok(())
    });
}
