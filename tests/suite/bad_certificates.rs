//! Client certificates that are not good, made with the key of the broker's own CA: even what TLS accepts
//! speaks for nobody unless this broker issued it, to exactly one party, and the log knows it.

use std::path::{Path, PathBuf};

use belay::client::Identity;
use belay::domain::entropy::Entropy;
use belay::domain::id::CertificateId;
use belay::domain::key::Purpose;
use belay::domain::time::Timestamp;
use belay::wire::v1;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType, SerialNumber, date_time_ymd,
};
use tonic::{Code, Response};

use crate::support::calls::{Acting, raw, refused};
use crate::support::data::Data;
use crate::support::process::Broker;

/// The broker's CA in the hands of a test.
struct Forger {
    issuer: Issuer<'static, KeyPair>,
    authority: Vec<u8>,
    home: PathBuf,
}

impl Forger {
    fn of(broker: &Broker) -> Self {
        let (record, pkcs8) = Data::read(&broker.home.join("dev")).key(Purpose::Authority);
        let authority = record.certificate.unwrap();
        let key = KeyPair::try_from(pkcs8).unwrap();
        let issuer = Issuer::from_ca_cert_der(&authority.clone().into(), key).unwrap();
        Self { issuer, authority, home: broker.home.clone() }
    }

