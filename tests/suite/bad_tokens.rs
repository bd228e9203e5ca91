//! Tokens that are not good: altered, re-signed, dressed up as another kind, or in another's hands. Each is
//! refused by `token verify` and by `authorize`, with one code, while the token it was made from is accepted.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use belay::domain::digest::Digest;
use belay::domain::key::Purpose;
use belay::domain::time::Timestamp;
use belay::verifier::Keys;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};
use tonic::Code;

use crate::support::calls::{Acting, is_clear, refused};
use crate::support::data::Data;
use crate::support::process::Broker;

/// The broker's token key in the hands of a test.
struct Forger {
    pair: EcdsaKeyPair,
    kid: String,
    public: Vec<u8>,
    header: Value,
    claims: Value,
}

impl Forger {
    fn of(broker: &Broker, token: &str) -> Self {
        let (key, pkcs8) = Data::read(&broker.home.join("dev")).key(Purpose::Token);
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &SystemRandom::new()).unwrap();
        let part = |at| serde_json::from_slice(&BASE64.decode(token.split('.').nth(at).unwrap()).unwrap()).unwrap();
        Self { pair, kid: key.kid, public: key.public, header: part(0), claims: part(1) }
    }

    fn sign(&self, header: &Value, claims: &str) -> String {
        let input = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", BASE64.encode(signature))
    }

    /// A token that the broker might have signed, with one member of its header changed.
    fn header(&self, member: &str, value: Value) -> String {
        let mut header = self.header.clone();
        header[member] = value;
        self.sign(&header, &self.claims.to_string())
    }

    fn claim(&self, member: &str, value: Value) -> String {
        let mut claims = self.claims.clone();
        claims[member] = value;
        self.sign(&self.header, &claims.to_string())
    }

    /// The same throughout: whoever issues tokens keeps their status as well.
    fn of_issuer(&self, issuer: &str) -> String {
        let claims = self.claims.to_string().replace(self.claims["iss"].as_str().unwrap(), issuer);
        self.sign(&self.header, &claims)
    }

    fn without(&self, member: &str) -> String {
        let mut claims = self.claims.clone();
        claims.as_object_mut().unwrap().remove(member).unwrap();
        self.sign(&self.header, &claims.to_string())
    }

    /// HMAC under what everybody knows, for verifiers that let the token choose the algorithm.
    fn hmac(&self, secret: &[u8]) -> String {
        let header = json!({ "typ": "at+jwt", "alg": "HS256", "kid": self.kid });
        let input = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(self.claims.to_string()));
        let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret), input.as_bytes());
        format!("{input}.{}", BASE64.encode(tag))
    }
}

