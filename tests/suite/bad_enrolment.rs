//! Join tokens and certificate requests that are not good: refused in a clear line, and nothing changes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use belay::client::identity::{request, request_with};
use belay::domain::digest::Digest;
use belay::domain::entropy::Entropy;
use belay::domain::id::JoinId;
use belay::domain::time::Timestamp;
use belay::format::join::JoinToken;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType,
};
use tonic::Code;

use crate::support::calls::{enroll, refused};
use crate::support::process::Broker;

/// Requests as OpenSSL makes them: RSA with 1024 bits, and two curves that are not taken.
const WEAK: [&str; 3] = [
    "MIIBPzCBqQIBADAAMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCzJF5SAT6YR54QK/hUgFO1K266keF9FLtMPavGOYfcQX8RISF6mLdinKQlyOuKVoPe7KxC9Z0SVqUoxZ9SPzvhMEuliRLbFTWa0ztI+cEb1rA7MIp8N1N0TsxX3roL6cHcbkuoYheCW6i0SvUIwu5J3QG8qGEQ3XYktXJXbFAUOwIDAQABoAAwDQYJKoZIhvcNAQELBQADgYEAgcVcX3SKHOyDiaMJSX+J6I+qN5iA/3eeXrdN3hHwnTSYgGu84mhFiwUEOkVJ2D6jUxIJ+7FAMx4OqG91sGsimVjMaQToI4TgZypnqvkJPKQ6HV4ObMGPBX/L2TIQ03QK0uSroU+ZzTSl/Z6yk0VkOvPOE57L0lbFFISAqoDiq/o=",
    "MIGXME8CAQAwADBGMBAGByqGSM49AgEGBSuBBAAfAzIABCKobG5GIeF1a5Yv+LSe6E91yUBuo01gbt2UUzR3KZsGazVWgkEQiPl0zBc6AY8LE6AAMAoGCCqGSM49BAMCAzgAMDUCGQCDS65sm2dRG4KkkDkTfznn9ycmgMSFdbsCGAVW0/BFgPMmaGsP8I3kqMeQgv/tUB/HmA==",
    "MIG4MF8CAQAwADBWMBAGByqGSM49AgEGBSuBBAAKA0IABOj6B08nlRTExhW6FQfPPB0m3vlL4+Z1viEddk4l6YW+dX4umJ16PJbwqfg7gLRiLcbwMMqFtQYrrvPquUgaDkKgADAKBggqhkjOPQQDAgNJADBGAiEApenqhgQDTYhnvrQMYcavoSzQbx9hwCD2m2M9my0g8kgCIQDK+XGPgSMrExbdZpRCVuMV5CCKM/pk+M8CwT7fqm/yCQ==",
];

#[tokio::test]
async fn a_join_token_is_good_for_one_key_of_one_agent() {
    let (broker, other) = (Broker::start(), Broker::start());
    let token = broker.registered("ana").await;
    let operator = broker.channel().await;
    let nobody = broker.channel_of_nobody().await;
    let read: JoinToken = token.parse().unwrap();
    let foreign = other.registered("ana").await;
    let size = broker.log_size(&operator).await;
    let unknown = JoinId::mint(Timestamp::from_seconds(1_795_366_800), &mut Entropy::from_seed([3; 32]));
    let elsewhere = JoinToken { secret: [7; 32], ..read.clone() }.reveal();
    let unissued = JoinToken { id: unknown, ..read }.reveal();
    let (key, csr) = request(None).unwrap();
    for (what, text) in [("foreign", &foreign), ("wrong secret", &elsewhere), ("unknown id", &unissued)] {
        refused(what, enroll(nobody.clone(), text, csr.clone()).await, Code::Unauthenticated, "join_refused", 6);
    }
    let garbled =
        ["", "belay1.", "hunter2", &token[..60], &format!("{token}="), &format!(" {token}"), &"A".repeat(20_000)];
    for text in garbled {
        let refusal =
            refused(text, enroll(nobody.clone(), text, csr.clone()).await, Code::InvalidArgument, "malformed", 2);
        assert_eq!(refusal.field.as_deref(), Some("join_token"));
        assert!(text.len() < 9 || !refusal.message.contains(&text[7..]), "{refusal}");
    }
    assert_eq!(broker.log_size(&operator).await, size);

    // None of these spent it. A retry with its key gets the same certificate, even from a new request.
    let first = enroll(nobody.clone(), &token, csr.clone()).await.unwrap().into_inner();
    let size = broker.log_size(&operator).await;
    let again = enroll(nobody.clone(), &token, request_with(&key, None).unwrap()).await.unwrap().into_inner();
    assert_eq!((&again.certificate, &again.name), (&first.certificate, &"ana".to_owned()));
    let (_, replayed) = request(None).unwrap();
    refused("replayed", enroll(nobody, &token, replayed).await, Code::Unauthenticated, "join_used", 6);
    assert_eq!(broker.log_size(&operator).await, size);
}

#[tokio::test]
async fn a_join_token_of_another_broker_is_not_sent_there() {
    let (broker, other) = (Broker::start(), Broker::start());
    let token = other.registered("ana").await;
    let out = broker.home.join("ana");
    let arguments = ["agent", "enroll", "--join-token", &token, "--out", out.to_str().unwrap()];
    // `run` names this broker's address, and the token names the other's CA.
    let error = broker.run(&arguments).err(6);
    assert_eq!(error["detail"]["reason"], "tls_refused", "{error}");
    assert!(!out.join("cert.pem").exists());
    assert_eq!(other.run(&arguments).ok()["agent"]["name"], "ana");
}

