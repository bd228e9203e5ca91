//! An identity directory: `cert.pem`, `key.pem`, `ca.pem`.
//!
//! The key is made here and never leaves: only a CSR does. What is written is complete or absent;
//! what is read is refused if others could have read the key. Whether the certificate is still good
//! is the broker's to say.

use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::pem;
use crate::domain::error::{Code, Error};

const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";
const AUTHORITY: &str = "ca.pem";

/// A certificate, its key, and the CA that its holder trusts.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    authorities: Vec<CertificateDer<'static>>,
}

impl Identity {
    /// Reads the identity in `dir`.
    ///
    /// # Errors
    /// If a file is missing or not PEM of its kind, or the key's mode lets others at it.
    pub fn load(dir: &Path) -> Result<Self, Error> {
        let chain = certificates(dir, CERTIFICATE)?;
        if let [_, _, ..] = chain[..] {
            let why = format!("it holds {} certificates, expected its holder's alone", chain.len());
            return Err(garbled(dir, CERTIFICATE, &why));
        }
        let authorities = certificates(dir, AUTHORITY)?;
        let (text, mode) = read(dir, KEY)?;
        if mode & 0o077 != 0 {
            let path = dir.join(KEY);
            let message = format!("{0} may be used by others (mode {mode:03o}): chmod 600 {0}", path.display());
            return Err(Error::new(Code::Invalid, "loose_key_mode", message));
        }
        let key = pem::private_key(&text).map_err(|why| garbled(dir, KEY, &why))?;
        Ok(Self { chain, key, authorities })
    }

    /// Writes an identity to `dir`, which is made (0700) if need be; its files have mode 0600.
    ///
    /// # Errors
    /// `Conflict` if one is there and `replace` is not set; `Invalid` if a file cannot be written.
    pub fn save(
        dir: &Path,
        cert_der: &[u8],
        key_pem: &str,
        authorities: &[Vec<u8>],
        replace: bool,
    ) -> Result<(), Error> {
        let failed = |error: io::Error| {
            let message = format!("cannot write an identity to {}: {error}", dir.display());
            Error::new(Code::Invalid, "identity_not_written", message)
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        if !replace && [KEY, CERTIFICATE].iter().any(|name| dir.join(name).exists()) {
            let message = format!("{} already holds an identity: choose another directory", dir.display());
            return Err(Error::new(Code::Conflict, "identity_exists", message));
        }
        // All are on disk before the first gets its name; the certificate, which says that an identity is
        // here, gets its name last.
        let parts = [
            (AUTHORITY, authorities.iter().map(|der| armour(der)).collect()),
            (KEY, key_pem.to_owned()),
            (CERTIFICATE, armour(cert_der)),
        ];
        let mut written = Vec::with_capacity(parts.len());
        for (name, pem) in parts {
            written.push((name, durable(dir, &Zeroizing::new(pem)).map_err(failed)?));
        }
        for (name, file) in written {
            file.persist(dir.join(name)).map_err(|error| failed(error.error))?;
        }
        std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
    }

    /// Replaces the CAs that the holder of the identity in `dir` trusts, and nothing else.
    ///
    /// # Errors
    /// `Invalid` if the file cannot be written.
    pub fn trust(dir: &Path, authorities: &[Vec<u8>]) -> Result<(), Error> {
        let failed = |error: io::Error| {
            let message = format!("cannot write {}: {error}", dir.join(AUTHORITY).display());
            Error::new(Code::Invalid, "identity_not_written", message)
        };
        let pem: String = authorities.iter().map(|der| armour(der)).collect();
        let file = durable(dir, &pem).map_err(failed)?;
        file.persist(dir.join(AUTHORITY)).map_err(|error| failed(error.error))?;
        std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
    }

    /// The leaf certificate in DER.
    pub fn certificate(&self) -> &[u8] {
        &self.chain[0]
    }

    /// The CAs that this identity's holder trusts; at least one.
    pub fn authorities(&self) -> &[CertificateDer<'static>] {
        &self.authorities
    }

    /// What the holder presents in a handshake.
    pub(super) fn credentials(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain.clone(), self.key.clone_key())
    }
}

