//! The life of a signing key: rotation breaks nothing that is valid, a taint ends all that is under it, and nothing
//! that was put away comes back.

use std::sync::Arc;

use belay::attest::subject::Issuers;
use belay::broker::EventFilter;
use belay::domain::agent::Role;
use belay::domain::decide::{AddKey, Caller, IssueToken, RotateKey, TaintKey};
use belay::domain::error::Code;
use belay::domain::key::{Key, Phase, Purpose};
use belay::domain::time::{AUTHORITY_MARGIN, Span};
use belay::store::Sqlite;

use crate::support::shop::{Shop, kid, open, presenter, presents, renewed};
use crate::support::world::{Hands, World};

const MILLI: Span = Span::millis(1);

#[tokio::test]
async fn a_token_key_goes_through_its_phases_and_what_it_signed_outlives_its_turn() {
    let directory = tempfile::tempdir().unwrap();
    let shop = Shop::open(directory.path()).await;
    let before = shop.token().await;
    let old = kid(&before);
    let new = shop.rotate(Purpose::Token, false).await;
    assert_eq!((shop.phase(&old), shop.phase(&new.kid)), (Phase::Used, Phase::Published));
    let published = shop.office.broker.accepted_keys(&[Purpose::Token]);
    assert_eq!(published.iter().map(|key| &key.kid).collect::<Vec<_>>(), [&old, &new.kid], "shown before it signs");

    shop.turn(Span::millis(Purpose::Token.notice().as_millis() - 1));
    let last = shop.token().await;
    assert_eq!(kid(&last), old);
    shop.turn(MILLI);
    let first = shop.token().await;
    assert_eq!((kid(&first), shop.phase(&old)), (new.kid.clone(), Phase::Retiring));
    for token in [&before, &last, &first] {
        assert_eq!(shop.says(token), "");
    }
    // Twice in a row, and by surprise.
    let third = shop.rotate(Purpose::Token, true).await;
    let fourth = shop.rotate(Purpose::Token, true).await;
    let now = shop.token().await;
    assert_eq!(kid(&now), fourth.kid);
    assert_eq!((shop.phase(&third.kid), shop.phase(&new.kid)), (Phase::Retiring, Phase::Retiring));
    for token in [&before, &last, &first, &now] {
        assert_eq!(shop.says(token), "");
    }
    let again = shop.office.broker.rotate_key(&shop.admin, Purpose::Token, false).await.unwrap();
    let refused = shop.office.broker.rotate_key(&shop.admin, Purpose::Token, false).await.unwrap_err();
    assert_eq!((refused.reason, refused.message.contains(&again.kid)), ("rotation_pending", true));
}

#[tokio::test]
async fn a_retired_key_is_not_accepted_and_a_restart_does_not_bring_it_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut shop = Shop::open(directory.path()).await;
    let before = shop.token().await;
    let [old, authority] = [kid(&before), shop.office.world.signer(Purpose::Authority)];
    let [new, next] = [Purpose::Token, Purpose::Authority].map(|purpose| (purpose, true));
    let (new, next) = (shop.rotate(new.0, new.1).await, shop.rotate(next.0, next.1).await);
    for _ in 0..2 {
        assert_eq!([&old, &authority].map(|kid| shop.phase(kid)), [Phase::Retiring; 2]);
        assert_eq!(shop.office.broker.accepted_keys(&[Purpose::Token, Purpose::Authority]).len(), 4);
        shop = shop.restarted(directory.path()).await;
        assert_eq!(shop.says(&before), "");
    }
    shop.turn(Purpose::Token.longest());
    for _ in 0..2 {
        assert_eq!([&old, &authority].map(|kid| shop.phase(kid)), [Phase::Retired; 2]);
        let accepted = shop.office.broker.accepted_keys(&[Purpose::Token, Purpose::Authority]);
        let accepted: Vec<_> = accepted.iter().map(|key| &key.kid).collect();
        assert_eq!(accepted, [&new.kid, &next.kid]);
        // Without the taint and without the expiry: its key alone is what the token is refused for.
        shop.office.broker.refresh_keys().unwrap();
        assert_eq!(shop.says(&before), "key_unknown");
        let (_, roots) = shop.office.broker.roots();
        assert!(roots.contains(next.certificate.as_ref().unwrap()) && roots.len() == 2, "{}", roots.len());
        shop = shop.restarted(directory.path()).await;
    }
    // Tainted or not, what took over from it ended it for good.
    shop.taint(&new.kid).await.unwrap();
    assert_eq!((shop.phase(&old), shop.says(&before)), (Phase::Retired, "key_unknown"));
}

