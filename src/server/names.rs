//! Under which names the broker is reached, and the certificate that says so.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::Config;
use super::metrics;
use super::tls::ServerIdentity;
use crate::attest::csr;
use crate::broker::{Broker, OwnIdentity};
use crate::client::identity;
use crate::domain::agent::Kind;
use crate::domain::error::{Code, Error};
use crate::domain::name::Name;
use crate::domain::time::{IDENTITY_LIFE, Span};

/// The node's name in its SPIFFE ID, while a ledger has one node.
const NODE: &str = "node";

type Chain = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Where callers are sent: the first configured name, else the address itself.
pub(super) fn address(config: &Config, grpc: SocketAddr) -> String {
    match config.names.first() {
        Some(name) => format!("https://{name}:{}", grpc.port()),
        None if grpc.ip().is_unspecified() => format!("https://localhost:{}", grpc.port()),
        None => format!("https://{grpc}"),
    }
}

/// An identity for the listeners.
pub(super) async fn server(
    broker: &Broker,
    config: &Config,
    at: [SocketAddr; 2],
) -> Result<Arc<ServerIdentity>, Error> {
    let (chain, key) = issue(broker, config, at).await?;
    ServerIdentity::new(chain, key)
}

/// Replaces the listeners' certificate once half of its life is over.
pub(super) async fn renew_server(
    broker: &Broker,
    config: &Config,
    identity: &ServerIdentity,
    at: [SocketAddr; 2],
) -> Result<(), Error> {
    let node: Name = NODE.parse()?;
    let half = Span::millis(IDENTITY_LIFE.as_millis() / 2);
    let fresh = broker.ledger().now().plus(half);
    let newest =
        broker.ledger().view(|view| view.newest_identity(Kind::Server, &node).map(|identity| identity.not_after));
    if newest.is_some_and(|not_after| not_after > fresh) {
        return Ok(());
    }
    let (chain, key) = issue(broker, config, at).await?;
    identity.replace(chain, key)
}

async fn issue(broker: &Broker, config: &Config, at: [SocketAddr; 2]) -> Result<Chain, Error> {
    let (key, request) = identity::request(None)?;
    let mut names = config.names.clone();
    names.extend(["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()]);
    names.extend(at.iter().filter(|at| !at.ip().is_unspecified()).map(|at| at.ip().to_string()));
    names.sort_unstable();
    names.dedup();
    let own = OwnIdentity { kind: Kind::Server, name: NODE.parse()?, spki: csr::prove(&request)?.spki, names };
    let issued = broker.own_identity(own).await?;
    metrics::certified(issued.identity.not_after);
    let chain = vec![CertificateDer::from(issued.der), CertificateDer::from(broker.authority())];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
    let key = key.map_err(|error| {
        Error::new(Code::Internal, "server_key", format!("the listeners' key was not read: {error}"))
    })?;
    Ok((chain, key))
}
