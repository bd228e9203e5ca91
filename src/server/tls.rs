//! Who the server says it is, and whom it lets finish a handshake.
//!
//! A client certificate is optional here: what a caller without one may do is the access table's
//! business. One that is presented must be good: unexpired, from our CA, for client use. Sessions
//! are never resumed, because a resumed TLS 1.3 session skips the client certificate's check.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{ConfigBuilder, ServerConfig, WantsVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::clients;
use crate::domain::error::{Code, Error};
use crate::ledger::Ledger;

/// The server's certificate and key, replaceable while connections are served.
#[derive(Debug)]
pub struct ServerIdentity {
    current: RwLock<Arc<CertifiedKey>>,
}

impl ServerIdentity {
    /// An identity of `chain`, leaf first and CA last, and the leaf's `key`.
    ///
    /// # Errors
    /// If the chain lacks its CA, which a joining agent pins, or the key is not the leaf's.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self { current: RwLock::new(certified(chain, key)?) }))
    }

    /// The authority (DER) that its chain ends in.
    pub fn authority(&self) -> Vec<u8> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.cert.last().map(|der| der.to_vec()).unwrap_or_default()
    }

    /// Presents another certificate from the next handshake on; after an error, still the old one.
    ///
    /// # Errors
    /// As [`ServerIdentity::new`].
    pub fn replace(&self, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<(), Error> {
        let next = certified(chain, key)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// The ledger's time, for the ends of client certificates: were they held against a wall clock that jumped, no
/// revoke would get through the handshake.
pub struct LedgerTime(pub Arc<Ledger>);

impl std::fmt::Debug for LedgerTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LedgerTime")
    }
}

impl TimeProvider for LedgerTime {
    fn current_time(&self) -> Option<UnixTime> {
        let millis = u64::try_from(self.0.wall().millis()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(millis)))
    }
}

/// TLS for the gRPC listener: HTTP/2 only, a client certificate optional but checked under `authorities`, at `time`.
///
/// # Errors
/// If an authority cannot be a trust anchor.
pub fn grpc(
    identity: Arc<ServerIdentity>,
    authorities: Vec<CertificateDer<'static>>,
    time: Arc<dyn TimeProvider>,
) -> Result<Arc<ServerConfig>, Error> {
    grpc_for(identity, clients::under(authorities.into_iter().map(|der| der.to_vec()).collect())?, time)
}

/// The same, with client certificates checked by `clients`.
///
/// # Errors
/// If the TLS library refuses its own protocol versions.
pub fn grpc_for(
    identity: Arc<ServerIdentity>,
    clients: Arc<dyn ClientCertVerifier>,
    time: Arc<dyn TimeProvider>,
) -> Result<Arc<ServerConfig>, Error> {
    let mut config = builder()?.with_client_cert_verifier(clients).with_cert_resolver(identity);
    config.time_provider = time;
    Ok(unresumable(config, &[b"h2"]))
}

/// TLS for the HTTPS listener: public documents for everybody, and decisions for enforcement points, who show their
/// certificates to `clients`.
///
/// # Errors
/// If the TLS library refuses its own protocol versions.
pub fn https(
    identity: Arc<dyn ResolvesServerCert>,
    clients: Arc<dyn ClientCertVerifier>,
    time: Arc<dyn TimeProvider>,
) -> Result<Arc<ServerConfig>, Error> {
    let mut config = builder()?.with_client_cert_verifier(clients).with_cert_resolver(identity);
    config.time_provider = time;
    Ok(unresumable(config, &[b"h2", b"http/1.1"]))
}

fn unresumable(mut config: ServerConfig, protocols: &[&[u8]]) -> Arc<ServerConfig> {
    // TLS 1.3 tickets, TLS 1.2 session ids; TLS 1.2 tickets stay off with rustls' default ticketer.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

fn certified(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Arc<CertifiedKey>, Error> {
    if chain.len() < 2 {
        let why = "the server's certificate chain lacks its CA: joining agents pin it, so give leaf, then CA";
        return Err(Error::new(Code::Invalid, "chain_without_ca", why));
    }
    let key = CertifiedKey::from_der(chain, key, &provider());
    key.map(Arc::new).map_err(|error| unusable("the server's certificate or key", &error))
}

fn builder() -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, Error> {
    ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| unusable("the TLS configuration", &error))
}

/// Named, never the process default: a dependency that turns on a second provider must not decide.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn unusable(what: &str, error: &dyn std::error::Error) -> Error {
    Error::new(Code::Invalid, "tls_unusable", format!("{what} cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn pair() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
        (certificate.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }

    #[test]
    fn neither_listener_keeps_a_session_or_gives_a_ticket() {
        let (leaf, key) = pair();
        let identity = ServerIdentity::new(vec![leaf.clone(), leaf.clone()], key).unwrap();
        let time = Arc::new(rustls::time_provider::DefaultTimeProvider);
        let clients = clients::under(vec![leaf.to_vec()]).unwrap();
        let https = https(identity.clone(), clients, time.clone()).unwrap();
        for config in [grpc(identity, vec![leaf], time).unwrap(), https] {
            assert_eq!(config.send_tls13_tickets, 0);
            assert!(!config.session_storage.can_cache());
            assert!(!config.ticketer.enabled());
        }
    }

    #[test]
    fn a_chain_without_its_ca_or_with_another_key_is_refused() {
        let ((leaf, key), (_, other)) = (pair(), pair());
        let alone = ServerIdentity::new(vec![leaf.clone()], key.clone_key()).unwrap_err();
        assert_eq!(alone.reason, "chain_without_ca");
        let foreign = ServerIdentity::new(vec![leaf.clone(), leaf], other).unwrap_err();
        assert_eq!(foreign.reason, "tls_unusable");
    }

    #[test]
    fn a_refused_replacement_leaves_the_certificate_that_was_there() {
        let ((leaf, key), (other, other_key)) = (pair(), pair());
        let identity = ServerIdentity::new(vec![leaf.clone(), leaf.clone()], key.clone_key()).unwrap();
        let shown = || identity.current.read().unwrap().cert[0].clone();
        identity.replace(vec![other.clone(), other.clone()], key).unwrap_err();
        assert_eq!(shown(), leaf);
        identity.replace(vec![other.clone(), other.clone()], other_key).unwrap();
        assert_eq!(shown(), other);
    }
}
