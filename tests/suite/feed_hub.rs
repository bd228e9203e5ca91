//! The hub of the feed: nothing is lost, nothing comes twice, nobody waits for anybody, and who may not allow does not
//! vouch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use belay::domain::agent::AgentStatus;
use belay::domain::decide::{Caller, Revoke, SetAgentStatus};
use belay::domain::digest::Digest;
use belay::domain::effect::Heard;
use belay::domain::entropy::Entropy;
use belay::domain::error::{Code, Error};
use belay::domain::event::Origin;
use belay::domain::exposure::HOLD;
use belay::domain::feed::{Message, Part, Said, Signal};
use belay::domain::id::{GrantId, PepId};
use belay::domain::name::Name;
use belay::domain::pep::{DEFAULT_STALENESS, Pep, STALENESS};
use belay::domain::time::{Span, Timestamp};
use belay::effect::feed::{Hub, Subscription};
use belay::verifier::{Answer, Verifier};

use crate::support::faulty::{Fault, Faulty};
use crate::support::office::Office;
use crate::support::world::{Hands, NOW, World, store, unseen};

fn origin(world: &World) -> Origin {
    world.ledger.view(|view| view.origin().cloned()).unwrap()
}

fn running(world: &World) -> Arc<Hub> {
    let hub = Hub::new(Arc::clone(&world.ledger), origin(world));
    tokio::spawn(Arc::clone(&hub).run());
    hub
}

fn pep() -> Name {
    "gateway".parse().unwrap()
}

/// A grant that nobody has seen.
fn grt(name: &str) -> String {
    unseen(name, Timestamp::from_millis(NOW))
}

async fn revoke(world: &World, target: &str) {
    let command = Revoke { target: target.parse().unwrap(), reason: "testing".parse().unwrap(), dry_run: false };
    world.submit(&Caller::Broker, command).await.unwrap();
}

async fn halt(world: &World, agent: &str, status: AgentStatus) {
    let command = SetAgentStatus { name: agent.parse().unwrap(), status, reason: "testing".parse().unwrap() };
    world.submit(&Caller::Broker, command).await.unwrap();
}

/// The next that says something.
async fn next(subscription: &mut Subscription) -> Result<Arc<Message>, Error> {
    loop {
        let message =
            tokio::time::timeout(Duration::from_secs(20), subscription.next()).await.expect("it says something")?;
        if message.said != Said::Heartbeat {
            return Ok(message);
        }
    }
}

