//! A log from before there were catalogs, policies and approvals: its bytes, field by field, as they were written then.

use belay::broker::Readers;
use belay::cedar::Set;
use belay::domain::agent::Kind;
use belay::domain::cut::Target;
use belay::domain::decide::{Caller, Revoke};
use belay::domain::entropy::Entropy;
use belay::domain::id::{AgentId, GrantId, JoinId, TaskId};
use belay::domain::key::Purpose;
use belay::domain::limits::Limits;
use belay::domain::policy::{Decided, Mode};
use belay::domain::reach::Whole;
use belay::domain::time::Timestamp;
use belay::ledger::{Clock, Ledger, Seeds};
use belay::merkle::{Frontier, leaf_hash};
use belay::store::{Batch, Head, Sqlite, Store as _};
use std::sync::Arc;

use crate::support::town::hosts;
use crate::support::world::{Hands, NOW, World};

/// A protobuf message by hand.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number > 0x7f {
            self.0.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
            number >>= 7;
        }
        self.0.push(u8::try_from(number).unwrap());
    }

    fn number(mut self, field: u64, number: i64) -> Self {
        self.varint(field << 3);
        self.varint(number.unsigned_abs());
        self
    }

    fn bytes(mut self, field: u64, bytes: impl AsRef<[u8]>) -> Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.as_ref().len() as u64);
        self.0.extend(bytes.as_ref());
        self
    }
}

/// One entry of the broker's, with its body in this field.
fn entry(field: u64, body: Message) -> Vec<u8> {
    Message::default().number(1, NOW).bytes(2, "broker").bytes(3, "old").bytes(field, body.0).0
}

struct Old {
    task: TaskId,
    root: GrantId,
    child: GrantId,
}

fn agent(name: &str, entropy: &mut Entropy) -> Vec<u8> {
    let at = Timestamp::from_millis(NOW);
    let agent = Message::default()
        .bytes(1, AgentId::mint(at, entropy).to_string())
        .bytes(2, name)
        .bytes(3, "crew")
        .bytes(4, "testing")
        .bytes(5, "active")
        .number(9, NOW);
    let join = Message::default()
        .bytes(1, JoinId::mint(at, entropy).to_string())
        .bytes(2, "agent")
        .bytes(3, name)
        .bytes(4, [7; 32])
        .number(5, NOW + 600_000);
    entry(12, Message::default().bytes(1, agent.0).bytes(2, join.0))
}

/// A log of two agents, a task, a root grant and a delegation.
fn write(directory: &std::path::Path) -> Old {
    let (at, mut entropy) = (Timestamp::from_millis(NOW), Entropy::from_seed([3; 32]));
    let old = Old {
        task: TaskId::mint(at, &mut entropy),
        root: GrantId::mint(at, &mut entropy),
        child: GrantId::mint(at, &mut entropy),
    };
    let grant = |id: GrantId, parent: Option<GrantId>, agent: &str, host: &str, seq: i64| {
        let grant = Message::default().bytes(1, id.to_string());
        let grant = parent.iter().fold(grant, |grant, parent| grant.bytes(2, parent.to_string()));
        let grant = grant
            .bytes(3, old.root.to_string())
            .bytes(4, old.task.to_string())
            .bytes(5, agent)
            .bytes(6, "crew")
            .bytes(8, format!("ssh:run@{host}"))
            .bytes(9, "https://example.org");
        let grant = if parent.is_some() { grant.number(10, 1) } else { grant };
        let life = NOW + 900_000;
        entry(21, grant.number(11, seq).number(12, NOW).number(13, life).number(14, NOW + 3_600_000))
    };
    let origin = Message::default().bytes(1, "example.org").bytes(2, "https://example.org").bytes(3, "epoch");
    let task = Message::default()
        .bytes(1, old.task.to_string())
        .bytes(2, "testing")
        .bytes(3, "one")
        .number(5, NOW + 3_600_000)
        .number(6, NOW);
    let entries = vec![
        entry(10, origin),
        agent("one", &mut entropy),
        agent("two", &mut entropy),
        entry(19, task),
        grant(old.root, None, "one", "host/*", 5),
        grant(old.child, Some(old.root), "two", "host/3", 6),
    ];
    let mut frontier = Frontier::default();
    entries.iter().for_each(|entry| frontier.push(leaf_hash(entry)));
    let head = Head { size: entries.len() as u64, root: frontier.root(), snapshot: 0 };
    let mut store = Sqlite::open(directory).unwrap();
    store.begin().unwrap();
    store.append(&Batch { id: [1; 16], after: 0, entries, blobs: Vec::new(), forget: None, head }).unwrap();
    store.commit().unwrap();
    old
}

