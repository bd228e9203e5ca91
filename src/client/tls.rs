//! Whom a client believes, and what it shows of itself.
//!
//! An enrolled client trusts the CA of its identity directory and no other. One that is only joining
//! knows that CA's digest, from its join token. The system's trust store is never asked. Sessions are
//! not resumed, so each connection proves both ends anew.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme, WantsVerifier,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::identity::Identity;
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};

/// TLS for an enrolled client: trusts only the identity's CA and presents its certificate.
///
/// # Errors
/// If the identity's parts do not belong together.
pub fn client_config(identity: &Identity) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    for ca in identity.authorities() {
        roots.add(ca.clone()).map_err(|error| unusable("ca.pem", &error))?;
    }
    let (chain, key) = identity.credentials();
    let config = builder()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| unusable("the certificate with its key", &error))?;
    Ok(finish(config))
}

/// TLS for a client that is joining: believes the broker whose CA has the digest `ca`, shows nothing.
///
/// # Errors
/// If the TLS library refuses its own protocol versions.
pub fn joining_config(ca: Digest) -> Result<Arc<ClientConfig>, Error> {
    let verifier = Arc::new(PinnedCa { ca, provider: provider() });
    Ok(finish(builder()?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()))
}

fn finish(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// What went wrong in a handshake, in words for whoever has to mend it.
pub(super) fn cause(error: &rustls::Error) -> String {
    use AlertDescription as Alert;
    use CertificateError as Bad;
    // A CA of the same name with another key, such as a second dev broker's, shows as a bad signature.
    match error {
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
            "its certificate is from an unknown CA".into()
        }
        rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "its certificate has expired".into()
        }
        rustls::Error::InvalidCertificate(Bad::Other(OtherError(why))) => why.to_string(),
        rustls::Error::InvalidCertificate(bad) => format!("its certificate is not good: {bad}"),
        rustls::Error::AlertReceived(Alert::CertificateExpired) => {
            "it refused our certificate as expired or not yet valid: enroll again".into()
        }
        rustls::Error::AlertReceived(Alert::UnknownCA | Alert::DecryptError) => {
            "it refused our certificate as from an unknown CA: enroll with this broker".into()
        }
        rustls::Error::AlertReceived(Alert::UnsupportedCertificate) => {
            "it refused our certificate as not made for a client".into()
        }
        rustls::Error::AlertReceived(Alert::CertificateRevoked) => {
            "it refused our certificate as revoked: what it was for is over; enroll again, or ask for a new grant"
                .into()
        }
        rustls::Error::AlertReceived(Alert::AccessDenied) => {
            "it refused our certificate as not of its ledger: enroll again".into()
        }
        rustls::Error::AlertReceived(alert) => format!("it broke off the handshake: {alert:?}"),
        rustls::Error::InvalidMessage(_) => "it does not speak TLS".into(),
        other => other.to_string(),
    }
}

/// Believes a server whose chain leads to the CA with this digest, and holds the name asked for.
#[derive(Debug)]
struct PinnedCa {
    ca: Digest,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug, thiserror::Error)]
#[error("it does not present the CA that the join token names: a wrong address, or an impersonated broker")]
struct NotTheBroker;

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let refused = || CertificateError::Other(OtherError(Arc::new(NotTheBroker)));
        let ca = chain.iter().find(|der| Digest::of(der) == self.ca).ok_or_else(refused)?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let under = WebPkiServerVerifier::builder_with_provider(roots.into(), self.provider.clone());
        under.build().map_err(|_| refused())?.verify_server_cert(leaf, chain, name, ocsp, now).map_err(|error| {
            // The right CA next to a leaf that it never signed: whoever sent that only copied it.
            match error {
                rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                    refused().into()
                }
                other => other,
            }
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| unusable("the TLS configuration", &error))
}

/// Named, never the process default: a dependency that turns on a second provider must not decide.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn unusable(what: &str, error: &rustls::Error) -> Error {
    Error::new(Code::Invalid, "identity_unusable", format!("{what} cannot be used: {error}; enroll again"))
}
