//! Revocation lists as others read them: OpenSSL, rustls, and Envoy, which shuts a revoked client out.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use belay::client::Identity;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use serde_json::json;

use crate::support::calls::Acting;
use crate::support::envoy::{Configuration, Envoy, NEEDED, envoy};
use crate::support::process::Broker;
use crate::support::{http, needs, there, within};

/// A certificate under a grant, and where its list is.
struct Held {
    broker: Broker,
    directory: PathBuf,
    grant: String,
    list: String,
}

impl Held {
    async fn new() -> Self {
        let broker = Broker::start();
        let ana = Acting::with(&broker, &broker.enroll_agent("ana").await).await;
        let (grant, ..) = ana.granted().await;
        let directory = broker.home.join("certificate");
        ana.certified(&grant, &directory).await;
        let held = Self { broker, directory, grant, list: String::new() };
        Self { list: place(held.leaf()), ..held }
    }

    fn leaf(&self) -> CertificateDer<'static> {
        Identity::load(&self.directory).unwrap().certificate().to_vec().into()
    }

    /// The list that the certificate names, once it has been made at this time or later.
    async fn fetched(&self) -> Vec<u8> {
        let (status, _, der) = self.broker.file(&self.list).await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        der
    }

    fn revoke(&self) {
        self.broker.run(&["revoke", &self.grant, "--reason", "testing"]).ok();
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.directory.join(name), text).unwrap();
    }
}

