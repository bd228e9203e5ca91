//! Makes signing keys: P-256, for the log Ed25519, sealed before anybody sees them, and for an authority its own certificate.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SecureRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use zeroize::Zeroizing;

use super::{MasterKey, internal, random, seal};
use crate::domain::digest::Digest;
use crate::domain::entropy::Entropy;
use crate::domain::error::Error;
use crate::domain::event::Origin;
use crate::domain::id::CertificateId;
use crate::domain::key::{Key, Purpose};
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
    let made = match purpose {
        Purpose::Token => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random),
        Purpose::Authority | Purpose::Operator => {
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
        }
        Purpose::Log => Ed25519KeyPair::generate_pkcs8(&random),
    };
    let made = made.map_err(failed)?;
    let secret = Zeroizing::new(made.as_ref().to_vec());
    let pair =
        parse(purpose, &secret).ok_or_else(|| internal("key_made", "a key that was just made cannot be read"))?;
    let public = pair.public();
    let mut not_after = None;
    let certificate = match &pair {
        Pair::Token(_) | Pair::Log(_) => None,
        Pair::Authority(pair) => {
            let mut seed = [0; 32];
            random.fill(&mut seed).map_err(failed)?;
            let plan = authority(&public, origin, now, CertificateId::mint(now, &mut Entropy::from_seed(seed)));
            not_after = Some(plan.not_after);
            let tbs = x509::build(&plan, Issuer::Itself)?;
            x509::lint(&tbs, &plan, Issuer::Itself)?;
            Some(certify(pair, &tbs, &plan, Issuer::Itself)?)
        }
    };
    let kid = kid(&public);
    let blob = seal::seal(master, &kid, origin, &secret)?;
    let sealed = Digest::of(&blob);
    let key =
        Key { kid, purpose, public, certificate, not_after, sealed, created_at: now, use_from: now, tainted: None };
    Ok((key, blob))
}

/// A private key, for signatures of the one form that its purpose needs.
pub(super) enum Pair {
    /// A JWS takes the two integers side by side (RFC 7518 section 3.4).
    Token(EcdsaKeyPair),
    /// X.509 takes them as DER (RFC 5758 section 3.2).
    Authority(EcdsaKeyPair),
    /// A signed note takes Ed25519 (C2SP signed-note).
    Log(Ed25519KeyPair),
}

impl Pair {
    pub fn public(&self) -> Vec<u8> {
        match self {
            Self::Token(pair) | Self::Authority(pair) => pair.public_key().as_ref().to_vec(),
            Self::Log(pair) => pair.public_key().as_ref().to_vec(),
        }
    }
}

/// The key pair in this PKCS#8.
pub(super) fn parse(purpose: Purpose, pkcs8: &[u8]) -> Option<Pair> {
    let ecdsa = |algorithm| EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &random()).ok();
    match purpose {
        Purpose::Token => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Pair::Token),
        Purpose::Authority | Purpose::Operator => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING).map(Pair::Authority),
        Purpose::Log => Ed25519KeyPair::from_pkcs8(pkcs8).ok().map(Pair::Log),
    }
}

/// A key's id: the first half of the SHA-256 of its public key, base64url.
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
        under: None,
        crl: None,
    }
}
