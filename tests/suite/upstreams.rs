//! Secrets of tools' own APIs: put into calls that were allowed, and seen nowhere else.

use belay::broker::{Authorized, Wanted};
use belay::domain::agent::Role;
use belay::domain::decide::{AddUpstream, Caller, RemoveUpstream};
use belay::domain::digest::Digest;
use belay::domain::error::Error;
use belay::domain::event::Body;
use belay::domain::upstream::Upstream;

use crate::support::office::asked;
use crate::support::process::Broker;
use crate::support::till::{Till, code, payment};

const THERE: &str = "https://bank.example/api";
const CANARY: &str = "Bearer canary-7f3a";

impl Till {
    async fn add(&self, by: &Caller, name: &str, host: &str, value: &str, replace: bool) -> Result<Upstream, Error> {
        let command = AddUpstream {
            name: name.parse().unwrap(),
            tool: "bank".parse().unwrap(),
            host: host.parse().unwrap(),
            header: "Authorization".parse().unwrap(),
            sealed: Digest::of(&[]),
            replace,
        };
        self.office.broker.add_upstream(&asked(by), command, value).await
    }

    /// What goes with a call to this place.
    async fn injected(&self, authorized: &Authorized) -> Option<(String, String)> {
        let injected = self.office.broker.upstream(authorized).await.unwrap();
        injected.map(|(header, value)| (header.to_string(), value.to_string()))
    }
}

fn to(there: &str) -> Wanted<'static> {
    Wanted { hands_out: true, ..Wanted::from(payment("a", "{}").with_destination(there).unwrap()) }
}

#[tokio::test]
async fn an_upstream_secret_goes_with_a_call_that_was_allowed_to_its_own_host_and_with_no_other() {
    let till = Till::open().await;
    let ada = till.office.world.operator("ada", &[Role::Admin]).await;
    let (_, token) = till.root(&[]).await;
    till.add(&ada, "bank", "bank.example", CANARY, false).await.unwrap();
    let expected = Some(("authorization".to_owned(), CANARY.to_owned()));
    let allowed = till.ana(&token, to(THERE)).await;
    assert_eq!(till.injected(&allowed).await, expected);
    for elsewhere in ["https://bank.example:8443", "https://evil.example", "bank.example.evil"] {
        let call = till.ana(&token, to(elsewhere)).await;
        assert_eq!((code(&call), till.injected(&call).await), ("in_scope", None), "{elsewhere}");
    }
    // Who does not say that it puts one in gets none; nor does a denied call, or one that only an operator asks about.
    let plain = till.ana(&token, Wanted { hands_out: false, ..to(THERE) }).await;
    assert_eq!(till.injected(&plain).await, None);
    let denied = till.ana("none", to(THERE)).await;
    assert!(!denied.verdict.allowed && till.injected(&denied).await.is_none());
    let unproven = till.office.broker.authorize(&asked(&ada), &token, to(THERE)).await.unwrap();
    assert!(unproven.verdict.allowed && till.injected(&unproven).await.is_none());
    // Replaced and removed: it counts at once, for what was allowed before, too.
    let conflict = till.add(&ada, "bank", "bank.example", "other", false).await.unwrap_err();
    assert_eq!(conflict.reason, "upstream_exists");
    assert_eq!(till.add(&ada, "bank2", "bank.example", "x", false).await.unwrap_err().reason, "upstream_exists");
    till.add(&ada, "bank", "bank.example", "Bearer second", true).await.unwrap();
    assert_eq!(till.injected(&allowed).await.unwrap().1, "Bearer second");
    let till = till.restarted(1_000_000).await;
    let again = till.ana(&token, to(THERE)).await;
    assert_eq!(till.injected(&again).await.unwrap().1, "Bearer second", "it opens after a restart");
    let remove = RemoveUpstream { name: "bank".parse().unwrap(), reason: "testing".parse().unwrap() };
    till.office.world.submit(&ada, remove).await.unwrap();
    assert_eq!(till.injected(&again).await, None);
    assert_eq!(till.injected(&till.ana(&token, to(THERE)).await).await, None);
    till.add(&ada, "bank2", "bank.example", "x", false).await.unwrap();
}

