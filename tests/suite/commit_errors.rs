//! What happens when the store fails: nobody is told what is not so, and the ledger goes on or stops for all.

use std::collections::BTreeSet;

use belay::broker::Readers;
use belay::domain::cut::Target;
use belay::domain::decide::{Caller, Delegate, RecordInvocation};
use belay::domain::error::{Code, Error};
use belay::domain::event::{Body, Invocation};
use belay::domain::id::{GrantId, InvocationId};
use belay::domain::scope::Scopes;
use belay::domain::time::Span;
use belay::ledger::{Ledger, Request};

use crate::support::backend::Backend;
use crate::support::block_on;
use crate::support::faulty::{Control, Fault, Faulty, Stage};
use crate::support::world::{Hands, World};
use crate::turn_contract::{cut, register};

/// What callers were told, and what the log turns out to hold.
#[derive(Debug, Default, PartialEq, Eq)]
struct History {
    granted: BTreeSet<GrantId>,
    revoked: BTreeSet<GrantId>,
}

/// A world over a store that fails, somebody in it, and what was told so far.
struct Trial {
    backend: Backend,
    world: World,
    control: Control,
    planner: Caller,
    task: belay::domain::id::TaskId,
    told: History,
    /// Why requests were refused, in order.
    refusals: Vec<Error>,
}

impl Trial {
    async fn new(backend: Backend, snapshot_every: u64) -> Self {
        let (store, control) = Faulty::over(backend.open());
        let world = World::over(store, Hands::new(), snapshot_every).await;
        let planner = world.agent("planner").await;
        let task = world.task(&planner).await.id;
        Self { backend, world, control, planner, task, told: History::default(), refusals: Vec::new() }
    }

    async fn grant(&mut self) {
        let outcome = self.world.grant(&self.planner, self.task, &["db:read@**"]).await;
        self.note(outcome.map(|grant| grant.id), |told| &mut told.granted);
    }

    async fn revoke(&mut self, grant: GrantId) {
        let outcome = self.world.submit(&Caller::Broker, cut(Target::Grant(grant))).await;
        self.note(outcome.map(|_| grant), |told| &mut told.revoked);
    }

    fn note(&mut self, outcome: Result<GrantId, Error>, of: fn(&mut History) -> &mut BTreeSet<GrantId>) {
        match outcome {
            Ok(id) => drop(of(&mut self.told).insert(id)),
            Err(error) => self.refusals.push(error),
        }
    }

    /// Ends the ledger and compares all that was told with what the log holds.
    fn check(self, fault: Fault) {
        let Self { backend, world, control, told, refusals, .. } = self;
        for error in &refusals {
            assert_eq!(error.code, Code::Unavailable, "{fault:?}: {error}");
        }
        let fatal = fault.is_fatal();
        assert!(world.ledger.is_alive() || fatal, "{fault:?}: it gave up");
        for id in &told.granted {
            let expected = if told.revoked.contains(id) { "revoked" } else { "active" };
            assert_eq!(world.state(*id), Some(expected), "{fault:?}: what was told is not what is seen");
        }
        world.ledger.close();
        assert!(control.has_failed(), "{fault:?} was never reached");
        let seen = (!fatal).then(|| world.ledger.fingerprint().unwrap());
        drop(world);
        let (kept, fingerprint) = reopened(&backend);
        if let Some(seen) = seen {
            assert!(seen == fingerprint, "{fault:?}: memory and log have come apart");
        }
        assert!(told.granted.is_subset(&kept.granted), "{fault:?}: a grant that was acknowledged is lost");
        assert!(told.revoked.is_subset(&kept.revoked), "{fault:?}: a revoke that was acknowledged is lost");
        if fault == Fault::KeptFatal {
            // It was kept, and nobody was told that it was not: they were told that it is not known.
            let unknown = refusals.iter().filter(|error| error.reason == "outcome_unknown").count();
            assert_eq!(kept.granted.len() + kept.revoked.len(), told.granted.len() + told.revoked.len() + unknown);
            assert!(unknown <= 1);
        } else {
            assert_eq!(kept, told, "{fault:?}: what was refused for want of a record was kept all the same");
        }
    }
}

