//! A join token gives one certificate: once that is revoked, the same token and key get nothing.

use crate::support::process::Broker;

#[test]
fn a_revoked_certificate_is_not_handed_out_again() {
    let broker = Broker::start();
    let registered = broker.run(&["agent", "register", "planner", "--owner", "team", "--purpose", "testing"]).ok();
    let out = broker.home.join("planner");
    let token = registered["join_token"].as_str().unwrap();
    let enroll = || broker.run(&["agent", "enroll", "--join-token", token, "--out", out.to_str().unwrap()]);
    let forget = || std::fs::remove_file(out.join("cert.pem")).unwrap();
    enroll().ok();
    forget();
    // The same key: a lost answer is given again.
    enroll().ok();
    let kept = broker.run(&["audit", "list", "--agent", "planner", "--kind", "certificate_recorded"]).ok();
    let events = kept["events"].as_array().unwrap();
    assert_eq!((events.len(), &events[0]["actor"]), (1, &"stranger".into()));
    let id = events[0]["detail"]["certificate"]["id"].as_str().unwrap();
    broker.run(&["revoke", id, "--reason", "testing"]).ok();
    forget();
    assert_eq!(enroll().err(6)["detail"]["reason"], "join_used");
}
