//! The decisions, one file per noun. Each is a function of values: a view, a caller, a time, entropy.
//!
//! Time and entropy come in; events and an answer, or a refusal, go out. A decision changes nothing.

mod agent;
mod approval;
mod authority;
mod authorize;
mod backend;
mod call;
mod certificate;
mod change;
mod connect;
mod explain;
mod freeze;
mod grant;
mod identity;
mod invoke;
mod key;
mod lease;
mod ledger;
mod limit;
mod operator;
mod pend;
mod pep;
mod place;
mod report;
mod revoke;
mod settle;
mod survey;
mod task;
mod token;
mod upstream;
mod weigh;

pub use agent::{Invite, RegisterAgent, SetAgentStatus};
pub use approval::{Approve, Deny, Voted, missing, state_of};
pub use authority::{ApplyCatalog, ApplyPolicy};
pub use authorize::{Authorize, Judged, RecordInvocation};
pub use backend::{AddBackend, RemoveBackend};
pub use call::{is_within_reach, judge_call};
pub use certificate::{CertificateAnswer, CertificateTerms, IssueCertificate, KeepSigned, Terms};
pub use change::{RenewGrant, SetGrantStatus};
pub use connect::connectable;
pub use explain::{Explain, ExplainCall, Explained, Ruled, Subject};
pub use freeze::{SetFreeze, Thaw};
pub use grant::{Delegate, Granted, RequestGrant};
pub use identity::{Enroll, Enrolled, RecordOwn, RenewIdentity};
pub use invoke::{Attempt, Reason, Verdict, holder, judge};
pub use key::{AddKey, RotateKey, TaintKey, Tainted};
pub use lease::{GiveUpLease, IssueLease, KeepLease, ReportLease, Wanted, wanted};
pub use ledger::{Begin, MarkSnapshot};
pub use operator::{AddOperator, RemoveOperator};
pub use pep::{RegisterPep, RetirePep};
pub use report::{ReportOutcome, Reported};
pub use revoke::{Revoke, Revoked};
pub use settle::Settle;
pub use survey::{Belongs, Extent, Survey};
pub use task::{EndTask, SetTaskStatus, StartTask, Started};
pub use token::{IssueKeyToken, IssueToken, TokenAnswer};
pub use upstream::{AddUpstream, RemoveUpstream};
pub use weigh::Weight;

use super::agent::{Agent, AgentStatus, Kind, Operator, Role};
use super::cut::Target;
use super::digest::Digest;
use super::entropy::Entropy;
use super::error::{Code, Error};
use super::event::{Actor, Body, Idempotency, Origin};
use super::grant::{Grant, GrantState};
use super::id::{CertificateId, GrantId};
use super::key::{Key, Purpose};
use super::name::Name;
use super::policy::{AboutTarget, Object, Principal, Question, Right};
use super::state::{Remembered, RequestKey};
use super::time::Timestamp;
use super::view::View;

/// A request that changes state, decided in the turn.
pub trait Decide: Send + 'static {
    /// What the caller is told, once the events are durable.
    type Answer: Send + 'static;
    /// The verb, for idempotency keys and logs.
    const VERB: &'static str;
    /// Whether it passes before all others: it only ends or halts something.
    fn is_urgent(&self) -> bool {
        false
    }

    /// The agent that it is about, where somebody else may ask for it: what is asked for one agent waits together.
    fn about(&self, _: &View<'_>) -> Option<Name> {
        None
    }

    /// The events that would make the request true, and the answer.
    ///
    /// # Errors
    /// The request is refused, and nothing changes.
    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Self::Answer>, Error>;
}

/// What a request becomes.
#[derive(Debug)]
pub struct Decision<A> {
    /// What happens; may be nothing.
    pub events: Vec<Body>,
    /// What the caller is told.
    pub answer: A,
}

/// All that a decision may look at.
pub struct Context<'a> {
    /// The state, and over it what this batch has decided so far.
    pub view: View<'a>,
    /// The batch's time.
    pub now: Timestamp,
    /// Who asks.
    pub caller: &'a Caller,
    /// Random bytes for this request alone.
    pub entropy: &'a mut Entropy,
    /// The caller's name for the request.
    pub idempotency: Option<&'a Idempotency>,
}

/// Who asks, as the connection proved it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nobody known.
    Stranger,
    /// The holder of an agent's identity certificate.
    Agent(Presenter),
    /// The holder of an operator's identity certificate.
    Operator(Presenter),
    /// The holder of a certificate under a grant: it may be decided upon, and asks for nothing.
    Holder(Presenter),
    /// The holder of an enforcement point's identity certificate.
    Pep(Presenter),
    /// The broker itself.
    Broker,
}

