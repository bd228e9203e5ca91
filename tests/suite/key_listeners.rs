//! What the listeners show follows the keys: over real connections, by the real command line.

use std::path::{Path, PathBuf};
use std::process::Command;

use belay::client::Identity;
use belay::domain::digest::Digest;
use belay::domain::key::Purpose;
use belay::format::note::VerifierKey;
use belay::wire::v1;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType, SerialNumber};
use serde_json::Value;
use tonic::{Code, Response};

use crate::support::calls::{Acting, raw, refused};
use crate::support::data::Data;
use crate::support::needs;
use crate::support::process::{Broker, Ran};

fn keys(broker: &Broker) -> Vec<Value> {
    broker.run(&["keys", "list"]).ok()["keys"].as_array().unwrap().clone()
}

/// The key of this purpose in this phase.
fn key(broker: &Broker, purpose: &str, phase: &str) -> Value {
    let found = keys(broker).into_iter().find(|key| key["purpose"] == purpose && key["phase"] == phase);
    found.unwrap_or_else(|| panic!("no {phase} {purpose} key: {:?}", keys(broker)))
}

fn taint(broker: &Broker, kid: &str) -> Ran {
    broker.run(&["keys", "taint", "--reason", "testing", "--", kid])
}

fn kid(key: &Value) -> String {
    key["kid"].as_str().unwrap().to_owned()
}

/// Whom an agent believes: the digests of the certificates in its `ca.pem`.
fn believes(directory: &Path) -> Vec<String> {
    let identity = Identity::load(directory).unwrap();
    identity.authorities().iter().map(|der| Digest::of(der).to_string()).collect()
}

#[tokio::test]
async fn the_command_line_lists_rotates_and_taints() {
    let broker = Broker::start();
    let listed = keys(&broker);
    let purposes: Vec<_> = listed.iter().map(|key| key["purpose"].as_str().unwrap()).collect();
    assert_eq!(purposes, ["token", "authority", "operator", "log"]);
    for key in &listed {
        let authority = ["authority", "operator"].contains(&key["purpose"].as_str().unwrap());
        assert_eq!((key["phase"].as_str(), key.get("ends_at").is_some()), (Some("used"), authority), "{key}");
        assert_eq!((key.get("fingerprint").is_some(), key.get("public").is_some()), (authority, !authority), "{key}");
        assert!(["created_at", "use_from"].iter().all(|name| key[name].is_string()), "{key}");
    }
    let first = key(&broker, "token", "used");
    let rotated = broker.run(&["keys", "rotate", "token"]).ok();
    assert_eq!(rotated["key"]["phase"], "published");
    assert!(rotated["note"].as_str().unwrap().contains(rotated["key"]["use_from"].as_str().unwrap()));
    let error = broker.run(&["keys", "rotate", "token"]).err(1);
    assert_eq!(error["detail"]["reason"], "rotation_pending");
    let second = broker.run(&["keys", "rotate", "token", "--now"]).ok();
    assert_eq!((&second["key"]["phase"], kid(&key(&broker, "token", "retiring"))), (&"used".into(), kid(&first)));
    broker.run(&["keys", "rotate", "nothing"]).err(2);
    assert_eq!(taint(&broker, "nothing").err(5)["detail"]["field"], "kid");

    let tainted = taint(&broker, &kid(&second["key"])).ok();
    assert_eq!(
        (&tainted["final"], &tainted["cut"]["tokens"], &tainted["caller_shut_out"]),
        (&true.into(), &0.into(), &false.into())
    );
    assert_eq!((&tainted["key"]["phase"], &tainted["successor"]["phase"]), (&"tainted".into(), &"used".into()));
    assert!(tainted["key"]["tainted_at"].is_string());
    assert!(tainted["note"].as_str().unwrap().contains("issue new tokens"), "what is left to do: {tainted}");
    let status = broker.run(&["status"]).ok();
    assert_eq!(status["authority_ends_at"], key(&broker, "authority", "used")["ends_at"]);
    let why = broker.run(&["audit", "list", "--kind", "key_tainted"]).ok();
    assert_eq!(why["events"][0]["detail"]["reason"], "testing");
    // What is shown to all is what is accepted.
    let (_, _, shown) = broker.page("/.well-known/jwks.json").await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let mut shown: Vec<_> = shown["keys"].as_array().unwrap().iter().map(kid).collect();
    let mut accepted: Vec<_> =
        keys(&broker).iter().filter(|key| key["purpose"] == "token" && key["phase"] != "tainted").map(kid).collect();
    shown.sort();
    accepted.sort();
    assert_eq!((shown, accepted.len()), (accepted.clone(), 3));
}

