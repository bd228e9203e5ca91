//! How long a credential could still work after a cut, by who looks at it.

use super::time::{Span, Timestamp};

/// For how long a node may answer from what it last folded: the cut of another node is known to it after that.
pub const HOLD: Span = Span::millis(500);
/// How old a certificate revocation list can be that is still in its time.
pub const CRL_AGE: Span = Span::seconds(60);
/// How late a status list can be: its `ttl` of 15 s, 5 s of a page that something between kept, and 5 s until it is made
/// anew where there is much to look through.
pub const STATUS_LIST_AGE: Span = Span::seconds(25);

/// How long a credential could still work after a cut of what it hangs on, by who looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// Whoever asks the broker at every call.
    pub broker: Span,
    /// Whoever decides by itself and follows the feed: none where no enforcement point answers for the audience.
    pub feed: Option<Span>,
    /// Whoever looks at the status list before it takes a token.
    pub status_list: Option<Span>,
    /// Whoever reads the revocation list before it takes a certificate.
    pub crl: Option<Span>,
    /// Whoever asks nobody; of a lease, whatever becomes of it: none if there is no bound.
    pub offline_until: Option<Timestamp>,
}

#[cfg(feature = "broker")]
mod stated {
    use super::{CRL_AGE, Exposure, HOLD, STATUS_LIST_AGE};
    use crate::domain::effect::{is_ours, points};
    use crate::domain::error::Error;
    use crate::domain::grant::Grant;
    use crate::domain::id::GrantId;
    use crate::domain::limits::Limits;
    use crate::domain::name::Audience;
    use crate::domain::time::{Span, Timestamp};
    use crate::domain::view::View;

    impl Exposure {
        /// Of a token for this audience, or of a grant that tokens are had under.
        pub fn of_token(view: &View<'_>, audience: &Audience, expires_at: Timestamp) -> Self {
            let feed = points(view, audience).map(|pep| pep.staleness.plus(HOLD)).max();
            let (broker, offline_until) = (Span::millis(0), Some(expires_at));
            Self { broker, feed, status_list: Some(STATUS_LIST_AGE), crl: None, offline_until }
        }

        /// Of a certificate under a grant.
        pub fn of_certificate(not_after: Timestamp) -> Self {
            let (broker, offline_until) = (Span::millis(0), Some(not_after));
            Self { broker, feed: None, status_list: None, crl: Some(CRL_AGE), offline_until }
        }

        /// Of a leased secret: seconds where its target can be reached, and no bound where it cannot.
        pub fn of_lease() -> Self {
            Self { broker: Span::millis(0), feed: None, status_list: None, crl: None, offline_until: None }
        }
    }

    /// The tightest exposure that a grant, or one that is to hang on `parent`, may have.
    pub fn tightest(view: &View<'_>, limits: &Limits, parent: Option<GrantId>) -> Option<Span> {
        let above = parent.into_iter().flat_map(|parent| view.ancestry(parent));
        above.filter_map(|link| link.limits.max_exposure).chain(limits.max_exposure).min()
    }

    /// How long what is for this audience may live, so that nobody takes it for longer than that after a cut. None:
    /// nobody bounds it, or all who take it know of a cut in time.
    pub fn longest_life(
        view: &View<'_>,
        audience: &Audience,
        limits: &Limits,
        parent: Option<GrantId>,
    ) -> Option<Span> {
        let most = tightest(view, limits, parent)?;
        let mut slowest = points(view, audience).map(|pep| pep.staleness.plus(HOLD)).max();
        if slowest.is_none() && is_ours(view, audience) {
            slowest = Some(Span::millis(0));
        }
        slowest.is_none_or(|slowest| slowest > most).then_some(most)
    }

    /// Whether a lease may be had under a grant: its target may be out of reach when it is cut, for however long.
    ///
    /// # Errors
    /// The grant, or one above it, demands an exposure.
    pub fn may_lease(view: &View<'_>, grant: &Grant) -> Result<(), Error> {
        tightest(view, &grant.limits, grant.parent).map_or(Ok(()), |most| {
            let millis = most.as_millis();
            let message = format!(
                "grant `{}` demands an exposure of {millis} ms, and a lease cannot meet it: its target may be out of reach \
                 when it is cut; ask for a grant without max_exposure",
                grant.id
            );
            Err(Error::denied("exposure", message).on("grant"))
        })
    }

    /// How long what is had under a grant may live, as [`longest_life`] says.
    pub fn longest_under(view: &View<'_>, grant: &Grant) -> Option<Span> {
        longest_life(view, &grant.audience, &grant.limits, grant.parent)
    }
}

#[cfg(feature = "broker")]
pub use stated::{longest_life, longest_under, may_lease, tightest};
