//! The opened keys of one broker, each for its purpose alone.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{EcdsaKeyPair, KeyPair};

use super::{MasterKey, internal, key, random, seal};
use crate::domain::error::Error;
use crate::domain::event::{Key, Origin, Purpose};
use crate::domain::grant::Token;
use crate::domain::name::TrustDomain;
use crate::domain::prepared::Prepared;
use crate::domain::time::Timestamp;
use crate::format::x509;

/// Keys, opened once. `Debug` names them and shows none.
pub struct KeyRing {
    pub(super) trust_domain: TrustDomain,
    tokens: HashMap<String, EcdsaKeyPair>,
    authorities: HashMap<String, Authority>,
    newest: String,
}

/// A key that signs certificates, and its own.
pub(super) struct Authority {
    pub pair: EcdsaKeyPair,
    pub certificate: Vec<u8>,
    not_after: Timestamp,
    created_at: Timestamp,
}

impl KeyRing {
    /// Opens every key with its blob. Certificates are signed by the newest authority.
    ///
    /// # Errors
    /// `key_sealed`: a blob does not open, or holds another key than its record says; the message names the
    /// key. `no_authority`: none of the keys signs certificates.
    pub fn open<'a>(
        master: &MasterKey,
        origin: &Origin,
        keys: impl Iterator<Item = (&'a Key, Vec<u8>)>,
    ) -> Result<Self, Error> {
        let (mut tokens, mut authorities) = (HashMap::new(), HashMap::<String, Authority>::new());
        for (record, blob) in keys {
            let pair = open(master, origin, record, &blob)?;
            match record.purpose {
                Purpose::Token => drop(tokens.insert(record.kid.clone(), pair)),
                Purpose::Authority => drop(authorities.insert(record.kid.clone(), authority(record, pair)?)),
            }
        }
        let newest = authorities.iter().max_by_key(|(kid, authority)| (authority.created_at, *kid));
        let newest = newest.map(|(kid, _)| kid.clone());
        let newest = newest.ok_or_else(|| internal("no_authority", "none of the broker's keys signs certificates"))?;
        Ok(Self { trust_domain: origin.trust_domain.clone(), tokens, authorities, newest })
    }

    /// The certificate of the authority that signs now (DER).
    pub fn authority(&self) -> &[u8] {
        &self.newest().1.certificate
    }

    /// When that authority ends; nothing that it signs may last longer.
    pub fn authority_not_after(&self) -> Timestamp {
        self.newest().1.not_after
    }

    /// Signs a recorded token with the one key that its record names: a compact JWS (RFC 7515 section 7.1).
    /// `signing_input` writes what is signed, header and claims, from the record alone.
    ///
    /// # Errors
    /// There is no such key, or it is not for tokens.
    pub fn sign_token(
        &self,
        token: Prepared<Token>,
        signing_input: impl FnOnce(&Token) -> String,
    ) -> Result<String, Error> {
        let token = token.into_inner();
        let pair = self.tokens.get(&token.kid).ok_or_else(|| {
            let other = if self.authorities.contains_key(&token.kid) { "is not for tokens" } else { "is not here" };
            internal("token_key", format!("token `{}` cannot be signed: key `{}` {other}", token.id, token.kid))
        })?;
        let input = signing_input(&token);
        let signature = pair.sign(&random(), input.as_bytes());
        let signature = signature.map_err(|_| internal("sign", format!("token `{}` could not be signed", token.id)))?;
        Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    pub(super) fn newest(&self) -> (&str, &Authority) {
        (&self.newest, &self.authorities[&self.newest])
    }

    pub(super) fn authority_by(&self, kid: &str) -> Option<&Authority> {
        self.authorities.get(kid)
    }
}

fn open(master: &MasterKey, origin: &Origin, record: &Key, blob: &[u8]) -> Result<EcdsaKeyPair, Error> {
    let pair = seal::open(master, &record.kid, origin, blob).and_then(|secret| key::parse(record.purpose, &secret));
    let same =
        |pair: &EcdsaKeyPair| pair.public_key().as_ref() == record.public && key::kid(&record.public) == record.kid;
    pair.filter(same).ok_or_else(|| {
        let why = "the master key file is another one, or the store is damaged";
        internal("key_sealed", format!("signing key `{}` does not open: {why}", record.kid))
    })
}

fn authority(record: &Key, pair: EcdsaKeyPair) -> Result<Authority, Error> {
    let damaged = || {
        internal(
            "key_sealed",
            format!("authority `{}` has no certificate of its own: the store is damaged", record.kid),
        )
    };
    let certificate = record.certificate.clone().ok_or_else(damaged)?;
    if x509::spki(&certificate)? != x509::p256_spki(&record.public) {
        return Err(damaged());
    }
    Ok(Authority { pair, not_after: x509::not_after(&certificate)?, certificate, created_at: record.created_at })
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (tokens, authorities): (Vec<_>, Vec<_>) = (self.tokens.keys().collect(), self.authorities.keys().collect());
        f.debug_struct("KeyRing").field("tokens", &tokens).field("authorities", &authorities).finish_non_exhaustive()
    }
}
