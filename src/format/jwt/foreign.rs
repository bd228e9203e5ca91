//! Other people's signed texts: good signatures verify, bad ones do not, and none of it is an access token.

use serde_json::{Value, json};

use super::parse::check;
use super::sample::Key;
use super::{ALGORITHM, parse};
use crate::format::vectors::{Difference, Tally, vectors};
use crate::format::{base64url, bundle, from_base64url};

/// RFC 7515, appendix A.3: the key and the JWS.
const A3_KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
const A3: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290\
    Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

const OTHER_ALGORITHMS: &[Difference] = &[
    ("HS256", "a shared secret lets whoever checks a token write one"),
    ("RS256", "RSA is no algorithm of ours: there is one, ES256"),
    ("RS384", "RSA is no algorithm of ours: there is one, ES256"),
    ("RS512", "RSA is no algorithm of ours: there is one, ES256"),
    ("PS256", "RSA is no algorithm of ours: there is one, ES256"),
    ("PS384", "RSA is no algorithm of ours: there is one, ES256"),
    ("PS512", "RSA is no algorithm of ours: there is one, ES256"),
    ("ES521", "P-521 is no curve of ours: there is one, P-256 (and the algorithm is called ES512)"),
];

const NO_EDDSA: &[Difference] = &[("RFC 8037", "Ed25519 is no algorithm of ours: there is one, ES256")];

/// The parts of `jws` that `check` takes, if it is in the compact form.
fn signed(jws: &str) -> Option<(&str, Vec<u8>)> {
    let (input, signature) = jws.rsplit_once('.')?;
    Some((input, from_base64url(signature)?))
}

/// Whether one of the token keys that `key` holds, as a key set would say it, signed `jws`.
fn is_signed(jws: &str, key: &Value) -> bool {
    let keys = bundle::keys_of(&json!({ "keys": [key] }).to_string()).unwrap_or_default();
    let Some((input, signature)) = signed(jws) else { return false };
    keys.iter().any(|(_, point)| check(point, input, &signature).is_ok())
}

/// `key`, said to be for tokens.
fn as_token_key(key: &Value) -> Value {
    let mut key = key.clone();
    for (member, value) in [("use", "sig"), ("alg", ALGORITHM), ("kid", "k")] {
        key[member] = value.into();
    }
    key
}

/// Every compact JWS that `value` holds.
fn tokens(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) if text.split('.').filter(|part| from_base64url(part).is_some()).count() == 3 => vec![text],
        Value::Array(items) => items.iter().flat_map(tokens).collect(),
        Value::Object(members) => members.values().flat_map(tokens).collect(),
        _ => Vec::new(),
    }
}

/// Why a payload is refused under our own header, signed by a key that is trusted.
fn refusal(payload: &str) -> &'static str {
    let key = Key::new();
    let text = key.sign(&format!(
        "{}.{}",
        base64url(br#"{"typ":"at+jwt","alg":"ES256","kid":"k1"}"#),
        base64url(payload.as_bytes())
    ));
    parse(&text).and_then(|token| token.verify(key.point())).map_or_else(|error| error.reason, |_| "")
}

