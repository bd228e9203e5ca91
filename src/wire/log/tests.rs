use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::domain::agent::{Agent, AgentStatus, Join, Kind, Operator, Role};
use crate::domain::applied::Applied;
use crate::domain::approval::{Approval, ApprovalStatus, Envelope, Vote};
use crate::domain::catalog::Sensitivity;
use crate::domain::certificate::Certificate;
use crate::domain::digest::Digest;
use crate::domain::entropy::Entropy;
use crate::domain::event::{
    Activation, Actor, Body, CutCounts, Idempotency, Invocation, LeaseChange, Origin, Report, Revocation, Settled,
};
use crate::domain::freeze::Freeze;
use crate::domain::grant::{Credential, Grant, Link, Status, Task, Token};
use crate::domain::id::{CertificateId, GrantId, TaskId};
use crate::domain::invocation::{Outcome, TicketGiven};
use crate::domain::key::{Key, Purpose};
use crate::domain::lease::{Backend, BackendKind, Lease, LeaseStatus, Trouble};
use crate::domain::limits::{Charge, Limits};
use crate::domain::pep::Pep;
use crate::domain::policy::{Decided, Mode};
use crate::domain::radius::{Figures, Unions};
use crate::domain::scope::{Call, Decimal, Scopes};
use crate::domain::status::StatusPlace;
use crate::domain::time::{Span, Timestamp};

macro_rules! id {
    ($type:ident, $seed:literal) => {
        crate::domain::id::$type::mint(
            Timestamp::from_millis(1_795_000_000_000 + $seed),
            &mut Entropy::from_seed([$seed; 32]),
        )
    };
}

fn read<T: std::str::FromStr<Err = crate::domain::error::Error>>(text: &str) -> T {
    text.parse().unwrap()
}

