//! Signing keys: what each signs, and the phases that it goes through.
//!
//! A phase is read off the log and the batch's time: a key is *published* before it signs, so that whoever
//! checks signatures has learnt it by then, and stays *retiring* until the last thing that it signed is over.
//! Nothing has to happen for a phase to begin, so a restart or another node cannot miss one.

use serde::{Deserialize, Serialize};

use super::agent::{Kind, words};
use super::digest::Digest;
use super::error::Error;
use super::time::{AUTHORITY_MARGIN, IDENTITY_LIFE, Span, Timestamp};

/// A signing key, public half; the private half is a sealed blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its id, in the JWT header for a token key.
    pub kid: String,
    /// What it signs; nothing else.
    pub purpose: Purpose,
    /// The public key: an uncompressed P-256 point, of a log key the 32 bytes of Ed25519 (RFC 8032).
    #[serde(serialize_with = "super::event::base64")]
    pub public: Vec<u8>,
    /// For an authority: its self-signed certificate (DER).
    #[serde(serialize_with = "super::event::base64_if_any")]
    pub certificate: Option<Vec<u8>>,
    /// When that certificate ends.
    pub not_after: Option<Timestamp>,
    /// The sealed private key, by the digest of its blob.
    pub sealed: Digest,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it begins to sign.
    pub use_from: Timestamp,
    /// When it was tainted: from then on nothing under it is accepted. Known to the state, not to its event.
    pub tainted: Option<Timestamp>,
}

/// What a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Tokens.
    Token,
    /// Certificates of agents and servers, and those under grants.
    Authority,
    /// Certificates of operators, so that they outlive a taint of the agents' authority.
    Operator,
    /// Checkpoints of the log.
    Log,
}

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Shown to those who check, not signing yet.
    Published,
    /// Signs.
    Used,
    /// Signs no more; what it signed is accepted.
    Retiring,
    /// All that it signed is over.
    Retired,
    /// Refused, with all that it signed.
    Tainted,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Token, Self::Authority, Self::Operator, Self::Log];

    /// The authority that signs certificates of this kind of party.
    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::Agent | Kind::Server | Kind::Pep => Self::Authority,
            Kind::Operator => Self::Operator,
        }
    }

    /// Whether its keys are certificate authorities.
    pub fn is_authority(self) -> bool {
        matches!(self, Self::Authority | Self::Operator)
    }

    /// How long a new key is published before it signs: until everybody has fetched the key set again
    /// (`max-age` of the JWKS), or renewed the identity that brings the authorities along.
    pub fn notice(self) -> Span {
        match self {
            Self::Token => Span::minutes(10),
            Self::Authority | Self::Operator => IDENTITY_LIFE,
            Self::Log => Span::default(),
        }
    }

    /// The longest that something signed by such a key lives.
    pub fn longest(self) -> Span {
        match self {
            // A token does not outlive the identity that it is bound to.
            Self::Token | Self::Authority | Self::Operator => IDENTITY_LIFE,
            Self::Log => Span::default(),
        }
    }
}

impl Phase {
    /// Whether those who check signatures take the key.
    pub fn is_accepted(self) -> bool {
        matches!(self, Self::Published | Self::Used | Self::Retiring)
    }
}