#[test]
fn a_join_token_for_another_kind_is_refused_and_not_spent() {
    let broker = Broker::start();
    let agent = broker.run(&["agent", "register", "ana", "--owner", "o", "--purpose", "p"]).ok();
    let operator = broker.run(&["operator", "add", "eve", "--role", "auditor"]).ok();
    for (kind, wrong, invited, name) in [("agent", "operator", agent, "ana"), ("operator", "agent", operator, "eve")] {
        let token = invited["join_token"].as_str().unwrap();
        let out = broker.home.join(name);
        let rest = ["enroll", "--join-token", token, "--out", out.to_str().unwrap()];
        let error = broker.run(&[&[wrong], &rest[..]].concat()).err(2);
        assert_eq!(
            (&error["detail"]["reason"], &error["detail"]["field"]),
            (&"join_kind".into(), &"join_token".into())
        );
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&format!("`belay {kind} enroll`")) && message.contains(name), "{message}");
        assert!(!out.join("cert.pem").exists());
        assert_eq!(broker.run(&[&[kind], &rest[..]].concat()).ok()[kind]["name"], name);
    }
}

#[tokio::test]
async fn an_invitation_replaces_nobody_and_ends_with_its_agent() {
    let broker = Broker::start();
    let (nobody, operator) = (broker.channel_of_nobody().await, broker.channel().await);
    let token = broker.registered("ana").await;
    broker.run(&["agent", "suspend", "ana"]).ok();
    let (_, csr) = request(None).unwrap();
    let size = broker.log_size(&operator).await;
    refused("suspended", enroll(nobody.clone(), &token, csr.clone()).await, Code::PermissionDenied, "not_active", 3);
    assert_eq!(broker.log_size(&operator).await, size);
    broker.run(&["agent", "resume", "ana"]).ok();
    enroll(nobody, &token, csr).await.unwrap();
    broker.run(&["agent", "retire", "ana"]).ok();
    assert_eq!(broker.run(&["agent", "invite", "ana"]).err(3)["detail"]["reason"], "agent_retired");
    assert_eq!(broker.run(&["agent", "invite", "bob"]).err(5)["detail"]["reason"], "not_found");
}

#[tokio::test]
async fn a_request_gets_nothing_but_its_own_identity() {
    let broker = Broker::start();
    let token = broker.registered("ana").await;
    let (nobody, operator) = (broker.channel_of_nobody().await, broker.channel().await);
    let key = KeyPair::generate().unwrap();
    let asking = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::default();
        change(&mut params);
        params.serialize_request(&key).unwrap().der().to_vec()
    };
    let uri = |id: &str| SanType::URI(id.try_into().unwrap());
    let own = || uri("spiffe://belay.dev/agent/ana");
    let names = |names: Vec<SanType>| asking(&|params| params.subject_alt_names.clone_from(&names));
    let good = names(vec![own()]);
    let flipped = {
        let mut der = good.clone();
        *der.last_mut().unwrap() ^= 1;
        der
    };
    let weak = WEAK.map(|der| STANDARD.decode(der).unwrap());
    let size = broker.log_size(&operator).await;
    let requests = [
        ("a CA", "csr_asks", asking(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
        ("to sign certificates", "csr_asks", asking(&|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign])),
        ("any use", "csr_asks", asking(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any])),
        ("another agent", "csr_asks", names(vec![uri("spiffe://belay.dev/agent/bob")])),
        ("an operator", "csr_asks", names(vec![uri("spiffe://belay.dev/operator/dev")])),
        ("another domain", "csr_asks", names(vec![uri("spiffe://evil.dev/agent/ana")])),
        ("its name twice", "csr_asks", names(vec![own(), own()])),
        ("a second name", "csr_asks", names(vec![own(), uri("spiffe://belay.dev/agent/bob")])),
        ("a DNS name", "csr_asks", names(vec![own(), SanType::DnsName("localhost".try_into().unwrap())])),
        ("an address", "csr_asks", names(vec![SanType::IpAddress([127, 0, 0, 1].into())])),
        ("RSA 1024", "csr_key", weak[0].clone()),
        ("secp192k1", "csr_key", weak[1].clone()),
        ("secp256k1", "csr_key", weak[2].clone()),
        ("another's signature", "csr_signature", flipped),
        ("bytes behind it", "csr_malformed", [&good[..], &[0]].concat()),
        ("half of it", "csr_malformed", good[..good.len() / 2].to_vec()),
        ("PEM", "csr_malformed", b"-----BEGIN CERTIFICATE REQUEST-----".to_vec()),
        ("17 KiB", "csr_malformed", vec![0x30; 17 * 1024]),
        ("nothing", "csr_malformed", Vec::new()),
    ];
    for (what, reason, csr) in requests {
        let refusal = refused(what, enroll(nobody.clone(), &token, csr).await, Code::InvalidArgument, reason, 2);
        assert_eq!(refusal.field.as_deref(), Some("csr"), "{what}");
    }
    assert_eq!(broker.log_size(&operator).await, size);

    // Its own name it may ask for, and what it says of its subject counts for nothing.
    let named = asking(&|params| params.distinguished_name.push(rcgen::DnType::CommonName, "operator dev"));
    let enrolled = enroll(nobody.clone(), &token, named).await.unwrap().into_inner();
    assert_eq!(enrolled.spiffe_id, "spiffe://belay.dev/agent/ana");
    assert_eq!(enroll(nobody.clone(), &token, good).await.unwrap().into_inner().certificate, enrolled.certificate);
    assert!(!enrolled.certificate.windows(12).any(|text| text == b"operator dev"));
    let token = broker.registered("edwards").await;
    let edwards = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let csr = CertificateParams::default().serialize_request(&edwards).unwrap().der().to_vec();
    let certificate = enroll(nobody, &token, csr).await.unwrap().into_inner().certificate;
    assert_ne!(Digest::of(&certificate), Digest::of(&enrolled.certificate));
}
