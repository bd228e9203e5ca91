//! DPoP (RFC 9449): tokens that are bound to a key, and the proofs that come with them.
//!
//! A proof is good for one request, for a minute. One that is older than ten seconds, or that could have been shown before
//! this broker began, has to repeat a nonce: it was handed out by this very process a few minutes ago at most, so the proof
//! was made since, and every proof that was shown since is known.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use super::presenter::{Presented, possession};
use super::{Asked, Broker};
use crate::domain::confirmation::Confirmation;
use crate::domain::decide::Caller;
use crate::domain::digest::Digest;
use crate::domain::error::Error;
use crate::domain::time::{Span, Timestamp};
use crate::format::dpop::{AHEAD, Proof, Target};
use crate::verifier::{Bounds, Proofs};

/// A proof without a nonce is younger.
const FRESH: Span = Span::seconds(10);
/// A nonce is handed out for so long, and good for as long again.
const NONCE: Span = Span::minutes(2);

/// What a broker knows of proofs: all that it was shown, and the key of its nonces.
pub(super) struct Dpop {
    nonces: hmac::Key,
    shown: Proofs,
    began: Timestamp,
}

/// A proof as it came, and where the request that it came with went.
#[derive(Clone)]
pub struct ShownProof<'a> {
    /// The compact JWS.
    pub proof: &'a str,
    /// The method of the request.
    pub method: &'a str,
    /// The places that it went to: one, or the names of one.
    pub places: Vec<Target>,
}

impl std::fmt::Debug for ShownProof<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShownProof").field("method", &self.method).finish_non_exhaustive()
    }
}

impl Dpop {
    /// Nothing was shown yet; nonces are this process's own.
    pub(super) fn new(seed: &[u8], now: Timestamp) -> Self {
        Self { nonces: hmac::Key::new(hmac::HMAC_SHA256, seed), shown: Proofs::default(), began: now }
    }

    fn nonce(&self, now: Timestamp) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.nonces, &bucket(now).to_be_bytes()))
    }

    fn is_recent(&self, nonce: &str, now: Timestamp) -> bool {
        let Ok(tag) = URL_SAFE_NO_PAD.decode(nonce) else { return false };
        [now, now.minus(NONCE)]
            .iter()
            .any(|then| hmac::verify(&self.nonces, &bucket(*then).to_be_bytes(), &tag).is_ok())
    }

    /// Holds if a proof that is not known here was never shown to anybody here.
    fn is_new(&self, proof: &Proof, now: Timestamp) -> Result<(), Error> {
        let why = match &proof.nonce {
            Some(nonce) if self.is_recent(nonce, now) => return Ok(()),
            Some(_) => "its nonce is over, or of another broker",
            None if now.since(proof.issued_at) > FRESH => "it was made more than 10 s ago",
            None if proof.issued_at <= self.began.plus(AHEAD) => "it may be of before the broker began",
            None => return Ok(()),
        };
        let message = format!("{why}: make another DPoP proof, with the nonce of this answer");
        Err(Error::denied("use_dpop_nonce", message))
    }
}

fn bucket(now: Timestamp) -> i64 {
    now.millis().div_euclid(NONCE.as_millis())
}

impl Broker {
    /// Where a caller reaches one of the broker's own calls: by the issuer's name, and by the address of join tokens.
    pub fn own_places(&self, rpc: &str) -> Vec<Target> {
        let address = self.address.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let place = |base: &str| Target::parse(&format!("{}{rpc}", base.trim_end_matches('/')));
        [self.origin.issuer.as_str(), &address].into_iter().filter_map(place).collect()
    }

    /// The nonce for the next proof.
    pub fn dpop_nonce(&self) -> String {
        self.dpop.nonce(self.ledger.now())
    }

    /// The key that a token is to be bound to, by its JWK thumbprint. Such a proof may be shown again: it gives nobody
    /// anything but its key's holder.
    ///
    /// # Errors
    /// `dpop_invalid`, `use_dpop_nonce`.
    pub fn proven_key(&self, shown: &ShownProof<'_>) -> Result<Digest, Error> {
        let (proof, now) = (Proof::read(shown.proof)?, self.ledger.now());
        proof.is_for(shown.method, &shown.places, None)?;
        proof.is_timely(now)?;
        match proof.nonce {
            Some(_) => self.dpop.is_new(&proof, now).map(|()| proof.key),
            None => Ok(proof.key),
        }
    }

