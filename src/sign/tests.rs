//! The key ring as a whole: who signs what, and who is believed.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::*;
use crate::domain::agent::Kind;
use crate::domain::certificate::Certificate;
use crate::domain::confirmation::Confirmation;
use crate::domain::digest::Digest;
use crate::domain::entropy::Entropy;
use crate::domain::event::Origin;
use crate::domain::grant::Token;
use crate::domain::id::{CertificateId, GrantId, TaskId, TokenId};
use crate::domain::key::{Key, Purpose};
use crate::domain::name::Name;
use crate::domain::prepared::Prepared;
use crate::domain::scope::Scopes;
use crate::domain::time::{Span, Timestamp};
use crate::format::x509::{self, Issuer, Profile};

const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_123);

pub(super) fn master() -> MasterKey {
    let folder = tempfile::tempdir().unwrap();
    MasterKey::open(&folder.path().join("master.key"), false).unwrap()
}

pub(super) fn origin(trust_domain: &str, epoch: &str) -> Origin {
    Origin {
        trust_domain: trust_domain.parse().unwrap(),
        issuer: "https://belay.example".parse().unwrap(),
        epoch: epoch.to_owned(),
    }
}

struct Broker {
    master: MasterKey,
    origin: Origin,
    token: (Key, Vec<u8>),
    authority: (Key, Vec<u8>),
    operator: (Key, Vec<u8>),
}

impl Broker {
    fn new() -> Self {
        let (master, origin) = (master(), origin("example.org", "e1"));
        let make = |purpose| generate(purpose, &master, &origin, NOW).unwrap();
        let (token, authority, operator) = (make(Purpose::Token), make(Purpose::Authority), make(Purpose::Operator));
        Self { master, origin, token, authority, operator }
    }

    fn ring(&self) -> KeyRing {
        self.open([&self.token, &self.authority, &self.operator]).unwrap()
    }

    /// The authority for this kind of party.
    fn authority(&self, kind: Kind) -> &Key {
        if Purpose::of(kind) == Purpose::Operator { &self.operator.0 } else { &self.authority.0 }
    }

    fn root(&self, kind: Kind) -> &[u8] {
        self.authority(kind).certificate.as_deref().unwrap()
    }

    fn open<const N: usize>(&self, keys: [&(Key, Vec<u8>); N]) -> Result<KeyRing, Error> {
        KeyRing::open(&self.master, &self.origin, keys.into_iter().map(|(key, blob)| (key, blob.clone())))
    }
}

fn spki() -> Vec<u8> {
    rcgen::PublicKeyData::subject_public_key_info(&rcgen::KeyPair::generate().unwrap())
}

fn id(seed: u8) -> CertificateId {
    CertificateId::mint(NOW, &mut Entropy::from_seed([seed; 32]))
}

fn prepare(broker: &Broker, kind: Kind, names: &[&str]) -> (Certificate, Unsigned) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let name: Name = "planner".parse().unwrap();
    let (not_before, not_after) = (NOW.minus(Profile::of(kind).backdate()), NOW.plus(Span::hours(24)));
    let wanted =
        Wanted { id: id(1), kind, name: &name, spki: &spki(), names: &names, not_before, not_after, under: None };
    broker.ring().prepare(&broker.authority(kind).kid, wanted).unwrap()
}

fn sign(broker: &Broker, kind: Kind, names: &[&str]) -> Vec<u8> {
    let (identity, unsigned) = prepare(broker, kind, names);
    broker.ring().sign_certificate(Prepared::recorded(identity), unsigned).unwrap()
}

