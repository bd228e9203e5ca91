//! The life of a signing key: rotation breaks nothing that is valid, a taint ends all that is under it, and nothing
//! that was put away comes back.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use belay::broker::{Asked, EventFilter, Issued};
use belay::client::identity;
use belay::domain::agent::{Kind, Role};
use belay::domain::decide::{AddKey, Caller, IssueToken, Presenter, RegisterAgent, RotateKey, TaintKey, presentable};
use belay::domain::error::{Code, Error};
use belay::domain::grant::Grant;
use belay::domain::key::{Key, Phase, Purpose};
use belay::domain::time::{AUTHORITY_MARGIN, Span};
use belay::format::jwt;
use belay::store::Sqlite;

use crate::support::office::{Office, asked};
use crate::support::world::{Hands, World};

const MILLI: Span = Span::millis(1);

/// A broker with an admin and an agent that holds a grant of twelve hours.
struct Shop {
    office: Office,
    admin: Asked,
    agent: Caller,
    grant: Grant,
}

impl Shop {
    async fn open(directory: &Path) -> Self {
        let office = open(directory, &Hands::new(), 1_000_000).await;
        let admin = asked(&office.world.operator("ada", &[Role::Admin]).await);
        let agent = office.world.agent("ana").await;
        let task = office.world.task_of(&agent, Span::hours(100)).await;
        let scopes = belay::domain::scope::Scopes::parse(&["db:read@**"]).unwrap();
        let ttl = Span::hours(12);
        let request = belay::domain::decide::RequestGrant { task: task.id, scopes, audience: None, ttl, token: false };
        let grant = office.world.submit(&agent, request).await.unwrap().grant;
        Self { office, admin, agent, grant }
    }

    async fn token(&self) -> String {
        self.office.token(&self.agent, self.grant.id).await
    }

    /// Why the token is refused; empty if it is accepted.
    fn says(&self, token: &str) -> &'static str {
        let checked = self.office.broker.check(&asked(&self.agent), token);
        let read = self.office.read(&self.agent, token, "orders");
        let refusal = checked.refusal.map_or("", |(reason, _)| reason);
        assert_eq!(refusal.is_empty(), read.verdict.allowed, "{refusal} and {read:?}");
        refusal
    }

    async fn rotate(&self, purpose: Purpose, at_once: bool) -> Key {
        self.office.broker.rotate_key(&self.admin().await, purpose, at_once).await.unwrap()
    }

    /// The admin, with an identity that is not over.
    async fn admin(&self) -> Asked {
        asked(&Caller::Operator(self.office.world.identity(Kind::Operator, "ada").await))
    }

    async fn taint(&self, kid: &str) -> Result<belay::domain::decide::Tainted, Error> {
        self.office.broker.taint_key(&self.admin().await, kid.to_owned(), "testing".parse().unwrap()).await
    }

    fn turn(&self, span: Span) {
        self.office.world.hands.turn(span);
    }

    fn phase(&self, kid: &str) -> Phase {
        self.office.broker.keys().into_iter().find(|(key, _)| key.kid == kid).unwrap().1
    }
}

async fn open(directory: &Path, hands: &Arc<Hands>, snapshot_every: u64) -> Office {
    Office::at(Box::new(Sqlite::open(directory).unwrap()), directory, Arc::clone(hands), snapshot_every).await
}

fn kid(token: &str) -> String {
    jwt::parse(token).unwrap().kid().to_owned()
}

/// A real identity for the holder of this one, with a key of its own.
async fn renewed(office: &Office, caller: &Caller) -> Result<Issued, Error> {
    let (_, csr) = identity::request(None).unwrap();
    let spki = belay::attest::csr::prove(&csr).unwrap().spki;
    office.broker.renew(&asked(caller), &spki, |_| Ok(())).await
}

fn presenter(office: &Office, issued: &Issued) -> Presenter {
    belay::attest::mtls::present(&issued.der, &office.broker.origin().trust_domain).unwrap().1
}

/// Why a certificate is refused; empty if it is accepted.
fn presents(office: &Office, presenter: &Presenter) -> &'static str {
    let now = office.world.ledger.now();
    office.world.ledger.view(|view| presentable(&view, presenter, now).map_or_else(|error| error.reason, |()| ""))
}

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
        let (hands, agent, admin, grant) = (Arc::clone(&shop.office.world.hands), shop.agent, shop.admin, shop.grant);
        drop(shop.office);
        shop = Shop { office: open(directory.path(), &hands, 1_000_000).await, admin, agent, grant };
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
        let (hands, agent, admin, grant) = (Arc::clone(&shop.office.world.hands), shop.agent, shop.admin, shop.grant);
        drop(shop.office);
        shop = Shop { office: open(directory.path(), &hands, 1_000_000).await, admin, agent, grant };
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

