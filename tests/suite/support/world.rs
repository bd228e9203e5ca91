//! A ledger in this process: a real store in a temporary directory, a clock with hands, seeded entropy.

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use belay::broker::Readers;
use belay::cedar::Set;
use belay::domain::agent::{AgentStatus, Kind, Role};
use belay::domain::certificate::Certificate;
use belay::domain::decide::{
    AddKey, AddOperator, ApplyCatalog, ApplyPolicy, Begin, Caller, Decide, Delegate, Granted, KeepSigned, Presenter,
    RecordOwn, RegisterAgent, RequestGrant, Revoked, StartTask,
};
use belay::domain::digest::Digest;
use belay::domain::effect::{Counts, Nobody};
use belay::domain::error::Error;
use belay::domain::event::{Idempotency, Origin};
use belay::domain::grant::{Grant, Task};
use belay::domain::id::{CertificateId, GrantId, TaskId};
use belay::domain::key::{Key, Purpose};
use belay::domain::scope::Scopes;
use belay::domain::time::{Span, Timestamp};
use belay::effect::Page;
use belay::ledger::{Bodies, Clock, Ledger, Reading, Request, Seeds};
use belay::store::{Sqlite, Store};

/// 2026-11-22T17:00:00Z.
pub const NOW: i64 = 1_795_366_800_000;

/// Clocks whose hands a test turns: milliseconds of the wall clock and since boot.
#[derive(Debug)]
pub struct Hands(Mutex<(i64, i64)>);

impl Hands {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new((NOW, 3_600_000))))
    }

    /// Time passes, for both.
    pub fn turn(&self, span: Span) {
        let mut hands = self.0.lock().unwrap();
        *hands = (hands.0 + span.as_millis(), hands.1 + span.as_millis());
    }

    /// Somebody sets the wall clock.
    pub fn step(&self, millis: i64) {
        self.0.lock().unwrap().0 += millis;
    }
}

impl Clock for Hands {
    fn read(&self) -> Reading {
        let (wall, boot) = *self.0.lock().unwrap();
        Reading { wall: Timestamp::from_millis(wall), boot: Span::millis(boot) }
    }
}

/// A ledger, and the hands of its clock.
pub struct World {
    pub ledger: Arc<Ledger>,
    pub hands: Arc<Hands>,
}

impl World {
    /// A ledger over this store, begun, with keys in its records.
    pub async fn over(store: Box<dyn Store>, hands: Arc<Hands>, snapshot_every: u64) -> Self {
        // Every opening draws other seeds, as the system's generator would.
        static OPENED: AtomicI64 = AtomicI64::new(0);
        let mut seed = [7; 32];
        // Behind the first eight bytes, which `Seeds` counts in.
        seed[8..16].copy_from_slice(&OPENED.fetch_add(1, Ordering::SeqCst).to_be_bytes());
        let clock = Arc::clone(&hands) as Arc<dyn Clock>;
        let ledger =
            Ledger::open(store, clock, Seeds::fixed(seed), snapshot_every, std::sync::Arc::new(Readers)).unwrap();
        let world = Self { ledger: Arc::new(ledger), hands };
        if world.ledger.view(|view| view.origin().is_none()) {
            world.begin().await;
        }
        world
    }

    /// A ledger in `directory`, on the embedded store.
    pub async fn open(directory: &Path, hands: Arc<Hands>) -> Self {
        Self::over(Box::new(store(directory)), hands, 1_000_000).await
    }

    async fn begin(&self) {
        let origin = Origin {
            trust_domain: "example.org".parse().unwrap(),
            issuer: "https://example.org".parse().unwrap(),
            epoch: "epoch".to_owned(),
        };
        self.submit(&Caller::Broker, Begin { origin }).await.unwrap();
        self.apply_policies(Set::dev().unwrap()).await;
        for purpose in Purpose::ALL {
            self.submit(&Caller::Broker, AddKey { key: self.key(purpose, &format!("{purpose}-key")) }).await.unwrap();
        }
    }