#[tokio::test]
async fn an_authority_that_takes_over_at_once_shuts_nobody_out() {
    let mut broker = Broker::start();
    let before = broker.enroll_agent("before").await;
    let open = Acting::with(&broker, &before).await;
    let (grant, _, token) = open.granted().await;
    let invited = broker.registered("invited").await;
    let old = key(&broker, "authority", "used");
    let rotated = broker.run(&["keys", "rotate", "authority", "--now"]).ok();
    let operator = broker.home.join("operator");
    let both = [&old, &rotated["key"]].map(|key| key["fingerprint"].as_str().unwrap().to_owned());
    assert_eq!(believes(&operator), both, "who rotates learns the new one at once");

    for round in 0..2 {
        // Those who know the old one alone: their certificate, the broker's, and a join token that was out already.
        let again = Acting::with(&broker, &before).await;
        assert_eq!(again.verify(&token).await, "");
        again.issue(&grant).await.unwrap();
        assert_eq!(believes(&before), both[..1]);
        if round == 0 {
            assert_eq!(open.verify(&token).await, "");
            let out = broker.home.join("invited");
            broker.run(&["agent", "enroll", "--join-token", &invited, "--out", out.to_str().unwrap()]).ok();
            assert_eq!(believes(&out), both);
        }
        // Those who come now are under the new one, and are let in as well.
        let after = broker.enroll_agent(&format!("after-{round}")).await;
        assert_eq!(believes(&after), both);
        Acting::with(&broker, &after).await.granted().await;
        // A restart keeps all of that.
        if round == 0 {
            broker.kill();
            let next = Broker::start_in(&broker.home.clone(), &[]);
            broker.replace(next);
        }
    }
    let renewed = broker.run_as(&before, &["agent", "renew"]);
    renewed.ok();
    assert_eq!(believes(&before), both);
}

#[tokio::test]
async fn a_tainted_authority_ends_its_agents_at_once_and_no_operator() {
    let broker = Broker::start();
    let agent = broker.enroll_agent("ana").await;
    let open = Acting::with(&broker, &agent).await;
    open.granted().await;
    let other = broker.operator("otto", &["admin"]).await;
    let held = broker.channel_as(&other).await.unwrap();
    let old = key(&broker, "authority", "used");
    let tainted = taint(&broker, &kid(&old)).ok();
    assert_eq!(
        (tainted["caller_shut_out"].as_bool(), tainted["cut"]["certificates"].as_u64()),
        (Some(false), Some(2)),
        "{tainted}"
    );

    // On the connection that is open, and on every new one.
    let answer = raw(&open.0, "/belay.v1.Tasks/List", Vec::new()).await.map(Response::new);
    refused("the agent", answer, Code::Unauthenticated, "key_tainted", 6);
    let shut = broker.channel_as(&agent).await.expect_err("the agent connects");
    assert!(shut.message.contains("unknown CA"), "{shut}");
    // Whoever tainted it learnt the new authority by it, and goes on.
    let new = key(&broker, "authority", "used");
    assert_eq!(believes(&broker.home.join("operator")), [new["fingerprint"].as_str().unwrap()]);
    let back = broker.run(&["agent", "invite", "ana"]).ok()["join_token"].as_str().unwrap().to_owned();
    let out = broker.home.join("ana-again");
    broker.run(&["agent", "enroll", "--join-token", &back, "--out", out.to_str().unwrap()]).ok();
    Acting::with(&broker, &out).await.granted().await;
    // Another operator is as good as ever; its ca.pem is not.
    v1::agents_client::AgentsClient::new(held).list(v1::ListAgentsRequest {}).await.unwrap();
    assert!(broker.channel_as(&other).await.is_err());
    std::fs::copy(broker.home.join("operator/ca.pem"), other.join("ca.pem")).unwrap();
    let channel = broker.channel_as(&other).await.unwrap();
    v1::agents_client::AgentsClient::new(channel).list(v1::ListAgentsRequest {}).await.unwrap();
}

#[tokio::test]
async fn a_tainted_operator_authority_shuts_its_caller_out_and_says_so() {
    let broker = Broker::start();
    let otto = broker.operator("otto", &["admin", "responder"]).await;
    let agent = broker.enroll_agent("ana").await;
    let operators = key(&broker, "operator", "used");
    let tainted = broker.run_as(&otto, &["keys", "taint", "--reason", "testing", "--", &kid(&operators)]);
    assert!(tainted.stderr.contains("invite") && tainted.ok()["caller_shut_out"] == true, "{tainted:?}");
    let refused = broker.run_as(&otto, &["keys", "list"]);
    assert_eq!(refused.code, 6, "{refused:?}");
    Acting::with(&broker, &agent).await.granted().await;
    // The development operator has a new identity by the time that the taint is answered.
    assert_eq!(key(&broker, "operator", "tainted")["kid"], operators["kid"]);
    let invited = broker.run(&["operator", "invite", "otto"]).ok()["join_token"].as_str().unwrap().to_owned();
    let out = broker.home.join("otto-again");
    broker.run(&["operator", "enroll", "--join-token", &invited, "--out", out.to_str().unwrap()]).ok();
    broker.run_as(&out, &["agent", "list"]).ok();
}