fn ms(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn entry(body: Body) -> Entry {
    let idempotency = Idempotency { verb: "request".into(), key: "k-1".into(), digest: Digest([9; 32]) };
    Entry {
        at: ms(7),
        actor: Actor::Agent(read("planner")),
        request_id: "r1".into(),
        idempotency: Some(idempotency),
        body,
    }
}

fn join() -> Join {
    let (kind, name) = (Kind::Agent, read("planner"));
    Join { id: id!(JoinId, 1), kind, name, secret_hash: Digest([2; 32]), expires_at: ms(8), used: None }
}

fn agent() -> Agent {
    Agent {
        id: id!(AgentId, 2),
        name: read("planner"),
        owner: read("Payments"),
        purpose: read("plans"),
        status: AgentStatus::Active,
        ceiling: Some(
            Scopes::parse(&["pg:select@db/**", r#"pg:a@b{"args":{"a b":{"eq":"\u00e9"}},"closed":true}"#]).unwrap(),
        ),
        max_ttl: Some(Span::minutes(5)),
        labels: vec![(read("team"), read("a b"))],
        retired: None,
        created_at: ms(3),
    }
}

fn identity(id: CertificateId) -> Certificate {
    let (key_hash, tbs_digest) = (Digest([3; 32]), Digest([4; 32]));
    let (kind, name, grant, authority) = (Kind::Server, read("broker"), Some(id!(GrantId, 5)), "k2".to_owned());
    Certificate {
        id,
        kind,
        name,
        key_hash,
        tbs_digest,
        grant,
        authority,
        not_before: ms(-1),
        not_after: ms(9),
        der: None,
    }
}

fn task() -> Task {
    let subject = Some(read("alice@example.com"));
    let (purpose, agent) = (read("fix #42"), read("planner"));
    Task {
        id: id!(TaskId, 4),
        purpose,
        agent,
        subject,
        expires_at: ms(10),
        envelope: None,
        ended: None,
        suspended: false,
        created_at: ms(1),
    }
}

fn grant() -> Grant {
    Grant {
        id: id!(GrantId, 5),
        parent: Some(id!(GrantId, 6)),
        root: id!(GrantId, 7),
        task: id!(TaskId, 4),
        agent: read("coder"),
        owner: read("Payments"),
        subject: None,
        scopes: Scopes::parse(&["pg:rows.*@db/*", "git:*@**"]).unwrap(),
        audience: read("https://tool.example"),
        depth: 15,
        seq: u64::MAX,
        created_at: ms(1),
        expires_at: ms(2),
        renewable_until: ms(3),
        status: Status::Active,
        mode: Mode::Own,
        limits: Limits::parse(&["max_calls=3", "max_sum(amount)=2.5"]).unwrap(),
        approvals: 2,
        decided: Decided { version: 3, policies: vec!["agents.1".into()] },
    }
}

fn token() -> Token {
    let link = |subject| Link { grant: id!(GrantId, 7), agent: read("coder"), owner: read("Payments"), subject };
    Token {
        id: id!(TokenId, 8),
        issuer: read("https://belay.example"),
        subject: read("alice"),
        audience: read("tool"),
        issued_at: ms(1000),
        expires_at: ms(2000),
        grant: id!(GrantId, 5),
        task: id!(TaskId, 4),
        scopes: Scopes::parse(&["pg:select@db"]).unwrap(),
        seq: 12,
        epoch: "e1".into(),
        chain: vec![link(None), link(Some(read("alice")))],
        thumbprint: Digest([5; 32]),
        key_hash: Digest([6; 32]),
        kid: "t1".into(),
        status: Some(StatusPlace { list: 7, index: 65_535 }),
    }
}

fn invocation() -> Invocation {
    Invocation {
        id: id!(InvocationId, 9),
        credential: Some(Credential::Token(id!(TokenId, 8))),
        grant: Some(id!(GrantId, 5)),
        tree: Some(id!(GrantId, 7)),
        agent: Some(read("coder")),
        call: Some((Call::parse("pg", "select", "db/orders").unwrap()).with_destination("db.example:5432").unwrap()),
        allowed: true,
        reasons: vec!["allowed".into()],
        proven: true,
        args: Some(Digest::of(b"{}")),
        decided: Decided { version: 3, policies: vec!["tools.1".into()] },
        charged: Some(Charge { sums: vec![("amount".into(), Decimal::parse("98.7").unwrap())] }),
        ticket: Some(TicketGiven { kid: "t1".into(), expires_at: ms(60_000) }),
        redeems: Some(id!(InvocationId, 10)),
    }
}

fn report() -> Report {
    Report {
        id: id!(InvocationId, 9),
        outcome: Outcome::NotExecuted,
        detail: Some(read("the server was gone")),
        grant: Some(id!(GrantId, 5)),
        tree: Some(id!(GrantId, 7)),
        agent: Some(read("coder")),
        refunded: true,
    }
}

fn pep() -> Pep {
    Pep {
        id: id!(PepId, 13),
        name: read("gate"),
        audiences: vec![read("https://orders.example"), read("orders")],
        staleness: Span::seconds(5),
        retired: None,
        created_at: ms(4),
    }
}

fn freeze() -> Freeze {
    Freeze {
        id: id!(FreezeId, 15),
        scope: read("postgres:*@prod/**"),
        sensitivity: Some(Sensitivity::Confidential),
        reason: read("code freeze"),
        by: read("ana"),
        at: ms(6),
        thawed: None,
    }
}

fn backend() -> Backend {
    Backend {
        name: read("orders"),
        kind: BackendKind::Postgres,
        roles: vec![read("reader"), read("writer")],
        sealed: Digest([4; 32]),
        removed: false,
        created_at: ms(8),
    }
}

fn lease() -> Lease {
    Lease {
        id: id!(LeaseId, 16),
        grant: id!(GrantId, 5),
        root: id!(GrantId, 7),
        agent: read("coder"),
        backend: read("orders"),
        role: read("reader"),
        created_at: ms(9),
        expires_at: ms(99),
        status: LeaseStatus::Planned,
        kept: false,
        changed_at: ms(9),
        trouble: None,
    }
}

fn lease_change(trouble: Option<Trouble>) -> LeaseChange {
    let Lease { id, grant, root, agent, .. } = lease();
    LeaseChange { id, grant, root, agent, status: LeaseStatus::Ended, trouble }
}

fn decided() -> Decided {
    Decided { version: 3, policies: vec!["agents.1".into()] }
}

fn activation() -> Activation {
    Activation {
        id: id!(GrantId, 5),
        approval: id!(ApprovalId, 12),
        root: id!(GrantId, 7),
        agent: read("coder"),
        scopes: Scopes::parse(&["pg:select@db/orders"]).unwrap(),
        expires_at: ms(20),
        renewable_until: ms(30),
        approvals: 2,
        decided: decided(),
    }
}

fn figures(score: u64) -> Figures {
    Figures { score, by: [1, 2, 3, score], unbounded: score > 7 }
}

fn approval() -> Approval {
    let unions = Unions { task: figures(6), agent: figures(7), owner: figures(8), subject: figures(9) };
    Approval {
        id: id!(ApprovalId, 12),
        grant: Some(id!(GrantId, 5)),
        task: id!(TaskId, 4),
        purpose: read("mend"),
        requester: read("planner"),
        holder: read("coder"),
        chain: vec![read("planner")],
        parent: Some(id!(GrantId, 7)),
        mode: Mode::Own,
        subject: Some(read("ana")),
        scopes: Scopes::parse(&["pg:select@db/**"]).unwrap(),
        audience: Some(read("https://b")),
        ttl: Span::minutes(5),
        renewable_until: Some(ms(88)),
        limits: Limits { max_depth: Some(2), ..Limits::default() },
        needed: 2,
        decided: decided(),
        catalog: 4,
        radius: figures(4),
        adds: figures(5),
        names: Some(Digest([8; 32])),
        unions,
        digest: Digest([9; 32]),
        asked: vec![(read("root"), ms(11))],
        created_at: ms(10),
        expires_at: ms(99),
        given: vec![],
        denied: None,
        status: ApprovalStatus::Pending,
    }
}

fn vote() -> Vote {
    Vote {
        by: read("root"),
        at: ms(12),
        reason: read("go"),
        scopes: Some(Scopes::parse(&["pg:select@db/orders"]).unwrap()),
        ttl: Some(Span::minutes(1)),
    }
}

fn envelope() -> Envelope {
    Envelope {
        approval: id!(ApprovalId, 12),
        scopes: Scopes::parse(&["pg:select@db/**"]).unwrap(),
        radius: figures(3),
        approvals: 1,
        expires_at: ms(50),
    }
}

fn one_of_each() -> Vec<Body> {
    let (grant_id, root, name, agent_name) = (id!(GrantId, 5), id!(GrantId, 7), read("planner"), read("coder"));
    let (status, reason) = (AgentStatus::Suspended, read("why"));
    let certificate = id!(CertificateId, 3);
    let operator =
        Operator { name: read("root"), roles: vec![Role::Admin, Role::Auditor], removed: false, created_at: ms(2) };
    let revoked = Revocation {
        id: id!(RevocationId, 10),
        target: read("owner:Payments"),
        tree: Some(root),
        reason: read("leak"),
        known: true,
        until: ms(99),
        cut: CutCounts { grants: 1, tokens: 2, certificates: 3, leases: 4 },
    };
    let key = Key {
        kid: "a1".into(),
        purpose: Purpose::Authority,
        public: vec![4; 65],
        certificate: Some(vec![0x30]),
        sealed: Digest([1; 32]),
        created_at: ms(1),
        use_from: ms(2),
        not_after: Some(ms(99)),
        tainted: None,
    };
    vec![
        Body::Origin(Origin { trust_domain: read("example.org"), issuer: read("https://b"), epoch: "e1".into() }),
        Body::KeyAdded(key),
        Body::AgentRegistered { agent: agent(), join: join() },
        Body::AgentStatusChanged { name, status, reason: read("why") },
        Body::OperatorAdded { operator, join: join() },
        Body::OperatorRemoved { name: read("root"), reason: read("left") },
        Body::Invited { join: join() },
        Body::CertificateRecorded {
            certificate: identity(certificate),
            join: Some(id!(JoinId, 1)),
            replaces: Some(certificate),
        },
        Body::KeyTainted { kid: "a1".into(), reason: read("leaked") },
        Body::GrantActivated(activation()),
        Body::ApprovalRequested { approval: approval() },
        Body::ApprovalGiven { id: id!(ApprovalId, 12), grant: Some(id!(GrantId, 5)), vote: vote() },
        Body::ApprovalDenied { id: id!(ApprovalId, 12), grant: None, vote: Vote { scopes: None, ttl: None, ..vote() } },
        Body::EnvelopeOpened { task: id!(TaskId, 4), agent: read("coder"), envelope: envelope() },
        Body::CatalogApplied(Applied { version: 2, digest: Digest([7; 32]), body: None }),
        Body::PolicyApplied(Applied { version: 3, digest: Digest([8; 32]), body: None }),
        Body::CertificateSigned { id: certificate, der: vec![0x30, 0] },
        Body::TaskStarted { task: task() },
        Body::TaskEnded { id: id!(TaskId, 4), agent: read("planner"), reason: read("done") },
        Body::GrantIssued { grant: grant() },
        Body::GrantRenewed { id: grant_id, root, agent: read("coder"), expires_at: ms(5) },
        Body::GrantStatusChanged { id: grant_id, root, agent: agent_name, status: Status::Completed, reason },
        Body::TokenIssued { token: token() },
        Body::Revoked(revoked),
        Body::Invoked(invocation()),
        Body::TaskStatusChanged { id: id!(TaskId, 4), agent: read("planner"), suspended: true, reason: read("why") },
        Body::PepRegistered { pep: pep(), join: join() },
        Body::PepRetired { name: read("gate"), reason: read("gone") },
        Body::RevocationSettled(Settled {
            id: id!(RevocationId, 14),
            enforced: CutCounts { grants: 1, tokens: 2, certificates: 3, leases: 4 },
            expired: CutCounts { tokens: 9, ..CutCounts::default() },
            at: ms(44),
        }),
        Body::Frozen(freeze()),
        Body::Thawed { id: id!(FreezeId, 15), reason: read("mended") },
        Body::BackendAdded(backend()),
        Body::BackendRemoved { name: read("orders"), reason: read("moved") },
        Body::LeaseIssued { lease: lease() },
        Body::LeaseChanged(lease_change(Some(Trouble { reason: read("cannot connect"), failed: true }))),
        Body::LeaseChanged(lease_change(None)),
        Body::InvocationReported(report()),
        Body::InvocationReported(Report { detail: None, grant: None, tree: None, agent: None, ..report() }),
        Body::SnapshotTaken { seq: 3, digest: Digest([7; 32]), version: 1 },
    ]
}

/// The kinds of entry in the compiled schema.
fn kinds() -> BTreeSet<String> {
    let set = prost_types::FileDescriptorSet::decode(crate::wire::DESCRIPTOR).unwrap();
    let mut messages =
        set.file.into_iter().filter(|file| file.package() == "belay.log.v1").flat_map(|file| file.message_type);
    let entry = messages.find(|message| message.name() == "Entry").unwrap();
    let body = |field: &prost_types::FieldDescriptorProto| field.oneof_index == Some(0) && !field.proto3_optional();
    entry.field.iter().filter(|field| body(field)).map(|field| field.name().to_owned()).collect()
}

#[test]
fn every_kind_of_entry_survives_the_log() {
    let mut seen = BTreeSet::new();
    for body in one_of_each() {
        seen.insert(body.kind().to_owned());
        let entry = entry(body);
        assert_eq!(decode(&encode(&entry)), Ok(entry));
    }
    assert_eq!(seen, kinds(), "a kind without a sample here");
}

#[test]
fn absent_is_not_empty() {
    let bare = Agent { ceiling: None, max_ttl: None, labels: vec![], ..agent() };
    let stranger = Invocation { credential: None, grant: None, tree: None, agent: None, call: None, ..invocation() };
    for body in [Body::AgentRegistered { agent: bare, join: join() }, Body::Invoked(stranger)] {
        let entry = Entry { idempotency: None, actor: Actor::Stranger, ..entry(body) };
        assert_eq!(decode(&encode(&entry)), Ok(entry));
    }
    let zero = Agent { max_ttl: Some(Span::millis(0)), ..agent() };
    let entry = entry(Body::AgentRegistered { agent: zero, join: join() });
    assert_eq!(decode(&encode(&entry)), Ok(entry));
}

/// Where decoding fails when `damage` was done to a good entry of this body.
fn field_at_fault(body: Body, damage: impl Fn(&mut pb::Entry)) -> &'static str {
    let mut message = pb::Entry::from(&entry(body));
    damage(&mut message);
    decode(&message.encode_to_vec()).unwrap_err().field
}

macro_rules! damaged {
    ($body:expr, $kind:ident, $change:expr) => {
        field_at_fault($body, |message| match &mut message.body {
            Some(pb::entry::Body::$kind(body)) => ($change)(body),
            _ => unreachable!(),
        })
    };
}

#[test]
fn a_damaged_part_is_named() {
    let registered = || Body::AgentRegistered { agent: agent(), join: join() };
    let issued = || Body::GrantIssued { grant: grant() };
    let signed = || Body::TokenIssued { token: token() };
    assert_eq!(field_at_fault(issued(), |message| message.actor = "root".into()), "actor");
    assert_eq!(field_at_fault(issued(), |message| message.body = None), "body");
    let short = |message: &mut pb::Entry| message.idempotency.as_mut().unwrap().digest.truncate(31);
    assert_eq!(field_at_fault(issued(), short), "idempotency.digest");
    assert_eq!(
        damaged!(registered(), AgentRegistered, |b: &mut pb::AgentRegistered| b.agent = None),
        "agent_registered.agent"
    );
    assert_eq!(
        damaged!(registered(), AgentRegistered, |b: &mut pb::AgentRegistered| b.join = None),
        "agent_registered.join"
    );
    let negative = |b: &mut pb::AgentRegistered| b.agent.as_mut().unwrap().max_ttl = Some(-1);
    assert_eq!(damaged!(registered(), AgentRegistered, negative), "agent.max_ttl");
    let nothing = |b: &mut pb::AgentRegistered| b.agent.as_mut().unwrap().ceiling = Some(pb::Scopes::default());
    assert_eq!(damaged!(registered(), AgentRegistered, nothing), "agent.ceiling");
    assert_eq!(damaged!(issued(), GrantIssued, |g: &mut pb::Grant| g.scopes.clear()), "grant.scopes");
    assert_eq!(damaged!(issued(), GrantIssued, |g: &mut pb::Grant| g.depth = 256), "grant.depth");
    assert_eq!(damaged!(issued(), GrantIssued, |g: &mut pb::Grant| g.parent = Some(String::new())), "grant.parent");
    assert_eq!(damaged!(issued(), GrantIssued, |g: &mut pb::Grant| g.id = g.task.clone()), "grant.id");
    assert_eq!(damaged!(signed(), TokenIssued, |t: &mut pb::Token| t.chain[1].agent = "A".into()), "token.chain.agent");
    assert_eq!(damaged!(signed(), TokenIssued, |t: &mut pb::Token| t.thumbprint.push(0)), "token.thumbprint");
    let wild = |i: &mut pb::Invocation| i.call.as_mut().unwrap().resource = "db/*".into();
    assert_eq!(damaged!(Body::Invoked(invocation()), Invoked, wild), "invoked.call");
}

#[test]
fn what_a_newer_version_wrote_is_not_read_by_halves() {
    let good = encode(&entry(Body::TaskStarted { task: task() }));
    let bare = pb::Entry { body: None, ..pb::Entry::decode(&good[..]).unwrap() }.encode_to_vec();
    // Field 99, a varint: at the end of the entry, then inside the task.
    let unknown = [0x98, 0x06, 0x01];
    let outside = [&good[..], &unknown].concat();
    assert_eq!(decode(&outside).unwrap_err().field, "entry");

    let mut inner = pb::Task::from(&task()).encode_to_vec();
    inner.extend(unknown);
    let length = u8::try_from(inner.len()).unwrap();
    let inside = [&bare[..], &[0x9a, 0x01, length], &inner].concat();
    assert_eq!(decode(&inside).unwrap_err().field, "entry");

    // An entry whose only body is of kind 99.
    let kind = [&bare[..], &[0x9a, 0x06, 0x00]].concat();
    assert_eq!(decode(&kind).unwrap_err().field, "body");
    assert!(decode(&[]).is_err());
    assert!(!decode(&outside).unwrap_err().to_string().contains('\n'));
}

prop_compose! {
    fn any_grant()(
        seed in any::<[u8; 32]>(), at in 0i64..1 << 47, times in any::<[i64; 3]>(), seq in any::<u64>(), depth in any::<u8>(),
        root in any::<bool>(), subject in proptest::option::of("[A-Za-zé@#][A-Za-z @.]{0,30}[a-z]"), agent in "[a-z0-9][a-z0-9._-]{0,62}",
        scopes in proptest::collection::btree_set("[a-z]{1,5}:(\\*|[a-z]{1,5}(\\.\\*)?)@([a-z0-9]{1,4}/){0,3}(\\*|\\*\\*|[A-Z]{1,3})", 1..9),
    ) -> Grant {
        let mut entropy = Entropy::from_seed(seed);
        let id = GrantId::mint(ms(at), &mut entropy);
        Grant {
            id,
            parent: (!root).then(|| GrantId::mint(ms(at), &mut entropy)),
            root: id,
            task: TaskId::mint(ms(at), &mut entropy),
            agent: read(&agent),
            subject: subject.as_deref().map(read),
            scopes: Scopes::parse(&scopes.into_iter().collect::<Vec<_>>()).unwrap(),
            depth,
            seq,
            created_at: ms(times[0]),
            expires_at: ms(times[1]),
            renewable_until: ms(times[2]),
            ..grant()
        }
    }
}

proptest! {
    #[test]
    fn any_grant_survives_the_log(grant in any_grant(), request_id in any::<String>(), at in any::<i64>()) {
        let entry = Entry { at: ms(at), request_id, ..entry(Body::GrantIssued { grant }) };
        prop_assert_eq!(decode(&encode(&entry)), Ok(entry));
    }

    #[test]
    fn damaged_bytes_are_refused_or_say_what_they_say(which in any::<proptest::sample::Index>(), flips in proptest::collection::vec((any::<u16>(), 1u8..), 1..4)) {
        let mut bytes = encode(&entry(which.get(&one_of_each()).clone()));
        for (at, mask) in flips {
            let at = usize::from(at) % bytes.len();
            bytes[at] ^= mask;
        }
        if let Ok(entry) = decode(&bytes) {
            prop_assert_eq!(encode(&entry), bytes);
        }
    }
}