/// The path of the list that a certificate names.
fn place(leaf: CertificateDer<'_>) -> String {
    use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
    let (_, read) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    let found = read.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::CRLDistributionPoints(points) => match &points.points[0].distribution_point {
            Some(DistributionPointName::FullName(names)) => match names[..] {
                [GeneralName::URI(url)] => Some(url.to_owned()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    // The issuer leads to the HTTPS pages: here it does not, for nobody resolves the name of a development broker.
    found.unwrap().strip_prefix("https://belay.dev").unwrap().to_owned()
}

/// What OpenSSL says of the certificate, given a list.
fn openssl(held: &Held, arguments: &str) -> (bool, String) {
    let mut command = Command::new("openssl");
    command.args(arguments.split_whitespace()).current_dir(&held.directory).stdin(Stdio::null());
    let ran = command.output().unwrap();
    (ran.status.success(), String::from_utf8_lossy(&[&ran.stdout[..], &ran.stderr].concat()).into_owned())
}

const VERIFY: &str = "verify -x509_strict -purpose sslclient -CAfile ca.pem -crl_check -CRLfile list.pem";

#[tokio::test]
async fn openssl_refuses_a_revoked_certificate_by_its_list_and_every_certificate_by_an_old_one() {
    const TEST: &str = "openssl_refuses_a_revoked_certificate_by_its_list_and_every_certificate_by_an_old_one";
    if !needs(TEST, "openssl", there("openssl", &["version"])) {
        return;
    }
    let held = Held::new().await;
    let take = async || {
        held.write("list.der", held.fetched().await);
        let (good, said) = openssl(&held, "crl -inform DER -in list.der -out list.pem -CAfile ca.pem");
        assert!(good && said.contains("verify OK"), "{said}");
    };
    take().await;
    let (_, text) = openssl(&held, "crl -in list.pem -noout -text");
    for part in ["Version 2", "X509v3 CRL Number", "Issuing Distribution Point: critical", "No Revoked Certificates"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (good, said) = openssl(&held, &format!("{VERIFY} cert.pem"));
    assert!(good, "{said}");
    let later = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 61;
    let (good, said) = openssl(&held, &format!("{VERIFY} -attime {later} cert.pem"));
    assert!(!good && said.contains("CRL has expired"), "{said}");

    // A list of another shard says nothing of it, though the same authority signed it.
    let other = held
        .list
        .replace(".crl", "")
        .rsplit_once('/')
        .map(|(path, shard)| format!("{path}/{}.crl", (shard.parse::<u8>().unwrap() + 1) % 16));
    held.write("list.der", held.broker.file(&other.unwrap()).await.2);
    openssl(&held, "crl -inform DER -in list.der -out list.pem");
    let (good, said) = openssl(&held, &format!("{VERIFY} cert.pem"));
    assert!(!good && said.contains("different CRL scope"), "{said}");

    held.revoke();
    let since = Instant::now();
    within("the list", async || {
        take().await;
        let (good, said) = openssl(&held, &format!("{VERIFY} cert.pem"));
        if !good && said.contains("certificate revoked") { Ok(()) } else { Err(said) }
    })
    .await;
    println!("OpenSSL refuses it {} ms after the revoke", since.elapsed().as_millis());
    let (_, text) = openssl(&held, "crl -in list.pem -noout -text");
    assert!(text.contains("Privilege Withdrawn"), "{text}");
}

fn verifier(held: &Held, list: Vec<u8>) -> Arc<dyn ClientCertVerifier> {
    let mut roots = RootCertStore::empty();
    for authority in Identity::load(&held.directory).unwrap().authorities() {
        roots.add(authority.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
    let builder = builder.with_crls([CertificateRevocationListDer::from(list)]).only_check_end_entity_revocation();
    builder.enforce_revocation_expiration().build().unwrap()
}

#[tokio::test]
async fn rustls_refuses_a_revoked_certificate_by_its_list_and_every_certificate_by_an_old_one() {
    let held = Held::new().await;
    let verify = |list, ahead: u64| {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() + ahead));
        verifier(&held, list).verify_client_cert(&held.leaf(), &[], now).map(|_| ())
    };
    let list = held.fetched().await;
    verify(list.clone(), 0).unwrap();
    let old = verify(list, 62).unwrap_err();
    assert!(old.to_string().contains("certificate revocation list expired"), "{old}");
    held.revoke();
    within("the list", async || match verify(held.fetched().await, 0) {
        Err(rustls::Error::InvalidCertificate(CertificateError::Revoked)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// An Envoy that asks for client certificates and goes by a list in a file that it watches.
async fn front(program: &Path, authorities: &str, lists: &str) -> Envoy {
    Envoy::start(program, |at| {
        std::fs::write(at("ca.pem"), authorities).unwrap();
        publish(Path::new(&at("")), &at("ca.pem"), lists);
        let list = json!({ "resource_api_version": "V3", "path_config_source": { "path": at("clients.json") } });
        Configuration {
            clients: json!({
                "require_client_certificate": true,
                "disable_stateless_session_resumption": true,
                "common_tls_context": {
                    "validation_context_sds_secret_config": { "name": "clients", "sds_config": list },
                },
            }),
            http_filters: Vec::new(),
            action: ("direct_response", json!({ "status": 200 })),
            clusters: Vec::new(),
        }
    })
    .await
}

/// What it answers a client with the certificate in `directory`.
async fn asked(envoy: &Envoy, directory: &Path) -> Result<(), String> {
    let config = http::client(std::slice::from_ref(&envoy.own), Some(directory));
    let reply = http::exchange(envoy.port, config, &http::request("GET /", &[("host", "envoy")], "")).await?;
    if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
}

/// Puts lists where Envoy looks for them: it takes up a file that is moved there.
fn publish(directory: &Path, authorities: &str, lists: &str) {
    let secret = json!({ "resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": "clients",
        "validation_context": {
            "trusted_ca": { "filename": authorities },
            "crl": { "inline_string": lists },
            // The authority itself is on no list: once it is tainted it leaves the bundle.
            "only_verify_leaf_cert_crl": true,
        },
    }]});
    std::fs::write(directory.join("next.json"), secret.to_string()).unwrap();
    std::fs::rename(directory.join("next.json"), directory.join("clients.json")).unwrap();
}

#[tokio::test]
async fn envoy_shuts_out_a_client_whose_certificate_is_on_the_list() {
    let program = envoy();
    let test = "envoy_shuts_out_a_client_whose_certificate_is_on_the_list";
    if !needs(test, NEEDED, program.is_some()) {
        return;
    }
    let held = Held::new().await;
    let other = held.broker.home.join("other");
    let bob = Acting::with(&held.broker, &held.broker.enroll_agent("bob").await).await;
    let (grant, ..) = bob.granted().await;
    bob.certified(&grant, &other).await;
    let authorities = std::fs::read_to_string(held.directory.join("ca.pem")).unwrap();
    let (_, _, lists) = held.broker.page("/crl/all.pem").await;
    let envoy = front(&program.unwrap(), &authorities, &lists).await;
    within("both are let in", async || {
        asked(&envoy, &held.directory).await?;
        asked(&envoy, &other).await
    })
    .await;

    held.revoke();
    let since = Instant::now();
    let ca = envoy.directory.path().join("ca.pem").display().to_string();
    let said = within("one is shut out", async || {
        publish(envoy.directory.path(), &ca, &held.broker.page("/crl/all.pem").await.2);
        tokio::time::sleep(Duration::from_millis(100)).await;
        match asked(&envoy, &held.directory).await {
            Err(said) => Ok(said),
            Ok(_) => Err("it is let in still".to_owned()),
        }
    })
    .await;
    println!("Envoy refuses it {} ms after the revoke", since.elapsed().as_millis());
    assert!(said.contains("CertificateRevoked"), "{said}");
    within("the other is let in still", async || asked(&envoy, &other).await).await;
}
