//! Tasks, grants and tokens, and the states a grant goes through.

use serde::{Deserialize, Serialize};

use super::agent::words;
use super::approval::Envelope;
use super::confirmation::Confirmation;
use super::cut::Target;
use super::digest::Digest;
use super::error::Error;
use super::id::{CertificateId, GrantId, LeaseId, TaskId, TokenId};
use super::limits::Limits;
use super::name::{Audience, Line, Name};
use super::policy::{Decided, Mode};
use super::scope::Scopes;
use super::status::StatusPlace;
use super::time::Timestamp;

/// A declared purpose with a deadline: the root context of grants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// What it is for, in the words of the agent that started it.
    pub purpose: Line,
    /// The agent that started it; only it may request root grants.
    pub agent: Name,
    /// On whose behalf it runs.
    pub subject: Option<Line>,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// What a human has approved for this purpose beforehand.
    pub envelope: Option<Envelope>,
    /// The sequence at which it was ended.
    pub ended: Option<u64>,
    /// Whether it is halted, until resumed.
    pub suspended: bool,
    /// When it began.
    pub created_at: Timestamp,
}

/// A node of a delegation tree. Once active, what it allows never changes; only `expires_at` and `status` do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// The grant it was delegated from; none for a root.
    pub parent: Option<GrantId>,
    /// The root of its tree; its own id for a root.
    pub root: GrantId,
    /// The task it serves.
    pub task: TaskId,
    /// The holder.
    pub agent: Name,
    /// Who answered for the holder when it was granted.
    pub owner: Line,
    /// On whose behalf the task runs.
    pub subject: Option<Line>,
    /// What it allows; while it waits for approval, what was asked for.
    pub scopes: Scopes,
    /// For whom its tokens are.
    pub audience: Audience,
    /// How it stands to its parent.
    pub mode: Mode,
    /// What may be done under it at most.
    pub limits: Limits,
    /// Humans who approved it, or that within which it lies.
    pub approvals: u8,
    /// The policies that allowed it, or asked for approval.
    pub decided: Decided,
    /// 0 for a root; at most [`super::MAX_CHAIN`] − 1.
    pub depth: u8,
    /// The sequence at which it was granted: a cut of a name ends what came up to it.
    pub seq: u64,
    /// When it was granted.
    pub created_at: Timestamp,
    /// When it ends, exclusive; never after its parent or its task.
    pub expires_at: Timestamp,
    /// Beyond this no renewal goes; fixed at activation.
    pub renewable_until: Timestamp,
    /// What was done to it.
    pub status: Status,
}

/// What was done to a grant itself. Whether it is live also hangs on time, ancestors, agent and task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Asked for, and waiting for approval.
    Pending,
    /// Not approved.
    Denied,
    /// Granted, and nothing since.
    Active,
    /// Halted, until resumed.
    Suspended,
    /// Given back by its holder.
    Completed,
}

/// The state of a grant as it is told: its own status, time, and every cut on its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantState {
    /// May be used.
    Active,
    /// Waits for approval.
    Pending,
    /// Was not approved.
    Denied,
    /// Halted, itself or somewhere above.
    Suspended,
    /// Its time, or that of something above, is over.
    Expired,
    /// Cut, itself or somewhere above.
    Revoked,
    /// Given back, or its task has ended.
    Completed,
}

impl GrantState {
    /// Whether nothing can bring it back.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Expired | Self::Revoked | Self::Completed | Self::Denied)
    }
}

/// One link of a chain as a token carries it: the keys by which a cut finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The grant.
    pub grant: GrantId,
    /// Its holder.
    pub agent: Name,
    /// Who answers for the holder.
    pub owner: Line,
    /// On whose behalf.
    pub subject: Option<Line>,
}

