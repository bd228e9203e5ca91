//! From a text to an [`Unverified`] token: shape only, and nothing to act on yet.
//!
//! The header names a key id and nothing else: no key, no address, no extension. One token has one text,
//! so padding, stray bits and doubled members are refused (RFC 8725, sections 2.4 and 3).

use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};

use super::{ALGORITHM, Claims, Header, TYPES};
use crate::domain::error::Error;
use crate::format::{from_base64url, json};

const LONGEST: usize = 48 * 1024;

/// A token that was read and not checked: anybody may have written it.
pub struct Unverified {
    kid: String,
    header: Value,
    claims: Value,
    signing_input: String,
    signature: Vec<u8>,
}

/// Reads a token's shape.
///
/// # Errors
/// `token_malformed`, `token_type`, `token_algorithm`.
pub fn parse(text: &str) -> Result<Unverified, Error> {
    parse_as(text, &TYPES, "present an access token")
}

/// The same for a JWS of the broker's that is no access token: of one of these types alone.
pub(crate) fn parse_as(text: &str, types: &[&str], remedy: &str) -> Result<Unverified, Error> {
    if text.len() > LONGEST {
        return Err(malformed("it has more than 48 KiB"));
    }
    let (signing_input, signature) = text.rsplit_once('.').ok_or_else(|| malformed("it has not three parts"))?;
    let (header, payload) = signing_input.split_once('.').ok_or_else(|| malformed("it has not three parts"))?;
    let header = object(header, "its header")?;
    if !types.iter().any(|known| header["typ"] == *known) {
        return Err(Error::denied("token_type", format!("the token's `typ` is not `{}`; {remedy}", types[0])));
    }
    if header["alg"] != ALGORITHM {
        return Err(Error::denied(
            "token_algorithm",
            "the token's `alg` is not `ES256`, the only one that is accepted",
        ));
    }
    let known: Result<Header, _> = serde_json::from_value(header.clone());
    let known = known.map_err(|_| malformed("its header holds something other than `typ`, `alg` and a `kid`"))?;
    let claims = object(payload, "its payload")?;
    let signature = from_base64url(signature).ok_or_else(|| malformed("its signature is not base64url"))?;
    Ok(Unverified { kid: known.kid, header, claims, signing_input: signing_input.to_owned(), signature })
}

impl Unverified {
    /// The key that the token says it is signed with.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Header and claims as written, to be shown; nothing in them is proven.
    pub fn inspect(&self) -> Value {
        json!({ "header": self.header, "claims": self.claims })
    }

    /// All that was signed, if the holder of `public_point` signed exactly this text.
    pub(crate) fn proven(self, public_point: &[u8]) -> Result<Value, Error> {
        check(public_point, &self.signing_input, &self.signature)?;
        Ok(self.claims)
    }

    /// The claims, if the holder of `public_point` (uncompressed P-256, 65 bytes) signed exactly this text.
    ///
    /// Says nothing of time, audience or revocation; that is the verifier's part.
    ///
    /// # Errors
    /// `signature`, or `token_malformed` where a claim is missing or has another type.
    pub fn verify(self, public_point: &[u8]) -> Result<Claims, Error> {
        check(public_point, &self.signing_input, &self.signature)?;
        Claims::read(self.kid, self.claims)
    }
}

impl std::fmt::Debug for Unverified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unverified").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// The signature is `r` and `s`, 32 bytes each (RFC 7518, section 3.4), over the text as received.
pub(super) fn check(public_point: &[u8], signing_input: &str, signature: &[u8]) -> Result<(), Error> {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public_point).verify(signing_input.as_bytes(), signature).map_err(
        |_| {
            Error::denied("signature", "the token's signature does not match; it was altered, or another key signed it")
        },
    )
}

fn object(part: &str, name: &str) -> Result<Value, Error> {
    let bytes = from_base64url(part).ok_or_else(|| malformed(&format!("{name} is not base64url without padding")))?;
    let value = json::strict(&bytes).ok().filter(Value::is_object);
    value.ok_or_else(|| malformed(&format!("{name} is not a JSON object with each member once")))
}

/// Tells nothing of the text: whoever reads the log is not its holder.
pub(super) fn malformed(why: &str) -> Error {
    Error::denied("token_malformed", format!("the token is malformed: {why}"))
}

#[cfg(test)]
mod tests {
    use super::super::sample::Key;
    use super::*;
    use crate::format::base64url;

