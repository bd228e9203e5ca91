//! Places in status lists (Token Status List, draft-ietf-oauth-status-list-21): by which somebody who was handed a token,
//! and asks nobody, learns of its end.

use serde::{Deserialize, Serialize};

use super::name::Audience;
use super::time::{Span, Timestamp};

/// Places in one list. Half of them are given at most, at random, so that neighbours say nothing about each other.
pub const PLACES: u32 = 1 << 16;
/// Lists for the tokens of one hour: they are filled one after the other.
pub const PARTS: u64 = 1024;
/// Bits of a status.
pub const BITS: u8 = 2;
/// For how long whoever has fetched a list may go by it.
pub const TTL: Span = Span::seconds(15);
/// How long after it was made a list may be believed.
pub const LIFE: Span = Span::seconds(60);

/// Where a token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StatusPlace {
    /// Which list.
    pub list: u64,
    /// Which place in it, below [`PLACES`].
    pub index: u32,
}

/// What a list says of a place (section 7.1 of the draft).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// The token is as good as it says; or the place is nobody's.
    Valid,
    /// It is over for good.
    Invalid,
    /// It is halted, and may come back.
    Suspended,
}

/// A list, to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusList {
    /// Where it is, as the tokens on it say.
    pub url: String,
    /// When it was made.
    pub made_at: Timestamp,
    /// Two bits for each place, the first place in the lowest bits.
    pub packed: Vec<u8>,
}

/// The first of the lists for tokens issued now.
pub fn first(now: Timestamp) -> u64 {
    now.seconds().unsigned_abs() / 3600 * PARTS
}

/// Where a list is: below the issuer, which therefore has to lead to the HTTPS pages.
pub fn url(issuer: &Audience, list: u64) -> String {
    format!("{}/statuslists/{list}", issuer.as_str().trim_end_matches('/'))
}

/// The bytes of a list in which these places have these values, and all others are valid.
pub fn pack(places: impl Iterator<Item = (u32, Value)>) -> Vec<u8> {
    let mut packed = vec![0; PLACES as usize / 4];
    for (index, value) in places {
        let bits: u8 = match value {
            Value::Valid => 0,
            Value::Invalid => 1,
            Value::Suspended => 2,
        };
        if let Some(byte) = packed.get_mut(index as usize / 4) {
            *byte |= bits << (index % 4 * 2);
        }
    }
    packed
}

/// What its list says of a token. That its time has run out it says itself.
#[cfg(feature = "broker")]
pub fn value(view: &super::view::View<'_>, token: &super::grant::LiveToken, now: Timestamp) -> Value {
    use super::grant::GrantState::{Active, Suspended};
    let is_cut = view.cut(&super::cut::Target::Token(token.id)).is_some();
    if is_cut || view.is_tainted(&token.kid) {
        return Value::Invalid;
    }
    match view.standing(token.grant, now.min(token.expires_at.minus(Span::millis(1)))).map(|standing| standing.state) {
        Some(Active) => Value::Valid,
        Some(Suspended) => Value::Suspended,
        _ => Value::Invalid,
    }
}
