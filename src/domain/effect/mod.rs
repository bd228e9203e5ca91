//! What a revocation does to each thing that it ends, and what is still awaited.
//!
//! The decision is one event. Who died by it is found by walking the trees below ([`Walk`]), outside the turn and in
//! small steps; what becomes of each is a function of the state, the time and whom the cut has reached ([`Effect::of`]).

mod walk;

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Serialize;

use super::agent::words;
use super::certificate::Certificate;
use super::error::Error;
use super::event::CutCounts;
use super::exposure::CRL_AGE;
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
    /// Since when this one has acknowledged everything up to `seq`; none: not yet, or it is not connected. Never asked
    /// while the state is looked at.
    fn heard(&self, pep: &Pep, seq: u64) -> Option<Timestamp>;
}

/// Nobody follows.
#[derive(Clone, Copy, Debug)]
pub struct Nobody;

impl Heard for Nobody {
    fn heard(&self, _: &Pep, _: u64) -> Option<Timestamp> {
        None
    }
}

/// Since when each enforcement point knows of one cut, of those that do: asked once, however much died by it.
#[derive(Clone, Debug, Default)]
pub struct Informed(HashMap<Name, Timestamp>);

impl Informed {
    /// What these enforcement points have said of all up to `seq`.
    pub fn of(peps: &[Pep], heard: &dyn Heard, seq: u64) -> Self {
        Self(peps.iter().filter_map(|pep| Some((pep.name.clone(), heard.heard(pep, seq)?))).collect())
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
    pub fn of(view: &View<'_>, cut: &Cutting, informed: &Informed, now: Timestamp, dead: &Dead<'_>) -> Option<Self> {
        let (ended, grant, (state, at, detail)) = match dead {
            Dead::Task => return None,
            Dead::Grant(grant) => (Ended::Grant(grant.id), Some(*grant), enforced(cut.at, "over from this moment on")),
            Dead::Token(grant, token) => {
                (Ended::Token(token.id), Some(*grant), of_token(view, cut, informed, now, grant, token))
            }
            Dead::Certificate(grant, one) => {
                (Ended::Certificate(one.id), *grant, of_certificate(view, cut, informed, now, one))
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
    informed: &Informed,
    now: Timestamp,
    grant: &Grant,
    token: &LiveToken,
) -> Told {
    let told = believers(view, cut, &grant.audience).map(|pep| at_point(cut, informed, now, pep));
    let worst = told.max_by_key(|(state, at, _)| (*state, *at));
    let is_followed = is_ours(view, &grant.audience) || points(view, &grant.audience).next().is_some();
    match worst {
        // It is over before anybody could still take it for good.
        Some((_, at, _)) if token.expires_at <= at => (EffectState::Expires, token.expires_at, EXPIRES_FIRST.into()),
        Some(told) if is_followed => told,
        None if is_followed => enforced(cut.at, "refused by the broker from this moment on"),
        _ => {
            let detail =
                format!("no enforcement point answers for `{}`: it may be honoured until then", grant.audience);
            (EffectState::Expires, token.expires_at, detail.into())
        }
    }
}

const EXPIRES_FIRST: &str = "it expires before all who take it must know";

fn at_point(cut: &Cutting, informed: &Informed, now: Timestamp, pep: &Pep) -> Told {
    if pep.created_at > cut.at {
        return enforced(cut.at, "refused by all who take it: who came later was told with the rest");
    }
    if let Some(&at) = informed.0.get(&pep.name) {
        return (
            EffectState::Enforced,
            at.max(cut.at),
            format!("enforcement point `{}` has acknowledged it", pep.name).into(),
        );
    }
    let at = pep.stale_after(pep.retired.map_or(cut.at, |retired| retired.min(cut.at)));
    match now >= at {
        true => {
            let detail = format!("what enforcement point `{}` knows is too old by now to be believed", pep.name);
            (EffectState::Enforced, at, detail.into())
        }
        false => (EffectState::Pending, at, format!("enforcement point `{}` has not acknowledged it", pep.name).into()),
    }
}

/// The broker refuses it at once, at every call. Of one under a grant, whoever reads the lists of what was revoked knows
/// once the list that names it must have taken the place of the one before.
fn of_certificate(
    view: &View<'_>,
    cut: &Cutting,
    informed: &Informed,
    now: Timestamp,
    certificate: &Certificate,
) -> Told {
    if certificate.grant.is_none() {
        return of_identity(view, cut, informed, now, certificate);
    }
    let at = cut.at.plus(CRL_AGE);
    if certificate.not_after <= at {
        return (EffectState::Expires, certificate.not_after, EXPIRES_FIRST.into());
    }
    let detail = "refused by the broker at once; by others that read the revocation list, from then on";
    (if now >= at { EffectState::Enforced } else { EffectState::Pending }, at, detail.into())
}

/// The broker refuses it at once. Whoever decides by itself has to learn that the tokens that are bound to it are over.
fn of_identity(view: &View<'_>, cut: &Cutting, informed: &Informed, now: Timestamp, identity: &Certificate) -> Told {
    let thumbprint = identity.thumbprint();
    let held = view.held(&identity.name).into_iter().filter_map(|id| view.grant(id));
    let bound = held.flat_map(|grant| view.tokens_of(grant.id).into_iter().map(move |token| (grant, token)));
    let bound = bound.filter(|(_, token)| {
        token.confirmation.certificate() == thumbprint.as_ref() && walk::token_was_good(view, cut, token)
    });
    let told = bound.map(|(grant, token)| of_token(view, cut, informed, now, grant, token));
    told.max_by_key(|(state, at, _)| (*state, *at))
        .unwrap_or_else(|| enforced(cut.at, "refused by the broker, and no token that is bound to it is left"))
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

/// Those that answer for it, and those that were retired so shortly before the cut that somebody may still go by them.
fn believers<'a>(view: &View<'a>, cut: &Cutting, audience: &Audience) -> impl Iterator<Item = &'a Pep> {
    view.peps().filter(move |pep| pep.audiences.binary_search(audience).is_ok() && pep.is_believed(cut.at))
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