#[tokio::test]
async fn a_tool_that_asks_for_tickets_has_no_secret_put_into_its_calls_without_one() {
    let till = Till::open().await;
    let ada = till.office.world.operator("ada", &[Role::Admin]).await;
    let (_, token) = till.root(&[]).await;
    let catalog = "[[tool]]\nname = \"bank\"\nowner = \"team\"\nticket = true\n[[tool.action]]\nname = \"pay\"\nrisk = \"write\"\n[[resource]]\npath = \"bank:**\"\nsensitivity = \"internal\"\n";
    till.office.world.apply_catalog(catalog).await;
    // Where nothing is handed out none is asked for.
    assert_eq!(code(&till.ana(&token, to(THERE)).await), "in_scope");
    till.add(&ada, "bank", "bank.example", CANARY, false).await.unwrap();
    let refused = till.ana(&token, to(THERE)).await;
    assert_eq!((code(&refused), till.injected(&refused).await), ("ticket_required", None));
    let asks = Wanted { ticket: true, hands_out: false, ..to(THERE) };
    let given = till.at(&till.ana, &till.ana, &token, asks).await.unwrap();
    assert_eq!(till.injected(&given).await, None);
    let ticket = given.ticket.unwrap().ticket;
    let redeemed = till.ana(&token, Wanted { redeem: &ticket, ..to(THERE) }).await;
    assert_eq!(code(&redeemed), "in_scope");
    assert_eq!(till.injected(&redeemed).await.unwrap().1, CANARY);
    assert_eq!(code(&till.ana(&token, Wanted { redeem: &ticket, ..to(THERE) }).await), "ticket_spent");
}

#[tokio::test]
async fn only_who_manages_backends_adds_upstream_secrets_and_no_record_shows_one() {
    let till = Till::open().await;
    let ada = till.office.world.operator("ada", &[Role::Admin]).await;
    let aud = till.office.world.operator("aud", &[Role::Auditor]).await;
    for (by, reason) in [(&aud, "role"), (&till.ana, "operators_only"), (&till.gate, "operators_only")] {
        assert_eq!(till.add(by, "bank", "bank.example", CANARY, false).await.unwrap_err().reason, reason);
    }
    for wrong in ["", "a\r\nx: y", "a\u{e4}", " a"] {
        let refused = till.add(&ada, "bank", "bank.example", wrong, false).await.unwrap_err();
        assert_eq!((refused.reason, refused.field), ("malformed", Some("value")));
    }
    let added = till.add(&ada, "bank", "bank.example", CANARY, false).await.unwrap();
    let ledger = &till.office.world.ledger;
    let log = ledger.entries(0, 1000).unwrap();
    let event = log.iter().find(|(_, entry, _)| matches!(entry.body, Body::UpstreamAdded(_))).unwrap();
    let blob = ledger.blob(added.sealed).unwrap();
    let shown = format!("{event:?} {added:?} {}", String::from_utf8_lossy(&blob));
    assert!(!shown.contains("canary"), "{shown}");
    assert_eq!(Digest::of(&blob), added.sealed);
}

#[test]
fn the_command_line_takes_an_upstream_secret_from_a_file_and_never_shows_it() {
    let broker = Broker::start();
    let file = broker.home.join("secret");
    std::fs::write(&file, "canary-7f3a\n").unwrap();
    let value = format!("@{}", file.display());
    let add = |more: &[&str]| {
        let fixed =
            ["upstream", "add", "github", "--tool", "github", "--host", "api.github.com", "--prefix", "Bearer "];
        broker.run(&[&fixed[..], more].concat())
    };
    assert_eq!(add(&["--header", "authorization", "--value", "canary-7f3a"]).code, 2);
    for header in ["host", "x-belay-agent", "connection", "a b"] {
        assert_eq!(add(&["--header", header, "--value", &value]).code, 2, "{header}");
    }
    let added = add(&["--header", "Authorization", "--value", &value]).ok();
    assert_eq!(
        (&added["upstream"]["header"], &added["upstream"]["status"]),
        (&"authorization".into(), &"active".into())
    );
    assert_ne!(add(&["--header", "authorization", "--value", &value]).code, 0);
    add(&["--header", "authorization", "--value", &value, "--replace"]).ok();
    let listed = broker.run(&["upstream", "list"]);
    assert_eq!(listed.ok()["upstreams"][0]["host"], "api.github.com");
    let audit = broker.run(&["audit", "list", "--kind", "upstream_added"]);
    assert_eq!(audit.ok()["events"].as_array().unwrap().len(), 2);
    broker.run(&["upstream", "remove", "github"]).ok();
    assert_eq!(broker.run(&["upstream", "list"]).ok()["upstreams"][0]["status"], "removed");
    assert_eq!(broker.run(&["upstream", "remove", "none"]).code, 5);
    for ran in [listed, audit] {
        assert!(!format!("{ran:?}").contains("canary"), "{ran:?}");
    }
}
