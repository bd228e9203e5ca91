//! Tokens: signed after they are recorded, checked against live state.

use super::presenter::{Presented, possession};
use super::{Asked, Broker};
use crate::domain::decide::{TokenAnswer, judge};
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::grant::{Credential, Token};
use crate::domain::id::TokenId;
use crate::domain::name::Audience;
use crate::domain::prepared::Prepared;
use crate::domain::time::Timestamp;
use crate::format::jwt::{self, Claims};
use crate::ledger::Point;
use crate::verifier::Bounds;

/// Tokens whose signature is remembered, in each of two halves; both hold some 3 MB when full.
pub(super) const SEEN: usize = 8192;

/// A token whose signature was good.
#[derive(Debug)]
pub(super) struct Signed {
    /// The key.
    kid: String,
    /// For whom it is.
    audience: Audience,
    /// Whose it is.
    holder: String,
    /// What to ask of it each time.
    bounds: Bounds,
}

/// A signed token, a secret.
pub struct SignedToken {
    /// Its `jti`.
    pub id: TokenId,
    /// The compact JWS.
    pub token: String,
    /// Its end.
    pub expires_at: Timestamp,
}

/// What a check of a token comes to.
#[derive(Debug)]
pub struct Checked {
    /// Stable word and line: why it is not active; none if it is.
    pub refusal: Option<(&'static str, String)>,
    /// Its claims, if the signature is ours.
    pub claims: Option<Claims>,
    /// Whether the caller proved to hold the bound key.
    pub proven: bool,
    /// The nonce for the next DPoP proof, where the token needs one.
    pub nonce: Option<String>,
}

impl Broker {
    /// Signs what a decision recorded, now or earlier.
    ///
    /// # Errors
    /// The event cannot be read, or the key is not in the ring.
    pub fn sign_token(&self, answer: TokenAnswer) -> Result<SignedToken, Error> {
        let recorded: Prepared<Token> = match answer {
            TokenAnswer::New(recorded) => *recorded,
            TokenAnswer::Again(_, seq) => self.ledger.recorded_token(seq)?,
        };
        Point::BeforeSigning.reached();
        let (id, expires_at) = (recorded.get().id, recorded.get().expires_at);
        let domain = &self.origin.trust_domain;
        let kid = &recorded.get().kid;
        let keys = self.keys.holding(kid, &self.ledger, &self.origin)?;
        if self.ledger.view(|view| view.is_tainted(kid)) {
            let message = format!("the key of token `{id}` was tainted just now; ask for a new one");
            return Err(Error::new(Code::Unavailable, "key_tainted", message));
        }
        let token = keys.ring.sign_token(recorded, |token| jwt::signing_input(token, domain))?;
        Point::Signed.reached();
        Ok(SignedToken { id, token, expires_at })
    }

    /// Checks a token: signature, times, who holds it, and whether its chain is live.
    pub fn check<'a>(&self, asked: &Asked, shown: impl Into<Presented<'a>>) -> Checked {
        let (shown, now) = (shown.into(), self.ledger.now());
        match self.read(asked, &shown, now) {
            Err(error) => {
                let nonce = self.next_nonce(shown.proof.is_some(), Some(error.reason));
                Checked { refusal: Some((error.reason, error.message)), claims: None, proven: false, nonce }
            }
            Ok(claims) => {
                let verdict = self.ledger.view(|view| judge(&view, now, Credential::Token(claims.id), None));
                let refusal = if verdict.allowed { None } else { verdict.reasons.into_iter().next() };
                Checked {
                    refusal: refusal.map(|reason| (reason.code, reason.message)),
                    claims: Some(claims),
                    proven: possession(asked, &shown).is_some(),
                    nonce: self.next_nonce(shown.proof.is_some(), None),
                }
            }
        }
    }

    fn read(&self, asked: &Asked, shown: &Presented<'_>, now: Timestamp) -> Result<Claims, Error> {
        let claims = self.keys.current().verifier.read(shown.token)?;
        self.is_for(asked, &claims.audience)?;
        let proof = self.in_hands(asked, shown, &Bounds::of(&claims), now)?;
        self.is_presentable(shown, now)?;
        if let Some(proof) = proof {
            self.spend(asked, &proof, &claims.client_id, None, now)?;
        }
        Ok(claims)
    }

    /// The token's id, if it is ours, in time and in its holder's hands. Its signature is checked once.
    /// The proof that came with it is spent, for the `request` of this name if it has one.
    pub(super) fn verify(
        &self,
        asked: &Asked,
        shown: &Presented<'_>,
        request: Option<Digest>,
        now: Timestamp,
    ) -> Result<TokenId, Error> {
        let text = Digest::of(shown.token.as_bytes());
        let keys = self.keys.current();
        let known = self.signed.find(&text).filter(|known| keys.verifier.knows(&known.kid));
        let signed = match known {
            Some(known) => known,
            None => {
                let claims = keys.verifier.read(shown.token)?;
                let (bounds, audience, holder) = (Bounds::of(&claims), claims.audience, claims.client_id);
                self.signed.put(text, Signed { bounds, audience, holder, kid: claims.kid })
            }
        };
        self.is_for(asked, &signed.audience)?;
        let proof = self.in_hands(asked, shown, &signed.bounds, now)?;
        self.is_presentable(shown, now)?;
        if let Some(proof) = proof {
            self.spend(asked, &proof, &signed.holder, request, now)?;
        }
        Ok(signed.bounds.id)
    }
}