/// What the log holds, by a ledger that opens it anew.
fn reopened(backend: &Backend) -> (History, Vec<u8>) {
    let ledger = Ledger::open(
        backend.open(),
        Hands::new(),
        belay::ledger::Seeds::fixed([9; 32]),
        1_000_000,
        std::sync::Arc::new(Readers),
    )
    .unwrap();
    let mut kept = History::default();
    for (_, entry, _) in ledger.entries(0, u32::MAX).unwrap() {
        match entry.body {
            Body::GrantIssued { grant } => drop(kept.granted.insert(grant.id)),
            Body::Revoked(revocation) => {
                let Target::Grant(id) = revocation.target else { panic!("only grants were revoked") };
                kept.revoked.insert(id);
            }
            _ => {}
        }
    }
    (kept, ledger.fingerprint().unwrap())
}

#[test]
fn an_error_after_commit_is_not_a_lie() {
    for fault in Fault::ALL {
        // The fault at every commit in turn: of grants, of revokes, and of the snapshots between them.
        for through in 0..10 {
            for backend in Backend::all() {
                block_on(async {
                    let mut trial = Trial::new(backend, 5).await;
                    trial.control.fail(through, fault);
                    for _ in 0..4 {
                        trial.grant().await;
                        trial.grant().await;
                        let newest = trial.told.granted.difference(&trial.told.revoked).last().copied();
                        if let Some(newest) = newest {
                            trial.revoke(newest).await;
                        }
                    }
                    let settled = fault == Fault::KeptUnknown;
                    assert!(trial.refusals.len() <= 1 || fault.is_fatal(), "{fault:?}: {:?}", trial.refusals);
                    assert!(!settled || trial.refusals.is_empty(), "{:?}", trial.refusals);
                    assert!(trial.told.granted.len() >= 6 || fault.is_fatal());
                    trial.check(fault);
                });
            }
        }
    }
}

#[test]
fn a_batch_that_failed_is_told_so_to_each_of_its_requests() {
    for fault in Fault::ALL {
        for backend in Backend::all() {
            block_on(async {
                let mut trial = Trial::new(backend, 1_000_000).await;
                trial.grant().await;
                let old = *trial.told.granted.first().unwrap();
                let (world, control, planner) = (&trial.world, &trial.control, &trial.planner);
                let widening = Delegate {
                    parent: old,
                    to: "planner".parse().unwrap(),
                    scopes: Scopes::parse(&["db:drop@**"]).unwrap(),
                    audience: None,
                    ttl: Span::minutes(1),
                    own: false,
                    limits: Default::default(),
                    narrow: false,
                };
                control.hold(Stage::Begin);
                let plug = world.submit(&Caller::Broker, register("plug"));
                let batch = async {
                    control.held().await;
                    tokio::join!(
                        world.grant(planner, trial.task, &["db:read@**"]),
                        world.submit(planner, widening),
                        world.submit(&Caller::Broker, cut(Target::Grant(old))),
                        async {
                            // The plug's own turn passes.
                            control.fail(1, fault);
                            control.release();
                        },
                    )
                };
                let (plug, (granted, refused, revoked, ())) = tokio::join!(plug, batch);
                plug.unwrap();
                assert!(control.has_failed());
                let kept = fault == Fault::KeptUnknown;
                assert_eq!((granted.is_ok(), revoked.is_ok()), (kept, kept), "{fault:?}");
                // Not even a refusal is told from a batch that came to nothing: it rests on what the batch saw.
                let refused = refused.map(|_| ()).unwrap_err();
                assert_eq!(refused.code == Code::Unavailable, !kept, "{fault:?}: {refused}");
                let reason = if fault.is_fatal() { "outcome_unknown" } else { "not_recorded" };
                for error in [granted.as_ref().err(), revoked.as_ref().err()].into_iter().flatten() {
                    assert_eq!((error.code, error.reason), (Code::Unavailable, reason), "{fault:?}: {error}");
                }
                let alive = world.ledger.is_alive();
                assert_eq!(alive, !fault.is_fatal());
                let after = world.grant(planner, trial.task, &["db:read@**"]).await;
                assert_eq!(after.is_ok(), alive, "{fault:?}");
                if !alive {
                    dead_to_everybody(world).await;
                }
                let state = if kept { "revoked" } else { "active" };
                assert_eq!(world.state(old), Some(state), "{fault:?}");
            });
        }
    }
}