    /// Puts a policy set in force, as the broker would.
    pub async fn apply_policies(&self, set: Set) {
        let bytes = set.to_bytes();
        let digest = Digest::of(&bytes);
        let command = ApplyPolicy { policies: Arc::new(set), digest, over: None, force: true };
        self.submit_with(command, digest, bytes).await;
    }

    /// Puts a catalog in force.
    pub async fn apply_catalog(&self, text: &str) {
        let digest = Digest::of(text.as_bytes());
        let command = ApplyCatalog { catalog: Readers.catalog(text.as_bytes()).unwrap(), digest, over: None };
        self.submit_with(command, digest, text.as_bytes().to_vec()).await;
    }

    async fn submit_with<D: Decide>(&self, command: D, digest: Digest, bytes: Vec<u8>) {
        let request = Request {
            command,
            caller: Caller::Broker,
            request_id: "test".to_owned(),
            idempotency: None,
            seed: self.ledger.seed(),
            blobs: vec![(digest, bytes)],
        };
        assert!(self.ledger.submit(request).await.is_ok());
    }

    /// A key that signs nothing: its bytes do not matter to a decision.
    pub fn key(&self, purpose: Purpose, kid: &str) -> Key {
        let now = self.ledger.now();
        Key {
            kid: kid.to_owned(),
            purpose,
            public: vec![4; 65],
            certificate: purpose.is_authority().then(|| vec![0x30, 0]),
            not_after: purpose.is_authority().then(|| now.plus(Span::hours(24 * 365))),
            sealed: Digest::of(b"sealed"),
            created_at: now,
            use_from: now,
            tainted: None,
        }
    }

    /// Has a command decided and recorded.
    pub async fn submit<D: Decide>(&self, caller: &Caller, command: D) -> Result<D::Answer, Error> {
        self.submit_once(caller, command, None).await
    }

    /// The same, under an idempotency key; `body` stands for the request's bytes.
    pub async fn submit_once<D: Decide>(
        &self,
        caller: &Caller,
        command: D,
        idempotency: Option<(&str, &[u8])>,
    ) -> Result<D::Answer, Error> {
        let idempotency = idempotency.map(|(key, body)| Idempotency {
            verb: D::VERB.to_owned(),
            key: key.to_owned(),
            digest: Digest::of(body),
        });
        let request = Request {
            command,
            caller: caller.clone(),
            request_id: "test".to_owned(),
            idempotency,
            seed: self.ledger.seed(),
            blobs: Vec::new(),
        };
        self.ledger.submit(request).await
    }

    /// Registers an agent and gives it a recorded identity: the caller that it is.
    pub async fn agent(&self, name: &str) -> Caller {
        self.agent_within(name, None, None).await
    }

    /// The same, under a ceiling and a longest life.
    pub async fn agent_within(&self, name: &str, ceiling: Option<&[&str]>, max_ttl: Option<Span>) -> Caller {
        let command = RegisterAgent {
            name: name.parse().unwrap(),
            owner: format!("owner-of-{name}").parse().unwrap(),
            purpose: "testing".parse().unwrap(),
            ceiling: ceiling.map(|scopes| Scopes::parse(scopes).unwrap()),
            max_ttl,
            labels: Vec::new(),
            secret_hash: Digest::of(name.as_bytes()),
        };
        self.submit(&Caller::Broker, command).await.unwrap();
        Caller::Agent(self.identity(Kind::Agent, name).await)
    }

    /// Adds an operator with an identity.
    pub async fn operator(&self, name: &str, roles: &[Role]) -> Caller {
        let command = AddOperator {
            name: name.parse().unwrap(),
            roles: roles.to_vec(),
            secret_hash: Digest::of(name.as_bytes()),
        };
        self.submit(&Caller::Broker, command).await.unwrap();
        Caller::Operator(self.identity(Kind::Operator, name).await)
    }

