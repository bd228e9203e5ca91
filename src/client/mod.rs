//! How a program reaches the broker: its identity, its TLS, one channel.
//!
//! A channel connects again by itself when its connection is lost. Every failure is a [`Refusal`],
//! whether the broker sent it or it arose on the way. The system clock and trust store are not used.

pub mod feed;
#[cfg(test)]
mod foreign;
pub mod identity;
mod pem;
mod proof_key;
pub mod refusal;
pub mod tls;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::AsyncBufReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};

use crate::domain::error::{Code, Error};
pub use identity::Identity;
pub use pem::leaf_of;
pub use proof_key::ProofKey;
pub use refusal::Refusal;
pub use tls::{client_config, joining_config};

/// From the name's resolution to the end of the TLS handshake.
const CONNECT: Duration = Duration::from_secs(5);
/// Until a call's answer begins; streams may then run on.
const REQUEST: Duration = Duration::from_secs(30);
/// How long to wait for the server's first word after the handshake.
const GREETING: Duration = Duration::from_secs(1);
/// An idle connection is asked for a sign of life this often, …
const PING: Duration = Duration::from_secs(20);
/// … and given up when none comes for so long.
const PONG: Duration = Duration::from_secs(10);

/// A name for a request that its caller gave none: 32 hexadecimal digits that nobody else makes up.
#[expect(clippy::disallowed_methods, reason = "a client is a process of its own: nobody hands it entropy")]
pub fn made_up_key() -> String {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0; 16];
    // Without entropy a key could be somebody else's, and this process could make no TLS connection either.
    ring::rand::SystemRandom::new().fill(&mut bytes).expect("the system gives random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A channel to the broker at `addr`, `https://HOST:PORT`, with the connection made.
///
/// # Errors
/// `Invalid` if `addr` is no such URL, `Unavailable` if nobody answers there, `Unauthenticated` if
/// either side does not believe the other.
pub async fn connect(addr: &str, tls: Arc<ClientConfig>) -> Result<Channel, Refusal> {
    let target = Target::parse(addr)?;
    let endpoint = Endpoint::from(target.uri.clone())
        .timeout(REQUEST)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .keep_alive_while_idle(true);
    // tonic's own connector would refuse https without its own TLS; this one is asked as it is.
    let connector = tower::service_fn(move |_: Uri| dial_boxed(target.clone(), tls.clone()));
    Channel::connect(connector, endpoint).await.map_err(|error| {
        Refusal::within(&error).unwrap_or_else(|| Refusal::new(Code::Unavailable, "unreachable", error.to_string()))
    })
}

/// Where to connect and which name the certificate there must hold.
#[derive(Clone)]
struct Target {
    uri: Uri,
    host: String,
    port: u16,
    name: ServerName<'static>,
}

impl Target {
    fn parse(addr: &str) -> Result<Self, Error> {
        let wrong = |why| Error::malformed("addr", addr, why);
        let uri: Uri = addr.parse().map_err(|_| wrong("expected https://HOST:PORT"))?;
        if uri.scheme_str() != Some("https") {
            return Err(wrong("expected https://HOST:PORT"));
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            let why = "addr holds a user or password: belay knows its callers by certificate, give https://HOST:PORT";
            return Err(Error::new(Code::Invalid, "malformed", why).on("addr"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("it must end after the port"));
        }
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name =
            ServerName::try_from(host.clone()).map_err(|_| wrong("its host is neither a name nor an address"))?;
        let port = uri.port_u16().unwrap_or(443);
        Ok(Self { uri, host, port, name })
    }
}

type Dialled = Result<TokioIo<TlsStream<TcpStream>>, Refusal>;

fn dial_boxed(target: Target, tls: Arc<ClientConfig>) -> Pin<Box<dyn Future<Output = Dialled> + Send>> {
    Box::pin(dial(target, tls))
}

async fn dial(target: Target, tls: Arc<ClientConfig>) -> Dialled {
    let at = target.uri.authority().map_or(target.host.as_str(), |authority| authority.as_str());
    let connected = timeout(CONNECT, async {
        let socket = TcpStream::connect((target.host.as_str(), target.port)).await?;
        // Without this a small request waits for the server's delayed acknowledgement, some 40 ms.
        socket.set_nodelay(true)?;
        TlsConnector::from(tls).connect(target.name.clone(), socket).await
    });
    let mut stream = match connected.await {
        Ok(connected) => connected.map_err(|error| unreached(at, &error))?,
        Err(_) => return Err(unreached(at, &io::Error::new(io::ErrorKind::TimedOut, "no answer within 5 s"))),
    };
    // In TLS 1.3 the client's handshake ends before the server has seen its certificate, so a refusal
    // arrives as the first thing read. A broker begins with HTTP/2 SETTINGS (RFC 9113 section 3.4);
    // waiting for them here finds the cause, where HTTP would only say that the connection broke.
    match timeout(GREETING, stream.fill_buf()).await {
        Ok(Ok([])) => Err(unreached(at, &io::ErrorKind::UnexpectedEof.into())),
        Ok(Err(error)) => Err(unreached(at, &error)),
        Ok(Ok(_)) | Err(_) => Ok(TokioIo::new(stream)),
    }
}

fn unreached(at: &str, error: &io::Error) -> Refusal {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => {
            let message = format!("no trusted connection to the broker at https://{at}: {}", tls::cause(error));
            Refusal::new(Code::Unauthenticated, "tls_refused", message)
        }
        None => {
            let message = format!("cannot reach the broker at https://{at}: {error}");
            Refusal::new(Code::Unavailable, "unreachable", message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_with_a_host_and_nothing_else() {
        for good in ["https://127.0.0.1:7440", "https://broker.example:7440/", "https://[::1]:7440"] {
            Target::parse(good).unwrap();
        }
        let bad = [
            "", "https://me:hunter2@a:1", "127.0.0.1:7440", "http://127.0.0.1:7440", "https://", "https://a/b",
            "https://a?b", "https://a_-.-b",
        ];
        for addr in bad {
            let error = Target::parse(addr).err().unwrap_or_else(|| panic!("accepted {addr}"));
            assert_eq!((error.code, error.field), (Code::Invalid, Some("addr")), "{addr}");
            assert!(!error.message.contains("hunter2"), "{error}");
        }
        assert_eq!(Target::parse("https://[::1]:7440").unwrap().host, "::1");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_unavailable_by_name() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let tls = joining_config(crate::domain::digest::Digest([0; 32])).unwrap();
        let refusal = connect(&format!("https://{free}"), tls).await.unwrap_err();
        assert_eq!(refusal.code, Code::Unavailable);
        assert!(refusal.message.starts_with(&format!("cannot reach the broker at https://{free}: ")), "{refusal}");
    }
}
