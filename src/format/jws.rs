//! A text that somebody else signed: a compact JWS (RFC 7515) with claims in it, read for its shape alone.
//!
//! Our own tokens are read by [`super::jwt`], which takes less.

use serde_json::Value;

use super::{from_base64url, json};

/// The longest text that is looked at, in bytes.
pub const LONGEST: usize = 16 * 1024;

/// A JWT that was read and not checked: anybody may have written it.
pub struct Unproven {
    /// The header, a JSON object with each member once.
    pub header: Value,
    /// The payload, likewise.
    pub claims: Value,
    /// What the signature is over, as received.
    pub signing_input: String,
    /// The signature.
    pub signature: Vec<u8>,
}

/// Reads a text's shape.
///
/// # Errors
/// What it lacks, to follow its name; nothing of the text is in it, for the text is a secret.
pub fn read(text: &str) -> Result<Unproven, &'static str> {
    if text.len() > LONGEST {
        return Err("it has more than 16 KiB");
    }
    let parts: Vec<&str> = text.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        return Err(if parts.len() == 5 {
            "it is encrypted; a signed one is needed"
        } else {
            "it has not three parts"
        });
    };
    let object = |part| from_base64url(part).and_then(|bytes| json::strict(&bytes).ok()).filter(Value::is_object);
    Ok(Unproven {
        header: object(header).ok_or("its header is not base64url of a JSON object with each member once")?,
        claims: object(payload).ok_or("its payload is not base64url of a JSON object with each member once")?,
        signature: from_base64url(signature).ok_or("its signature is not base64url")?,
        signing_input: format!("{header}.{payload}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::base64url;

    fn text(header: &str, payload: &str) -> String {
        format!("{}.{}.AAAA", base64url(header.as_bytes()), base64url(payload.as_bytes()))
    }

    #[test]
    fn a_foreign_token_has_one_text_and_each_member_once() {
        let good = text(r#"{"alg":"ES256"}"#, r#"{"sub":"ana"}"#);
        let read_back = read(&good).unwrap();
        assert_eq!((&read_back.claims["sub"], &read_back.signature[..]), (&"ana".into(), &[0, 0, 0][..]));
        assert_eq!(format!("{}.AAAA", read_back.signing_input), good);
        let wrong = [
            String::new(),
            "..".to_owned(),
            ".".repeat(1000),
            format!("{good}."),
            format!("{good}.e30.AA"),
            format!("{good}="),
            format!("{good}\n"),
            format!(" {good}"),
            good.replacen('.', "=.", 1),
            good[..good.len() - 5].to_owned(),
            text(r#"{"alg":"ES256","alg":"none"}"#, "{}"),
            text("{}", r#"{"sub":"ana","sub":"bob"}"#),
            text("{}", r#"{"a":[{"b":1,"b":2}]}"#),
            text("[]", "{}"),
            text("{}", "7"),
            text("{}", ""),
            format!("{good}{}", "A".repeat(LONGEST)),
        ];
        for wrong in wrong {
            assert!(read(&wrong).is_err(), "{wrong:.60}");
        }
    }
}
