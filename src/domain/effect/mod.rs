//! What a revocation does to each thing that it ends, and what is still awaited.
//!
//! The decision is one event. Who died by it is found by walking the trees below ([`Walk`]), outside the turn and in
//! small steps; what becomes of each is a function of the state, the time and whom the cut has reached ([`Effect::of`]).

mod walk;

use std::borrow::Cow;

use serde::Serialize;

use super::agent::words;
use super::certificate::Certificate;
use super::error::Error;
use super::event::CutCounts;
use super::exposure::{CRL_AGE, HOLD};
use super::grant::{Grant, LiveToken};
use super::id::{CertificateId, GrantId, LeaseId, TokenId};
use super::lease::{Lease, LeaseStatus};
use super::name::{Audience, Line, Name};
use super::pep::Pep;
use super::time::Timestamp;
use super::view::View;

pub use walk::{Cutting, Dead, Walk, extent, is_open, tops};

/// Since when enforcement points know of cuts.
pub trait Heard: Send + Sync {
    /// Since when this one has acknowledged everything up to `seq`, as of `now`; none: not yet, or it is not connected.
    /// Asked while the state is looked at: it must not look there itself.
    fn heard(&self, pep: &Pep, seq: u64, now: Timestamp) -> Option<Timestamp>;
}

/// Nobody follows.
#[derive(Clone, Copy, Debug)]
pub struct Nobody;

impl Heard for Nobody {
    fn heard(&self, _: &Pep, _: u64, _: Timestamp) -> Option<Timestamp> {
        None
    }
}

/// How far a cut is with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectState {
    /// Refused, or gone, everywhere.
    Enforced,
    /// Somebody has still to learn of it.
    Pending,
    /// Trying again alone will not do.
    Failed,
    /// Somebody who cannot be told may honour it until it expires.
    Expires,
}

/// What can end by a cut. In this order it is listed: what is most likely to be awaited comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ended {
    /// A leased secret.
    Lease(LeaseId),
    /// A certificate.
    Certificate(CertificateId),
    /// A token.
    Token(TokenId),
    /// A grant.
    Grant(GrantId),
}

/// What a cut does to one thing.
#[derive(Clone, Debug)]
pub struct Effect {
    /// What.
    pub ended: Ended,
    /// The grant that it is, or hangs on; none of an identity.
    pub grant: Option<GrantId>,
    /// Who holds it.
    pub holder: Name,
    /// Who answers for the holder; nobody for an operator's identity.
    pub owner: Option<Line>,
    /// How far the cut is.
    pub state: EffectState,
    /// Since when; of what is pending, when it will be so at the latest, or since when it is tried; of what expires, until
    /// when.
    pub at: Timestamp,
    /// Why, in a few words.
    pub detail: Cow<'static, str>,
}

/// How much is in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Tasks that ended.
    pub tasks: u64,
    /// In force everywhere.
    pub enforced: CutCounts,
    /// Awaited.
    pub pending: CutCounts,
    /// In trouble.
    pub failed: CutCounts,
    /// Honoured by somebody until they expire.
    pub expires: CutCounts,
}

impl Effect {
    /// What the cut does to this, as of `now`.
    pub fn of(view: &View<'_>, cut: &Cutting, heard: &dyn Heard, now: Timestamp, dead: &Dead<'_>) -> Option<Self> {
        let (ended, grant, (state, at, detail)) = match dead {
            Dead::Task => return None,
            Dead::Grant(grant) => (Ended::Grant(grant.id), Some(*grant), enforced(cut.at, "over from this moment on")),
            Dead::Token(grant, token) => {
                (Ended::Token(token.id), Some(*grant), of_token(view, cut, heard, now, grant, token))
            }
            Dead::Certificate(grant, one) => {
                (Ended::Certificate(one.id), *grant, of_certificate(cut, now, *grant, one))
            }
            Dead::Lease(grant, lease) => (Ended::Lease(lease.id), Some(*grant), of_lease(cut, lease)),
        };
        let (holder, owner) = match (grant, dead) {
            (Some(grant), _) => (grant.agent.clone(), Some(grant.owner.clone())),
            (None, Dead::Certificate(_, one)) => {
                (one.name.clone(), view.agent(&one.name).map(|agent| agent.owner.clone()))
            }
            (None, _) => return None,
        };
        Some(Self { ended, grant: grant.map(|grant| grant.id), holder, owner, state, at, detail })
    }

    /// Whether nothing more is to come of it.
    pub fn is_terminal(&self, now: Timestamp) -> bool {
        match self.state {
            EffectState::Enforced => true,
            EffectState::Expires => self.at <= now,
            EffectState::Pending | EffectState::Failed => false,
        }
    }
}