/// A certificate, presented over TLS by whoever holds its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presenter {
    /// What kind of party it names.
    pub kind: Kind,
    /// Whose.
    pub name: Name,
    /// The grant that it says it hangs on; none of an identity.
    pub grant: Option<GrantId>,
    /// Its serial.
    pub certificate: CertificateId,
    /// SHA-256 of the certificate (DER).
    pub thumbprint: Digest,
    /// SHA-256 of its public key.
    pub key_hash: Digest,
    /// When it ends.
    pub not_after: Timestamp,
}

impl<A> Decision<A> {
    /// These events, this answer.
    pub fn new(events: Vec<Body>, answer: A) -> Self {
        Self { events, answer }
    }
}

impl Caller {
    /// The caller as the log names it.
    pub fn actor(&self) -> Actor {
        match self {
            Self::Stranger => Actor::Stranger,
            Self::Agent(presenter) | Self::Holder(presenter) => Actor::Agent(presenter.name.clone()),
            Self::Operator(presenter) => Actor::Operator(presenter.name.clone()),
            Self::Pep(presenter) => Actor::Pep(presenter.name.clone()),
            Self::Broker => Actor::Broker,
        }
    }

    /// The certificate it showed.
    pub fn presenter(&self) -> Option<&Presenter> {
        match self {
            Self::Agent(presenter) | Self::Operator(presenter) | Self::Holder(presenter) | Self::Pep(presenter) => {
                Some(presenter)
            }
            Self::Stranger | Self::Broker => None,
        }
    }
}

impl<'a> Context<'a> {
    /// The sequence that the request's first event will have.
    fn next_seq(&self) -> u64 {
        self.view.head() + 1
    }

    fn origin(&self) -> Result<&'a Origin, Error> {
        self.view.origin().ok_or_else(|| Error::new(Code::Unavailable, "no_origin", "the ledger has not begun"))
    }

    /// The calling agent, if it may act.
    fn agent(&self) -> Result<(&'a Agent, &'a Presenter), Error> {
        let Caller::Agent(presenter) = self.caller else {
            return Err(Error::denied("agents_only", "this needs an agent's identity; name it with --identity DIR"));
        };
        let agent = self.known_agent(presenter)?;
        match agent.status {
            AgentStatus::Active => Ok((agent, presenter)),
            status => Err(Error::denied("agent_not_active", format!("agent `{}` is {status}", agent.name))),
        }
    }

    /// The calling agent, whatever its status.
    fn known_agent(&self, presenter: &Presenter) -> Result<&'a Agent, Error> {
        self.presentable(presenter)?;
        self.view.agent(&presenter.name).ok_or_else(|| unknown_caller("agent", &presenter.name))
    }

    /// Holds if the caller is an operator with this right, or the broker itself.
    fn operator(&self, right: Right) -> Result<(), Error> {
        self.operator_about(right, None)
    }

    /// The same, with what is known of the target.
    fn operator_about(&self, right: Right, target: Option<AboutTarget<'_>>) -> Result<(), Error> {
        let presenter = match self.caller {
            Caller::Broker => return Ok(()),
            Caller::Operator(presenter) => presenter,
            Caller::Agent(_) | Caller::Holder(_) | Caller::Pep(_) | Caller::Stranger => {
                return Err(Error::denied("operators_only", "this needs an operator's identity"));
            }
        };
        self.presentable(presenter)?;
        may(&self.view, &presenter.name, right, target)
    }

    /// A certificate counts only while the ledger knows it, its time runs, and nobody cut it.
    fn presentable(&self, presenter: &Presenter) -> Result<(), Error> {
        presentable(&self.view, presenter, self.now)
    }

    /// What the caller's idempotency key has made already.
    ///
    /// # Errors
    /// The key was used for another body.
    fn replayed<D: Decide>(&self) -> Result<Option<&'a Remembered>, Error> {
        let Some(idempotency) = self.idempotency else { return Ok(None) };
        let key = RequestKey { actor: self.caller.actor(), verb: D::VERB.to_owned(), key: idempotency.key.clone() };
        match self.view.remembered(&key) {
            Some(made) if made.digest != idempotency.digest => Err(Error::new(
                Code::Conflict,
                "idempotency_conflict",
                format!("idempotency key `{}` was used for another request; take a new key", idempotency.key),
            )
            .on("idempotency_key")),
            made => Ok(made),
        }
    }

    /// The key that signs for a purpose now.
    fn signer(&self, purpose: Purpose) -> Result<&'a Key, Error> {
        let none = || Error::new(Code::Unavailable, "no_key", format!("no {purpose} key is in use; rotate it"));
        self.view.signer(purpose, self.now).ok_or_else(none)
    }

    /// The grant, if this agent holds it: to others it does not exist.
    fn own_grant(&self, id: GrantId, agent: &Name) -> Result<&'a Grant, Error> {
        self.view.grant(id).filter(|grant| grant.agent == *agent).ok_or_else(|| Error::not_found("grant", id))
    }

    /// Holds if the grant and everything above it is live.
    fn is_live(&self, grant: &Grant) -> Result<(), Error> {
        match self.view.standing(grant.id, self.now) {
            Some(standing) if standing.state == GrantState::Active => Ok(()),
            Some(standing) => {
                let message = format!("grant `{}` is {}, by `{}`", grant.id, standing.state, standing.link);
                Err(Error::denied(standing.reason, message))
            }
            None => Err(Error::not_found("grant", grant.id)),
        }
    }

    /// An id that was revoked before it was ever seen stays dead if it turns up.
    fn not_cut(&self, target: Target) -> Result<(), Error> {
        match self.view.cut(&target) {
            Some(_) => {
                Err(Error::denied("revoked_before_issue", format!("`{target}` was revoked before it was issued")))
            }
            None => Ok(()),
        }
    }
}

