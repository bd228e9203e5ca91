//! DPoP proofs (RFC 9449): by one, a caller proves for one request that it holds the key that its token is bound to.
//!
//! A proof brings its own key, so a good signature says nothing yet: it counts if the token is bound to that very key,
//! if the proof is for this request and token, new, and shown for the first time. The last two are for
//! [`crate::verifier::Proofs`].

mod target;
#[cfg(test)]
pub(crate) mod tests;

use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};

pub use target::Target;

use super::{base64url, from_base64url, jws};
use crate::domain::digest::Digest;
use crate::domain::error::Error;
use crate::domain::time::{Span, Timestamp};

/// A proof is good for so long after its `iat`, …
pub const LIFE: Span = Span::seconds(60);
/// … and its clock may be ahead by so much.
pub const AHEAD: Span = Span::seconds(5);

/// The media type without `application/`: by it no proof passes for a token.
const TYPE: &str = "dpop+jwt";
const ALGORITHM: &str = "ES256";
const LONGEST: usize = 8 * 1024;
/// The last second of the year 9999.
const END_OF_TIME: i64 = 253_402_300_799;
/// Members that only a private or a secret key has.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// A proof as it came, and the request that it came with, as whoever received that saw it.
#[derive(Clone, Copy)]
pub struct Received<'a> {
    /// The compact JWS.
    pub proof: &'a str,
    /// The method of the request.
    pub method: &'a str,
    /// Its URL; query and fragment do not count.
    pub url: &'a str,
}

impl std::fmt::Debug for Received<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Received").field("method", &self.method).finish_non_exhaustive()
    }
}

/// A proof whose signature holds, by the key that it brings along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The JWK thumbprint (RFC 7638, SHA-256) of its key.
    pub key: Digest,
    /// `jti`, 1 to 128 printable characters.
    pub id: String,
    /// `iat`, whole seconds.
    pub issued_at: Timestamp,
    /// `nonce`, if it has one.
    pub nonce: Option<String>,
    /// SHA-256 of what was signed: the same for every signature of one proof.
    pub digest: Digest,
    method: String,
    target: Target,
    token: Option<Digest>,
}

impl Proof {
    /// Reads a proof and checks its signature. Other claims and header members than those of RFC 9449 are passed over.
    ///
    /// # Errors
    /// `dpop_invalid`: what is wrong with it, and nothing that it says.
    pub fn read(text: &str) -> Result<Self, Error> {
        if text.len() > LONGEST {
            return Err(invalid("it has more than 8 KiB"));
        }
        let jws::Unproven { header, claims, signing_input, signature } = jws::read(text).map_err(invalid)?;
        if header["typ"] != TYPE {
            return Err(invalid("its `typ` is not `dpop+jwt`"));
        }
        if header["alg"] != ALGORITHM {
            return Err(invalid("its `alg` is not `ES256`, the only one that is accepted"));
        }
        if header.get("crit").is_some() {
            return Err(invalid("it has critical extensions, and none is known here"));
        }
        let point = point_of(&header["jwk"]).map_err(invalid)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point)
            .verify(signing_input.as_bytes(), &signature)
            .map_err(|_| invalid("its signature is not by its key"))?;
        let text = |name: &str, most: usize| claims[name].as_str().filter(|text| is_plain(text, most));
        let issued_at = claims["iat"].as_i64().filter(|seconds| (0..=END_OF_TIME).contains(seconds));
        Ok(Self {
            key: thumbprint(&point),
            id: text("jti", 128).ok_or_else(|| invalid("its `jti` is not 1 to 128 printable characters"))?.to_owned(),
            issued_at: issued_at
                .map(Timestamp::from_seconds)
                .ok_or_else(|| invalid("its `iat` is not a whole number of seconds since 1970"))?,
            nonce: maybe(&claims, "nonce", |text| is_plain(text, 256).then(|| text.to_owned()))?,
            digest: Digest::of(signing_input.as_bytes()),
            method: text("htm", 32).ok_or_else(|| invalid("its `htm` is not a method"))?.to_owned(),
            target: claims["htu"].as_str().and_then(Target::parse).ok_or_else(|| invalid("its `htu` is not a URL"))?,
            token: maybe(&claims, "ath", |text| from_base64url(text).and_then(|bytes| Digest::from_slice(&bytes)))?,
        })
    }

    /// Holds if it was made for a request of this method to one of these places, and with this token if there is one.
    ///
    /// # Errors
    /// `dpop_invalid`.
    pub fn is_for(&self, method: &str, places: &[Target], token: Option<&str>) -> Result<(), Error> {
        if self.method != method {
            return Err(invalid(&format!("its `htm` is not the request's method, `{method}`")));
        }
        if !places.contains(&self.target) {
            return Err(invalid("its `htu` is not the request's URL without query and fragment"));
        }
        match token.map(|token| Digest::of(token.as_bytes())) {
            Some(token) if self.token != Some(token) => Err(invalid("its `ath` is not that of the token")),
            _ => Ok(()),
        }
    }

    /// Holds if it was made within the last minute, by a clock that is ahead by five seconds at most.
    ///
    /// # Errors
    /// `dpop_invalid`.
    pub fn is_timely(&self, now: Timestamp) -> Result<(), Error> {
        if self.issued_at > now.plus(AHEAD) {
            return Err(invalid("its `iat` is in the future; check the clocks"));
        }
        match now.since(self.issued_at) > LIFE {
            true => Err(invalid("it was made more than 60 s ago; make one for each request")),
            false => Ok(()),
        }
    }
}

