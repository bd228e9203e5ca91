//! Who there is: agents, operators, their join tokens and their identity certificates.

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::error::Error;
use super::id::{AgentId, CertificateId, JoinId};
use super::name::{Line, Name};
use super::scope::Scopes;
use super::time::{Span, Timestamp};

/// A registered non-human identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Its name, unique for ever in the trust domain.
    pub name: Name,
    /// The person or team answerable for it.
    pub owner: Line,
    /// What it is for.
    pub purpose: Line,
    /// Whether it may act.
    pub status: AgentStatus,
    /// What it may ever hold, whoever delegates. `None`: bounded by policy alone.
    pub ceiling: Option<Scopes>,
    /// The longest a grant of its lives, renewals included.
    pub max_ttl: Option<Span>,
    /// Free labels, sorted by key.
    pub labels: Vec<(Name, Line)>,
    /// The sequence at which it was retired.
    pub retired: Option<u64>,
    /// When it was registered.
    pub created_at: Timestamp,
}

/// Whether an agent may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentStatus {
    /// It may.
    Active,
    /// It may not, until resumed; it may still revoke what it holds.
    Suspended,
    /// It may not, for good; its name is not given again.
    Retired,
}

/// A human who registers, approves, revokes or reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// Its name.
    pub name: Name,
    /// What it may do; at least one.
    pub roles: Vec<Role>,
    /// Removed operators are kept, so that the name is not given again.
    pub removed: bool,
    /// When it was added.
    pub created_at: Timestamp,
}

/// What an operator is for. What a role may do is [`super::policy`]'s to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Registers agents, adds operators.
    Admin,
    /// Decides approvals.
    Approver,
    /// Suspends and revokes.
    Responder,
    /// Reads the audit.
    Auditor,
    /// Revokes, whatever the policies say, and nothing else by this role.
    BreakGlass,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Admin, Self::Approver, Self::Responder, Self::Auditor, Self::BreakGlass];

    /// Those of a first operator, unless it says otherwise: what passes by the policies is asked for by name.
    pub const FIRST: [Self; 4] = [Self::Admin, Self::Approver, Self::Responder, Self::Auditor];
}

/// What kind of party an identity certificate names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `spiffe://TRUST_DOMAIN/agent/NAME`
    Agent,
    /// `spiffe://TRUST_DOMAIN/operator/NAME`
    Operator,
    /// `spiffe://TRUST_DOMAIN/server/NAME`: the broker's own listeners.
    Server,
    /// `spiffe://TRUST_DOMAIN/pep/NAME`: an enforcement point.
    Pep,
}

/// A single-use invitation. The secret itself is never kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Its id; not secret.
    pub id: JoinId,
    /// Agent, operator or enforcement point.
    pub kind: Kind,
    /// Whose identity it gives.
    pub name: Name,
    /// SHA-256 of the secret.
    pub secret_hash: Digest,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The certificate that it was used for, and the key it was used with.
    pub used: Option<(CertificateId, Digest)>,
}

macro_rules! words {
    ($type:ident $field:literal: $($variant:ident = $word:literal),*) => {
        impl $type {
            /// The word for it, as printed and recorded.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl std::str::FromStr for $type {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(Error::malformed($field, text, concat!("expected one of", $(" ", $word),*))),
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words! { AgentStatus "status": Active = "active", Suspended = "suspended", Retired = "retired" }
words! { Role "role": Admin = "admin", Approver = "approver", Responder = "responder", Auditor = "auditor", BreakGlass = "break_glass" }
words! { Kind "kind": Agent = "agent", Operator = "operator", Server = "server", Pep = "pep" }
