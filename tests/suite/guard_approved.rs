//! `belay guard mcp`, and what humans approve of messages that are no call of a tool.

use serde_json::Value;

use crate::support::process::Broker;
use crate::support::sentry::Sentry;

const CATALOG: &str = r#"
[[tool]]
name = "files"
owner = "team"
[[tool.action]]
name = "mcp.resources.read"
risk = "destructive"
"#;

#[test]
fn a_message_that_was_approved_passes_as_it_was_shown() {
    let broker = Broker::start();
    let coder = broker.agent("coder");
    let task = broker.run_as(&coder, &["task", "start", "to read"]).ok()["task"]["id"].as_str().unwrap().to_owned();
    let request = ["grant", "request", "--task", &task, "--scope", "files:mcp.resources.*@mcp"];
    let grant = broker.run_as(&coder, &request).ok()["grant"]["id"].as_str().unwrap().to_owned();
    let catalog = broker.home.join("catalog.toml");
    std::fs::write(&catalog, CATALOG).unwrap();
    broker.run(&["catalog", "apply", catalog.to_str().unwrap(), "--yes"]).ok();
    let pending = || {
        let listed = broker.run(&["approval", "list"]).ok();
        let waits = |one: &&Value| one["state"] == "pending";
        listed["approvals"].as_array().unwrap().iter().filter(waits).cloned().collect::<Vec<_>>()
    };
    let mut sentry = Sentry::post(&broker, &coder, "files", &["--grant", &grant], broker.home.join("guard.log"));
    let (read, other) = (r#"{"_meta":{"n":1},"uri":"file:///a"}"#, r#"{"uri":"file:///b"}"#);
    let mut reads = |params: &str| sentry.rules("resources/read", params);
    let asked = ("step_up".to_owned(), "approval_needed".to_owned());
    // The same message finds the same request, another one is another request.
    assert_eq!([reads(read), reads(read), reads(other)], [asked.clone(), asked.clone(), asked.clone()]);
    let both = pending();
    let one = both.iter().find(|one| one.to_string().contains("file:///a")).unwrap_or_else(|| panic!("{both:?}"));
    assert_eq!(both.len(), 2, "{both:?}");
    broker.run(&["approval", "approve", one["id"].as_str().unwrap(), "--reason", "it is due"]).ok();
    assert_eq!(reads(other), asked);
    assert_eq!(reads(read), ("allow".to_owned(), "in_scope".to_owned()));
    assert_eq!(reads(read), asked, "a second time is another call");
}
