use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::json;

use super::*;

const OWN: &str = "https://belay.example";
const NOW: Timestamp = Timestamp::from_seconds(1_795_000_000);

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An identity provider with a P-256 and an Ed25519 key.
struct Provider {
    p256: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

impl Provider {
    fn new() -> Self {
        let random = SystemRandom::new();
        let p256 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self {
            p256: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, p256.as_ref(), &random).unwrap(),
            ed25519: Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).unwrap(),
        }
    }

    fn keys(&self) -> KeySet {
        let (point, okp) = (self.p256.public_key().as_ref(), self.ed25519.public_key().as_ref());
        let set = json!({ "keys": [
            { "kty": "EC", "crv": "P-256", "kid": "p", "use": "sig", "alg": "ES256", "x": base64url(&point[1..33]),
              "y": base64url(&point[33..]) },
            { "kty": "OKP", "crv": "Ed25519", "kid": "e", "x": base64url(okp) },
        ] });
        KeySet::read(set.to_string().as_bytes()).unwrap()
    }

    fn issuer(&self, issuer: &str, prefix: &str) -> Issuer {
        let [issuer, audience, claim, prefix] = [issuer, "belay", "sub", prefix].map(str::to_owned);
        Issuer { issuer, audience, claim, prefix, keys: self.keys() }
    }

    /// Signed with the key that `kid` names, whatever `alg` says.
    fn sign(&self, header: &str, claims: &str) -> String {
        let input = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
        let signature = if header.contains(r#""kid":"e""#) {
            self.ed25519.sign(input.as_bytes()).as_ref().to_vec()
        } else {
            self.p256.sign(&SystemRandom::new(), input.as_bytes()).unwrap().as_ref().to_vec()
        };
        format!("{input}.{}", base64url(&signature))
    }
}

const HEADER: &str = r#"{"typ":"JWT","alg":"ES256","kid":"p"}"#;

fn claims() -> Value {
    json!({ "iss": "https://login.example", "aud": "belay", "sub": "ana", "exp": NOW.seconds() + 300,
        "iat": NOW.seconds() - 5, "nonce": "n" })
}

fn proven(token: &str, issuers: Vec<Issuer>) -> Result<String, Error> {
    Issuers::new(issuers).prove(token, OWN, NOW).map(|subject| subject.to_string())
}

#[test]
fn a_token_of_an_identity_provider_proves_its_subject() {
    let provider = Provider::new();
    let prove = |header: &str, change: &dyn Fn(&mut Value)| {
        let mut claims = claims();
        change(&mut claims);
        proven(&provider.sign(header, &claims.to_string()), vec![provider.issuer("https://login.example", "")])
    };
    assert_eq!(prove(HEADER, &|_| {}).unwrap(), "ana");
    for header in [
        r#"{"alg":"EdDSA","kid":"e"}"#,
        r#"{"alg":"ES256","kid":"p","typ":"at+jwt"}"#,
        r#"{"alg":"ES256","kid":"p","typ":"application/at+JWT"}"#,
        r#"{"alg":"ES256","kid":"p","x5t":"x","jku":"https://evil.example"}"#,
    ] {
        assert_eq!(prove(header, &|_| {}).unwrap(), "ana", "{header}");
    }
    let now = NOW.seconds();
    for (claim, value) in [
        ("aud", json!(["other", "belay"])),
        ("exp", json!(now + 1)),
        ("exp", json!(1_795_000_000.5)),
        ("exp", json!(253_402_300_799_u64)),
        ("iat", json!(now + 60)),
        ("nbf", json!(now + 60)),
        ("nbf", json!(0)),
        ("email_verified", json!(false)),
    ] {
        let said = prove(HEADER, &|claims| claims[claim] = value.clone());
        assert_eq!(said.as_deref(), Ok("ana"), "{claim} {value}");
    }
    // Another claim and a prefix of its own, beside another provider that knows the same name.
    let other = Provider::new();
    let mut first = provider.issuer("https://login.example", "login:");
    first.claim = "email".to_owned();
    let issuers = || vec![other.issuer("https://other.example", "other:"), first.clone()];
    let mut with = claims();
    with["email"] = "ana@example.com".into();
    assert_eq!(proven(&provider.sign(HEADER, &with.to_string()), issuers()).unwrap(), "login:ana@example.com");
    with["iss"] = "https://other.example".into();
    assert_eq!(proven(&other.sign(HEADER, &with.to_string()), issuers()).unwrap(), "other:ana");
    let stolen = proven(&provider.sign(HEADER, &with.to_string()), issuers()).unwrap_err();
    assert_eq!(stolen.reason, "subject_signature", "the keys are those of the issuer that it names");
}