/// Whether a certificate may be presented at `now`: it is the one that was recorded and signed, by a key that
/// is not tainted, its time runs, and nobody cut it. What its grant is worth is another question.
///
/// # Errors
/// It is unknown to the ledger, over, or cut, or its authority is tainted.
pub fn presentable(view: &View<'_>, presenter: &Presenter, now: Timestamp) -> Result<(), Error> {
    let refused = |reason, why: &str| {
        let remedy = if presenter.grant.is_some() { "issue a new one" } else { "enroll again" };
        let message = format!("certificate `{}` of `{}` {why}; {remedy}", presenter.certificate, presenter.name);
        Err(Error::new(Code::Unauthenticated, reason, message))
    };
    if view.cut(&Target::Certificate(presenter.certificate)).is_some() {
        return refused("certificate_revoked", "was revoked");
    }
    let recorded = view.certificate(&presenter.certificate).filter(|recorded| {
        recorded.der.is_some()
            && (recorded.kind, &recorded.name, recorded.grant) == (presenter.kind, &presenter.name, presenter.grant)
            && recorded.key_hash == presenter.key_hash
    });
    match recorded {
        None => refused("certificate_unknown", "is not of this ledger"),
        Some(recorded) if view.is_tainted(&recorded.authority) => {
            refused("key_tainted", "was signed by an authority that is not trusted any more")
        }
        Some(recorded) if now >= recorded.not_after => refused("certificate_expired", "has expired"),
        Some(_) => Ok(()),
    }
}

/// Whether an operator has a right, over this target if one is known: the policies say. One whose role is to break the
/// glass may revoke whatever they say.
///
/// # Errors
/// It is unknown or removed, or the policies do not allow it.
pub fn may(view: &View<'_>, name: &Name, right: Right, target: Option<AboutTarget<'_>>) -> Result<(), Error> {
    let operator = view.operator(name).filter(|operator| !operator.removed);
    let operator: &Operator = operator.ok_or_else(|| unknown_caller("operator", name))?;
    if right == Right::Revoke && operator.roles.contains(&Role::BreakGlass) {
        return Ok(());
    }
    let (policies, version) = weigh::policies(view)?;
    let (action, area) = right.question();
    let ruling = policies.decide(&Question {
        principal: Principal::Operator(operator),
        action,
        object: Object::Area(area, target),
    });
    if ruling.allowed {
        return Ok(());
    }
    let roles = operator.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ");
    let by = match (ruling.errors.first(), ruling.by.as_slice()) {
        (Some(error), _) => format!(": {error}"),
        (None, []) => String::new(),
        (None, by) => format!(", by `{}`", by.join("`, `")),
    };
    let message = format!("operator `{name}` ({roles}) may not {} under policy version {version}{by}", right.as_str());
    Err(Error::denied("role", message))
}

/// A key is remembered for longer than what it made, so that a late retry does not make another.
fn key_of_the_past(reason: &'static str, id: impl std::fmt::Display) -> Error {
    Error::denied(reason, format!("`{id}`, which this idempotency key made, is over; take a new key"))
}

fn unknown_caller(kind: &str, name: &Name) -> Error {
    Error::new(Code::Unauthenticated, "caller_unknown", format!("{kind} `{name}` is not known here or was removed"))
}
