//! Public keys for others: the token keys as a JWKS (RFC 7517), the roots as a SPIFFE trust bundle.
//!
//! The two are kept apart. Token keys are no `jwt-svid` keys, and a reader that took them for such
//! would accept our access tokens as identities.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{base64url, from_base64url, json};
use crate::domain::error::{Code, Error};

const LONGEST: usize = 256 * 1024;
const POINT: usize = 65;

/// Token keys as a JWKS: each a key id and an uncompressed P-256 point (65 bytes).
pub fn jwks<'a>(keys: impl Iterator<Item = (&'a str, &'a [u8])>) -> Value {
    let key = |(kid, point): (&str, &[u8])| {
        let mut key = ec(point);
        key["use"] = "sig".into();
        key["alg"] = "ES256".into();
        key["kid"] = kid.into();
        key
    };
    json!({ "keys": keys.map(key).collect::<Vec<_>>() })
}

/// The roots of the trust domain as a SPIFFE bundle (SPIFFE Trust Domain and Bundle, section 4).
///
/// `sequence` grows with every change; `refresh_hint` is in seconds.
///
/// # Errors
/// A root is not a certificate with a P-256 key: a defect of ours.
pub fn trust_bundle<'a>(
    roots: impl Iterator<Item = &'a [u8]>,
    sequence: u64,
    refresh_hint: u32,
) -> Result<Value, Error> {
    let keys = roots.map(root).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({ "keys": keys, "spiffe_sequence": sequence, "spiffe_refresh_hint": refresh_hint }))
}

fn root(der: &[u8]) -> Result<Value, Error> {
    let wrong = || Error::new(Code::Internal, "root_malformed", "a root is not a certificate with a P-256 key");
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| wrong())?;
    let point = certificate.public_key().subject_public_key.as_ref();
    if point.len() != POINT || point[0] != 4 {
        return Err(wrong());
    }
    let mut key = ec(point);
    key["use"] = "x509-svid".into();
    key["x5c"] = json!([STANDARD.encode(der)]);
    Ok(key)
}

fn ec(point: &[u8]) -> Value {
    let half = |range| base64url(point.get(range).unwrap_or_default());
    json!({ "kty": "EC", "crv": "P-256", "x": half(1..33), "y": half(33..POINT) })
}

/// The token keys in a JWKS: key ids and uncompressed P-256 points, ready for [`crate::verifier::Keys`].
///
/// Keys for other uses are passed over. That a point lies on the curve is found at the first signature.
///
/// # Errors
/// Not a JWKS, too long, a private key inside, one key id twice, or no token key at all.
pub fn keys_of(jwks: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let wrong =
        |why: &str| Error::new(Code::Invalid, "malformed", format!("the key set is not valid: {why}")).on("jwks");
    if jwks.len() > LONGEST {
        return Err(wrong("at most 256 KiB"));
    }
    let set = json::strict(jwks.as_bytes()).map_err(|_| wrong("it is not JSON with each member once"))?;
    let list = set["keys"].as_array().ok_or_else(|| wrong("it has no `keys`"))?;
    let mut keys: Vec<(String, Vec<u8>)> = Vec::new();
    for key in list {
        if ["d", "k", "p", "q"].iter().any(|private| key.get(private).is_some()) {
            return Err(wrong("it holds a private or secret key; publish public keys only, and replace that one"));
        }
        let token_key = [("kty", "EC"), ("crv", "P-256"), ("use", "sig"), ("alg", "ES256")];
        if token_key.iter().any(|(member, value)| key[member] != *value) {
            continue;
        }
        let kid = key["kid"].as_str().filter(|kid| !kid.is_empty()).ok_or_else(|| wrong("a token key has no `kid`"))?;
        if keys.iter().any(|(known, _)| known == kid) {
            return Err(wrong("one `kid` is given twice"));
        }
        let point = point(key).ok_or_else(|| wrong("a token key's `x` or `y` is not 32 bytes of base64url"))?;
        keys.push((kid.to_owned(), point));
    }
    if keys.is_empty() {
        return Err(wrong("it holds no ES256 key for signatures"));
    }
    Ok(keys)
}

fn point(key: &Value) -> Option<Vec<u8>> {
    let half = |member: &str| key[member].as_str().and_then(from_base64url).filter(|half| half.len() == 32);
    Some([&[4][..], &half("x")?, &half("y")?].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Vec<u8>, Value) {
        let point: Vec<u8> = std::iter::once(4).chain(1..=64).collect();
        let set = jwks([("k1", &point[..])].into_iter());
        (point, set)
    }

    #[test]
    fn a_jwks_reads_back() {
        let (point, set) = sample();
        assert_eq!(keys_of(&set.to_string()).unwrap(), [("k1".to_owned(), point)]);
        assert_eq!(
            set["keys"][0],
            json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "k1",
            "x": "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA", "y": "ISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0-P0A" })
        );
    }

    #[test]
    fn only_public_token_keys_are_taken() {
        let (_, set) = sample();
        let with = |member: &str, value: Value| {
            let mut set = set.clone();
            set["keys"][0][member] = value;
            keys_of(&set.to_string())
        };
        assert!(with("note", "unknown members are passed over".into()).is_ok());
        for (member, value) in [
            ("d", json!("AA")),
            ("k", json!("AA")),
            ("use", json!("enc")),
            ("use", json!("jwt-svid")),
            ("use", Value::Null),
            ("alg", json!("HS256")),
            ("crv", json!("P-384")),
            ("kty", json!("oct")),
            ("kid", json!("")),
            ("kid", json!(1)),
            ("x", json!("AA")),
            ("y", json!("ISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0-P0A=")),
            ("y", json!(7)),
        ] {
            assert!(with(member, value.clone()).is_err(), "{member} {value}");
        }
        assert!(keys_of(&format!("{set}{}", " ".repeat(LONGEST))).is_err());
        let twice = json!({ "keys": [set["keys"][0], set["keys"][0]] }).to_string();
        let doubled = set.to_string().replacen("\"kid\":", "\"kid\":\"k2\",\"kid\":", 1);
        for wrong in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[]}"#, r#"{"keys":[1]}"#, &twice, &doubled] {
            assert!(keys_of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_trust_bundle_holds_roots_and_no_token_key() {
        let key = rcgen::KeyPair::generate().unwrap();
        let root = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        let bundle = trust_bundle([&root.der()[..]].into_iter(), 7, 300).unwrap();
        assert_eq!((&bundle["spiffe_sequence"], &bundle["spiffe_refresh_hint"]), (&json!(7), &json!(300)));
        assert_eq!(bundle["keys"][0]["use"], "x509-svid");
        assert_eq!(bundle["keys"][0]["x5c"], json!([STANDARD.encode(root.der())]));
        assert_eq!(bundle["keys"][0]["kid"], Value::Null);
        assert!(keys_of(&bundle.to_string()).is_err());
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let other = rcgen::CertificateParams::default().self_signed(&other).unwrap();
        assert!(trust_bundle([&other.der()[..]].into_iter(), 1, 1).is_err());
        assert!(trust_bundle([&b"no"[..]].into_iter(), 1, 1).is_err());
    }
}
