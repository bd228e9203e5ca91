//! The broker's listener and its clients, over real sockets: who gets through, who does not, and
//! what each is told.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use belay::attest::PeerCertificate;
use belay::client::{self, Identity, Refusal};
use belay::domain::{digest::Digest, error::Code};
use belay::server::{connection::Info, listen, listen::Listener, task, tls};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::time_provider::DefaultTimeProvider;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::{sync::watch, task::JoinHandle};
use tonic::transport::{Channel, Server};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// A CA that signs whatever a test needs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate in DER with its key in PEM.
struct Issued(Vec<u8>, String);

impl Authority {
    fn new() -> Self {
        Self::named("belay")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    fn issue(&self, usage: ExtendedKeyUsagePurpose, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        params.extended_key_usages = vec![usage];
        change(&mut params);
        Issued(params.signed_by(&key, &self.0).unwrap().der().to_vec(), key.serialize_pem())
    }

    fn client(&self) -> Issued {
        self.issue(ExtendedKeyUsagePurpose::ClientAuth, |_| {})
    }

    /// The chain and key of a server on 127.0.0.1.
    fn server(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let Issued(leaf, key) = self.issue(ExtendedKeyUsagePurpose::ServerAuth, |_| {});
        (vec![leaf.into(), self.der()], key_der(&key))
    }
}

fn key_der(pem: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(KeyPair::from_pem(pem).unwrap().serialize_der().into())
}

/// A gRPC health service behind the listener; it ends when this is dropped.
struct Broker {
    addr: SocketAddr,
    identity: Arc<tls::ServerIdentity>,
    /// The certificate that the latest call's connection presented.
    seen: Arc<Mutex<Option<PeerCertificate>>>,
    stop: watch::Sender<bool>,
    served: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Broker {
    async fn start(ca: &Authority) -> Self {
        let (chain, key) = ca.server();
        Self::presenting(chain, key, ca.der()).await
    }

    async fn presenting(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        ca: CertificateDer<'static>,
    ) -> Self {
        let identity = tls::ServerIdentity::new(chain, key).unwrap();
        let config = tls::grpc(identity.clone(), vec![ca], Arc::new(DefaultTimeProvider)).unwrap();
        let listener = Listener::new(listen::bind("grpc", "127.0.0.1:0".parse().unwrap()).unwrap(), config).unwrap();
        let addr = listener.local_addr();
        let (stop, stopped) = watch::channel(false);
        let until = |mut stopped: watch::Receiver<bool>| async move { drop(stopped.changed().await) };
        let incoming = listener.accept_until(until(stopped.clone()));
        let (_, health) = tonic_health::server::health_reporter();
        let seen = Arc::new(Mutex::new(None));
        let note = seen.clone();
        let health = tonic::service::interceptor::InterceptedService::new(health, move |call: tonic::Request<()>| {
            *note.lock().unwrap() = call.extensions().get::<Info>().map(|info| info.peer.clone());
            Ok(call)
        });
        let server = Server::builder().add_service(health);
        let served = task::spawn(server.serve_with_incoming_shutdown(incoming, until(stopped)));
        Self { addr, identity, seen, stop, served }
    }

    async fn connect(&self, config: Arc<ClientConfig>) -> Result<Channel, Refusal> {
        client::connect(&format!("https://{}", self.addr), config).await
    }

    /// Connects and makes one call.
    async fn call(&self, config: Arc<ClientConfig>) -> Result<PeerCertificate, Refusal> {
        check(self.connect(config).await?).await?;
        Ok(self.seen.lock().unwrap().take().expect("tonic puts connect info into each request"))
    }
}

async fn check(channel: Channel) -> Result<(), Refusal> {
    let mut health = HealthClient::new(channel);
    Ok(health.check(HealthCheckRequest::default()).await.map(|_| ())?)
}

/// The client configuration of one who enrolled: `shown` is presented, `trusted` believed.
fn enrolled(shown: &Issued, trusted: &Authority) -> Arc<ClientConfig> {
    let home = tempfile::tempdir().unwrap();
    save(home.path(), shown, trusted);
    client::client_config(&Identity::load(home.path()).unwrap()).unwrap()
}

fn save(dir: &Path, shown: &Issued, trusted: &Authority) {
    Identity::save(dir, &shown.0, &shown.1, &[trusted.der().to_vec()], false).unwrap();
}

fn joining(ca: &Authority) -> Arc<ClientConfig> {
    client::joining_config(Digest::of(&ca.der())).unwrap()
}

fn refused(outcome: Result<PeerCertificate, Refusal>, why: &str) {
    let refusal = outcome.expect_err("a connection that had to be refused was served");
    assert_eq!(refusal.code, Code::Unauthenticated, "{refusal}");
    assert!(refusal.message.contains(why), "{refusal}");
}

#[tokio::test]
async fn a_call_carries_its_clients_certificate() {
    let ca = Authority::new();
    let shown = ca.client();
    let peer = Broker::start(&ca).await.call(enrolled(&shown, &ca)).await.unwrap();
    assert_eq!(peer.certificate.as_deref(), Some(&shown.0));
    assert!(peer.addr.ip().is_loopback());
}

#[tokio::test]
async fn a_joining_client_gets_through_without_a_certificate() {
    let ca = Authority::new();
    let peer = Broker::start(&ca).await.call(joining(&ca)).await.unwrap();
    assert!(peer.certificate.is_none());
}

#[tokio::test]
async fn a_foreign_expired_or_misused_client_certificate_fails_the_handshake() {
    let ca = Authority::new();
    let broker = Broker::start(&ca).await;
    for foreign in [Authority::named("other"), Authority::new()] {
        refused(broker.call(enrolled(&foreign.client(), &ca)).await, "unknown CA");
    }
    let expired = ca.issue(ExtendedKeyUsagePurpose::ClientAuth, |params| params.not_after = date_time_ymd(2020, 1, 1));
    refused(broker.call(enrolled(&expired, &ca)).await, "expired");
    let early = ca.issue(ExtendedKeyUsagePurpose::ClientAuth, |params| params.not_before = date_time_ymd(4000, 1, 1));
    refused(broker.call(enrolled(&early, &ca)).await, "not yet valid");
    let server = ca.issue(ExtendedKeyUsagePurpose::ServerAuth, |_| {});
    refused(broker.call(enrolled(&server, &ca)).await, "not made for a client");
    assert!(broker.seen.lock().unwrap().is_none(), "a refused connection reached a handler");
}

#[tokio::test]
async fn a_server_under_another_ca_is_not_believed() {
    let ca = Authority::new();
    for other in [Authority::named("other"), Authority::new()] {
        let broker = Broker::start(&other).await;
        refused(broker.call(enrolled(&ca.client(), &ca)).await, "unknown CA");
        refused(broker.call(joining(&ca)).await, "impersonated");
    }
}

#[tokio::test]
async fn showing_the_pinned_ca_is_not_enough() {
    let ca = Authority::new();
    for thief in [Authority::named("other"), Authority::new()] {
        let (chain, key) = thief.server();
        let broker = Broker::presenting(vec![chain[0].clone(), ca.der()], key, ca.der()).await;
        refused(broker.call(joining(&ca)).await, "impersonated");
    }
}

#[tokio::test]
async fn an_expired_or_misnamed_server_is_not_believed_by_anyone() {
    let ca = Authority::new();
    let broker = Broker::start(&ca).await;
    let old = ca.issue(ExtendedKeyUsagePurpose::ServerAuth, |params| params.not_after = date_time_ymd(2020, 1, 1));
    let misnamed = ca.issue(ExtendedKeyUsagePurpose::ServerAuth, |params| params.subject_alt_names.clear());
    for (Issued(leaf, key), why) in [(old, "expired"), (misnamed, "not good")] {
        broker.identity.replace(vec![leaf.into(), ca.der()], key_der(&key)).unwrap();
        refused(broker.call(joining(&ca)).await, why);
        refused(broker.call(enrolled(&ca.client(), &ca)).await, why);
    }
}

#[tokio::test]
async fn a_replaced_server_certificate_counts_from_the_next_connection() {
    let ca = Authority::new();
    let broker = Broker::start(&ca).await;
    let before = broker.connect(joining(&ca)).await.unwrap();
    let other = Authority::new();
    let (chain, key) = other.server();
    broker.identity.replace(chain, key).unwrap();
    broker.call(joining(&other)).await.unwrap();
    check(before).await.unwrap();
}

#[tokio::test]
async fn no_session_is_ever_resumed() {
    let ca = Authority::new();
    let broker = Broker::start(&ca).await;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca.der()).unwrap();
        let shown = ca.client();
        // rustls' own default: this client resumes whenever it is let.
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![shown.0.into()], key_der(&shown.1))
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let config = Arc::new(config);
        for _ in 0..3 {
            let socket = tokio::net::TcpStream::connect(broker.addr).await.unwrap();
            let connector = tokio_rustls::TlsConnector::from(config.clone());
            let mut stream = connector.connect(broker.addr.ip().into(), socket).await.unwrap();
            // A ticket would arrive before the first bytes of HTTP.
            stream.fill_buf().await.unwrap();
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full), "{version:?}");
        }
    }
}

