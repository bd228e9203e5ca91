//! A broker that must not start, and says why in one line: a taken directory or port, loose modes, another
//! key. Each with the exit code of its kind, before anything is served, and what was there is left alone.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::support::calls::is_clear;
use crate::support::process::{Broker, belay, ran};

/// Tries to start a broker that must refuse: its error.
fn refused(home: &Path, arguments: &[&str], code: i32) -> Value {
    let mut command = belay(home);
    command.args(["-o", "json", "serve", "--dev"]).args(arguments);
    let ended = ran(command);
    assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{ended:?}");
    let last = ended.stderr.lines().last().unwrap();
    let error: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("{ended:?}"));
    assert!(is_clear(error["error"]["message"].as_str().unwrap()), "{error}");
    error["error"].clone()
}

const FREE: [&str; 4] = ["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"];

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn two_brokers_do_not_share_a_data_directory() {
    let broker = Broker::start();
    let before = broker.run(&["status"]).ok();
    let error = refused(&broker.home, &FREE, 7);
    assert_eq!((error["code"].as_str(), error["detail"]["reason"].as_str()), (Some("unavailable"), Some("store")));
    assert!(error["message"].as_str().unwrap().contains("another broker uses this data directory"), "{error}");
    assert_eq!(broker.run(&["status"]).ok()["checkpoint"], before["checkpoint"]);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let (broker, home) = (Broker::start(), tempfile::tempdir().unwrap());
    for (flag, other, taken) in [("--grpc", "--http", &broker.addr), ("--http", "--grpc", &broker.http)] {
        let address = taken.trim_start_matches("https://");
        let error = refused(home.path(), &[flag, address, other, "127.0.0.1:0"], 1);
        assert_eq!(error["detail"]["reason"], "address_in_use", "{error}");
        assert!(error["message"].as_str().unwrap().contains(address), "{error}");
        assert!(!home.path().join("dev/ledger.db").exists(), "a ledger was begun before the port was known to be free");
    }
    for wrong in ["nowhere", "127.0.0.1:70000", "127.0.0.1", ":0", ""] {
        let mut command = belay(home.path());
        command.args(["serve", "--dev", "--grpc", wrong]);
        assert_eq!(ran(command).code, 2, "{wrong}");
    }
    let address = refused(home.path(), &["--grpc", "192.0.2.1:0", "--http", "127.0.0.1:0"], 2);
    assert_eq!(address["detail"]["reason"], "address_unusable", "{address}");
}

#[test]
fn what_others_could_read_or_replace_is_not_used() {
    let home = tempfile::tempdir().unwrap();
    drop(Broker::start_in(home.path(), &[]));
    let data = home.path().join("dev");
    let key = data.join("master.key");
    let bytes = std::fs::read(&key).unwrap();
    for loose in [0o640, 0o604, 0o660, 0o644] {
        mode(&key, loose);
        let error = refused(home.path(), &FREE, 2);
        assert_eq!(error["detail"]["reason"], "master_key", "{error}");
        assert!(error["message"].as_str().unwrap().contains("chmod 600"), "{error}");
    }
    mode(&key, 0o600);
    for loose in [0o770, 0o702, 0o777] {
        mode(&data, loose);
        let error = refused(home.path(), &FREE, 2);
        assert_eq!(error["detail"]["reason"], "data_mode", "{error}");
        assert!(error["message"].as_str().unwrap().contains("chmod 700"), "{error}");
    }
    // What lies in it is private by itself: looking in is allowed.
    mode(&data, 0o755);
    assert_eq!(std::fs::read(&key).unwrap(), bytes);
    assert_eq!(Broker::start_in(home.path(), &[]).run(&["status"]).ok()["ready"], true);
}

#[test]
fn a_ledger_opens_only_with_its_own_master_key() {
    let home = tempfile::tempdir().unwrap();
    drop(Broker::start_in(home.path(), &[]));
    let key = home.path().join("dev/master.key");
    let bytes = std::fs::read(&key).unwrap();
    for (other, reason, code) in
        [(vec![7; 32], "key_sealed", 1), (vec![7; 31], "master_key", 2), (vec![], "master_key", 2)]
    {
        std::fs::write(&key, &other).unwrap();
        assert_eq!(refused(home.path(), &FREE, code)["detail"]["reason"], reason, "{} bytes", other.len());
    }
    std::fs::remove_file(&key).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &key).unwrap();
    assert_eq!(refused(home.path(), &FREE, 2)["detail"]["reason"], "master_key");
    std::fs::remove_file(&key).unwrap();
    // Without a key, none is made for a ledger that is sealed with another.
    assert_eq!(refused(home.path(), &FREE, 2)["detail"]["reason"], "master_key");
    assert!(!key.exists(), "a new master key was made beside a ledger that it does not open");
    std::fs::write(&key, &bytes).unwrap();
    mode(&key, 0o600);
    assert_eq!(Broker::start_in(home.path(), &[]).run(&["status"]).ok()["ready"], true);
}

#[test]
fn a_ledger_that_is_lost_is_not_begun_anew() {
    let home = tempfile::tempdir().unwrap();
    drop(Broker::start_in(home.path(), &[]));
    let data = home.path().join("dev");
    let taken = home.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    let ledger = ["ledger.db", "ledger.db-wal", "ledger.db-shm"].map(|name| (data.join(name), taken.join(name)));
    ledger.iter().filter(|(from, _)| from.exists()).for_each(|(from, to)| std::fs::rename(from, to).unwrap());
    assert_eq!(refused(home.path(), &FREE, 2)["detail"]["reason"], "ledger_lost");
    ledger.iter().filter(|(from, _)| from.exists()).for_each(|(from, _)| std::fs::remove_file(from).unwrap());
    ledger.iter().filter(|(_, to)| to.exists()).for_each(|(from, to)| std::fs::rename(to, from).unwrap());
    assert_eq!(Broker::start_in(home.path(), &[]).run(&["status"]).ok()["ready"], true);
}

#[test]
fn a_data_directory_is_one() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    std::fs::write(&file, "text").unwrap();
    let file = file.to_str().unwrap();
    for data in [file, &format!("{file}/below")] {
        let error = refused(home.path(), &[&["--data", data], &FREE[..]].concat(), 2);
        assert_eq!(error["detail"]["reason"], "data", "{error}");
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), "text");
    let other = home.path().join("other");
    std::fs::create_dir(&other).unwrap();
    mode(&other, 0o700);
    std::fs::write(other.join("ledger.db"), "not a database, and long enough to be read as one").unwrap();
    let error = refused(home.path(), &[&["--data", other.to_str().unwrap()], &FREE[..]].concat(), 7);
    assert_eq!(error["detail"]["reason"], "store", "{error}");
}
