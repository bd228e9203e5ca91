//! Call tickets: good once, for one call, and without one a tool that asks for it hands out nothing.

use std::sync::Arc;

use belay::broker::{Authorized, Wanted};
use belay::domain::decide::{IssueLease, Revoke};
use belay::domain::digest::Digest;
use belay::domain::event::Body;
use belay::domain::invocation::Outcome;
use belay::domain::lease::{Backend, BackendKind};
use belay::domain::scope::{Args, Call, Scopes};
use belay::domain::time::Span;

use crate::support::office::asked;
use crate::support::till::{Till, code, pay, payment};

const ARGS: &str = r#"{"amount":1,"to":"DE1"}"#;
const THERE: &str = "https://bank.example/api";

fn made(to: &str, args: &str, there: &str) -> Wanted<'static> {
    let call = payment(to, args).with_destination(there).unwrap();
    Wanted::from(call)
}

async fn ticket(till: &Till, token: &str) -> (Authorized, String) {
    let given = till.ana(token, Wanted { ticket: true, ..made("a", ARGS, THERE) }).await;
    let text = given.ticket.as_ref().unwrap_or_else(|| panic!("{given:?}")).ticket.clone();
    (given, text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_thirty_two_that_spend_one_ticket_exactly_one_passes() {
    let till = Arc::new(Till::open().await);
    let (grant, token) = till.root(&["max_calls=5"]).await;
    let (_, text) = ticket(&till, &token).await;
    let mut spends = tokio::task::JoinSet::new();
    for at in 0..32 {
        let (till, token, text) = (Arc::clone(&till), token.clone(), text.clone());
        spends.spawn(async move {
            let gate = if at % 2 == 0 { &till.gate } else { &till.other };
            let wanted = Wanted { redeem: &text, ..made("a", ARGS, THERE) };
            code(&till.at(gate, &till.ana, &token, wanted).await.unwrap())
        });
    }
    let mut codes = spends.join_all().await;
    codes.sort_unstable();
    assert_eq!((codes[0], codes[1..].iter().all(|code| *code == "ticket_spent")), ("in_scope", true), "{codes:?}");
    assert_eq!(till.spent(grant.id).0, 1, "the ticket was charged, what it was spent on is the same call");
}

#[tokio::test]
async fn a_ticket_is_good_for_its_own_call_under_its_own_grant_alone() {
    let till = Till::open().await;
    let (_, token) = till.root(&[]).await;
    let (_, elsewhere) = till.root(&[]).await;
    let (_, text) = ticket(&till, &token).await;
    let says =
        async |token: &str, wanted: Wanted<'static>| code(&till.ana(token, Wanted { redeem: &text, ..wanted }).await);
    for (args, other) in [
        (made("a", r#"{"amount":2,"to":"DE1"}"#, THERE), "args"),
        (made("a", r#"{"amount":1,"to":"DE1","x":null}"#, THERE), "one more argument"),
        (made("a", "{}", THERE), "no arguments"),
        (made("b", ARGS, THERE), "resource"),
        (made("a", ARGS, "https://bank.example/other"), "destination"),
        (pay("a", ARGS), "no destination"),
        (Wanted::from(Call::parse("bank", "close", "a").unwrap()), "action"),
    ] {
        assert_eq!(says(&token, args).await, "ticket_other_call", "{other}");
    }
    assert_eq!(says(&elsewhere, made("a", ARGS, THERE)).await, "ticket_other_grant");
    // None of that has spent it. Another order of the arguments is the same call.
    assert_eq!(says(&token, made("a", r#"{"to":"DE1","amount":1.0}"#, THERE)).await, "in_scope");
    assert_eq!(says(&token, made("a", ARGS, THERE)).await, "ticket_spent");
}

#[tokio::test]
async fn a_ticket_ends_with_its_minute_with_its_grant_and_with_its_call() {
    let till = Till::open().await;
    let (grant, token) = till.root(&[]).await;
    let redeem = async |text: &str| code(&till.ana(&token, Wanted { redeem: text, ..made("a", ARGS, THERE) }).await);
    let (given, first) = ticket(&till, &token).await;
    let life = given.ticket.unwrap().expires_at.since(till.office.world.ledger.now());
    assert_eq!(life, Span::seconds(60));
    let (reported, second) = ticket(&till, &token).await;
    till.office.world.hands.turn(Span::millis(59_999));
    let (_, third) = ticket(&till, &token).await;
    assert_eq!(redeem(&first).await, "in_scope");
    // What was never made is not made with its ticket.
    till.report(&till.gate, reported.id, Outcome::NotExecuted).await.unwrap();
    assert_eq!(redeem(&second).await, "ticket_spent");
    let (_, fourth) = ticket(&till, &token).await;
    till.office.world.hands.turn(Span::seconds(60));
    assert_eq!(redeem(&third).await, "ticket_expired");
    assert_eq!(redeem(&fourth).await, "ticket_expired");
    let (_, fifth) = ticket(&till, &token).await;
    let cut =
        Revoke { target: grant.id.to_string().parse().unwrap(), reason: "testing".parse().unwrap(), dry_run: false };
    till.office.world.submit(&till.ana, cut).await.unwrap();
    assert_eq!(redeem(&fifth).await, "grant_revoked");
    // A day later none of them is known.
    till.office.world.hands.turn(Span::minutes(61));
    let (_, token) = till.root(&[]).await;
    let late = till.ana(&token, Wanted { redeem: &fifth, ..made("a", ARGS, THERE) }).await;
    assert_eq!(code(&late), "ticket_unknown");
}

#[tokio::test]
async fn no_ticket_is_a_token_and_no_token_is_a_ticket() {
    let (till, foreign) = (Till::open().await, Till::open().await);
    let (_, token) = till.root(&[]).await;
    let (_, foreign_token) = foreign.root(&[]).await;
    let (_, foreign_ticket) = ticket(&foreign, &foreign_token).await;
    let (_, text) = ticket(&till, &token).await;
    let spoilt = {
        let (body, signature) = text.rsplit_once('.').unwrap();
        format!("{body}.{}", signature.chars().rev().collect::<String>())
    };
    let unsigned = format!("{}.", text.rsplit_once('.').unwrap().0);
    for wrong in [&token, &foreign_ticket, &spoilt, &unsigned, &"x".to_owned(), &format!("{text}x")] {
        let refused = till.ana(&token, Wanted { redeem: wrong, ..made("a", ARGS, THERE) }).await;
        assert_eq!(code(&refused), "ticket_malformed", "{wrong:.30}");
        assert!(!refused.verdict.reasons[0].message.contains(wrong.as_str()) || wrong.len() < 2);
        assert!(till.office.broker.spends(wrong).is_err());
    }
    let refused = till.ana(&text, made("a", ARGS, THERE)).await;
    assert_eq!(code(&refused), "token_type");
    assert_eq!(till.office.broker.check(&asked(&till.ana), &text).refusal.unwrap().0, "token_type");
    assert_eq!(code(&till.ana(&token, Wanted { redeem: &text, ..made("a", ARGS, THERE) }).await), "in_scope");
}

#[tokio::test]
async fn a_retry_under_its_key_gets_the_same_ticket_and_spends_it_once() {
    let till = Till::open().await;
    let (grant, token) = till.root(&["max_calls=1"]).await;
    let wants = || Wanted { ticket: true, key: "k", ..made("a", ARGS, THERE) };
    let (first, again) = (till.ana(&token, wants()).await, till.ana(&token, wants()).await);
    assert_eq!(first.id, again.id);
    let [one, two] = [first, again].map(|given| given.ticket.unwrap().ticket);
    assert_eq!(till.office.broker.spends(&one).unwrap(), till.office.broker.spends(&two).unwrap());
    let other = Wanted { ticket: false, ..wants() };
    assert_eq!(till.at(&till.gate, &till.ana, &token, other).await.unwrap_err().reason, "idempotency_conflict");
    let spend = |text| Wanted { redeem: text, key: "s", ..made("a", ARGS, THERE) };
    let (spent, retried) = (till.ana(&token, spend(&one)).await, till.ana(&token, spend(&one)).await);
    assert_eq!((code(&spent), code(&retried), spent.id), ("in_scope", "in_scope", retried.id));
    let anew = Wanted { key: "t", ..spend(&two) };
    assert_eq!(code(&till.ana(&token, anew).await), "ticket_spent");
    assert!(till.ana(&token, wants()).await.ticket.is_none(), "it is spent");
    assert_eq!(till.spent(grant.id).0, 1);
}

#[tokio::test]
async fn a_tool_that_asks_for_tickets_leases_nothing_without_one() {
    let till = Till::open().await;
    let world = &till.office.world;
    let (name, roles) = ("orders".parse().unwrap(), vec!["reader".parse().unwrap()]);
    let (sealed, created_at) = (Digest([7; 32]), world.ledger.now());
    let backend = Backend { name, kind: BackendKind::Postgres, roles, sealed, removed: false, created_at };
    world.happens(Body::BackendAdded(backend)).await;
    world.apply_catalog("[[tool]]\nname = \"orders\"\nowner = \"team\"\nticket = true\n[[tool.action]]\nname = \"lease\"\nrisk = \"read\"\n").await;
    let task = world.task(&till.ana).await.id;
    let grant = world.grant(&till.ana, task, &["orders:lease@reader"]).await.unwrap();
    assert_eq!(grant.scopes, Scopes::parse(&["orders:lease@reader"]).unwrap());
    let token = till.office.token(&till.ana, grant.id).await;
    let issue = |ticket| IssueLease {
        grant: grant.id,
        backend: "orders".parse().unwrap(),
        role: "reader".parse().unwrap(),
        ttl: None,
        ticket,
    };
    let refused = world.submit(&till.ana, issue(None)).await.unwrap_err();
    assert_eq!(refused.reason, "ticket_required");
    // The agent has its own call decided: hooks see it there, or there is no ticket.
    let call = Call::parse("orders", "lease", "reader").unwrap();
    let wanted = Wanted { ticket: true, ..Wanted::from(call.clone()) };
    let given = till.office.broker.authorize(&asked(&till.ana), &token, wanted).await.unwrap();
    let ticket = till.office.broker.spends(&given.ticket.unwrap().ticket).unwrap();
    let first = world.submit_once(&till.ana, issue(ticket), Some(("k", b"body"))).await.unwrap();
    let again = world.submit_once(&till.ana, issue(ticket), Some(("k", b"body"))).await.unwrap();
    assert_ne!(first.id, again.id, "a retry ends the lease before it, and is a new one");
    assert_eq!(world.submit(&till.ana, issue(ticket)).await.unwrap_err().reason, "ticket_spent");
    assert_eq!(world.submit(&till.ana, issue(None)).await.unwrap_err().reason, "ticket_required");
    // One for another call is none for this one.
    let other = call.with_args(Args::parse(r#"{"a":1}"#).unwrap());
    let wanted = Wanted { ticket: true, ..Wanted::from(other) };
    let given = till.office.broker.authorize(&asked(&till.ana), &token, wanted).await.unwrap();
    let ticket = till.office.broker.spends(&given.ticket.unwrap().ticket).unwrap();
    assert_eq!(world.submit(&till.ana, issue(ticket)).await.unwrap_err().reason, "ticket_other_call");
}