type Told = (EffectState, Timestamp, Cow<'static, str>);

fn enforced(at: Timestamp, detail: &'static str) -> Told {
    (EffectState::Enforced, at, detail.into())
}

/// Whoever decides by the broker at every call knows at once. An enforcement point that decides by itself knows once it
/// has said so, or refuses everything once what it knows is too old. Whoever follows nothing cannot be told.
fn of_token(
    view: &View<'_>,
    cut: &Cutting,
    heard: &dyn Heard,
    now: Timestamp,
    grant: &Grant,
    token: &LiveToken,
) -> Told {
    let points = points(view, &grant.audience).map(|pep| at_point(cut, heard, now, pep));
    let worst = points.max_by_key(|(state, at, _)| (*state, *at));
    match worst {
        // It is over before anybody could still take it for good.
        Some((_, at, _)) if token.expires_at <= at => (EffectState::Expires, token.expires_at, EXPIRES_FIRST.into()),
        Some(told) => told,
        None if is_ours(view, &grant.audience) => enforced(cut.at, "refused by the broker from this moment on"),
        None => {
            let detail =
                format!("no enforcement point answers for `{}`: it may be honoured until then", grant.audience);
            (EffectState::Expires, token.expires_at, detail.into())
        }
    }
}

const EXPIRES_FIRST: &str = "it expires before all who take it must know";

fn at_point(cut: &Cutting, heard: &dyn Heard, now: Timestamp, pep: &Pep) -> Told {
    if pep.created_at > cut.at {
        return enforced(cut.at, "refused by all who take it: who came later was told with the rest");
    }
    if let Some(at) = heard.heard(pep, cut.seq, now) {
        return (
            EffectState::Enforced,
            at.max(cut.at),
            format!("enforcement point `{}` has acknowledged it", pep.name).into(),
        );
    }
    let at = cut.at.plus(pep.staleness).plus(HOLD);
    match now >= at {
        true => {
            let detail = format!("what enforcement point `{}` knows is too old by now to be believed", pep.name);
            (EffectState::Enforced, at, detail.into())
        }
        false => (EffectState::Pending, at, format!("enforcement point `{}` has not acknowledged it", pep.name).into()),
    }
}

/// The broker refuses it at once, at every call. Whoever reads the lists of what was revoked knows once the list that
/// names it must have taken the place of the one before.
fn of_certificate(cut: &Cutting, now: Timestamp, grant: Option<&Grant>, certificate: &Certificate) -> Told {
    if grant.is_none() {
        return enforced(cut.at, "refused by the broker, and nobody else takes an identity");
    }
    let at = cut.at.plus(CRL_AGE);
    if certificate.not_after <= at {
        return (EffectState::Expires, certificate.not_after, EXPIRES_FIRST.into());
    }
    let detail = "refused by the broker at once; by others that read the revocation list, from then on";
    (if now >= at { EffectState::Enforced } else { EffectState::Pending }, at, detail.into())
}

fn of_lease(cut: &Cutting, lease: &Lease) -> Told {
    if lease.status == LeaseStatus::Ended {
        return enforced(lease.changed_at.max(cut.at), "gone from its target, with every session");
    }
    // One that was halted before may be on its way back: only what was found so since counts.
    if lease.is_powerless() && lease.changed_at > cut.at {
        return enforced(lease.changed_at, "nobody comes in with it, and no session is left");
    }
    match &lease.trouble {
        Some(trouble) if trouble.failed => (EffectState::Failed, cut.at, trouble.reason.to_string().into()),
        Some(trouble) => (EffectState::Pending, cut.at, format!("tried again: {}", trouble.reason).into()),
        None => (EffectState::Pending, cut.at, "being ended in its target".into()),
    }
}

/// The enforcement points that answer for an audience.
pub(in crate::domain) fn points<'a>(view: &View<'a>, audience: &Audience) -> impl Iterator<Item = &'a Pep> {
    view.peps().filter(move |pep| pep.answers_for(audience))
}

/// Whether an audience is the broker's own.
pub(in crate::domain) fn is_ours(view: &View<'_>, audience: &Audience) -> bool {
    view.origin().is_some_and(|origin| origin.issuer == *audience)
}

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, effect: &Effect) {
        let counts = match effect.state {
            EffectState::Enforced => &mut self.enforced,
            EffectState::Pending => &mut self.pending,
            EffectState::Failed => &mut self.failed,
            EffectState::Expires => &mut self.expires,
        };
        *match effect.ended {
            Ended::Grant(_) => &mut counts.grants,
            Ended::Token(_) => &mut counts.tokens,
            Ended::Certificate(_) => &mut counts.certificates,
            Ended::Lease(_) => &mut counts.leases,
        } += 1;
    }

    /// All of it, in whatever state.
    pub fn total(&self) -> CutCounts {
        self.enforced.plus(self.pending).plus(self.failed).plus(self.expires)
    }

    /// How many things there are.
    pub fn sum(&self) -> u64 {
        let CutCounts { grants, tokens, certificates, leases } = self.total();
        grants + tokens + certificates + leases
    }
}

impl CutCounts {
    /// The two together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            grants: self.grants + other.grants,
            tokens: self.tokens + other.tokens,
            certificates: self.certificates + other.certificates,
            leases: self.leases + other.leases,
        }
    }
}

impl Ended {
    /// The word for its kind.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Lease(_) => "lease",
            Self::Certificate(_) => "certificate",
            Self::Token(_) => "token",
            Self::Grant(_) => "grant",
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lease(id) => id.fmt(f),
            Self::Certificate(id) => id.fmt(f),
            Self::Token(id) => id.fmt(f),
            Self::Grant(id) => id.fmt(f),
        }
    }
}

impl std::str::FromStr for Ended {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once('_').map(|(prefix, _)| prefix) {
            Some(LeaseId::PREFIX) => text.parse().map(Self::Lease),
            Some(CertificateId::PREFIX) => text.parse().map(Self::Certificate),
            Some(TokenId::PREFIX) => text.parse().map(Self::Token),
            Some(GrantId::PREFIX) => text.parse().map(Self::Grant),
            _ => Err(Error::malformed("page_token", text, "it is what the page before gave")),
        }
    }
}

words! { EffectState "state": Enforced = "enforced", Pending = "pending", Failed = "failed", Expires = "expires" }
