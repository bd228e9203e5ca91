//! Certificates in two steps: built and linted before they are recorded, signed after.

use super::{KeyRing, internal, key};
use crate::domain::MAX_CERTIFICATE;
use crate::domain::agent::Kind;
use crate::domain::certificate::Certificate;
use crate::domain::crl;
use crate::domain::digest::Digest;
use crate::domain::error::Error;
use crate::domain::id::CertificateId;
use crate::domain::name::Name;
use crate::domain::prepared::Prepared;
use crate::domain::time::Timestamp;
use crate::format::spiffe::SpiffeId;
use crate::format::x509::{self, Issuer, Plan, Profile, UnderGrant};

/// Bytes that signing adds, at most: two headers, the algorithm, an ECDSA P-256 signature.
const SIGNATURE: usize = 100;

/// What a certificate is to say. Validity is cut to whole seconds.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Its serial number.
    pub id: CertificateId,
    /// What kind of party.
    pub kind: Kind,
    /// Its name.
    pub name: &'a Name,
    /// The public key: SubjectPublicKeyInfo, DER.
    pub spki: &'a [u8],
    /// DNS names and IP addresses: of a server only.
    pub names: &'a [String],
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// The grant that it hangs on; none of an identity.
    pub under: Option<&'a UnderGrant>,
}

/// A certificate without its signature. Not `Clone`: it is signed once, or given up.
#[derive(Debug)]
pub struct Unsigned {
    pub(super) plan: Plan,
    pub(super) tbs: Vec<u8>,
}

impl KeyRing {
    /// Builds and lints a certificate that the authority `kid` is to sign: the record of it, and what is to be
    /// signed once the record is durable.
    ///
    /// # Errors
    /// The key or a name is not one that the profile allows, the validity is longer than the profile or the
    /// authority allows, there is no such authority, or it becomes too large (`certificate_too_large`).
    pub fn prepare(&self, kid: &str, wanted: Wanted<'_>) -> Result<(Certificate, Unsigned), Error> {
        let Wanted { id, kind, name, spki, names, not_before, not_after, under } = wanted;
        let profile = if under.is_some() { Profile::grant() } else { Profile::of(kind) };
        let plan = Plan {
            profile,
            spiffe_id: SpiffeId::of(&self.trust_domain, kind, name).to_string(),
            names: names.to_vec(),
            spki: spki.to_vec(),
            id,
            not_before: not_before.whole_seconds(),
            not_after: not_after.whole_seconds(),
            under: under.cloned(),
            crl: profile.crl_distribution_point.then(|| crl::url(&self.issuer, kid, crl::shard(id))),
        };
        let issuer = Issuer::Authority(&self.authority(kid)?.certificate);
        let tbs = x509::build(&plan, issuer)?;
        x509::lint(&tbs, &plan, issuer)?;
        if tbs.len() + SIGNATURE > MAX_CERTIFICATE {
            let why = "its chain does not fit; delegate from nearer to the root";
            return Err(Error::denied("certificate_too_large", format!("`{name}` gets no certificate: {why}")));
        }
        let record = Certificate {
            id,
            kind,
            name: name.clone(),
            grant: under.map(|under| under.claims.grant),
            key_hash: Digest::of(spki),
            tbs_digest: Digest::of(&tbs),
            authority: kid.to_owned(),
            not_before: plan.not_before,
            not_after: plan.not_after,
            der: None,
        };
        Ok((record, Unsigned { plan, tbs }))
    }

    /// Signs a recorded certificate (DER), if it is the very one that was recorded, and lints it again.
    ///
    /// # Errors
    /// `tbs_mismatch`: these are not the bytes that were recorded. Otherwise the result does not fit its profile.
    pub fn sign_certificate(&self, recorded: Prepared<Certificate>, unsigned: Unsigned) -> Result<Vec<u8>, Error> {
        let recorded = recorded.into_inner();
        let Unsigned { plan, tbs } = unsigned;
        if Digest::of(&tbs) != recorded.tbs_digest {
            return Err(internal(
                "tbs_mismatch",
                format!("certificate `{}` is not the one that was recorded", recorded.id),
            ));
        }
        let authority = self.authority(&recorded.authority)?;
        key::certify(&authority.pair, &tbs, &plan, Issuer::Authority(&authority.certificate))
    }
}
