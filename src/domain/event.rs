//! What happened. Every change of state is one [`Entry`] in one ordered log; state is their fold.
//!
//! Nothing here holds a secret: join tokens are hashes, keys are sealed blobs named by digest, tokens
//! are their claims.

use serde::{Deserialize, Serialize};

use super::agent::{Agent, AgentStatus, Join, Operator};
use super::applied::Applied;
use super::approval::{Approval, Envelope, Vote};
use super::catalog::Catalog;
use super::certificate::Certificate;
use super::cut::Target;
use super::digest::Digest;
use super::error::Error;
use super::freeze::Freeze;
use super::grant::{Credential, Grant, Status, Task, Token};
use super::id::{ApprovalId, CertificateId, FreezeId, GrantId, InvocationId, JoinId, LeaseId, RevocationId, TaskId};
use super::invocation::{Outcome, TicketGiven};
use super::key::Key;
use super::lease::{Backend, Lease, LeaseStatus, Trouble};
use super::limits::Charge;
use super::name::{Audience, Line, Name, TrustDomain};
use super::pep::Pep;
use super::policy::{Decided, Policies};
use super::scope::Call;
use super::scope::Scopes;
use super::time::Timestamp;
use super::upstream::Upstream;

/// One record of the log, without its sequence number, which is its place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// The batch's time; never before that of an earlier entry.
    pub at: Timestamp,
    /// Who caused it.
    pub actor: Actor,
    /// The request that caused it.
    pub request_id: String,
    /// The idempotency key that the caller gave.
    pub idempotency: Option<Idempotency>,
    /// What happened.
    pub body: Body,
}

/// Who caused an event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Actor {
    /// An agent.
    Agent(Name),
    /// An operator.
    Operator(Name),
    /// An enforcement point.
    Pep(Name),
    /// The broker itself.
    Broker,
    /// Somebody who has not proved who it is: an enrolment.
    Stranger,
}

/// A caller's own name for a request: the same key and body mean the same request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    /// The verb it was given for.
    pub verb: String,
    /// The key, 1 to 128 printable ASCII characters.
    pub key: String,
    /// SHA-256 of the request's body.
    pub digest: Digest,
}

/// What happened.
#[expect(missing_docs, reason = "the fields are records or their ids, documented at their types")]
#[expect(clippy::large_enum_variant, reason = "there is one event at a time, and it is moved once")]
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
pub enum Body {
    /// The log began.
    Origin(Origin),
    /// A signing key was made: published at once, in use from a moment that it names.
    KeyAdded(Key),
    /// Nothing under a key is accepted any more.
    KeyTainted { kid: String, reason: Line },
    /// An agent was registered and invited.
    AgentRegistered { agent: Agent, join: Join },
    /// An agent was suspended, resumed or retired.
    AgentStatusChanged { name: Name, status: AgentStatus, reason: Line },
    /// An operator was added and invited.
    OperatorAdded { operator: Operator, join: Join },
    /// An operator was removed.
    OperatorRemoved { name: Name, reason: Line },
    /// An enforcement point was registered and invited.
    PepRegistered { pep: Pep, join: Join },
    /// An enforcement point was retired.
    PepRetired { name: Name, reason: Line },
    /// A new join token for somebody known.
    Invited { join: Join },
    /// A certificate will be signed: these bytes, for this key.
    CertificateRecorded { certificate: Certificate, join: Option<JoinId>, replaces: Option<CertificateId> },
    /// It was signed.
    CertificateSigned {
        id: CertificateId,
        #[serde(serialize_with = "base64")]
        der: Vec<u8>,
    },
    /// A task began.
    TaskStarted { task: Task },
    /// A task ended, and with it all its grants.
    TaskEnded { id: TaskId, agent: Name, reason: Line },
    /// A task, and with it all its grants, was suspended or resumed.
    TaskStatusChanged { id: TaskId, agent: Name, suspended: bool, reason: Line },
    /// A grant was issued: a root, or a delegation.
    GrantIssued { grant: Grant },
    /// A grant that waited for approval may be used.
    GrantActivated(Activation),
    /// A grant's expiry moved.
    GrantRenewed { id: GrantId, root: GrantId, agent: Name, expires_at: Timestamp },
    /// A grant was suspended, resumed or completed.
    GrantStatusChanged { id: GrantId, root: GrantId, agent: Name, status: Status, reason: Line },
    /// A token will be signed: these claims, under this key.
    TokenIssued { token: Token },
    /// Humans are asked.
    ApprovalRequested { approval: Approval },
    /// One of them approved.
    ApprovalGiven { id: ApprovalId, grant: Option<GrantId>, vote: Vote },
    /// One of them denied, and that is the end of it.
    ApprovalDenied { id: ApprovalId, grant: Option<GrantId>, vote: Vote },
    /// Humans have approved scopes for a task's purpose.
    EnvelopeOpened { task: TaskId, agent: Name, envelope: Envelope },
    /// Another catalog holds.
    CatalogApplied(Applied<Catalog>),
    /// Another set of policies decides.
    PolicyApplied(Applied<dyn Policies>),
    /// Something was cut, and with it all below.
    Revoked(Revocation),
    /// Everything that hangs on a revocation is over.
    RevocationSettled(Settled),
    /// Matching authority is void from now on.
    Frozen(Freeze),
    /// A freeze was lifted.
    Thawed { id: FreezeId, reason: Line },
    /// A system to lease secrets in was added, or its address and roles were replaced.
    BackendAdded(Backend),
    /// One was removed.
    BackendRemoved { name: Name, reason: Line },
    /// A secret of a tool's API was added, or took the place of one.
    UpstreamAdded(Upstream),
    /// One was removed.
    UpstreamRemoved { name: Name, reason: Line },
    /// A leased secret will be made.
    LeaseIssued { lease: Lease },
    /// What is known of a leased secret in its target changed.
    LeaseChanged(LeaseChange),
    /// A tool call was decided.
    Invoked(Invocation),
    /// What became of a tool call was told.
    InvocationReported(Report),
    /// A snapshot of the state at `seq` was stored.
    SnapshotTaken { seq: u64, digest: Digest, version: u32 },
}