#[tokio::test]
async fn a_key_signs_for_its_purpose_alone() {
    let broker = Broker::start();
    let directory = broker.enroll_agent("ana").await;
    let agent = Acting::with(&broker, &directory).await;
    let (_, _, token) = agent.granted().await;
    let data = Data::read(&broker.home.join("dev"));
    let random = ring::rand::SystemRandom::new();
    for purpose in [Purpose::Authority, Purpose::Operator, Purpose::Log] {
        let (record, pkcs8) = data.key(purpose);
        let header = format!(r#"{{"typ":"at+jwt","alg":"ES256","kid":"{}"}}"#, record.kid);
        let input = format!("{}.{}", base64url(header.as_bytes()), token.split('.').nth(1).unwrap());
        let signature = match purpose {
            Purpose::Log => ring::signature::Ed25519KeyPair::from_pkcs8(&pkcs8).unwrap().sign(input.as_bytes()),
            _ => {
                let algorithm = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
                let pair = ring::signature::EcdsaKeyPair::from_pkcs8(algorithm, &pkcs8, &random).unwrap();
                pair.sign(&random, input.as_bytes()).unwrap()
            }
        };
        let forged = format!("{input}.{}", base64url(signature.as_ref()));
        assert_eq!(agent.verify(&forged).await, "key_unknown", "{purpose}");
        assert_eq!(agent.decided(&forged).await, "key_unknown", "{purpose}");
    }
    // Under the operators' authority, in the name of an agent.
    let (record, pkcs8) = data.key(Purpose::Operator);
    let authority = record.certificate.unwrap();
    let issuer = Issuer::from_ca_cert_der(&authority.into(), KeyPair::try_from(pkcs8).unwrap()).unwrap();
    let real = Identity::load(&directory).unwrap();
    let (_, read) = x509_parser::parse_x509_certificate(real.certificate()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI("spiffe://belay.dev/agent/ana".try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.serial_number = Some(SerialNumber::from_slice(read.raw_serial()));
    let der = params.signed_by(&key, &issuer).unwrap().der().to_vec();
    let forged = broker.home.join("forged");
    Identity::save(&forged, &der, &key.serialize_pem(), &[broker.authority()], false).unwrap();
    let refusal = broker.channel_as(&forged).await.unwrap_err();
    assert!(
        refusal.message.contains("it refused our certificate as not of its ledger"),
        "an operators' agent: {refusal}"
    );
}

#[tokio::test]
async fn the_signed_head_is_a_checkpoint_that_others_verify() {
    let broker = Broker::start();
    let vkey = key(&broker, "log", "used")["public"].as_str().unwrap().to_owned();
    let (status, headers, note) = broker.page("/checkpoint").await;
    assert!(status.contains("200") && headers.contains("content-type: text/plain"), "{status} {headers}");
    let ours: VerifierKey = vkey.parse().unwrap();
    let head = ours.checkpoint(&note).unwrap();
    let size = broker.run(&["status"]).ok()["checkpoint"].clone();
    assert_eq!((size["size"].as_u64(), size["root"].as_str()), (Some(head.size), Some(head.root.to_string().as_str())));
    assert!(head.origin.starts_with("belay.dev/log/"), "{}", head.origin);
    broker.agent("ana");
    let later = ours.checkpoint(&broker.page("/checkpoint").await.2).unwrap();
    assert!(later.size > head.size && later.root != head.root && later.origin == head.origin);
    // Another key, another signature; the old one is not used again.
    broker.run(&["keys", "rotate", "log", "--now"]).ok();
    let rotated = broker.page("/checkpoint").await.2;
    assert_eq!(ours.checkpoint(&rotated).unwrap_err().reason, "note_unsigned");
    let next: VerifierKey = key(&broker, "log", "used")["public"].as_str().unwrap().parse().unwrap();
    assert!(next.checkpoint(&rotated).unwrap().size > later.size);
    others_verify(&broker.home, &note, &vkey);
}

/// Python's `cryptography`, on what the specification says and nothing of ours.
const PYTHON: &str = r#"
import base64, hashlib, sys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
note, vkey = open(sys.argv[1], encoding="utf-8").read(), sys.argv[2]
name, keyid, key = vkey.split("+", 2)
key = base64.b64decode(key, validate=True)
assert hashlib.sha256(name.encode() + b"\n" + key).hexdigest()[:8] == keyid and key[0] == 1
text, signatures = note.rsplit("\n\n", 1)
dash, signer, signed = signatures.rstrip("\n").split(" ")
signed = base64.b64decode(signed, validate=True)
assert (dash, signer, signed[:4].hex()) == ("\u2014", name, keyid)
Ed25519PublicKey.from_public_bytes(key[1:]).verify(signed[4:], (text + "\n").encode())
origin, size, root = (text + "\n").splitlines()
assert origin == name and str(int(size)) == size and len(base64.b64decode(root, validate=True)) == 32
"#;

fn others_verify(home: &Path, note: &str, vkey: &str) {
    let path: PathBuf = home.join("checkpoint");
    let check = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let output = Command::new("python3").args(["-c", PYTHON]).arg(&path).arg(vkey).output().unwrap();
        output.status.success()
    };
    let found = Command::new("python3").args(["-c", "import cryptography"]).output();
    let found = found.is_ok_and(|output| output.status.success());
    if needs("the_signed_head_is_a_checkpoint_that_others_verify", "python3 with cryptography", found) {
        assert!(check(note));
        assert!(!check(&note.replacen('\n', "\n1", 1)));
    }
}

fn base64url(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes)
}
