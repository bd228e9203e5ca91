//! Accepts connections and finishes their TLS handshakes, each in a task of its own.
//!
//! Nothing here waits for one client while another knocks: a handshake has a deadline, their number
//! is bounded, and a failing `accept` (EMFILE and the like) is waited out. What a connection may do
//! is decided per request, from the certificate that travels with it, never here.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::connection::{Connection, Patience};
use super::doors::Doors;
use super::{metrics, task};
use crate::domain::error::{Code, Error};
use crate::edge::fault::Place;

/// How patient the accept loop is.
#[derive(Clone, Copy)]
struct Limits {
    /// Handshakes under way at once; beyond them, the oldest is given up for each new one.
    handshakes: usize,
    /// How long one handshake may take.
    patience: Duration,
    /// The pause after an `accept` that failed for want of something.
    pause: Duration,
    /// How long a connection with a client certificate is kept without a request; it may be twice as long.
    known: Duration,
    /// The same for one without.
    strangers: Duration,
    /// Connections without a client certificate at once; beyond them, new ones are closed.
    places: usize,
}

const LIMITS: Limits = Limits {
    handshakes: 256,
    patience: Duration::from_secs(10),
    pause: Duration::from_millis(100),
    known: Duration::from_secs(300),
    strangers: Duration::from_secs(30),
    places: 1024,
};

/// Finished connections that may wait to be taken.
const WAITING: usize = 64;

/// A bound address that nobody is served on yet.
pub struct Listener {
    socket: TcpListener,
    local: SocketAddr,
    config: Arc<ServerConfig>,
    limits: Limits,
    name: &'static str,
    doors: Option<Arc<Doors>>,
}

/// Binds the `addr` of a listener, `grpc` or `http`; port 0 picks a free one.
///
/// # Errors
/// `Conflict` if the port is in use, `Invalid` if the address cannot be bound here.
pub fn bind(listener: &'static str, addr: SocketAddr) -> Result<std::net::TcpListener, Error> {
    let bound = std::net::TcpListener::bind(addr).and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
    bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            let message =
                format!("`{listener}`: cannot listen on {addr}: something else does; stop it or choose another port");
            Error::new(Code::Conflict, "address_in_use", message).on(listener)
        }
        io::ErrorKind::AddrNotAvailable => {
            let message = format!("`{listener}`: cannot listen on {addr}: it is not an address of this machine");
            Error::new(Code::Invalid, "address_unusable", message).on(listener)
        }
        _ => {
            let message = format!("`{listener}`: cannot listen on {addr}: {error}");
            Error::new(Code::Invalid, "address_unusable", message).on(listener)
        }
    })
}

impl Listener {
    /// Takes a socket of [`bind`]. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The runtime does not take the socket.
    pub fn new(socket: std::net::TcpListener, config: Arc<ServerConfig>) -> Result<Self, Error> {
        let taken = socket.local_addr().and_then(|local| Ok((local, TcpListener::from_std(socket)?)));
        let (local, socket) =
            taken.map_err(|error| Error::new(Code::Internal, "socket", format!("a socket was not taken: {error}")))?;
        Ok(Self { socket, local, config, limits: LIMITS, name: "other", doors: None })
    }

    /// Under this name it is measured.
    #[must_use]
    pub fn named(self, name: &'static str) -> Self {
        metrics::begin(name);
        Self { name, ..self }
    }

    /// Its connections end with the certificates that they show.
    #[must_use]
    pub fn behind(self, doors: Arc<Doors>) -> Self {
        Self { doors: Some(doors), ..self }
    }

    /// The address that was bound, with the port that was picked.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Accepts until `stop` resolves or the result is dropped; then the port is closed and
    /// handshakes under way are given up, while connections already finished are still handed out.
    pub fn accept_until(self, stop: impl Future<Output = ()> + Send + 'static) -> Incoming {
        let (finished, connections) = mpsc::channel(WAITING);
        let local = self.local;
        let tls = TlsAcceptor::from(self.config);
        task::spawn(accept(self.socket, tls, self.limits, self.name, self.doors, finished, stop));
        Incoming { connections, local }
    }
}

/// Where connections come from; a test's may fail.
trait Source: Send + Sync + 'static {
    fn next(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send;
}

impl Source for TcpListener {
    fn next(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send {
        self.accept()
    }
}

async fn accept(
    source: impl Source,
    tls: TlsAcceptor,
    limits: Limits,
    name: &'static str,
    doors: Option<Arc<Doors>>,
    finished: mpsc::Sender<Connection>,
    stop: impl Future<Output = ()> + Send,
) {
    let places = Arc::new(Semaphore::new(limits.places));
    let keep = Patience { known: limits.known, strangers: limits.strangers, places, doors };
    // Dropped with this loop, which ends the handshakes that it still holds.
    let mut handshakes = JoinSet::new();
    let mut begun: VecDeque<AbortHandle> = VecDeque::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return,
            () = finished.closed() => return,
            Some(_) = handshakes.join_next() => {}
            accepted = source.next() => match accepted {
                Ok((socket, peer)) => {
                    begun.retain(|handshake| !handshake.is_finished());
                    if begun.len() >= limits.handshakes
                        && let Some(oldest) = begun.pop_front()
                    {
                        // Whoever is silent makes room: it cannot keep out those who speak.
                        oldest.abort();
                        metrics::handshake(name, "crowded_out");
                    }
                    let next =
                        handshake(socket, peer, tls.clone(), limits.patience, name, keep.clone(), finished.clone());
                    begun.push_back(handshakes.spawn(next));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    metrics::not_accepted(name);
                    tokio::time::sleep(limits.pause).await;
                }
            },
        }
    }
}

async fn handshake(
    socket: TcpStream,
    addr: SocketAddr,
    tls: TlsAcceptor,
    patience: Duration,
    name: &'static str,
    keep: Patience,
    finished: mpsc::Sender<Connection>,
) {
    // Without this a small answer waits for the client's delayed acknowledgement, some 40 ms.
    if let Err(error) = socket.set_nodelay(true) {
        return tracing::debug!(%addr, %error, "connection lost before its handshake");
    }
    Place::Handshake.reached();
    match tokio::time::timeout(patience, tls.accept(socket)).await {
        Ok(Ok(stream)) => match Connection::new(stream, addr, name, &keep) {
            Some(connection) => {
                metrics::handshake(name, "ok");
                // The receiver is gone only when the server is: nobody is left to tell.
                drop(finished.send(connection).await);
            }
            None => {
                tracing::debug!(%addr, "too many connections without a certificate");
                metrics::handshake(name, "crowded_out");
            }
        },
        Ok(Err(error)) => {
            tracing::debug!(%addr, %error, "TLS handshake failed");
            metrics::handshake(name, "failed");
        }
        Err(_) => {
            tracing::debug!(%addr, "TLS handshake took too long");
            metrics::handshake(name, "timeout");
        }
    }
}

/// Connections whose handshake is done: a stream for tonic, a listener for axum.
pub struct Incoming {
    connections: mpsc::Receiver<Connection>,
    local: SocketAddr,
}

impl tokio_stream::Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections.poll_recv(cx).map(|next| next.map(Ok))
    }
}

impl axum::serve::Listener for Incoming {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.connections.recv().await {
            Some(connection) => {
                let addr = connection.peer().addr;
                (connection, addr)
            }
            // axum cannot be told that there will be no more; its own shutdown signal ends it.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

#[cfg(test)]
mod idle;
#[cfg(test)]
mod tests;