#[tokio::test]
async fn a_client_does_not_resume_even_where_the_server_would() {
    let ca = Authority::new();
    let (chain, key) = ca.server();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = format!("https://{}", listener.local_addr().unwrap());
    for config in [joining(&ca), enrolled(&ca.client(), &ca)] {
        for _ in 0..3 {
            let greet = async {
                let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
                let empty_settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
                stream.write_all(&empty_settings).await.unwrap();
                stream.get_ref().1.handshake_kind()
            };
            let (kind, _) = tokio::join!(greet, client::connect(&addr, config.clone()));
            assert_eq!(kind, Some(HandshakeKind::Full));
        }
    }
}

#[tokio::test]
async fn what_is_not_tls_and_what_falls_silent_are_told_apart() {
    let ca = Authority::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = format!("https://{}", listener.local_addr().unwrap());
    let answer = async |bytes: &[u8]| {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(bytes).await.unwrap();
    };
    let (plain, ()) = tokio::join!(client::connect(&addr, joining(&ca)), answer(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    let plain = plain.unwrap_err();
    assert_eq!(plain.code, Code::Unauthenticated);
    assert!(plain.message.contains("does not speak TLS"), "{plain}");
    let (silent, ()) = tokio::join!(client::connect(&addr, joining(&ca)), answer(b""));
    assert_eq!(silent.unwrap_err().code, Code::Unavailable);
}

#[tokio::test]
async fn a_channel_whose_server_went_away_is_unavailable() {
    let ca = Authority::new();
    let broker = Broker::start(&ca).await;
    let channel = broker.connect(joining(&ca)).await.unwrap();
    check(channel.clone()).await.unwrap();
    broker.stop.send(true).unwrap();
    let served = tokio::time::timeout(std::time::Duration::from_secs(5), broker.served).await;
    served.expect("the server goes on").unwrap().unwrap();
    let refusal = check(channel).await.unwrap_err();
    assert_eq!(refusal.code, Code::Unavailable, "{refusal}");
    assert!(refusal.message.starts_with("cannot reach the broker"), "{refusal}");
}