fn token(kid: &str) -> Token {
    let entropy = &mut Entropy::from_seed([3; 32]);
    Token {
        id: TokenId::mint(NOW, entropy),
        issuer: "https://belay.example".parse().unwrap(),
        subject: "ada".parse().unwrap(),
        audience: "tool".parse().unwrap(),
        issued_at: NOW.whole_seconds(),
        expires_at: NOW.plus(Span::minutes(5)).whole_seconds(),
        grant: GrantId::mint(NOW, entropy),
        task: TaskId::mint(NOW, entropy),
        scopes: Scopes::parse(&["db:read@orders"]).unwrap(),
        seq: 1,
        epoch: "e1".to_owned(),
        chain: Vec::new(),
        confirmation: Confirmation::Certificate(Digest::of(b"")),
        key_hash: Digest::of(b""),
        kid: kid.to_owned(),
        status: None,
    }
}

#[test]
fn a_token_is_signed_by_the_key_that_it_names() {
    let (broker, spare) = (Broker::new(), Broker::new());
    let second = generate(Purpose::Token, &broker.master, &broker.origin, NOW).unwrap();
    let ring = broker.open([&broker.token, &second, &broker.authority]).unwrap();
    for (key, _) in [&broker.token, &second] {
        let jws = ring.sign_token(Prepared::recorded(token(&key.kid)), |token| format!("head.{}", token.id)).unwrap();
        let (input, signature) = jws.rsplit_once('.').unwrap();
        let signature = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, signature).unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key.public);
        assert!(public.verify(input.as_bytes(), &signature).is_ok());
        assert_eq!(input, format!("head.{}", token("").id));
    }
    for (kid, why) in [(&spare.token.0.kid, "is not here"), (&broker.authority.0.kid, "is not for tokens")] {
        let refused = ring.sign_token(Prepared::recorded(token(kid)), |_| unreachable!("nothing is written"));
        let message = refused.unwrap_err().message;
        assert!(message.contains(kid.as_str()) && message.contains(why), "{message}");
    }
}

#[test]
fn a_token_key_cannot_sign_certificates() {
    let broker = Broker::new();
    let ring = broker.open([&broker.token]).unwrap();
    let (kind, name, names) = (Kind::Agent, "planner".parse().unwrap(), &[]);
    let (not_before, not_after) = (NOW, NOW.plus(Span::hours(1)));
    let wanted = Wanted { id: id(1), kind, name: &name, spki: &spki(), names, not_before, not_after, under: None };
    assert_eq!(ring.prepare(&broker.token.0.kid, wanted).unwrap_err().reason, "no_authority");
    // Relabelled, with or without the real authority's certificate.
    for certificate in [None, broker.authority.0.certificate.clone()] {
        let key = Key { purpose: Purpose::Authority, certificate, ..broker.token.0.clone() };
        let message = broker.open([&(key, broker.token.1.clone())]).unwrap_err().message;
        assert!(message.contains("no certificate of its own"), "{message}");
    }
}

#[test]
fn a_key_that_is_not_as_recorded_is_refused_by_name() {
    let (broker, other) = (Broker::new(), Broker::new());
    let (key, blob) = &broker.token;
    let lied = Key { public: other.token.0.public.clone(), ..key.clone() };
    let renamed = Key { kid: "elsewhere".to_owned(), ..key.clone() };
    let sealed_as = |kid: &str, (key, blob): &(Key, Vec<u8>)| {
        let secret = seal::open(&broker.master, &key.kid, &broker.origin, blob).unwrap();
        seal::seal(&broker.master, kid, &broker.origin, &secret).unwrap()
    };
    let cases = [
        (lied, blob.clone()),
        (renamed.clone(), blob.clone()),
        (renamed, sealed_as("elsewhere", &broker.token)),
        (key.clone(), sealed_as(&key.kid, &broker.authority)),
        (key.clone(), other.token.1.clone()),
        (key.clone(), Vec::new()),
    ];
    for case in &cases {
        let error = broker.open([case, &broker.authority]).unwrap_err();
        assert_eq!(error.reason, "key_sealed");
        for part in [case.0.kid.as_str(), "master key file is another one", "store is damaged"] {
            assert!(error.message.contains(part), "{}", error.message);
        }
    }
}

