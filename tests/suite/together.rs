//! Invariant 17: what may pass alone does not pass together, whoever comes at once and however turns are taken.

use std::sync::Arc;

use belay::domain::decide::{Caller, Delegate, Granted, RequestGrant};
use belay::domain::error::Error;
use belay::domain::id::GrantId;
use belay::domain::limits::Limits;
use belay::domain::reach::Whole;
use belay::domain::scope::Scopes;
use belay::domain::time::Span;
use tokio::task::JoinSet;

use crate::support::gate::Gate;
use crate::support::town::{HOST, Town, at_most, scopes, waits};
use crate::support::world::{Hands, World};

/// How many come at once, and how many hosts may be had together.
const MANY: usize = 12;
const MOST: u64 = 7;
const ROUNDS: usize = 12;

/// Requests for a host each, all at once; with a gate they are decided in one turn. How many passed.
async fn at_once(town: &Arc<Town>, callers: Vec<(Caller, belay::domain::id::TaskId)>, gate: Option<&Gate>) -> u64 {
    let shut = gate.map(Gate::shut);
    let mut all = JoinSet::new();
    for (at, (caller, task)) in callers.into_iter().enumerate() {
        let town = Arc::clone(town);
        all.spawn(async move { town.request(&caller, task, &[at]).await.unwrap() });
    }
    if let Some(gate) = gate {
        gate.wait_for_sequencer();
        // All others stand in the queue by then: they have nothing to wait for before it.
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
    drop(shut);
    all.join_all().await.iter().filter(|granted| !waits(granted)).count() as u64
}

async fn town(gate: &Gate, directory: &std::path::Path, whole: &str, needed: u8) -> Arc<Town> {
    let world = World::over(gate.store(directory), Hands::new(), 1_000_000).await;
    world.apply_catalog(&crate::support::town::hosts(64)).await;
    world.apply_policies(at_most(whole, MOST, needed)).await;
    Arc::new(Town { world })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_requests_cannot_pass_together_what_neither_may_alone() {
    for whole in ["task", "agent", "owner", "subject"] {
        let (directory, gate) = (tempfile::tempdir().unwrap(), Gate::default());
        let town = town(&gate, directory.path(), whole, 1).await;
        let mut largest = 0;
        for round in 0..ROUNDS {
            // Every round has a whole of its own, which nothing has been added to.
            let owner = format!("owner-{round}");
            let subject = format!("subject-{round}");
            let agent = town.agent(&format!("agent-{round}"), &owner).await;
            let (shared, mut callers) = (town.task(&agent, Some(&subject)).await, Vec::new());
            for at in 0..MANY {
                callers.push(match whole {
                    "task" => (agent.clone(), shared),
                    "agent" => (agent.clone(), town.task(&agent, None).await),
                    "owner" => {
                        let other = town.agent(&format!("agent-{round}-{at}"), &owner).await;
                        (other.clone(), town.task(&other, None).await)
                    }
                    _ => {
                        let other = town.agent(&format!("agent-{round}-{at}"), &format!("owner-{round}-{at}")).await;
                        (other.clone(), town.task(&other, Some(&subject)).await)
                    }
                });
            }
            let before = gate.batches().len();
            let passed = at_once(&town, callers, (round % 2 == 0).then_some(&gate)).await;
            assert_eq!(passed, MOST, "{whole}, round {round}");
            let wholes = match whole {
                "task" => Whole::Task(shared),
                "agent" => Whole::Agent(format!("agent-{round}").parse().unwrap()),
                "owner" => Whole::Owner(owner.parse().unwrap()),
                _ => Whole::Subject(subject.parse().unwrap()),
            };
            assert_eq!(town.figures(&wholes).score, MOST * HOST, "{whole}, round {round}");
            largest = largest.max(gate.batches()[before..].iter().copied().max().unwrap_or(0));
        }
        assert!(largest > MOST as usize, "never were many decided in one turn: {largest}");
    }
}

/// As many as one turn takes, each of scopes of its own that reach all of a large catalog. What each is told costs what
/// it reaches, and not what everybody before it reaches as well: the next revoke waits for all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_turn_of_wide_requests_does_not_grow_with_what_it_granted_before() {
    const WIDE: usize = 3000;
    let (directory, gate) = (tempfile::tempdir().unwrap(), Gate::default());
    let world = World::over(gate.store(directory.path()), Hands::new(), 1_000_000).await;
    world.apply_catalog(&crate::support::town::hosts(WIDE)).await;
    world.apply_policies(at_most("task", 2 * WIDE as u64, 1)).await;
    let town = Arc::new(Town { world });
    let agent = town.agent("agent", "owner").await;
    let task = town.task(&agent, Some("subject")).await;
    let (shut, mut all) = (gate.shut(), JoinSet::new());
    for at in 0..256 {
        let (town, agent) = (Arc::clone(&town), agent.clone());
        let command = RequestGrant {
            task,
            scopes: Scopes::parse(&[format!("ssh:go.a{at}@host/**")]).unwrap(),
            audience: None,
            ttl: Span::minutes(15),
            limits: Limits::default(),
            narrow: false,
            token: false,
        };
        all.spawn(async move { town.world.submit(&agent, command).await.unwrap().weight });
    }
    gate.wait_for_sequencer();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let before = gate.batches().len();
    let started = std::time::Instant::now();
    drop(shut);
    let told = all.join_all().await;
    let took = started.elapsed();
    let whole = WIDE as u64 * HOST;
    assert!(told.iter().all(|weight| weight.radius.score == whole && weight.unions.task.score == whole));
    assert_eq!(told.iter().filter(|weight| weight.adds.score == whole).count(), 1, "only the first adds anything");
    assert!(gate.batches()[before..].iter().any(|size| *size > 100), "{:?}", &gate.batches()[before..]);
    assert!(took < std::time::Duration::from_secs(60), "{took:?}");
}

/// A chain as deep as it may be, and delegations that all want to be its last link.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_delegations_do_not_pass_the_depth_of_a_chain_together() {
    let directory = tempfile::tempdir().unwrap();
    let town = Town::found(directory.path(), at_most("task", 60, 1), 64).await;
    let agent = town.agent("agent", "crew").await;
    for round in 0..ROUNDS {
        let task = town.task(&agent, None).await;
        let most = 2 + round % 3;
        let command = RequestGrant {
            task,
            scopes: scopes(&[0]),
            audience: None,
            ttl: Span::minutes(15),
            limits: Limits::parse(&[format!("max_depth={most}")]).unwrap(),
            narrow: false,
            token: false,
        };
        let root = town.world.submit(&agent, command).await.unwrap().grant.id;
        // Each goes on from whatever link it was given, as fast as it can, until it may not.
        let mut all = JoinSet::new();
        for _ in 0..6 {
            let (town, agent) = (Arc::clone(&town), agent.clone());
            all.spawn(async move {
                let (mut parent, mut links) = (root, 1);
                loop {
                    match delegate(&town, &agent, parent).await {
                        Ok(granted) => (parent, links) = (granted.grant.id, links + 1),
                        Err(error) => break (links, error.reason),
                    }
                }
            });
        }
        assert!(all.join_all().await.iter().all(|end| *end == (most, "depth_limit")));
        let deepest = town.world.ledger.view(|view| {
            let ours = view.grants().filter(|grant| grant.root == root);
            ours.map(|grant| view.ancestry(grant.id).count()).max()
        });
        assert_eq!(deepest, Some(most));
    }
}

