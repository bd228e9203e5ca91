//! Tokens as they arrive: shape, header and signature. The key signed one token only, so no other is good.
#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use belay::domain::time::Timestamp;
use belay::format::jwt;
use belay::verifier::Keys;
use belay_fuzz::{is_fit_to_print, key};
use libfuzzer_sys::fuzz_target;

/// The one token that was ever signed with this key for the verifier; a seed.
const SIGNED: &str = include_str!("../seeds/jwt/signed.txt");
const ISSUED: Timestamp = Timestamp::from_seconds(1_795_000_000);

static VERIFIER: LazyLock<Keys> = LazyLock::new(|| {
    let issuer = "https://broker.example".parse().expect("an audience");
    let verifier = Keys { issuer, epoch: "e1".to_owned(), keys: vec![("k1".to_owned(), key::point())] };
    verifier.check(SIGNED.trim_end(), None, None, ISSUED).expect("the seed is good: without it nothing is tested");
    verifier
});

/// What was signed, under another signature: whatever the bytes are, it does not hold.
fn is_forged(signature: &[u8]) {
    let (input, _) = SIGNED.rsplit_once('.').expect("a JWS");
    let verdict = VERIFIER.check(&format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)), None, None, ISSUED);
    assert_eq!(verdict.expect_err("forged").reason, "signature");
}

fuzz_target!(|text: &str| {
    if !text.contains('.') {
        return is_forged(text.as_bytes());
    }
    let verdict = VERIFIER.check(text, None, None, ISSUED);
    match &verdict {
        Ok(_) => assert_eq!(text, SIGNED.trim_end(), "forged"),
        Err(error) => is_fit_to_print(error),
    }
    match jwt::parse(text) {
        Ok(token) => {
            let parts: Vec<_> = text.split('.').collect();
            assert_eq!(parts.len(), 3);
            for part in parts {
                let bytes = URL_SAFE_NO_PAD.decode(part).expect("what was read is base64url");
                assert_eq!(URL_SAFE_NO_PAD.encode(bytes), part, "two texts, one token");
            }
            let shown = token.inspect();
            assert!(
                shown["header"]["alg"] == "ES256"
                    && shown["header"]["kid"] == token.kid()
                    && shown["claims"].is_object()
            );
            assert!(!format!("{token:?}").contains(&text[text.len() / 2..]));
        }
        Err(error) => assert_eq!(verdict.expect_err("what cannot be read is refused"), error),
    }
});