/// The beginning of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The trust domain: one broker deployment, one ledger.
    pub trust_domain: TrustDomain,
    /// `iss` of every token.
    pub issuer: Audience,
    /// Random; only credentials of the current epoch are accepted.
    pub epoch: String,
}

/// What became of a grant that waited for approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Activation {
    /// Which.
    pub id: GrantId,
    /// The approval.
    pub approval: ApprovalId,
    /// The root of its tree.
    pub root: GrantId,
    /// Its holder.
    pub agent: Name,
    /// What it allows: no more than was asked for.
    pub scopes: Scopes,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Beyond this no renewal goes.
    pub renewable_until: Timestamp,
    /// How many humans approved.
    pub approvals: u8,
    /// The policies that allowed it.
    pub decided: Decided,
}

/// A revocation: one event, whatever the size of the tree below.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Its id.
    pub id: RevocationId,
    /// What it names.
    pub target: Target,
    /// The tree it is in, for a grant or token that is known.
    pub tree: Option<GrantId>,
    /// Why.
    pub reason: Line,
    /// Whether the target was known.
    pub known: bool,
    /// When the cut can be forgotten.
    pub until: Timestamp,
    /// What died by it.
    pub cut: CutCounts,
}

/// What became of all that a revocation ended, once no more will come of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Which revocation.
    pub id: RevocationId,
    /// What is refused, or gone, everywhere.
    pub enforced: CutCounts,
    /// What somebody honoured until it expired.
    pub expired: CutCounts,
    /// When the last of it was over.
    pub at: Timestamp,
}

/// What is known of a leased secret from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeaseChange {
    /// Which.
    pub id: LeaseId,
    /// Its grant.
    pub grant: GrantId,
    /// The root of that grant's tree.
    pub root: GrantId,
    /// Its holder.
    pub agent: Name,
    /// How it is in its target.
    pub status: LeaseStatus,
    /// Why it is not as it should be, if it is not.
    pub trouble: Option<Trouble>,
}

/// How much a revocation ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutCounts {
    /// Grants that were not over yet.
    pub grants: u64,
    /// Tokens under them that were not over yet.
    pub tokens: u64,
    /// Certificates.
    pub certificates: u64,
    /// Leased secrets.
    pub leases: u64,
}

