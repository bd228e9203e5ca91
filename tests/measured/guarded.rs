//! How soon what a guard guards is over, once its grant was cut.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::process::{Broker, belay};
use crate::{ALONE, SERIES};

/// The most that 99 of 100 may take: of twenty, all.
const BOUND: Duration = Duration::from_millis(250);
const RUNS: usize = 20;
const LONG: Duration = Duration::from_secs(20);

/// The server writes what it is told to a file, and goes on until somebody ends it.
fn guard(broker: &Broker, coder: &Path, grant: &str, seen: &Path) -> Child {
    let mut guard = belay(&broker.home);
    guard.args(["--addr", &broker.addr, "--identity"]).arg(coder);
    guard.args(["guard", "mcp", "--tool", "files", "--grant", grant, "--", "tee"]).arg(seen);
    guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// From the end of the revoke until the server and its guard are gone, and the same from its beginning: a process of its
/// own, that has to start.
fn one(broker: &Broker, coder: &Path, task: &str) -> [Duration; 2] {
    let request = ["grant", "request", "--task", task, "--scope", "files:*@mcp"];
    let granted = broker.run_as(coder, &request).ok();
    let grant = granted["grant"]["id"].as_str().unwrap();
    let seen = broker.home.join(grant);
    let mut guard = guard(broker, coder, grant, &seen);
    let mut stdin = guard.stdin.take().unwrap();
    writeln!(stdin, r#"{{"jsonrpc":"2.0","method":"notifications/initialized"}}"#).unwrap();
    let begun = Instant::now();
    while !std::fs::read_to_string(&seen).is_ok_and(|seen| seen.contains('\n')) {
        assert!(begun.elapsed() < LONG, "the server does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    let first = Instant::now();
    let revoke = broker.run(&["revoke", grant, "--reason", "to measure it"]);
    let since = Instant::now();
    revoke.ok();
    let status = loop {
        if let Some(status) = guard.try_wait().unwrap() {
            break status;
        }
        assert!(since.elapsed() < LONG, "the guard goes on");
        std::thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(status.code(), Some(3));
    [since.elapsed(), first.elapsed()]
}

#[test]
fn what_a_guard_guards_is_over_within_a_quarter_of_a_second_of_its_revoke() {
    let _alone = ALONE.blocking_lock();
    let broker = Broker::start();
    let coder = broker.agent("coder");
    let started = broker.run_as(&coder, &["task", "start", "to measure it"]).ok();
    let task = started["task"]["id"].as_str().unwrap();
    let series = (0..SERIES).map(|_| {
        let took: Vec<[Duration; 2]> = (0..RUNS).map(|_| one(&broker, &coder, task)).collect();
        let [answered, begun] = [0, 1].map(|at| {
            let mut took: Vec<Duration> = took.iter().map(|one| one[at]).collect();
            took.sort();
            [took[RUNS / 2], took[RUNS - 1]]
        });
        println!("guard: {RUNS} cuts, median and longest {answered:?} from the answer, {begun:?} from the command");
        answered[1]
    });
    assert!(series.into_iter().any(|longest| longest <= BOUND), "none of {SERIES} series within {BOUND:?}");
}
