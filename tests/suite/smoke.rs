//! The supports themselves hold.

use crate::support::process::Broker;
use crate::support::world::{Hands, World};

#[tokio::test]
async fn a_world_has_grants() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    let (planner, coder) = (world.agent("planner").await, world.agent("coder").await);
    let task = world.task(&planner).await;
    let root = world.grant(&planner, task.id, &["db:read@**"]).await.unwrap();
    let child = world.delegate(&planner, root.id, "coder", &["db:read@orders"]).await.unwrap();
    assert_eq!((child.depth, world.state(child.id)), (1, Some("active")));
    assert!(world.delegate(&coder, root.id, "coder", &["db:read@orders"]).await.is_err());
}

#[test]
fn a_broker_answers() {
    let broker = Broker::start();
    assert_eq!(broker.run(&["status"]).ok()["ready"], true);
    assert!(broker.agent("planner").join("cert.pem").exists());
}
