//! What becomes of a call that was allowed: its ticket, its outcome, and what of it may be given back.

use serde::{Deserialize, Serialize};

use super::agent::words;
use super::digest::Digest;
use super::error::Error;
use super::event::Actor;
use super::grant::Grant;
use super::id::{GrantId, InvocationId};
use super::limits::Charge;
use super::name::{Audience, Name};
use super::scope::Call;
use super::time::{Span, Timestamp};

/// How long a call ticket lives, at most.
pub const TICKET_LIFE: Span = Span::seconds(60);
/// How long a call may go on until it is reported. What was charged for one that never is stays spent.
pub const OPEN_FOR: Span = Span::minutes(60);

/// What became of a call that was allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was made, and did what it is for.
    Done,
    /// It was made, and failed: nobody knows how far it came, so it counts.
    Failed,
    /// It was never made: what it took of its limits is given back.
    NotExecuted,
}

words! { Outcome "outcome": Done = "done", Failed = "failed", NotExecuted = "not_executed" }

/// A call by its parts, without its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The tool.
    pub tool: String,
    /// The action.
    pub action: String,
    /// The resource.
    pub resource: String,
    /// Where it goes, as far as that was said.
    pub destination: Option<String>,
}

impl Named {
    /// The parts of this call.
    pub fn of(call: &Call) -> Self {
        let Call { tool, action, resource, destination, args: _ } = call.clone();
        Self { tool, action, resource, destination }
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}@{}", self.tool, self.action, self.resource)
    }
}

/// That a ticket goes with a call, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketGiven {
    /// The key that signs it.
    pub kid: String,
    /// When it is over, exclusive.
    pub expires_at: Timestamp,
}

/// A call ticket to be signed: good once, for the one call that was allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The call that it is for: its `jti`.
    pub id: InvocationId,
    /// The key that signs it.
    pub kid: String,
    /// The broker.
    pub issuer: Audience,
    /// When it is over, exclusive.
    pub expires_at: Timestamp,
    /// The grant that allowed it.
    pub grant: GrantId,
    /// The holder.
    pub agent: Name,
    /// The call.
    pub call: Named,
    /// SHA-256 of its canonical arguments.
    pub args: Option<Digest>,
}

/// An allowed call of which more is to be known: one that was charged, or that has a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenCall {
    /// Which.
    pub id: InvocationId,
    /// Who asked: nobody else may say what became of it.
    pub by: Actor,
    /// The grant that allowed it.
    pub grant: GrantId,
    /// The call.
    pub call: Named,
    /// SHA-256 of its canonical arguments.
    pub args: Option<Digest>,
    /// What it took of the limits of its chain.
    pub charged: Option<Charge>,
    /// Its ticket.
    pub ticket: Option<TicketGiven>,
    /// Whether the ticket was spent.
    pub redeemed: bool,
    /// What became of it.
    pub outcome: Option<Outcome>,
    /// Until when it is kept.
    pub until: Timestamp,
}

impl OpenCall {
    /// The ticket as it is signed, if there is one that can be spent.
    pub fn ticket(&self, grant: &Grant, issuer: &Audience, now: Timestamp) -> Option<Ticket> {
        let open = !self.redeemed && self.outcome.is_none();
        let given = self.ticket.as_ref().filter(|given| open && now < given.expires_at)?;
        Some(Ticket {
            id: self.id,
            kid: given.kid.clone(),
            issuer: issuer.clone(),
            expires_at: given.expires_at,
            grant: self.grant,
            agent: grant.agent.clone(),
            call: self.call.clone(),
            args: self.args,
        })
    }

    /// Why its ticket is not good for this call; nothing if it is.
    pub fn why_not(&self, grant: GrantId, call: &Call, now: Timestamp) -> Option<(&'static str, &'static str)> {
        let Some(given) = &self.ticket else { return Some(("ticket_unknown", "no ticket was given for it")) };
        if self.grant != grant {
            return Some(("ticket_other_grant", "it was given under another grant"));
        }
        if self.redeemed {
            return Some(("ticket_spent", "it was spent already"));
        }
        if self.outcome.is_some() {
            return Some(("ticket_spent", "what became of its call was reported already"));
        }
        if now >= given.expires_at {
            return Some(("ticket_expired", "it has expired"));
        }
        if self.call != Named::of(call) || self.args != call.args.digest() {
            return Some(("ticket_other_call", "it is for another call"));
        }
        None
    }
}
