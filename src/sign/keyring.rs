//! The opened keys of one broker, each for its purpose alone.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair};

use super::key::{self, Pair};
use super::{MasterKey, internal, random, seal};
use crate::domain::checkpoint::Checkpoint;
use crate::domain::error::Error;
use crate::domain::event::Origin;
use crate::domain::grant::Token;
use crate::domain::invocation::Ticket;
use crate::domain::key::Key;
use crate::domain::name::{Audience, TrustDomain};
use crate::domain::prepared::Prepared;
use crate::domain::receipt::CutRecord;
use crate::format::note::{self, VerifierKey};
use crate::format::x509;

/// Keys, opened once. `Debug` names them and shows none.
pub struct KeyRing {
    pub(super) trust_domain: TrustDomain,
    pub(super) issuer: Audience,
    pub(super) tokens: HashMap<String, EcdsaKeyPair>,
    authorities: HashMap<String, Authority>,
    logs: HashMap<String, Ed25519KeyPair>,
}

/// A key that signs certificates, and its own.
pub(super) struct Authority {
    pub pair: EcdsaKeyPair,
    pub certificate: Vec<u8>,
}

impl KeyRing {
    /// Opens every key with its blob.
    ///
    /// # Errors
    /// `key_sealed`: a blob does not open, or holds another key than its record says; the message names the
    /// key.
    pub fn open<'a>(
        master: &MasterKey,
        origin: &Origin,
        keys: impl Iterator<Item = (&'a Key, Vec<u8>)>,
    ) -> Result<Self, Error> {
        let (trust_domain, issuer) = (origin.trust_domain.clone(), origin.issuer.clone());
        let (tokens, authorities, logs) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut ring = Self { trust_domain, issuer, tokens, authorities, logs };
        for (record, blob) in keys {
            let kid = record.kid.clone();
            match open(master, origin, record, &blob)? {
                Pair::Token(pair) => drop(ring.tokens.insert(kid, pair)),
                Pair::Authority(pair) => drop(ring.authorities.insert(kid, authority(record, pair)?)),
                Pair::Log(pair) => drop(ring.logs.insert(kid, pair)),
            }
        }
        Ok(ring)
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
            let other = if self.holds(&token.kid) { "is not for tokens" } else { "is not here" };
            internal("token_key", format!("token `{}` cannot be signed: key `{}` {other}", token.id, token.kid))
        })?;
        let mut input = signing_input(&token);
        let signature = pair.sign(&random(), input.as_bytes());
        let signature = signature.map_err(|_| internal("sign", format!("token `{}` could not be signed", token.id)))?;
        input.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut input);
        Ok(input)
    }

    /// Signs what came of a recorded revocation with the token key `kid`: a compact JWS. `signing_input` writes what is
    /// signed, header and claims, from the record and what was found since.
    ///
    /// # Errors
    /// There is no such key, or it is not for tokens.
    pub fn sign_receipt(
        &self,
        kid: &str,
        recorded: Prepared<CutRecord>,
        signing_input: impl FnOnce(&CutRecord) -> String,
    ) -> Result<String, Error> {
        let record = recorded.into_inner();
        let what = format!("the receipt of `{}`", record.revocation.id);
        self.jws(kid, signing_input(&record), &what)
    }

    /// Signs a recorded call ticket with the one key that its record names: a compact JWS.
    ///
    /// # Errors
    /// There is no such key, or it is not for tokens.
    pub fn sign_ticket(
        &self,
        recorded: Prepared<Ticket>,
        signing_input: impl FnOnce(&Ticket) -> String,
    ) -> Result<String, Error> {
        let ticket = recorded.into_inner();
        let what = format!("the ticket of `{}`", ticket.id);
        self.jws(&ticket.kid, signing_input(&ticket), &what)
    }

    /// A compact JWS over this input.
    fn jws(&self, kid: &str, mut input: String, what: &str) -> Result<String, Error> {
        let pair =
            self.tokens.get(kid).ok_or_else(|| internal("token_key", format!("token key `{kid}` is not here")))?;
        let signature = pair.sign(&random(), input.as_bytes());
        let signature = signature.map_err(|_| internal("sign", format!("{what} could not be signed")))?;
        input.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut input);
        Ok(input)
    }

    /// Signs the log's head with the log key `kid`: a checkpoint, as a signed note under the log's name.
    ///
    /// # Errors
    /// There is no such key, or it is not for the log.
    pub fn sign_checkpoint(&self, kid: &str, recorded: Prepared<Checkpoint>) -> Result<String, Error> {
        let pair = self.logs.get(kid).ok_or_else(|| internal("log_key", format!("log key `{kid}` is not here")))?;
        let checkpoint = recorded.into_inner();
        let text = note::text(&checkpoint);
        let key = VerifierKey::new(&checkpoint.origin, pair.public_key().as_ref())?;
        Ok(key.note(&text, pair.sign(text.as_bytes()).as_ref()))
    }

    /// Whether the key is here, for whatever purpose.
    pub fn holds(&self, kid: &str) -> bool {
        self.tokens.contains_key(kid) || self.authorities.contains_key(kid) || self.logs.contains_key(kid)
    }

    pub(super) fn authority(&self, kid: &str) -> Result<&Authority, Error> {
        self.authorities.get(kid).ok_or_else(|| internal("no_authority", format!("authority `{kid}` is not here")))
    }
}

fn open(master: &MasterKey, origin: &Origin, record: &Key, blob: &[u8]) -> Result<Pair, Error> {
    let pair = seal::open(master, &record.kid, origin, blob).and_then(|secret| key::parse(record.purpose, &secret));
    let same = |pair: &Pair| pair.public() == record.public && key::kid(&record.public) == record.kid;
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
    Ok(Authority { pair, certificate })
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut kids: Vec<_> = self.tokens.keys().chain(self.authorities.keys()).chain(self.logs.keys()).collect();
        kids.sort_unstable();
        f.debug_struct("KeyRing").field("kids", &kids).finish_non_exhaustive()
    }
}