/// Four agents that never rest, three rotations and a taint of each purpose: what was accepted stays accepted unless
/// its key was tainted, and then it is refused for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_under_load_breaks_nothing_valid_and_revives_nothing_dead() {
    let directory = tempfile::tempdir().unwrap();
    let shop = Arc::new(Shop::open(directory.path()).await);
    let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (shop, stop, rounds) = (Arc::clone(&shop), Arc::clone(&stop), Arc::clone(&rounds));
            tokio::spawn(async move {
                let mut tokens = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    tokens.push(work(&shop).await);
                    rounds.fetch_add(1, Ordering::SeqCst);
                }
                tokens
            })
        })
        .collect();
    let some = async || {
        let until = rounds.load(Ordering::SeqCst) + 8;
        while rounds.load(Ordering::SeqCst) < until {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    let mut tainted = Vec::new();
    let told = async {
        for purpose in Purpose::ALL {
            for at_once in [true, false, true] {
                some().await;
                shop.rotate(purpose, at_once).await;
            }
            some().await;
            // The agents' authority is left alone here: they would all have to enroll again.
            if purpose == Purpose::Token {
                let kid = shop.office.world.signer(purpose);
                shop.taint(&kid).await.unwrap();
                tainted.push(kid);
            }
        }
        some().await;
        // The waiting one comes into its turn while they work.
        shop.turn(Purpose::Token.notice());
        shop.office.broker.refresh_keys().unwrap();
        some().await;
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), told).await.expect("the agents stand still");
    stop.store(true, Ordering::SeqCst);
    let mut signed_by = std::collections::BTreeSet::new();
    for worker in workers {
        for token in worker.await.unwrap() {
            let expected = if tainted.contains(&kid(&token)) { "key_unknown" } else { "" };
            assert_eq!(shop.says(&token), expected);
            signed_by.insert(kid(&token));
        }
    }
    assert!(signed_by.len() >= 4 && tainted.iter().all(|kid| signed_by.contains(kid)), "{signed_by:?}");
}

/// What an agent does: a new identity, a token, a call. Each must succeed; a taint of the very key that signs is the
/// one reason to ask again.
async fn work(shop: &Shop) -> String {
    let issued = renewed(&shop.office, &shop.agent).await.unwrap();
    assert_eq!(presents(&shop.office, &presenter(&shop.office, &issued)), "");
    loop {
        let command = IssueToken { grant: shop.grant.id, audience: None };
        let answer = shop.office.world.submit(&shop.agent, command).await.unwrap();
        match shop.office.broker.sign_token(answer) {
            Ok(signed) => {
                let said = shop.says_once(&signed.token);
                let dead = shop.phase(&kid(&signed.token)) == Phase::Tainted;
                assert!(said.is_empty() || dead, "{said}");
                return signed.token;
            }
            Err(error) => assert_eq!(error.reason, "key_tainted"),
        }
    }
}

/// Agents come and enroll while their authority is tainted and rotated under them: every enrolment ends with a
/// certificate, and a certificate is good exactly if nobody tainted its authority.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enrolments_go_on_through_taints_and_rotations_of_their_authority() {
    let directory = tempfile::tempdir().unwrap();
    let shop = Arc::new(Shop::open(directory.path()).await);
    let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let (shop, stop, rounds) = (Arc::clone(&shop), Arc::clone(&stop), Arc::clone(&rounds));
            tokio::spawn(async move {
                let mut issued = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let round = rounds.fetch_add(1, Ordering::SeqCst);
                    issued.push(enrolled(&shop.office, &format!("agent-{worker}-{round}")).await.unwrap());
                }
                issued
            })
        })
        .collect();
    let told = async {
        for _ in 0..4 {
            for tainted in [true, false] {
                let until = rounds.load(Ordering::SeqCst) + 8;
                while rounds.load(Ordering::SeqCst) < until {
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                }
                match tainted {
                    true => drop(shop.taint(&shop.office.world.signer(Purpose::Authority)).await.unwrap()),
                    false => drop(shop.rotate(Purpose::Authority, true).await),
                }
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), told).await.expect("the agents stand still");
    stop.store(true, Ordering::SeqCst);
    let (mut good, mut dead) = (0, 0);
    for worker in workers {
        for issued in worker.await.unwrap() {
            let tainted = shop.phase(&issued.identity.authority) == Phase::Tainted;
            let expected = if tainted { "key_tainted" } else { "" };
            assert_eq!(presents(&shop.office, &presenter(&shop.office, &issued)), expected);
            *(if tainted { &mut dead } else { &mut good }) += 1;
        }
    }
    assert!(good > 8 && dead > 8, "{good} and {dead}");
}

async fn enrolled(office: &Office, name: &str) -> Result<Issued, Error> {
    let secret = office.broker.join_secret();
    let command = RegisterAgent {
        name: name.parse().unwrap(),
        owner: "team".parse().unwrap(),
        purpose: "testing".parse().unwrap(),
        ceiling: None,
        max_ttl: None,
        labels: Vec::new(),
        secret_hash: secret.hash(),
    };
    let (_, join) = office.broker.submit(&Asked::broker("test"), command).await?;
    let (_, csr) = identity::request(None).unwrap();
    let spki = belay::attest::csr::prove(&csr).unwrap().spki;
    let token = office.broker.join_token(&join, secret).parse().unwrap();
    office.broker.enroll(&asked(&Caller::Stranger), &token, None, &spki, |_| Ok(())).await
}

impl Shop {
    /// As [`Shop::says`], where a taint may come between two questions.
    fn says_once(&self, token: &str) -> &'static str {
        self.office.broker.check(&asked(&self.agent), token).refusal.map_or("", |(reason, _)| reason)
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
        let answer = belay::edge::pages(scrape).oneshot(request).await.unwrap();
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
