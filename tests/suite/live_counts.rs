//! Counting what is live is for whoever watches; those who decide do not wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use belay::broker::Live;
use belay::domain::decide::Caller;

use crate::support::memory::Disk;
use crate::support::office::Office;

/// So many grants below so long a chain that a count takes many times as long as a turn.
const GRANTS: usize = 4000;
const CHAIN: usize = 14;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turns_go_on_while_what_is_live_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let office = Office::open(Box::new(Disk::default().open()), directory.path()).await;
    let ana = office.world.agent("ana").await;
    let task = office.world.task(&ana).await;
    let scope = &["db:read@**"];
    let mut last = office.world.grant(&ana, task.id, scope).await.unwrap().id;
    for _ in 1..CHAIN {
        last = office.world.delegate(&ana, last, "ana", scope).await.unwrap().id;
    }
    let office = Arc::new(office);
    for _ in 0..GRANTS / 200 {
        let grants: Vec<_> = (0..200)
            .map(|_| {
                let (office, ana) = (Arc::clone(&office), ana.clone());
                tokio::spawn(async move { office.world.delegate(&ana, last, "ana", scope).await.unwrap() })
            })
            .collect();
        for grant in grants {
            grant.await.unwrap();
        }
    }
    // A busy machine may give one count no turn beside it; under one hold on the state none ever has many.
    let mut most = 0;
    for _ in 0..10 {
        most = most.max(turns_beside_a_count(&office, &ana).await);
    }
    assert!(most > 3, "at most {most} turns were taken during a count");
}

async fn turns_beside_a_count(office: &Arc<Office>, ana: &Caller) -> u32 {
    let counted = Arc::new(AtomicBool::new(false));
    let counting = {
        let (office, counted) = (Arc::clone(office), Arc::clone(&counted));
        tokio::task::spawn_blocking(move || {
            let live = office.broker.live();
            counted.store(true, Ordering::SeqCst);
            live
        })
    };
    let mut turns = 0;
    while !counted.load(Ordering::SeqCst) {
        office.world.task(ana).await;
        turns += 1;
    }
    let live = counting.await.unwrap();
    let grants = (CHAIN + GRANTS) as u64;
    assert_eq!(live, Live { agents: 1, tasks: live.tasks, grants, tokens: 0, certificates: 0, identities: 1 });
    turns
}
