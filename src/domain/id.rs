//! Identifiers: TypeIDs, a UUIDv7 behind a prefix that names the kind.
//!
//! Only the canonical form is read: lower case, 26 characters of Crockford base 32, version 7. Two
//! spellings of one id would be two ids to a log reader and one to the broker.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::entropy::Entropy;
use super::error::Error;
use super::time::Timestamp;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const SUFFIX: usize = 26;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The prefix of the text form, without its underscore.
            pub const PREFIX: &'static str = $prefix;

            /// A new id, dated `at`.
            pub fn mint(at: Timestamp, entropy: &mut Entropy) -> Self {
                Self(mint(at, entropy))
            }

            /// The moment in the id. Written by whoever made the id: not evidence of anything.
            pub fn time(self) -> Timestamp {
                time(self.0)
            }

            /// The 128 bits.
            pub fn uuid(self) -> Uuid {
                self.0
            }

            /// The id with these 128 bits, if they are a UUIDv7.
            pub fn from_uuid(uuid: Uuid) -> Option<Self> {
                is_v7(&uuid).then_some(Self(uuid))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!($prefix, "_"))?;
                f.write_str(std::str::from_utf8(&encode(self.0)).map_err(|_| std::fmt::Error)?)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                parse(text, $prefix).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// A registered agent.
    AgentId = "agt";
    /// A task: the root context of grants.
    TaskId = "tsk";
    /// A grant: one node of a delegation tree.
    GrantId = "grt";
    /// A token; its `jti`.
    TokenId = "tok";
    /// A certificate; its 16 bytes are the serial number.
    CertificateId = "crt";
    /// A leased secret.
    LeaseId = "lse";
    /// An approval.
    ApprovalId = "apr";
    /// A revocation.
    RevocationId = "rev";
    /// One tool call, decided.
    InvocationId = "inv";
    /// A join token; the secret is not part of it.
    JoinId = "jtk";
    /// An enforcement point.
    PepId = "pep";
    /// A freeze.
    FreezeId = "frz";
}

fn mint(at: Timestamp, entropy: &mut Entropy) -> Uuid {
    uuid::Builder::from_unix_timestamp_millis(at.millis().max(0).unsigned_abs(), &entropy.take::<10>()).into_uuid()
}

fn time(uuid: Uuid) -> Timestamp {
    let millis = uuid.as_u128() >> 80;
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

fn is_v7(uuid: &Uuid) -> bool {
    uuid.get_version_num() == 7 && uuid.get_variant() == uuid::Variant::RFC4122
}

fn encode(uuid: Uuid) -> [u8; SUFFIX] {
    let bits = uuid.as_u128();
    std::array::from_fn(|at| ALPHABET[((bits >> (5 * (SUFFIX - 1 - at))) & 31) as usize])
}

/// The digit that a byte is, or [`NO_DIGIT`].
const DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut digit = 0u8;
    while (digit as usize) < ALPHABET.len() {
        digits[ALPHABET[digit as usize] as usize] = digit;
        digit += 1;
    }
    digits
};
const NO_DIGIT: u8 = 0xff;

fn parse(text: &str, prefix: &str) -> Result<Uuid, Error> {
    if text.is_empty() {
        return Err(Error::missing("id"));
    }
    let wrong = || Error::malformed("id", text, &format!("expected `{prefix}_` and 26 characters of its alphabet"));
    let suffix = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_')).ok_or_else(wrong)?;
    // 26 digits hold 130 bits: the first digit may carry only three.
    if suffix.len() != SUFFIX || suffix.as_bytes()[0] > b'7' {
        return Err(wrong());
    }
    let mut bits = 0u128;
    for byte in suffix.bytes() {
        let digit = DIGITS[usize::from(byte)];
        if digit == NO_DIGIT {
            return Err(wrong());
        }
        bits = bits << 5 | u128::from(digit);
    }
    let uuid = Uuid::from_u128(bits);
    if is_v7(&uuid) { Ok(uuid) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_keeps_its_time() {
        let at = Timestamp::from_millis(1_795_000_000_123);
        let id = GrantId::mint(at, &mut Entropy::from_seed([7; 32]));
        assert_eq!(id.to_string().parse::<GrantId>().unwrap(), id);
        assert_eq!(id.time(), at);
        assert_eq!(id.to_string().len(), 30);
    }

    #[test]
    fn only_the_canonical_form_is_read() {
        let id = GrantId::mint(Timestamp::from_millis(1), &mut Entropy::from_seed([1; 32])).to_string();
        let twins = [
            id.to_uppercase(),
            id.replace("grt_", "tok_"),
            format!("{id}0"),
            format!(" {id}"),
            id[..29].to_owned(),
            String::new(),
            "grt_".to_owned(),
            "grt_8zzzzzzzzzzzzzzzzzzzzzzzzz".to_owned(),
            "grt_00000000000000000000000000".to_owned(),
            "grt_iiiiiiiiiiiiiiiiiiiiiiiiii".to_owned(),
            "x".repeat(1 << 20),
        ];
        for twin in twins {
            assert!(twin.parse::<GrantId>().is_err(), "{twin:.40}");
        }
    }
}
