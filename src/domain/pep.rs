//! Enforcement points: whatever asks before acting, and follows the feed of what was cut.

use serde::{Deserialize, Serialize};

use super::exposure::HOLD;
use super::id::PepId;
use super::name::{Audience, Name};
use super::time::{Span, Timestamp};

/// Audiences of one enforcement point.
pub const MAX_AUDIENCES: usize = 64;
/// How old an enforcement point's feed may be before it refuses everything, unless it was registered with another bound.
pub const DEFAULT_STALENESS: Span = Span::seconds(5);
/// The least and the most that such a bound may be: less than a heartbeat or two would refuse for nothing, and an hour is
/// no bound.
pub const STALENESS: (Span, Span) = (Span::seconds(2), Span::minutes(10));

/// An enrolled enforcement point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pep {
    /// Its id.
    pub id: PepId,
    /// Its name, unique for ever among enforcement points.
    pub name: Name,
    /// The audiences that it answers for: sorted, at least one.
    pub audiences: Vec<Audience>,
    /// How old what it knows of cuts may be: beyond that it allows nothing.
    pub staleness: Span,
    /// When it was retired. It is kept, so that its name is not given again.
    pub retired: Option<Timestamp>,
    /// When it was registered.
    pub created_at: Timestamp,
}

impl Pep {
    /// Whether a verifier of it may still go by what it knew at this time. One of a retired one does until that is too old.
    pub fn is_believed(&self, at: Timestamp) -> bool {
        self.retired.is_none_or(|retired| at < self.stale_after(retired))
    }

    /// When nobody goes by what it knew at this time any more.
    pub fn stale_after(&self, at: Timestamp) -> Timestamp {
        at.plus(self.staleness).plus(HOLD)
    }

    /// Whether it answers for this audience.
    pub fn answers_for(&self, audience: &Audience) -> bool {
        self.retired.is_none() && self.audiences.binary_search(audience).is_ok()
    }
}
