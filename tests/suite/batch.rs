//! One turn decides many requests. What is wrong with one of them is nobody else's loss.

use belay::domain::MAX_EVENT;
use belay::domain::decide::{Caller, Context, Decide, Decision};
use belay::domain::digest::Digest;
use belay::domain::entropy::Entropy;
use belay::domain::error::{Code, Error};
use belay::domain::event::{Actor, Body, Entry};
use belay::domain::grant::{Status, Task};
use belay::domain::id::{CertificateId, GrantId, TaskId};
use belay::domain::key::{Key, Purpose};
use belay::domain::time::Span;

use crate::support::gate::{Gate, queued};
use crate::support::world::{Hands, World};

/// A request of which the broker's own code despairs.
struct Panics;

impl Decide for Panics {
    type Answer = ();
    const VERB: &'static str = "test.panics";

    fn decide(&self, _: &mut Context<'_>) -> Result<Decision<()>, Error> {
        panic!("on purpose");
    }
}

/// A request that wants these events: a good one first, so that half of it could be kept by mistake.
struct Wants(fn(&mut Context<'_>) -> Body);

impl Decide for Wants {
    type Answer = ();
    const VERB: &'static str = "test.wants";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<()>, Error> {
        let good = Body::TaskStarted {
            task: Task {
                id: TaskId::mint(ctx.now, ctx.entropy),
                purpose: "half of a bad request".parse()?,
                agent: "planner".parse()?,
                subject: None,
                expires_at: ctx.now.plus(Span::hours(1)),
                envelope: None,
                ended: None,
                suspended: false,
                created_at: ctx.now,
            },
        };
        let other = (self.0)(ctx);
        Ok(Decision::new(vec![good, other], ()))
    }
}

fn oversized(ctx: &mut Context<'_>) -> Body {
    Body::CertificateSigned { id: CertificateId::mint(ctx.now, ctx.entropy), der: vec![0; MAX_EVENT + 1] }
}

/// It changes a grant that no event made: the log would not fold.
fn unfit(ctx: &mut Context<'_>) -> Body {
    let id = GrantId::mint(ctx.now, ctx.entropy);
    Body::GrantStatusChanged {
        id,
        root: id,
        agent: "planner".parse().unwrap(),
        status: Status::Suspended,
        reason: "no such grant".parse().unwrap(),
    }
}

#[tokio::test]
async fn one_request_cannot_fail_another() {
    let directory = tempfile::tempdir().unwrap();
    let (gate, hands) = (Gate::default(), Hands::new());
    let world = World::over(gate.store(directory.path()), hands.clone(), 1_000_000).await;
    let (planner, _) = (world.agent("planner").await, world.agent("coder").await);
    let task = world.task(&planner).await;
    let root = world.grant(&planner, task.id, &["db:read@**"]).await.unwrap();
    let before = world.ledger.checkpoint().0;

    let shut = gate.shut();
    let plug = queued(world.task(&planner));
    gate.wait_for_sequencer();
    // All of these are behind the plug, and so in one batch, in this order.
    let first = queued(world.grant(&planner, task.id, &["db:read@a"]));
    let panicking = queued(world.submit_once(&Caller::Broker, Panics, Some(("panics", b"1"))));
    let second = queued(world.delegate(&planner, root.id, "coder", &["db:read@b"]));
    let large = queued(world.submit_once(&Caller::Broker, Wants(oversized), Some(("large", b"1"))));
    let third = queued(world.grant(&planner, task.id, &["db:read@c"]));
    let unfolded = queued(world.submit_once(&Caller::Broker, Wants(unfit), Some(("unfit", b"1"))));
    let refused = queued(world.delegate(&planner, root.id, "coder", &["db:write@b"]));
    let fourth = queued(world.task(&planner));
    drop(shut);

    let plugged = plug.await;
    let good = [first.await.unwrap().id, second.await.unwrap().id, third.await.unwrap().id];
    let started = fourth.await;
    let error = panicking.await.unwrap_err();
    assert_eq!((error.code, error.reason), (Code::Internal, "panicked"));
    let error = large.await.unwrap_err();
    assert_eq!((error.code, error.reason), (Code::Invalid, "too_large"), "{error}");
    let error = unfolded.await.unwrap_err();
    assert_eq!((error.code, error.reason), (Code::Internal, "unfit_event"), "{error}");
    let error = refused.await.unwrap_err();
    assert_eq!((error.code, error.reason), (Code::Denied, "scope_widened"), "{error}");

    // One event of the plug's, then the four good ones in one batch, and nothing else: not half of a bad one either.
    assert_eq!(gate.batches().split_last_chunk::<2>().unwrap().1, &[1, 4]);
    let entries = world.ledger.entries(before, 100).unwrap();
    let made: Vec<String> = entries.iter().map(|(_, entry, _)| made(&entry.body)).collect();
    let expected = [plugged.id.to_string(), good[0].to_string(), good[1].to_string(), good[2].to_string()];
    assert_eq!(made, [&expected[..], &[started.id.to_string()]].concat());
    good.iter().for_each(|id| assert_eq!(world.state(*id), Some("active")));

    // The ledger goes on, takes the same keys for other requests, and is what its log folds to.
    for (key, verb) in [("large", "again"), ("unfit", "again")] {
        let command = Wants(|ctx| Body::KeyAdded(key_of(ctx.now, 0)));
        world.submit_once(&Caller::Broker, command, Some((key, verb.as_bytes()))).await.unwrap();
    }
    let (state, checkpoint) = (world.ledger.fingerprint().unwrap(), world.ledger.checkpoint());
    drop(world);
    let world = World::over(gate.store(directory.path()), hands, 1_000_000).await;
    assert_eq!(world.ledger.checkpoint(), checkpoint);
    assert!(world.ledger.fingerprint().unwrap() == state, "the log folds to another state than was answered from");
}

/// An event that is exactly as long as an event may be is kept; one byte more is refused.
#[tokio::test]
async fn the_longest_event_is_kept() {
    struct Certificate(usize);
    impl Decide for Certificate {
        type Answer = ();
        const VERB: &'static str = "test.certificate";

        fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<()>, Error> {
            Ok(Decision::new(vec![Body::KeyAdded(key_of(ctx.now, self.0))], ()))
        }
    }

    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    let size = |length| {
        let body = Body::KeyAdded(key_of(world.ledger.now(), length));
        let entry =
            Entry { at: world.ledger.now(), actor: Actor::Broker, request_id: "test".into(), idempotency: None, body };
        belay::wire::encode(&entry).len()
    };
    let longest = MAX_EVENT - (size(60_000) - 60_000);
    assert_eq!(size(longest), MAX_EVENT);
    let before = world.ledger.checkpoint();
    let error = world.submit(&Caller::Broker, Certificate(longest + 1)).await.unwrap_err();
    assert_eq!((error.reason, world.ledger.checkpoint()), ("too_large", before));
    world.submit(&Caller::Broker, Certificate(longest)).await.unwrap();
    assert_eq!(world.ledger.checkpoint().0, before.0 + 1);
}

fn key_of(now: belay::domain::time::Timestamp, length: usize) -> Key {
    // A key of its own per length, so that no name is taken twice.
    let kid = format!("key-{:?}", CertificateId::mint(now, &mut Entropy::from_seed([length as u8; 32])));
    let sealed = Digest::of(b"sealed");
    Key {
        kid,
        purpose: Purpose::Token,
        public: vec![4; 65],
        certificate: Some(vec![0; length]),
        not_after: None,
        sealed,
        created_at: now,
        use_from: now,
        tainted: None,
    }
}

fn made(body: &Body) -> String {
    match body {
        Body::TaskStarted { task } => task.id.to_string(),
        Body::GrantIssued { grant } => grant.id.to_string(),
        other => other.kind().to_owned(),
    }
}
