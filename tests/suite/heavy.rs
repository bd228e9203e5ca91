//! What would not fit a token is refused before it is recorded: the broker issues nothing that it refuses itself.

use crate::support::process::Broker;

#[test]
fn a_grant_that_does_not_fit_a_token_gets_none() {
    let broker = Broker::start();
    let owner = "\u{10348}".repeat(256);
    let registered = broker.run(&["agent", "register", "heavy", "--owner", &owner, "--purpose", "testing"]).ok();
    let identity = broker.home.join("heavy");
    let token = registered["join_token"].as_str().unwrap();
    broker.run(&["agent", "enroll", "--join-token", token, "--out", identity.to_str().unwrap()]).ok();
    let run = |arguments: &[&str]| broker.run_as(&identity, arguments);

    let task = run(&["task", "start", "testing"]).ok()["task"]["id"].as_str().unwrap().to_owned();
    let scopes: Vec<String> = (0..64).map(|at| format!("db:read@{}/{at}", "x".repeat(115))).collect();
    let scopes: Vec<&str> = scopes.iter().flat_map(|scope| ["--scope", scope]).collect();
    let mut grant = run(&[&["grant", "request", "--task", &task], &scopes[..]].concat()).ok();
    let (mut issued, mut refused) = (0, 0);
    for _ in 0..12 {
        let id = grant["grant"]["id"].as_str().unwrap().to_owned();
        let answer = run(&["token", "issue", "--grant", &id]);
        match answer.code {
            0 => {
                let token = answer.ok()["token"].as_str().unwrap().to_owned();
                assert!(token.len() <= 48 * 1024, "{} bytes", token.len());
                let call = ["--tool", "db", "--action", "read", "--resource", &scopes[1]["db:read@".len()..]];
                assert_eq!(run(&[&["authorize", "--token", &token], &call[..]].concat()).ok()["decision"], "allow");
                issued += 1;
            }
            _ => {
                assert_eq!(answer.err(3)["detail"]["reason"], "token_too_large");
                refused += 1;
            }
        }
        grant = run(&[&["grant", "delegate", "--parent", &id, "--to", "heavy"], &scopes[..]].concat()).ok();
    }
    assert!(issued > 0 && refused > 0, "{issued} issued, {refused} refused");
}
