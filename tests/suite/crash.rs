//! `kill -9` at every named point of a write: what was acknowledged is there when the broker comes back.

use std::collections::BTreeSet;
use std::sync::{LazyLock, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use belay::client::Identity;
use belay::store::crash::Point;
use serde_json::Value;

use crate::support::block_on;
use crate::support::history::{Clients, Round, Seen, check, is_telling};
use crate::support::process::Broker;

/// One life and death: what clients were told before, and what they see after.
struct Run {
    point: Point,
    /// What the dying broker said.
    log: String,
    rounds: Vec<(Round, Seen)>,
    /// Every certificate that anybody holds (DER), beside those of the rounds.
    certificates: Vec<Vec<u8>>,
    /// The whole log after the restart, as `audit list` shows it.
    events: Vec<Value>,
}

/// All points, once for all tests here.
static RUNS: LazyLock<Vec<Run>> = LazyLock::new(|| {
    std::thread::scope(|scope| {
        let deaths = Point::ALL.into_iter().flat_map(|point| times(point).iter().map(move |nth| (point, *nth)));
        let runs: Vec<_> = deaths.map(|(point, nth)| scope.spawn(move || run(point, nth))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    })
});

/// How often a broker passes the point before it dies: past its start, and late enough to have told much.
fn times(point: Point) -> &'static [u32] {
    match point {
        // What is lost here depends on what is in the batch: of these, some hold a grant or a revoke.
        Point::Appended => &[70, 71, 72, 73],
        Point::TurnTaken | Point::Committed | Point::Folded => &[70],
        // Of what is signed in turn, tokens and certificates under a grant among them.
        Point::BeforeSigning | Point::Signed => &[28, 29, 30, 31],
        Point::SnapshotBuilt => &[4],
    }
}

fn run(point: Point, nth: u32) -> Run {
    let directory = tempfile::tempdir().unwrap();
    let told = format!("{}:{nth}", point.as_str());
    let frequent = ["--snapshot-every", "20"];
    let mut broker = Broker::start_with(directory.path(), &frequent, &[("BELAY_CRASH", &told)]);
    broker.agent("planner");
    broker.agent("coder");
    let rounds = Mutex::new(Vec::new());
    let task = block_on(async {
        let clients = Clients::connect(&broker, None).await;
        let (one, two) = tokio::join!(clients.work("one", 200, &rounds), clients.work("two", 200, &rounds));
        assert!(broker.died(), "{point:?} was not reached, or an honest request failed: {one:?} {two:?}");
        clients.task().to_owned()
    });
    let log = std::fs::read_to_string(directory.path().join("serve.log")).unwrap();
    let broker = Broker::start_with(directory.path(), &frequent, &[]);
    let rounds = block_on(async {
        let clients = Clients::connect(&broker, Some(&task)).await;
        let mut seen = Vec::new();
        for round in rounds.into_inner().unwrap() {
            let looked = clients.look(&round).await;
            seen.push((round, looked));
        }
        seen
    });
    let held = ["planner", "coder", "operator"].map(|name| Identity::load(&directory.path().join(name)).unwrap());
    let certificates = held.iter().map(|identity| identity.certificate().to_vec()).collect();
    let events = broker.run(&["audit", "list"]).ok()["events"].as_array().unwrap().clone();
    Run { point, log, rounds, certificates, events }
}

#[test]
fn acknowledged_is_kept() {
    for run in RUNS.iter() {
        let name = run.point.as_str();
        assert!(run.log.contains(&format!("crash point {name} reached")), "{name} was not reached: {}", run.log);
        let rounds: Vec<Round> = run.rounds.iter().map(|(round, _)| round.clone()).collect();
        assert!(is_telling(&rounds), "{name}: too little had been acknowledged before it: {rounds:?}");
        for (round, seen) in &run.rounds {
            check(name, round, seen);
        }
    }
}

#[test]
fn no_credential_is_released_before_its_event_is_durable_at_any_crash_point() {
    for run in RUNS.iter() {
        let name = run.point.as_str();
        let details = |kind: &str, of: fn(&Value) -> &Value| -> BTreeSet<String> {
            let events = run.events.iter().filter(|event| event["kind"] == *kind);
            events.map(|event| of(&event["detail"]).as_str().unwrap().to_owned()).collect()
        };
        let tokens = details("token_issued", |detail| &detail["token"]["id"]);
        let signed = details("certificate_signed", |detail| &detail["der"]);
        let mut released = (0, 0);
        for (round, _) in &run.rounds {
            for token in [&round.root_token, &round.child_token].into_iter().flatten() {
                assert!(tokens.contains(&token.id), "{name}: token {} is not in the log", token.id);
                released.0 += 1;
            }
        }
        let renewed = run.rounds.iter().flat_map(|(round, _)| round.certificate.iter().chain(&round.bound));
        for der in renewed.chain(&run.certificates) {
            assert!(signed.contains(&STANDARD.encode(der)), "{name}: a certificate is not in the log");
            released.1 += 1;
        }
        assert!(released.0 >= 4 && released.1 >= 6, "{name}: too little was released before it: {released:?}");
    }
}
