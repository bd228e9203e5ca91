//! What crosses the wire in other people's formats: tokens, certificates, bundles, SPIFFE IDs, join tokens, signed notes.
//!
//! Builds and parses, strictly: one value has one text. Holds no private key, reads no clock, and opens
//! no connection; nothing in a parsed text chooses what is trusted.

pub mod bundle;
pub mod claims;
pub mod dpop;
#[cfg(test)]
mod foreign;
#[cfg(feature = "broker")]
pub mod join;
mod json;
#[cfg(feature = "broker")]
pub mod jwk;
pub mod jws;
pub mod jwt;
pub mod note;
#[cfg(feature = "broker")]
pub mod receipt;
pub mod spiffe;
#[cfg(feature = "broker")]
pub mod status_list;
pub mod ticket;
#[cfg(test)]
pub(crate) mod vectors;
#[cfg(feature = "broker")]
pub mod x509;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Base64url without padding (RFC 7515, section 2).
fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes behind `text`, if it is the one canonical spelling: no padding, no stray bits at the end.
fn from_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_has_one_spelling() {
        assert_eq!(from_base64url("AA").as_deref(), Some(&[0][..]));
        for twin in ["AA==", "AB", "A", "AA\n", "A+", "A/", " AA", "ÄA"] {
            assert_eq!(from_base64url(twin), None, "{twin:?}");
        }
    }
}