#[test]
fn what_proves_no_subject_is_refused_each_for_its_reason() {
    let provider = Provider::new();
    let issuer = || vec![provider.issuer("https://login.example", "")];
    let now = NOW.seconds();
    let good = provider.sign(HEADER, &claims().to_string());
    let (input, signature) = good.rsplit_once('.').unwrap();
    let of_claims: Vec<(&str, &str, Value)> = vec![
        ("subject_issuer", "iss", json!("https://other.example")),
        ("subject_issuer", "iss", json!("https://login.example/")),
        ("subject_issuer", "iss", json!(["https://login.example"])),
        ("subject_issuer", "iss", Value::Null),
        ("subject_issuer", "iss", json!(OWN)),
        ("subject_audience", "aud", json!("other")),
        ("subject_audience", "aud", json!("belay2")),
        ("subject_audience", "aud", json!("Belay")),
        ("subject_audience", "aud", json!([])),
        ("subject_audience", "aud", json!(["other"])),
        ("subject_audience", "aud", json!(["belay", 7])),
        ("subject_audience", "aud", json!({ "belay": true })),
        ("subject_audience", "aud", Value::Null),
        ("subject_expired", "exp", json!(now)),
        ("subject_expired", "exp", json!(now - 1)),
        ("subject_expired", "exp", json!(0)),
        ("subject_malformed", "exp", json!((now + 300).to_string())),
        ("subject_malformed", "exp", Value::Null),
        ("subject_malformed", "exp", json!(true)),
        ("subject_malformed", "exp", json!(-1)),
        ("subject_malformed", "exp", json!(253_402_300_800_u64)),
        ("subject_malformed", "exp", json!(1e300)),
        ("subject_early", "nbf", json!(now + 61)),
        ("subject_early", "iat", json!(now + 61)),
        ("subject_early", "iat", json!(1_795_000_060.1)),
        ("subject_malformed", "nbf", json!("0")),
        ("subject_malformed", "iat", Value::Null),
        ("subject_claim", "sub", Value::Null),
        ("subject_claim", "sub", json!("")),
        ("subject_claim", "sub", json!(7)),
        ("subject_claim", "sub", json!(["ana"])),
        ("subject_claim", "sub", json!("ana\nbob")),
        ("subject_claim", "sub", json!("ana\u{202e}")),
        ("subject_claim", "sub", json!(" ana")),
        ("subject_claim", "sub", json!("a".repeat(257))),
        ("subject_claim", "sub", json!("spiffe://belay.example/agent/ana")),
        ("subject_type", "events", json!({ "http://schemas.openid.net/event/backchannel-logout": {} })),
    ];
    for (reason, claim, value) in of_claims {
        let mut claims = claims();
        claims[claim] = value.clone();
        let error =
            proven(&provider.sign(HEADER, &claims.to_string()), issuer()).expect_err(&format!("{claim} {value}"));
        assert_eq!((error.code, error.reason), (Code::Denied, reason), "{claim} {value}: {error}");
    }
    for claim in ["iss", "aud", "exp", "sub"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(claim);
        proven(&provider.sign(HEADER, &claims.to_string()), issuer()).expect_err(claim);
    }
    let of_headers = [
        ("subject_algorithm", r#"{"alg":"none","kid":"p"}"#),
        ("subject_algorithm", r#"{"alg":"HS256","kid":"p"}"#),
        ("subject_algorithm", r#"{"alg":"es256","kid":"p"}"#),
        ("subject_algorithm", r#"{"alg":"ES384","kid":"p"}"#),
        ("subject_algorithm", r#"{"alg":["ES256"],"kid":"p"}"#),
        ("subject_algorithm", r#"{"kid":"p"}"#),
        ("subject_key", r#"{"alg":"RS256","kid":"p"}"#),
        ("subject_key", r#"{"alg":"EdDSA","kid":"p"}"#),
        ("subject_key", r#"{"alg":"ES256","kid":"e"}"#),
        ("subject_key", r#"{"alg":"ES256"}"#),
        ("subject_key", r#"{"alg":"ES256","kid":"q"}"#),
        ("subject_key", r#"{"alg":"ES256","kid":""}"#),
        ("subject_malformed", r#"{"alg":"ES256","kid":7}"#),
        ("subject_malformed", r#"{"alg":"ES256","kid":null}"#),
        ("subject_malformed", r#"{"alg":"ES256","kid":"p","crit":["exp"]}"#),
        ("subject_malformed", r#"{"alg":"ES256","kid":"p","crit":[]}"#),
        ("subject_malformed", r#"{"alg":"ES256","kid":"p","b64":false}"#),
        ("subject_malformed", r#"{"alg":"none","alg":"ES256","kid":"p"}"#),
        ("subject_type", r#"{"alg":"ES256","kid":"p","typ":"logout+jwt"}"#),
        ("subject_type", r#"{"alg":"ES256","kid":"p","typ":"dpop+jwt"}"#),
        ("subject_type", r#"{"alg":"ES256","kid":"p","typ":"secevent+jwt"}"#),
        ("subject_type", r#"{"alg":"ES256","kid":"p","typ":["JWT"]}"#),
    ];
    for (reason, header) in of_headers {
        let error = proven(&provider.sign(header, &claims().to_string()), issuer()).expect_err(header);
        assert_eq!((error.code, error.reason), (Code::Denied, reason), "{header}: {error}");
    }
    let twice = claims().to_string().replacen('{', r#"{"sub":"bob","#, 1);
    let mut altered = claims();
    altered["sub"] = "bob".into();
    let altered = provider.sign(HEADER, &altered.to_string());
    let texts = [
        ("subject_malformed", "x".to_owned()),
        ("subject_malformed", "a.b".to_owned()),
        ("subject_malformed", format!("{good}.e30.AAAA")),
        ("subject_malformed", format!("{good}=")),
        ("subject_malformed", provider.sign(HEADER, &twice)),
        ("subject_malformed", provider.sign(HEADER, &format!("{{\"a\":\"{}\"}}", "x".repeat(jws::LONGEST)))),
        ("subject_signature", format!("{input}.")),
        ("subject_signature", format!("{input}.{}", base64url(&[0; 64]))),
        ("subject_signature", format!("{}.{signature}", altered.rsplit_once('.').unwrap().0)),
        ("subject_signature", Provider::new().sign(HEADER, &claims().to_string())),
    ];
    for (reason, text) in texts {
        let error = proven(&text, issuer()).expect_err(&text);
        assert_eq!((error.code, error.reason), (Code::Denied, reason), "{text:.60}: {error}");
    }
    assert_eq!(proven(&good, issuer()).unwrap(), "ana");
}

#[test]
fn a_public_key_of_an_identity_provider_is_no_shared_secret() {
    let provider = Provider::new();
    let claims = claims().to_string();
    for secret in [provider.p256.public_key().as_ref(), provider.ed25519.public_key().as_ref()] {
        for alg in ["HS256", "ES256", "EdDSA", "RS256"] {
            let kid = if alg == "EdDSA" { "e" } else { "p" };
            let text = provider.sign(&format!(r#"{{"alg":"{alg}","kid":"{kid}"}}"#), &claims);
            let (input, _) = text.rsplit_once('.').unwrap();
            let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret), input.as_bytes());
            let forged = format!("{input}.{}", base64url(tag.as_ref()));
            proven(&forged, vec![provider.issuer("https://login.example", "")]).expect_err(alg);
        }
    }
}

#[test]
fn an_unverified_address_is_nobody() {
    let provider = Provider::new();
    let mut issuer = provider.issuer("https://login.example", "");
    issuer.claim = "email".to_owned();
    let mut with = claims();
    with["email"] = "ana@example.com".into();
    let prove = |claims: &Value| proven(&provider.sign(HEADER, &claims.to_string()), vec![issuer.clone()]);
    assert_eq!(prove(&with).unwrap(), "ana@example.com");
    for (verified, is_proven) in
        [(json!(true), true), (json!(false), false), (json!("true"), false), (json!(null), false)]
    {
        with["email_verified"] = verified.clone();
        assert_eq!(prove(&with).is_ok(), is_proven, "{verified}");
    }
}

#[test]
fn a_prefix_counts_for_the_length_and_the_form_of_a_subject() {
    let provider = Provider::new();
    let prove = |prefix: &str, name: &str| {
        let mut claims = claims();
        claims["sub"] = name.into();
        proven(&provider.sign(HEADER, &claims.to_string()), vec![provider.issuer("https://login.example", prefix)])
    };
    assert_eq!(prove("p:", &"a".repeat(254)).unwrap().len(), 256);
    assert_eq!(prove("p:", &"a".repeat(255)).unwrap_err().reason, "subject_claim");
    assert_eq!(prove("spiffe:", "//belay.example/agent/ana").unwrap_err().reason, "subject_claim");
    assert_eq!(prove("p:", "").unwrap_err().reason, "subject_claim", "a prefix alone names nobody");
}

#[test]
fn no_refusal_shows_the_token() {
    let provider = Provider::new();
    let long = "hunter2".repeat(5);
    for (claim, value) in [("aud", json!(long)), ("sub", json!(format!("{long}\n"))), ("exp", json!(long))] {
        let mut claims = claims();
        claims[claim] = value;
        let token = provider.sign(HEADER, &claims.to_string());
        let error = proven(&token, vec![provider.issuer("https://login.example", "")]).unwrap_err();
        let told = format!("{error:?}");
        assert!(!told.contains("hunter2") && !token.split('.').any(|part| told.contains(part)), "{told}");
    }
    // An issuer is no secret, but it may be anything: it is shown short, and in one line.
    let mut claims = claims();
    claims["iss"] = format!("\u{202e}\n{}", "x".repeat(1000)).into();
    let error = proven(&provider.sign(HEADER, &claims.to_string()), vec![provider.issuer("a", "")]).unwrap_err();
    assert!(error.message.len() < 300 && !error.message.contains(['\n', '\u{202e}']), "{error}");
}

#[test]
fn without_an_issuer_the_flag_says_what_to_configure() {
    let error = proven(&Provider::new().sign(HEADER, &claims().to_string()), Vec::new()).unwrap_err();
    assert_eq!((error.code, error.field), (Code::Invalid, Some("on_behalf_of")));
    assert!(error.message.contains("`[[subject_issuer]]`"), "{error}");
}
