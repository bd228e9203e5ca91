//! What a decision costs among 10, 100 and 1,000 policies: over the slice that can apply, and over the whole set; in one
//! thread, and in two that share the set. Building the question for Cedar is part of it, as it is in use.
//!
//! `cargo bench --bench policy`, or with `-- --smoke` for one short round.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a measurement that cannot go on says so by failing, reads the clock and prints"
)]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use belay::cedar::Set;
use belay::domain::agent::{Agent, AgentStatus};
use belay::domain::catalog::{Risk, Sensitivity};
use belay::domain::entropy::Entropy;
use belay::domain::id::AgentId;
use belay::domain::name::Line;
use belay::domain::policy::{Action, Mode, Object, Policies as _, Principal, Question, Ruling, ToolFacts};
use belay::domain::radius::Figures;
use belay::domain::time::Timestamp;

const SIZES: [usize; 3] = [10, 100, 1000];
/// Agents and tools that are asked about, in turn: half are named by some policy of the smallest set.
const ASKERS: usize = 16;

struct Plan {
    rounds: usize,
    window: Duration,
}

type Decide = fn(&Set, &Question<'_>) -> Ruling;

/// Microseconds for one decision, of each round.
struct Figure {
    policies: usize,
    way: &'static str,
    threads: usize,
    rounds: Vec<f64>,
}

impl Figure {
    fn median(&self) -> f64 {
        let mut rounds = self.rounds.clone();
        rounds.sort_by(f64::total_cmp);
        rounds[rounds.len() / 2]
    }
}

/// The shipped policies' shapes, then rules for teams, agents and tools: what a set grows by.
fn policies(count: usize) -> Set {
    let mut text = String::from(
        r#"
        permit (principal is Agent, action in [Action::"request", Action::"delegate", Action::"invoke"], resource is Tool)
            when { context.catalogued && !context.radius.unbounded };
        forbid (principal, action in [Action::"request", Action::"delegate", Action::"invoke"], resource)
            when { context.risk_level >= 2 && context.approvals < 1 };
        forbid (principal, action in [Action::"request", Action::"delegate"], resource)
            when { context.unions.task.score > 1000 && context.approvals < 1 };
        permit (principal in Role::"admin", action in [Action::"administer", Action::"read"], resource is Area);"#,
    );
    for at in 0..count - 4 {
        match at % 3 {
            0 => writeln!(
                text,
                r#"permit (principal in Owner::"team-{at}", action == Action::"invoke", resource == Tool::"tool-{at}")
                when {{ context.sensitivity_level < 2 && context.depth < 4 }};"#
            ),
            1 => writeln!(
                text,
                r#"forbid (principal == Agent::"agent-{at}", action, resource is Tool)
                when {{ context.risk_level >= 1 && context.seconds > 3600 }};"#
            ),
            _ => writeln!(
                text,
                r#"forbid (principal, action in [Action::"request", Action::"invoke"], resource == Tool::"tool-{at}")
                unless {{ context has destination && context.destination like "https://*" }};"#
            ),
        }
        .unwrap();
    }
    let set = Set::load(&[("bench.cedar".to_owned(), text)]).unwrap();
    assert_eq!(set.count(), count);
    set
}

fn agent(at: usize) -> Agent {
    let created_at = Timestamp::from_seconds(1_000_000);
    Agent {
        id: AgentId::mint(created_at, &mut Entropy::from_seed([7; 32])),
        name: format!("agent-{at}").parse().unwrap(),
        owner: format!("team-{at}").parse().unwrap(),
        purpose: "asks".parse().unwrap(),
        status: AgentStatus::Active,
        ceiling: None,
        max_ttl: None,
        labels: Vec::new(),
        retired: None,
        created_at,
    }
}

fn question<'a>(agent: &'a Agent, tool: &'a str, owner: &'a Line) -> Question<'a> {
    let facts = ToolFacts {
        holder: agent,
        tool,
        tool_owner: Some(owner),
        action: "items.read",
        resource: "shelf/1",
        risk: Risk::Write,
        sensitivity: Sensitivity::Internal,
        catalogued: true,
        destination: Some("https://shop.example"),
        args: None,
        approvals: 0,
        radius: Figures { score: 4, by: [0, 1, 0, 0], unbounded: false },
        unions: belay::domain::radius::Unions::default(),
        seconds: 900,
        depth: 1,
        mode: Mode::Narrowed,
        purpose: "try things",
        subject: None,
        attestation: "mtls",
    };
    Question { principal: Principal::Agent(agent), action: Action::Invoke, object: Object::Tool(Box::new(facts)) }
}

