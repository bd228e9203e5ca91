//! Whom an approval troubles, and how often; and that a restart forgets none of it.

use belay::domain::agent::Role;
use belay::domain::approval::{ApprovalState, MOST_WAITING, PROMPTS_PER_REQUESTER};
use belay::domain::decide::SetGrantStatus;
use belay::domain::grant::Status;
use belay::domain::time::{Span, Timestamp};
use belay::ledger::{Clock, Ledger, Seeds};
use belay::store::Sqlite;

use crate::support::panel::{ONE, Panel, TWO, request};
use crate::support::world::{Hands, World};

fn asked(approval: &belay::domain::approval::Approval, name: &str) -> Option<Timestamp> {
    approval.asked.iter().find(|(asked, _)| asked.as_str() == name).map(|(_, at)| *at)
}

#[tokio::test]
async fn past_the_prompts_of_an_hour_an_approval_is_queued() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let begun = panel.world.ledger.now();
    for approval in panel.crowd().await {
        assert_eq!((panel.state(approval.id), asked(&approval, "bea")), (ApprovalState::Pending, Some(begun)));
    }
    panel.world.hands.turn(Span::minutes(10));
    let queued = panel.wait(ONE).await;
    let at = begun.plus(Span::hours(1));
    assert_eq!((panel.state(queued.id), queued.prompted_at()), (ApprovalState::Queued, Some(at)));
    // It has its full time once it is shown.
    assert_eq!(queued.expires_at, at.plus(Span::hours(1)));
    // Somebody who was not asked that often is asked at once, and one is enough.
    panel.world.operator("eva", &[Role::Approver]).await;
    let shown = panel.wait(ONE).await;
    assert_eq!((panel.state(shown.id), asked(&shown, "bea")), (ApprovalState::Pending, Some(at)));
    assert_eq!(asked(&shown, "eva"), Some(panel.world.ledger.now()));
    // Where two are needed, both have to be asked.
    assert_eq!(panel.state(panel.wait(TWO).await.id), ApprovalState::Queued);

    let panel = panel.restarted(directory.path()).await;
    assert_eq!(panel.state(queued.id), ApprovalState::Queued);
    panel.world.hands.turn(Span::minutes(50));
    assert_eq!(panel.state(queued.id), ApprovalState::Pending);
    panel.approve(&panel.bea, &queued).await.unwrap();
}

#[tokio::test]
async fn what_nobody_was_shown_leaves_room_for_others() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    panel.crowd().await;
    // An agent that asks and gives back, over and over, does not push the others' turn out of reach.
    let mut first = None;
    for _ in 0..100 {
        let queued = panel.wait(ONE).await;
        first = first.or(queued.prompted_at());
        assert_eq!(queued.prompted_at(), first);
        let id = queued.grant.unwrap();
        let back = SetGrantStatus { id, status: Status::Completed, reason: "testing".parse().unwrap() };
        panel.world.submit(&panel.ana, back).await.unwrap();
    }
}

#[tokio::test]
async fn who_asks_for_much_keeps_no_operator_from_others() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let now = panel.world.ledger.now();
    for n in 0..MOST_WAITING {
        let hours = i64::try_from(n / PROMPTS_PER_REQUESTER).unwrap();
        let approval = panel.wait(ONE).await;
        assert_eq!(approval.prompted_at(), Some(now.plus(Span::hours(hours))), "{n}");
    }
    let task = panel.world.task(&panel.bob).await;
    let other = panel.world.submit(&panel.bob, request(task.id, ONE)).await.unwrap().approval.unwrap();
    assert_eq!((panel.state(other.id), other.prompted_at()), (ApprovalState::Pending, Some(now)));
}

#[tokio::test]
async fn an_agent_has_only_so_many_approvals_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let mut waiting = Vec::new();
    for _ in 0..MOST_WAITING {
        waiting.push(panel.wait(ONE).await);
    }
    let error = panel.world.submit(&panel.ana, request(panel.task.id, ONE)).await.unwrap_err();
    assert_eq!((error.reason, error.code), ("too_many_approvals", belay::domain::error::Code::Exhausted));
    // What needs nobody is not held up, nor is another agent.
    panel.ask(&["db:read@orders/a"]).await;
    let task = panel.world.task(&panel.bob).await;
    panel.world.submit(&panel.bob, request(task.id, ONE)).await.unwrap();
    panel.deny(&panel.bea, waiting[0].id).await.unwrap();
    panel.wait(ONE).await;
}

#[tokio::test]
async fn nobody_is_asked_who_may_not_decide() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    panel.world.operator("ada", &[Role::Admin]).await;
    panel.world.operator("ana", &[Role::Approver]).await;
    let approval = panel.wait(ONE).await;
    let names: Vec<&str> = approval.asked.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["bea", "carl", "dan"]);
}

/// A snapshot and the tail of the log fold to the same approvals as the whole log.
#[tokio::test]
async fn approvals_are_the_same_after_a_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let hands = Hands::new();
    let world = World::over(Box::new(Sqlite::open(directory.path()).unwrap()), hands.clone(), 8).await;
    let panel = Panel::over(world).await;
    let [one, two, three] = [panel.wait(ONE).await, panel.wait(TWO).await, panel.wait(TWO).await];
    let started = panel.envelope(ONE, Span::hours(1)).await;
    panel.approve(&panel.bea, &one).await.unwrap();
    panel.approve(&panel.bea, &two).await.unwrap();
    panel.approve(&panel.carl, &started.approval.unwrap()).await.unwrap();
    panel.deny(&panel.dan, three.id).await.unwrap();
    for _ in 0..20 {
        panel.world.task(&panel.ana).await;
    }
    assert_eq!(panel.world.ledger.view(|view| view.approvals().count()), 4);
    // A snapshot is marked some time after the event that it is due at.
    let size = panel.world.ledger.size();
    let mut before = 0;
    while before != *size.borrow() {
        before = *size.borrow();
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    let live = panel.world.ledger.fingerprint().unwrap();
    drop(panel);
    let open = || {
        let store = Box::new(Sqlite::open(directory.path()).unwrap());
        let clock: std::sync::Arc<dyn Clock> = hands.clone();
        Ledger::open(store, clock, Seeds::fixed([9; 32]), 1_000_000, std::sync::Arc::new(belay::broker::Readers))
            .unwrap()
    };
    let connection = rusqlite::Connection::open(directory.path().join("ledger.db")).unwrap();
    let taken: i64 = connection.query_row("SELECT snapshot FROM head", [], |row| row.get(0)).unwrap();
    assert!(taken > 0, "no snapshot was taken");
    assert!(open().fingerprint().unwrap() == live, "a snapshot and a tail are another state");
    connection.execute_batch("UPDATE head SET snapshot = 0").unwrap();
    assert!(open().fingerprint().unwrap() == live, "the whole log is another state");
}
