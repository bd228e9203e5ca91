//! What waits for humans: in memory as long as it has to be and no longer, and nobody else's burden.

use std::path::Path;
use std::sync::Arc;

use belay::cedar::Set;
use belay::domain::agent::{AgentStatus, Role};
use belay::domain::approval::{MOST_KEPT, MOST_WAITING, PROMPTS_PER_HOUR};
use belay::domain::cut::Target;
use belay::domain::decide::{
    Approve, Caller, EndTask, Granted, RenewGrant, RequestGrant, Revoke, SetAgentStatus, SetGrantStatus, StartTask,
};
use belay::domain::error::Error;
use belay::domain::grant::Status;
use belay::domain::id::TaskId;
use belay::domain::reach::Whole;
use belay::domain::time::Span;
use belay::store::Sqlite;

use crate::support::town::{HOST, Town, at_most, hosts, scopes, waits};
use crate::support::world::{Hands, World};

/// A ledger that takes a snapshot after every few events.
async fn often(directory: &Path, hands: &Arc<Hands>) -> Town {
    let store = Box::new(Sqlite::open(directory).unwrap());
    Town { world: World::over(store, Arc::clone(hands), 3).await }
}

#[tokio::test]
async fn a_child_that_waits_ends_with_its_parent_and_both_leave() {
    let (directory, hands) = (tempfile::tempdir().unwrap(), Hands::new());
    let town = often(directory.path(), &hands).await;
    town.world.apply_catalog(&hosts(8)).await;
    town.world.apply_policies(at_most("task", 1, 1)).await;
    let (agent, other) = (town.agent("agent", "crew").await, town.agent("other", "office").await);
    let task = town.task(&agent, None).await;
    let root = town.request(&agent, task, &[0]).await.unwrap();
    let child = town.delegate(&agent, root.grant.id, "other", &[1], true).await.unwrap();
    assert!(waits(&child) && child.grant.expires_at <= root.grant.expires_at);
    // The root's time is over, with it the child's, then all that is remembered of both.
    for minutes in [30, 50] {
        hands.turn(Span::minutes(minutes));
        town.task(&other, None).await;
        town.task(&other, None).await;
    }
    let left = town.world.ledger.view(|view| view.grants().count());
    assert_eq!((left, town.figures(&Whole::Agent("agent".parse().unwrap())).score), (0, 0));
    // Changes nothing, and is answered after a snapshot that was due.
    town.world.set_agent("other", AgentStatus::Active).await;
    let live = town.world.ledger.fingerprint().unwrap();
    drop(town);
    let town = often(directory.path(), &hands).await;
    assert!(town.world.ledger.fingerprint().unwrap() == live, "a restart changed the state");
}

#[tokio::test]
async fn what_was_given_back_while_it_waited_never_counts() {
    let (directory, hands) = (tempfile::tempdir().unwrap(), Hands::new());
    let mut town = often(directory.path(), &hands).await;
    town.world.apply_catalog(&hosts(8)).await;
    town.world.apply_policies(at_most("task", 1, 1)).await;
    let agent = town.agent("agent", "crew").await;
    let task = town.task(&agent, None).await;
    let pending = town.request(&agent, task, &[1, 2, 3]).await.unwrap();
    assert!(waits(&pending));
    town.complete(&agent, pending.grant.id).await;
    let wholes = [Whole::Task(task), Whole::Agent("agent".parse().unwrap()), Whole::Owner("crew".parse().unwrap())];
    let nothing = |town: &Town| wholes.iter().all(|whole| town.figures(whole).score == 0);
    assert!(nothing(&town));
    // Neither after a restart from a snapshot, nor by another catalog.
    town.task(&agent, None).await;
    drop(town);
    town = often(directory.path(), &hands).await;
    assert_eq!(town.world.state(pending.grant.id), Some("completed"));
    assert!(nothing(&town), "after a restart");
    town.world.apply_catalog(&hosts(9)).await;
    assert!(nothing(&town), "by another catalog");
    let active = town.request(&agent, task, &[5]).await.unwrap();
    assert!(!waits(&active) && town.figures(&wholes[0]).score == HOST);
}

async fn once(town: &Town, agent: &Caller, task: TaskId, ttl: Span) -> Result<Granted, Error> {
    let command = RequestGrant {
        task,
        scopes: scopes(&[0, 1]),
        audience: None,
        ttl,
        limits: Default::default(),
        narrow: false,
        token: false,
    };
    town.world.submit_once(agent, command, Some(("key", b"body"))).await
}

