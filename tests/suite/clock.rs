//! A clock that stepped back: nothing is granted by a time that is not, and revoking still works.

use belay::domain::cut::Target;
use belay::domain::decide::Revoke;
use belay::domain::error::Code;
use belay::domain::time::Span;

use crate::support::world::{Hands, World};

#[tokio::test]
async fn behind_the_log_only_what_ends_or_halts_passes() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    let planner = world.agent("planner").await;
    let task = world.task(&planner).await;
    let grant = world.grant(&planner, task.id, &["db:read@**"]).await.unwrap();

    // One batch in the future, and back: the log stays there.
    world.hands.turn(Span::minutes(10));
    world.agent("coder").await;
    world.hands.turn(Span::millis(-Span::minutes(10).as_millis()));
    assert!(!world.ledger.is_ready());
    let refused = world.grant(&planner, task.id, &["db:read@**"]).await.unwrap_err();
    assert_eq!((refused.code, refused.reason), (Code::Unavailable, "clock_behind"));
    let command = Revoke { target: Target::Grant(grant.id), reason: "testing".parse().unwrap(), dry_run: false };
    assert_eq!(world.submit(&planner, command).await.unwrap().revocation.cut.grants, 1);
    assert_eq!(world.state(grant.id), Some("revoked"));

    // A second is what two clocks may differ by.
    world.hands.turn(Span::millis(Span::minutes(10).as_millis() - 1000));
    assert!(world.ledger.is_ready());
    world.grant(&planner, task.id, &["db:read@**"]).await.unwrap();
}
