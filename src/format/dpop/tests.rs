//! What is a proof and what is none.

use serde_json::{Value, json};

use super::*;
use crate::format::jwt::sample;

/// When the proofs of tests are made.
pub(crate) const MADE: Timestamp = Timestamp::from_seconds(1_795_000_000);
const PLACE: &str = "https://orders.example/v1/orders";

/// A key that proves.
pub(crate) struct Key(sample::Key);

impl Key {
    /// A fresh key.
    pub(crate) fn new() -> Self {
        Self(sample::Key::new())
    }

    /// Its thumbprint.
    pub(crate) fn thumbprint(&self) -> Digest {
        thumbprint(self.0.point())
    }

    /// A proof, signed.
    pub(crate) fn proof<'a>(&self, change: impl FnOnce(&mut Draft<'a>)) -> String {
        let mut draft =
            Draft { id: "one", method: "GET", url: PLACE, issued_at: MADE, token: Some("token"), nonce: None };
        change(&mut draft);
        self.0.sign(&draft.signing_input(self.0.point()).unwrap())
    }

    /// The same with other members in header and claims, signed all the same.
    fn altered(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let proof = self.proof(|_| {});
        let mut parts = proof.split('.').map(|part| serde_json::from_slice(&from_base64url(part).unwrap()));
        let [mut header, mut claims] = [(); 2].map(|()| parts.next().unwrap().unwrap());
        change(&mut header, &mut claims);
        let [header, claims] = [header, claims].map(|value: Value| base64url(value.to_string().as_bytes()));
        self.0.sign(&format!("{header}.{claims}"))
    }
}

fn place() -> [Target; 1] {
    [Target::parse(PLACE).unwrap()]
}

fn why(text: &str) -> String {
    let error = Proof::read(text).unwrap_err();
    assert_eq!(error.reason, "dpop_invalid");
    error.message
}

/// RFC 9449, section 4.1, as printed; RFC 7638 thumbprint and `ath` of its section 7.1.
#[test]
fn the_proof_that_rfc_9449_prints_is_one() {
    let proof = concat!(
        "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0Rs",
        "cEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2",
        "In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2Vu",
        "IiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZ",
        "T3Lg",
    );
    let read = Proof::read(proof).unwrap();
    assert_eq!(base64url(&read.key.0), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    assert_eq!(
        (read.id.as_str(), read.issued_at.seconds(), read.nonce.as_deref()),
        ("-BwC3ESc6acc2lTc", 1_562_262_616, None)
    );
    let there = [Target::parse("https://server.example.com/token").unwrap()];
    assert_eq!(read.is_for("POST", &there, None), Ok(()));
    assert_eq!(read.is_timely(Timestamp::from_seconds(1_562_262_616)), Ok(()));
    assert!(read.is_timely(MADE).is_err(), "it is of 2019");
    // Every character of it counts.
    for at in 0..proof.len() {
        let mut altered = proof.to_owned();
        altered.replace_range(at..=at, if &proof[at..=at] == "A" { "B" } else { "A" });
        assert!(Proof::read(&altered).is_err(), "altered at {at}");
    }
    let ath = base64url(&Digest::of(b"Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU").0);
    assert_eq!(ath, "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
}

#[test]
fn a_proof_says_what_it_was_made_for() {
    let key = Key::new();
    let proof = Proof::read(&key.proof(|draft| draft.nonce = Some("again"))).unwrap();
    assert_eq!((proof.key, proof.id.as_str(), proof.issued_at), (key.thumbprint(), "one", MADE));
    assert_eq!(proof.nonce.as_deref(), Some("again"));
    assert_eq!(proof.is_for("GET", &place(), Some("token")), Ok(()));
    // Unknown members are passed over, and two signatures of one text are one proof.
    let more = key.altered(|header, claims| {
        header["kid"] = "k".into();
        header["jwk"]["use"] = "sig".into();
        claims["color"] = json!({ "idx": 1 });
    });
    Proof::read(&more).unwrap();
    let again = Proof::read(&key.proof(|draft| draft.nonce = Some("again"))).unwrap();
    assert_eq!(again.digest, proof.digest);
    assert_eq!(
        Proof::read(&key.proof(|draft| draft.url = "https://orders.example/v1/orders?a=b#c")).unwrap().target,
        place()[0]
    );
}

#[test]
fn the_header_brings_a_public_key_and_chooses_nothing_else() {
    let key = Key::new();
    let other = Key::new().proof(|_| {});
    let other: Value = serde_json::from_slice(&from_base64url(other.split('.').next().unwrap()).unwrap()).unwrap();
    type Change<'a> = Box<dyn Fn(&mut Value) + 'a>;
    let set = |name: &'static str, value: Value| -> Change<'_> { Box::new(move |header| header[name] = value.clone()) };
    let jwk = |name: &'static str, value: Value| -> Change<'_> {
        Box::new(move |header| header["jwk"][name] = value.clone())
    };
    let cases: Vec<(Change<'_>, &str)> = vec![
        (set("typ", "at+jwt".into()), "`typ`"),
        (set("typ", "JWT".into()), "`typ`"),
        (set("typ", "DPoP+jwt".into()), "`typ`"),
        (set("typ", Value::Null), "`typ`"),
        (set("alg", "none".into()), "`alg`"),
        (set("alg", "None".into()), "`alg`"),
        (set("alg", "HS256".into()), "`alg`"),
        (set("alg", "RS256".into()), "`alg`"),
        (set("alg", "es256".into()), "`alg`"),
        (set("alg", json!(["ES256"])), "`alg`"),
        (set("crit", json!(["exp"])), "critical"),
        (set("crit", json!([])), "critical"),
        (set("jwk", Value::Null), "`jwk`"),
        (set("jwk", json!("https://evil.example/jwks")), "`jwk`"),
        (set("jwk", other["jwk"].clone()), "its signature"),
        (jwk("d", "AAAA".into()), "private key"),
        (jwk("k", "AAAA".into()), "private key"),
        (jwk("kty", "oct".into()), "`jwk`"),
        (jwk("kty", "RSA".into()), "`jwk`"),
        (jwk("crv", "P-384".into()), "`jwk`"),
        (jwk("x", "AAAA".into()), "`jwk`"),
        (jwk("x", Value::Null), "`jwk`"),
        (jwk("y", base64url(&[1; 32]).into()), "its signature"),
        (jwk("y", base64url(&[0; 33]).into()), "`jwk`"),
    ];
    for (at, (change, expected)) in cases.iter().enumerate() {
        let said = why(&key.altered(|header, _| change(header)));
        assert!(said.contains(expected), "{at}: {said}");
    }
    // A proof whose `alg` is a shared secret's, keyed by what is public, is one by its own word only.
    let proof = key.altered(|header, _| header["alg"] = "HS256".into());
    let (input, _) = proof.rsplit_once('.').unwrap();
    let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.0.point()), input.as_bytes());
    assert!(why(&format!("{input}.{}", base64url(tag.as_ref()))).contains("`alg`"));
}

