//! DPoP proofs (RFC 9449) as they arrive, and what stands behind a good signature: whoever makes a proof has a key.
#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use belay::domain::digest::Digest;
use belay::format::dpop::{AHEAD, LIFE, Proof, Target, thumbprint};
use belay_fuzz::{is_fit_to_print, key};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// A proof as it should be; a seed. Without it nothing is tested.
const GOOD: &str = include_str!("../seeds/dpop/good.txt");

static JWK: LazyLock<String> = LazyLock::new(|| {
    let half = |from| URL_SAFE_NO_PAD.encode(&key::point()[from..from + 32]);
    let jwk = json!({ "kty": "EC", "crv": "P-256", "x": half(1), "y": half(33) }).to_string();
    let (header, claims) = GOOD.trim_end().split_once('\n').expect("two lines");
    assert!(Proof::read(&signed(&header.replace("JWK", &jwk), claims)).is_ok(), "the seed is good");
    jwk
});

fn signed(header: &str, claims: &str) -> String {
    key::sign(&format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims)))
}

/// What was read says nothing that does not stand there, and lacks nothing that RFC 9449 (section 4.2) asks for.
fn is_a_proof(text: &str, proof: &Proof) {
    let mut parts = text.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).expect("what was read is base64url"));
    let [header, claims] = [(); 2].map(|()| {
        let bytes = parts.next().expect("three parts");
        serde_json::from_slice::<Value>(&bytes).expect("what was read is JSON")
    });
    assert!(text.len() <= 8192 && parts.count() == 1);
    assert!(header["typ"] == "dpop+jwt" && header["alg"] == "ES256" && header.get("crit").is_none());
    let jwk = &header["jwk"];
    assert!(jwk["kty"] == "EC" && jwk["crv"] == "P-256" && jwk.get("d").is_none() && jwk.get("k").is_none());
    let half = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().expect("a coordinate")).expect("base64url");
    assert_eq!(thumbprint(&[&[4][..], &half("x"), &half("y")].concat()), proof.key);

    assert!(claims["jti"] == proof.id.as_str() && (1..=128).contains(&proof.id.len()));
    assert!(proof.id.bytes().all(|byte| byte.is_ascii_graphic()));
    assert_eq!(claims["iat"].as_i64(), Some(proof.issued_at.seconds()));
    assert_eq!(claims.get("nonce").and_then(Value::as_str), proof.nonce.as_deref());
    let (input, _) = text.rsplit_once('.').expect("three parts");
    assert_eq!(Digest::of(input.as_bytes()), proof.digest);

    let method = claims["htm"].as_str().expect("a method");
    let place = claims["htu"].as_str().and_then(Target::parse).expect("a place");
    assert_eq!(proof.is_for(method, std::slice::from_ref(&place), None), Ok(()));
    assert!(proof.is_for(&format!("{method}x"), std::slice::from_ref(&place), None).is_err());
    assert!(proof.is_for(method, &[], None).is_err());
    // One that names no token, or another, proves none.
    assert!(proof.is_for(method, &[place], Some("a token")).is_err());
    let at = proof.issued_at;
    assert!(proof.is_timely(at).is_ok() && proof.is_timely(at.plus(LIFE)).is_ok());
    assert!(proof.is_timely(at.plus(LIFE).plus(AHEAD)).is_err() && proof.is_timely(at.minus(LIFE)).is_err());
}

fn read(text: &str) {
    match Proof::read(text) {
        Ok(proof) => is_a_proof(text, &proof),
        Err(error) => {
            assert_eq!(error.reason, "dpop_invalid");
            is_fit_to_print(&error);
        }
    }
}

// As it arrives; or its header and its claims in two lines, `JWK` being the key that then signs them.
fuzz_target!(|text: &str| {
    match text.split_once('\n') {
        None => read(text),
        Some((header, claims)) => read(&signed(&header.replace("JWK", &JWK), claims)),
    }
});