#[tokio::test]
async fn a_log_from_before_policies_opens_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let old = write(directory.path());
    let hands = Hands::new();
    let open = || {
        let store = Box::new(Sqlite::open(directory.path()).unwrap());
        let clock = Arc::clone(&hands) as Arc<dyn Clock>;
        let ledger = Ledger::open(store, clock, Seeds::fixed([4; 32]), 8, Arc::new(Readers)).unwrap();
        World { ledger: Arc::new(ledger), hands: Arc::clone(&hands) }
    };
    let world = open();
    world.ledger.view(|view| {
        for (id, mode) in [(old.root, Mode::Root), (old.child, Mode::Narrowed)] {
            let grant = view.grant(id).unwrap();
            assert_eq!((grant.mode, grant.approvals), (mode, 0));
            assert_eq!((&grant.limits, &grant.decided), (&Limits::default(), &Decided::default()));
        }
        assert!(view.approvals().next().is_none() && view.task(&old.task).unwrap().envelope.is_none());
        // Before a catalog, all of it lies beyond.
        assert!(view.figures(&Whole::Task(old.task)).unbounded);
    });
    assert_eq!((world.state(old.root), world.state(old.child)), (Some("active"), Some("active")));

    // Without policies nothing more is granted, and everything can be cut.
    for purpose in Purpose::ALL {
        let key = world.key(purpose, &format!("{purpose}-key"));
        world.submit(&Caller::Broker, belay::domain::decide::AddKey { key }).await.unwrap();
    }
    let (one, two) = (world.identity(Kind::Agent, "one").await, world.identity(Kind::Agent, "two").await);
    let (one, two) = (Caller::Agent(one), Caller::Agent(two));
    assert_eq!(world.grant(&one, old.task, &["ssh:run@host/1"]).await.unwrap_err().reason, "no_policy");

    world.apply_policies(Set::dev().unwrap()).await;
    world.apply_catalog(&hosts(8)).await;
    let score = |world: &World, whole: Whole| world.ledger.view(|view| view.figures(&whole).score);
    assert_eq!(score(&world, Whole::Task(old.task)), 8 * 4);
    assert_eq!(score(&world, Whole::Agent("two".parse().unwrap())), 4);
    let below = world.delegate(&two, old.child, "one", &["ssh:run@host/3"]).await.unwrap();
    let widened = world.delegate(&two, old.child, "one", &["ssh:run@host/4"]).await.unwrap_err();
    assert_eq!(widened.reason, "scope_widened");
    let cut = Revoke { target: Target::Grant(old.root), reason: "testing".parse().unwrap(), dry_run: false };
    world.submit(&Caller::Broker, cut).await.unwrap();
    assert_eq!((world.state(old.child), world.state(below.id)), (Some("revoked"), Some("revoked")));

    // And all of it again, from the snapshot that it has by now.
    let live = (world.ledger.checkpoint(), world.ledger.fingerprint().unwrap());
    drop(world);
    let world = open();
    assert!((world.ledger.checkpoint(), world.ledger.fingerprint().unwrap()) == live);
    assert_eq!(world.state(below.id), Some("revoked"));
    assert_eq!(score(&world, Whole::Task(old.task)), 8 * 4);
}
