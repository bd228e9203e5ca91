//! `belay try`: the story that a newcomer is told, as programs read it.

use serde_json::Value;

use crate::support::needs;
use crate::support::process::{belay, ran};

#[test]
fn the_story_does_each_step_and_leaves_nothing_behind() {
    let (home, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut command = belay(home.path());
    command.env("TMPDIR", temporary.path()).args(["-o", "json", "try"]);
    let told = ran(command);
    assert_eq!(told.code, 0, "{told:?}");
    let steps: Vec<Value> = told.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for step in &steps {
        assert!(step["step"].is_string() && step["ms"].is_u64() && step["detail"].is_string(), "{step}");
        assert_eq!((step["ok"].as_bool(), step.as_object().unwrap().len()), (Some(true), 4), "{step}");
    }
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    let at = |name: &str| names.iter().position(|step| *step == name).unwrap_or_else(|| panic!("{name}: {names:?}"));
    let (acted, refused) = (["planner_acts", "coder_acts"], ["planner_cut", "coder_cut", "nothing_grows_back"]);
    assert!(acted.iter().all(|step| at(step) < at("revoked")) && refused.iter().all(|step| at(step) > at("revoked")));
    assert!(at("widening_refused") > at("delegated") && at("outside_denied") > at("coder_token"));
    let elevated = ["pending", "shown", "approved", "issued", "used", "cut", "refused"];
    let elevated: Vec<usize> = elevated.iter().map(|step| at(&format!("elevated_{step}"))).collect();
    assert!(elevated.is_sorted() && elevated[0] > at("catalog_applied"), "{names:?}");
    // Without PostgreSQL the session is left out, and that is said.
    let leased = &steps[at("leased")];
    let left_out = leased["detail"].as_str().unwrap().starts_with("left out: ");
    needs("the story of a leased session", "PostgreSQL (initdb, postgres, psql)", !left_out);
    assert!(left_out || at("lease_cut") == at("leased") + 1, "{names:?}");
    let left: Vec<_> = [home.path(), temporary.path()].iter().flat_map(|at| std::fs::read_dir(at).unwrap()).collect();
    assert!(left.is_empty(), "{left:?}");
}
