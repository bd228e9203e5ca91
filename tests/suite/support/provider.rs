//! An identity provider: keys made here and now, its key set, and the tokens that it signs for humans.

use std::path::Path;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

pub const ISSUER: &str = "https://login.example";
pub const AUDIENCE: &str = "belay";

pub struct Provider {
    key: EcdsaKeyPair,
    kid: String,
}

impl Provider {
    /// With a key of this id.
    pub fn new(kid: &str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        Self { key, kid: kid.to_owned() }
    }

    /// What it publishes.
    pub fn jwks(&self) -> Value {
        let point = self.key.public_key().as_ref();
        json!({ "keys": [{ "kty": "EC", "crv": "P-256", "use": "sig", "kid": self.kid,
            "x": base64url(&point[1..33]), "y": base64url(&point[33..]) }] })
    }

    /// The lines of a configuration that believes it, with its key set in `jwks`.
    pub fn lines(&self, jwks: &Path) -> String {
        format!("[[subject_issuer]]\nissuer = '{ISSUER}'\naudience = '{AUDIENCE}'\njwks = '{}'\n", jwks.display())
    }

    /// A token for this human.
    pub fn token(&self, subject: &str) -> String {
        self.token_with(subject, |_| {})
    }

    /// The same, with something about its claims changed.
    pub fn token_with(&self, subject: &str, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = claims(subject);
        change(&mut claims);
        let header = json!({ "typ": "JWT", "alg": "ES256", "kid": self.kid });
        let input = signing_input(&header, &claims);
        let signature = self.key.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", base64url(signature.as_ref()))
    }
}

/// What a token for this human says, good for five minutes.
pub fn claims(subject: &str) -> Value {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 300 })
}

/// What is signed.
pub fn signing_input(header: &Value, claims: &Value) -> String {
    format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()))
}

pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
