//! What is said of a cut before it is made and long after it: exposures, settled revocations, receipts.

use std::time::{Duration, Instant};

use belay::domain::agent::Role;
use belay::domain::cut::Target;
use belay::domain::decide::{Caller, Revoke};
use belay::domain::entropy::Entropy;
use belay::domain::error::Code;
use belay::domain::exposure::{Exposure, HOLD, may_lease};
use belay::domain::grant::Grant;
use belay::domain::id::RevocationId;
use belay::domain::lease::LeaseStatus;
use belay::domain::time::Span;
use belay::effect::{Page, Settling};

use crate::support::office::{Office, asked};
use crate::support::process::Broker;
use crate::support::world::{Hands, World, store};

const ELSEWHERE: &str = "https://orders.example";

#[tokio::test]
async fn an_exposure_is_stated_and_where_it_is_demanded_it_is_met() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    let planner = world.agent("planner").await;
    let task = world.task(&planner).await.id;
    let demand = ["max_exposure=10000"];
    world.point("quick", ELSEWHERE, Span::seconds(5)).await;
    world.point("slow", "https://slow.example", Span::seconds(60)).await;
    let life = |grant: &Grant| grant.expires_at.since(world.ledger.now());
    let ours = world.for_audience(&planner, task, "https://example.org", &demand).await.unwrap();
    assert_eq!(life(&ours), Span::minutes(15), "the broker knows at once");
    let quick = world.for_audience(&planner, task, ELSEWHERE, &demand).await.unwrap();
    assert_eq!(life(&quick), Span::minutes(15), "whoever answers for it knows in time");
    for late in ["https://slow.example", "https://nobody.example"] {
        let late = world.for_audience(&planner, task, late, &demand).await.unwrap();
        assert_eq!([late.expires_at, late.renewable_until], [world.ledger.now().plus(Span::seconds(10)); 2]);
    }
    let stated = |grant: &Grant| world.ledger.view(|view| Exposure::of_token(&view, &grant.audience, grant.expires_at));
    assert_eq!(stated(&quick).feed, Some(Span::seconds(5).plus(HOLD)));
    assert_eq!((stated(&ours).feed, stated(&ours).broker), (None, Span::millis(0)));

    // A slower one answers for it since: what is issued from now on lives no longer.
    world.point("slower", ELSEWHERE, Span::seconds(30)).await;
    let (_, expires_at) = world.new_token(&planner, &quick).await;
    assert!(expires_at <= world.ledger.now().plus(Span::seconds(10)));
    let (_, expires_at) = world.new_token(&planner, &ours).await;
    assert_eq!(expires_at, ours.expires_at);
    // A delegation lies under the demand of what it hangs on; and no lease can meet one.
    world.agent("coder").await;
    let child = world.delegate(&planner, ours.id, "coder", &["db:read@a"]).await.unwrap();
    let refused = |grant: &Grant| world.ledger.view(|view| may_lease(&view, grant));
    assert_eq!(refused(&child).unwrap_err().reason, "exposure");
    let free = world.grant(&planner, task, &["db:read@**"]).await.unwrap();
    assert!(refused(&free).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_became_of_a_revocation_is_recorded_once_nothing_more_will() {
    let directory = tempfile::tempdir().unwrap();
    let office = Office::open(Box::new(store(directory.path())), directory.path()).await;
    let (planner, ana) = (office.world.agent("planner").await, office.world.operator("ana", &[Role::Responder]).await);
    let task = office.world.task(&planner).await.id;
    let settling = tokio::spawn(Settling::of(office.broker.cuts()).run());
    let grant = office.world.grant(&planner, task, &["db:read@**"]).await.unwrap();
    office.world.new_token(&planner, &grant).await;
    let lease = office.world.lease(&grant).await;
    let revoke = Revoke { target: Target::Grant(grant.id), reason: "leaked".parse().unwrap(), dry_run: false };
    let id = office.broker.revoke(&asked(&ana), revoke).await.unwrap().revocation.id;
    let shown = async |caller: &Caller| office.broker.revocation(&asked(caller), id, Page::default()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let awaited = shown(&ana).await.unwrap();
    assert!(awaited.record.settled.is_none() && !awaited.came.terminal);
    assert_eq!(shown(&planner).await.unwrap_err().code, Code::NotFound, "it was not the agent's own");

    office.world.change(&lease, LeaseStatus::Ended, None).await;
    let patience = Instant::now();
    while shown(&ana).await.unwrap().record.settled.is_none() {
        assert!(patience.elapsed() < Duration::from_secs(20), "it is not settled");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let over = shown(&ana).await.unwrap();
    let enforced = over.came.counts.enforced;
    assert_eq!((enforced.grants, enforced.tokens, enforced.leases), (1, 1, 1));
    assert!(over.came.terminal);
    // Long after its credentials have left memory it is told the same.
    office.world.hands.turn(Span::hours(3));
    office.world.operator("late", &[Role::Auditor]).await;
    let later = shown(&ana).await.unwrap();
    assert_eq!((later.came.counts.enforced, later.came.effects.len()), (enforced, 0));
    settling.abort();
    let unknown = RevocationId::mint(office.world.ledger.now(), &mut Entropy::from_seed([1; 32]));
    let none = office.broker.revocation(&asked(&ana), unknown, Page::default()).await;
    assert_eq!(none.unwrap_err().code, Code::NotFound);
}

#[test]
fn the_command_line_waits_shows_and_gets_a_receipt() {
    let broker = Broker::start();
    let planner = broker.agent("planner");
    let run = |arguments: &[&str]| broker.run_as(&planner, arguments).ok();
    let task = run(&["task", "start", "work"])["task"]["id"].as_str().unwrap().to_owned();
    let request = ["grant", "request", "--task", &task, "--scope", "db:read@a", "--token"];
    let granted = run(&request);
    assert_eq!(granted["exposure"]["broker_ms"], 0);
    let grant = granted["grant"]["id"].as_str().unwrap();
    let dry = broker.run(&["revoke", grant, "--reason", "x", "--dry-run"]).ok();
    let cut = broker.run(&["revoke", grant, "--reason", "leaked", "--wait", "20s"]).ok();
    assert_eq!((&dry["cut"], &dry["states"]), (&cut["cut"], &cut["states"]));
    assert_eq!((&cut["terminal"], &cut["cut"]["tokens"]), (&true.into(), &1.into()));
    assert!(dry["effects"].as_array().unwrap().iter().all(|effect| effect["owner"].is_string()), "{dry}");
    let id = cut["revocation"]["id"].as_str().unwrap();
    let shown = broker.run(&["revocation", "show", id, "--wait", "20s"]).ok();
    assert_eq!((&shown["cut"], &shown["revocation"]), (&cut["cut"], &cut["revocation"]));
    let first = broker.run(&["revocation", "show", id, "--limit", "1"]).ok();
    let next = first["next_page"].as_str().unwrap();
    let second = broker.run(&["revocation", "show", id, "--limit", "1", "--page", next]).ok();
    assert_ne!(first["effects"][0]["credential"], second["effects"][0]["credential"]);

    // What an audience may check by itself is honoured until it expires: that is awaited, and said with exit 7.
    let other = run(&[&request[..], &["--audience", ELSEWHERE]].concat());
    let other = other["grant"]["id"].as_str().unwrap().to_owned();
    let ran = broker.run(&["revoke", &other, "--reason", "x", "--wait", "1s"]);
    assert_eq!(ran.code, 7, "{ran:?}");
    let told: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&told["final"], &told["terminal"]), (&true.into(), &false.into()), "it is final all the same");

    let receipt = broker.run(&["revocation", "receipt", id]).ok()["receipt"].as_str().unwrap().to_owned();
    let token = granted["token"]["token"].as_str().or(granted["token"].as_str()).unwrap().to_owned();
    let part = |jws: &str, at: usize| -> serde_json::Value {
        use base64::Engine as _;
        let part = jws.split('.').nth(at).unwrap();
        serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    let (header, claims) = (part(&receipt, 0), part(&receipt, 1));
    assert_eq!(header["typ"], "belay-revocation+jwt");
    assert_eq!(header["kid"], part(&token, 0)["kid"], "signed by a key that verifiers know");
    assert_eq!((&claims["jti"], &claims["reason"], &claims["terminal"]), (&id.into(), &"leaked".into(), &true.into()));
    assert_eq!((&claims["counts"]["enforced"]["tokens"], &claims["unlisted"]), (&1.into(), &0.into()));
    let event = broker.run(&["audit", "show", &claims["seq"].to_string()]).ok();
    assert!(event.to_string().contains(claims["leaf"].as_str().unwrap()), "its leaf is in the log: {event}");
    // No receipt passes for a token, whoever signed it.
    assert_eq!(broker.run(&["token", "verify", &receipt]).code, 3);
}