#[tokio::test]
async fn the_key_of_what_waited_is_kept_as_long_as_what_came_of_it() {
    let (directory, hands) = (tempfile::tempdir().unwrap(), Hands::new());
    let town = often(directory.path(), &hands).await;
    town.world.apply_catalog(&hosts(8)).await;
    town.world.apply_policies(at_most("task", 1, 1)).await;
    let (agent, human) = (town.agent("agent", "crew").await, town.approver("ann").await);
    let task = town.task(&agent, None).await;
    let pending = once(&town, &agent, task, Span::hours(5)).await.unwrap();
    town.approve(&human, &pending.approval.unwrap()).await.unwrap();
    hands.turn(Span::hours(4));
    town.task(&agent, None).await;
    let again = once(&town, &agent, task, Span::hours(5)).await.unwrap();
    assert_eq!((again.grant.id, waits(&again)), (pending.grant.id, false));
}

#[tokio::test]
async fn whoever_approves_for_so_long_means_renewals_too() {
    let directory = tempfile::tempdir().unwrap();
    let town = Town::found(directory.path(), at_most("task", 1, 2), 8).await;
    let agent = town.agent("agent", "crew").await;
    let humans = [town.approver("ann").await, town.approver("ben").await];
    let ten = Span::minutes(10);
    for said in [[Some(ten), None], [None, Some(ten)], [None, None]] {
        let task = town.task(&agent, None).await;
        let pending = town.request(&agent, task, &[0, 1]).await.unwrap();
        let approval = pending.approval.unwrap();
        for (human, ttl) in humans.iter().zip(said) {
            let (id, digest, reason) = (approval.id, approval.digest, "testing".parse().unwrap());
            town.world.submit(human, Approve { id, digest, reason, scopes: None, ttl }).await.unwrap();
        }
        let (id, ttl) = (pending.grant.id, Span::hours(2));
        let renewed = town.world.submit(&agent, RenewGrant { id, ttl }).await.unwrap().grant;
        let spoken = said != [None, None];
        assert_eq!(renewed.expires_at > town.world.ledger.now().plus(Span::minutes(15)), !spoken, "{said:?}");
    }
}

#[tokio::test]
async fn what_the_last_of_them_says_of_time_counts_as_what_the_first_says() {
    let directory = tempfile::tempdir().unwrap();
    let town = Town::found(directory.path(), at_most("task", 1, 2), 8).await;
    let agent = town.agent("agent", "crew").await;
    let humans = [town.approver("ann").await, town.approver("ben").await];
    for first in [true, false] {
        let task = town.task(&agent, None).await;
        let pending = town.request(&agent, task, &[0, 1]).await.unwrap();
        let approval = pending.approval.unwrap();
        for (human, says) in humans.iter().zip([first, !first]) {
            let (id, digest, reason) = (approval.id, approval.digest, "testing".parse().unwrap());
            // As long as was asked for, and no longer.
            let ttl = says.then_some(approval.ttl);
            town.world.submit(human, Approve { id, digest, reason, scopes: None, ttl }).await.unwrap();
        }
        let grant = town.world.ledger.view(|view| view.grant(pending.grant.id).cloned()).unwrap();
        assert_eq!(grant.renewable_until, grant.expires_at, "said by the first: {first}");
    }
}

#[tokio::test]
async fn what_nobody_will_be_asked_any_more_takes_no_prompt() {
    let directory = tempfile::tempdir().unwrap();
    let town = Town::found(directory.path(), at_most("task", 0, 1), 8).await;
    let (greedy, other) = (town.agent("greedy", "crew").await, town.agent("other", "office").await);
    town.approver("ann").await;
    // Tasks of a second: what they ask for is over before anybody is asked.
    for _ in 0..3 * PROMPTS_PER_HOUR {
        let command = StartTask { purpose: "x".parse().unwrap(), subject: None, ttl: Span::seconds(1), envelope: None };
        let task = town.world.submit(&greedy, command).await.unwrap().task.id;
        assert!(waits(&town.request(&greedy, task, &[0]).await.unwrap()));
    }
    town.world.hands.turn(Span::seconds(2));
    for (agent, name) in [(&other, "other"), (&greedy, "greedy")] {
        let task = town.task(agent, None).await;
        let pending = town.request(agent, task, &[1]).await.unwrap().approval.unwrap();
        let waits = pending.prompted_at().unwrap().since(town.world.ledger.now());
        assert!(waits <= Span::hours(1), "{name} is asked about in {} s", waits.as_millis() / 1000);
    }
}

/// Responders who may end and halt what their own team answers for, and nothing else.
fn own_team() -> Set {
    let text = "permit (principal is Agent, action, resource is Tool);\n\
        permit (principal == Operator::\"ann\", action == Action::\"revoke\", resource is Area)\n\
        when { context has owner && context.owner == \"crew\" };\n\
        permit (principal in Role::\"admin\", action in [Action::\"administer\", Action::\"read\", Action::\"revoke\"], resource is Area);";
    Set::load(&[("set.cedar".to_owned(), text.to_owned())]).unwrap()
}

