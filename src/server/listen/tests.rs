use super::*;
use crate::server::tls::{self, ServerIdentity};
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::PrivateKeyDer;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt;

pub(super) const ANY: &str = "127.0.0.1:0";

/// A server's configuration, and a client that trusts its certificate.
fn ends() -> (Arc<ServerConfig>, TlsConnector) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let identity = ServerIdentity::new(vec![certificate.der().clone(); 2], key).unwrap();
    let clients = crate::server::clients::under(vec![certificate.der().to_vec()]).unwrap();
    let time = Arc::new(rustls::time_provider::DefaultTimeProvider);
    (tls::https(identity, clients, time).unwrap(), Arc::new(client).into())
}

async fn shake(client: &TlsConnector, addr: SocketAddr) -> tokio_rustls::client::TlsStream<TcpStream> {
    let socket = TcpStream::connect(addr).await.unwrap();
    client.connect("localhost".try_into().unwrap(), socket).await.unwrap()
}

fn bound() -> (Listener, TlsConnector) {
    let (server, client) = ends();
    (Listener::new(bind("http", ANY.parse().unwrap()).unwrap(), server).unwrap(), client)
}

#[tokio::test]
async fn a_port_in_use_is_one_line_that_names_it() {
    let (first, _) = bound();
    let error = bind("http", first.local_addr()).unwrap_err();
    assert_eq!((error.code, error.reason), (Code::Conflict, "address_in_use"));
    assert!(error.message.contains(&first.local_addr().to_string()) && !error.message.contains('\n'), "{error}");
}

#[tokio::test]
async fn silent_clients_delay_nobody_and_are_dropped() {
    let (mut listener, client) = bound();
    listener.limits = Limits { handshakes: 2, patience: Duration::from_millis(200), ..LIMITS };
    let addr = listener.local_addr();
    let mut incoming = listener.accept_until(std::future::pending());
    // One silent client leaves room for another; two more fill it until their patience ends.
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(TcpStream::connect(addr).await.unwrap());
        let both = async { tokio::join!(incoming.next(), shake(&client, addr)) };
        tokio::time::timeout(Duration::from_secs(5), both).await.expect("a silent client held up another");
        silent.push(TcpStream::connect(addr).await.unwrap());
    }
}

#[tokio::test]
async fn the_oldest_silent_client_makes_room_for_a_new_one() {
    let (mut listener, client) = bound();
    listener.limits.handshakes = 1;
    let addr = listener.local_addr();
    let _incoming = listener.accept_until(std::future::pending());
    let mut silent = TcpStream::connect(addr).await.unwrap();
    let second = tokio::time::timeout(Duration::from_secs(5), shake(&client, addr));
    second.await.expect("a silent client keeps out one that speaks");
    let ended = tokio::time::timeout(Duration::from_secs(5), silent.read(&mut [0; 1])).await;
    assert!(matches!(ended.expect("more handshakes are under way than allowed"), Ok(0) | Err(_)));
}

#[tokio::test]
async fn stopping_closes_the_port_and_hands_out_what_is_finished() {
    let (listener, client) = bound();
    let addr = listener.local_addr();
    let (stop, stopped) = oneshot::channel::<()>();
    let mut incoming = listener.accept_until(async { drop(stopped.await) });
    let _kept = shake(&client, addr).await;
    while incoming.connections.is_empty() {
        tokio::task::yield_now().await;
    }
    stop.send(()).unwrap();
    let served = incoming.next().await.unwrap().unwrap();
    assert!(served.stream.get_ref().0.nodelay().unwrap());
    let ended = tokio::time::timeout(Duration::from_secs(5), incoming.next()).await;
    assert!(ended.expect("the loop goes on").is_none());
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn dropping_the_connections_ends_the_loop() {
    let (listener, _) = bound();
    let addr = listener.local_addr();
    drop(listener.accept_until(std::future::pending()));
    let closed = async {
        while TcpStream::connect(addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), closed).await.unwrap();
}

#[tokio::test]
async fn axum_serves_http_1_over_it() {
    let (listener, client) = bound();
    let addr = listener.local_addr();
    let router = axum::Router::new().route("/", axum::routing::get(async || "belay"));
    let server = axum::serve(listener.accept_until(std::future::pending()), router);
    let asked = async {
        let mut stream = shake(&client, addr).await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = tokio::select! { answer = asked => answer, _ = server.into_future() => panic!("axum ended") };
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("belay"), "{answer}");
}

/// A listener whose first few `accept`s fail.
struct Starved(TcpListener, AtomicUsize);

impl Source for Starved {
    async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        const EMFILE: i32 = 24;
        match self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
            Ok(_) => Err(io::Error::from_raw_os_error(EMFILE)),
            Err(_) => self.0.accept().await,
        }
    }
}

#[tokio::test]
async fn a_failing_accept_is_waited_out() {
    let socket = TcpListener::bind(ANY).await.unwrap();
    let addr = socket.local_addr().unwrap();
    let (finished, mut connections) = mpsc::channel(1);
    let limits = Limits { pause: Duration::from_millis(1), ..LIMITS };
    let source = Starved(socket, AtomicUsize::new(3));
    let (server, client) = ends();
    let ended = task::spawn(accept(source, server.into(), limits, "other", None, finished, std::future::pending()));
    let (served, _kept) = tokio::join!(connections.recv(), shake(&client, addr));
    assert!(served.is_some());
    ended.abort();
}
