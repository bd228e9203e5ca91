//! Under which names the broker is reached, and the certificate that says so.

use std::net::{Ipv6Addr, SocketAddr};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::metrics;
use crate::attest::csr;
use crate::broker::{Broker, OwnIdentity};
use crate::client::identity;
use crate::domain::agent::Kind;
use crate::domain::error::{Code, Error};
use crate::domain::time::Timestamp;

/// The node's name in its SPIFFE ID, while a ledger has one node.
const NODE: &str = "node";

/// A certificate for the listeners.
pub(super) struct Certificate {
    /// Leaf, then authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
    /// When it ends.
    pub until: Timestamp,
}

/// Where callers are sent: the first configured name, else the address itself.
pub(super) fn address(names: &[String], grpc: SocketAddr) -> String {
    match names.first() {
        Some(name) if name.parse::<Ipv6Addr>().is_ok() => format!("https://[{name}]:{}", grpc.port()),
        Some(name) => format!("https://{name}:{}", grpc.port()),
        None if grpc.ip().is_unspecified() => format!("https://localhost:{}", grpc.port()),
        None => format!("https://{grpc}"),
    }
}

/// A new certificate for listeners at these addresses, reached by these names.
pub(super) async fn issue(broker: &Broker, names: &[String], at: [SocketAddr; 2]) -> Result<Certificate, Error> {
    let (key, request) = identity::request(None)?;
    let mut names = names.to_vec();
    names.extend(["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()]);
    names.extend(at.iter().filter(|at| !at.ip().is_unspecified()).map(|at| at.ip().to_string()));
    names.sort_unstable();
    names.dedup();
    let spki = csr::prove(&request)?.spki;
    let own = OwnIdentity { kind: Kind::Server, name: NODE.parse()?, spki, names, why: "listeners" };
    let issued = broker.own_identity(own).await?;
    metrics::certified(issued.identity.not_after);
    let authority = broker.ledger().view(|view| {
        let authority = view.key(&issued.identity.authority);
        authority.and_then(|key| key.certificate.clone()).unwrap_or_default()
    });
    let chain = vec![CertificateDer::from(issued.der), CertificateDer::from(authority)];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
    let key = key.map_err(|error| {
        Error::new(Code::Internal, "server_key", format!("the listeners' key was not read: {error}"))
    })?;
    Ok(Certificate { chain, key, until: issued.identity.not_after })
}
