//! A job that is sliced into innocent pieces is seen for what it is: what counts is what they come to together.

use std::sync::Arc;

use belay::domain::decide::Caller;
use belay::domain::id::GrantId;
use belay::domain::reach::Whole;
use belay::domain::time::Span;
use tokio::task::JoinSet;

use crate::support::town::{HOST, Town, at_most, waits};

/// Sub-agents, each with one host; and the host of the planner, who hands them out.
const WORKERS: usize = 40;
const MOST: u64 = WORKERS as u64 + 1;

/// A planner that holds host 0 under a task of its own.
async fn planner(town: &Town) -> (Caller, GrantId) {
    let planner = town.agent("planner", "office").await;
    let task = town.task(&planner, None).await;
    let root = town.request(&planner, task, &[0]).await.unwrap();
    assert!(!waits(&root));
    (planner, root.grant.id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn forty_sub_agents_at_once_come_to_the_limit_and_no_further() {
    let directory = tempfile::tempdir().unwrap();
    let town = Town::found(directory.path(), at_most("task", MOST, 1), 80).await;
    town.workers(60).await;
    let (planner, root) = planner(&town).await;
    let mut all = JoinSet::new();
    for at in 0..60 {
        let (town, planner) = (Arc::clone(&town), planner.clone());
        all.spawn(async move {
            let granted = town.delegate(&planner, root, &format!("worker-{at}"), &[at + 1], true).await.unwrap();
            (waits(&granted), granted.weight.unions.task.score)
        });
    }
    let granted = all.join_all().await;
    let active: Vec<u64> = granted.iter().filter(|(waits, _)| !waits).map(|(_, score)| *score).collect();
    assert_eq!(active.len(), WORKERS, "{granted:?}");
    // Each was told what it comes to with all before it.
    let mut told = active.clone();
    told.sort_unstable();
    assert_eq!(told, (2..=MOST).map(|hosts| hosts * HOST).collect::<Vec<_>>());
    assert!(granted.iter().all(|(waits, score)| !waits || *score == (MOST + 1) * HOST), "{granted:?}");
    assert_eq!(town.world.ledger.view(|view| view.approvals().count()), 20);
}

#[tokio::test]
async fn forty_sub_agents_one_after_the_other_come_to_the_limit_and_no_further() {
    let directory = tempfile::tempdir().unwrap();
    let town = Town::found(directory.path(), at_most("task", MOST, 1), 80).await;
    let workers = town.workers(WORKERS + 2).await;
    let (planner, root) = planner(&town).await;
    for (at, worker) in workers.iter().enumerate().take(WORKERS) {
        let granted = town.delegate(&planner, root, &format!("worker-{at}"), &[at + 1], true).await.unwrap();
        assert!(!waits(&granted), "worker {at}");
        town.complete(worker, granted.grant.id).await;
        assert_eq!(town.world.state(granted.grant.id), Some("completed"));
    }
    let next = town.delegate(&planner, root, "worker-40", &[41], true).await.unwrap();
    assert!(waits(&next), "{next:?}");
    let approval = next.approval.unwrap();
    assert_eq!((approval.needed, approval.adds.score, approval.unions.task.score), (1, HOST, (MOST + 1) * HOST));
    // What was had before adds nothing, whoever has it now; it is allowed as it was.
    assert!(!waits(&town.delegate(&planner, root, "worker-41", &[17], true).await.unwrap()));
    // Also by a root of the same task.
    let task = next.grant.task;
    assert!(waits(&town.request(&planner, task, &[42]).await.unwrap()));
    assert!(!waits(&town.request(&planner, task, &[23, 0]).await.unwrap()));
}

#[tokio::test]
async fn what_is_handed_on_within_what_counts_already_adds_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let town = Town::found(directory.path(), at_most("task", 3, 1), 8).await;
    let workers = town.workers(3).await;
    let planner = town.agent("planner", "office").await;
    let task = town.task(&planner, None).await;
    let root = town.request(&planner, task, &[0, 1, 2]).await.unwrap();
    assert!(!waits(&root));
    let whole = Whole::Task(task);
    let mut parent = root.grant.id;
    let mut holder = &planner;
    for round in 0..9 {
        let to = round % 3;
        let child = town.delegate(holder, parent, &format!("worker-{to}"), &[round % 3], false).await;
        if let Ok(child) = child {
            assert!(!waits(&child), "{child:?}");
            (parent, holder) = (child.grant.id, &workers[to]);
        } else {
            (parent, holder) = (root.grant.id, &planner);
        }
        assert_eq!(town.figures(&whole).score, 3 * HOST, "round {round}");
    }
    // Its own is counted, also below what counts already.
    let own = town.delegate(&planner, root.grant.id, "worker-1", &[3], true).await.unwrap();
    assert!(waits(&own));
    assert_eq!(town.figures(&whole).score, 3 * HOST, "what waits is not counted");
}

#[tokio::test]
async fn the_same_slices_over_many_tasks_are_seen_at_their_agent_owner_and_subject() {
    for whole in ["agent", "owner", "subject"] {
        let directory = tempfile::tempdir().unwrap();
        let town = Town::found(directory.path(), at_most(whole, 4, 1), 12).await;
        let (one, two) = (town.agent("one", "crew").await, town.agent("two", "crew").await);
        let other = town.agent("other", "office").await;
        // Who shares the whole: the same agent, another of its owner, or whoever works for the same human.
        let (second, stranger) = match whole {
            "agent" => (&one, &two),
            "owner" => (&two, &other),
            _ => (&other, &one),
        };
        let subject = (whole == "subject").then_some("alice");
        for (host, agent) in [&one, second, &one, second].into_iter().enumerate() {
            let task = town.task(agent, subject).await;
            let granted = town.request(agent, task, &[host]).await.unwrap();
            assert!(!waits(&granted), "{whole}: host {host}");
            town.complete(agent, granted.grant.id).await;
        }
        let full = async |agent: &Caller, subject: Option<&str>, host: usize| {
            let task = town.task(agent, subject).await;
            waits(&town.request(agent, task, &[host]).await.unwrap())
        };
        assert!(full(second, subject, 4).await, "{whole}: the fifth host");
        assert!(!full(second, subject, 2).await, "{whole}: a host that counts already");
        // Five neighbours' hosts of another whole are none of its business, nor is it of theirs.
        for host in 5..9 {
            let subject = (whole == "subject").then_some("bob");
            assert!(!full(stranger, subject, host).await, "{whole}: a stranger's host {host}");
        }
        // It was granted for fifteen minutes; five more it counts, though it was given back at once.
        town.world.hands.turn(Span::millis(20 * 60_000 - 1));
        assert!(full(second, subject, 4).await, "{whole}: a moment before");
        town.world.hands.turn(Span::millis(1));
        assert!(!full(second, subject, 4).await, "{whole}: after fifteen minutes and five");
    }
}

#[tokio::test]
async fn tasks_of_different_owners_do_not_disturb_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let town = Town::found(directory.path(), at_most("task", 3, 1), 30).await;
    let (one, two) = (town.agent("one", "crew").await, town.agent("two", "office").await);
    let (first, second) = (town.task(&one, None).await, town.task(&two, None).await);
    for host in 0..3 {
        assert!(!waits(&town.request(&one, first, &[host]).await.unwrap()));
        assert!(!waits(&town.request(&two, second, &[10 + host]).await.unwrap()));
    }
    assert!(waits(&town.request(&one, first, &[3]).await.unwrap()));
    assert!(!waits(&town.request(&two, second, &[11]).await.unwrap()));
    assert!(waits(&town.request(&two, second, &[0]).await.unwrap()), "another task's host is new to this one");
    assert_eq!([first, second].map(|task| town.figures(&Whole::Task(task)).score), [3 * HOST; 2]);
    // A new task begins with nothing.
    let third = town.task(&one, None).await;
    assert!(!waits(&town.request(&one, third, &[3]).await.unwrap()));
}