impl Key {
    /// The phase at `now`, given all keys. A key that took over ends its forerunner for good, though it be
    /// tainted later: nothing that was put away signs again.
    pub fn phase<'a>(&self, keys: impl Iterator<Item = &'a Key>, now: Timestamp) -> Phase {
        if self.tainted.is_some() {
            return Phase::Tainted;
        }
        if now < self.use_from {
            return Phase::Published;
        }
        let successors = keys.filter(|key| key.purpose == self.purpose && key.order() > self.order());
        match successors.filter(|key| key.took_over(now)).map(|key| key.use_from).min() {
            None => Phase::Used,
            Some(since) if now < since.plus(self.purpose.longest()) => Phase::Retiring,
            Some(_) => Phase::Retired,
        }
    }

    /// Whether its own certificate ends so soon that it signs no other any more. Other keys do not end by themselves.
    pub fn is_ending(&self, now: Timestamp) -> bool {
        self.not_after.is_some_and(|end| now.plus(AUTHORITY_MARGIN) >= end)
    }

    /// The next moment after `now` at which this key may change what it is good for, its own phase or the one before
    /// it; none if nothing is to come.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let retires_another = self.use_from.plus(self.purpose.longest());
        let known = self.created_at.plus(IDENTITY_LIFE);
        let ending = self.not_after.map(|end| end.minus(AUTHORITY_MARGIN));
        [Some(self.use_from), Some(retires_another), Some(known), ending]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min()
    }

    /// Whether everybody who holds an identity got it after this key was made, and with it the key.
    fn is_known(&self, now: Timestamp) -> bool {
        now >= self.created_at.plus(IDENTITY_LIFE)
    }

    fn took_over(&self, now: Timestamp) -> bool {
        self.use_from <= now && self.tainted.is_none_or(|tainted| tainted > self.use_from)
    }

    fn order(&self) -> (Timestamp, Timestamp, &str) {
        (self.use_from, self.created_at, &self.kid)
    }
}

/// The key that signs for `purpose`: the one that [`Key::phase`] calls used, found in one walk.
pub fn signer<'a>(keys: impl Iterator<Item = &'a Key>, purpose: Purpose, now: Timestamp) -> Option<&'a Key> {
    let turns = keys.filter(|key| key.purpose == purpose && key.took_over(now));
    turns.max_by(|one, other| one.order().cmp(&other.order())).filter(|key| key.tainted.is_none())
}

/// The authority by which the broker itself is known: of those that are good, the newest that every holder of an
/// identity has learnt, else the oldest. So an authority that takes over without notice signs for agents at once, and
/// yet shuts nobody out who knows only the one before.
pub fn face<'a>(keys: impl Iterator<Item = &'a Key> + Clone, now: Timestamp) -> Option<&'a Key> {
    let mut good: Vec<&Key> = keys
        .clone()
        .filter(|key| key.purpose == Purpose::Authority && !key.is_ending(now))
        .filter(|key| matches!(key.phase(keys.clone(), now), Phase::Used | Phase::Retiring))
        .collect();
    good.sort_by(|one, other| one.order().cmp(&other.order()));
    let known = good.iter().rev().find(|key| key.is_known(now)).or(good.first()).copied();
    known.or_else(|| signer(keys, Purpose::Authority, now))
}

