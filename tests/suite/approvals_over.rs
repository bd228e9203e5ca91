//! What becomes of an approval when the world moves before humans decide.

use belay::cedar::Set;
use belay::domain::agent::{AgentStatus, Role};
use belay::domain::approval::{APPROVAL_LIFE, ApprovalState};
use belay::domain::decide::{Caller, EndTask, Revoke, SetGrantStatus};
use belay::domain::grant::Status;
use belay::domain::time::Span;

use crate::support::gate::{Gate, queued};
use crate::support::panel::{CATALOG, ONE, Panel, TWO, approve, request};
use crate::support::world::{Hands, World};

async fn cut(panel: &Panel, target: &str) {
    let command = Revoke { target: target.parse().unwrap(), reason: "testing".parse().unwrap(), dry_run: false };
    panel.world.submit(&Caller::Broker, command).await.unwrap();
}

#[tokio::test]
async fn an_approval_ends_at_its_own_time() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let [early, late] = [panel.wait(ONE).await, panel.wait(ONE).await];
    assert_eq!(late.expires_at, panel.world.ledger.now().plus(APPROVAL_LIFE));
    panel.world.hands.turn(APPROVAL_LIFE.less(Span::millis(1)));
    panel.approve(&panel.bea, &early).await.unwrap();
    panel.world.hands.turn(Span::millis(1));
    panel.refuses(&panel.bea, &late, "approval_expired").await;
    assert_eq!(panel.deny(&panel.bea, late.id).await.unwrap_err().reason, "approval_expired");
    assert_eq!((panel.grant_state(&early), panel.grant_state(&late)), ("active", "expired"));
    // Its history is there for a while, and then in the log alone.
    let panel = panel.restarted(directory.path()).await;
    assert_eq!(panel.state(late.id), ApprovalState::Expired);
    panel.world.hands.turn(Span::hours(2));
    panel.world.agent("eva").await;
    let error = panel.approve(&panel.bea, &late).await.unwrap_err();
    assert_eq!((error.reason, error.code), ("not_found", belay::domain::error::Code::NotFound));
}

#[tokio::test]
async fn nothing_is_activated_below_a_cut() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let grant = |approval: &belay::domain::approval::Approval| approval.grant.unwrap().to_string();
    let one = panel.wait(ONE).await;
    cut(&panel, &grant(&one)).await;
    panel.refuses(&panel.bea, &one, "approval_revoked").await;
    for target in ["agent:ana", "owner:owner-of-ana"] {
        let one = panel.wait(ONE).await;
        cut(&panel, target).await;
        panel.refuses(&panel.bea, &one, "approval_revoked").await;
    }
    let parent = panel.ask(&["db:read@orders/a"]).await.grant.id;
    let below = panel.delegate(parent, ONE, true).await.unwrap().approval.unwrap();
    cut(&panel, &parent.to_string()).await;
    panel.refuses(&panel.bea, &below, "approval_revoked").await;
    assert_eq!(panel.deny(&panel.bea, below.id).await.unwrap_err().reason, "approval_revoked");
    let two = panel.wait(TWO).await;
    panel.approve(&panel.bea, &two).await.unwrap();
    cut(&panel, &panel.task.id.to_string()).await;
    panel.refuses(&panel.carl, &two, "approval_revoked").await;
}

#[tokio::test]
async fn nothing_is_activated_under_a_parent_that_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let parent = panel.ask(&["db:read@orders/a"]).await.grant;
    let below = panel.delegate(parent.id, ONE, true).await.unwrap();
    let approval = below.approval.unwrap();
    // What waits never outlives what it hangs on.
    assert_eq!((approval.expires_at, below.grant.expires_at), (parent.expires_at, parent.expires_at));
    panel.world.hands.turn(Span::minutes(15));
    panel.refuses(&panel.bea, &approval, "approval_expired").await;
    // And both leave memory, children first.
    panel.world.hands.turn(Span::minutes(10));
    panel.world.agent("eva").await;
    assert_eq!((panel.world.state(parent.id), panel.world.state(below.grant.id)), (None, None));
}

