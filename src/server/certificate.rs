//! The certificate of the HTTPS pages: an administrator's from PEM files, or else one of the broker's own.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::tls::ServerIdentity;
use super::{Config, file};
use crate::domain::error::{Code, Error};
use crate::domain::time::Timestamp;

/// What the HTTPS pages present. Replaceable while connections are served.
#[derive(Debug)]
pub(super) struct PageIdentity {
    own: Arc<ServerIdentity>,
    given: RwLock<Option<Arc<CertifiedKey>>>,
}

impl PageIdentity {
    /// Presents what was `given`, else what is the broker's `own`.
    pub(super) fn new(own: Arc<ServerIdentity>, given: Option<Arc<CertifiedKey>>) -> Arc<Self> {
        Arc::new(Self { own, given: RwLock::new(given) })
    }

    /// From the next handshake on.
    pub(super) fn replace(&self, given: Option<Arc<CertifiedKey>>) {
        *self.given.write().unwrap_or_else(PoisonError::into_inner) = given;
    }
}

impl ResolvesServerCert for PageIdentity {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let given = self.given.read().unwrap_or_else(PoisonError::into_inner).clone();
        given.or_else(|| self.own.resolve(hello))
    }
}

/// The certificate and key that a configuration names, where it names them.
///
/// # Errors
/// A file cannot be read or is not PEM of its kind, others may use the key, it is not the leaf's, or the leaf is
/// not valid `now`.
pub(super) fn given(config: &Config, now: Timestamp) -> Result<Option<Arc<CertifiedKey>>, Error> {
    let (Some(certificate), Some(key)) = (&config.http_certificate, &config.http_key) else { return Ok(None) };
    let chain = chain(certificate)?;
    is_valid(certificate, &chain[0], now)?;
    let pair = CertifiedKey::from_der(chain, private_key(key)?, &ring::default_provider());
    let unmatched = |error: rustls::Error| {
        let why = match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("it is not the key of the first certificate in {}", file::shown(certificate))
            }
            _ => "it is of a kind that TLS cannot use here".to_owned(),
        };
        refused("http_key", key, &why)
    };
    pair.map(|pair| Some(Arc::new(pair))).map_err(unmatched)
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let refused = |why: &str| refused("http_certificate", path, why);
    let (pem, _) = file::read(path).map_err(|why| refused(&why))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(refused("it holds no certificate in PEM")),
        // A parser's own words might show what it read.
        Err(_) => Err(refused("its PEM is damaged or cut off")),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let refused = |why: &str| refused("http_key", path, why);
    let (pem, about) = file::read(path).map_err(|why| refused(&why))?;
    let mode = about.mode() & 0o7777;
    // A group may read it: that is how service managers and certificate tools hand a key to one user.
    if mode & 0o037 != 0 {
        return Err(refused(&format!("its mode {mode:04o} lets others at it; run `chmod 600` on it")));
    }
    match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(key) => Ok(key),
        Err(_) if pem.windows(9).any(|word| word == b"ENCRYPTED") => {
            Err(refused("it is encrypted, and there is nobody to ask for the password"))
        }
        Err(_) => Err(refused("it holds no private key in PEM, or one that is cut off")),
    }
}

fn is_valid(path: &Path, leaf: &CertificateDer<'_>, now: Timestamp) -> Result<(), Error> {
    let refused = |why: &str| refused("http_certificate", path, why);
    let Ok((_, leaf)) = X509Certificate::from_der(leaf) else {
        return Err(refused("its first certificate is damaged"));
    };
    let (from, until) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    if now.seconds() > until {
        return Err(refused(&format!("it ended at {}", Timestamp::from_seconds(until))));
    }
    if now.seconds() < from {
        return Err(refused(&format!("it begins only at {}", Timestamp::from_seconds(from))));
    }
    Ok(())
}

fn refused(key: &'static str, path: &Path, why: &str) -> Error {
    Error::new(Code::Invalid, "http_certificate", format!("`{key}`, {}: {why}", file::shown(path))).on(key)
}
