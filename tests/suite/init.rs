//! `belay init`: what it makes, what it leaves alone, and that it may be interrupted anywhere.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use belay::store::crash::Point;

use crate::support::calls::is_clear;
use crate::support::process::{Broker, Ran, belay, ran};
use crate::support::production::Place;

fn mode_of(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The reason of a command that must have been refused with this code.
fn refused(ran: &Ran, code: i32) -> String {
    let error = ran.err(code);
    assert!(is_clear(error["message"].as_str().unwrap()), "{error}");
    error["detail"]["reason"].as_str().unwrap().to_owned()
}

#[test]
fn init_makes_all_that_a_broker_needs() {
    let place = Place::new("");
    assert_eq!(refused(&place.run(&["serve"]), 2), "not_initialised");
    assert!(!place.at("data").exists(), "a broker that refused to start made its data directory");
    let made = place.init(&["--operator", "ana"]).ok();
    assert_eq!(
        (made["trust_domain"].as_str(), made["data"].as_str()),
        (Some("test.example"), place.at("data").to_str())
    );
    assert_eq!((&made["operator"]["name"], made["identity"].as_str()), (&"ana".into(), place.at("operator").to_str()));
    assert_eq!(made["operator"]["roles"].as_array().unwrap().len(), 4);
    for (name, mode) in
        [("data", 0o700), ("data/master.key", 0o600), ("data/ledger.db", 0o600), ("operator/key.pem", 0o600)]
    {
        assert_eq!(mode_of(&place.at(name)), mode, "{name}");
    }
    let broker = Broker::start_production(place.home());
    assert_eq!(broker.run(&["status"]).ok()["trust_domain"], "test.example");
    let agent = broker.agent("coder");
    broker.run_as(&agent, &["task", "start", "testing"]).ok();
    assert!(!std::fs::read_to_string(place.at("serve.log")).unwrap().contains("NOT FOR PRODUCTION"));
}

#[test]
fn init_leaves_a_broker_alone() {
    let place = Place::initialised("");
    let key = std::fs::read(place.at("data/master.key")).unwrap();
    let certificate = std::fs::read(place.at("operator/cert.pem")).unwrap();
    for arguments in [&["--operator", "eve", "--out", "/nowhere"][..], &[]] {
        assert_eq!(refused(&place.init(arguments), 1), "initialised");
    }
    let broker = Broker::start_production(place.home());
    assert_eq!(refused(&place.init(&[]), 1), "initialised");
    // While it runs, the lock keeps even its administrator away.
    assert_eq!(refused(&place.init(&["--recover", "eve"]), 7), "store");
    assert_eq!(refused(&place.run(&["serve"]), 7), "store");
    assert_eq!(broker.run(&["operator", "list"]).ok()["operators"].as_array().unwrap().len(), 1);
    assert_eq!(std::fs::read(place.at("data/master.key")).unwrap(), key);
    assert_eq!(std::fs::read(place.at("operator/cert.pem")).unwrap(), certificate);
    // Nor is a ledger that lost its key, or a key that lost its ledger, taken for nothing.
    drop(broker);
    std::fs::rename(place.at("data/master.key"), place.at("key")).unwrap();
    assert_eq!(refused(&place.init(&[]), 1), "initialised");
    assert_eq!(refused(&place.run(&["serve"]), 2), "master_key");
    std::fs::rename(place.at("key"), place.at("data/master.key")).unwrap();
    for file in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        let _ = std::fs::remove_file(place.at("data").join(file));
    }
    assert_eq!(refused(&place.init(&[]), 2), "data");
    assert_eq!(refused(&place.run(&["serve"]), 2), "data");
}

#[test]
fn an_interrupted_init_can_be_run_again() {
    let mut unfinished = 0;
    for point in Point::ALL {
        for nth in 1..8 {
            let place = Place::new("");
            let mut command = belay(place.home());
            command.args(["init", "--config"]).arg(place.at("belay.toml"));
            command.env("BELAY_CRASH", format!("{}:{nth}", point.as_str()));
            if ran(command).code == 0 {
                break;
            }
            let refusal = refused(&place.run(&["serve"]), 2);
            assert!(["init_unfinished", "not_initialised"].contains(&refusal.as_str()), "{point:?} {nth}: {refusal}");
            assert_eq!(refused(&place.init(&["--recover", "admin"]), 2), refusal, "{point:?} {nth}");
            unfinished += 1;
            place.init(&[]).ok();
            if nth % 3 == 0 {
                let broker = Broker::start_production(place.home());
                let operators = broker.run(&["operator", "list"]).ok();
                assert_eq!(operators["operators"].as_array().unwrap().len(), 1, "{point:?} {nth}: {operators}");
            }
            assert_eq!(refused(&place.init(&[]), 1), "initialised");
        }
    }
    assert!(unfinished > 15, "only {unfinished} were interrupted");
}

