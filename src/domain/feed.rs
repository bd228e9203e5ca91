//! What those are told who decide without asking: the cuts, and all else that ends or halts what a token says.
//!
//! Two functions say the same: [`signal`] of one entry of the log, [`live`] of the state. Whoever takes the second at a
//! sequence, and the first of every entry behind it, knows what whoever took the first from the beginning knows, as far
//! as a token that is not over hangs on it.

use super::agent::words;
use super::cut::Target;
use super::digest::Digest;
use super::error::Error;
use super::id::FreezeId;
use super::name::Audience;
use super::scope::Scope;
use super::time::{Span, Timestamp};
#[cfg(feature = "broker")]
use super::{
    agent::AgentStatus,
    certificate::Certificate,
    event::{Body, Entry},
    grant::Status,
    key::Purpose,
    time::GRACE,
    view::View,
};

/// Bytes of a nonce at most.
pub const LONGEST_NONCE: usize = 64;

/// One thing that a verifier has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Something is cut for good: an id, and all below; or a name, with what was issued up to the sequence.
    Cut {
        /// What.
        target: Target,
        /// The sequence.
        seq: u64,
        /// Nothing that it could matter to lives longer.
        until: Timestamp,
        /// Of a certificate that is known: what the tokens that are bound to it say of it.
        thumbprint: Option<Digest>,
    },
    /// A grant, a task or an agent, and all below, may not be used.
    Halt {
        /// Which.
        key: Target,
        /// Why.
        why: Halted,
    },
    /// What was suspended may be used again.
    Resume {
        /// Which.
        key: Target,
    },
    /// Calls that match are stopped. Whoever knows no sensitivities applies it to all of them, whatever its bound.
    Frozen {
        /// Which freeze.
        id: FreezeId,
        /// The calls.
        scope: Scope,
    },
    /// They are not any more.
    Thawed {
        /// Which freeze.
        id: FreezeId,
    },
    /// A key signs tokens from now on, or soon.
    Key {
        /// Its id.
        kid: String,
        /// The uncompressed P-256 point.
        point: Vec<u8>,
    },
    /// Nothing that a key signed is good.
    Tainted {
        /// Its id.
        kid: String,
    },
}

/// Why something may not be used. Only what is suspended comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halted {
    /// Until it is resumed.
    Suspended,
    /// A task was ended.
    Ended,
    /// A grant was given back.
    Completed,
    /// An agent was retired.
    Retired,
}

words! { Halted "why": Suspended = "suspended", Ended = "ended", Completed = "completed", Retired = "retired" }

/// What is sent. All that matters up to `seq` has been said with it or before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sequence.
    pub seq: u64,
    /// The sequence of the signal before: whoever knows less has missed something.
    pub prev: u64,
    /// The broker's time.
    pub at: Timestamp,
    /// What is said.
    pub said: Said,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A part of all that is in force.
    State(Part),
    /// One thing more.
    Signal(Signal),
    /// A nonce came, and the node that says so may allow.
    Echo(Vec<u8>),
    /// Nothing.
    Heartbeat,
}

/// A part of all that is in force. The first replaces what was known; it is in force with the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// `iss` of the tokens.
    pub issuer: Audience,
    /// The ledger's epoch.
    pub epoch: String,
    /// How old what the enforcement point knows may be.
    pub staleness: Span,
    /// What is in force.
    pub signals: Vec<Signal>,
    /// Whether it is the first part.
    pub first: bool,
    /// Whether it is the last part.
    pub last: bool,
}

