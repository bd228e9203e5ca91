//! What the state holds, and what a batch adds to it: the same tables.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::domain::agent::{Agent, Join, Operator};
use crate::domain::applied::Applied;
use crate::domain::approval::Approval;
use crate::domain::catalog::Catalog;
use crate::domain::certificate::Certificate;
use crate::domain::cut::{Cut, Recorded, Target};
use crate::domain::digest::Digest;
use crate::domain::event::{Actor, Origin};
use crate::domain::freeze::Freeze;
use crate::domain::grant::{Grant, LiveToken, Task};
use crate::domain::id::{
    ApprovalId, CertificateId, FreezeId, GrantId, InvocationId, JoinId, LeaseId, RevocationId, TaskId, TokenId,
};
use crate::domain::invocation::OpenCall;
use crate::domain::key::Key;
use crate::domain::lease::{Backend, Lease};
use crate::domain::name::Name;
use crate::domain::pep::Pep;
use crate::domain::policy::{Decided, Policies};
use crate::domain::reach::Fresh;
use crate::domain::scope::Scope;
use crate::domain::spent::{Exercised, Spent};
use crate::domain::time::Timestamp;
use crate::domain::upstream::Upstream;

/// The records, by key. A delta is the same shape: what an event adds or replaces.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// The log's beginning.
    pub origin: Option<Origin>,
    /// The newest snapshot.
    pub snapshot: Option<SnapshotMark>,
    /// Signing keys by kid.
    pub keys: HashMap<String, Key>,
    /// Agents by name.
    pub agents: HashMap<Name, Agent>,
    /// Operators by name.
    pub operators: HashMap<Name, Operator>,
    /// Join tokens.
    pub joins: HashMap<JoinId, Join>,
    /// Certificates by serial.
    pub certificates: HashMap<CertificateId, Certificate>,
    /// Tasks.
    pub tasks: HashMap<TaskId, Task>,
    /// Grants: in a delta only; in a state they are in the tree.
    pub grants: HashMap<GrantId, Grant>,
    /// What grants that became active reach: in a delta only; in a state it is counted.
    pub reaches: Fresh,
    /// What was ever granted under a task: a delta adds to it.
    pub granted: HashMap<TaskId, BTreeSet<Scope>>,
    /// Approvals.
    pub approvals: HashMap<ApprovalId, Approval>,
    /// The catalog.
    pub catalog: Option<Applied<Catalog>>,
    /// The policies.
    pub policies: Option<Applied<dyn Policies>>,
    /// Tokens.
    pub tokens: HashMap<TokenId, LiveToken>,
    /// What idempotency keys have made.
    pub remembered: HashMap<RequestKey, Remembered>,
    /// Cuts.
    pub cuts: HashMap<Target, Cut>,
    /// Enforcement points by name.
    pub peps: HashMap<Name, Pep>,
    /// Freezes, lifted ones for a while too.
    pub freezes: HashMap<FreezeId, Freeze>,
    /// Systems to lease secrets in, removed ones too.
    pub backends: HashMap<Name, Backend>,
    /// Secrets of tools' APIs, removed ones too.
    pub upstreams: HashMap<Name, Upstream>,
    /// Leased secrets, until they are over and gone.
    pub leases: HashMap<LeaseId, Lease>,
    /// Revocations by id, for as long as their cuts.
    pub revocations: HashMap<RevocationId, Recorded>,
    /// What calls have taken from the limits of grants: a delta holds new totals, and adds resources.
    pub spent: HashMap<GrantId, Spent>,
    /// Calls of which more is to be known: charged ones, and those with a ticket.
    pub calls: HashMap<InvocationId, OpenCall>,
    /// What was done under grants: a delta adds to it.
    pub exercised: HashMap<GrantId, Exercised>,
}

/// What a batch of events adds or replaces.
pub type Delta = Tables;

/// Where the newest snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMark {
    /// The state's sequence when it was taken.
    pub seq: u64,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// The fold that wrote it.
    pub version: u32,
}

/// One caller's name for one request of one verb.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestKey {
    /// The caller.
    pub actor: Actor,
    /// The verb.
    pub verb: String,
    /// The key.
    pub key: String,
}

/// What a request made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// SHA-256 of the request's body.
    pub digest: Digest,
    /// The task it started.
    pub task: Option<TaskId>,
    /// The grant it issued.
    pub grant: Option<GrantId>,
    /// The token it issued, and the sequence of its event.
    pub token: Option<(TokenId, u64)>,
    /// The certificate it recorded.
    pub certificate: Option<CertificateId>,
    /// The lease it issued last.
    pub lease: Option<LeaseId>,
    /// The call that it charged, and the policies that allowed it.
    pub invocation: Option<(InvocationId, Decided)>,
    /// When the key is forgotten.
    pub until: Timestamp,
}

impl Delta {
    /// Adds a later delta: where both speak of a record, the later one stands.
    pub fn merge(&mut self, later: Delta) {
        self.origin = later.origin.or(self.origin.take());
        self.snapshot = later.snapshot.or(self.snapshot.take());
        self.keys.extend(later.keys);
        self.agents.extend(later.agents);
        self.operators.extend(later.operators);
        self.joins.extend(later.joins);
        self.certificates.extend(later.certificates);
        self.tasks.extend(later.tasks);
        self.grants.extend(later.grants);
        self.reaches.merge(later.reaches);
        for (task, scopes) in later.granted {
            self.granted.entry(task).or_default().extend(scopes);
        }
        self.approvals.extend(later.approvals);
        self.catalog = later.catalog.or(self.catalog.take());
        self.policies = later.policies.or(self.policies.take());
        self.tokens.extend(later.tokens);
        self.remembered.extend(later.remembered);
        self.cuts.extend(later.cuts);
        self.peps.extend(later.peps);
        self.freezes.extend(later.freezes);
        self.backends.extend(later.backends);
        self.upstreams.extend(later.upstreams);
        self.leases.extend(later.leases);
        self.revocations.extend(later.revocations);
        for (grant, spent) in later.spent {
            self.spent.entry(grant).or_default().take(spent);
        }
        self.calls.extend(later.calls);
        for (grant, exercised) in later.exercised {
            self.exercised.entry(grant).or_default().take(exercised);
        }
    }
}