    /// What an answer says for the next proof, if this was about a token that needs one.
    pub(super) fn next_nonce(&self, proof_came: bool, reason: Option<&str>) -> Option<String> {
        let is_about_one = proof_came || matches!(reason, Some("dpop_required" | "use_dpop_nonce"));
        is_about_one.then(|| self.dpop_nonce())
    }

    /// Holds if the token of these bounds is good at `now` in the hands of whoever showed it: with the proof of that, where
    /// it is one. The proof is still to be [spent](Self::spend).
    pub(super) fn in_hands(
        &self,
        asked: &Asked,
        shown: &Presented<'_>,
        bounds: &Bounds,
        now: Timestamp,
    ) -> Result<Option<Proof>, Error> {
        let Some(came) = &shown.proof else {
            return bounds.hold(possession(asked, shown).as_ref(), now).map(|()| None);
        };
        if !matches!(asked.caller, Caller::Agent(_) | Caller::Pep(_)) {
            return Err(Error::denied("possession", "this caller proves nothing by a DPoP proof; leave it out"));
        }
        let proof = Proof::read(came.proof)?;
        bounds.hold(Some(&Confirmation::Key(proof.key)), now)?;
        proof.is_for(came.method, &came.places, Some(shown.token))?;
        Ok(Some(proof))
    }

    /// Takes the proof, once and for all; or once more for the `request` of the same name by the same caller.
    pub(super) fn spend(
        &self,
        asked: &Asked,
        proof: &Proof,
        holder: &str,
        request: Option<Digest>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let request = request.and_then(|request| {
            let caller = asked.caller.presenter()?;
            let named = format!("{:?}\n{}\n{request}\n{}", caller.kind, caller.name, proof.digest);
            Some(Digest::of(named.as_bytes()))
        });
        self.dpop.shown.spend(proof, holder, request, now, |now| self.dpop.is_new(proof, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::dpop::tests::{Key, MADE};

    fn becomes(dpop: &Dpop, made: Timestamp, nonce: Option<&str>, now: Timestamp) -> &'static str {
        let proof = Key::new().proof(|draft| (draft.issued_at, draft.nonce) = (made, nonce));
        dpop.is_new(&Proof::read(&proof).unwrap(), now).map_or_else(|error| error.reason, |()| "")
    }

    #[test]
    fn a_nonce_is_good_for_two_to_four_minutes_and_by_its_own_broker() {
        let (dpop, other) = (Dpop::new(&[1; 32], MADE), Dpop::new(&[2; 32], MADE));
        for millis in [0, 1, 60_000, 119_999, 120_000, 777_777] {
            let given = MADE.plus(Span::millis(millis));
            let nonce = dpop.nonce(given);
            assert!(!other.is_recent(&nonce, given));
            assert!(dpop.is_recent(&nonce, given.plus(NONCE)), "{millis}");
            assert!(!dpop.is_recent(&nonce, given.plus(NONCE).plus(NONCE)), "{millis}");
            assert!(!dpop.is_recent(&nonce, given.minus(NONCE)), "{millis}: not before it is given");
        }
        for wrong in ["", "x", &dpop.nonce(MADE)[1..], &format!("{}=", dpop.nonce(MADE))] {
            assert!(!dpop.is_recent(wrong, MADE), "{wrong}");
        }
    }

    #[test]
    fn a_proof_that_may_have_been_shown_before_needs_a_nonce() {
        let dpop = Dpop::new(&[1; 32], MADE);
        let since = |seconds| MADE.plus(Span::seconds(seconds));
        // Somebody whose clock is five seconds ahead may have shown it to the process before.
        assert_eq!([5, 6].map(|made| becomes(&dpop, since(made), None, since(made))), ["use_dpop_nonce", ""]);
        // What is older than ten seconds has to be of lately all the same.
        assert_eq!([10, 11].map(|age| becomes(&dpop, since(60), None, since(60 + age))), ["", "use_dpop_nonce"]);
        let nonce = dpop.nonce(since(0));
        assert_eq!(becomes(&dpop, since(0), Some(&nonce), since(30)), "");
        assert_eq!(becomes(&dpop, since(600), Some(&nonce), since(600)), "use_dpop_nonce", "a stale one is no better");
        let foreign = Dpop::new(&[2; 32], MADE).nonce(since(600));
        assert_eq!(becomes(&dpop, since(600), Some(&foreign), since(600)), "use_dpop_nonce");
    }
}