#[tokio::test]
async fn everything_under_a_tainted_key_is_refused_at_once_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let shop = Shop::open(directory.path()).await;
    let first = shop.token().await;
    shop.rotate(Purpose::Token, true).await;
    let second = shop.token().await;
    let waiting = shop.rotate(Purpose::Token, false).await;

    // One that waits: nothing is under it, and it never signs.
    let tainted = shop.taint(&waiting.kid).await.unwrap();
    assert_eq!((tainted.tokens, tainted.certificates, shop.says(&first), shop.says(&second)), (0, 0, "", ""));
    shop.turn(Purpose::Token.notice());
    assert_eq!(kid(&shop.token().await), kid(&second));

    // One that retires: no successor is needed.
    let tainted = shop.taint(&kid(&first)).await.unwrap();
    assert_eq!((tainted.tokens, shop.says(&first), shop.says(&second)), (1, "key_unknown", ""));

    // The one in use: a new one signs from that moment on.
    let tainted = shop.taint(&kid(&second)).await.unwrap();
    assert_eq!((tainted.tokens, shop.says(&second)), (2, "key_unknown"));
    let third = shop.token().await;
    assert_eq!(shop.says(&third), "");
    assert_ne!(kid(&third), kid(&second));

    // Again, and unknown.
    let taints = || {
        let filter = EventFilter { kind: Some("key_tainted".to_owned()), ..EventFilter::default() };
        shop.office.broker.events(&filter, 0, 100).unwrap().0.len()
    };
    assert_eq!(taints(), 3);
    shop.taint(&kid(&second)).await.unwrap();
    assert_eq!(taints(), 3, "to say it again is no event");
    let unknown = shop.taint("nothing").await.unwrap_err();
    assert_eq!((unknown.code, unknown.field), (Code::NotFound, Some("kid")));

    // Rotated away, retired, and tainted then.
    shop.rotate(Purpose::Token, true).await;
    shop.turn(Purpose::Token.longest());
    assert_eq!(shop.phase(&kid(&third)), Phase::Retired);
    // Retired keys have nothing that lives; they can be tainted all the same.
    shop.taint(&kid(&third)).await.unwrap();
    assert_eq!(shop.phase(&kid(&third)), Phase::Tainted);
}

/// With a day's notice the next one would come too late.
#[tokio::test]
async fn an_authority_in_its_last_day_is_rotated_at_once_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    let rotate = async |kid: &str, lives: Span, at_once| {
        let key = world.key(Purpose::Authority, kid);
        let key = Key { not_after: Some(world.ledger.now().plus(lives)), ..key };
        world.submit(&Caller::Broker, RotateKey { key, at_once }).await
    };
    rotate("short", Span::hours(24), true).await.unwrap();
    let refused = rotate("late", Span::hours(1000), false).await.unwrap_err();
    assert_eq!((refused.reason, refused.message.contains("--now")), ("ends_before", true));
    rotate("now", Span::hours(1000), true).await.unwrap();
    rotate("later", Span::hours(1000), false).await.unwrap();
}

#[tokio::test]
async fn of_two_keys_of_one_moment_the_later_one_signs() {
    let directory = tempfile::tempdir().unwrap();
    let shop = Shop::open(directory.path()).await;
    let first = shop.office.world.signer(Purpose::Token);
    // The clock stands still, as a batch's time does while the wall clock is behind it.
    for _ in 0..8 {
        let made = shop.rotate(Purpose::Token, true).await;
        assert_eq!(shop.office.world.signer(Purpose::Token), made.kid);
        shop.taint(&made.kid).await.unwrap();
        assert_eq!(shop.phase(&first), Phase::Retiring, "what was put away signs again");
        assert_eq!(shop.says(&shop.token().await), "");
    }
}

