//! A JWT of a human's identity provider → the subject on whose behalf a task runs.
//!
//! The text is a secret: no refusal shows more of it than its issuer and the names of its claims, and it is kept
//! nowhere.

#[cfg(test)]
mod foreign;
#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

pub use crate::format::jwk::KeySet;

use crate::domain::error::{Code, Error};
use crate::domain::name::Line;
use crate::domain::time::{Span, Timestamp};
use crate::format::jwk::{Algorithm, Unfit};
use crate::format::jws::{self, Unproven};

/// How far the clock of an issuer may be ahead.
const AHEAD: Span = Span::seconds(60);
/// The last second of the year 9999.
const END_OF_TIME: f64 = 253_402_300_799.0;
/// The media types of ID and access tokens. Others, such as `logout+jwt`, say something else of the same person.
const TYPES: [&str; 4] = ["jwt", "application/jwt", "at+jwt", "application/at+jwt"];

/// An identity provider that is believed.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// `iss` of its tokens, byte for byte.
    pub issuer: String,
    /// What has to be in their `aud`: the broker, or the application that hands tokens on to agents.
    pub audience: String,
    /// The claim that names the human.
    pub claim: String,
    /// What stands before the name, so that two issuers that know one name mean two subjects.
    pub prefix: String,
    /// The keys that it signs with.
    pub keys: KeySet,
}

/// The identity providers that are believed now; replaced while requests are answered.
#[derive(Debug, Default)]
pub struct Issuers(RwLock<Arc<[Issuer]>>);

impl Issuers {
    /// These.
    pub fn new(issuers: Vec<Issuer>) -> Self {
        Self(RwLock::new(issuers.into()))
    }

    /// From the next token on.
    pub fn replace(&self, issuers: Vec<Issuer>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = issuers.into();
    }

    /// The subject that `token` proves, `now`. `own` is the broker's issuer: what it signed itself proves no human.
    ///
    /// # Errors
    /// No issuer is configured (`subject_unconfigured`); or one of `subject_malformed`, `subject_type`,
    /// `subject_issuer`, `subject_algorithm`, `subject_key`, `subject_signature`, `subject_audience`,
    /// `subject_expired`, `subject_early` and `subject_claim`.
    pub fn prove(&self, token: &str, own: &str, now: Timestamp) -> Result<Line, Error> {
        let issuers = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        if issuers.is_empty() {
            let message = "no identity provider is configured, so a task runs on behalf of nobody: add \
                           `[[subject_issuer]]` to the configuration (`belay config sample` shows how)";
            return Err(Error::new(Code::Invalid, "subject_unconfigured", message).on("on_behalf_of"));
        }
        let token = jws::read(token).map_err(|why| refused("subject_malformed", why))?;
        let issuer = issuer(&issuers, &token.claims, own)?;
        is_signed(&token, issuer)?;
        is_for_us(&token.claims, issuer)?;
        is_in_time(&token.claims, now)?;
        subject(&token.claims, issuer)
    }
}

/// Whose token it says it is. Nothing is proven by that: it chooses the keys against which it is held.
fn issuer<'a>(issuers: &'a [Issuer], claims: &Value, own: &str) -> Result<&'a Issuer, Error> {
    let name = claims["iss"].as_str().ok_or_else(|| refused("subject_issuer", "it has no `iss` that is a text"))?;
    if name == own {
        return Err(refused("subject_issuer", "this broker issued it; present one of the human's identity provider"));
    }
    issuers.iter().find(|known| known.issuer == name).ok_or_else(|| {
        let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
        refused("subject_issuer", &format!("its `iss`, `{shown}`, is none of the configured `[[subject_issuer]]`"))
    })
}

