//! X.509 certificates (RFC 5280) with a SPIFFE ID (X509-SVID), as the profiles in `certs/` say.
//!
//! [`build`] writes the bytes to be signed, [`lint`] reads them back and holds them against the profile,
//! [`assemble`] joins them with their signature, [`check`] does all of it again on the finished certificate.
//! No key comes here: what is signed, and whether it was recorded, is `sign`'s to know.

mod build;
mod crl;
mod extension;
mod lint;
mod profile;
#[cfg(test)]
mod tests;

pub use build::{assemble, build, p256_spki};
pub use crl::{build as build_crl, check as check_crl};
pub use extension::UnderGrant;
pub use lint::{check, lint, not_after, spki};
pub use profile::{KeyType, Profile};

use crate::domain::id::CertificateId;
use crate::domain::time::Timestamp;

/// Everything that one certificate is to hold beside what its profile fixes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its kind.
    pub profile: &'static Profile,
    /// The one URI SAN.
    pub spiffe_id: String,
    /// DNS names and IP addresses, in this order after the URI.
    pub names: Vec<String>,
    /// The subject's public key: SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
    /// The serial number.
    pub id: CertificateId,
    /// Start of validity, whole seconds.
    pub not_before: Timestamp,
    /// End of validity, whole seconds.
    pub not_after: Timestamp,
    /// The grant that it hangs on, if its profile is that of credentials.
    pub under: Option<UnderGrant>,
    /// Where the revocation list is that it would be on, if its profile says that it names one.
    pub crl: Option<String>,
}

/// Who signs a certificate.
#[derive(Clone, Copy, Debug)]
pub enum Issuer<'a> {
    /// The subject itself: an authority.
    Itself,
    /// The authority with this certificate (DER).
    Authority(&'a [u8]),
}