#[tokio::test]
async fn nothing_is_activated_for_who_is_halted_or_gone() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let responder = panel.world.operator("rob", &[Role::Responder]).await;
    let approval = panel.wait(ONE).await;
    panel.world.set_agent("ana", AgentStatus::Suspended).await;
    panel.refuses(&panel.bea, &approval, "approval_halted").await;
    assert_eq!(panel.state(approval.id), ApprovalState::Pending);
    panel.world.set_agent("ana", AgentStatus::Active).await;
    panel.approve(&panel.bea, &approval).await.unwrap();

    let parent = approval.grant.unwrap();
    let below = panel.delegate(parent, TWO, true).await.unwrap().approval.unwrap();
    let halt = |status| SetGrantStatus { id: parent, status, reason: "testing".parse().unwrap() };
    panel.world.submit(&responder, halt(Status::Suspended)).await.unwrap();
    panel.refuses(&panel.bea, &below, "approval_halted").await;
    panel.world.submit(&responder, halt(Status::Active)).await.unwrap();
    panel.approve(&panel.bea, &below).await.unwrap();
    panel.world.set_agent("bob", AgentStatus::Retired).await;
    panel.refuses(&panel.carl, &below, "approval_revoked").await;
    // What is halted may be denied: it only ends.
    let other = panel.wait(ONE).await;
    panel.world.set_agent("ana", AgentStatus::Suspended).await;
    panel.deny(&panel.bea, other.id).await.unwrap();
}

#[tokio::test]
async fn what_was_given_back_is_not_activated() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let approval = panel.wait(ONE).await;
    let id = approval.grant.unwrap();
    let back = SetGrantStatus { id, status: Status::Completed, reason: "testing".parse().unwrap() };
    panel.world.submit(&panel.ana, back).await.unwrap();
    panel.refuses(&panel.bea, &approval, "approval_revoked").await;
    let other = panel.wait(ONE).await;
    let end = EndTask { id: panel.task.id, reason: "testing".parse().unwrap() };
    panel.world.submit(&panel.ana, end).await.unwrap();
    panel.refuses(&panel.bea, &other, "approval_revoked").await;
}

#[tokio::test]
async fn an_approval_is_stale_once_a_change_alters_the_answer() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let approval = panel.wait(ONE).await;
    // Denied by now, however many approve; then more than were asked; then as it was.
    let forbid =
        ("no.cedar".to_owned(), "@id(\"no\") forbid (principal, action == Action::\"request\", resource);".to_owned());
    let more =
        "@id(\"more\") forbid (principal, action == Action::\"request\", resource) when { context.approvals < 2 };";
    for extra in [forbid, ("more.cedar".to_owned(), more.to_owned())] {
        let mut files = Set::production().unwrap().files().to_vec();
        files.push(extra);
        panel.world.apply_policies(Set::load(&files).unwrap()).await;
        panel.refuses(&panel.bea, &approval, "approval_stale").await;
    }
    panel.world.apply_policies(Set::production().unwrap()).await;
    // Another catalog, by which it reaches further than was shown; then one that changes nothing about it.
    let edge = "[[edge]]\nfrom = \"db:drop@orders/a\"\nto = \"db:secrets/a\"\n";
    panel.world.apply_catalog(&format!("{CATALOG}\n{edge}")).await;
    panel.refuses(&panel.bea, &approval, "approval_stale").await;
    let secret = CATALOG.replacen(
        "path = \"db:orders/a\"\nsensitivity = \"internal\"",
        "path = \"db:orders/a\"\nsensitivity = \"confidential\"",
        1,
    );
    assert_ne!(secret, CATALOG);
    panel.world.apply_catalog(&secret).await;
    panel.refuses(&panel.bea, &approval, "approval_stale").await;
    // As many others, as sensitive: by an edge that leads elsewhere.
    let leads = |to: &str| format!("{CATALOG}\n{}", edge.replace("secrets/a", to));
    panel.world.apply_catalog(&leads("secrets/a")).await;
    let led = panel.wait(ONE).await;
    panel.world.apply_catalog(&leads("secrets/b")).await;
    panel.refuses(&panel.bea, &led, "approval_stale").await;
    panel
        .world
        .apply_catalog(&format!("{CATALOG}\n[[resource]]\npath = \"db:other/x\"\nsensitivity = \"public\"\n"))
        .await;
    let panel = panel.restarted(directory.path()).await;
    panel.approve(&panel.bea, &approval).await.unwrap();
    assert_eq!(panel.grant_state(&approval), "active");
}

