//! Approvals: durable requests that humans decide, bound to what they were shown.

use serde::{Deserialize, Serialize};

use super::agent::words;
use super::digest::Digest;
use super::error::Error;
use super::id::{ApprovalId, GrantId, TaskId};
use super::limits::Limits;
use super::name::{Audience, Line, Name};
use super::policy::{Decided, Mode};
use super::radius::{Figures, Unions};
use super::scope::Scopes;
use super::time::{Span, Timestamp};

/// How long an approval waits for humans; the task's end comes first.
pub const APPROVAL_LIFE: Span = Span::hours(1);
/// How long one is remembered after it was decided or expired.
pub const APPROVAL_KEPT: Span = Span::hours(1);
/// Approvals that one agent may have waiting.
pub const MOST_WAITING: usize = 64;
/// Approvals of one agent that are remembered, decided and expired ones included.
pub const MOST_KEPT: usize = 256;
/// Prompts to one operator within an hour; what comes on top is queued.
pub const PROMPTS_PER_HOUR: usize = 20;
/// Of these, for one requester: no agent keeps an operator from the others.
pub const PROMPTS_PER_REQUESTER: usize = 5;
/// Operators who are asked about one approval.
pub const MOST_ASKED: usize = 64;

/// A request that waits for humans, or did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Its id.
    pub id: ApprovalId,
    /// The grant that waits for it; none: it is for an envelope of the task.
    pub grant: Option<GrantId>,
    /// The task.
    pub task: TaskId,
    /// What the task is for.
    pub purpose: Line,
    /// Who asked.
    pub requester: Name,
    /// Who is to hold it.
    pub holder: Name,
    /// Holders of the chain above, root first: none of them approves.
    pub chain: Vec<Name>,
    /// What it hangs below; of a grant that is delegated.
    pub parent: Option<GrantId>,
    /// How it stands to that.
    pub mode: Mode,
    /// On whose behalf: who may not approve either.
    pub subject: Option<Line>,
    /// What is asked for.
    pub scopes: Scopes,
    /// For whom; of a grant.
    pub audience: Option<Audience>,
    /// For how long, from the moment of approval.
    pub ttl: Span,
    /// The latest moment that renewals can lead to, whenever it is approved; of a grant.
    pub renewable_until: Option<Timestamp>,
    /// What may be done under it at most; of a grant.
    pub limits: Limits,
    /// How many humans have to approve.
    pub needed: u8,
    /// The policies that asked for them.
    pub decided: Decided,
    /// The catalog by which the radius was counted.
    pub catalog: u64,
    /// What it reaches: that by which it is decided who may approve.
    pub radius: Figures,
    /// What it would add to the task: approved is no more than this.
    pub adds: Figures,
    /// SHA-256 over the names of what it would add: as many others are not the same. None: it was not recorded.
    pub names: Option<Digest>,
    /// What it comes to with everything else, as shown.
    pub unions: Unions,
    /// SHA-256 over everything above: what an approver was shown is what is approved.
    pub digest: Digest,
    /// Who is asked, and from when on: an operator has a budget of prompts.
    pub asked: Vec<(Name, Timestamp)>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ends undecided.
    pub expires_at: Timestamp,
    /// Who approved so far; each once.
    pub given: Vec<Vote>,
    /// Who denied it.
    pub denied: Option<Vote>,
    /// Whether it has been decided.
    pub status: ApprovalStatus,
}

/// What one human said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// Who.
    pub by: Name,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: Line,
    /// No more than this of what was asked for.
    pub scopes: Option<Scopes>,
    /// No longer than this.
    pub ttl: Option<Span>,
}

/// Scopes that a human has approved for a task's purpose: requests within them need not ask again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The approval that it came from.
    pub approval: ApprovalId,
    /// What was approved.
    pub scopes: Scopes,
    /// What it was shown to reach: what reaches more asks again.
    pub radius: Figures,
    /// How many humans approved.
    pub approvals: u8,
    /// When it ends; no later than the task.
    pub expires_at: Timestamp,
}

/// Whether an approval has been decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalStatus {
    /// Not yet.
    Pending,
    /// By enough humans.
    Approved,
    /// By one.
    Denied,
}

/// The state of an approval as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// Waits for humans.
    Pending,
    /// Waits for room in the operators' budget of prompts.
    Queued,
    /// Approved.
    Approved,
    /// Denied.
    Denied,
    /// Its time was over first.
    Expired,
    /// What it was for was cut, or ended, first.
    Revoked,
}

impl Approval {
    /// When enough operators have been asked; none: fewer may approve than are needed.
    pub fn prompted_at(&self) -> Option<Timestamp> {
        let mut times: Vec<Timestamp> = self.asked.iter().map(|(_, at)| *at).collect();
        times.sort_unstable();
        times.get(usize::from(self.needed).saturating_sub(1)).copied()
    }

    /// What all approvals so far, and one more, leave of what was asked for; none: nothing.
    pub fn meet(&self, vote: Option<&Vote>) -> Option<(Scopes, Span)> {
        let mut left = (self.scopes.clone(), self.ttl);
        for vote in self.given.iter().chain(vote) {
            if let Some(scopes) = &vote.scopes {
                left.0 = left.0.meet(scopes)?;
            }
            left.1 = vote.ttl.map_or(left.1, |ttl| left.1.min(ttl));
        }
        Some(left)
    }
}

words! { ApprovalStatus "status": Pending = "pending", Approved = "approved", Denied = "denied" }
words! { ApprovalState "state": Pending = "pending", Queued = "queued", Approved = "approved", Denied = "denied",
Expired = "expired", Revoked = "revoked" }
