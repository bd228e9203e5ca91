//! What a TLS handshake proved about the other end of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

/// Who is at the other end, as far as TLS knows. It travels with each request of the connection.
#[derive(Clone, Debug)]
pub struct PeerCertificate {
    /// The client's leaf certificate in DER, verified under our CA at the handshake; none if it had none.
    pub certificate: Option<Arc<Vec<u8>>>,
    /// Where it connects from.
    pub addr: SocketAddr,
}