async fn delegate(town: &Town, agent: &Caller, parent: GrantId) -> Result<Granted, Error> {
    let command = Delegate {
        parent,
        to: "agent".parse().unwrap(),
        scopes: scopes(&[0]),
        audience: None,
        ttl: Span::minutes(15),
        own: false,
        // What a link says of itself does not lengthen the chain that it is in.
        limits: Limits::parse(&["max_depth=16"]).unwrap(),
        narrow: false,
    };
    town.world.submit(agent, command).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_approvals_count_each_human_once_and_activate_once() {
    let (directory, gate) = (tempfile::tempdir().unwrap(), Gate::default());
    let town = town(&gate, directory.path(), "task", 2).await;
    let agent = town.agent("agent", "crew").await;
    let humans = [town.approver("ann").await, town.approver("ben").await, town.approver("cem").await];
    for round in 0..ROUNDS {
        let task = town.task(&agent, None).await;
        let hosts: Vec<usize> = (0..8).collect();
        let pending = town.request(&agent, task, &hosts).await.unwrap();
        let approval = Arc::new(pending.approval.unwrap());
        assert_eq!(approval.needed, 2);

        // One human in many places is one human.
        let alone = vote(&town, &approval, vec![humans[0].clone(); 5], (round % 2 == 0).then_some(&gate)).await;
        assert_eq!(alone.iter().filter(|said| said.is_none()).count(), 1, "{alone:?}");
        assert!(alone.iter().flatten().all(|reason| *reason == "already_given"), "{alone:?}");
        assert_eq!(town.world.state(pending.grant.id), Some("pending"));

        // Of two others, one is enough; whoever comes second finds it decided.
        let both = vote(&town, &approval, humans[1..].to_vec(), (round % 2 == 1).then_some(&gate)).await;
        let mut both: Vec<_> = both.into_iter().collect();
        both.sort_unstable();
        assert_eq!(both, [None, Some("approval_decided")]);
        assert_eq!(town.world.state(pending.grant.id), Some("active"));
        let (given, approvals) = town.world.ledger.view(|view| {
            let given = view.approval(&approval.id).unwrap().given.len();
            (given, view.grant(pending.grant.id).unwrap().approvals)
        });
        assert_eq!((given, approvals), (2, 2));
    }
    let activations = town.world.ledger.entries(0, u32::MAX).unwrap();
    let activations = activations.iter().filter(|(_, entry, _)| entry.body.kind() == "grant_activated").count();
    assert_eq!(activations, ROUNDS);
}

/// Votes at once; in one turn if there is a gate. What each was refused for.
async fn vote(
    town: &Arc<Town>,
    approval: &Arc<belay::domain::approval::Approval>,
    humans: Vec<Caller>,
    gate: Option<&Gate>,
) -> Vec<Option<&'static str>> {
    let shut = gate.map(Gate::shut);
    let mut all = JoinSet::new();
    for human in humans {
        let (town, approval) = (Arc::clone(town), Arc::clone(approval));
        all.spawn(async move { town.approve(&human, &approval).await.err().map(|error| error.reason) });
    }
    if let Some(gate) = gate {
        gate.wait_for_sequencer();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    drop(shut);
    all.join_all().await
}

/// Two that wait, each within what may be had with a human: approved at once, the second adds nothing unseen.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn approvals_at_once_add_no_more_than_each_was_shown() {
    let directory = tempfile::tempdir().unwrap();
    let town = Town::found(directory.path(), at_most("task", 2, 1), 16).await;
    let agent = town.agent("agent", "crew").await;
    let human = town.approver("ann").await;
    for _ in 0..ROUNDS {
        let task = town.task(&agent, None).await;
        let mut waiting = Vec::new();
        for at in 0..4 {
            waiting.push(town.request(&agent, task, &[at, at + 4, at + 8]).await.unwrap());
        }
        let mut all = JoinSet::new();
        for pending in &waiting {
            let (town, human, approval) = (Arc::clone(&town), human.clone(), pending.approval.clone().unwrap());
            all.spawn(async move { town.approve(&human, &approval).await.map(|_| approval.adds.score) });
        }
        let added: u64 = all.join_all().await.into_iter().map(Result::unwrap).sum();
        assert_eq!(town.figures(&Whole::Task(task)).score, added);
        assert_eq!(added, 12 * HOST);
    }
}