/// A new P-256 key in PEM, and a CSR for it in DER.
///
/// # Errors
/// As [`request_with`].
pub fn request(uri: Option<&str>) -> Result<(Zeroizing<String>, Vec<u8>), Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| unsigned(&error))?;
    let pem = Zeroizing::new(key.serialize_pem());
    let csr = request_with(&pem, uri)?;
    Ok((pem, csr))
}

/// A CSR for a key that is already there: a join token answers a retry only for the same key.
///
/// The CSR names nobody but `uri`, as its one URI SAN: what the certificate says is the broker's choice.
///
/// # Errors
/// If the key is not PEM or `uri` is not ASCII.
pub fn request_with(key_pem: &str, uri: Option<&str>) -> Result<Vec<u8>, Error> {
    let key = KeyPair::from_pem(key_pem).map_err(|error| unsigned(&error))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(uri) = uri {
        let name = uri.try_into().map_err(|_| Error::malformed("spiffe_id", uri, "expected ASCII"))?;
        params.subject_alt_names = vec![SanType::URI(name)];
    }
    let csr = params.serialize_request(&key).map_err(|error| unsigned(&error))?;
    Ok(csr.der().to_vec())
}

fn unsigned(error: &rcgen::Error) -> Error {
    Error::new(Code::Internal, "request_not_made", format!("cannot make a certificate request: {error}"))
}

/// A file's content and mode, both of the one file that was opened.
fn read(dir: &Path, name: &str) -> Result<(Zeroizing<Vec<u8>>, u32), Error> {
    let path = dir.join(name);
    let mut pem = Zeroizing::new(Vec::new());
    let opened = std::fs::File::open(&path).and_then(|mut file| {
        let mode = file.metadata()?.permissions().mode() & 0o777;
        file.read_to_end(&mut pem)?;
        Ok(mode)
    });
    match opened {
        Ok(mode) => Ok((pem, mode)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let how = "make one with `belay agent enroll`, or `belay serve --dev` on this machine";
            let message = format!("no identity: {} is missing; {how}", path.display());
            Err(Error::new(Code::Unauthenticated, "no_identity", message))
        }
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.display());
            Err(Error::new(Code::Invalid, "identity_unreadable", message))
        }
    }
}

fn certificates(dir: &Path, name: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let (text, _) = read(dir, name)?;
    pem::certificates(&text).map_err(|why| garbled(dir, name, &why))
}

fn garbled(dir: &Path, name: &str, why: &str) -> Error {
    let message = format!("{} is not usable: {why}; enroll again", dir.join(name).display());
    Error::new(Code::Invalid, "identity_unusable", message)
}

