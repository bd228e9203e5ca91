//! What a TLS handshake proved about the other end of a connection.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use super::mtls;
use crate::domain::agent::Kind;
use crate::domain::decide::Presenter;
use crate::domain::error::Error;
use crate::domain::name::TrustDomain;

/// Who is at the other end, as far as TLS knows. It travels with each request of the connection.
#[derive(Clone, Debug)]
pub struct PeerCertificate {
    /// The client's leaf certificate in DER, verified under our CA at the handshake; none if it had none.
    pub certificate: Option<Arc<Vec<u8>>>,
    /// Where it connects from.
    pub addr: SocketAddr,
    /// Whom it names: read at the first request, since it stays the same for all of the connection.
    named: Arc<OnceLock<Result<(Kind, Presenter), Error>>>,
}

impl PeerCertificate {
    /// The other end of a connection from `addr`, with the certificate that TLS verified.
    pub fn new(certificate: Option<Vec<u8>>, addr: SocketAddr) -> Self {
        Self { certificate: certificate.map(Arc::new), addr, named: Arc::default() }
    }

    /// Whom the certificate names in `trust_domain`, that of the broker which holds the connection. None if it
    /// has no certificate. Whether it may be presented still is another question, at every request.
    ///
    /// # Errors
    /// As [`mtls::present`].
    pub fn present(&self, trust_domain: &TrustDomain) -> Result<Option<(Kind, Presenter)>, Error> {
        let Some(leaf) = &self.certificate else { return Ok(None) };
        self.named.get_or_init(|| mtls::present(leaf, trust_domain)).clone().map(Some)
    }
}