fn read(test: &str, name: &str) -> Option<Value> {
    let path = vectors(test, name)?;
    Some(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
}

#[test]
fn wycheproof_agrees_on_signatures() {
    let test = "wycheproof_agrees_on_signatures";
    let Some(file) = read(test, "wycheproof/json_web_signature_test.json") else { return };
    let mut tally = Tally::new(test, OTHER_ALGORITHMS);
    let mut es256 = 0;
    for group in file["testGroups"].as_array().unwrap() {
        // Secret keys are in the `private` member only. That a key is for signatures is the key set's to say.
        let key = if group["public"].is_object() { &group["public"] } else { &group["private"] };
        for case in group["tests"].as_array().unwrap() {
            // In the JSON serialisation it is an object: its text is no compact JWS.
            let jws = case["jws"].as_str().map_or_else(|| case["jws"].to_string(), str::to_owned);
            let (accepted, valid) = (is_signed(&jws, key), case["result"] == "valid");
            es256 += usize::from(accepted && key["alg"] == ALGORITHM);
            tally.judge(&case["tcId"].to_string(), key["alg"].as_str().unwrap_or_default(), accepted, valid);
            tally.case(&format!("{} is no access token", case["tcId"]), &parse(&jws).is_err(), &true);
        }
    }
    assert_eq!(es256, 2, "ES256 signatures that verify");
    tally.end(800);
}

#[test]
fn the_signatures_printed_in_rfcs_verify() {
    let test = "the_signatures_printed_in_rfcs_verify";
    let mut tally = Tally::new(test, NO_EDDSA);
    let key = as_token_key(&serde_json::from_str(A3_KEY).unwrap());
    tally.case("RFC 7515 A.3", &is_signed(A3, &key), &true);
    for at in 0..A3.len() {
        let mut altered = A3.to_owned();
        altered.replace_range(at..=at, if &A3[at..=at] == "A" { "B" } else { "A" });
        tally.case(&format!("RFC 7515 A.3, altered at {at}"), &is_signed(&altered, &key), &false);
    }
    let Some(samples) = read(test, "rfc-oauth/samples.json") else {
        return tally.without_differences().end(100);
    };
    for sample in samples["samples"].as_array().unwrap() {
        let name = format!("RFC {} {}", sample["rfc"].as_str().unwrap(), sample["section"]);
        if let Some(proof) = sample["headers"]["DPoP"].as_str() {
            let header: Value =
                serde_json::from_slice(&from_base64url(proof.split('.').next().unwrap()).unwrap()).unwrap();
            tally.case(&name, &is_signed(proof, &as_token_key(&header["jwk"])), &true);
            tally.case(&format!("{name}, by another key"), &is_signed(proof, &key), &false);
        }
        if let Some(jws) = sample["compact"].as_str() {
            tally.judge(&name, "RFC 8037", is_signed(jws, &as_token_key(&sample["jwk"])), true);
        }
    }
    tally.end(150);
}

#[test]
fn no_token_of_an_rfc_is_an_access_token_of_ours() {
    let test = "no_token_of_an_rfc_is_an_access_token_of_ours";
    let Some(samples) = read(test, "rfc-oauth/samples.json") else { return };
    let mut tally = Tally::new(test, &[]);
    for token in tokens(&samples) {
        tally.case(token, &parse(token).map_or_else(|error| error.reason, |_| ""), &"token_type");
    }
    for sample in samples["samples"].as_array().unwrap() {
        let claims = [
            &sample["claims"],
            &sample["subject_claims"],
            &sample["actor_claims"],
            &sample["response"]["access_token_claims"],
        ];
        for claims in claims.into_iter().filter(|claims| claims.is_object()) {
            tally.case(
                &format!("RFC {} {}", sample["rfc"], sample["section"]),
                &refusal(&claims.to_string()),
                &"token_malformed",
            );
        }
    }
    for case in samples["set_payload_rejects"].as_array().unwrap() {
        tally.case(case["case"].as_str().unwrap(), &refusal(case["in"].as_str().unwrap()), &"token_malformed");
    }
    // RFC 9068, section 3: an access token, and not under our algorithm.
    let header = base64url(br#"{"typ":"at+JWT","alg":"RS256","kid":"RjEwOwOA"}"#);
    let other = base64url(br#"{"typ":"at+jwt","alg":"RS256","kid":"RjEwOwOA"}"#);
    let reason = |header: &str| parse(&format!("{header}.e30.AA")).map_or_else(|error| error.reason, |_| "");
    tally.case("RFC 9068 as printed", &reason(&header), &"token_type");
    tally.case("RFC 9068 in lower case", &reason(&other), &"token_algorithm");
    tally.end(25);
}

/// RFC 8693, section 4.1: members of `act` are claims about an actor; ours names the issuer of its subject. RFC 9396,
/// section 2: a type of authorization detail that is not ours carries authority that nobody here can bound.
#[test]
fn another_profiles_actors_and_details_are_refused_and_not_skipped() {
    let key = Key::new();
    let with = |member: &str, value: Value| {
        let text = key.token_with(|claims| {
            let mut claims: Value = serde_json::from_str(&claims).unwrap();
            claims[member] = value;
            claims.to_string()
        });
        parse(&text).unwrap().verify(key.point()).map_or_else(|error| error.reason, |_| "")
    };
    let mut tally = Tally::new("another_profiles_actors_and_details_are_refused_and_not_skipped", &[]);
    let coder = "spiffe://td.example/agent/coder";
    for (name, act) in [
        ("RFC 8693 4.1", json!({ "sub": "admin@example.com" })),
        (
            "RFC 8693 4.1, nested",
            json!({ "sub": "https://service16.example.com", "act": { "sub": "https://service77.example.com" } }),
        ),
        ("no issuer", json!({ "sub": coder })),
        ("no issuer within", json!({ "sub": coder, "iss": "https://broker.example", "act": { "sub": coder } })),
    ] {
        tally.case(name, &with("act", act), &"token_malformed");
    }
    let ours = json!({ "type": super::TOOL_CALL, "tool": "github", "actions": ["issues.*"], "resource": "org/repo",
        "scope": "github:issues.*@org/repo" });
    let payment = json!({ "type": "payment_initiation", "actions": ["initiate", "status", "cancel"],
        "locations": ["https://example.com/payments"], "instructedAmount": { "currency": "EUR", "amount": "123.50" },
        "creditorName": "Merchant A", "creditorAccount": { "iban": "DE02100100109307118603" } });
    let account = json!({ "type": "account_information", "actions": ["list_accounts", "read_balances"],
        "locations": ["https://example.com/accounts"] });
    tally.case("ours alone", &with("authorization_details", json!([ours])), &"");
    for (name, detail) in [("RFC 9396 2, payment", payment), ("RFC 9396 2, account", account)] {
        tally.case(name, &with("authorization_details", json!([detail])), &"token_malformed");
        tally.case(
            &format!("{name}, beside ours"),
            &with("authorization_details", json!([ours, detail])),
            &"token_malformed",
        );
    }
    tally.end(9);
}