fn is_signed(token: &Unproven, issuer: &Issuer) -> Result<(), Error> {
    let header = &token.header;
    let kind = header.get("typ").map(|kind| kind.as_str().unwrap_or_default().to_ascii_lowercase());
    if kind.is_some_and(|kind| !TYPES.contains(&kind.as_str())) {
        return Err(refused("subject_type", "its `typ` is that of neither an ID token nor an access token"));
    }
    // RFC 7515, section 4.1.11: whoever does not understand all that is critical must refuse. Nothing is.
    if header.get("crit").is_some() || header.get("b64").is_some() {
        return Err(refused("subject_malformed", "its header has a `crit` or `b64`, which are not understood here"));
    }
    let algorithm = header["alg"].as_str().and_then(Algorithm::named);
    let algorithm =
        algorithm.ok_or_else(|| refused("subject_algorithm", "its `alg` is none of ES256, EdDSA, RS256 and PS256"))?;
    let kid = match header.get("kid") {
        None => None,
        Some(kid) => Some(kid.as_str().ok_or_else(|| refused("subject_malformed", "its `kid` is not a text"))?),
    };
    issuer.keys.verify(algorithm, kid, token.signing_input.as_bytes(), &token.signature).map_err(|unfit| match unfit {
        Unfit::Key(why) => refused("subject_key", why),
        Unfit::Signature => {
            refused("subject_signature", "its signature does not match; it was altered, or another key signed it")
        }
    })
}

fn is_for_us(claims: &Value, issuer: &Issuer) -> Result<(), Error> {
    let is_ours = |audience: &Value| audience == issuer.audience.as_str();
    let named = match &claims["aud"] {
        Value::Array(several) => several.iter().all(Value::is_string) && several.iter().any(is_ours),
        one => is_ours(one),
    };
    if named {
        Ok(())
    } else {
        Err(refused(
            "subject_audience",
            &format!("its `aud` does not name `{}`: it is for somebody else", issuer.audience),
        ))
    }
}

/// The broker's clock is not asked for grace at the end: a fresh token is easy to have.
fn is_in_time(claims: &Value, now: Timestamp) -> Result<(), Error> {
    let until = moment(claims, "exp")?.ok_or_else(|| refused("subject_expired", "it has no `exp`"))?;
    if until <= millis(now) {
        return Err(refused("subject_expired", "it has expired; present a fresh one"));
    }
    for claim in ["nbf", "iat"] {
        if moment(claims, claim)?.is_some_and(|from| from > millis(now.plus(AHEAD))) {
            let why = format!("its `{claim}` is more than 60 s ahead; compare the clocks of its issuer and the broker");
            return Err(refused("subject_early", &why));
        }
    }
    Ok(())
}

/// A NumericDate in milliseconds: RFC 7519, section 2, lets it have a fraction.
fn moment(claims: &Value, claim: &str) -> Result<Option<f64>, Error> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| (0.0..=END_OF_TIME).contains(seconds));
    let wrong = || refused("subject_malformed", &format!("its `{claim}` is not a moment between 1970 and 9999"));
    seconds.map(|seconds| Some(seconds * 1000.0)).ok_or_else(wrong)
}

/// Exact for every moment up to the year 9999.
#[expect(clippy::cast_precision_loss, reason = "milliseconds up to the year 9999 have 48 bits, and an `f64` holds 53")]
fn millis(moment: Timestamp) -> f64 {
    moment.millis() as f64
}

fn subject(claims: &Value, issuer: &Issuer) -> Result<Line, Error> {
    let claim = &issuer.claim;
    // What happened to a person is no proof that the person is there (OpenID Connect Back-Channel Logout 1.0, section 2.4).
    if claims.get("events").is_some() {
        return Err(refused("subject_type", "it has `events`: it reports something and is no ID or access token"));
    }
    let name = claims.get(claim).and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| refused("subject_claim", &format!("its `{claim}` is missing or is not a text")))?;
    // Whoever may write any address into a profile would be anybody.
    if claim == "email" && claims.get("email_verified").is_some_and(|verified| *verified != true) {
        return Err(refused("subject_claim", "its `email_verified` is not true"));
    }
    let subject = format!("{}{name}", issuer.prefix);
    if subject.starts_with("spiffe://") {
        return Err(refused(
            "subject_claim",
            &format!("its `{claim}` names a workload, and a task runs on behalf of a person"),
        ));
    }
    subject.parse().map_err(|_| {
        let why = "is not one line of at most 256 visible characters, its prefix included";
        refused("subject_claim", &format!("its `{claim}` {why}"))
    })
}

fn refused(reason: &'static str, why: &str) -> Error {
    Error::denied(reason, format!("the token in `--on-behalf-of` is refused: {why}")).on("on_behalf_of")
}