/// The targets of cuts, until one of `last`.
async fn cuts(subscription: &mut Subscription, last: &str) -> Vec<String> {
    let mut found = Vec::new();
    while found.last().is_none_or(|found| found != last) {
        match next(subscription).await.unwrap().said.clone() {
            Said::Signal(Signal::Cut { target, .. }) => found.push(target.to_string()),
            Said::State(part) => found.extend(part.signals.into_iter().filter_map(|signal| match signal {
                Signal::Cut { target, .. } => Some(target.to_string()),
                _ => None,
            })),
            _ => {}
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_misses_nothing_and_hears_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    let hands = Hands::new();
    let world = World::open(directory.path(), Arc::clone(&hands)).await;
    let hub = running(&world);
    let epoch = origin(&world).epoch;
    let mut first = hub.subscribe(&pep(), None).unwrap();
    let said = next(&mut first).await.unwrap();
    assert!(matches!(&said.said, Said::State(part) if part.first && part.last && !part.signals.is_empty()), "{said:?}");
    for name in ["a", "b"] {
        revoke(&world, &grt(name)).await;
    }
    assert_eq!(cuts(&mut first, &grt("b")).await, ["a", "b"].map(grt));
    drop(first);
    // What it knew is where the first cut is: the rest comes again, and what is cut while it is away.
    revoke(&world, &grt("c")).await;
    let seq = |name: &str| world.ledger.view(|view| view.cut(&grt(name).parse().unwrap()).unwrap().seq);
    let mut again = hub.subscribe(&pep(), Some((seq("a"), &epoch))).unwrap();
    revoke(&world, &grt("d")).await;
    assert_eq!(cuts(&mut again, &grt("d")).await, ["b", "c", "d"].map(grt));
    let known = seq("c");
    drop((again, hub));
    world.ledger.close();
    drop(world);

    let world = World::open(directory.path(), hands).await;
    let hub = running(&world);
    let mut after = hub.subscribe(&pep(), Some((known, &epoch))).unwrap();
    revoke(&world, &grt("e")).await;
    assert_eq!(cuts(&mut after, &grt("e")).await, ["d", "e"].map(grt), "a restart loses nothing");
    // A sequence of another epoch, or of the future, is not believed.
    let head = world.ledger.checkpoint().0;
    for (seq, epoch) in [(known, "another"), (known, ""), (head + 1, &epoch), (u64::MAX, &epoch)] {
        let mut newcomer = hub.subscribe(&pep(), Some((seq, epoch))).unwrap();
        let said = &next(&mut newcomer).await.unwrap().said;
        assert!(matches!(said, Said::State(Part { first: true, .. })), "{seq} of {epoch}: {said:?}");
    }
}

/// Invariant 12.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_subscriber_delays_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let world = Arc::new(World::open(directory.path(), Hands::new()).await);
    world.agent("ana").await;
    let hub = running(&world);
    let mut slow = hub.subscribe(&pep(), None).unwrap();
    assert!(matches!(next(&mut slow).await.unwrap().said, Said::State(_)));
    let (reader, mut fast) = (pep(), hub.subscribe(&pep(), None).unwrap());
    let reading = tokio::spawn(async move { cuts(&mut fast, &grt("last")).await });
    // More than the ring holds, while the slow one takes nothing. Many in a turn.
    let mut under_way = Vec::new();
    for at in 0..5000 {
        let world = Arc::clone(&world);
        let status = if at % 2 == 0 { AgentStatus::Suspended } else { AgentStatus::Active };
        under_way.push(tokio::spawn(async move {
            halt(&world, "ana", status).await;
            revoke(&world, &grt(&at.to_string())).await;
        }));
        if under_way.len() == 500 {
            for one in under_way.drain(..) {
                one.await.unwrap();
            }
        }
    }
    let since = Instant::now();
    revoke(&world, &grt("last")).await;
    let heard = tokio::time::timeout(Duration::from_secs(20), reading).await.unwrap().unwrap();
    println!("the last of {} cuts was heard {:.1?} after it was asked for", heard.len(), since.elapsed());
    assert_eq!(heard.len(), 5001);
    // The slow one is told where to go on, and goes on there with everything.
    let error = loop {
        if let Err(error) = next(&mut slow).await {
            break error;
        }
    };
    assert_eq!((error.code, error.reason), (Code::Exhausted, "feed_lagged"));
    let behind: u64 = error.message.rsplit(' ').next().unwrap().parse().unwrap();
    let mut again = hub.subscribe(&reader, Some((behind, &origin(&world).epoch))).unwrap();
    let said = &next(&mut again).await.unwrap().said;
    assert!(matches!(said, Said::State(_)), "what it missed is not in the ring any more: {said:?}");
}

fn point(name: Name) -> Pep {
    let id = PepId::mint(Timestamp::default(), &mut Entropy::from_seed([1; 32]));
    let audiences = vec!["https://orders.example".parse().unwrap()];
    Pep { id, name, audiences, staleness: DEFAULT_STALENESS, retired: None, created_at: Timestamp::from_millis(NOW) }
}

/// Nothing is acknowledged that was not sent, and one that is not there has heard nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_enforcement_point_has_heard_what_each_of_its_subscriptions_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    let hub = running(&world);
    let (mut one, mut other) = (hub.subscribe(&pep(), None).unwrap(), hub.subscribe(&pep(), None).unwrap());
    for subscription in [&mut one, &mut other] {
        next(subscription).await.unwrap();
    }
    one.ack(u64::MAX);
    revoke(&world, &grt("a")).await;
    let seq = world.ledger.view(|view| view.cut(&grt("a").parse().unwrap()).unwrap().seq);
    let heard = |name: Name, seq| hub.heard(&point(name), seq);
    assert_eq!(heard(pep(), seq), None, "a promise is no acknowledgement");
    cuts(&mut one, &grt("a")).await;
    one.ack(seq);
    assert_eq!(heard(pep(), seq), None, "the other has not");
    cuts(&mut other, &grt("a")).await;
    let at = world.hands.clone();
    at.turn(Span::millis(5));
    other.ack(seq);
    let since = heard(pep(), seq).unwrap();
    at.turn(Span::millis(5));
    other.ack(seq + 100);
    assert_eq!(heard(pep(), seq), Some(since), "the first time counts");
    assert_eq!(heard("another".parse().unwrap(), seq), None);
    revoke(&world, &grt("b")).await;
    let seq = world.ledger.view(|view| view.cut(&grt("b").parse().unwrap()).unwrap().seq);
    cuts(&mut one, &grt("b")).await;
    one.ack(seq);
    drop(other);
    assert_eq!(hub.subscribers(), 1);
    assert_eq!(heard(pep(), seq), None, "who left without a word may still go by what it knew");
    at.turn(DEFAULT_STALENESS.plus(HOLD));
    assert!(heard(pep(), seq).is_some(), "until that is too old to be believed");
    drop(one);
    assert!(heard(pep(), seq).is_some(), "who knew it when it left still does");
    at.turn(DEFAULT_STALENESS.plus(HOLD));
    assert_eq!((heard(pep(), seq), hub.subscribers()), (None, 0));
}