/// Decides for the length of the window; how many decisions there were, and how long they took.
fn window(set: &Set, decide: Decide, length: Duration) -> (f64, Duration) {
    let owner: Line = "team-dev".parse().unwrap();
    let agents: Vec<Agent> = (0..ASKERS).map(agent).collect();
    let tools: Vec<String> = (0..ASKERS).map(|at| format!("tool-{at}")).collect();
    let started = Instant::now();
    let mut decisions = 0.0;
    while started.elapsed() < length {
        for (agent, tool) in agents.iter().zip(&tools) {
            let ruling = decide(set, &question(agent, tool, &owner));
            assert!(ruling.allowed, "{ruling:?}");
            decisions += 1.0;
        }
    }
    (decisions, started.elapsed())
}

/// Microseconds from one decision to the next, all threads together.
fn measure(set: &Set, decide: Decide, threads: usize, length: Duration) -> f64 {
    std::thread::scope(|scope| {
        let start = || std::thread::Builder::new().spawn_scoped(scope, || window(set, decide, length)).unwrap();
        let running: Vec<_> = (0..threads).map(|_| start()).collect();
        let rate: f64 = running
            .into_iter()
            .map(|thread| {
                let (decisions, took) = thread.join().unwrap();
                decisions / took.as_secs_f64()
            })
            .sum();
        1e6 / rate
    })
}

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke");
    let plan = if smoke {
        Plan { rounds: 1, window: Duration::from_millis(20) }
    } else {
        Plan { rounds: 9, window: Duration::from_millis(200) }
    };
    let sets = SIZES.map(policies);
    let ways: [(&str, Decide); 2] = [("slice", |set, asked| set.decide(asked)), ("whole", Set::decide_whole)];
    let mut figures = Vec::new();
    for policies in SIZES {
        for (way, _) in ways {
            figures.extend([1, 2].map(|threads| Figure { policies, way, threads, rounds: Vec::new() }));
        }
    }
    for _ in 0..plan.rounds {
        for figure in &mut figures {
            let set = sets.iter().find(|set| set.count() == figure.policies).unwrap();
            let (_, decide) = ways.iter().find(|(way, _)| *way == figure.way).unwrap();
            figure.rounds.push(measure(set, *decide, figure.threads, plan.window));
        }
    }
    print(&figures);
}

fn print(figures: &[Figure]) {
    println!("microseconds from one decision to the next, medians of {} rounds\n", figures[0].rounds.len());
    println!("{:>8}  {:<6} {:>9} {:>10} {:>15}", "policies", "way", "1 thread", "2 threads", "2 threads gain");
    let of = |policies: usize, way: &str, threads: usize| {
        let found = figures.iter().find(|f| f.policies == policies && f.way == way && f.threads == threads);
        found.unwrap().median()
    };
    for policies in SIZES {
        for way in ["slice", "whole"] {
            let (one, two) = (of(policies, way, 1), of(policies, way, 2));
            println!("{policies:>8}  {way:<6} {one:>9.2} {two:>10.2} {:>14.2}x", one / two);
        }
    }
    let ratio = of(1000, "slice", 1) / of(10, "slice", 1);
    println!("\na slice of 1,000 costs {ratio:.2} times one of 10 (at most 2)");
}
