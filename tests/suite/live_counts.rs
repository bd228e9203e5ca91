//! Counting what is live is for whoever watches; those who decide do not wait for it.

use belay::broker::Live;

use crate::support::memory::Disk;
use crate::support::office::Office;

/// More than are looked at under one hold on the state, of which a unit test says how large it is.
const GRANTS: usize = 600;

#[tokio::test]
async fn what_is_live_is_counted_over_many_holds_and_each_once() {
    let directory = tempfile::tempdir().unwrap();
    let office = Office::open(Box::new(Disk::default().open()), directory.path()).await;
    let ana = office.world.agent("ana").await;
    let task = office.world.task(&ana).await;
    for _ in 0..GRANTS {
        office.world.grant(&ana, task.id, &["db:read@**"]).await.unwrap();
    }
    let grants = GRANTS as u64;
    assert_eq!(
        office.broker.live(),
        Live { agents: 1, tasks: 1, grants, tokens: 0, certificates: 0, identities: 1, leases: 0 }
    );
}
