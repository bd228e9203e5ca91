//! Other people's signed texts, against the keys and algorithms that are taken of an identity provider.

use serde_json::{Value, json};

use crate::format::jwk::{Algorithm, KeySet};
use crate::format::vectors::{Difference, Tally, vectors};

const TAKEN: [&str; 4] = ["ES256", "EdDSA", "RS256", "PS256"];

const DIFFERENCES: &[Difference] = &[
    ("HS256", "a shared secret lets whoever checks a token write one"),
    ("RS384", "of RSA the two with SHA-256 are taken"),
    ("RS512", "of RSA the two with SHA-256 are taken"),
    ("PS384", "of RSA the two with SHA-256 are taken"),
    ("PS512", "of RSA the two with SHA-256 are taken"),
    ("ES521", "P-521 is not taken (and the algorithm is called ES512)"),
    ("rfc7520", "the key says PS256 and the text PS384: a key is used for what it says"),
];

/// Whether `jws`, in the compact form, is signed by the key in `key`, under the algorithm and `kid` that it names.
fn is_signed(jws: &str, key: &Value) -> bool {
    use base64::Engine as _;
    let decode = |part: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).ok();
    let parts: Vec<&str> = jws.split('.').collect();
    let [header, payload, signature] = parts[..] else { return false };
    let header: Option<Value> = decode(header).and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Ok(set) = KeySet::read(json!({ "keys": [key] }).to_string().as_bytes()) else { return false };
    let (Some(header), Some(_), Some(signature)) = (header, decode(payload), decode(signature)) else { return false };
    let Some(algorithm) = header["alg"].as_str().and_then(Algorithm::named) else { return false };
    let input = format!("{}.{payload}", parts[0]);
    set.verify(algorithm, header["kid"].as_str(), input.as_bytes(), &signature).is_ok()
}

#[test]
fn wycheproof_agrees_on_signatures_of_identity_providers() {
    let test = "wycheproof_agrees_on_signatures_of_identity_providers";
    let Some(path) = vectors(test, "wycheproof/json_web_signature_test.json") else { return };
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let (mut tally, mut taken) = (Tally::new(test, DIFFERENCES), [0; 4]);
    for group in file["testGroups"].as_array().unwrap() {
        let key = if group["public"].is_object() { &group["public"] } else { &group["private"] };
        for case in group["tests"].as_array().unwrap() {
            let jws = case["jws"].as_str().map_or_else(|| case["jws"].to_string(), str::to_owned);
            let (accepted, valid) = (is_signed(&jws, key), case["result"] == "valid");
            let algorithm = key["alg"].as_str().unwrap_or_default();
            if let (true, Some(at)) = (accepted, TAKEN.iter().position(|name| *name == algorithm)) {
                taken[at] += 1;
            }
            // RFC 7520's key and text are of two algorithms; every other kind is named by its key.
            let kind = if algorithm == "PS256" && valid && !accepted { "rfc7520" } else { algorithm };
            tally.judge(&case["tcId"].to_string(), kind, accepted, valid);
        }
    }
    println!("{test}: signatures that verify: {TAKEN:?} {taken:?}");
    assert!(taken[0] >= 1 && taken[2] >= 5 && taken[3] >= 5, "{taken:?}");
    tally.end(340);
}