#[test]
fn keys_do_not_open_under_another_master_domain_or_epoch() {
    let broker = Broker::new();
    let keys = || [&broker.token, &broker.authority].into_iter().map(|(key, blob)| (key, blob.clone()));
    assert!(KeyRing::open(&broker.master, &broker.origin, keys()).is_ok());
    assert!(KeyRing::open(&master(), &broker.origin, keys()).is_err());
    assert!(KeyRing::open(&broker.master, &origin("example.com", "e1"), keys()).is_err());
    assert!(KeyRing::open(&broker.master, &origin("example.org", "e2"), keys()).is_err());
}

#[test]
fn a_record_names_its_blob_and_holds_no_secret() {
    let broker = Broker::new();
    for (key, blob) in [&broker.token, &broker.authority] {
        assert_eq!((key.sealed, key.created_at), (Digest::of(blob), NOW));
        assert_eq!((key.kid.len(), key.public.len()), (22, 65));
    }
    assert!(broker.token.0.certificate.is_none());
    assert_eq!(broker.authority.0.not_after, Some(NOW.whole_seconds().plus(Profile::authority().max_lifetime())));
}

#[test]
fn what_was_recorded_is_what_is_signed() {
    let broker = Broker::new();
    let (identity, unsigned) = prepare(&broker, Kind::Agent, &[]);
    let other = prepare(&broker, Kind::Agent, &[]);
    let refused = broker.ring().sign_certificate(Prepared::recorded(other.0), unsigned).unwrap_err();
    assert_eq!(refused.reason, "tbs_mismatch");
    assert_eq!((identity.not_before, identity.der), (identity.not_before.whole_seconds(), None));
}

#[test]
fn a_signed_certificate_is_looked_at_once_more() {
    let (ours, theirs) = (Broker::new(), Broker::new());
    let Unsigned { tbs, plan, .. } = prepare(&ours, Kind::Agent, &[]).1;
    let issuer = Issuer::Authority(ours.root(Kind::Agent));
    let certify = |broker: &Broker| {
        key::certify(&broker.ring().authority(&broker.authority.0.kid).unwrap().pair, &tbs, &plan, issuer)
    };
    let wrong = certify(&theirs).unwrap_err().message;
    assert!(wrong.contains("signature is not its issuer's"), "{wrong}");
    let good = certify(&ours).unwrap();
    let check = |der: &[u8]| x509::check(der, &plan, issuer).unwrap_err().message;
    assert!(check(&[good.as_slice(), &[0]].concat()).contains("bytes follow it"));
    let mut two = good.clone();
    let at = two.windows(4).rposition(|window| window == b"\x3d\x04\x03\x02").unwrap();
    two[at + 3] = 3; // ecdsa-with-SHA384
    assert!(check(&two).contains("two signature algorithms"));
}

#[test]
fn a_life_beyond_the_profile_is_not_prepared() {
    let broker = Broker::new();
    let name: Name = "planner".parse().unwrap();
    let (kind, not_before) = (Kind::Agent, NOW);
    let until = |not_after| {
        let wanted =
            Wanted { id: id(1), kind, name: &name, spki: &spki(), names: &[], not_before, not_after, under: None };
        broker.ring().prepare(&broker.authority.0.kid, wanted).map(drop)
    };
    assert!(until(NOW.plus(Span::hours(24))).is_ok());
    assert_eq!(until(NOW.plus(Span::hours(25))).unwrap_err().reason, "certificate_profile");
}

