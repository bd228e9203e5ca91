//! Certificates: an identity, or a credential under a grant. Recorded before they are signed, kept after.

use serde::{Deserialize, Serialize};

use super::agent::Kind;
use super::digest::Digest;
use super::id::{CertificateId, GrantId};
use super::name::Name;
use super::time::Timestamp;

/// A certificate that the broker signs, by the record of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Its id; the 16 bytes are its serial number.
    pub id: CertificateId,
    /// What kind of party.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// The grant that it hangs on. An identity hangs on none: it may ask, and outlives every cut of a grant.
    pub grant: Option<GrantId>,
    /// SHA-256 of the public key (SubjectPublicKeyInfo, DER).
    pub key_hash: Digest,
    /// SHA-256 of the to-be-signed bytes: exactly these may be signed.
    pub tbs_digest: Digest,
    /// The authority that signs it, by its key id.
    pub authority: String,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// The signed certificate (DER), once it is durable.
    pub der: Option<Vec<u8>>,
}

impl Certificate {
    /// SHA-256 of the whole certificate, by which tokens are bound to it; none before it is signed.
    pub fn thumbprint(&self) -> Option<Digest> {
        self.der.as_deref().map(Digest::of)
    }
}
