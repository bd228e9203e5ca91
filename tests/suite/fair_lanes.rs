//! Nobody's flood stands before others: neither what they ask for, nor what they give up, nor the record of their calls.

use belay::domain::agent::Role;
use belay::domain::cut::Target;
use belay::domain::decide::{Caller, RecordInvocation, Revoke, StartTask, Verdict};
use belay::domain::entropy::Entropy;
use belay::domain::error::{Code, Error};
use belay::domain::event::{Body, Invocation};
use belay::domain::id::{GrantId, InvocationId};
use belay::domain::name::Name;
use belay::domain::time::{Span, Timestamp};
use belay::ledger::Request;

use crate::support::gate::{Gate, queued};
use crate::support::office::{Office, at_once};
use crate::support::world::{Hands, NOW, World};

/// What a lane holds: `src/ledger/queue.rs`.
const LANE: usize = 4096;
const RECORDS: usize = 8192;

#[tokio::test]
async fn one_agents_denials_leave_room_for_the_records_of_others() {
    let directory = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let office = Office::open(gate.store(directory.path()), directory.path()).await;
    let world = &office.world;
    let (ana, bob) = (world.agent("ana").await, world.agent("bob").await);
    let mut tokens = Vec::new();
    for agent in [&ana, &bob] {
        let task = world.task(agent).await;
        let grant = world.grant(agent, task.id, &["db:read@a"]).await.unwrap();
        tokens.push(office.token(agent, grant.id).await);
    }
    let shut = gate.shut();
    let plug = queued(world.task(&ana));
    gate.wait_for_sequencer();

    // Tokens that are none, and calls that her own does not allow: until they are not recorded any more.
    let denied = |number: usize| match number % 2 {
        0 => office.read(&ana, "garbage", "a").verdict.reasons[0].code,
        _ => office.read(&ana, &tokens[0], "b").verdict.reasons[0].code,
    };
    let recorded = (0..RECORDS).find(|number| denied(*number) == "not_recorded");
    assert_eq!(recorded, Some(RECORDS / 4), "half of what denied calls may take");
    let allowed = office.read(&bob, &tokens[1], "a");
    assert!(allowed.verdict.allowed, "{:?}", allowed.verdict);
    let refused = office.read(&bob, &tokens[1], "b");
    assert_eq!(refused.verdict.reasons[0].code, "out_of_scope", "it is recorded too");
    drop(shut);
    plug.await;
    // What a turn takes of the records, it takes of all in turns: his are in the first.
    world.task(&bob).await;
    let entries = world.ledger.entries(0, 20_000).unwrap();
    let is_there = |id| entries.iter().any(|(_, entry, _)| matches!(&entry.body, Body::Invoked(one) if one.id == id));
    assert!(is_there(allowed.id) && is_there(refused.id));
}

#[tokio::test]
async fn what_one_agent_asks_does_not_hold_up_what_another_asks() {
    let directory = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let world = World::over(gate.store(directory.path()), Hands::new(), 1_000_000).await;
    let (ana, bob) = (world.agent("ana").await, world.agent("bob").await);
    let shut = gate.shut();
    let plug = queued(world.task(&ana));
    gate.wait_for_sequencer();
    let start = |caller: &Caller| {
        let command = StartTask { purpose: "x".parse().unwrap(), subject: None, ttl: Span::hours(1), envelope: None };
        let caller = caller.clone();
        let world = &world;
        async move { world.submit(&caller, command).await }
    };
    let flood: Vec<_> = (0..LANE / 2).map(|_| queued(start(&ana))).collect();
    let error = at_once(start(&ana)).unwrap_err();
    assert_eq!((error.code, error.reason), (Code::Exhausted, "queue_full"));
    assert!(error.retry_after.is_some_and(|pause| pause > Span::default()), "{error:?}");
    let his = queued(start(&bob));
    drop(shut);
    plug.await;

    let his = his.await.unwrap().task;
    for answer in flood {
        answer.await.unwrap();
    }
    let entries = world.ledger.entries(0, 10_000).unwrap();
    let started: Vec<Name> = entries
        .into_iter()
        .filter_map(|(_, entry, _)| match entry.body {
            Body::TaskStarted { task, .. } => Some(task.agent),
            _ => None,
        })
        .collect();
    let place = started.iter().position(|agent| *agent == his.agent);
    assert_eq!(place, Some(2), "the plug and one of hers are before it, not {}", LANE / 2);
    assert_eq!(started.len(), LANE / 2 + 2);
}

#[tokio::test]
async fn what_one_agent_gives_up_keeps_out_neither_another_nor_an_operator() {
    let directory = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let world = World::over(gate.store(directory.path()), Hands::new(), 1_000_000).await;
    let (ana, bob) = (world.agent("ana").await, world.agent("bob").await);
    let carl = world.operator("carl", &[Role::Admin]).await;
    let task = world.task(&bob).await;
    let his = world.grant(&bob, task.id, &["db:read@a"]).await.unwrap();
    let shut = gate.shut();
    let plug = queued(world.task(&ana));
    gate.wait_for_sequencer();
    let revoke = |caller: &Caller, id: GrantId| {
        let command = Revoke { target: Target::Grant(id), reason: "stop".parse().unwrap(), dry_run: false };
        let caller = caller.clone();
        let world = &world;
        async move { world.submit(&caller, command).await }
    };
    let at = Timestamp::from_millis(NOW);
    let unseen = |number: u8| GrantId::mint(at, &mut Entropy::from_seed([number; 32]));
    // Denied in the turn, each of them: what counts here is that they wait.
    let flood: Vec<_> = (0..LANE / 4).map(|number| queued(revoke(&ana, unseen(number as u8)))).collect();
    assert_eq!(at_once(revoke(&ana, unseen(0))).unwrap_err().reason, "queue_full");
    let given_up = queued(revoke(&bob, his.id));
    let cut = queued(revoke(&carl, his.id));
    drop(shut);
    plug.await;
    given_up.await.unwrap();
    cut.await.unwrap();
    for answer in flood {
        answer.await.unwrap_err();
    }
}

/// A record of a denied call about this agent, asked for by `caller`.
pub fn record(caller: &Caller, about: Option<&str>, number: u8) -> Request<RecordInvocation> {
    let at = Timestamp::from_millis(NOW);
    let id = InvocationId::mint(at, &mut Entropy::from_seed([number; 32]));
    let agent = about.map(|name| name.parse().unwrap());
    let invocation = Invocation { agent, ..Verdict::deny("filler", "a filler").record_none(id, None) };
    let (command, request_id) = (RecordInvocation { invocation }, "filler".to_owned());
    Request { command, caller: caller.clone(), request_id, idempotency: None, seed: [number; 32], blobs: Vec::new() }
}

#[tokio::test]
async fn through_one_asker_each_agent_has_room_for_its_own_records() {
    let directory = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let world = World::over(gate.store(directory.path()), Hands::new(), 1_000_000).await;
    let carl = world.operator("carl", &[Role::Admin]).await;
    let shut = gate.shut();
    let plug = queued(world.agent("ana"));
    gate.wait_for_sequencer();
    let push = |about| -> Result<(), Error> { world.ledger.record_denied(record(&carl, about, 0)) };
    let fill = |about| (0..RECORDS).find(|_| push(about).is_err()).unwrap();
    assert_eq!(fill(Some("ana")), RECORDS / 4);
    // Of a token that nobody knows, who asks is all that is known.
    assert_eq!(fill(None), RECORDS / 8);
    push(Some("bob")).unwrap();
    assert_eq!(push(Some("ana")).unwrap_err().reason, "queue_full");
    drop(shut);
    plug.await;
}
