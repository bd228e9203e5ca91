//! Revoking what was never seen: the answer says so, and it is final all the same.

use belay::domain::agent::{Kind, Role};
use belay::domain::cut::Target;
use belay::domain::decide::{
    AddOperator, Caller, Decide, IssueToken, RecordOwn, RequestGrant, Revoke, Revoked, StartTask,
};
use belay::domain::digest::Digest;
use belay::domain::effect::Counts;
use belay::domain::entropy::Entropy;
use belay::domain::error::{Code, Error};
use belay::domain::id::{CertificateId, GrantId, TaskId, TokenId};
use belay::domain::scope::Scopes;
use belay::domain::time::{GRACE, LONGEST_TASK, SKEW, Span, Timestamp};
use belay::ledger::{Clock, Request, SystemClock};

use crate::support::process::Broker;
use crate::support::world::{Hands, World, store};

impl World {
    /// Submits with a seed of the test's choice: what will be minted is then known before.
    async fn submit_seeded<D: Decide>(&self, caller: &Caller, command: D, seed: u8) -> Result<D::Answer, Error> {
        let (caller, request_id) = (caller.clone(), "test".to_owned());
        let request = Request { command, caller, request_id, idempotency: None, seed: [seed; 32], blobs: Vec::new() };
        self.ledger.submit(request).await
    }

    async fn revoke(&self, caller: &Caller, target: &Target) -> Result<Revoked, Error> {
        let command = Revoke { target: target.clone(), reason: "never heard of it".parse()?, dry_run: false };
        self.submit(caller, command).await
    }

    fn cuts(&self, target: &Target) -> bool {
        self.ledger.view(|view| view.cut(target).is_some())
    }

    /// Has each verb mint the id that `seed` makes now: the reason of each refusal, or `accepted`.
    async fn mint_all(&self, agent: &Caller, task: TaskId, held: GrantId, seed: u8) -> [String; 4] {
        let start =
            StartTask { purpose: "testing".parse().unwrap(), subject: None, ttl: Span::hours(1), envelope: None };
        let request = RequestGrant {
            task,
            scopes: Scopes::parse(&["db:read@a"]).unwrap(),
            audience: None,
            ttl: Span::minutes(5),
            token: false,
            limits: Default::default(),
            narrow: false,
        };
        let issue = IssueToken { grant: held, audience: None };
        [
            said(self.submit_seeded(agent, start, seed).await),
            said(self.submit_seeded(agent, request, seed).await),
            said(self.submit_seeded(agent, issue, seed).await),
            said(self.record(CertificateId::mint(self.ledger.now(), &mut Entropy::from_seed([seed; 32]))).await),
        ]
    }

    /// Records an identity certificate of this id: without that it is not signed.
    async fn record(&self, id: CertificateId) -> Result<(), Error> {
        let new = self.certificate(id, Kind::Agent, "planner", Digest::of(b"key"));
        self.submit(&Caller::Broker, RecordOwn { new }).await.map(drop)
    }
}

/// The ids that a request with this seed is given at this moment.
fn minted(now: Timestamp, seed: u8) -> [Target; 4] {
    let entropy = || Entropy::from_seed([seed; 32]);
    [
        Target::Task(TaskId::mint(now, &mut entropy())),
        Target::Grant(GrantId::mint(now, &mut entropy())),
        Target::Token(TokenId::mint(now, &mut entropy())),
        Target::Certificate(CertificateId::mint(now, &mut entropy())),
    ]
}

fn said<T>(answer: Result<T, Error>) -> String {
    answer.map_or_else(|error| error.reason.to_owned(), |_| "accepted".to_owned())
}

#[tokio::test]
async fn revoking_the_unknown_is_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let hands = Hands::new();
    let mut world = World::open(directory.path(), hands.clone()).await;
    let (planner, responder) = (world.agent("planner").await, world.operator("ops", &[Role::Responder]).await);
    let task = world.task(&planner).await;
    let held = world.grant(&planner, task.id, &["db:read@**"]).await.unwrap();
    // What is refused below is accepted with another seed: nothing else stands in its way.
    assert_eq!(world.mint_all(&planner, task.id, held.id, 1).await, ["accepted"; 4]);

    let unknown = minted(world.ledger.now(), 2);
    for target in &unknown {
        for _ in 0..2 {
            let before = world.state(held.id);
            let revoked = world.revoke(&responder, target).await.unwrap();
            assert!(!revoked.revocation.known, "{target}");
            assert_eq!(world.died(&revoked), Counts::default(), "{target}");
            assert_eq!(revoked.revocation.until, target.time().unwrap().plus(LONGEST_TASK).plus(GRACE));
            assert_eq!(world.state(held.id), before);
        }
    }
    let refused = ["revoked_before_issue"; 4];
    assert_eq!(world.mint_all(&planner, task.id, held.id, 2).await, refused);

    // A restart from the log, then one from a snapshot that was taken since.
    for snapshot_every in [1_000_000, 5] {
        drop(world);
        let store = store(directory.path());
        world = World::over(Box::new(store), hands.clone(), snapshot_every).await;
        assert_eq!(world.mint_all(&planner, task.id, held.id, 2).await, refused, "{snapshot_every}");
        assert_eq!(world.mint_all(&planner, task.id, held.id, snapshot_every as u8).await, ["accepted"; 4]);
    }
    drop(world);
    let world = World::open(directory.path(), hands.clone()).await;
    assert!(world.ledger.entries(0, 1000).unwrap().iter().any(|(_, entry, _)| entry.body.kind() == "snapshot_taken"));
    assert_eq!(world.mint_all(&planner, task.id, held.id, 2).await, refused);

    // Kept as long as a task that began then may run, and not longer.
    hands.turn(LONGEST_TASK);
    beat(&world, "one").await;
    assert!(unknown.iter().all(|target| world.cuts(target)));
    hands.turn(GRACE);
    beat(&world, "two").await;
    assert!(!unknown.iter().any(|target| world.cuts(target)));
}