/// Whoever followed before is not known any more, and goes by what it knew for a while.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_nobody_has_heard_until_all_that_was_known_is_too_old() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    let hub = running(&world);
    revoke(&world, &grt("a")).await;
    let seq = world.ledger.view(|view| view.cut(&grt("a").parse().unwrap()).unwrap().seq);
    let mut one = hub.subscribe(&pep(), None).unwrap();
    cuts(&mut one, &grt("a")).await;
    one.ack(seq);
    let older = Pep { created_at: Timestamp::from_millis(NOW - 1), ..point(pep()) };
    assert_eq!(hub.heard(&older, seq), None, "another of its verifiers may not have come back");
    assert!(hub.heard(&point(pep()), seq).is_some(), "one that is newer than the hub never was elsewhere");
    world.hands.turn(DEFAULT_STALENESS.plus(HOLD).less(Span::millis(1)));
    assert_eq!(hub.heard(&older, seq), None);
    world.hands.turn(Span::millis(1));
    assert!(hub.heard(&older, seq).is_some(), "who came back counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_enforcement_point_leaves_room_for_others() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    let hub = running(&world);
    let mut all: Vec<Subscription> = (0..1024).map(|_| hub.subscribe(&pep(), None).unwrap()).collect();
    let refused = |of: &str| hub.subscribe(&of.parse().unwrap(), None).err().map(|error| error.reason);
    assert_eq!(refused("gateway"), Some("too_many_subscriptions"));
    assert_eq!(refused("another"), None);
    // All may come back at once, and not for ever: what they knew is believed, and remembered, for a while.
    for _ in 0..3 {
        all.clear();
        all.extend((0..1024).map(|_| hub.subscribe(&pep(), None).unwrap()));
    }
    all.clear();
    assert_eq!(refused("gateway"), Some("too_many_subscriptions"));
    world.hands.turn(DEFAULT_STALENESS.plus(HOLD));
    // It is not registered here: nothing is known of how long it believes, but the longest.
    assert_eq!(refused("gateway"), Some("too_many_subscriptions"));
    world.hands.turn(STALENESS.1);
    assert_eq!(refused("gateway"), None);
}

/// A token, its holder's thumbprint, and a verifier that follows the feed of its broker by a clock of the test.
struct Service {
    office: Office,
    token: String,
    thumbprint: Digest,
    grant: GrantId,
    subscription: Subscription,
    verifier: Verifier,
    monotonic: Duration,
    _directory: tempfile::TempDir,
}

