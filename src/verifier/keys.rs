//! By its signature alone: is this one of the broker's tokens, for us, still in time, and in its holder's hands?
//!
//! Needs the token keys and the ledger's epoch; opens no connection, whatever a token says. What was revoked since is
//! for [`super::Verifier`], or for the broker.

use crate::domain::confirmation::Confirmation;
use crate::domain::digest::Digest;
use crate::domain::error::Error;
use crate::domain::id::{InvocationId, TokenId};
use crate::domain::name::Audience;
use crate::domain::time::{SKEW, Timestamp};
use crate::format::jwt::{self, Claims};
use crate::format::ticket;

/// The keys by which tokens are signed, and what else never changes of the broker.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The broker, as its tokens name it in `iss`.
    pub issuer: Audience,
    /// The ledger's epoch: after a restore, tokens of the old one are refused.
    pub epoch: String,
    /// The token keys: key id and uncompressed P-256 point, as [`crate::format::bundle::keys_of`] reads them.
    pub keys: Vec<(String, Vec<u8>)>,
}

impl Keys {
    /// The claims of `token`, if it is good at `now`.
    ///
    /// `audience` is who asks; `None` leaves the question to the caller. `presented` is the SHA-256 of the
    /// certificate that the presenter proved to hold; `None` says that nothing was proven, and possession is
    /// not checked: then the token is worth no more than its secrecy. No certificate proves a token that is bound to a key.
    ///
    /// # Errors
    /// `token_malformed`, `token_type`, `token_algorithm`, `key_unknown`, `signature`, `token_issuer`,
    /// `token_epoch`, `token_audience`, `token_expired`, `token_not_yet_valid`, `possession`, `dpop_required`.
    pub fn check(
        &self,
        token: &str,
        audience: Option<&Audience>,
        presented: Option<&Digest>,
        now: Timestamp,
    ) -> Result<Claims, Error> {
        let claims = self.read(token)?;
        if let Some(audience) = audience.filter(|audience| **audience != claims.audience) {
            let message = format!("token `{}` is for `{}`, not for `{audience}`", claims.id, claims.audience);
            return Err(Error::denied("token_audience", message));
        }
        let presented = presented.copied().map(Confirmation::Certificate);
        Bounds::of(&claims).hold(presented.as_ref(), now)?;
        Ok(claims)
    }

    /// The claims of `token` if one of the keys signed it for this broker: what is as true at the next time
    /// that it is asked. Whether it is in time, and in its holder's hands, is not looked at: [`Bounds::hold`].
    ///
    /// # Errors
    /// `token_malformed`, `token_type`, `token_algorithm`, `key_unknown`, `signature`, `token_issuer`, `token_epoch`.
    pub fn read(&self, token: &str) -> Result<Claims, Error> {
        let token = jwt::parse(token)?;
        let key = self.keys.iter().find(|(kid, _)| kid == token.kid());
        let (_, point) = key.ok_or_else(|| {
            Error::denied(
                "key_unknown",
                "the token is signed with a key that is not known here; fetch the key set again",
            )
        })?;
        let claims = token.verify(point)?;
        self.is_ours(&claims)?;
        Ok(claims)
    }

    /// The call that a ticket is for, if one of the keys signed it. Whether it is still good is the broker's to say.
    ///
    /// # Errors
    /// `token_malformed`, `token_type`, `token_algorithm`, `key_unknown`, `signature`.
    pub fn ticket(&self, ticket: &str) -> Result<InvocationId, Error> {
        ticket::read(ticket, &self.keys)
    }

    /// Whether a key is known: once it is not, nothing that it signed is good, however often it was seen.
    pub fn knows(&self, kid: &str) -> bool {
        self.keys.iter().any(|(known, _)| known == kid)
    }

    fn is_ours(&self, claims: &Claims) -> Result<(), Error> {
        if claims.issuer != self.issuer {
            let message = format!("token `{}` is of `{}`, not of `{}`", claims.id, claims.issuer, self.issuer);
            return Err(Error::denied("token_issuer", message));
        }
        if claims.epoch != self.epoch {
            let message = format!("token `{}` is from before the ledger was restored; ask for a new one", claims.id);
            return Err(Error::denied("token_epoch", message));
        }
        Ok(())
    }
}

/// What of a token has to be asked again each time that it is presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Its `jti`.
    pub id: TokenId,
    /// When it begins.
    pub issued_at: Timestamp,
    /// When it is over, exclusive.
    pub expires_at: Timestamp,
    /// What whoever presents it has to hold.
    pub confirmation: Confirmation,
}

impl Bounds {
    /// Those of a token whose signature holds.
    pub fn of(claims: &Claims) -> Self {
        let Claims { id, issued_at, expires_at, confirmation, .. } = *claims;
        Self { id, issued_at, expires_at, confirmation }
    }

