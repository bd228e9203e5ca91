//! A connection after its TLS handshake, and what the handshake proved about its other end.
//!
//! It carries bytes and a fact; whether the certificate's holder may do anything is not known here.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::metrics;
use crate::attest::PeerCertificate;
use crate::measure::Held;

/// A connection after its handshake.
pub struct Connection {
    pub(super) stream: TlsStream<TcpStream>,
    peer: PeerCertificate,
    _open: Held,
}

impl Connection {
    /// Wraps a stream whose handshake is done.
    pub(super) fn new(stream: TlsStream<TcpStream>, addr: SocketAddr, listener: &'static str) -> Self {
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let peer = PeerCertificate::new(leaf.map(|der| der.to_vec()), addr);
        Self { stream, peer, _open: metrics::open(listener) }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &PeerCertificate {
        &self.peer
    }
}

impl Connected for Connection {
    type ConnectInfo = PeerCertificate;

    fn connect_info(&self) -> PeerCertificate {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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
