//! Under which authorities a client certificate may stand: those of the moment of the handshake.
//!
//! The log says which they are, and they change while connections are served. So they are asked for at every handshake:
//! a certificate under a new authority is good by the time that anybody holds it. So is who was revoked: one that is cut
//! opens no connection.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::tls::provider;
use crate::domain::error::{Code, Error};

/// The authorities (DER) of the moment, and a number that is another one when they are others.
type Roots = Box<dyn Fn() -> (u64, Vec<Vec<u8>>) + Send + Sync>;
/// Whether a connection may show this certificate (DER), which stands under one of them, and if not, why.
type Admits = Box<dyn Fn(&[u8]) -> Result<(), Error> + Send + Sync>;

/// Checks client certificates under the authorities of the moment.
pub struct Clients {
    roots: Roots,
    admits: Admits,
    current: RwLock<(u64, Arc<dyn ClientCertVerifier>)>,
}

impl Clients {
    /// Follows what `roots` says, and lets nobody in whom `admits` refuses.
    ///
    /// # Errors
    /// There is no authority now, or one cannot be a trust anchor.
    pub fn following(
        roots: impl Fn() -> (u64, Vec<Vec<u8>>) + Send + Sync + 'static,
        admits: impl Fn(&[u8]) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, Error> {
        let (revision, now) = roots();
        let current = RwLock::new((revision, under(now)?));
        Ok(Arc::new(Self { roots: Box::new(roots), admits: Box::new(admits), current }))
    }

    fn current(&self) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let (revision, roots) = (self.roots)();
        let known = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        if known.0 == revision {
            return Ok(known.1);
        }
        let next = under(roots)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        // Another handshake may have come by with a later one.
        if current.0 < revision {
            *current = (revision, Arc::clone(&next));
        }
        Ok(next)
    }
}

/// A verifier for certificates under these authorities; none need be shown.
pub(super) fn under(authorities: Vec<Vec<u8>>) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let unusable = |error: &dyn std::error::Error| {
        Error::new(Code::Invalid, "tls_unusable", format!("the CA certificate cannot be used: {error}"))
    };
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(CertificateDer::from(authority)).map_err(|error| unusable(&error))?;
    }
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider()).allow_unauthenticated();
    clients.build().map_err(|error| unusable(&error))
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: what a client has, it may show. Names would not tell our authorities apart anyway.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let current = self.current().map_err(|error| rustls::Error::General(error.message))?;
        let verified = current.verify_client_cert(leaf, chain, now)?;
        (self.admits)(leaf).map(|()| verified).map_err(|error| {
            tracing::debug!(reason = error.reason, message = %error.message, "a client is refused at its handshake");
            match error.reason {
                "certificate_unknown" => CertificateError::ApplicationVerificationFailure.into(),
                _ => CertificateError::Revoked.into(),
            }
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, leaf, signed, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, leaf, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}