#[test]
fn a_claim_of_another_kind_is_refused_and_never_absent() {
    let key = Key::new();
    for (name, values) in [
        ("jti", vec![Value::Null, json!(""), json!(7), json!("a b"), json!("a\n"), json!("é"), json!("j".repeat(129))]),
        ("htm", vec![Value::Null, json!(""), json!(["GET"]), json!("M".repeat(33))]),
        ("htu", vec![Value::Null, json!(""), json!("/v1"), json!("https://me@orders.example/"), json!([PLACE])]),
        ("iat", vec![Value::Null, json!("1795000000"), json!(1_795_000_000.5), json!(-1), json!(253_402_300_800_i64)]),
        ("ath", vec![Value::Null, json!(""), json!("AAAA"), json!(7)]),
        ("nonce", vec![Value::Null, json!(""), json!(7), json!("n n"), json!("n".repeat(257))]),
    ] {
        for value in values {
            let said = why(&key.altered(|_, claims| claims[name] = value.clone()));
            assert!(said.contains(&format!("`{name}`")), "{name} {value}: {said}");
        }
    }
    let twice = key.proof(|_| {});
    let claims = String::from_utf8(from_base64url(twice.split('.').nth(1).unwrap()).unwrap()).unwrap();
    let header = twice.split('.').next().unwrap();
    let claims = base64url(claims.replacen('{', r#"{"jti":"two","#, 1).as_bytes());
    assert!(why(&key.0.sign(&format!("{header}.{claims}"))).contains("each member once"));
    let long = key.altered(|_, claims| claims["more"] = "x".repeat(8192).into());
    assert!(why(&long).contains("8 KiB"));
    for wrong in ["", "..", "a.b.c", &twice[..twice.len() - 3], &format!("{twice}="), &format!("{twice}.")] {
        why(wrong);
    }
}

#[test]
fn a_proof_for_another_request_or_token_proves_nothing() {
    let key = Key::new();
    let is_for = |proof: &str, method: &str, url: &str, token| {
        let told = Proof::read(proof).unwrap().is_for(method, &[Target::parse(url).unwrap()], token);
        told.map_or_else(|error| error.message, |()| String::new())
    };
    let proof = key.proof(|_| {});
    assert_eq!(is_for(&proof, "GET", "https://ORDERS.example:443/v1/orders?page=2", Some("token")), "");
    for method in ["POST", "get", "GET ", ""] {
        assert!(is_for(&proof, method, PLACE, Some("token")).contains("`htm`"), "{method}");
    }
    for url in ["https://orders.example/v1/Orders", "https://evil.example/v1/orders", "http://orders.example/v1/orders"]
    {
        assert!(is_for(&proof, "GET", url, Some("token")).contains("`htu`"), "{url}");
    }
    assert!(is_for(&proof, "GET", PLACE, Some("another")).contains("`ath`"));
    let bare = key.proof(|draft| draft.token = None);
    assert!(is_for(&bare, "GET", PLACE, Some("token")).contains("`ath`"), "a token needs it");
    assert_eq!(is_for(&bare, "GET", PLACE, None), "");
}

#[test]
fn a_proof_is_good_for_a_minute_and_from_five_seconds_ahead() {
    let proof = Proof::read(&Key::new().proof(|_| {})).unwrap();
    let instant = Span::millis(1);
    let at = |now| proof.is_timely(now).is_ok();
    assert_eq!([MADE.plus(LIFE), MADE.plus(LIFE).plus(instant)].map(at), [true, false]);
    assert_eq!([MADE.minus(AHEAD), MADE.minus(AHEAD).minus(instant)].map(at), [true, false]);
}
