//! A task on behalf of a human, as the human's identity provider says it: the whole way through the real binary.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use belay::cedar::Set;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair, RsaPublicKeyComponents};
use rustix::process::{Pid, Signal, kill_process};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::support::needs;
use crate::support::process::{Broker, Ran};
use crate::support::production::{Place, mode};
use crate::support::provider::{Provider, base64url, claims, signing_input};

/// A production broker that believes one identity provider, and an agent of its.
struct Office {
    place: Place,
    broker: Broker,
    planner: PathBuf,
}

impl Office {
    fn believing(jwks: &Value) -> Self {
        let place = Place::initialised("");
        let file = place.at("issuer.jwks");
        publish(&file, &jwks.to_string());
        // A table ends the lines that are of no table.
        place.configure(&("log = 'trace'\n".to_owned() + &Provider::new("").lines(&file)));
        let broker = Broker::start_production(place.home());
        // The shipped ones ask for a catalog first; what is granted is not what is looked at here.
        let policies = place.at("policies");
        std::fs::create_dir(&policies).unwrap();
        for (name, text) in Set::dev().unwrap().files() {
            std::fs::write(policies.join(name), text).unwrap();
        }
        broker.run(&["policy", "apply", policies.to_str().unwrap()]).ok();
        let planner = broker.agent("planner");
        Self { place, broker, planner }
    }

    /// `belay task start` on behalf of whom `token` names.
    fn start(&self, token: &str, more: &[&str]) -> Ran {
        let file = self.place.at("human.jwt");
        std::fs::write(&file, format!("{token}\n")).unwrap();
        let file = format!("@{}", file.display());
        let arguments = [&["task", "start", "book a room", "--on-behalf-of", &file], more].concat();
        let ran = self.broker.run_as(&self.planner, &arguments);
        std::fs::remove_file(self.place.at("human.jwt")).unwrap();
        ran
    }

