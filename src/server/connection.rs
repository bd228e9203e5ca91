//! A connection after its TLS handshake, and what the handshake proved about its other end.
//!
//! It carries bytes and a fact; whether the certificate's holder may do anything is not known here.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::activity::{Activity, Watch};
use super::doors::{Door, Doors};
use super::metrics;
use crate::attest::PeerCertificate;
use crate::measure::Held;

/// A connection after its handshake.
pub struct Connection {
    pub(super) stream: TlsStream<TcpStream>,
    peer: PeerCertificate,
    watch: Watch,
    door: Option<Door>,
    _place: Option<OwnedSemaphorePermit>,
    _open: Held,
}

/// What travels with each gRPC request of a connection.
#[derive(Clone, Debug)]
pub struct Info {
    /// Who is at the other end.
    pub peer: PeerCertificate,
    pub(super) activity: Activity,
}

/// How long a connection without a request is kept, and how many of strangers.
#[derive(Clone)]
pub(super) struct Patience {
    /// With whoever presented a certificate.
    pub known: Duration,
    /// With whoever did not.
    pub strangers: Duration,
    /// Connections of strangers at once.
    pub places: Arc<Semaphore>,
    /// Who closes those of whoever is cut; none where nobody shows a certificate.
    pub doors: Option<Arc<Doors>>,
}

impl Connection {
    /// Wraps a stream whose handshake is done; none if there is no place for another stranger.
    pub(super) fn new(
        stream: TlsStream<TcpStream>,
        addr: SocketAddr,
        listener: &'static str,
        patience: &Patience,
    ) -> Option<Self> {
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let door = leaf.zip(patience.doors.as_ref()).and_then(|(leaf, doors)| doors.enter(leaf));
        let (place, patience) = match leaf {
            Some(_) => (None, patience.known),
            None => (Some(Arc::clone(&patience.places).try_acquire_owned().ok()?), patience.strangers),
        };
        let peer = PeerCertificate::new(leaf.map(|der| der.to_vec()), addr);
        Some(Self { stream, peer, watch: Watch::new(patience), door, _place: place, _open: metrics::open(listener) })
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &PeerCertificate {
        &self.peer
    }

    pub(super) fn info(&self) -> Info {
        Info { peer: self.peer.clone(), activity: self.watch.activity().clone() }
    }

    /// A client that takes no bytes keeps its connection no longer than one that sends none.
    fn is_open(&self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.door.as_ref().is_some_and(|door| door.poll_over(cx).is_ready()) {
            true => Err(io::ErrorKind::ConnectionAborted.into()),
            false => Ok(()),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Info;

    fn connect_info(&self) -> Info {
        self.info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // No more bytes: the server ends the connection as if the client had.
        if self.door.as_ref().is_some_and(|door| door.poll_over(cx).is_ready()) {
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Pending => self.watch.poll_idle(cx).map(Ok),
            read => read,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.is_open(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.is_open(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
