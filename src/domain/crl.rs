//! Revocation lists (CRLs, RFC 5280 section 5): which certificates are on one, and why. For those who cannot ask.
//!
//! What is listed follows from the state, so no list is kept: one that was lost is made again. A certificate that is
//! merely halted is on hold, and leaves the list once it is resumed.

use super::agent::Kind;
use super::certificate::Certificate;
use super::cut::Target;
use super::grant::GrantState;
use super::id::{CertificateId, GrantId};
use super::name::Audience;
use super::time::{Span, Timestamp};
use super::view::View;

/// Lists of one authority: by the last four bits of a serial number, which are random.
pub const SHARDS: u8 = 16;
/// How long after it was made a list may be believed.
pub const LIFE: Span = Span::seconds(60);
/// How long before it was made a list begins to hold, for clocks that are behind.
pub const BACKDATE: Span = Span::seconds(10);
/// How long an entry stays behind the end of its certificate: longer than one list (RFC 5280 section 3.3).
pub const KEPT: Span = Span::seconds(120);

/// Why a certificate is listed, as RFC 5280 section 5.3.1 has words for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Revoked: `privilegeWithdrawn`.
    Withdrawn,
    /// What it was for is over, or its holder has gone: `cessationOfOperation`.
    Ceased,
    /// Halted, and may come back: `certificateHold`.
    Held,
}

/// A certificate on a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which one.
    pub id: CertificateId,
    /// Why.
    pub why: Why,
    /// Since when; none where the state does not know.
    pub since: Option<Timestamp>,
}

/// One list of one authority, to be signed by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationList {
    /// The authority, by its key id.
    pub authority: String,
    /// Where the list is, as its certificates and the list itself say.
    pub url: String,
    /// Greater than that of every list before.
    pub number: u128,
    /// From when it holds.
    pub this_update: Timestamp,
    /// Until when.
    pub next_update: Timestamp,
    /// The certificates, each with the moment since which it is listed.
    pub entries: Vec<(Listed, Timestamp)>,
}

/// The list that a certificate would be on.
pub fn shard(id: CertificateId) -> u8 {
    id.uuid().as_bytes()[15] % SHARDS
}

/// Where a list is: below the issuer, which therefore has to lead to the HTTPS pages.
pub fn url(issuer: &Audience, authority: &str, shard: u8) -> String {
    format!("{}/crl/{authority}/{shard}.crl", issuer.as_str().trim_end_matches('/'))
}

/// The number of a list made at sequence `head` and time `now`, unless one with it or a later one was made. Every start
/// of a broker adds to the log: so numbers grow though the clock was set back in between.
pub fn number(head: u64, now: Timestamp, last: Option<u128>) -> u128 {
    const MILLIS: u32 = 48;
    let millis = u128::from(now.millis().unsigned_abs()) & ((1 << MILLIS) - 1);
    let number = (u128::from(head) << MILLIS) | millis;
    last.map_or(number, |last| number.max(last + 1))
}

/// Whether a certificate is on its list, and why. One that has expired stays for as long as [`KEPT`].
pub fn listed(view: &View<'_>, certificate: &Certificate, now: Timestamp) -> Option<Listed> {
    let id = certificate.id;
    if now >= certificate.not_after.plus(KEPT) {
        return None;
    }
    if let Some(cut) = view.cut(&Target::Certificate(id)) {
        return Some(Listed { id, why: Why::Withdrawn, since: Some(cut.id.time()) });
    }
    let (why, since) = match certificate.grant {
        // It ends before its grant does: that its grant ran out afterwards is no reason.
        Some(grant) => under(view, grant, now.min(certificate.not_after))?,
        None if has_gone(view, certificate) => (Why::Ceased, None),
        None => return None,
    };
    Some(Listed { id, why, since })
}

/// Why nothing under this grant is good now.
fn under(view: &View<'_>, grant: GrantId, now: Timestamp) -> Option<(Why, Option<Timestamp>)> {
    let Some(standing) = view.standing(grant, now) else { return Some((Why::Ceased, None)) };
    match standing.state {
        GrantState::Active => None,
        GrantState::Suspended => Some((Why::Held, None)),
        // A retired agent has not lost a right: it is no more.
        GrantState::Revoked if standing.reason != "agent_retired" => {
            let cut = view.cut(&Target::Grant(standing.link));
            Some((Why::Withdrawn, cut.map(|cut| cut.id.time())))
        }
        _ => Some((Why::Ceased, None)),
    }
}

/// Whether the party that an identity is of is no more. A suspended agent still is: it may give back what it holds.
fn has_gone(view: &View<'_>, certificate: &Certificate) -> bool {
    use super::agent::AgentStatus::{Active, Suspended};
    let name = &certificate.name;
    match certificate.kind {
        Kind::Agent => !view.agent(name).is_some_and(|agent| matches!(agent.status, Active | Suspended)),
        Kind::Operator => view.operator(name).is_none_or(|operator| operator.removed),
        Kind::Pep => view.pep(name).is_none_or(|pep| pep.retired.is_some()),
        Kind::Server => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_list_never_repeats_and_never_goes_back() {
        let at = Timestamp::from_seconds(1_795_000_000);
        let first = number(7, at, None);
        assert!(number(7, at.plus(Span::millis(1)), None) > first);
        // A restart after the clock was set back has added to the log.
        assert!(number(8, at.minus(Span::hours(24 * 365)), None) > first);
        // While the log is ahead of the clock, time stands still.
        assert_eq!(number(7, at, Some(first)), first + 1);
        assert_eq!(number(7, at.minus(Span::hours(1)), Some(first + 1)), first + 2);
    }
}