impl Service {
    async fn over(faulty: bool) -> (Self, Option<crate::support::faulty::Control>) {
        let directory = tempfile::tempdir().unwrap();
        let (plain, mut control) = (Box::new(store(directory.path())), None);
        let store: Box<dyn belay::store::Store> = if faulty {
            let (store, handle) = Faulty::over(plain);
            control = Some(handle);
            store
        } else {
            plain
        };
        let office = Office::open(store, directory.path()).await;
        tokio::spawn(Arc::clone(office.broker.feed()).run());
        let ana = office.world.agent("ana").await;
        let task = office.world.task(&ana).await;
        let grant = office.world.grant(&ana, task.id, &["db:read@**"]).await.unwrap().id;
        let token = office.token(&ana, grant).await;
        let thumbprint = ana.presenter().unwrap().thumbprint;
        let subscription = office.broker.feed().subscribe(&pep(), None).unwrap();
        let verifier = Verifier::new(Duration::from_secs(4));
        let (monotonic, _directory) = (Duration::from_secs(100), directory);
        let mut service = Self { office, token, thumbprint, grant, subscription, verifier, monotonic, _directory };
        assert_eq!(service.says(), "feed_incomplete");
        service.hear(|said| matches!(said, Said::State(_))).await;
        assert_eq!(service.says(), "feed_stale", "nothing was echoed yet");
        (service, control)
    }

    fn says(&self) -> &'static str {
        let audience = self.office.broker.origin().issuer.clone();
        let now = self.office.world.ledger.now();
        match self.verifier.check(&self.token, &audience, Some(&self.thumbprint), now, self.monotonic) {
            Answer::Valid(_) => "valid",
            Answer::Invalid(error) => error.reason,
            Answer::Unavailable(error) => error.reason,
        }
    }

    /// Takes what comes, until this.
    async fn hear(&mut self, until: impl Fn(&Said) -> bool) {
        loop {
            let message = self.subscription.next().await.unwrap();
            let done = until(&message.said);
            self.verifier.apply(Message::clone(&message)).unwrap();
            if done {
                return;
            }
        }
    }

    /// Sends a nonce; whether it is echoed before the second heartbeat from now.
    async fn beat(&mut self) -> bool {
        let nonce = format!("{:?}", self.monotonic).into_bytes();
        self.verifier.beat(nonce.clone(), self.monotonic);
        self.subscription.beat(nonce).unwrap();
        let mut heartbeats = 0;
        while heartbeats < 2 {
            let message = self.subscription.next().await.unwrap();
            match &message.said {
                Said::Echo(_) => {
                    self.verifier.apply(Message::clone(&message)).unwrap();
                    return true;
                }
                Said::Heartbeat => heartbeats += 1,
                _ => {}
            }
            self.verifier.apply(Message::clone(&message)).unwrap();
        }
        false
    }
}

/// Invariant 7, of verifiers.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_verifier_refuses() {
    let (mut service, _) = Service::over(false).await;
    assert!(service.beat().await);
    assert_eq!(service.says(), "valid");
    service.monotonic += Duration::from_secs(4);
    assert_eq!(service.says(), "valid", "as old as it may be");
    service.monotonic += Duration::from_millis(1);
    assert_eq!(service.says(), "feed_stale");
    // That something comes says nothing of when: only an echo does, and of when its nonce was sent.
    service.hear(|said| *said == Said::Heartbeat).await;
    assert_eq!(service.says(), "feed_stale");
    service.verifier.beat(b"mine".to_vec(), service.monotonic);
    service.subscription.beat(b"somebody else's".to_vec()).unwrap();
    service.hear(|said| matches!(said, Said::Echo(_))).await;
    assert_eq!(service.says(), "feed_stale", "a nonce that was not sent");
    assert!(service.beat().await);
    assert_eq!(service.says(), "valid");
    // What is over for good stays over, however old that is known to be.
    revoke(&service.office.world, &service.grant.to_string()).await;
    service.hear(|said| matches!(said, Said::Signal(_))).await;
    service.monotonic += Duration::from_secs(60);
    assert_eq!(service.says(), "grant_revoked");
}