    fn run(&self, arguments: &[&str]) -> Value {
        self.broker.run_as(&self.planner, arguments).ok()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.place.at("serve.log")).unwrap()
    }

    /// Sends SIGHUP and waits until the log says this once more.
    fn reload(&self, words: &str) {
        let said = || self.log().matches(words).count();
        let before = said();
        kill_process(Pid::from_raw(self.broker.pid().cast_signed()).unwrap(), Signal::HUP).unwrap();
        for _ in 0..1000 {
            if said() > before {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{}", self.log());
    }
}

fn publish(file: &Path, jwks: &str) {
    std::fs::write(file, jwks).unwrap();
    mode(file, 0o644);
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

fn reason(ran: &Ran, code: i32) -> String {
    text(&ran.err(code), "/detail/reason").to_owned()
}

/// Every file below `directory`, whole.
fn left(directory: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { left(&path) } else { vec![std::fs::read(path).unwrap()] }).collect()
}

#[test]
fn a_subject_is_in_all_that_a_task_leads_to_and_one_cut_ends_it() {
    let provider = Provider::new("k1");
    let mut office = Office::believing(&provider.jwks());
    let token = provider.token("ana@example.com");
    let started = office.start(&token, &[]).ok();
    assert_eq!(text(&started, "/task/subject"), "ana@example.com");
    let task = text(&started, "/task/id").to_owned();
    let granted = office.run(&["grant", "request", "--task", &task, "--scope", "mail:*@**", "--token"]);
    let (grant, credential) = (text(&granted, "/grant/id").to_owned(), text(&granted, "/token/token").to_owned());
    let shown = office.run(&["token", "inspect", &credential]);
    assert_eq!(text(&shown, "/claims/sub"), "ana@example.com");
    assert_eq!(text(&shown, "/claims/act/sub"), "spiffe://test.example/agent/planner");
    assert_eq!(text(&shown, "/claims/chain/0/subject"), "ana@example.com");
    let tasks = office.run(&["task", "list"]);
    assert_eq!(text(&tasks, "/tasks/0/subject"), "ana@example.com");
    for told in [vec!["why", &grant], vec!["audit", "list", "--kind", "task_started"], vec!["grant", "show", &grant]] {
        let told = office.broker.run(&told);
        assert!(told.code == 0 && told.stdout.contains("ana@example.com"), "{told:?}");
    }
    let call = ["authorize", "--token", &credential, "--tool", "mail", "--action", "send", "--resource", "a"];
    assert_eq!(office.run(&call)["decision"], "allow");

    // A task of somebody else's goes on when hers is over.
    let other = office.start(&provider.token("bob"), &[]).ok();
    let other = office.run(&["grant", "request", "--task", text(&other, "/task/id"), "--scope", "mail:*@**"]);
    office.broker.run(&["revoke", "subject:ana@example.com", "--reason", "she left"]).ok();
    assert_eq!(office.broker.run_as(&office.planner, &call).code, 3);
    let again = office.broker.run_as(&office.planner, &["token", "issue", "--grant", &grant]);
    assert_eq!(reason(&again, 3), "subject_revoked");
    assert_eq!(text(&office.run(&["grant", "show", text(&other, "/grant/id")]), "/grant/state"), "active");

    // What proved her is nowhere, at the loudest log level either: not the text, nor its signature, nor its claims.
    let refused = office.start(&format!("{token}x"), &[]);
    office.broker.kill();
    let mut all = left(office.place.home());
    all.push(format!("{refused:?}").into_bytes());
    let holds = |what: &str| all.iter().any(|file| file.windows(what.len()).any(|part| part == what.as_bytes()));
    assert!(holds("ana@example.com") && holds("book a room"));
    for part in token.split('.').skip(1) {
        assert!(!holds(&part[..40]), "{part}");
    }
}

#[test]
fn a_retry_with_a_fresh_token_is_the_same_task_and_for_somebody_else_another_request() {
    let provider = Provider::new("k1");
    let office = Office::believing(&provider.jwks());
    let key = ["--idempotency-key", "retry-1"];
    let first = office.start(&provider.token("ana"), &key).ok();
    let fresh = provider.token_with("ana", |claims| claims["jti"] = "another".into());
    assert_eq!(office.start(&fresh, &key).ok()["task"]["id"], first["task"]["id"]);
    assert_eq!(reason(&office.start(&provider.token("bob"), &key), 1), "idempotency_conflict");
    let without = ["task", "start", "book a room", "--idempotency-key", "retry-1"];
    assert_eq!(reason(&office.broker.run_as(&office.planner, &without), 1), "idempotency_conflict");
    // A key does not stand in for the proof.
    let over = provider.token_with("ana", |claims| claims["exp"] = 1.into());
    assert_eq!(reason(&office.start(&over, &key), 3), "subject_expired");
}

#[test]
fn who_does_not_prove_a_subject_starts_no_task() {
    let provider = Provider::new("k1");
    let office = Office::believing(&provider.jwks());
    let stranger = Provider::new("k1");
    let size = || office.broker.run(&["status"]).ok()["seq"].as_u64().unwrap();
    let before = size();
    let cases = [
        ("subject_signature", stranger.token("ana")),
        ("subject_audience", provider.token_with("ana", |claims| claims["aud"] = "other".into())),
        ("subject_issuer", provider.token_with("ana", |claims| claims["iss"] = "https://evil.example".into())),
        ("subject_issuer", provider.token_with("ana", |claims| claims["iss"] = "https://test.example".into())),
        ("subject_claim", provider.token("spiffe://test.example/agent/planner")),
        ("subject_malformed", "hunter2".to_owned()),
        ("subject_malformed", provider.token(&"a".repeat(20_000))),
    ];
    for (expected, token) in cases {
        assert_eq!(reason(&office.start(&token, &[]), 3), expected);
    }
    // One of the broker's own tokens proves its holder, and no human.
    let task = office.run(&["task", "start", "testing"]);
    let own = office.run(&["grant", "request", "--task", text(&task, "/task/id"), "--scope", "a:b@c", "--token"]);
    assert_eq!(reason(&office.start(text(&own, "/token/token"), &[]), 3), "subject_issuer");
    assert_eq!(size(), before + 3, "a refusal is no event");
    // An operator runs no task, whoever it is for.
    let token = provider.token("ana");
    let asked = office.broker.run(&["task", "start", "testing", "--on-behalf-of", &token]);
    assert_eq!(asked.err(3)["code"], "denied");
    assert!(!office.log().contains("hunter2"));
}

#[test]
fn a_broker_without_an_identity_provider_says_what_to_configure() {
    let broker = Broker::start();
    let planner = broker.agent("planner");
    let token = Provider::new("k1").token("ana");
    let error = broker.run_as(&planner, &["task", "start", "testing", "--on-behalf-of", &token]).err(2);
    assert_eq!(text(&error, "/detail/reason"), "subject_unconfigured");
    assert!(text(&error, "/message").contains("[[subject_issuer]]"), "{error}");
}

#[test]
fn a_reload_takes_the_keys_of_an_identity_provider_or_keeps_all_of_the_old() {
    let (old, new) = (Provider::new("k1"), Provider::new("k2"));
    let office = Office::believing(&old.jwks());
    let file = office.place.at("issuer.jwks");
    office.start(&old.token("ana"), &[]).ok();
    let both = json!({ "keys": [old.jwks()["keys"][0], new.jwks()["keys"][0]] }).to_string();
    publish(&file, &both);
    assert_eq!(reason(&office.start(&new.token("ana"), &[]), 3), "subject_key", "nothing was asked for yet");
    office.reload("\"the configuration was read again\"");
    office.start(&old.token("ana"), &[]).ok();
    office.start(&new.token("ana"), &[]).ok();

    for broken in ["", &both[..both.len() / 2], "{\"keys\":[]}"] {
        publish(&file, broken);
        office.reload("the configuration was not read again");
        office.start(&old.token("ana"), &[]).ok();
        office.start(&new.token("ana"), &[]).ok();
    }
    publish(&file, &new.jwks().to_string());
    office.reload("\"the configuration was read again\"");
    assert_eq!(reason(&office.start(&old.token("ana"), &[]), 3), "subject_key");
    office.start(&new.token("ana"), &[]).ok();

    // Taken out of the configuration, it is believed no more; the task that runs goes on.
    office.place.configure("");
    office.reload("\"the configuration was read again\"");
    assert_eq!(reason(&office.start(&new.token("ana"), &[]), 2), "subject_unconfigured");
    assert_eq!(office.run(&["task", "list"])["tasks"].as_array().unwrap().len(), 10);
}

/// An RSA key of OpenSSL's, as a JWK with `kid` "r" too.
fn rsa(directory: &Path) -> (RsaKeyPair, Value) {
    let file = directory.join("rsa.pem");
    let mut make = Command::new("openssl");
    make.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"]).arg(&file);
    assert!(make.output().unwrap().status.success());
    let key = RsaKeyPair::from_pkcs8(PrivateKeyDer::from_pem_file(&file).unwrap().secret_der()).unwrap();
    let RsaPublicKeyComponents { n, e }: RsaPublicKeyComponents<Vec<u8>> = key.public().into();
    let jwk = json!({ "kty": "RSA", "kid": "r", "use": "sig", "n": base64url(&n), "e": base64url(&e) });
    (key, jwk)
}

#[test]
fn a_key_of_rsa_signs_under_its_own_algorithms_alone() {
    let found = Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success());
    if !needs("a_key_of_rsa_signs_under_its_own_algorithms_alone", "openssl", found) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (key, jwk) = rsa(directory.path());
    let sign = |alg: &str, encoding: &'static dyn RsaEncoding| {
        let input = signing_input(&json!({ "alg": alg, "kid": "r" }), &claims("ana"));
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(encoding, &SystemRandom::new(), input.as_bytes(), &mut signature).unwrap();
        format!("{input}.{}", base64url(&signature))
    };
    let office = Office::believing(&json!({ "keys": [jwk] }));
    for (alg, encoding) in [("RS256", &RSA_PKCS1_SHA256 as &'static dyn RsaEncoding), ("PS256", &RSA_PSS_SHA256)] {
        assert_eq!(text(&office.start(&sign(alg, encoding), &[]).ok(), "/task/subject"), "ana");
    }
    let forged: [(&str, &'static dyn RsaEncoding, &str); 5] = [
        ("RS256", &RSA_PSS_SHA256, "subject_signature"),
        ("PS256", &RSA_PKCS1_SHA256, "subject_signature"),
        ("ES256", &RSA_PKCS1_SHA256, "subject_key"),
        ("EdDSA", &RSA_PKCS1_SHA256, "subject_key"),
        ("RS512", &RSA_PKCS1_SHA256, "subject_algorithm"),
    ];
    for (alg, encoding, expected) in forged {
        assert_eq!(reason(&office.start(&sign(alg, encoding), &[]), 3), expected, "{alg}");
    }
    // A key that says which of the two it is for is for that one.
    let mut jwk = jwk;
    jwk["alg"] = "PS256".into();
    publish(&office.place.at("issuer.jwks"), &json!({ "keys": [jwk] }).to_string());
    office.reload("\"the configuration was read again\"");
    office.start(&sign("PS256", &RSA_PSS_SHA256), &[]).ok();
    assert_eq!(reason(&office.start(&sign("RS256", &RSA_PKCS1_SHA256), &[]), 3), "subject_key");
}

/// Keys and tokens of every kind, by an implementation that is not ours: the claims are on stdin.
const PYTHON: &str = r#"
import base64, json, sys
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
claims = sys.argv[1]
b64 = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=").decode()
number = lambda n, size=None: b64(n.to_bytes(size or (n.bit_length() + 7) // 8, "big"))
keys, tokens = [], {}
def add(kid, alg, jwk, sign):
    keys.append({"kid": kid, "alg": alg, "use": "sig", **jwk})
    data = b64(json.dumps({"alg": alg, "kid": kid, "typ": "JWT"}).encode()) + "." + b64(claims.encode())
    tokens[kid] = data + "." + b64(sign(data.encode()))
p256 = ec.generate_private_key(ec.SECP256R1())
def es256(data):
    r, s = utils.decode_dss_signature(p256.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")
point = p256.public_key().public_numbers()
add("es256", "ES256", {"kty": "EC", "crv": "P-256", "x": number(point.x, 32), "y": number(point.y, 32)}, es256)
ed = ed25519.Ed25519PrivateKey.generate()
add("eddsa", "EdDSA", {"kty": "OKP", "crv": "Ed25519", "x": b64(ed.public_key().public_bytes_raw())}, ed.sign)
pkcs1 = padding.PKCS1v15()
pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
for kid, alg, bits, pad in [("rs256", "RS256", 2048, pkcs1), ("ps256", "PS256", 3072, pss), ("weak", "RS256", 1024, pkcs1)]:
    key = rsa.generate_private_key(65537, bits)
    public = key.public_key().public_numbers()
    add(kid, alg, {"kty": "RSA", "n": number(public.n), "e": number(public.e)}, lambda data: key.sign(data, pad, hashes.SHA256()))
print(json.dumps({"jwks": {"keys": keys}, "tokens": tokens}))
"#;

#[test]
fn what_python_signs_proves_a_subject_under_each_algorithm() {
    let test = "what_python_signs_proves_a_subject_under_each_algorithm";
    let found = Command::new("python3").args(["-c", "import cryptography"]).output();
    if !needs(test, "python3 with cryptography", found.is_ok_and(|output| output.status.success())) {
        return;
    }
    let made = Command::new("python3").args(["-c", PYTHON, &claims("ana").to_string()]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let office = Office::believing(&made["jwks"]);
    for kid in ["es256", "eddsa", "rs256", "ps256"] {
        let token = text(&made, &format!("/tokens/{kid}"));
        assert_eq!(text(&office.start(token, &[]).ok(), "/task/subject"), "ana", "{kid}");
        let (input, signature) = token.rsplit_once('.').unwrap();
        let other = text(&made, if kid == "es256" { "/tokens/eddsa" } else { "/tokens/es256" });
        let swapped = format!("{input}.{}", other.rsplit_once('.').unwrap().1);
        assert_eq!(reason(&office.start(&swapped, &[]), 3), "subject_signature", "{kid}");
        let none = signing_input(&json!({ "alg": "none", "kid": kid }), &claims("ana"));
        for forged in [format!("{none}."), format!("{none}.{signature}")] {
            assert_eq!(reason(&office.start(&forged, &[]), 3), "subject_algorithm", "{kid}");
        }
    }
    assert_eq!(reason(&office.start(text(&made, "/tokens/weak"), &[]), 3), "subject_key");
}