    /// Holds at `now`, in the hands of whoever proved to hold what is `presented`, if that was asked: exactly that which
    /// the token is bound to. A proof of another kind proves nothing, whatever it proves.
    ///
    /// # Errors
    /// `token_expired`, `token_not_yet_valid`, `possession`, `dpop_required`.
    pub fn hold(&self, presented: Option<&Confirmation>, now: Timestamp) -> Result<(), Error> {
        let Self { id, issued_at, expires_at, confirmation } = self;
        if now >= *expires_at {
            return Err(Error::denied(
                "token_expired",
                format!("token `{id}` expired at {expires_at}; ask for a new one"),
            ));
        }
        if *issued_at > now.plus(SKEW) {
            let message = format!("token `{id}` begins at {issued_at}; check the clocks");
            return Err(Error::denied("token_not_yet_valid", message));
        }
        let (reason, why) = match (presented, confirmation) {
            (None, _) => return Ok(()),
            (Some(presented), bound) if presented == bound => return Ok(()),
            (Some(Confirmation::Certificate(_)), Confirmation::Certificate(_)) => {
                ("possession", "is bound to another certificate than the one presented with it")
            }
            (Some(Confirmation::Key(_)), Confirmation::Key(_)) => {
                ("possession", "is bound to another key than that of the DPoP proof")
            }
            (Some(Confirmation::Key(_)), Confirmation::Certificate(_)) => {
                ("possession", "is bound to a certificate; leave the DPoP proof out")
            }
            (Some(Confirmation::Certificate(_)), Confirmation::Key(_)) => {
                ("dpop_required", "is bound to a key; show a DPoP proof for this request with it")
            }
        };
        Err(Error::denied(reason, format!("token `{id}` {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Span;
    use crate::format::jwt::sample::{self, ISSUED, Key};

    /// What the sample is bound to.
    const HELD: Digest = Digest([7; 32]);

    fn keys(key: &Key) -> Keys {
        let sample = sample::token();
        let other = ("k0".to_owned(), Key::new().point().to_vec());
        Keys { issuer: sample.issuer, epoch: sample.epoch, keys: vec![other, (sample.kid, key.point().to_vec())] }
    }

    #[test]
    fn a_good_token_is_accepted() {
        let (key, sample) = (Key::new(), sample::token());
        let check = |presented| keys(&key).check(&key.token(), Some(&sample.audience), presented, ISSUED);
        assert_eq!(check(Some(&HELD)).unwrap().id, sample.id);
        assert!(check(None).is_ok());
        assert!(keys(&key).check(&key.token(), None, None, ISSUED).is_ok());
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let (key, sample) = (Key::new(), sample::token());
        let other: Audience = "other".parse().unwrap();
        let good = keys(&key);
        let check = |keys: &Keys, audience: &Audience, presented| {
            keys.check(&key.token(), Some(audience), Some(&presented), ISSUED).unwrap_err().reason
        };
        let cases = [
            (check(&good, &other, HELD), "token_audience"),
            (check(&good, &sample.audience, Digest::of(b"another certificate")), "possession"),
            (check(&Keys { issuer: other.clone(), ..good.clone() }, &sample.audience, HELD), "token_issuer"),
            (check(&Keys { epoch: "e2".to_owned(), ..good.clone() }, &sample.audience, HELD), "token_epoch"),
            (check(&Keys { keys: Vec::new(), ..good.clone() }, &sample.audience, HELD), "key_unknown"),
            (check(&keys(&Key::new()), &sample.audience, HELD), "signature"),
        ];
        for (reason, expected) in cases {
            assert_eq!(reason, expected);
        }
    }

    #[test]
    fn a_token_is_honoured_for_what_it_is_bound_to_alone() {
        let held = [Confirmation::Certificate(HELD), Confirmation::Key(HELD)];
        let others = [Confirmation::Certificate(Digest::of(b"x")), Confirmation::Key(Digest::of(b"x"))];
        let bounds = |confirmation| {
            let token = sample::token();
            Bounds { id: token.id, issued_at: token.issued_at, expires_at: token.expires_at, confirmation }
        };
        let asked = |bound, shown| bounds(bound).hold(Some(&shown), ISSUED).map_or_else(|error| error.reason, |()| "");
        let [certificate, key] = held;
        assert_eq!(
            [certificate, key, others[0], others[1]].map(|shown| asked(certificate, shown)),
            ["", "possession", "possession", "possession"]
        );
        assert_eq!(
            [certificate, key, others[0], others[1]].map(|shown| asked(key, shown)),
            ["dpop_required", "", "dpop_required", "possession"]
        );
    }

    #[test]
    fn a_key_id_is_compared_and_nothing_else() {
        let key = Key::new();
        for kid in ["", "K1", "k1 ", "../k1", "k1' or '1'='1", "k1\\u0000", &"k".repeat(10_000)] {
            let text = key.token_under(&format!(r#"{{"typ":"at+jwt","alg":"ES256","kid":"{kid}"}}"#));
            assert_eq!(keys(&key).check(&text, None, None, ISSUED).unwrap_err().reason, "key_unknown", "{kid:.20}");
        }
        let text = key.token_under(r#"{"typ":"at+jwt","alg":"ES256","kid":"k0"}"#);
        assert_eq!(keys(&key).check(&text, None, None, ISSUED).unwrap_err().reason, "signature");
    }

    #[test]
    fn a_token_is_good_from_issue_to_just_before_expiry() {
        let (key, end) = (Key::new(), sample::token().expires_at);
        let at = |now| keys(&key).check(&key.token(), None, None, now).map_or_else(|error| error.reason, |_| "good");
        let instant = Span::millis(1);
        assert_eq!(
            (at(end.minus(instant)), at(end), at(end.plus(instant))),
            ("good", "token_expired", "token_expired")
        );
        let earliest = ISSUED.minus(SKEW);
        assert_eq!((at(earliest), at(earliest.minus(instant))), ("good", "token_not_yet_valid"));
    }
}