#[test]
fn no_secret_is_printed() {
    let broker = Broker::new();
    let unsigned = prepare(&broker, Kind::Agent, &[]).1;
    let shown = format!("{:?} {:?} {unsigned:?} {:?}", broker.master, broker.ring(), broker.token.0);
    let decimals = |bytes: &[u8]| bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    for (key, blob) in [&broker.token, &broker.authority] {
        let secret = seal::open(&broker.master, &key.kid, &broker.origin, blob).unwrap();
        // RFC 5915: the private scalar is the first 32-byte OCTET STRING.
        let at = secret.windows(2).position(|window| window == [4, 32]).unwrap();
        assert!(!shown.contains(&decimals(&secret[at + 2..at + 10])));
        assert!(shown.contains(&key.kid));
    }
    assert!(!shown.contains(&decimals(&broker.master.bytes()[..8])));
    assert!(shown.starts_with("MasterKey(..) KeyRing {"), "{shown}");
}

#[test]
fn rustls_believes_what_the_ring_signs() {
    let (broker, other) = (Broker::new(), Broker::new());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = |der: &[u8]| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(der.to_vec())).unwrap();
        Arc::new(roots)
    };
    let build = |der| {
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots(der), provider.clone()).build().unwrap()
    };
    let at = |at: Timestamp| UnixTime::since_unix_epoch(Duration::from_secs(at.seconds().unsigned_abs()));
    for kind in [Kind::Agent, Kind::Operator] {
        let (ours, theirs) = (build(broker.root(kind)), build(other.root(kind)));
        let leaf = CertificateDer::from(sign(&broker, kind, &[]));
        assert!(ours.verify_client_cert(&leaf, &[], at(NOW)).is_ok());
        assert!(ours.verify_client_cert(&leaf, &[], at(NOW.plus(Span::hours(25)))).is_err());
        assert!(theirs.verify_client_cert(&leaf, &[], at(NOW)).is_err());
    }
    let leaf = CertificateDer::from(sign(&broker, Kind::Server, &["localhost", "127.0.0.1"]));
    let client =
        rustls::client::WebPkiServerVerifier::builder_with_provider(roots(broker.root(Kind::Server)), provider.clone());
    let client = client.build().unwrap();
    for (name, good) in [("localhost", true), ("127.0.0.1", true), ("example.org", false), ("127.0.0.2", false)] {
        let name = ServerName::try_from(name).unwrap();
        let verdict =
            rustls::client::danger::ServerCertVerifier::verify_server_cert(&*client, &leaf, &[], &name, &[], at(NOW));
        assert_eq!(verdict.is_ok(), good, "{name:?}");
    }
}

#[test]
fn openssl_believes_what_the_ring_signs() {
    if Command::new("openssl").arg("version").output().is_err() {
        assert_ne!(std::env::var("BELAY_REQUIRE").as_deref(), Ok("all"), "openssl is required and not here");
        println!("skipped: openssl_believes_what_the_ring_signs needs openssl");
        return;
    }
    let (ours, theirs) = (Broker::new(), Broker::new());
    let folder = tempfile::tempdir().unwrap();
    let keep = |name: &str, der: &[u8]| {
        let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        let lines: Vec<_> = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        let path = folder.path().join(name);
        std::fs::write(
            &path,
            format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n")),
        )
        .unwrap();
        path
    };
    let verifies = |leaf: &[u8], authority: &[u8], purpose: &str| {
        let output = Command::new("openssl")
            .args(["verify", "-x509_strict", "-check_ss_sig", "-no-CApath", "-no-CAstore", "-purpose", purpose])
            .args(["-attime", &NOW.seconds().to_string(), "-CAfile"])
            .args([keep("authority.pem", authority), keep("leaf.pem", leaf)])
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (kind, names) in [(Kind::Agent, &[][..]), (Kind::Operator, &[]), (Kind::Server, &["localhost", "::1"])] {
        let leaf = sign(&ours, kind, names);
        for purpose in ["sslclient", "sslserver"] {
            let (good, why) = verifies(&leaf, ours.root(kind), purpose);
            assert!(good, "{kind}: {why}");
        }
        assert!(!verifies(&leaf, theirs.root(kind), "sslclient").0);
    }
}