/// Each wrong token by what is wrong, and the code of its refusal.
fn forgeries(forger: &Forger, token: &str) -> Vec<(&'static str, &'static str, String)> {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = [parts[0], parts[1], parts[2]];
    let encoded = |value: &Value| BASE64.encode(value.to_string());
    let mut altered = forger.claims.clone();
    altered["authorization_details"][0]["scope"] = "db:*@**".into();
    let (mut none, mut later) = (forger.header.clone(), forger.claims.clone());
    none["alg"] = "none".into();
    later["exp"] = (later["exp"].as_i64().unwrap() + 60).into();
    let exp = |text: &str| forger.claims.to_string().replace(&format!("\"exp\":{}", forger.claims["exp"]), text);
    let exp = |text: &str| forger.sign(&forger.header, &exp(text));
    let seconds = forger.claims["exp"].to_string();
    let spki = [&b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00"[..], &forger.public].concat();
    let raw = BASE64.decode(signature).unwrap();
    vec![
        ("an altered payload", "signature", format!("{header}.{}.{signature}", encoded(&altered))),
        ("a later end", "signature", format!("{header}.{}.{signature}", encoded(&later))),
        ("another audience", "signature", {
            altered["aud"] = "https://evil.example".into();
            format!("{header}.{}.{signature}", encoded(&altered))
        }),
        ("a signature of zeros", "signature", format!("{header}.{claims}.{}", BASE64.encode([0; 64]))),
        ("half a signature", "signature", format!("{header}.{claims}.{}", BASE64.encode(&raw[..32]))),
        ("no signature", "signature", format!("{header}.{claims}.")),
        ("alg none", "token_algorithm", format!("{}.{claims}.", encoded(&none))),
        ("alg none, signed", "token_algorithm", forger.header("alg", json!("none"))),
        ("alg ES384", "token_algorithm", forger.header("alg", json!("ES384"))),
        ("alg in a list", "token_algorithm", forger.header("alg", json!(["ES256"]))),
        ("HS256 under the point", "token_algorithm", forger.hmac(&forger.public)),
        ("HS256 under the SPKI", "token_algorithm", forger.hmac(&spki)),
        ("typ JWT", "token_type", forger.header("typ", json!("JWT"))),
        ("typ dpop+jwt", "token_type", forger.header("typ", json!("dpop+jwt"))),
        ("no typ", "token_type", forger.header("typ", Value::Null)),
        ("another kid", "key_unknown", forger.header("kid", json!("other"))),
        ("a path as kid", "key_unknown", forger.header("kid", json!("../../master.key"))),
        ("a key in the header", "token_malformed", forger.header("jwk", json!({ "kty": "EC" }))),
        ("an address in the header", "token_malformed", forger.header("jku", json!("https://evil.example"))),
        ("crit", "token_malformed", forger.header("crit", json!(["exp"]))),
        ("exp as a string", "token_malformed", forger.claim("exp", json!(seconds))),
        ("exp as a list", "token_malformed", forger.claim("exp", json!([1]))),
        ("exp true", "token_malformed", forger.claim("exp", json!(true))),
        ("exp null", "token_malformed", forger.claim("exp", Value::Null)),
        ("exp 1e400", "token_malformed", exp("\"exp\":1e400")),
        ("exp beyond 2^63", "token_malformed", exp("\"exp\":9223372036854775808")),
        ("exp twice", "token_malformed", exp(&format!("\"exp\":{seconds},\"exp\":{seconds}"))),
        ("exp -1", "token_malformed", forger.claim("exp", json!(-1))),
        ("no exp", "token_malformed", forger.without("exp")),
        ("no cnf", "token_malformed", forger.without("cnf")),
        ("no jti", "token_malformed", forger.without("jti")),
        ("exp in the past", "token_expired", forger.claim("exp", json!(1_600_000_000))),
        ("another issuer", "token_issuer", forger.of_issuer("https://evil.example")),
        (
            "another issuer than that of its status",
            "token_malformed",
            forger.claim("iss", json!("https://evil.example")),
        ),
        ("another epoch", "token_epoch", forger.claim("epoch", json!("AAAAAAAAAAAAAAAA"))),
        ("another holder", "possession", forger.claim("cnf", json!({ "x5t#S256": BASE64.encode([7; 32]) }))),
        ("an id never issued", "token_unknown", forger.claim("jti", json!("tok_01m826ztspf8fv6vxgstkferfd"))),
        ("nothing", "token_malformed", String::new()),
        ("no token", "token_malformed", "hunter2".to_owned()),
        ("padding", "token_malformed", format!("{token}==")),
        ("a newline", "token_malformed", format!("{token}\n\n")),
        ("a fourth part", "token_malformed", format!("{token}.{signature}")),
        ("many dots", "token_malformed", ".".repeat(20_000)),
        ("40 KiB", "token_malformed", "A".repeat(40 * 1024)),
    ]
}

#[tokio::test]
async fn a_forged_token_is_refused_wherever_it_is_shown() {
    let broker = Broker::start();
    let agent = Acting::with(&broker, &broker.enroll_agent("ana").await).await;
    let operator = Acting(broker.channel().await);
    let (_, id, token) = agent.granted().await;
    let forger = Forger::of(&broker, &token);
    assert_eq!((forger.claims["jti"].as_str(), forger.header["alg"].as_str()), (Some(&id[..]), Some("ES256")));
    // The forger signs as the broker does: what it leaves unchanged is accepted.
    let twin = forger.sign(&forger.header, &forger.claims.to_string());
    assert_eq!((agent.verify(&token).await, agent.verify(&twin).await), (String::new(), String::new()));
    let size = broker.log_size(&operator.0).await;
    let forgeries = forgeries(&forger, &token);
    for (what, reason, forged) in &forgeries {
        assert_eq!(agent.verify(forged).await, *reason, "{what}");
        // An operator proves no possession, and every other reason holds for it as well.
        if *reason != "possession" {
            assert_eq!(operator.verify(forged).await, *reason, "{what}");
        }
    }
    assert_eq!(broker.log_size(&operator.0).await, size);
    assert_eq!(
        (agent.decided(&token).await, agent.decided(&twin).await),
        ("in_scope".to_owned(), "in_scope".to_owned())
    );
    for (what, reason, forged) in &forgeries {
        // Where nothing is shown, nothing is malformed: the certificate might have been the credential.
        let reason = if forged.is_empty() { "no_credential" } else { *reason };
        assert_eq!(agent.decided(forged).await, reason, "{what}");
    }
    // Decisions are recorded in a turn of their own: one record for each, denied ones too, and nothing else.
    let expected = size + forgeries.len() as u64 + 2;
    for _ in 0..100 {
        if broker.log_size(&operator.0).await >= expected {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(broker.log_size(&operator.0).await, expected);
}

#[tokio::test]
async fn the_command_line_says_no_to_a_bad_token_with_exit_3() {
    let broker = Broker::start();
    let (ana, bob) = (broker.enroll_agent("ana").await, broker.enroll_agent("bob").await);
    let (_, _, token) = Acting::with(&broker, &ana).await.granted().await;
    let forger = Forger::of(&broker, &token);
    let call = ["--tool", "db", "--action", "read", "--resource", "orders"];
    let run = |identity: &Path, token: &str, code: i32, reason: &str| {
        let verified = broker.run_as(identity, &["token", "verify", token]);
        let verdict: Value = serde_json::from_str(&verified.stdout).unwrap_or_else(|_| panic!("{verified:?}"));
        assert_eq!((verified.code, verdict["active"].as_bool()), (code, Some(code == 0)), "{verified:?}");
        assert_eq!(verdict["reason"].as_str().unwrap_or_default(), reason);
        assert!(code == 0 || is_clear(verdict["message"].as_str().unwrap()), "{verdict}");
        let decided = broker.run_as(identity, &[&["authorize", "--token", token], &call[..]].concat());
        let decision: Value = serde_json::from_str(&decided.stdout).unwrap_or_else(|_| panic!("{decided:?}"));
        let expected = if code == 0 { ("allow", "in_scope") } else { ("deny", reason) };
        assert_eq!(decided.code, code, "{decided:?}");
        assert_eq!(
            (decision["decision"].as_str(), decision["reasons"][0]["code"].as_str()),
            (Some(expected.0), Some(expected.1))
        );
        assert!(is_clear(decision["reasons"][0]["message"].as_str().unwrap()), "{decision}");
    };
    run(&ana, &token, 0, "");
    run(&bob, &token, 3, "possession");
    run(&ana, &forger.hmac(&forger.public), 3, "token_algorithm");
    run(&ana, &forger.claim("exp", json!("1795367700")), 3, "token_malformed");
    run(&ana, &forger.header("typ", json!("JWT")), 3, "token_type");
    run(&ana, "hunter2", 3, "token_malformed");
}

#[tokio::test]
async fn a_token_for_one_audience_is_refused_by_another() {
    let broker = Broker::start();
    let directory = broker.enroll_agent("ana").await;
    let agent = Acting::with(&broker, &directory).await;
    let request = belay::wire::v1::RequestGrantRequest {
        task: agent.task().await,
        scopes: vec!["db:read@**".into()],
        audience: "https://orders.example".into(),
        token: true,
        ..Default::default()
    };
    let granted = agent.request(request).await.unwrap().into_inner();
    let token = granted.token.unwrap().token;
    let forger = Forger::of(&broker, &token);
    let data = Data::read(&broker.home.join("dev"));
    let origin = data.origin().clone();
    let keys = vec![(forger.kid.clone(), forger.public.clone())];
    let verifier = Keys { issuer: origin.issuer, epoch: origin.epoch, keys };
    let certificate = belay::client::Identity::load(&directory).unwrap();
    let holder = Digest::of(certificate.certificate());
    let now = Timestamp::from_seconds(forger.claims["iat"].as_i64().unwrap() + 1);
    let check = |audience: &str, token: &str| {
        let audience = audience.parse().unwrap();
        verifier.check(token, Some(&audience), Some(&holder), now).map_or_else(|error| error.reason, |_| "")
    };
    assert_eq!(check("https://orders.example", &token), "");
    for other in ["https://orders.example/", "https://ORDERS.example", "https://billing.example", "https://belay.dev"] {
        assert_eq!(check(other, &token), "token_audience", "{other}");
    }
    let both = forger.claim("aud", json!(["https://orders.example", "https://billing.example"]));
    assert_eq!(check("https://orders.example", &both), "token_malformed");
    assert_eq!(agent.verify(&both).await, "token_malformed");
}

#[tokio::test]
async fn a_call_that_is_none_is_refused_before_it_is_decided() {
    let broker = Broker::start();
    let agent = Acting::with(&broker, &broker.enroll_agent("ana").await).await;
    let operator = broker.channel().await;
    let (_, _, token) = agent.granted().await;
    let size = broker.log_size(&operator).await;
    let mut decisions = belay::wire::v1::decisions_client::DecisionsClient::new(agent.0.clone());
    let long = "a".repeat(600);
    for (tool, action, resource, field) in [
        ("", "read", "orders", "tool"),
        ("DB", "read", "orders", "tool"),
        ("db ", "read", "orders", "tool"),
        ("*", "read", "orders", "tool"),
        ("d\u{431}", "read", "orders", "tool"),
        ("db", "", "orders", "action"),
        ("db", "*", "orders", "action"),
        ("db", "read.*", "orders", "action"),
        ("db", "read\0", "orders", "action"),
        ("db", "read", "", "resource"),
        ("db", "read", "*", "resource"),
        ("db", "read", "orders/**", "resource"),
        ("db", "read", "orders/../all", "resource"),
        ("db", "read", "orders//all", "resource"),
        ("db", "read", "/orders", "resource"),
        ("db", "read", "orders\n", "resource"),
        ("db", "read", &long, "resource"),
    ] {
        let [tool, action, resource] = [tool, action, resource].map(str::to_owned);
        let request =
            belay::wire::v1::AuthorizeRequest { token: token.clone(), tool, action, resource, ..Default::default() };
        let what = format!("{request:?}");
        let refusal = refused(&what, decisions.authorize(request).await, Code::InvalidArgument, "malformed", 2);
        assert_eq!(refusal.field.as_deref(), Some(field), "{what}");
    }
    assert_eq!(broker.log_size(&operator).await, size);
    assert_eq!(agent.decided(&token).await, "in_scope");
}