/// Nothing is decided, recorded or allowed any more, and everybody is told why.
async fn dead_to_everybody(world: &World) {
    world.ledger.stopped().await;
    assert!(!world.ledger.is_ready());
    let error = world.submit(&Caller::Broker, register("coder")).await.unwrap_err();
    assert_eq!((error.code, error.reason), (Code::Unavailable, "stopped"));
    let mut entropy = belay::domain::entropy::Entropy::from_seed([1; 32]);
    let invocation = Invocation {
        id: InvocationId::mint(world.ledger.now(), &mut entropy),
        credential: None,
        grant: None,
        tree: None,
        agent: None,
        call: None,
        allowed: true,
        reasons: Vec::new(),
        proven: true,
        args: None,
        decided: Default::default(),
        charged: None,
        ticket: None,
        redeems: None,
    };
    let request = Request {
        command: RecordInvocation { invocation },
        caller: Caller::Broker,
        request_id: "test".to_owned(),
        idempotency: None,
        seed: [1; 32],
        blobs: Vec::new(),
    };
    world.ledger.record(request).unwrap_err();
}

#[test]
fn a_commit_is_settled_when_the_store_comes_back() {
    for (fault, kept) in [(Fault::KeptUnknown, true), (Fault::LostUnknown, false)] {
        block_on(async {
            let mut trial = Trial::new(Backend::memory(), 1_000_000).await;
            trial.control.fail(0, fault);
            trial.control.unsettled(3);
            trial.grant().await;
            assert_eq!(trial.told.granted.len(), usize::from(kept), "{fault:?}: {:?}", trial.refusals);
            trial.grant().await;
            trial.check(fault);
        });
    }
}

#[test]
fn a_commit_that_cannot_be_settled_ends_the_ledger() {
    block_on(async {
        let trial = Trial::new(Backend::memory(), 1_000_000).await;
        trial.control.fail(0, Fault::KeptUnknown);
        trial.control.unsettled(u32::MAX);
        let error = trial.world.grant(&trial.planner, trial.task, &["db:read@**"]).await.unwrap_err();
        assert_eq!((error.code, error.reason), (Code::Unavailable, "outcome_unknown"), "{error}");
        dead_to_everybody(&trial.world).await;
        trial.world.ledger.close();
        drop(trial.world);
        assert_eq!(reopened(&trial.backend).0.granted.len(), 1, "it was kept");
    });
}

#[tokio::test]
async fn a_panic_of_the_sequencer_ends_the_ledger_for_everybody() {
    let directory = tempfile::tempdir().unwrap();
    let (store, control) = Faulty::over(Box::new(belay::store::Sqlite::open(directory.path()).unwrap()));
    let world = World::over(store, crate::support::world::Hands::new(), 1_000_000).await;
    world.agent("planner").await;
    control.fail(0, Fault::Panics);
    let lost = world.submit(&Caller::Broker, register("coder")).await.unwrap_err();
    assert_eq!((lost.code, lost.reason), (Code::Unavailable, "stopped"));
    let dead = tokio::time::timeout(std::time::Duration::from_secs(5), dead_to_everybody(&world));
    dead.await.expect("whoever waits for the ledger to stop is told");
}
