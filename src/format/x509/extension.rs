//! The grant extension: what makes a certificate a credential under a grant, and not an identity.

use serde::{Deserialize, Serialize};
use x509_parser::asn1_rs::{FromDer as _, Utf8String};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::Oid;

use super::build::tagged;
use crate::domain::name::Audience;
use crate::format::claims::GrantClaims;
use crate::format::json;

/// Below the arc for documentation (RFC 5612): Belay has no enterprise number of its own yet, and will have
/// another OID here once it has one.
pub(super) const OID: [u64; 9] = [1, 3, 6, 1, 4, 1, 32473, 1, 1];

/// What the extension holds: a UTF8String (DER) with one JSON object, of the members that a token has too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderGrant {
    /// For whom the grant is.
    pub aud: Audience,
    /// The grant, and the keys by which a cut finds it.
    #[serde(flatten)]
    pub claims: GrantClaims,
}

impl UnderGrant {
    /// The extension's value, DER.
    pub(super) fn encode(&self) -> Vec<u8> {
        let text = serde_json::to_vec(self).expect("strings and lists of them always have a JSON form");
        tagged(0x0c, &text)
    }

    /// Reads the extension's value, if it is one that holds together.
    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let (rest, text) = Utf8String::from_der(value).ok()?;
        let read: Self = serde_json::from_value(json::strict(text.as_ref().as_bytes()).ok()?).ok()?;
        let claims = read.claims.checked().ok().filter(|_| rest.is_empty())?;
        Some(Self { aud: read.aud, claims })
    }

    /// What a certificate says of its grant; none if it is an identity.
    ///
    /// # Errors
    /// It says something that cannot be read, or says it twice.
    pub fn of(certificate: &X509Certificate<'_>) -> Result<Option<Self>, &'static str> {
        let found = certificate.get_extension_unique(&oid()).map_err(|_| "it has two grant extensions")?;
        let Some(extension) = found else { return Ok(None) };
        Self::decode(extension.value).map(Some).ok_or("its grant extension cannot be read")
    }
}

pub(super) fn oid() -> Oid<'static> {
    Oid::from(&OID).expect("its first two arcs are 1 and 3")
}
