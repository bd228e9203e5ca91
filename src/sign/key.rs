//! Makes signing keys: P-256, sealed before anybody sees them, and for an authority its own certificate.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SecureRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
};
use zeroize::Zeroizing;

use super::{MasterKey, internal, random, seal};
use crate::domain::digest::Digest;
use crate::domain::entropy::Entropy;
use crate::domain::error::Error;
use crate::domain::event::{Key, Origin, Purpose};
use crate::domain::id::CertificateId;
use crate::domain::time::Timestamp;
use crate::format::x509::{self, Issuer, Plan, Profile};

/// A new key for `purpose`: its record, and its private half sealed for the blob that the record names.
///
/// # Errors
/// The system gives no random bytes, or the authority's certificate does not fit its profile.
pub fn generate(
    purpose: Purpose,
    master: &MasterKey,
    origin: &Origin,
    now: Timestamp,
) -> Result<(Key, Vec<u8>), Error> {
    let failed = |_| internal("key_made", "a key could not be made: the system gives no random bytes");
    let random = random();
    let made = EcdsaKeyPair::generate_pkcs8(algorithm(purpose), &random).map_err(failed)?;
    let secret = Zeroizing::new(made.as_ref().to_vec());
    let pair =
        parse(purpose, &secret).ok_or_else(|| internal("key_made", "a key that was just made cannot be read"))?;
    let public = pair.public_key().as_ref().to_vec();
    let certificate = match purpose {
        Purpose::Token => None,
        Purpose::Authority => {
            let mut seed = [0; 32];
            random.fill(&mut seed).map_err(failed)?;
            let plan = authority(&public, origin, now, CertificateId::mint(now, &mut Entropy::from_seed(seed)));
            let tbs = x509::build(&plan, Issuer::Itself)?;
            x509::lint(&tbs, &plan, Issuer::Itself)?;
            Some(certify(&pair, &tbs, &plan, Issuer::Itself)?)
        }
    };
    let kid = kid(&public);
    let blob = seal::seal(master, &kid, origin, &secret)?;
    Ok((Key { kid, purpose, public, certificate, sealed: Digest::of(&blob), created_at: now }, blob))
}

/// The key pair in this PKCS#8, for signatures of the form that its purpose needs.
pub(super) fn parse(purpose: Purpose, pkcs8: &[u8]) -> Option<EcdsaKeyPair> {
    EcdsaKeyPair::from_pkcs8(algorithm(purpose), pkcs8, &random()).ok()
}

/// A key's id: the first half of the SHA-256 of its uncompressed point, base64url.
pub(super) fn kid(public: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(&Digest::of(public).0[..16])
}

/// Signs `tbs` and looks once more at what came of it.
pub(super) fn certify(pair: &EcdsaKeyPair, tbs: &[u8], plan: &Plan, issuer: Issuer<'_>) -> Result<Vec<u8>, Error> {
    let signature = pair.sign(&random(), tbs);
    let signature = signature
        .map_err(|_| internal("sign", format!("the certificate of `{}` could not be signed", plan.spiffe_id)))?;
    let der = x509::assemble(tbs, signature.as_ref());
    x509::check(&der, plan, issuer)?;
    Ok(der)
}

fn authority(public: &[u8], origin: &Origin, now: Timestamp, id: CertificateId) -> Plan {
    let (profile, now) = (Profile::authority(), now.whole_seconds());
    Plan {
        profile,
        spiffe_id: format!("spiffe://{}", origin.trust_domain),
        names: Vec::new(),
        spki: x509::p256_spki(public),
        id,
        not_before: now.minus(profile.backdate()),
        not_after: now.plus(profile.max_lifetime()),
    }
}

/// A JWS takes the two integers side by side (RFC 7518 section 3.4), X.509 takes them as DER.
fn algorithm(purpose: Purpose) -> &'static EcdsaSigningAlgorithm {
    match purpose {
        Purpose::Token => &ECDSA_P256_SHA256_FIXED_SIGNING,
        Purpose::Authority => &ECDSA_P256_SHA256_ASN1_SIGNING,
    }
}