/// The state alone refuses it, whatever the key ring holds: another node's may be older.
#[tokio::test]
async fn the_state_refuses_a_tainted_key_before_any_key_ring_does() {
    let directory = tempfile::tempdir().unwrap();
    let shop = Shop::open(directory.path()).await;
    let token = shop.token().await;
    let Caller::Agent(holder) = &shop.agent else { unreachable!() };
    assert_eq!(presents(&shop.office, holder), "");
    let taint = async |kid: String, purpose| {
        let successor = Some(shop.office.world.key(purpose, &format!("next-{purpose}")));
        let command = TaintKey { kid, reason: "testing".parse().unwrap(), successor };
        shop.office.world.submit(&shop.admin.caller, command).await.unwrap();
    };
    // Not through the broker: its ring and verifier know nothing of it.
    taint(kid(&token), Purpose::Token).await;
    assert_eq!(shop.says(&token), "key_tainted");
    taint(shop.office.world.signer(Purpose::Authority), Purpose::Authority).await;
    assert_eq!(presents(&shop.office, holder), "key_tainted");
    let refused = shop.office.world.submit(&shop.agent, IssueToken { grant: shop.grant.id, audience: None }).await;
    assert_eq!(refused.unwrap_err().reason, "key_tainted");
    // Operators are under another authority.
    let Caller::Operator(admin) = &shop.admin.caller else { unreachable!() };
    assert_eq!(presents(&shop.office, admin), "");
}

#[tokio::test]
async fn an_authority_without_notice_signs_for_agents_and_is_not_yet_the_brokers_face() {
    let directory = tempfile::tempdir().unwrap();
    let shop = Shop::open(directory.path()).await;
    let old = shop.office.broker.authority();
    let before = renewed(&shop.office, &shop.agent).await.unwrap();
    let new = shop.rotate(Purpose::Authority, true).await;
    let after = renewed(&shop.office, &shop.agent).await.unwrap();
    assert_eq!(after.identity.authority, new.kid);
    for issued in [&before, &after] {
        assert_eq!(presents(&shop.office, &presenter(&shop.office, issued)), "");
    }
    let both = [old.clone(), new.certificate.clone().unwrap()];
    assert_eq!(shop.office.broker.authorities(), both, "whoever enrolls now learns both, the broker's own first");
    // A day later nobody is left who does not know it; the one before is over in the same moment.
    shop.turn(Span::hours(24));
    assert_eq!(shop.office.broker.authorities(), [new.certificate.clone().unwrap()]);
    assert_eq!(shop.office.broker.authority(), new.certificate.unwrap());

    // With notice: the change is one moment for all.
    let next = shop.rotate(Purpose::Authority, false).await;
    let next_certificate = next.certificate.clone().unwrap();
    assert!(
        shop.office.broker.authorities().contains(&next_certificate)
            && shop.office.broker.roots().1.contains(&next_certificate)
    );
    shop.turn(Span::millis(Purpose::Authority.notice().as_millis() - 1));
    assert_ne!(shop.office.broker.authority(), next_certificate);
    shop.turn(MILLI);
    assert_eq!(shop.office.broker.authority(), next_certificate);
    // Tainted: nobody waits for anybody.
    let tainted = shop.taint(&next.kid).await.unwrap();
    assert_eq!(tainted.certificates, 0);
    assert!(!shop.office.broker.authorities().contains(&next_certificate));
}

#[tokio::test]
async fn only_who_may_rotates_and_taints() {
    let directory = tempfile::tempdir().unwrap();
    let shop = Shop::open(directory.path()).await;
    let key = || shop.office.world.key(Purpose::Token, "mine");
    let taint = || {
        let kid = shop.office.world.signer(Purpose::Token);
        TaintKey { kid, reason: "testing".parse().unwrap(), successor: Some(key()) }
    };
    let responder = shop.office.world.operator("rob", &[Role::Responder]).await;
    let auditor = shop.office.world.operator("eve", &[Role::Auditor]).await;
    for caller in [&shop.agent, &auditor, &responder, &Caller::Stranger] {
        let rotated = shop.office.world.submit(caller, RotateKey { key: key(), at_once: true }).await;
        assert_eq!(rotated.unwrap_err().code, Code::Denied, "{caller:?}");
        let added = shop.office.world.submit(caller, AddKey { key: key() }).await;
        assert_eq!(added.unwrap_err().reason, "broker_only", "{caller:?}");
        let tainted = shop.office.world.submit(caller, taint()).await.map_err(|error| error.code);
        assert_eq!(tainted.is_ok(), *caller == responder, "{caller:?}: {tainted:?}");
    }
}