/// A token, every claim of it: enough to build its signing input again byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// `jti`.
    pub id: TokenId,
    /// `iss`.
    pub issuer: Audience,
    /// `sub`: the task's subject, else the root holder.
    pub subject: Line,
    /// `aud`.
    pub audience: Audience,
    /// `iat`, whole seconds.
    pub issued_at: Timestamp,
    /// `exp`, whole seconds, exclusive.
    pub expires_at: Timestamp,
    /// The grant it is issued under.
    pub grant: GrantId,
    /// The task.
    pub task: TaskId,
    /// What it allows.
    pub scopes: Scopes,
    /// The sequence at which it was issued.
    pub seq: u64,
    /// The ledger's epoch: tokens of another are refused.
    pub epoch: String,
    /// Root first; the last link's agent is the holder and the `client_id`.
    pub chain: Vec<Link>,
    /// `cnf`: what whoever presents it has to hold.
    pub confirmation: Confirmation,
    /// SHA-256 of the public key behind the certificate that asked for it: who may have it signed again.
    pub key_hash: Digest,
    /// The key that signs it.
    pub kid: String,
    /// Its place in the status lists; tokens of before there were any have none.
    pub status: Option<StatusPlace>,
}

impl Token {
    /// No fewer than the bytes of its claims as JSON: what will not fit is refused before it is recorded.
    pub fn weight(&self) -> usize {
        // A quote or a backslash takes two bytes; every other byte of these texts takes one.
        let text = |line: &Line| 2 * line.as_str().len();
        let issuer = self.issuer.as_str().len();
        let link = |link: &Link| {
            let actor = issuer + link.agent.as_str().len() + 260;
            actor + 120 + link.agent.as_str().len() + text(&link.owner) + link.subject.as_ref().map_or(0, text)
        };
        // A scope stands there as text and in its parts; quotes and backslashes of its constraints are escaped.
        let scope = |scope: &super::scope::Scope| {
            let text = scope.to_string();
            2 * text.len() + text.bytes().filter(|byte| b"\"\\".contains(byte)).count() + 120
        };
        let fixed = 1100 + 2 * issuer + text(&self.subject) + self.audience.as_str().len();
        fixed + self.chain.iter().map(link).sum::<usize>() + self.scopes.iter().map(scope).sum::<usize>()
    }
}

/// What memory keeps of a token: the rest is in its event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveToken {
    /// `jti`.
    pub id: TokenId,
    /// Its grant.
    pub grant: GrantId,
    /// Where its event is.
    pub seq: u64,
    /// End of life, exclusive.
    pub expires_at: Timestamp,
    /// What it is bound to.
    pub confirmation: Confirmation,
    /// The public key behind the certificate that asked for it.
    pub key_hash: Digest,
    /// The key that signed it.
    pub kid: String,
    /// Its place in the status lists.
    pub status: Option<StatusPlace>,
}

/// What is handed out under a grant, by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "String")]
pub enum Credential {
    /// A token.
    Token(TokenId),
    /// A certificate.
    Certificate(CertificateId),
    /// A leased secret.
    Lease(LeaseId),
}

impl Credential {
    /// The word for its kind.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Certificate(_) => "certificate",
            Self::Lease(_) => "lease",
        }
    }

    /// As a cut names it.
    pub fn target(self) -> Target {
        match self {
            Self::Token(id) => Target::Token(id),
            Self::Certificate(id) => Target::Certificate(id),
            Self::Lease(id) => Target::Lease(id),
        }
    }
}

impl std::fmt::Display for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.target().fmt(f)
    }
}

impl From<Credential> for String {
    fn from(credential: Credential) -> Self {
        credential.to_string()
    }
}

impl std::str::FromStr for Credential {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        match text.parse()? {
            Target::Token(id) => Ok(Self::Token(id)),
            Target::Certificate(id) => Ok(Self::Certificate(id)),
            Target::Lease(id) => Ok(Self::Lease(id)),
            _ => Err(Error::malformed("credential", text, "expected a tok_, crt_ or lse_ id")),
        }
    }
}

words! { Status "status": Pending = "pending", Denied = "denied", Active = "active", Suspended = "suspended", Completed = "completed" }
words! { GrantState "state": Active = "active", Pending = "pending", Denied = "denied", Suspended = "suspended", Expired = "expired", Revoked = "revoked", Completed = "completed" }