#[tokio::test]
async fn busy_neighbours_do_not_make_an_approval_stale() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let approval = panel.wait(ONE).await;
    let other = panel.world.task_of(&panel.ana, Span::hours(6)).await;
    for n in 0..1000 {
        let scope = format!("db:read@{}", ["orders/a", "orders/b", "orders/c"][n % 3]);
        panel.world.submit(&panel.ana, request(other.id, &[&scope])).await.unwrap();
    }
    let unions = approval.unions;
    let now = panel.world.ledger.view(|view| view.figures(&belay::domain::reach::Whole::Agent("ana".parse().unwrap())));
    assert!(now.score > unions.agent.score, "{now:?} {unions:?}");
    panel.approve(&panel.bea, &approval).await.unwrap();
    assert_eq!(panel.grant_state(&approval), "active");
}

#[tokio::test]
async fn of_two_approvals_in_one_batch_each_counts_once() {
    let directory = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let world = World::over(gate.store(directory.path()), Hands::new(), 1_000_000).await;
    let panel = Panel::over(world).await;
    let [one, two] = [panel.wait(ONE).await, panel.wait(TWO).await];
    let shut = gate.shut();
    // The sequencer stands at the gate with this; all that follows is in the batch after it.
    let first = panel.world.task(&panel.ana);
    let mut first = queued(first);
    gate.wait_for_sequencer();
    // In the order in which they are decided: who waits is served in turns.
    let (bea, carl) = (&panel.bea, &panel.carl);
    let votes = [(bea, &one), (carl, &one), (bea, &two), (carl, &one), (bea, &two), (carl, &two)];
    let waiting: Vec<_> =
        votes.iter().map(|(who, approval)| queued(panel.world.submit(who, approve(approval)))).collect();
    let before = gate.batches().len();
    drop(shut);
    first.as_mut().await;
    let mut outcomes = Vec::new();
    for vote in waiting {
        outcomes.push(vote.await.map_or_else(|error| error.reason, |voted| voted.state.as_str()));
    }
    assert_eq!(outcomes, ["approved", "approval_decided", "pending", "approval_decided", "already_given", "approved"]);
    assert_eq!(gate.batches().len(), before + 2, "it was not one batch");
    assert_eq!((panel.known(one.id).given.len(), panel.known(two.id).given.len()), (1, 2));
}

#[tokio::test]
async fn an_envelope_is_approved_once_for_all_that_lies_within() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let started = panel.envelope(&["db:drop@orders/a", "db:drop@orders/b"], Span::minutes(30)).await;
    let approval = started.approval.unwrap();
    let ask = async |panel: &Panel, scope: &str| {
        panel.world.submit(&panel.ana, request(started.task.id, &[scope])).await.unwrap()
    };
    assert!(ask(&panel, "db:drop@orders/a").await.approval.is_some(), "nobody has approved yet");
    panel.approve(&panel.bea, &approval).await.unwrap();
    let end = panel.world.ledger.now().plus(Span::minutes(30));
    let panel = panel.restarted(directory.path()).await;
    panel.world.hands.turn(Span::minutes(20));
    for scope in ["db:drop@orders/a", "db:drop@orders/b"] {
        let granted = ask(&panel, scope).await;
        assert_eq!((granted.state.as_str(), granted.grant.approvals), ("active", 1), "{scope}");
        // It ends with the envelope, and cannot be renewed beyond it.
        assert_eq!((granted.grant.expires_at, granted.grant.renewable_until), (end, end));
    }
    assert_eq!(ask(&panel, "db:drop@orders/c").await.state.as_str(), "pending");
    let delegated = panel.delegate(ask(&panel, "db:read@orders/a").await.grant.id, ONE, true).await.unwrap();
    assert_eq!((delegated.state.as_str(), delegated.grant.approvals), ("active", 1), "of its own, within the envelope");
    panel.world.hands.turn(Span::minutes(10));
    assert_eq!(ask(&panel, "db:drop@orders/a").await.state.as_str(), "pending", "the envelope is over");
}