/// A proof that is to be signed.
#[derive(Clone, Copy)]
pub struct Draft<'a> {
    /// `jti`: nobody has used it before.
    pub id: &'a str,
    /// The request's method.
    pub method: &'a str,
    /// Its URL.
    pub url: &'a str,
    /// When it is made.
    pub issued_at: Timestamp,
    /// The token that goes with the request.
    pub token: Option<&'a str>,
    /// What the last answer asked to be repeated.
    pub nonce: Option<&'a str>,
}

impl Draft<'_> {
    /// What the holder of `point` (uncompressed P-256, 65 bytes) is to sign; none if that is no point, or the URL none.
    pub fn signing_input(&self, point: &[u8]) -> Option<String> {
        Target::parse(self.url)?;
        let (x, y) = halves(point)?;
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y) });
        let header = json!({ "typ": TYPE, "alg": ALGORITHM, "jwk": jwk });
        let place = self.url.find(['?', '#']).map_or(self.url, |end| &self.url[..end]);
        let mut claims = json!({ "jti": self.id, "htm": self.method, "htu": place, "iat": self.issued_at.seconds() });
        if let Some(token) = self.token {
            claims["ath"] = base64url(&Digest::of(token.as_bytes()).0).into();
        }
        if let Some(nonce) = self.nonce {
            claims["nonce"] = nonce.into();
        }
        Some(format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes())))
    }
}

/// A signing input with its signature: `r` and `s`, 32 bytes each.
pub fn signed(signing_input: &str, signature: &[u8]) -> String {
    format!("{signing_input}.{}", base64url(signature))
}

/// The JWK thumbprint (RFC 7638) of an uncompressed P-256 point, as `jkt` says it.
pub fn thumbprint(point: &[u8]) -> Digest {
    let (x, y) = halves(point).unwrap_or_default();
    let (x, y) = (base64url(x), base64url(y));
    Digest::of(format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#).as_bytes())
}

fn halves(point: &[u8]) -> Option<(&[u8], &[u8])> {
    let xy = point.strip_prefix(&[4]).filter(|xy| xy.len() == 64)?;
    Some(xy.split_at(32))
}

/// The public key of a header: P-256 and nothing else of it.
fn point_of(jwk: &Value) -> Result<Vec<u8>, &'static str> {
    if PRIVATE.iter().any(|member| jwk.get(member).is_some()) {
        return Err("its `jwk` is a private key, which is not secret any more; replace it, and send the public one");
    }
    let half = |name: &str| jwk[name].as_str().and_then(from_base64url).filter(|half| half.len() == 32);
    match (jwk["kty"].as_str(), jwk["crv"].as_str(), half("x"), half("y")) {
        (Some("EC"), Some("P-256"), Some(x), Some(y)) => Ok([&[4][..], &x, &y].concat()),
        _ => Err("its `jwk` is not a public P-256 key"),
    }
}

/// A claim that need not be there; of another kind it is refused, never taken as absent.
fn maybe<T>(claims: &Value, name: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Error> {
    let Some(claim) = claims.get(name) else { return Ok(None) };
    let read = claim.as_str().and_then(read);
    read.map(Some).ok_or_else(|| invalid(&format!("its `{name}` is not what RFC 9449 says")))
}

fn is_plain(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn invalid(why: &str) -> Error {
    Error::denied("dpop_invalid", format!("the DPoP proof is not good: {why}"))
}