#[tokio::test]
async fn keys_in_every_phase_fold_the_same_from_a_snapshot_and_from_the_beginning() {
    let [first, second] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let shop = Shop::open(first.path()).await;
    let old = shop.office.world.signer(Purpose::Token);
    shop.rotate(Purpose::Token, true).await;
    shop.turn(Purpose::Token.longest());
    let retiring = shop.rotate(Purpose::Token, true).await;
    let tainted = shop.rotate(Purpose::Token, true).await;
    shop.taint(&tainted.kid).await.unwrap();
    let waiting = shop.rotate(Purpose::Token, false).await;
    let phases = [
        (&old, Phase::Retired),
        (&retiring.kid, Phase::Retiring),
        (&tainted.kid, Phase::Tainted),
        (&waiting.kid, Phase::Published),
    ];
    for (kid, phase) in phases {
        assert_eq!(shop.phase(kid), phase);
    }
    let hands = Arc::clone(&shop.office.world.hands);
    let (live, size) = (shop.office.world.ledger.fingerprint().unwrap(), shop.office.world.ledger.checkpoint().0);
    drop(shop);
    for file in std::fs::read_dir(first.path()).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), second.path().join(file.file_name())).unwrap();
    }
    let full = World::over(Box::new(Sqlite::open(first.path()).unwrap()), Arc::clone(&hands), 1_000_000).await;
    assert!(full.ledger.fingerprint().unwrap() == live);
    drop(full);
    // Another broker takes a snapshot in passing, and the next one begins from it.
    let snapshots = open(second.path(), &hands, 1).await;
    let before = snapshots.broker.keys();
    snapshots.world.agent("bea").await;
    drop(snapshots);
    let again = open(second.path(), &hands, 1_000_000).await;
    assert!(again.world.ledger.checkpoint().0 > size && again.broker.keys() == before);
    for (kid, phase) in phases {
        assert_eq!(again.broker.keys().into_iter().find(|(key, _)| key.kid == *kid).unwrap().1, phase);
    }
}

#[tokio::test]
async fn an_authority_that_is_over_is_said_and_replaced_by_a_start() {
    let directory = tempfile::tempdir().unwrap();
    let shop = Shop::open(directory.path()).await;
    let authority = shop.office.world.signer(Purpose::Authority);
    let endings = shop.office.broker.endings();
    assert_eq!(endings.iter().map(|one| one.purpose).collect::<Vec<_>>(), [Purpose::Authority, Purpose::Operator]);
    let end = endings.iter().map(|one| one.at).min().unwrap();
    let left = end.since(shop.office.world.ledger.now());
    shop.turn(Span::millis(left.as_millis() - AUTHORITY_MARGIN.as_millis() - 1));
    assert!(shop.office.broker.is_ready().is_ok());
    shop.turn(MILLI);
    let late = shop.office.broker.is_ready().unwrap_err();
    assert_eq!((late.reason, late.message.contains(&end.to_string())), ("authority_expired", true));
    let page = async |broker: Arc<belay::broker::Broker>| {
        use tower::ServiceExt as _;
        let exporter = belay::measure::Exporter::install().unwrap();
        let scrape = belay::edge::Scrape::new(broker, exporter, directory.path().to_owned());
        let request = axum::http::Request::get("/readyz").body(axum::body::Body::empty()).unwrap();
        let answer = belay::edge::pages(scrape, &Arc::new(Issuers::new(Vec::new()))).oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        (status, axum::body::to_bytes(answer.into_body(), 4096).await.unwrap())
    };
    let hands = Arc::clone(&shop.office.world.hands);
    let broker = Arc::new(shop.office.broker);
    let (status, line) = page(Arc::clone(&broker)).await;
    assert!(status == 503 && String::from_utf8_lossy(&line).contains("authority"), "{status} {line:?}");
    drop((broker, shop.office.world));

    for past in [Span::default(), Span::hours(48)] {
        hands.turn(past);
        let office = open(directory.path(), &hands, 1_000_000).await;
        let next = office.world.signer(Purpose::Authority);
        assert_ne!(next, authority);
        assert!(office.broker.is_ready().is_ok());
        assert_eq!(page(Arc::new(office.broker)).await.0, 200);
    }
    // And one that has long to go is left as it is.
    let signer = async || open(directory.path(), &hands, 1_000_000).await.world.signer(Purpose::Authority);
    assert_eq!(signer().await, signer().await);
}