/// One decided tool call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Invocation {
    /// Its id.
    pub id: InvocationId,
    /// The credential presented, where it could be read and was ours.
    pub credential: Option<Credential>,
    /// Its grant.
    pub grant: Option<GrantId>,
    /// The root of that grant's tree.
    pub tree: Option<GrantId>,
    /// The holder.
    pub agent: Option<Name>,
    /// The call, where it was well formed, without its arguments.
    pub call: Option<Call>,
    /// SHA-256 of its canonical arguments: they may hold secrets.
    pub args: Option<Digest>,
    /// The policies that decided.
    pub decided: Decided,
    /// Whether it was allowed.
    pub allowed: bool,
    /// Stable words: why.
    pub reasons: Vec<String>,
    /// Whether the presenter's possession of the bound key was proven.
    pub proven: bool,
    /// What it took from the limits of its chain; none if none of them counts calls.
    pub charged: Option<Charge>,
    /// The ticket that goes with it.
    pub ticket: Option<TicketGiven>,
    /// The call whose ticket it spends.
    pub redeems: Option<InvocationId>,
}

/// What became of a call that was allowed, as whoever asked about it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Which call.
    pub id: InvocationId,
    /// What became of it.
    pub outcome: Outcome,
    /// In one line.
    pub detail: Option<Line>,
    /// Its grant, if the call is still known.
    pub grant: Option<GrantId>,
    /// The root of that grant's tree.
    pub tree: Option<GrantId>,
    /// The holder.
    pub agent: Option<Name>,
    /// Whether what it took of the limits of its chain was given back.
    pub refunded: bool,
}

impl Body {
    /// The grant it is about.
    pub fn grant(&self) -> Option<GrantId> {
        match self {
            Self::GrantIssued { grant } => Some(grant.id),
            Self::GrantRenewed { id, .. } | Self::GrantStatusChanged { id, .. } => Some(*id),
            Self::GrantActivated(activation) => Some(activation.id),
            Self::ApprovalRequested { approval } => approval.grant,
            Self::ApprovalGiven { grant, .. } | Self::ApprovalDenied { grant, .. } => *grant,
            Self::TokenIssued { token } => Some(token.grant),
            Self::CertificateRecorded { certificate, .. } => certificate.grant,
            Self::Revoked(Revocation { target: Target::Grant(id), .. }) => Some(*id),
            Self::LeaseIssued { lease } => Some(lease.grant),
            Self::LeaseChanged(change) => Some(change.grant),
            Self::Invoked(invocation) => invocation.grant,
            Self::InvocationReported(report) => report.grant,
            _ => None,
        }
    }

    /// The tree it is about, by its root grant.
    pub fn tree(&self) -> Option<GrantId> {
        match self {
            Self::GrantIssued { grant } => Some(grant.root),
            Self::GrantRenewed { root, .. } | Self::GrantStatusChanged { root, .. } => Some(*root),
            Self::GrantActivated(activation) => Some(activation.root),
            Self::TokenIssued { token } => token.chain.first().map(|link| link.grant),
            Self::Revoked(revocation) => revocation.tree,
            Self::LeaseIssued { lease } => Some(lease.root),
            Self::LeaseChanged(change) => Some(change.root),
            Self::Invoked(invocation) => invocation.tree,
            Self::InvocationReported(report) => report.tree,
            _ => None,
        }
    }

    /// The agent it is about.
    pub fn agent(&self) -> Option<&Name> {
        match self {
            Self::AgentRegistered { agent, .. } => Some(&agent.name),
            Self::AgentStatusChanged { name, .. } => Some(name),
            Self::TaskStarted { task } => Some(&task.agent),
            Self::GrantIssued { grant } => Some(&grant.agent),
            Self::GrantActivated(activation) => Some(&activation.agent),
            Self::ApprovalRequested { approval } => Some(&approval.holder),
            Self::EnvelopeOpened { agent, .. }
            | Self::TaskEnded { agent, .. }
            | Self::TaskStatusChanged { agent, .. }
            | Self::GrantRenewed { agent, .. }
            | Self::GrantStatusChanged { agent, .. } => Some(agent),
            Self::TokenIssued { token } => token.chain.last().map(|link| &link.agent),
            Self::Revoked(Revocation { target: Target::Agent(name), .. }) => Some(name),
            Self::Invoked(invocation) => invocation.agent.as_ref(),
            Self::InvocationReported(report) => report.agent.as_ref(),
            Self::LeaseIssued { lease } => Some(&lease.agent),
            Self::LeaseChanged(change) => Some(&change.agent),
            Self::Invited { join } if join.kind == super::agent::Kind::Agent => Some(&join.name),
            Self::CertificateRecorded { certificate, .. } if certificate.kind == super::agent::Kind::Agent => {
                Some(&certificate.name)
            }
            _ => None,
        }
    }
}