#[tokio::test]
async fn an_envelope_covers_no_more_than_it_was_shown_to_reach() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let started = panel.envelope(ONE, Span::hours(1)).await;
    panel.approve(&panel.bea, &started.approval.unwrap()).await.unwrap();
    let ask = async || panel.world.submit(&panel.ana, request(started.task.id, ONE)).await.unwrap().state.as_str();
    assert_eq!(ask().await, "active");
    let edge = "[[edge]]\nfrom = \"db:drop@orders/a\"\nto = \"db:secrets/a\"\n";
    panel.world.apply_catalog(&format!("{CATALOG}\n{edge}")).await;
    assert_eq!(ask().await, "pending");
    panel.world.apply_catalog(CATALOG).await;
    assert_eq!(ask().await, "active");
}

#[tokio::test]
async fn two_that_waited_do_not_pass_together_what_neither_may_alone() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let most = "@id(\"most\") forbid (principal, action == Action::\"request\", resource) \
        when { context.unions.agent.score > 4 };";
    let mut files = Set::production().unwrap().files().to_vec();
    files.push(("most.cedar".to_owned(), most.to_owned()));
    panel.world.apply_policies(Set::load(&files).unwrap()).await;
    let other = panel.world.task_of(&panel.ana, Span::hours(6)).await;
    let one = panel.wait(ONE).await;
    let two = panel.world.submit(&panel.ana, request(other.id, &["db:drop@orders/b"])).await.unwrap().approval.unwrap();
    panel.approve(&panel.bea, &one).await.unwrap();
    panel.refuses(&panel.bea, &two, "approval_stale").await;
}

#[tokio::test]
async fn an_envelope_ends_with_the_names_that_it_was_approved_for() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    // Before it is approved, and after.
    for target in ["agent:ana", "owner:owner-of-ana"] {
        let approval = panel.envelope(ONE, Span::hours(1)).await.approval.unwrap();
        cut(&panel, target).await;
        panel.refuses(&panel.bea, &approval, "approval_revoked").await;
        panel.world.hands.turn(Span::seconds(1));
    }
    let started = panel.envelope(ONE, Span::hours(1)).await;
    panel.approve(&panel.bea, &started.approval.unwrap()).await.unwrap();
    let ask = async || panel.world.submit(&panel.ana, request(started.task.id, ONE)).await.unwrap().state.as_str();
    assert_eq!(ask().await, "active");
    cut(&panel, "agent:ana").await;
    assert_eq!(ask().await, "pending");
    // What is asked for in the very moment of a cut is taken to be before it.
    panel.world.hands.turn(Span::millis(1));

    let ended = panel.envelope(ONE, Span::hours(1)).await;
    let end = EndTask { id: ended.task.id, reason: "testing".parse().unwrap() };
    panel.world.submit(&panel.ana, end).await.unwrap();
    panel.refuses(&panel.bea, &ended.approval.unwrap(), "approval_revoked").await;
    let retired = panel.envelope(ONE, Span::hours(1)).await.approval.unwrap();
    panel.world.set_agent("ana", AgentStatus::Suspended).await;
    panel.refuses(&panel.bea, &retired, "approval_halted").await;
    panel.world.set_agent("ana", AgentStatus::Retired).await;
    panel.refuses(&panel.bea, &retired, "approval_revoked").await;
}

#[tokio::test]
async fn an_approval_names_the_catalog_that_its_figures_were_counted_by() {
    let directory = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let world = World::over(gate.store(directory.path()), Hands::new(), 1_000_000).await;
    let panel = Panel::over(world).await;
    let shut = gate.shut();
    let mut first = queued(panel.world.task(&panel.ana));
    gate.wait_for_sequencer();
    // Of one batch: its figures are still those of the catalog before.
    let wider = CATALOG.replace("sensitivity = \"internal\"", "sensitivity = \"confidential\"");
    let mut applied = queued(panel.world.apply_catalog(&wider));
    let waiting = queued(panel.wait(ONE));
    drop(shut);
    first.as_mut().await;
    applied.as_mut().await;
    let approval = waiting.await;
    assert_eq!((approval.catalog, approval.adds.score), (1, 4));
    let after = panel.wait(&["db:drop@orders/b"]).await;
    assert_eq!((after.catalog, after.adds.score), (2, 16));
}