/// What the entry at `seq` says to a verifier, if anything. One at most, whatever lies below. The view is of `seq` or later.
#[cfg(feature = "broker")]
pub fn signal(view: &View<'_>, seq: u64, entry: &Entry) -> Option<Signal> {
    Some(match &entry.body {
        Body::KeyAdded(key) if key.purpose == Purpose::Token => {
            Signal::Key { kid: key.kid.clone(), point: key.public.clone() }
        }
        Body::KeyTainted { kid, .. } => Signal::Tainted { kid: kid.clone() },
        Body::AgentStatusChanged { name, status, .. } => agent(Target::Agent(name.clone()), *status),
        Body::TaskEnded { id, .. } => Signal::Halt { key: Target::Task(*id), why: Halted::Ended },
        Body::TaskStatusChanged { id, suspended, .. } => match suspended {
            true => Signal::Halt { key: Target::Task(*id), why: Halted::Suspended },
            false => Signal::Resume { key: Target::Task(*id) },
        },
        Body::GrantStatusChanged { id, status, .. } => grant(Target::Grant(*id), *status)?,
        Body::Revoked(revocation) => cut(view, &revocation.target, seq, revocation.until),
        Body::Frozen(freeze) => Signal::Frozen { id: freeze.id, scope: freeze.scope.clone() },
        Body::Thawed { id, .. } => Signal::Thawed { id: *id },
        _ => return None,
    })
}

#[cfg(feature = "broker")]
fn cut(view: &View<'_>, target: &Target, seq: u64, until: Timestamp) -> Signal {
    let certificate = match target {
        Target::Certificate(id) => view.certificate(id),
        _ => None,
    };
    Signal::Cut { target: target.clone(), seq, until, thumbprint: certificate.and_then(Certificate::thumbprint) }
}

#[cfg(feature = "broker")]
fn agent(key: Target, status: AgentStatus) -> Signal {
    match status {
        AgentStatus::Active => Signal::Resume { key },
        AgentStatus::Suspended => Signal::Halt { key, why: Halted::Suspended },
        AgentStatus::Retired => Signal::Halt { key, why: Halted::Retired },
    }
}

#[cfg(feature = "broker")]
fn grant(key: Target, status: Status) -> Option<Signal> {
    match status {
        Status::Active => Some(Signal::Resume { key }),
        Status::Suspended => Some(Signal::Halt { key, why: Halted::Suspended }),
        Status::Completed => Some(Signal::Halt { key, why: Halted::Completed }),
        // Nothing is issued under it.
        Status::Pending | Status::Denied => None,
    }
}

/// All that is in force, as far as a token that is not over at `now` can hang on it.
#[cfg(feature = "broker")]
pub fn live(view: &View<'_>, now: Timestamp) -> Vec<Signal> {
    let keys = view.keys().filter(|key| key.purpose == Purpose::Token);
    let keys = keys.map(|key| match key.tainted {
        None => Signal::Key { kid: key.kid.clone(), point: key.public.clone() },
        Some(_) => Signal::Tainted { kid: key.kid.clone() },
    });
    let cuts = view.cuts().filter(|(_, cut)| cut.until > now);
    let cuts = cuts.map(|(target, made)| cut(view, target, made.seq, made.until));
    let agents = view.agents().filter(|one| one.status != AgentStatus::Active);
    let agents = agents.map(|one| agent(Target::Agent(one.name.clone()), one.status));
    // A clock elsewhere may be a little behind.
    let is_near = |end: Timestamp| end.plus(GRACE) > now;
    let tasks = view.tasks().filter(|task| (task.ended.is_some() || task.suspended) && is_near(task.expires_at));
    let tasks = tasks.map(|task| {
        let why = if task.ended.is_some() { Halted::Ended } else { Halted::Suspended };
        Signal::Halt { key: Target::Task(task.id), why }
    });
    let grants = view.grants().filter(|one| one.status != Status::Active && is_near(one.expires_at));
    let grants = grants.filter_map(|one| grant(Target::Grant(one.id), one.status));
    let freezes = view.freezes().map(|freeze| Signal::Frozen { id: freeze.id, scope: freeze.scope.clone() });
    keys.chain(cuts).chain(agents).chain(tasks).chain(grants).chain(freezes).collect()
}
