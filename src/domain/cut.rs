//! Cuts: what a revocation names, and how long it has to be remembered.

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::event::{Actor, Revocation, Settled};
use super::id::{CertificateId, GrantId, LeaseId, RevocationId, TaskId, TokenId};
use super::name::{Line, Name};
use super::time::{LONGEST_TASK, Timestamp};

/// What a revocation names. An id is cut for good; a name is cut up to the revocation's sequence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// A grant and all below it.
    Grant(GrantId),
    /// A task and all its grants.
    Task(TaskId),
    /// One token.
    Token(TokenId),
    /// One certificate.
    Certificate(CertificateId),
    /// One lease.
    Lease(LeaseId),
    /// All that an agent holds, and all below.
    Agent(Name),
    /// All that agents of an owner hold, and all below.
    Owner(Line),
    /// All that runs on behalf of a subject.
    Subject(Line),
}

/// A revocation, as remembered: by its id, when something else was cut by the same name since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// The event.
    pub revocation: Revocation,
    /// Its sequence.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who revoked.
    pub by: Actor,
    /// What came of it, once no more will.
    pub settled: Option<Settled>,
}

/// One cut, as remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The revocation that made it.
    pub id: RevocationId,
    /// Its sequence: of a name, what was granted up to it is dead.
    pub seq: u64,
    /// When nothing it could matter to is left.
    pub until: Timestamp,
}

impl Target {
    /// The moment in the id; none for a name.
    pub fn time(&self) -> Option<Timestamp> {
        match self {
            Self::Grant(id) => Some(id.time()),
            Self::Task(id) => Some(id.time()),
            Self::Token(id) => Some(id.time()),
            Self::Certificate(id) => Some(id.time()),
            Self::Lease(id) => Some(id.time()),
            Self::Agent(_) | Self::Owner(_) | Self::Subject(_) => None,
        }
    }

    /// When a cut of this target, made `now`, can be forgotten: what an id names is over a longest task after
    /// the moment in it, and what a name is cut up to, a longest task from now.
    pub fn forget_at(&self, now: Timestamp) -> Timestamp {
        // Never due already: a replay collects between two events of a batch, and the batch itself did not.
        self.time().unwrap_or(now).plus(LONGEST_TASK).max(now).plus(super::time::GRACE)
    }
}

impl std::str::FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::missing("target"));
        }
        let parsed = match text.split_once(':') {
            Some(("agent", name)) => name.parse().map(Self::Agent),
            Some(("owner", name)) => name.parse().map(Self::Owner),
            Some(("subject", name)) => name.parse().map(Self::Subject),
            _ => match text.split_once('_').map(|(prefix, _)| prefix) {
                Some(GrantId::PREFIX) => text.parse().map(Self::Grant),
                Some(TaskId::PREFIX) => text.parse().map(Self::Task),
                Some(TokenId::PREFIX) => text.parse().map(Self::Token),
                Some(CertificateId::PREFIX) => text.parse().map(Self::Certificate),
                Some(LeaseId::PREFIX) => text.parse().map(Self::Lease),
                _ => Err(Error::malformed(
                    "target",
                    text,
                    "name a grt_, tsk_, tok_, crt_ or lse_ id, or agent:NAME, owner:NAME or subject:NAME",
                )),
            },
        };
        parsed.map_err(|error| error.on("target"))
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Grant(id) => id.fmt(f),
            Self::Task(id) => id.fmt(f),
            Self::Token(id) => id.fmt(f),
            Self::Certificate(id) => id.fmt(f),
            Self::Lease(id) => id.fmt(f),
            Self::Agent(name) => write!(f, "agent:{name}"),
            Self::Owner(name) => write!(f, "owner:{name}"),
            Self::Subject(name) => write!(f, "subject:{name}"),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::entropy::Entropy;
    use crate::domain::time::{GRACE, Span};

    #[test]
    fn an_id_is_kept_by_its_own_time_and_a_name_by_the_cuts() {
        let made = Timestamp::from_millis(1_795_000_000_000);
        let now = made.plus(Span::hours(30));
        let id = Target::Grant(GrantId::mint(made, &mut Entropy::from_seed([1; 32])));
        assert_eq!(id.forget_at(now), made.plus(LONGEST_TASK).plus(GRACE));
        assert_eq!("owner:x".parse::<Target>().unwrap().forget_at(now), now.plus(LONGEST_TASK).plus(GRACE));
    }

    #[test]
    fn an_empty_selector_is_not_everything() {
        for wrong in ["", "agent:", "owner:", "subject:", "agent:*", "*", "grt_", "all", "agt_x", "user:bob", "grt_*"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
        assert_eq!("agent:planner".parse::<Target>().unwrap().to_string(), "agent:planner");
    }
}
