//! Signing keys: what each signs, and the phases that it goes through.
//!
//! A phase is read off the log and the batch's time: a key is *published* before it signs, so that whoever
//! checks signatures has learnt it by then, and stays *retiring* until the last thing that it signed is over.
//! Nothing has to happen for a phase to begin, so a restart or another node cannot miss one.

use serde::{Deserialize, Serialize};

use super::agent::{Kind, words};
use super::digest::Digest;
use super::error::Error;
use super::time::{IDENTITY_LIFE, Span, Timestamp};

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
            Kind::Agent | Kind::Server => Self::Authority,
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

    fn took_over(&self, now: Timestamp) -> bool {
        self.use_from <= now && self.tainted.is_none_or(|tainted| tainted > self.use_from)
    }

    fn order(&self) -> (Timestamp, Timestamp, &str) {
        (self.use_from, self.created_at, &self.kid)
    }
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
    fn keys_of_another_purpose_end_nothing() {
        let log = Key { purpose: Purpose::Log, ..key("b", AT.plus(Span::hours(1))) };
        assert_eq!(phases(&[key("a", AT), log], AT.plus(Span::hours(50))), ["used", "used"]);
    }
}