/// `text` under a temporary name in `dir`, with mode 0600 and on disk.
fn durable(dir: &Path, text: &str) -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// A certificate in PEM (RFC 7468 section 5).
fn armour(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for at in (0..text.len()).step_by(64) {
        pem.push_str(&text[at..text.len().min(at + 64)]);
        pem.push('\n');
    }
    pem + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::CertificateSigningRequestParams;

    /// A directory with an identity in it, and the certificate's DER.
    fn saved() -> (tempfile::TempDir, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let der = CertificateParams::default().self_signed(&key).unwrap().der().to_vec();
        let home = tempfile::tempdir().unwrap();
        Identity::save(&home.path().join("me"), &der, &key.serialize_pem(), std::slice::from_ref(&der), false).unwrap();
        (home, der)
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_saved_is_private_and_loads_again() {
        let (home, der) = saved();
        let dir = home.path().join("me");
        assert_eq!(mode(&dir), 0o700);
        for name in [CERTIFICATE, KEY, AUTHORITY] {
            assert_eq!(mode(&dir.join(name)), 0o600, "{name}");
        }
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 3, "no temporary file stays");
        let identity = Identity::load(&dir).unwrap();
        assert_eq!((identity.certificate(), identity.authorities()[0].as_ref()), (&der[..], &der[..]));
        let shown = format!("{identity:?}");
        assert!(shown.contains("elided"), "the key must not be shown: {shown}");
    }

    #[test]
    fn an_identity_is_not_overwritten_unasked() {
        let (home, der) = saved();
        let dir = home.path().join("me");
        let before = std::fs::read(dir.join(KEY)).unwrap();
        let (key, _) = request(None).unwrap();
        assert_eq!(
            Identity::save(&dir, &der, &key, std::slice::from_ref(&der), false).unwrap_err().reason,
            "identity_exists"
        );
        assert_eq!(std::fs::read(dir.join(KEY)).unwrap(), before);
        Identity::save(&dir, &der, &key, std::slice::from_ref(&der), true).unwrap();
        assert_eq!(std::fs::read(dir.join(KEY)).unwrap(), key.as_bytes());
    }

    #[test]
    fn a_missing_file_is_named_with_what_to_do() {
        for name in [CERTIFICATE, KEY, AUTHORITY] {
            let (home, _) = saved();
            let dir = home.path().join("me");
            std::fs::remove_file(dir.join(name)).unwrap();
            let error = Identity::load(&dir).unwrap_err();
            assert_eq!(error.reason, "no_identity");
            assert!(error.message.contains(name) && error.message.contains("belay agent enroll"), "{error}");
        }
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_remedy() {
        let (home, _) = saved();
        let path = home.path().join("me").join(KEY);
        for loose in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(loose)).unwrap();
            let error = Identity::load(&home.path().join("me")).unwrap_err();
            assert_eq!(error.reason, "loose_key_mode");
            assert!(error.message.contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn a_file_of_another_kind_is_refused_without_showing_it() {
        for (name, text) in [(KEY, "hunter2"), (CERTIFICATE, "hunter2"), (AUTHORITY, "")] {
            let (home, _) = saved();
            let dir = home.path().join("me");
            std::fs::write(dir.join(name), text).unwrap();
            let error = Identity::load(&dir).unwrap_err();
            assert_eq!(error.reason, "identity_unusable");
            assert!(error.message.contains(name) && !error.message.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_second_certificate_is_no_holders() {
        let (home, der) = saved();
        let dir = home.path().join("me");
        let twice = armour(&der).repeat(2);
        std::fs::write(dir.join(AUTHORITY), &twice).unwrap();
        assert_eq!(Identity::load(&dir).unwrap().authorities().len(), 2, "a CA that is being replaced");
        std::fs::write(dir.join(CERTIFICATE), twice).unwrap();
        let error = Identity::load(&dir).unwrap_err();
        assert!(error.message.contains("cert.pem") && error.message.contains("2 certificates"), "{error}");
    }

    #[test]
    fn a_request_is_self_signed_p256_and_names_only_its_uri() {
        let (key, csr) = request(Some("spiffe://example.org/agent/a")).unwrap();
        let parsed = CertificateSigningRequestParams::from_der(&csr[..].into()).unwrap();
        let [SanType::URI(uri)] = &parsed.params.subject_alt_names[..] else { panic!("one URI SAN") };
        assert_eq!(uri.as_str(), "spiffe://example.org/agent/a");
        let bare = CertificateSigningRequestParams::from_der(&request_with(&key, None).unwrap()[..].into()).unwrap();
        assert!(bare.params.subject_alt_names.is_empty() && bare.params.distinguished_name.iter().next().is_none());
        assert_eq!(bare.public_key, parsed.public_key);
        assert_eq!(request(Some("spiffe://ex\u{e4}mple")).unwrap_err().code, Code::Invalid);
    }
}
