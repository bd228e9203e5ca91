//! Connections that are of no use are closed; those that are, stay.

use std::future::IntoFuture as _;

use super::*;
use crate::client::connect;
use crate::server::activity::Noticed;
use crate::server::connection::Info;
use crate::server::tls::{self, ServerIdentity};
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(10);

/// A certificate that stands for server, authority and client.
struct Pair(CertificateDer<'static>, KeyPair);

impl Pair {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        Self(certificate.self_signed(&key).unwrap().der().clone(), key)
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.1.serialize_der().into())
    }

    fn server(&self) -> Arc<ServerIdentity> {
        ServerIdentity::new(vec![self.0.clone(); 2], self.key()).unwrap()
    }

    fn https(&self) -> Arc<ServerConfig> {
        let time = Arc::new(rustls::time_provider::DefaultTimeProvider);
        let clients = crate::server::clients::under(vec![self.0.to_vec()]).unwrap();
        tls::https(self.server(), clients, time).unwrap()
    }

    fn client(&self, is_known: bool, protocol: &[u8]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match is_known {
            true => config.with_client_auth_cert(vec![self.0.clone()], self.key()).unwrap(),
            false => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    }

    fn listener(&self, config: Arc<ServerConfig>, change: impl FnOnce(&mut Limits)) -> Listener {
        let mut listener = Listener::new(bind("http", super::tests::ANY.parse().unwrap()).unwrap(), config).unwrap();
        change(&mut listener.limits);
        listener
    }

    async fn shake(&self, addr: SocketAddr, is_known: bool, protocol: &[u8]) -> TlsStream<TcpStream> {
        let socket = TcpStream::connect(addr).await.unwrap();
        let connector = TlsConnector::from(self.client(is_known, protocol));
        connector.connect("localhost".try_into().unwrap(), socket).await.unwrap()
    }
}

/// Pages behind the listener: `/` at once, `/slow` after four times the patience.
fn pages(pair: &Pair, change: impl FnOnce(&mut Limits)) -> SocketAddr {
    let listener = pair.listener(pair.https(), change);
    let addr = listener.local_addr();
    let slow = || async {
        tokio::time::sleep(4 * SHORT).await;
        "belay"
    };
    let router = axum::Router::new()
        .route("/", axum::routing::get(async || "belay"))
        .route("/slow", axum::routing::get(slow))
        .layer(Noticed)
        .into_make_service_with_connect_info::<Info>();
    task::spawn(axum::serve(listener.accept_until(std::future::pending()), router).into_future());
    addr
}

async fn ask(stream: &mut TlsStream<TcpStream>, path: &str) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"belay") {
        assert_ne!(tokio::time::timeout(LONG, stream.read_buf(&mut answer)).await.unwrap().unwrap(), 0);
    }
}

/// Reads until the other side closes.
async fn is_closed(stream: &mut TlsStream<TcpStream>) {
    let mut rest = Vec::new();
    // A connection that is cut instead of closed is closed too.
    drop(tokio::time::timeout(LONG, stream.read_to_end(&mut rest)).await.expect("the connection stays open"));
}

#[tokio::test]
async fn a_connection_that_asks_nothing_is_closed_and_one_that_asks_stays() {
    let pair = Pair::new();
    let addr = pages(&pair, |limits| limits.strangers = SHORT);
    let silent = async { is_closed(&mut pair.shake(addr, false, b"http/1.1").await).await };
    let half_sent = async {
        let mut stream = pair.shake(addr, false, b"http/1.1").await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await.unwrap();
        let (mut read, mut write) = tokio::io::split(stream);
        let drip = async {
            // One byte now and then is no request.
            while write.write_all(b"x").await.is_ok() && write.flush().await.is_ok() {
                tokio::time::sleep(SHORT / 10).await;
            }
        };
        let mut rest = Vec::new();
        let closed = async { drop(tokio::time::timeout(LONG, read.read_to_end(&mut rest)).await.unwrap()) };
        tokio::select! { () = drip => {}, () = closed => {} }
    };
    let busy = async {
        let mut stream = pair.shake(addr, false, b"http/1.1").await;
        for _ in 0..20 {
            ask(&mut stream, "/").await;
            tokio::time::sleep(SHORT / 3).await;
        }
        ask(&mut stream, "/slow").await;
        is_closed(&mut stream).await;
    };
    tokio::time::timeout(LONG, async { tokio::join!(silent, half_sent, busy) }).await.unwrap();
}

#[tokio::test]
async fn strangers_beyond_the_bound_are_closed_until_there_is_a_place() {
    let pair = Pair::new();
    let addr = pages(&pair, |limits| limits.places = 1);
    let mut first = pair.shake(addr, false, b"http/1.1").await;
    ask(&mut first, "/").await;
    is_closed(&mut pair.shake(addr, false, b"http/1.1").await).await;
    ask(&mut first, "/").await;
    drop(first);
    let again = async {
        loop {
            let mut next = pair.shake(addr, false, b"http/1.1").await;
            drop(next.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await);
            let mut answer = Vec::new();
            if next.read_to_end(&mut answer).await.is_ok() && answer.ends_with(b"belay") {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, again).await.unwrap();
}

#[tokio::test]
async fn an_endless_answer_keeps_the_connection_of_whoever_has_a_certificate_alone() {
    let pair = Pair::new();
    let config =
        tls::grpc(pair.server(), vec![pair.0.clone()], Arc::new(rustls::time_provider::DefaultTimeProvider)).unwrap();
    let listener = pair.listener(config, |limits| {
        limits.known = SHORT;
        limits.strangers = SHORT;
    });
    let addr = listener.local_addr();
    let (_reporter, health) = tonic_health::server::health_reporter();
    let server = tonic::transport::Server::builder().layer(Noticed).add_service(health);
    task::spawn(server.serve_with_incoming(listener.accept_until(std::future::pending())));
    let watch = async |is_known| {
        let url = format!("https://127.0.0.1:{}", addr.port());
        let mut health = HealthClient::new(connect(&url, pair.client(is_known, b"h2")).await.unwrap());
        let mut watched = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert!(watched.message().await.unwrap().is_some());
        tokio::time::timeout(8 * SHORT, watched.message()).await
    };
    assert!(watch(true).await.is_err(), "the answer ended");
    assert!(!matches!(watch(false).await.expect("the answer goes on"), Ok(Some(_))));
    // Without a request, a certificate keeps nothing open.
    is_closed(&mut pair.shake(addr, true, b"h2").await).await;
}