/// An id that is old already is not kept for as long as a young one: it can only turn up for so long.
#[tokio::test]
async fn how_long_it_is_kept_hangs_on_the_ids_own_time() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    let responder = world.operator("ops", &[Role::Responder]).await;
    let [_, old, ..] = minted(world.ledger.now().minus(LONGEST_TASK), 1);
    world.revoke(&responder, &old).await.unwrap();
    assert!(world.cuts(&old));
    world.hands.turn(GRACE);
    beat(&world, "one").await;
    assert!(!world.cuts(&old));
}

#[tokio::test]
async fn the_future_and_unknown_names_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    world.agent("planner").await;
    let responder = world.operator("ops", &[Role::Responder]).await;
    let now = world.ledger.now();
    let later = now.plus(SKEW).plus(Span::seconds(1));
    for (slightly, far) in minted(now.plus(SKEW), 3).iter().zip(minted(later, 3)) {
        world.revoke(&responder, slightly).await.unwrap();
        let error = world.revoke(&responder, &far).await.unwrap_err();
        assert_eq!((error.code, error.message.contains("future")), (Code::Invalid, true), "{far}: {error}");
        assert!(!world.cuts(&far));
    }
    for (known, unknown) in [("agent:planner", "agent:nobody"), ("owner:owner-of-planner", "owner:x")] {
        assert!(world.revoke(&responder, &known.parse().unwrap()).await.unwrap().revocation.known);
        let unknown: Target = unknown.parse().unwrap();
        assert_eq!(world.revoke(&responder, &unknown).await.unwrap_err().code, Code::NotFound);
        assert!(!world.cuts(&unknown));
    }
    let error = world.revoke(&responder, &"subject:x".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.code, Code::NotFound);
}

#[tokio::test]
async fn to_an_agent_the_unknown_and_the_foreign_look_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    let (planner, coder) = (world.agent("planner").await, world.agent("coder").await);
    let task = world.task(&planner).await;
    let grant = world.grant(&planner, task.id, &["db:read@**"]).await.unwrap();
    let token = world.submit(&planner, IssueToken { grant: grant.id, audience: None }).await.unwrap();
    let belay::domain::decide::TokenAnswer::New(token) = token else { panic!("it is new") };
    let certificate = planner.presenter().unwrap().certificate;
    let foreign = [task.id.to_string(), grant.id.to_string(), token.get().id.to_string(), certificate.to_string()];
    let foreign: [Target; 4] = foreign.map(|id| id.parse().unwrap());
    for (foreign, unknown) in foreign.iter().zip(minted(world.ledger.now(), 4)) {
        let [first, second] = [foreign, &unknown].map(|target| world.revoke(&coder, target));
        let (first, second) = (first.await.unwrap_err(), second.await.unwrap_err());
        assert_eq!((first.code, first.reason, first.field), (Code::NotFound, second.reason, second.field));
        assert_eq!(second.code, Code::NotFound);
        let shape = |error: &Error, target: &Target| error.message.replace(&target.to_string(), "ID");
        assert_eq!(shape(&first, foreign), shape(&second, &unknown));
        assert!(!world.cuts(foreign) && !world.cuts(&unknown));
    }
    // What the others may not, the holder may; from the leaf to the root, so that each is still there.
    for target in foreign.iter().rev() {
        assert!(
            target.to_string().starts_with("crt_") || world.revoke(&planner, target).await.unwrap().revocation.known
        );
    }
}

#[test]
fn the_command_line_says_unknown_and_final() {
    let broker = Broker::start();
    let coder = broker.agent("coder");
    let now = SystemClock.read().wall;
    let [_, grant, token, _] = minted(now, 5).map(|target| target.to_string());
    for target in [&grant, &token] {
        let answer = broker.run(&["revoke", target, "--reason", "found in a paste"]).ok();
        assert_eq!((&answer["known"], &answer["final"]), (&false.into(), &true.into()), "{answer}");
        assert_eq!(answer["cut"]["grants"], 0);
        broker.run_as(&coder, &["revoke", target, "--reason", "x"]).err(5);
    }
    let [_, later, ..] = minted(now.plus(Span::hours(1)), 5).map(|target| target.to_string());
    broker.run(&["revoke", &later, "--reason", "x"]).err(2);
    broker.run(&["revoke", "agent:nobody", "--reason", "x"]).err(5);
}

/// A batch, whatever it holds: what is over is collected by it.
async fn beat(world: &World, name: &str) {
    let (name, secret_hash) = (name.parse().unwrap(), Digest::of(name.as_bytes()));
    world.submit(&Caller::Broker, AddOperator { name, roles: vec![Role::Auditor], secret_hash }).await.unwrap();
}
