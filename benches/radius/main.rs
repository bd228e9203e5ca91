//! What blast radius costs: building a catalog, closing a request over its edges, and what that adds to a union.
//!
//! Each figure stands beside its floor, what any answer has to pay on this machine: for a build, sorting the same
//! texts; for a reach, one pass over a list of the edges; for a union, writing the resources into an empty set.
//! `--smoke` runs everything once over less; `--no-default-features` leaves out the file's parser and builds fast.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a measurement that cannot go on says so by failing, reads the clock and prints"
)]

use std::collections::HashSet;
use std::hint::black_box;
use std::time::Instant;

use belay::domain::catalog::{Catalog, Draft, DraftAction, DraftEdge, DraftResource, DraftTool, Risk, Sensitivity};
use belay::domain::radius::Union;
use belay::domain::scope::Scopes;

const TOOLS: usize = 20;

/// A catalog of this many resources and edges. Each resource of a tool leads to some of the others, of any tool, so
/// that from nearly everywhere nearly everything is reached; of each twenty edges one begins at a wildcard.
fn draft(resources: usize, edges: usize) -> Draft {
    let path = |at: usize| format!("t{}:repo/org{}/r{at}", at % TOOLS, at / TOOLS % 50);
    // A fixed sequence (Knuth, MMIX), so that every run is over the same catalog.
    let mut state = 42_u64;
    let mut number = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let action = |name: &str| DraftAction { name: name.to_owned(), risk: Risk::Write, schema_digest: None };
    let tool = |at: usize| DraftTool {
        name: format!("t{at}"),
        owner: "team".to_owned(),
        destinations: Vec::new(),
        ticket: false,
        action: vec![action("issues.*"), action("write")],
    };
    let levels = [Sensitivity::Public, Sensitivity::Internal, Sensitivity::Confidential, Sensitivity::Restricted];
    let resource = |at: usize| DraftResource { path: path(at), sensitivity: levels[at % 4] };
    let mut edge = Vec::new();
    let mut seen = HashSet::new();
    while edge.len() < edges {
        let (from, to) = (path(number(resources)), path(number(resources)));
        let (tool, at) = from.split_once(':').unwrap();
        let at = if edge.len() % 20 == 0 { at.rsplit_once('/').unwrap().0.to_owned() + "/*" } else { at.to_owned() };
        let action = ["issues.read", "issues.*", "write"][number(3)];
        let from = format!("{tool}:{action}@{at}");
        if seen.insert((from.clone(), to.clone())) {
            edge.push(DraftEdge { from, to });
        }
    }
    let tool = (0..TOOLS).map(tool).collect();
    Draft { tool, resource: (0..resources).map(resource).collect(), edge, ..Draft::default() }
}

#[cfg(feature = "broker")]
fn toml_of(draft: &Draft) -> String {
    use std::fmt::Write as _;

    let mut text = String::new();
    for tool in &draft.tool {
        writeln!(text, "[[tool]]\nname = '{}'\nowner = '{}'", tool.name, tool.owner).unwrap();
        for action in &tool.action {
            writeln!(text, "[[tool.action]]\nname = '{}'\nrisk = '{}'", action.name, action.risk).unwrap();
        }
    }
    for one in &draft.resource {
        writeln!(text, "[[resource]]\npath = '{}'\nsensitivity = '{}'", one.path, one.sensitivity).unwrap();
    }
    for one in &draft.edge {
        writeln!(text, "[[edge]]\nfrom = '{}'\nto = '{}'", one.from, one.to).unwrap();
    }
    text
}

/// Median and 99th percentile in microseconds.
fn time<T>(rounds: usize, mut run: impl FnMut() -> T) -> (f64, f64) {
    let mut taken: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            black_box(run());
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    taken.sort_by(f64::total_cmp);
    (taken[rounds / 2], taken[(rounds * 99 / 100).min(rounds - 1)])
}