    /// An identity directory with a certificate for an agent `ana`, changed as told.
    fn forge(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> PathBuf {
        self.forge_for(&KeyPair::generate().unwrap(), name, change)
    }

    fn forge_for(&self, key: &KeyPair, name: &str, change: impl FnOnce(&mut CertificateParams)) -> PathBuf {
        let serial = CertificateId::mint(Timestamp::from_seconds(1_795_000_000), &mut Entropy::from_seed([1; 32]));
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![uri("spiffe://belay.dev/agent/ana")];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(SerialNumber::from_slice(serial.uuid().as_bytes()));
        change(&mut params);
        let der = params.signed_by(key, &self.issuer).unwrap().der().to_vec();
        let directory = self.home.join(name.replace(' ', "-"));
        Identity::save(&directory, &der, &key.serialize_pem(), std::slice::from_ref(&self.authority), false).unwrap();
        directory
    }
}

/// The grant extension.
const GRANT: &str = "1.3.6.1.4.1.32473.1.1";

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

#[tokio::test]
async fn a_certificate_speaks_only_for_whom_the_log_knows_by_it() {
    let broker = Broker::start();
    let genuine = broker.enroll_agent("ana").await;
    let forger = Forger::of(&broker);
    let operator = broker.channel().await;
    let size = broker.log_size(&operator).await;
    let ana = || uri("spiffe://belay.dev/agent/ana");
    let names: [(&str, Vec<SanType>); 10] = [
        ("another trust domain", vec![uri("spiffe://evil.dev/agent/ana")]),
        ("no name", vec![]),
        ("no URI", vec![dns("ana.belay.dev")]),
        ("two URIs", vec![ana(), uri("spiffe://belay.dev/agent/bob")]),
        ("the same twice", vec![ana(), ana()]),
        ("URI and DNS", vec![ana(), dns("localhost")]),
        ("a server", vec![uri("spiffe://belay.dev/server/node")]),
        ("a longer path", vec![uri("spiffe://belay.dev/agent/ana/x")]),
        ("the domain alone", vec![uri("spiffe://belay.dev")]),
        ("no SPIFFE ID", vec![uri("https://belay.dev/agent/ana")]),
    ];
    for (what, names) in names {
        let forged = forger.forge(what, |params| {
            params.subject_alt_names = names;
            params.distinguished_name.push(DnType::CommonName, "spiffe://belay.dev/agent/ana");
        });
        let channel = broker.channel_as(&forged).await.unwrap();
        let answer = raw(&channel, "/belay.v1.Tasks/List", Vec::new()).await.map(Response::new);
        refused(what, answer, Code::Unauthenticated, "certificate_refused", 6);
    }
    let real = Identity::load(&genuine).unwrap();
    let (_, read) = x509_parser::parse_x509_certificate(real.certificate()).unwrap();
    let serial = SerialNumber::from_slice(read.raw_serial());
    // The shape is right, and TLS accepts it: what is missing is the log's word.
    for (what, reason, serial) in [
        ("never issued", "certificate_unknown", None),
        ("ana's serial with another key", "certificate_unknown", Some(serial)),
        ("a serial of another kind", "certificate_refused", Some(SerialNumber::from_slice(&[1; 16]))),
        ("a short serial", "certificate_refused", Some(SerialNumber::from_slice(&[9; 8]))),
    ] {
        let forged = forger.forge(what, |params| params.serial_number = serial.or(params.serial_number.take()));
        if reason == "certificate_unknown" {
            opens_nothing(&broker, &forged, what).await;
            continue;
        }
        let channel = broker.channel_as(&forged).await.unwrap();
        let answer = raw(&channel, "/belay.v1.Tasks/List", Vec::new()).await.map(Response::new);
        refused(what, answer, Code::Unauthenticated, reason, 6);
    }
    let root = forger.forge("an operator", |params| {
        params.subject_alt_names = vec![uri("spiffe://belay.dev/operator/dev")];
    });
    opens_nothing(&broker, &root, "a forged operator").await;

    raw(&broker.channel_as(&genuine).await.unwrap(), "/belay.v1.Tasks/List", Vec::new()).await.unwrap();
    assert_eq!(broker.log_size(&operator).await, size);
}

/// What our authority signed and our ledger does not know is refused at the handshake.
async fn opens_nothing(broker: &Broker, forged: &Path, what: &str) {
    let refusal = broker.channel_as(forged).await.expect_err(what);
    assert_eq!(refusal.reason, "tls_refused", "{what}: {refusal}");
    assert!(refusal.message.contains("it refused our certificate as not of its ledger"), "{what}: {refusal}");
}

#[tokio::test]
async fn a_certificate_says_the_grant_that_was_recorded_for_it_or_speaks_for_nobody() {
    let broker = Broker::start();
    let ana = broker.enroll_agent("ana").await;
    let agent = Acting::with(&broker, &ana).await;
    let ((mine, ..), (wider, ..)) = (agent.granted().await, agent.granted().await);
    let directory = broker.home.join("certificate");
    agent.certified(&mine, &directory).await;
    let genuine = Identity::load(&directory).unwrap();
    assert_eq!(Acting::with(&broker, &directory).await.decided("").await, "in_scope");
    let key = KeyPair::from_pem(&std::fs::read_to_string(directory.join("key.pem")).unwrap()).unwrap();
    let own = KeyPair::from_pem(&std::fs::read_to_string(ana.join("key.pem")).unwrap()).unwrap();
    let (_, read) = x509_parser::parse_x509_certificate(genuine.certificate()).unwrap();
    let identity = Identity::load(&ana).unwrap();
    let (_, identity) = x509_parser::parse_x509_certificate(identity.certificate()).unwrap();
    let said = read.extensions().iter().find(|found| found.oid.to_id_string() == GRANT).unwrap().value.to_vec();
    // Of one length, so that the header stays right.
    let swap = |from: &str, to: &str| {
        let text = String::from_utf8(said.clone().split_off(4)).unwrap();
        assert!(text.contains(from), "{text}");
        [&said[..4], text.replace(from, to).as_bytes()].concat()
    };
    let ends = |grant: &str| format!(r#""grant":"{grant}","task""#);
    let serials = (SerialNumber::from_slice(read.raw_serial()), SerialNumber::from_slice(identity.raw_serial()));
    let (unknown, malformed) = ("certificate_unknown", "certificate_refused");
    type Forged<'a> = (&'a str, &'a str, &'a SerialNumber, &'a KeyPair, Vec<Vec<u8>>);
    let forged: [Forged<'_>; 7] = [
        ("another grant", unknown, &serials.0, &key, vec![swap(&mine, &wider)]),
        ("no grant any more", unknown, &serials.0, &key, vec![]),
        ("an identity with a grant", unknown, &serials.1, &own, vec![said.clone()]),
        ("another holder", malformed, &serials.0, &key, vec![swap(r#""agent":"ana""#, r#""agent":"bob""#)]),
        ("a chain that ends elsewhere", malformed, &serials.0, &key, vec![swap(&ends(&mine), &ends(&wider))]),
        ("no JSON", malformed, &serials.0, &key, vec![swap("{", "[")]),
        ("two grants", malformed, &serials.0, &key, vec![said.clone(), swap(&mine, &wider)]),
    ];
    let forger = Forger::of(&broker);
    for (what, reason, serial, key, extensions) in forged {
        let directory = forger.forge_for(key, what, |params| {
            params.serial_number = Some(serial.clone());
            let arcs: Vec<u64> = GRANT.split('.').map(|arc| arc.parse().unwrap()).collect();
            params.custom_extensions =
                extensions.into_iter().map(|value| rcgen::CustomExtension::from_oid_content(&arcs, value)).collect();
        });
        if reason == unknown {
            opens_nothing(&broker, &directory, what).await;
            continue;
        }
        let channel = broker.channel_as(&directory).await.unwrap();
        for rpc in ["Tasks/List", "Decisions/Authorize", "Revocations/Revoke"] {
            let answer = raw(&channel, &format!("/belay.v1.{rpc}"), Vec::new()).await.map(Response::new);
            refused(what, answer, Code::Unauthenticated, reason, 6);
        }
    }
}

#[tokio::test]
async fn a_certificate_out_of_time_or_use_ends_at_the_handshake() {
    let broker = Broker::start();
    let forger = Forger::of(&broker);
    let list = |identity: &Path| broker.run_as(identity, &["task", "list"]);
    let expired = forger.forge("expired", |params| params.not_after = date_time_ymd(2020, 1, 1));
    let early = forger.forge("early", |params| params.not_before = date_time_ymd(4000, 1, 1));
    let server = forger.forge("server", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    for (directory, why) in [(expired, "expired"), (early, "not yet valid"), (server, "not made for a client")] {
        let error = list(&directory).err(6);
        assert_eq!(error["detail"]["reason"], "tls_refused", "{error}");
        assert!(error["message"].as_str().unwrap().contains(why), "{error}");
    }
    let unknown = list(&forger.forge("good", |_| {})).err(6);
    assert!(unknown["message"].as_str().unwrap().contains("as not of its ledger"), "{unknown}");
    assert_eq!(list(&broker.agent("ana")).ok()["tasks"], serde_json::json!([]));
}

#[test]
fn an_identity_is_whole_private_and_of_this_broker() {
    let (broker, other) = (Broker::start(), Broker::start());
    let ana = broker.agent("ana");
    let list = |identity: &Path| broker.run_as(identity, &["task", "list"]);
    list(&ana).ok();
    let missing = list(&broker.home.join("nobody")).err(6);
    assert_eq!(missing["detail"]["reason"], "no_identity");
    assert!(missing["message"].as_str().unwrap().contains("belay agent enroll"), "{missing}");
    assert_eq!(list(&other.agent("ana")).err(6)["detail"]["reason"], "tls_refused");
    let file = |name: &str| ana.join(name);
    let mode = |mode: u32| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(file("key.pem"), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o644);
    let loose = list(&ana).err(2);
    assert_eq!(loose["detail"]["reason"], "loose_key_mode");
    assert!(loose["message"].as_str().unwrap().contains("chmod 600"), "{loose}");
    mode(0o600);
    list(&ana).ok();
    std::fs::write(file("cert.pem"), "hunter2").unwrap();
    assert_eq!(list(&ana).err(2)["detail"]["reason"], "identity_unusable");
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_on_its_open_connection() {
    let broker = Broker::start();
    let ana = broker.enroll_agent("ana").await;
    let channel = broker.channel_as(&ana).await.unwrap();
    raw(&channel, "/belay.v1.Tasks/List", Vec::new()).await.unwrap();
    let data = Data::read(&broker.home.join("dev"));
    let mut issued = data.log.iter().filter_map(|entry| match &entry.body {
        belay::domain::event::Body::CertificateSigned { id, .. } => Some(id.to_string()),
        _ => None,
    });
    broker.run(&["revoke", &issued.next_back().unwrap(), "--reason", "testing"]).ok();
    for rpc in ["Tasks/List", "Identity/Renew", "Revocations/Revoke"] {
        let answer = raw(&channel, &format!("/belay.v1.{rpc}"), Vec::new()).await.map(Response::new);
        refused(rpc, answer, Code::Unauthenticated, "certificate_revoked", 6);
    }
    // Enrolment asks nobody who they are.
    let (_, csr) = belay::client::identity::request(None).unwrap();
    let mut operators = v1::agents_client::AgentsClient::new(broker.channel().await);
    let invited = operators.invite(v1::InviteRequest { name: "ana".into() }).await.unwrap().into_inner();
    crate::support::calls::enroll(channel, &invited.join_token, csr).await.unwrap();
}