#[test]
fn an_init_that_began_for_one_operator_does_not_end_with_another() {
    let place = Place::new("");
    std::fs::write(place.at("file"), "").unwrap();
    let out = place.at("file/operator");
    let failed = place.init(&["--operator", "ana", "--out", out.to_str().unwrap()]);
    assert_eq!(refused(&failed, 2), "identity_not_written");
    assert_eq!(refused(&place.init(&["--operator", "eve"]), 1), "init_begun");
    place.init(&["--operator", "ana"]).ok();
    let broker = Broker::start_production(place.home());
    assert_eq!(broker.run(&["operator", "list"]).ok()["operators"].as_array().unwrap().len(), 1);
}

#[test]
fn two_inits_at_once_make_one_broker() {
    let place = Place::new("");
    let outs = ["one", "two", "three", "four"];
    let ended: Vec<_> = std::thread::scope(|scope| {
        let inits: Vec<_> = outs
            .iter()
            .map(|out| {
                let (place, out) = (&place, place.at(out));
                scope.spawn(move || place.init(&["--out", out.to_str().unwrap()]))
            })
            .collect();
        inits.into_iter().map(|init| init.join().unwrap()).collect()
    });
    assert_eq!(ended.iter().filter(|ran| ran.code == 0).count(), 1, "{ended:?}");
    let winner = ended.iter().position(|ran| ran.code == 0).unwrap();
    for ran in ended.iter().filter(|ran| ran.code != 0) {
        assert!([(1, "initialised"), (7, "store")].contains(&(ran.code, &refused(ran, ran.code))), "{ran:?}");
    }
    let broker = Broker::start_production(place.home());
    broker.run_as(&place.at(outs[winner]), &["status"]).ok();
    assert_eq!(outs.iter().filter(|out| place.at(out).join("key.pem").exists()).count(), 1);
}

#[test]
fn whoever_holds_the_master_key_gets_in_again_and_the_log_says_so() {
    let place = Place::initialised("");
    std::fs::remove_dir_all(place.at("operator")).unwrap();
    place.init(&["--recover", "admin"]).ok();
    let bob = place.at("bob");
    let recover = |name: &str, arguments: &[&str]| {
        place.init(&[&["--recover", name, "--out", bob.to_str().unwrap()], arguments].concat())
    };
    let recovered = recover("bob", &["--role", "auditor"]).ok();
    assert_eq!(recovered["operator"]["roles"], serde_json::json!(["auditor"]));
    // Another's identity is not written over, and roles are not changed on the way.
    assert_eq!(refused(&recover("admin", &[]), 1), "identity_exists");
    assert_eq!(refused(&recover("bob", &["--role", "admin"]), 1), "operator_exists");
    let broker = Broker::start_production(place.home());
    broker.run_as(&bob, &["status"]).ok();
    broker.run_as(&bob, &["agent", "register", "x", "--owner", "o", "--purpose", "p"]).err(3);
    let events = broker.run(&["audit", "list"]).ok();
    let by = |request: &str, kind: &str| {
        let events = events["events"].as_array().unwrap().iter();
        events.filter(|event| event["request_id"] == request && event["kind"] == kind).count()
    };
    assert_eq!((by("init", "operator_added"), by("init", "certificate_recorded")), (1, 1));
    assert_eq!((by("recover", "operator_added"), by("recover", "certificate_recorded")), (1, 2), "{events}");
    broker.run(&["operator", "remove", "bob"]).ok();
    drop(broker);
    assert_eq!(refused(&recover("bob", &[]), 1), "operator_removed");
}

#[test]
fn init_refuses_what_it_could_not_make_a_broker_of() {
    let place = Place::new("");
    assert_eq!(refused(&place.init(&["--recover", "admin"]), 2), "not_initialised");
    for wrong in [&["--operator", "Ana"][..], &["--role", "king"], &["--operator", "a", "--recover", "b"]] {
        assert_eq!(place.init(wrong).code, 2, "{wrong:?}");
    }
    std::fs::create_dir(place.at("data")).unwrap();
    for loose in [0o755, 0o750, 0o701] {
        crate::support::production::mode(&place.at("data"), loose);
        assert_eq!(refused(&place.init(&[]), 2), "data_mode");
    }
    assert_eq!(std::fs::read_dir(place.at("data")).unwrap().count(), 0);
    crate::support::production::mode(&place.at("data"), 0o700);
    place.init(&[]).ok();
    place.configure("issuer = 'https://elsewhere.example'");
    assert_eq!(refused(&place.run(&["serve"]), 2), "issuer");
    std::fs::write(place.at("belay.toml"), place.needed().replace("test.example", "other.example")).unwrap();
    assert_eq!(refused(&place.run(&["serve"]), 2), "trust_domain");
}