fn line(name: &str, what: &str, rounds: usize, own: (f64, f64), floor: (f64, f64)) {
    println!(
        "{name:<22} {:>12.1} {:>12.1} {:>12.1} {:>9.2}   {rounds} rounds; {what}",
        own.0,
        own.1,
        floor.0,
        own.0 / floor.0
    );
}

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke");
    let (resources, edges, many, rounds): (usize, usize, usize, usize) =
        if smoke { (500, 2500, 2000, 3) } else { (10_000, 50_000, 100_000, 1000) };
    println!("belay {}, a catalog of {resources} resources and {edges} edges", env!("CARGO_PKG_VERSION"));
    println!("{:<22} {:>12} {:>12} {:>12} {:>9}", "figure, us", "median", "p99", "floor", "of floor");
    build(resources, edges, rounds.div_ceil(50));
    build(many, 0, rounds.div_ceil(200));
    build(many, many * 5 / 2, rounds.div_ceil(200));

    let catalog = Catalog::build(draft(resources, edges)).unwrap();
    reaches(&catalog, edges, rounds);
    unions(&catalog, rounds);
}

fn build(resources: usize, edges: usize, rounds: usize) {
    let draft = draft(resources, edges);
    let mut texts: Vec<&str> = draft.resource.iter().map(|one| one.path.as_str()).collect();
    texts.extend(draft.edge.iter().flat_map(|edge| [edge.from.as_str(), edge.to.as_str()]));
    let floor = time(rounds, || {
        let mut sorted: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        sorted.sort_unstable();
        sorted
    });
    let mut drafts = vec![draft.clone(); rounds].into_iter();
    let own = time(rounds, || Catalog::build(drafts.next().unwrap()).unwrap());
    let what = format!("{resources} resources, {edges} edges");
    line("build", &what, rounds, own, floor);
    #[cfg(feature = "broker")]
    {
        let text = toml_of(&draft);
        let parse = || belay::broker::catalog::parse(&text).unwrap();
        line("parse and build", &what, rounds, time(rounds, parse), floor);
    }
}

fn reaches(catalog: &Catalog, edges: usize, rounds: usize) {
    let order: Vec<(u32, u32)> = (0..u32::try_from(edges).unwrap()).map(|at| (at, at.wrapping_mul(7919))).collect();
    let floor = time(rounds, || order.iter().map(|(from, to)| u64::from(from ^ to)).sum::<u64>());
    let wide: Vec<String> = (0..5).map(|at| format!("t{at}:issues.*@repo/org{at}/*")).collect();
    let mixed: Vec<String> = (0..5).map(|at| format!("t{at}:issues.*@**")).collect();
    let whole: Vec<String> = (0..TOOLS).map(|at| format!("t{at}:*@**")).collect();
    let sets = [
        ("reach, one resource", vec!["t1:issues.read@repo/org0/r1".to_owned()]),
        ("reach, no edge", vec!["t1:read@repo/org0/r1".to_owned()]),
        ("reach, five wide", wide),
        ("reach, five tools", mixed),
        ("reach, everything", whole),
    ];
    for (name, scopes) in sets {
        let scopes = Scopes::parse(&scopes).unwrap();
        let reach = catalog.reach(&scopes);
        let what = format!("{} scopes reach {} resources", scopes.iter().count(), reach.resources.len());
        line(name, &what, rounds, time(rounds, || catalog.reach(&scopes)), floor);
    }
    let scopes = Scopes::parse(&["t1:issues.read@repo/org0/r1"]).unwrap();
    let few = rounds.div_ceil(20);
    line("ways, the first 100", "with the edges of each", few, time(few, || catalog.ways(&scopes, 100)), floor);
}

fn unions(catalog: &Catalog, rounds: usize) {
    let reach = |text: &str| catalog.reach(&Scopes::parse(&[text]).unwrap());
    let (all, narrow) = (reach("t1:issues.read@repo/org0/r1"), reach("t1:read@repo/org0/r1"));
    let mut union = Union::default();
    for _ in 0..100 {
        union.add(catalog, &all);
    }
    for (name, one) in [("narrow", &narrow), ("everything", &all)] {
        let count = one.resources.len();
        let floor = time(rounds, || one.resources.iter().copied().collect::<HashSet<u32>>());
        let what = format!("{count} resources, to a union of 100 grants");
        let empty = Union::default();
        line(&format!("more, {name}"), &what, rounds, time(rounds, || union.more(catalog, &[], one)), floor);
        let what = format!("{count} resources, to an empty union");
        line(&format!("more, {name}, new"), &what, rounds, time(rounds, || empty.more(catalog, &[], one)), floor);
        let added = time(rounds, || {
            union.add(catalog, one);
            union.remove(catalog, one);
        });
        line(&format!("add and remove, {name}"), &format!("{count} resources"), rounds, added, floor);
    }
}
