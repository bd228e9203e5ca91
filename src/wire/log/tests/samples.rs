//! One of each kind of entry, with every part that it can have.

use crate::domain::agent::{Agent, AgentStatus, Join, Kind, Operator, Role};
use crate::domain::applied::Applied;
use crate::domain::approval::{Approval, ApprovalStatus, Envelope, Vote};
use crate::domain::catalog::Sensitivity;
use crate::domain::certificate::Certificate;
use crate::domain::confirmation::Confirmation;
use crate::domain::digest::Digest;
use crate::domain::entropy::Entropy;
use crate::domain::event::{
    Activation, Actor, Body, CutCounts, Entry, Idempotency, Invocation, LeaseChange, Origin, Report, Revocation,
    Settled,
};
use crate::domain::freeze::Freeze;
use crate::domain::grant::{Credential, Grant, Link, Status, Task, Token};
use crate::domain::id::CertificateId;
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
use crate::domain::upstream::Upstream;

macro_rules! id {
    ($type:ident, $seed:literal) => {
        crate::domain::id::$type::mint(
            Timestamp::from_millis(1_795_000_000_000 + $seed),
            &mut Entropy::from_seed([$seed; 32]),
        )
    };
}

pub(super) fn read<T: std::str::FromStr<Err = crate::domain::error::Error>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(super) fn ms(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(super) fn entry(body: Body) -> Entry {
    let idempotency = Idempotency { verb: "request".into(), key: "k-1".into(), digest: Digest([9; 32]) };
    Entry {
        at: ms(7),
        actor: Actor::Agent(read("planner")),
        request_id: "r1".into(),
        idempotency: Some(idempotency),
        body,
    }
}

pub(super) fn join() -> Join {
    let (kind, name) = (Kind::Agent, read("planner"));
    Join { id: id!(JoinId, 1), kind, name, secret_hash: Digest([2; 32]), expires_at: ms(8), used: None }
}

pub(super) fn agent() -> Agent {
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

pub(super) fn identity(id: CertificateId) -> Certificate {
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

pub(super) fn task() -> Task {
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

pub(super) fn grant() -> Grant {
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

pub(super) fn token() -> Token {
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
        confirmation: Confirmation::Certificate(Digest([5; 32])),
        key_hash: Digest([6; 32]),
        kid: "t1".into(),
        status: Some(StatusPlace { list: 7, index: 65_535 }),
    }
}

pub(super) fn invocation() -> Invocation {
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

pub(super) fn report() -> Report {
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

pub(super) fn pep() -> Pep {
    Pep {
        id: id!(PepId, 13),
        name: read("gate"),
        audiences: vec![read("https://orders.example"), read("orders")],
        staleness: Span::seconds(5),
        retired: None,
        created_at: ms(4),
    }
}

pub(super) fn freeze() -> Freeze {
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

pub(super) fn backend() -> Backend {
    Backend {
        name: read("orders"),
        kind: BackendKind::Postgres,
        roles: vec![read("reader"), read("writer")],
        sealed: Digest([4; 32]),
        removed: false,
        created_at: ms(8),
    }
}

pub(super) fn upstream() -> Upstream {
    Upstream {
        name: read("github"),
        tool: read("github"),
        host: read("api.github.com:8443"),
        header: read("authorization"),
        sealed: Digest([8; 32]),
        removed: false,
        created_at: ms(5),
    }
}

pub(super) fn lease() -> Lease {
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

pub(super) fn lease_change(trouble: Option<Trouble>) -> LeaseChange {
    let Lease { id, grant, root, agent, .. } = lease();
    LeaseChange { id, grant, root, agent, status: LeaseStatus::Ended, trouble }
}

pub(super) fn decided() -> Decided {
    Decided { version: 3, policies: vec!["agents.1".into()] }
}

pub(super) fn activation() -> Activation {
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

pub(super) fn figures(score: u64) -> Figures {
    Figures { score, by: [1, 2, 3, score], unbounded: score > 7 }
}

pub(super) fn approval() -> Approval {
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

pub(super) fn vote() -> Vote {
    Vote {
        by: read("root"),
        at: ms(12),
        reason: read("go"),
        scopes: Some(Scopes::parse(&["pg:select@db/orders"]).unwrap()),
        ttl: Some(Span::minutes(1)),
    }
}

pub(super) fn envelope() -> Envelope {
    Envelope {
        approval: id!(ApprovalId, 12),
        scopes: Scopes::parse(&["pg:select@db/**"]).unwrap(),
        radius: figures(3),
        approvals: 1,
        expires_at: ms(50),
    }
}

pub(super) fn one_of_each() -> Vec<Body> {
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
        Body::TokenIssued { token: Token { confirmation: Confirmation::Key(Digest([5; 32])), ..token() } },
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
        Body::UpstreamAdded(upstream()),
        Body::UpstreamRemoved { name: read("github"), reason: read("rotated") },
        Body::BackendRemoved { name: read("orders"), reason: read("moved") },
        Body::LeaseIssued { lease: lease() },
        Body::LeaseChanged(lease_change(Some(Trouble { reason: read("cannot connect"), failed: true }))),
        Body::LeaseChanged(lease_change(None)),
        Body::InvocationReported(report()),
        Body::InvocationReported(Report { detail: None, grant: None, tree: None, agent: None, ..report() }),
        Body::SnapshotTaken { seq: 3, digest: Digest([7; 32]), version: 1 },
    ]
}
