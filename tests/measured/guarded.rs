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

/// What is guarded and by which grant: it writes a line to the file of that name and goes on until somebody ends it.
type Begin = fn(&Broker, &Path, &str) -> (Child, String);

fn begin(broker: &Broker, coder: &Path, words: &[&str]) -> Child {
    let mut guard = belay(&broker.home);
    guard.args(["--addr", &broker.addr, "--identity"]).arg(coder).args(words);
    guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A server that writes what it is told.
fn a_server(broker: &Broker, coder: &Path, task: &str) -> (Child, String) {
    let request = ["grant", "request", "--task", task, "--scope", "files:*@mcp"];
    let granted = broker.run_as(coder, &request).ok();
    let grant = granted["grant"]["id"].as_str().unwrap().to_owned();
    let seen = broker.home.join(&grant);
    let words = ["guard", "mcp", "--tool", "files", "--grant", &grant, "--", "tee", seen.to_str().unwrap()];
    let mut guard = begin(broker, coder, &words);
    let stdin = guard.stdin.as_mut().unwrap();
    writeln!(stdin, r#"{{"jsonrpc":"2.0","method":"notifications/initialized"}}"#).unwrap();
    wait(&seen);
    (guard, grant)
}

/// A command of `belay run`, which makes the grant.
fn a_command(broker: &Broker, coder: &Path, _: &str) -> (Child, String) {
    let seen = broker.home.join("running");
    let _ = std::fs::remove_file(&seen);
    let shell = format!("echo > '{}'; exec sleep 600", seen.display());
    let words = ["run", "--task", "to measure it", "--scope", "files:read@a", "--", "sh", "-c", &shell];
    let run = begin(broker, coder, &words);
    wait(&seen);
    let listed = broker.run(&["grant", "list"]).ok();
    let mut active = listed["grants"].as_array().unwrap().iter().filter(|grant| grant["state"] == "active");
    (run, active.next().unwrap()["id"].as_str().unwrap().to_owned())
}

fn wait(seen: &Path) {
    let begun = Instant::now();
    while !std::fs::read_to_string(seen).is_ok_and(|seen| seen.contains('\n')) {
        assert!(begun.elapsed() < LONG, "what is guarded does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// From the end of the revoke until what is guarded and its guard are gone, and the same from its beginning: a process
/// of its own, that has to start.
fn one(broker: &Broker, (mut guard, grant): (Child, String)) -> [Duration; 2] {
    let first = Instant::now();
    let revoke = broker.run(&["revoke", &grant, "--reason", "to measure it"]);
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

/// Twenty cuts, the longest of which is within the bound: in one of a few series.
fn series(what: &str, begin: Begin) {
    let _alone = ALONE.blocking_lock();
    let broker = Broker::start();
    let coder = broker.agent("coder");
    let started = broker.run_as(&coder, &["task", "start", "to measure it"]).ok();
    let task = started["task"]["id"].as_str().unwrap();
    let series = (0..SERIES).map(|_| {
        let took: Vec<[Duration; 2]> = (0..RUNS).map(|_| one(&broker, begin(&broker, &coder, task))).collect();
        let [answered, begun] = [0, 1].map(|at| {
            let mut took: Vec<Duration> = took.iter().map(|one| one[at]).collect();
            took.sort();
            [took[RUNS / 2], took[RUNS - 1]]
        });
        println!("{what}: {RUNS} cuts, median and longest {answered:?} from the answer, {begun:?} from the command");
        answered[1]
    });
    assert!(series.into_iter().any(|longest| longest <= BOUND), "none of {SERIES} series within {BOUND:?}");
}

#[test]
fn what_a_guard_guards_is_over_within_a_quarter_of_a_second_of_its_revoke() {
    series("guard mcp", a_server);
}

#[test]
fn what_runs_under_a_grant_is_over_within_a_quarter_of_a_second_of_its_revoke() {
    series("run", a_command);
}