#[tokio::test]
async fn a_responder_of_a_team_ends_and_halts_what_that_team_answers_for_alone() {
    let directory = tempfile::tempdir().unwrap();
    let town = Town::found(directory.path(), own_team(), 8).await;
    let ann = town.world.operator("ann", &[Role::Responder]).await;
    let glass = town.world.operator("gus", &[Role::BreakGlass]).await;
    let (ours, theirs) = (town.agent("ours", "crew").await, town.agent("theirs", "office").await);
    let reason = || "testing".parse().unwrap();
    for (agent, name, allowed) in [(&theirs, "theirs", false), (&ours, "ours", true)] {
        let granted = async || {
            let task = town.task(agent, Some("alice")).await;
            (task, town.request(agent, task, &[0]).await.unwrap().grant.id)
        };
        let (task, grant) = granted().await;
        let before = town.world.ledger.checkpoint();
        let status = |status| SetGrantStatus { id: grant, status, reason: reason() };
        let agent_is = |status| SetAgentStatus { name: name.parse().unwrap(), status, reason: reason() };
        let owner = if allowed { "crew" } else { "office" };
        let cut = |target| Revoke { target, reason: reason(), dry_run: false };
        let mut said = Vec::new();
        said.push(town.world.submit(&ann, status(Status::Suspended)).await.err());
        said.push(town.world.submit(&ann, status(Status::Active)).await.err());
        said.push(town.world.submit(&ann, agent_is(AgentStatus::Suspended)).await.err());
        said.push(town.world.submit(&ann, agent_is(AgentStatus::Active)).await.err());
        said.push(town.world.submit(&ann, cut(Target::Grant(grant))).await.err());
        said.push(town.world.submit(&ann, cut(Target::Task(task))).await.err());
        let (other, _) = granted().await;
        said.push(town.world.submit(&ann, EndTask { id: other, reason: reason() }).await.err());
        said.push(town.world.submit(&ann, cut(Target::Agent(name.parse().unwrap()))).await.err());
        said.push(town.world.submit(&ann, cut(Target::Owner(owner.parse().unwrap()))).await.err());
        let refused: Vec<_> = said.iter().map(|error| error.as_ref().map(|error| error.reason)).collect();
        assert!(refused.iter().all(|reason| *reason == (!allowed).then_some("role")), "{name}: {refused:?}");
        // Nothing of what was refused is recorded: only the other task and its grant.
        let recorded = town.world.ledger.entries(before.0, 100).unwrap();
        let by_ann = recorded.iter().filter(|(_, entry, _)| entry.actor.to_string() == "operator:ann").count();
        assert_eq!(by_ann, if allowed { said.len() } else { 0 });
        // Whom many owners' work serves is no one team's to cut, and an id never seen is nobody's.
        let subject = cut(Target::Subject("alice".parse().unwrap()));
        assert_eq!(town.world.submit(&ann, subject).await.unwrap_err().reason, "role");
    }
    // Breaking the glass cuts whatever the policies say, and does nothing else.
    let task = town.task(&theirs, None).await;
    let grant = town.request(&theirs, task, &[0]).await.unwrap().grant.id;
    let halt = SetGrantStatus { id: grant, status: Status::Suspended, reason: reason() };
    assert_eq!(town.world.submit(&glass, halt).await.unwrap_err().reason, "role");
    let cut = Revoke { target: Target::Grant(grant), reason: reason(), dry_run: false };
    assert!(town.world.submit(&glass, cut).await.is_ok());
    assert_eq!(town.world.state(grant), Some("revoked"));
}

#[tokio::test]
async fn what_one_agent_asks_for_is_not_kept_without_end() {
    let directory = tempfile::tempdir().unwrap();
    let town = Town::found(directory.path(), at_most("task", 0, 1), 8).await;
    let (greedy, other) = (town.agent("greedy", "crew").await, town.agent("other", "office").await);
    let ask = async |agent: &Caller, ttl: Span| {
        let command = StartTask { purpose: "x".parse().unwrap(), subject: None, ttl, envelope: None };
        let task = town.world.submit(agent, command).await.unwrap().task.id;
        town.request(agent, task, &[0]).await
    };
    for at in 0..MOST_KEPT {
        assert!(ask(&greedy, Span::seconds(1)).await.is_ok(), "{at}");
        town.world.hands.turn(Span::millis(50));
    }
    let refused = ask(&greedy, Span::seconds(1)).await.unwrap_err();
    assert_eq!((refused.reason, refused.code), ("too_many_approvals", belay::domain::error::Code::Exhausted));
    assert!(ask(&other, Span::seconds(1)).await.is_ok());
    town.world.hands.turn(Span::hours(2));
    town.task(&other, None).await;
    assert!(ask(&greedy, Span::seconds(1)).await.is_ok());
    for at in 1..MOST_WAITING {
        assert!(ask(&greedy, Span::hours(1)).await.is_ok(), "{at}");
        town.world.hands.turn(Span::millis(50));
    }
}