macro_rules! kinds {
    ($($variant:ident = $word:literal),* $(,)?) => {
        impl Body {
            /// Every word for something that happens.
            pub const KINDS: &[&str] = &[$($word),*];

            /// The word for what happened.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $word),* }
            }
        }
    };
}

kinds! {
    Origin = "origin",
    KeyAdded = "key_added",
    KeyTainted = "key_tainted",
    AgentRegistered = "agent_registered",
    AgentStatusChanged = "agent_status_changed",
    OperatorAdded = "operator_added",
    OperatorRemoved = "operator_removed",
    Invited = "invited",
    CertificateRecorded = "certificate_recorded",
    CertificateSigned = "certificate_signed",
    TaskStarted = "task_started",
    TaskEnded = "task_ended",
    TaskStatusChanged = "task_status_changed",
    PepRegistered = "pep_registered",
    PepRetired = "pep_retired",
    GrantIssued = "grant_issued",
    GrantActivated = "grant_activated",
    GrantRenewed = "grant_renewed",
    GrantStatusChanged = "grant_status_changed",
    TokenIssued = "token_issued",
    ApprovalRequested = "approval_requested",
    ApprovalGiven = "approval_given",
    ApprovalDenied = "approval_denied",
    EnvelopeOpened = "envelope_opened",
    CatalogApplied = "catalog_applied",
    PolicyApplied = "policy_applied",
    Revoked = "revoked",
    RevocationSettled = "revocation_settled",
    Frozen = "frozen",
    Thawed = "thawed",
    BackendAdded = "backend_added",
    BackendRemoved = "backend_removed",
    UpstreamAdded = "upstream_added",
    UpstreamRemoved = "upstream_removed",
    LeaseIssued = "lease_issued",
    LeaseChanged = "lease_changed",
    Invoked = "invoked",
    InvocationReported = "invocation_reported",
    SnapshotTaken = "snapshot_taken",
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Agent(name) => write!(f, "agent:{name}"),
            Self::Operator(name) => write!(f, "operator:{name}"),
            Self::Pep(name) => write!(f, "pep:{name}"),
            Self::Broker => f.write_str("broker"),
            Self::Stranger => f.write_str("stranger"),
        }
    }
}

impl std::str::FromStr for Actor {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            Some(("agent", name)) => name.parse().map(Self::Agent),
            Some(("operator", name)) => name.parse().map(Self::Operator),
            Some(("pep", name)) => name.parse().map(Self::Pep),
            None if text == "broker" => Ok(Self::Broker),
            None if text == "stranger" => Ok(Self::Stranger),
            _ => {
                Err(Error::malformed("actor", text, "expected agent:NAME, operator:NAME, pep:NAME, broker or stranger"))
            }
        }
    }
}

impl TryFrom<String> for Actor {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Actor> for String {
    fn from(actor: Actor) -> Self {
        actor.to_string()
    }
}

/// Base64 for people; for machines the bytes, as they are read again.
pub(super) fn base64<S: serde::Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
    use base64::Engine as _;
    if s.is_human_readable() {
        s.serialize_str(&base64::engine::general_purpose::STANDARD.encode(bytes))
    } else {
        bytes.serialize(s)
    }
}

pub(super) fn base64_if_any<S: serde::Serializer>(bytes: &Option<Vec<u8>>, s: S) -> Result<S::Ok, S::Error> {
    struct Text<'a>(&'a [u8]);
    impl Serialize for Text<'_> {
        fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
            base64(self.0, s)
        }
    }
    bytes.as_deref().map(Text).serialize(s)
}
