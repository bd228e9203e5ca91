//! The shipped service: systemd understands it, finds it well confined, and its limits fit the program's.

use std::process::Command;

use belay::server::Config;

use crate::support::may_use;

const UNIT: &str = include_str!("../../deploy/belay.service");

/// `systemd-analyze` over a copy of the unit that runs the binary under test.
fn analyze(arguments: &[&str]) -> (bool, String) {
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("belay.service");
    std::fs::write(&unit, UNIT.replace("/usr/local/bin/belay", env!("CARGO_BIN_EXE_belay"))).unwrap();
    let ended = Command::new("systemd-analyze").args(arguments).arg(&unit).output().unwrap();
    let text = String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr);
    (ended.status.success(), text)
}

fn is_there() -> bool {
    Command::new("systemd-analyze").arg("--version").output().is_ok_and(|ended| ended.status.success())
}

#[test]
fn systemd_takes_the_shipped_unit_as_it_is() {
    if !may_use("systemd_takes_the_shipped_unit_as_it_is", "systemd-analyze", is_there()) {
        return;
    }
    let (ok, said) = analyze(&["verify", "--man=no"]);
    let about_ours: Vec<_> = said.lines().filter(|line| line.contains("belay.service")).collect();
    assert!(ok && about_ours.is_empty(), "{said}");
}

#[test]
fn the_shipped_unit_is_well_confined() {
    if !may_use("the_shipped_unit_is_well_confined", "systemd-analyze", is_there()) {
        return;
    }
    let (ok, said) = analyze(&["security", "--offline=yes", "--threshold=15", "--no-pager"]);
    assert!(ok, "{said}");
}

#[test]
fn the_service_waits_longer_than_a_drain() {
    let value = |key: &str| UNIT.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let config = Config::parse(include_str!("../../deploy/belay.toml")).unwrap();
    let patience: u64 = value("TimeoutStopSec").unwrap().parse().unwrap();
    assert!(patience > config.drain.as_secs() + 5, "{patience}");
    // A wrong configuration does not become right by starting again.
    assert_eq!(value("RestartPreventExitStatus"), Some("2"));
    assert_eq!(config.data.strip_prefix("/var/lib").unwrap().to_str(), value("StateDirectory"));
    assert_eq!(
        (value("StateDirectoryMode"), value("UMask"), value("LimitCORE")),
        (Some("0700"), Some("0077"), Some("0"))
    );
}
