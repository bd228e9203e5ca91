//! Identity certificates in two steps: built and linted before they are recorded, signed after.

use super::{KeyRing, internal, key};
use crate::domain::agent::{Identity, Kind};
use crate::domain::digest::Digest;
use crate::domain::error::Error;
use crate::domain::id::CertificateId;
use crate::domain::name::Name;
use crate::domain::prepared::Prepared;
use crate::domain::time::Timestamp;
use crate::format::x509::{self, Issuer, Plan, Profile};

/// A certificate without its signature. Not `Clone`: it is signed once, or given up.
#[derive(Debug)]
pub struct Unsigned {
    pub(super) plan: Plan,
    pub(super) tbs: Vec<u8>,
    authority: String,
}

impl KeyRing {
    /// Builds and lints the certificate of an identity: the record of it, and what is to be signed once the
    /// record is durable. Validity is cut to whole seconds. Only a server has `names`: DNS and IP.
    ///
    /// # Errors
    /// The key (`spki`, SubjectPublicKeyInfo in DER) or a name is not one that the profile allows, or the
    /// validity is longer than the profile or the authority allows.
    #[expect(clippy::too_many_arguments, reason = "each is one field of the certificate")]
    pub fn prepare_identity(
        &self,
        kind: Kind,
        name: &Name,
        spki: &[u8],
        id: CertificateId,
        not_before: Timestamp,
        not_after: Timestamp,
        names: &[String],
    ) -> Result<(Identity, Unsigned), Error> {
        let (kid, authority) = self.newest();
        let plan = Plan {
            profile: Profile::of(kind),
            spiffe_id: format!("spiffe://{}/{kind}/{name}", self.trust_domain),
            names: names.to_vec(),
            spki: spki.to_vec(),
            id,
            not_before: not_before.whole_seconds(),
            not_after: not_after.whole_seconds(),
        };
        let issuer = Issuer::Authority(&authority.certificate);
        let tbs = x509::build(&plan, issuer)?;
        x509::lint(&tbs, &plan, issuer)?;
        let identity = Identity {
            id,
            kind,
            name: name.clone(),
            key_hash: Digest::of(spki),
            tbs_digest: Digest::of(&tbs),
            not_before: plan.not_before,
            not_after: plan.not_after,
            der: None,
        };
        Ok((identity, Unsigned { plan, tbs, authority: kid.to_owned() }))
    }

    /// Signs a recorded certificate (DER), if it is the very one that was recorded, and lints it again.
    ///
    /// # Errors
    /// `tbs_mismatch`: these are not the bytes that were recorded. Otherwise the result does not fit its profile.
    pub fn sign_identity(&self, recorded: Prepared<Identity>, unsigned: Unsigned) -> Result<Vec<u8>, Error> {
        let recorded = recorded.into_inner();
        let Unsigned { plan, tbs, authority } = unsigned;
        if Digest::of(&tbs) != recorded.tbs_digest {
            return Err(internal(
                "tbs_mismatch",
                format!("certificate `{}` is not the one that was recorded", recorded.id),
            ));
        }
        let missing = || internal("no_authority", format!("authority `{authority}` is not here"));
        let authority = self.authority_by(&authority).ok_or_else(missing)?;
        key::certify(&authority.pair, &tbs, &plan, Issuer::Authority(&authority.certificate))
    }
}