/// An echo says that all that was recorded when the nonce came is known.
#[tokio::test(flavor = "multi_thread")]
async fn an_echo_comes_behind_what_was_recorded_before_its_nonce() {
    let (mut service, _) = Service::over(false).await;
    for round in 0..50 {
        let target = grt(&round.to_string());
        revoke(&service.office.world, &target).await;
        service.subscription.beat(b"now".to_vec()).unwrap();
        let mut heard = false;
        loop {
            let message = service.subscription.next().await.unwrap();
            match &message.said {
                Said::Signal(Signal::Cut { target: cut, .. }) => heard |= cut.to_string() == target,
                Said::Echo(_) => break,
                _ => {}
            }
        }
        assert!(heard, "round {round}: it was vouched for before it was said");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_may_not_allow_vouches_for_nothing() {
    let (mut service, control) = Service::over(true).await;
    assert!(service.beat().await);
    // Its clock jumps.
    service.office.world.hands.step(3_600_000);
    assert!(!service.beat().await, "a clock in doubt");
    service.monotonic += Duration::from_secs(5);
    assert_eq!(service.says(), "feed_stale");
    service.office.world.hands.step(-3_600_000);
    // Both clocks have to agree for a while.
    for _ in 0..30 {
        service.office.world.hands.turn(Span::seconds(1));
        service.office.world.ledger.is_ready();
    }
    assert!(service.beat().await);
    assert_eq!(service.says(), "valid");
    // Its store is gone.
    control.unwrap().fail(0, Fault::Begin);
    let error = service.office.world.submit(
        &Caller::Broker,
        SetAgentStatus {
            name: "ana".parse().unwrap(),
            status: AgentStatus::Suspended,
            reason: "testing".parse().unwrap(),
        },
    );
    error.await.unwrap_err();
    assert!(!service.beat().await, "an unreachable store");
    service.monotonic += Duration::from_secs(5);
    assert_eq!(service.says(), "feed_stale");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_missed_is_noticed() {
    let (mut service, _) = Service::over(false).await;
    assert!(service.beat().await);
    revoke(&service.office.world, &grt("a")).await;
    let missed = next(&mut service.subscription).await.unwrap();
    assert!(matches!(missed.said, Said::Signal(_)));
    // The next says so, whatever it is; and no echo counts any more.
    let known = service.verifier.position().unwrap().0;
    let message = service.subscription.next().await.unwrap();
    let gap = service.verifier.apply(Message::clone(&message)).unwrap_err();
    assert_eq!((gap.known, gap.said), (known, missed.seq));
    let echo = Message { said: Said::Echo(b"x".to_vec()), ..Message::clone(&message) };
    service.verifier.beat(b"x".to_vec(), service.monotonic + Duration::from_secs(60));
    service.verifier.apply(Message { prev: 0, ..echo }).unwrap_err();
    service.monotonic += Duration::from_secs(5);
    assert_eq!(service.says(), "feed_stale");
    // It goes on where it was.
    let (seq, epoch) = service.verifier.position().map(|(seq, epoch)| (seq, epoch.to_owned())).unwrap();
    service.subscription = service.office.broker.feed().subscribe(&pep(), Some((seq, &epoch))).unwrap();
    service.verifier.reconnected();
    assert!(service.beat().await);
    assert_eq!(service.says(), "valid");
    assert_eq!(service.verifier.position().unwrap().0, service.office.world.ledger.checkpoint().0);
}

/// A nonce is bounded, and so is what is kept of many.
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_subscriber_is_bounded() {
    let (mut service, _) = Service::over(false).await;
    for length in [0, 65, 1 << 20] {
        let error = service.subscription.beat(vec![7; length]).unwrap_err();
        assert_eq!((error.code, error.field), (Code::Invalid, Some("nonce")), "{length}");
    }
    for at in 0..1000_u32 {
        service.subscription.beat(at.to_be_bytes().to_vec()).unwrap();
    }
    let said = next(&mut service.subscription).await.unwrap();
    assert_eq!(said.said, Said::Echo(999_u32.to_be_bytes().to_vec()), "the last of many takes their place");
}
