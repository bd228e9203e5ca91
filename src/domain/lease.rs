//! Leases: secrets in real systems, and the systems.

use serde::{Deserialize, Serialize};

use super::agent::words;
use super::digest::Digest;
use super::error::Error;
use super::id::{GrantId, LeaseId};
use super::name::{Line, Name};
use super::time::{Span, Timestamp};

/// Roles that one backend may lease.
pub const MAX_ROLES: usize = 64;
/// Leases under one grant that are not gone yet.
pub const MAX_LEASES: usize = 64;
/// How long the making of a lease may take. What is still under way then gives up, by the target's own clock.
pub const MAKING: Span = Span::seconds(30);

/// A real system in which secrets are leased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Its name: the tool of the scope `NAME:lease@ROLE`.
    pub name: Name,
    /// What it is.
    pub kind: BackendKind,
    /// The roles of the target that a lease may be made from: sorted, at least one.
    pub roles: Vec<Name>,
    /// The blob that holds how to reach it, sealed.
    pub sealed: Digest,
    /// Whether it was removed: nothing new is leased, and what is leased is being ended.
    pub removed: bool,
    /// When it was added.
    pub created_at: Timestamp,
}

/// What a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendKind {
    /// PostgreSQL: a lease is a role that may log in.
    Postgres,
}

/// A leased secret. The secret itself is never kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its id, and with it its name in the target.
    pub id: LeaseId,
    /// The grant it hangs on.
    pub grant: GrantId,
    /// The root of that grant's tree.
    pub root: GrantId,
    /// Its holder.
    pub agent: Name,
    /// Where.
    pub backend: Name,
    /// The role that it was made from.
    pub role: Name,
    /// When it was recorded: from then on its name may turn up in the target.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// What is known of it in the target.
    pub status: LeaseStatus,
    /// Whether it was made and kept: from then on nobody is making it any more, and somebody may have its secret.
    pub kept: bool,
    /// Since when.
    pub changed_at: Timestamp,
    /// Why the target is not as it should be, if it is not.
    pub trouble: Option<Trouble>,
}

/// What is known of a lease in the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseStatus {
    /// It is being made, or nobody knows whether it was; nobody has the secret yet.
    Planned,
    /// It is there, and was handed out.
    Made,
    /// It is there, nobody can log in, and no session is left.
    Halted,
    /// It is gone, and every session of it.
    Ended,
}

/// Why the target is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// In one line, without a secret.
    pub reason: Line,
    /// Whether trying again alone will not mend it. It is tried again all the same, more seldom.
    pub failed: bool,
}

impl Lease {
    /// Whether nobody can use it any more: it is gone, or nobody can log in and no session is left.
    pub fn is_powerless(&self) -> bool {
        matches!(self.status, LeaseStatus::Halted | LeaseStatus::Ended)
    }

    /// Its name in the target: ours by its form, and nobody else's.
    pub fn username(&self) -> String {
        username(self.id)
    }
}

/// The name that a lease has in its target. Only `a-z`, `0-9` and `_`, 33 characters.
pub fn username(id: LeaseId) -> String {
    format!("belay_{}", id.to_string().trim_start_matches("lse_"))
}

/// The lease that a name in the target is, if it is one of ours.
pub fn lease_of(username: &str) -> Option<LeaseId> {
    let id: LeaseId = format!("lse_{}", username.strip_prefix("belay_")?).parse().ok()?;
    (self::username(id) == username).then_some(id)
}

words! { BackendKind "kind": Postgres = "postgres" }
words! { LeaseStatus "status": Planned = "planned", Made = "made", Halted = "halted", Ended = "ended" }
