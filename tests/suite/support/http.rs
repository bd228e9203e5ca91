//! HTTP/1.1 byte for byte: a client that sends what it is told, and a server that writes down what arrives.

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri};
use belay::client::Identity;
use rcgen::KeyPair;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// What TLS runs over.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// In lower case.
    pub headers: String,
    pub body: String,
}

impl Reply {
    /// The body, which is JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The code of the error that it is.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_else(|| panic!("no error: {self:?}")).to_owned()
    }

    /// The value of a header field, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// A TLS client that believes these authorities, and shows the identity in a directory if it is given one.
pub fn client(authorities: &[CertificateDer<'static>], identity: Option<&Path>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots);
    Arc::new(match identity {
        None => config.with_no_client_auth(),
        Some(directory) => {
            let key = std::fs::read_to_string(directory.join("key.pem")).unwrap();
            let key = PrivateKeyDer::Pkcs8(KeyPair::from_pem(&key).unwrap().serialize_der().into());
            let chain = vec![Identity::load(directory).unwrap().certificate().to_vec().into()];
            config.with_client_auth_cert(chain, key).unwrap()
        }
    })
}

/// A TLS connection to a port of this machine.
pub async fn connect(port: u16, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, std::io::Error> {
    over(TcpStream::connect(("127.0.0.1", port)).await?, config).await
}

/// The same over what is connected.
pub async fn over<S: Stream>(stream: S, config: Arc<ClientConfig>) -> Result<TlsStream<S>, std::io::Error> {
    tokio_rustls::TlsConnector::from(config).connect("127.0.0.1".try_into().unwrap(), stream).await
}

/// A request with this first line, these header fields and this body, and how long it is.
pub fn request(line: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    format!("{line} HTTP/1.1\r\n{headers}{length}connection: close\r\n\r\n{body}")
}

/// What is answered to these bytes, on a connection that is closed then.
pub async fn exchange(port: u16, config: Arc<ClientConfig>, bytes: &str) -> Result<Reply, String> {
    let mut stream = connect(port, config).await.map_err(|error| error.to_string())?;
    send(&mut stream, bytes).await
}

/// The same on a connection that is there.
pub async fn send<S: Stream>(stream: &mut TlsStream<S>, bytes: &str) -> Result<Reply, String> {
    stream.write_all(bytes.as_bytes()).await.map_err(|error| error.to_string())?;
    answer(stream).await
}

/// What comes until the other side closes.
pub async fn answer<S: Stream>(stream: &mut TlsStream<S>) -> Result<Reply, String> {
    let mut answer = Vec::new();
    // Some close without a goodbye.
    let read = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("{answer:?} {read:?}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let headers = head.split_once("\r\n").map_or(String::new(), |(_, headers)| headers.to_lowercase());
    let status = status.ok_or_else(|| format!("{answer:?}"))?;
    Ok(Reply { status, headers, body: body.to_owned() })
}

/// What arrived at a service.
#[derive(Clone, Debug)]
pub struct Arrived {
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A service of somebody's own, behind a proxy. It ends with the test's runtime.
pub struct Service {
    pub port: u16,
    arrived: Arc<Mutex<Vec<Arrived>>>,
}

impl Service {
    pub async fn start() -> Self {
        let arrived: Arc<Mutex<Vec<Arrived>>> = Arc::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let take = async |State(arrived): State<Arc<Mutex<Vec<Arrived>>>>, request: Request| {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
            arrived.lock().unwrap().push(Arrived { uri: parts.uri, headers: parts.headers, body });
            "done\n"
        };
        let service = axum::Router::new().fallback(take).with_state(Arc::clone(&arrived));
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self { port, arrived }
    }

    /// What has arrived since this was asked last.
    pub fn arrived(&self) -> Vec<Arrived> {
        std::mem::take(&mut self.arrived.lock().unwrap())
    }
}