    /// Records an identity certificate for somebody known; its bytes do not matter to a decision.
    pub async fn identity(&self, kind: Kind, name: &str) -> Presenter {
        let now = self.ledger.now();
        let mut entropy = belay::domain::entropy::Entropy::from_seed(self.ledger.seed());
        let id = CertificateId::mint(now, &mut entropy);
        let key_hash = Digest::of(id.to_string().as_bytes());
        let identity = self.certificate(id, kind, name, key_hash);
        let (name, not_after) = (identity.name.clone(), identity.not_after);
        self.submit(&Caller::Broker, RecordOwn { new: identity }).await.unwrap();
        let der = [&[0x30, 32], key_hash.0.as_slice()].concat();
        let thumbprint = Digest::of(&der);
        self.submit(&Caller::Broker, KeepSigned { id, der }).await.unwrap();
        let grant = None;
        Presenter { kind, name, grant, certificate: id, thumbprint, key_hash, not_after }
    }

    /// The record of an identity certificate for a day from now.
    pub fn certificate(&self, id: CertificateId, kind: Kind, name: &str, key_hash: Digest) -> Certificate {
        let now = self.ledger.now();
        Certificate {
            id,
            kind,
            name: name.parse().unwrap(),
            grant: None,
            authority: self.signer(Purpose::of(kind)),
            key_hash,
            tbs_digest: key_hash,
            not_before: now,
            not_after: now.plus(Span::hours(24)),
            der: None,
        }
    }

    /// The key that signs for a purpose now.
    pub fn signer(&self, purpose: Purpose) -> String {
        let now = self.ledger.now();
        self.ledger.view(|view| view.signer(purpose, now).map(|key| key.kid.clone())).unwrap()
    }

    /// Starts a task of one hour.
    pub async fn task(&self, caller: &Caller) -> Task {
        self.task_of(caller, Span::hours(1)).await
    }

    /// Starts a task of this length.
    pub async fn task_of(&self, caller: &Caller, ttl: Span) -> Task {
        let command = StartTask { purpose: "testing".parse().unwrap(), subject: None, ttl, envelope: None };
        self.submit(caller, command).await.unwrap().task
    }

    /// Requests a root grant of fifteen minutes.
    pub async fn grant(&self, caller: &Caller, task: TaskId, scopes: &[&str]) -> Result<Grant, Error> {
        let command = RequestGrant {
            task,
            scopes: Scopes::parse(scopes)?,
            audience: None,
            ttl: Span::minutes(15),
            token: false,
            limits: Default::default(),
            narrow: false,
        };
        self.submit(caller, command).await.map(|granted: Granted| granted.grant)
    }

    /// Delegates for fifteen minutes.
    pub async fn delegate(&self, caller: &Caller, parent: GrantId, to: &str, scopes: &[&str]) -> Result<Grant, Error> {
        let command = Delegate {
            parent,
            to: to.parse()?,
            scopes: Scopes::parse(scopes)?,
            audience: None,
            ttl: Span::minutes(15),
            own: false,
            limits: Default::default(),
            narrow: false,
        };
        self.submit(caller, command).await.map(|granted: Granted| granted.grant)
    }

    /// What a revocation has ended, by kind and state.
    pub fn died(&self, revoked: &Revoked) -> Counts {
        belay::effect::walk(&self.ledger, revoked.cut.clone(), &Nobody, Page::default()).counts
    }

    /// The state of a grant, as it would be told.
    pub fn state(&self, grant: GrantId) -> Option<&'static str> {
        let now = self.ledger.now();
        self.ledger.view(|view| view.standing(grant, now).map(|standing| standing.state.as_str()))
    }

    /// Suspends, resumes or retires an agent.
    pub async fn set_agent(&self, name: &str, status: AgentStatus) {
        let command = belay::domain::decide::SetAgentStatus {
            name: name.parse().unwrap(),
            status,
            reason: "testing".parse().unwrap(),
        };
        self.submit(&Caller::Broker, command).await.unwrap();
    }
}

/// An id that nobody has seen, of this moment: the same for the same name. Its revocation is remembered.
pub fn unseen(name: &str, at: Timestamp) -> String {
    let mut entropy = belay::domain::entropy::Entropy::from_seed(Digest::of(name.as_bytes()).0);
    GrantId::mint(at, &mut entropy).to_string()
}

/// The embedded store in `directory`.
pub fn store(directory: &Path) -> Sqlite {
    Sqlite::open(directory).unwrap()
}
