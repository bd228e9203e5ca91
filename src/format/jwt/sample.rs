//! A token and a key for tests.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

use super::signing_input;
use crate::domain::confirmation::Confirmation;
use crate::domain::digest::Digest;
use crate::domain::entropy::Entropy;
use crate::domain::grant::{Link, Token};
use crate::domain::id::{GrantId, TaskId, TokenId};
use crate::domain::name::TrustDomain;
use crate::domain::scope::Scopes;
use crate::domain::status::{self, StatusPlace};
use crate::domain::time::{Span, Timestamp};
use crate::format::{base64url, from_base64url};

/// When the sample is issued; it lasts 15 minutes.
pub(crate) const ISSUED: Timestamp = Timestamp::from_seconds(1_795_000_000);

/// A token of `coder`, to whom `planner` delegated, for `user:ana`.
pub(crate) fn token() -> Token {
    let mut entropy = Entropy::from_seed([5; 32]);
    let (root, grant) = (GrantId::mint(ISSUED, &mut entropy), GrantId::mint(ISSUED, &mut entropy));
    let link = |grant, agent: &str, owner: &str, subject: Option<&str>| Link {
        grant,
        agent: agent.parse().unwrap(),
        owner: owner.parse().unwrap(),
        subject: subject.map(|subject| subject.parse().unwrap()),
    };
    Token {
        id: TokenId::mint(ISSUED, &mut entropy),
        issuer: "https://broker.example".parse().unwrap(),
        subject: "user:ana".parse().unwrap(),
        audience: "https://tool.example".parse().unwrap(),
        issued_at: ISSUED,
        expires_at: ISSUED.plus(Span::minutes(15)),
        grant,
        task: TaskId::mint(ISSUED, &mut entropy),
        scopes: Scopes::parse(&["postgres:select@db/orders/*", "github:issues.*@org/repo"]).unwrap(),
        seq: 9_007_199_254_740_993,
        epoch: "e1".to_owned(),
        chain: vec![link(root, "planner", "team-a", Some("user:ana")), link(grant, "coder", "team-b", None)],
        confirmation: Confirmation::Certificate(Digest([7; 32])),
        key_hash: Digest([8; 32]),
        kid: "k1".to_owned(),
        status: Some(StatusPlace { list: status::first(ISSUED), index: 61 }),
    }
}

/// The sample's trust domain.
pub(crate) fn trust_domain() -> TrustDomain {
    "td.example".parse().unwrap()
}

/// A key that signs what it is given.
pub(crate) struct Key(EcdsaKeyPair);

impl Key {
    /// A fresh key.
    pub(crate) fn new() -> Self {
        let rng = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &rng).unwrap())
    }

    /// Its public point.
    pub(crate) fn point(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    /// `input` with its signature.
    pub(crate) fn sign(&self, input: &str) -> String {
        let signature = self.0.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", base64url(signature.as_ref()))
    }

    /// The sample, signed.
    pub(crate) fn token(&self) -> String {
        self.sign(&signing_input(&token(), &trust_domain()))
    }

    /// The sample with `change` made to the text of its claims, signed all the same.
    pub(crate) fn token_with(&self, change: impl FnOnce(String) -> String) -> String {
        let input = signing_input(&token(), &trust_domain());
        let (header, payload) = input.split_once('.').unwrap();
        let claims = change(String::from_utf8(from_base64url(payload).unwrap()).unwrap());
        self.sign(&format!("{header}.{}", base64url(claims.as_bytes())))
    }

    /// The sample under the header `header`, signed all the same.
    pub(crate) fn token_under(&self, header: &str) -> String {
        let input = signing_input(&token(), &trust_domain());
        let (_, payload) = input.split_once('.').unwrap();
        self.sign(&format!("{}.{payload}", base64url(header.as_bytes())))
    }
}