    fn reason(text: &str) -> &'static str {
        parse(text).map_or_else(|error| error.reason, |_| "")
    }

    #[test]
    fn a_token_verifies_with_its_key_alone() {
        let (key, other) = (Key::new(), Key::new());
        let text = key.token();
        assert_eq!(parse(&text).unwrap().kid(), "k1");
        assert_eq!(parse(&text).unwrap().inspect()["claims"]["sub"], "user:ana");
        assert!(parse(&text).unwrap().verify(key.point()).is_ok());
        for point in [other.point(), &key.point()[..64], &[], &[0; 65]] {
            assert_eq!(parse(&text).unwrap().verify(point).unwrap_err().reason, "signature");
        }
        assert!(parse(&key.token_under(r#"{"typ":"application/at+jwt","alg":"ES256","kid":"k1"}"#)).is_ok());
    }

    #[test]
    fn the_header_chooses_nothing() {
        let key = Key::new();
        let cases = [
            (r#"{"typ":"at+jwt","alg":"none","kid":"k1"}"#, "token_algorithm"),
            (r#"{"typ":"at+jwt","alg":"None","kid":"k1"}"#, "token_algorithm"),
            (r#"{"typ":"at+jwt","alg":"nOnE","kid":"k1"}"#, "token_algorithm"),
            (r#"{"typ":"at+jwt","alg":"NONE","kid":"k1"}"#, "token_algorithm"),
            (r#"{"typ":"at+jwt","alg":"","kid":"k1"}"#, "token_algorithm"),
            (r#"{"typ":"at+jwt","alg":"es256","kid":"k1"}"#, "token_algorithm"),
            (r#"{"typ":"at+jwt","alg":"ES384","kid":"k1"}"#, "token_algorithm"),
            (r#"{"typ":"at+jwt","alg":["ES256"],"kid":"k1"}"#, "token_algorithm"),
            (r#"{"typ":"at+jwt","kid":"k1"}"#, "token_algorithm"),
            (r#"{"typ":"JWT","alg":"ES256","kid":"k1"}"#, "token_type"),
            (r#"{"typ":"dpop+jwt","alg":"ES256","kid":"k1"}"#, "token_type"),
            (r#"{"alg":"ES256","kid":"k1"}"#, "token_type"),
            (r#"{"typ":"at+jwt","alg":"ES256"}"#, "token_malformed"),
            (r#"{"typ":"at+jwt","alg":"ES256","kid":7}"#, "token_malformed"),
            (r#"{"typ":"at+jwt","alg":"ES256","kid":"k1","jwk":{"kty":"EC"}}"#, "token_malformed"),
            (r#"{"typ":"at+jwt","alg":"ES256","kid":"k1","jku":"https://evil.example/jwks"}"#, "token_malformed"),
            (r#"{"typ":"at+jwt","alg":"ES256","kid":"k1","x5u":"https://evil.example/"}"#, "token_malformed"),
            (r#"{"typ":"at+jwt","alg":"ES256","kid":"k1","crit":["exp"]}"#, "token_malformed"),
            (r#"{"typ":"at+jwt","alg":"ES256","kid":"k1","kid":"k2"}"#, "token_malformed"),
            (r#"["at+jwt"]"#, "token_malformed"),
            ("", "token_malformed"),
        ];
        for (header, expected) in cases {
            assert_eq!(reason(&key.token_under(header)), expected, "{header}");
        }
    }

    #[test]
    fn a_public_key_is_no_shared_secret() {
        let key = Key::new();
        let prefix =
            b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
        let spki = [&prefix[..], key.point()].concat();
        let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &spki);
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n{}\n-----END PUBLIC KEY-----\n", &body[..64], &body[64..]);
        for secret in [pem.as_bytes(), &spki, key.point()] {
            for (alg, expected) in [("HS256", "token_algorithm"), ("ES256", "signature")] {
                let text = key.token_under(&format!(r#"{{"typ":"at+jwt","alg":"{alg}","kid":"k1"}}"#));
                let (input, _) = text.rsplit_once('.').unwrap();
                let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret), input.as_bytes());
                let forged = format!("{input}.{}", base64url(tag.as_ref()));
                let refused = parse(&forged).and_then(|token| token.verify(key.point())).unwrap_err();
                assert_eq!(refused.reason, expected);
            }
        }
    }

    #[test]
    fn a_token_has_one_text() {
        let key = Key::new();
        let text = key.token();
        let (input, signature) = text.rsplit_once('.').unwrap();
        let (header, payload) = input.split_once('.').unwrap();
        // A 64-byte signature ends in a character of which four bits are free: the next character is a twin.
        let last = signature.chars().last().unwrap();
        let stray = format!("{}{}", &text[..text.len() - 1], char::from_u32(last as u32 + 1).unwrap());
        let twins = [
            format!("{text}=="),
            format!("{text}\n"),
            format!(" {text}"),
            stray,
            format!("{header}=.{payload}.{signature}"),
            format!("{text}."),
            format!(".{text}"),
            format!("{text}.{signature}"),
            input.to_owned(),
            String::new(),
            ".".repeat(1_000_000),
            ".".repeat(1000),
            "..".to_owned(),
            format!("{text}{}", "A".repeat(LONGEST)),
            text.replace('.', "\u{2024}"),
        ];
        for twin in twins {
            assert_eq!(reason(&twin), "token_malformed", "{twin:.80}");
        }
    }

    #[test]
    fn the_signature_is_over_the_text_and_has_its_form() {
        let key = Key::new();
        let text = key.token();
        let (input, signature) = text.rsplit_once('.').unwrap();
        let raw = from_base64url(signature).unwrap();
        let integer = |half: &[u8]| [&[2, 33, 0][..], half].concat();
        let der = [&[0x30, 70][..], &integer(&raw[..32]), &integer(&raw[32..])].concat();
        let altered = key.token_with(|claims| claims.replace("user:ana", "user:bob"));
        let (altered, _) = altered.rsplit_once('.').unwrap();
        let forged = [
            format!("{altered}.{signature}"),
            format!("{input}."),
            format!("{input}.{}", base64url(&[0; 64])),
            format!("{input}.{}", base64url(&der)),
            format!("{input}.{}", base64url(&raw[..63])),
            format!("{input}.{}", base64url(&[&raw[..], &[0]].concat())),
        ];
        for text in forged {
            assert_eq!(parse(&text).unwrap().verify(key.point()).unwrap_err().reason, "signature", "{text}");
        }
    }
}
