//! What has to be in the log before anybody hears of it: calls that limits count, that humans approved, that cannot be
//! undone, and those with a ticket.

use belay::broker::Wanted;
use belay::cedar::Set;
use belay::domain::event::Body;
use belay::domain::id::InvocationId;
use belay::domain::scope::Call;
use belay::store::Sqlite;

use crate::support::faulty::{Fault, Faulty};
use crate::support::process::Broker;
use crate::support::till::{Till, code, pay};

const BANK: &str = r#"
[[tool]]
name = "bank"
owner = "team"
[[tool.action]]
name = "pay"
risk = "write"
[[tool.action]]
name = "close"
risk = "destructive"
[[resource]]
path = "bank:**"
sensitivity = "internal"
"#;
const AGENTS: &str = "@id(\"all\") permit (principal is Agent, action, resource is Tool);";
const OPERATORS: &str = include_str!("../../deploy/policies/operators.cedar");

fn in_log(till: &Till, id: InvocationId) -> bool {
    let log = till.office.world.ledger.entries(0, 10_000).unwrap();
    log.iter().any(|(_, entry, _)| matches!(&entry.body, Body::Invoked(one) if one.id == id))
}

#[tokio::test]
async fn what_is_grave_is_in_the_log_before_the_answer() {
    let till = Till::open().await;
    let (_, token) = till.root(&[]).await;
    let (_, limited) = till.root(&["max_calls=2"]).await;
    till.office.world.apply_catalog(BANK).await;
    let files = [("agents.cedar", AGENTS), ("operators.cedar", OPERATORS)];
    let files: Vec<_> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    till.office.world.apply_policies(Set::load(&files).unwrap()).await;
    let close = Call::parse("bank", "close", "a").unwrap();
    let calls = [
        (&limited, pay("a", "{}")),
        (&token, Wanted::from(close)),
        (&token, Wanted { ticket: true, ..pay("a", "{}") }),
    ];
    for (token, wanted) in calls {
        let call = format!("{:?}", wanted.what);
        let decided = till.ana(token, wanted).await;
        assert_eq!(code(&decided), "in_scope", "{call}");
        assert!(in_log(&till, decided.id), "{call} is not in the log");
    }
}

#[tokio::test]
async fn a_grave_call_that_cannot_be_recorded_is_denied_and_costs_nothing() {
    for fault in [Fault::Begin, Fault::Append, Fault::LostFailed] {
        let mut control = None;
        let store = |path: &std::path::Path| -> Box<dyn belay::store::Store> {
            let (store, plan) = Faulty::over(Box::new(Sqlite::open(path).unwrap()));
            control = Some(plan);
            store
        };
        let till = Till::over(store, 1_000_000).await;
        let (grant, token) = till.root(&["max_calls=2"]).await;
        control.as_ref().unwrap().fail(0, fault);
        let denied = till.ana(&token, Wanted { ticket: true, ..pay("a", "{}") }).await;
        assert!(control.unwrap().has_failed());
        assert_eq!((denied.verdict.decision(), code(&denied)), ("deny", "not_recorded"), "{fault:?}");
        assert!(denied.ticket.is_none(), "{fault:?}");
        assert_eq!(till.spent(grant.id).0, 0, "{fault:?}");
        assert_eq!(code(&till.ana(&token, pay("a", "{}")).await), "in_scope", "{fault:?}: it goes on");
    }
}

#[test]
fn a_broker_that_is_killed_behind_its_answer_has_kept_what_is_grave() {
    let home = tempfile::tempdir().unwrap();
    let mut broker = Broker::start_in(home.path(), &[]);
    let ana = broker.agent("ana");
    let catalog = home.path().join("catalog.toml");
    std::fs::write(&catalog, BANK).unwrap();
    broker.run(&["catalog", "apply", catalog.to_str().unwrap()]).ok();
    let task = broker.run_as(&ana, &["task", "start", "testing"]).ok()["task"]["id"].as_str().unwrap().to_owned();
    let request = ["grant", "request", "--task", &task, "--scope"];
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let plain = broker.run_as(&ana, &[&request[..], &["bank:pay@**"]].concat()).ok();
    let limited = broker.run_as(&ana, &[&request[..], &["bank:pay@**", "--limit", "max_calls=9"]].concat()).ok();
    // Humans approve what cannot be undone.
    let waiting = broker.run_as(&ana, &[&request[..], &["bank:close@**"]].concat());
    assert_eq!(waiting.code, 4, "{waiting:?}");
    let waiting: serde_json::Value = serde_json::from_str(&waiting.stdout).unwrap();
    broker.run(&["approval", "approve", waiting["approval"]["id"].as_str().unwrap(), "--reason", "seen"]).ok();
    let grants = [text(&plain["grant"]["id"]), text(&limited["grant"]["id"]), text(&waiting["grant"]["id"])];
    let [plain, limited, elevated] =
        grants.map(|grant| text(&broker.run_as(&ana, &["token", "issue", "--grant", &grant]).ok()["token"]));
    for (token, action, more) in
        [(&limited, "pay", None), (&elevated, "close", None), (&plain, "pay", Some("--ticket"))]
    {
        let call = ["authorize", "--token", token, "--tool", "bank", "--action", action, "--resource", "a"];
        let arguments: Vec<&str> = call.into_iter().chain(more).collect();
        let allowed = broker.run_as(&ana, &arguments);
        broker.kill();
        let id = text(&allowed.ok()["id"]);
        broker = Broker::start_in(home.path(), &[]);
        let why = broker.run(&["why", &id]).ok();
        assert_eq!(why["invocation"]["decision"], "allow", "{action} {more:?}: {why}");
    }
}