words! { Purpose "purpose": Token = "token", Authority = "authority", Operator = "operator", Log = "log" }
words! { Phase "phase": Published = "published", Used = "used", Retiring = "retiring", Retired = "retired", Tainted = "tainted" }

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_seconds(1_795_000_000);

    fn key(kid: &str, use_from: Timestamp) -> Key {
        Key {
            kid: kid.to_owned(),
            purpose: Purpose::Token,
            public: Vec::new(),
            certificate: None,
            not_after: None,
            sealed: Digest([0; 32]),
            created_at: AT,
            use_from,
            tainted: None,
        }
    }

    fn phases(keys: &[Key], now: Timestamp) -> Vec<&'static str> {
        keys.iter().map(|key| key.phase(keys.iter(), now).as_str()).collect()
    }

    #[test]
    fn a_key_is_published_used_retiring_and_retired() {
        let notice = Purpose::Token.notice();
        let keys = [key("a", AT), key("b", AT.plus(notice))];
        let instant = Span::millis(1);
        assert_eq!(phases(&keys, AT.minus(instant)), ["published", "published"]);
        assert_eq!(phases(&keys, AT), ["used", "published"]);
        let change = AT.plus(notice);
        assert_eq!(phases(&keys, change.minus(instant)), ["used", "published"]);
        assert_eq!(phases(&keys, change), ["retiring", "used"]);
        let end = change.plus(Purpose::Token.longest());
        assert_eq!(phases(&keys, end.minus(instant)), ["retiring", "used"]);
        assert_eq!(phases(&keys, end), ["retired", "used"]);
    }

    #[test]
    fn a_tainted_successor_does_not_bring_its_forerunner_back() {
        let mut keys = [key("a", AT), key("b", AT.plus(Span::hours(1))), key("c", AT.plus(Span::hours(2)))];
        keys[1].tainted = Some(AT.plus(Span::hours(2)));
        let longest = Purpose::Token.longest();
        assert_eq!(phases(&keys, AT.plus(Span::hours(2))), ["retiring", "tainted", "used"]);
        assert_eq!(phases(&keys, AT.plus(Span::hours(1)).plus(longest)), ["retired", "tainted", "used"]);
    }

    #[test]
    fn a_key_tainted_before_it_signed_ends_nothing() {
        let mut keys = [key("a", AT), key("b", AT.plus(Span::hours(1)))];
        keys[1].tainted = Some(AT.plus(Span::minutes(5)));
        assert_eq!(phases(&keys, AT.plus(Span::hours(2))), ["used", "tainted"]);
    }

    #[test]
    fn the_signer_is_the_key_that_is_used() {
        let times = [0, 10, 20, 30].map(|minutes| AT.plus(Span::minutes(minutes)));
        let lives: Vec<_> =
            times.iter().flat_map(|from| [None, Some(AT), Some(*from), Some(times[2])].map(|at| (*from, at))).collect();
        let count = lives.len();
        for all in 0..count.pow(3) {
            let [one, other, third] = [all, all / count, all / count / count].map(|at| &lives[at % count]);
            let made =
                |kid, (from, tainted): &(Timestamp, Option<Timestamp>)| Key { tainted: *tainted, ..key(kid, *from) };
            let keys = [made("a", one), made("b", other), made("c", third)];
            for now in times {
                let used = keys.iter().filter(|key| key.phase(keys.iter(), now) == Phase::Used);
                let used: Vec<_> = used.map(|key| &key.kid).collect();
                let signs: Vec<_> = signer(keys.iter(), Purpose::Token, now).map(|key| &key.kid).into_iter().collect();
                assert_eq!(used, signs, "{keys:?} at {now}");
            }
        }
    }

    fn authority(kid: &str, created_at: Timestamp, use_from: Timestamp) -> Key {
        let not_after = Some(created_at.plus(Span::hours(365 * 24)));
        Key { purpose: Purpose::Authority, created_at, not_after, ..key(kid, use_from) }
    }

    #[test]
    fn the_broker_is_known_by_an_authority_that_all_have_learnt() {
        let hours = |hours| AT.plus(Span::hours(hours));
        let by = |keys: &[Key], at| face(keys.iter(), at).map(|key| key.kid.clone()).unwrap();
        let instant = Span::millis(1);
        // Without notice: the old one for a day, though the new one signs.
        let mut keys = vec![authority("a", AT, AT), authority("b", hours(30), hours(30))];
        assert_eq!(
            (by(&keys, AT), by(&keys, hours(30)), by(&keys, hours(54).minus(instant))),
            ("a".into(), "a".into(), "a".into())
        );
        assert_eq!(by(&keys, hours(54)), "b");
        // A tainted one is nobody's face.
        keys[0].tainted = Some(hours(31));
        assert_eq!(by(&keys, hours(31)), "b");
        // With notice: the new one from the moment that it signs.
        let keys = [authority("a", AT, AT), authority("b", hours(30), hours(54))];
        assert_eq!((by(&keys, hours(54).minus(instant)), by(&keys, hours(54))), ("a".into(), "b".into()));
        // One that is about to end gives way, known or not.
        let end = hours(365 * 24);
        let keys = [authority("a", AT, AT), authority("b", end.minus(Span::hours(2)), end.minus(Span::hours(2)))];
        assert_eq!(by(&keys, end.minus(AUTHORITY_MARGIN).minus(instant)), "a");
        assert_eq!(by(&keys, end.minus(AUTHORITY_MARGIN)), "b");
    }

    #[test]
    fn keys_of_another_purpose_end_nothing() {
        let log = Key { purpose: Purpose::Log, ..key("b", AT.plus(Span::hours(1))) };
        assert_eq!(phases(&[key("a", AT), log], AT.plus(Span::hours(50))), ["used", "used"]);
    }
}
