//! The SPIFFE project's identifiers and key sets, read by us.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::bundle::{keys_of, trust_bundle};
use super::from_base64url;
use super::spiffe::SpiffeId;
use super::vectors::{Tally, files, vectors};

#[test]
fn spiffe_ids_are_judged_as_spiffe_judges_them() {
    let test = "spiffe_ids_are_judged_as_spiffe_judges_them";
    let Some(path) = vectors(test, "spiffe-spec/spiffe_ids.json") else { return };
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let valid = cases.iter().filter(|case| case["valid"] == true).count();
    assert!(valid > 40 && cases.len() - valid > 200, "{valid} of {} are valid", cases.len());
    let mut tally = Tally::new(test, &[]);
    for case in cases {
        let id = case["id"].as_str().unwrap();
        let read = id.parse::<SpiffeId>();
        tally.case(&format!("{id:?}"), &read.is_ok(), &(case["valid"] == true));
        if let Ok(read) = read {
            tally.case(&format!("{id:?}, printed"), &read.to_string().as_str(), &id);
        }
    }
    tally.end(300);
}

/// A key for identities (`jwt-svid`, `wit-svid`, or for nothing said) is never one for tokens; the same key, said to
/// be for tokens and with an id, is read to the very point that is printed.
#[test]
fn a_key_of_a_spiffe_bundle_is_no_token_key() {
    let test = "a_key_of_a_spiffe_bundle_is_no_token_key";
    let Some(folder) = vectors(test, "go-spiffe") else { return };
    let mut tally = Tally::new(test, &[]);
    for path in files(&folder).into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "json")) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        tally.case(name, &keys_of(&text).is_err(), &true);
        let set: Value = serde_json::from_str(&text).unwrap();
        for (at, key) in set["keys"].as_array().into_iter().flatten().enumerate() {
            let name = format!("{name}, key {at}");
            let mut token_key = key.clone();
            (token_key["use"], token_key["alg"]) = ("sig".into(), "ES256".into());
            let half = |member: &str| from_base64url(key[member].as_str().unwrap()).unwrap();
            let point = [vec![4], half("x"), half("y")].concat();
            let expected = key["kid"].as_str().filter(|_| key["crv"] == "P-256").map(|kid| (kid.to_owned(), point));
            let found = keys_of(&json!({ "keys": [token_key] }).to_string()).ok().map(|mut keys| keys.remove(0));
            tally.case(&format!("{name}, for tokens"), &found, &expected);
            for root in key["x5c"].as_array().into_iter().flatten() {
                let der = STANDARD.decode(root.as_str().unwrap()).unwrap();
                let published = trust_bundle([&der[..]].into_iter(), 1, 1).is_ok();
                tally.case(&format!("{name}, as a root of ours"), &published, &(key["crv"] == "P-256"));
            }
        }
    }
    tally.end(30);
}
