//! A key that tokens are bound to, in a file of its own, and the DPoP proofs (RFC 9449) that it makes.

use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls_pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use super::feed::wall_time;
use super::{made_up_key, pem};
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::format::dpop::{self, Draft};

/// More than any P-256 key in PEM is.
const LONGEST: u64 = 16 * 1024;

/// A P-256 key that proves. It stays in its file and in this value.
pub struct ProofKey(EcdsaKeyPair);

impl std::fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ProofKey").field(&self.thumbprint()).finish()
    }
}

impl ProofKey {
    /// The key in this file; a new one, with mode 0600, if the file is not there.
    ///
    /// # Errors
    /// As [`ProofKey::load`]; or it cannot be written.
    pub fn load_or_make(path: &Path) -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map_err(|error| Error::new(Code::Internal, "key", format!("no key could be made: {error}")))?;
        let text = Zeroizing::new(key.serialize_pem());
        // Whoever is first makes it; the others take that one.
        let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        match made.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all())) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(unfit(path, &format!("cannot be written: {error}"))),
        }
        Self::load(path)
    }

    /// The key in this file: P-256 in PKCS #8, in PEM, which nobody else can read.
    ///
    /// # Errors
    /// It cannot be read, is something else, or its mode lets others at it.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let unread = |error: io::Error| unfit(path, &format!("cannot be read: {error}"));
        let file = std::fs::File::open(path).map_err(unread)?;
        let mode = file.metadata().map_err(unread)?.permissions().mode();
        if mode & 0o077 != 0 {
            let message =
                format!("{0} may be used by others (mode {1:03o}): chmod 600 {0}", path.display(), mode & 0o777);
            return Err(Error::new(Code::Invalid, "loose_key_mode", message).on("dpop_key"));
        }
        let mut text = Zeroizing::new(Vec::new());
        file.take(LONGEST).read_to_end(&mut text).map_err(unread)?;
        let key = pem::private_key(&text).map_err(|why| unfit(path, &format!("is no key: {why}")))?;
        let PrivateKeyDer::Pkcs8(der) = key else {
            return Err(unfit(path, "is not in PKCS #8: convert it with `openssl pkcs8 -topk8 -nocrypt`"));
        };
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der(), &random())
            .map(Self)
            .map_err(|_| unfit(path, "is not a P-256 key"))
    }

    /// Its JWK thumbprint, as tokens that are bound to it say in `cnf` `jkt`.
    pub fn thumbprint(&self) -> Digest {
        dpop::thumbprint(self.0.public_key().as_ref())
    }

    /// A new proof for one request, made now.
    ///
    /// # Errors
    /// The URL is none.
    pub fn prove(&self, method: &str, url: &str, token: Option<&str>, nonce: Option<&str>) -> Result<String, Error> {
        let id = made_up_key();
        let draft = Draft { id: &id, method, url, issued_at: wall_time(), token, nonce };
        let input = draft
            .signing_input(self.0.public_key().as_ref())
            .ok_or_else(|| Error::malformed("url", url, "expected https://HOST/PATH, as the request is sent"))?;
        let signature = self.0.sign(&random(), input.as_bytes());
        let signature = signature.map_err(|_| Error::new(Code::Internal, "key", "the proof could not be signed"))?;
        Ok(dpop::signed(&input, signature.as_ref()))
    }
}

#[expect(clippy::disallowed_methods, reason = "a client is a process of its own: nobody hands it entropy")]
fn random() -> SystemRandom {
    SystemRandom::new()
}

fn unfit(path: &Path, why: &str) -> Error {
    Error::new(Code::Invalid, "file", format!("{} {why}", path.display())).on("dpop_key")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::dpop::{Proof, Target};

    #[test]
    fn a_key_is_made_once_and_proves_by_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("proof.pem");
        let key = ProofKey::load_or_make(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(ProofKey::load_or_make(&path).unwrap().thumbprint(), key.thumbprint());
        let text = key.prove("GET", "https://orders.example/v1?a=b", Some("token"), Some("nonce")).unwrap();
        let proof = Proof::read(&text).unwrap();
        assert_eq!((proof.key, proof.nonce.as_deref()), (key.thumbprint(), Some("nonce")));
        let place = Target::parse("https://orders.example/v1").unwrap();
        assert_eq!(proof.is_for("GET", &[place], Some("token")), Ok(()));
        assert_eq!(proof.is_timely(wall_time()), Ok(()));
        let other = Proof::read(&key.prove("GET", "https://orders.example/v1", None, None).unwrap()).unwrap();
        assert_ne!(other.id, proof.id, "each proof is another");
        assert!(key.prove("GET", "orders.example", None, None).is_err());
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }

    #[test]
    fn what_is_no_key_for_proofs_is_refused_by_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("proof.pem");
        let says = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            ProofKey::load_or_make(&path).unwrap_err().message
        };
        let good = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
        let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
        let sec1 = "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n";
        assert!(says(&good, 0o644).contains("chmod 600"));
        for (text, why) in
            [("", "it is empty"), ("hunter2", "not PEM"), (&other, "is not a P-256 key"), (sec1, "PKCS #8")]
        {
            let said = says(text, 0o600);
            assert!(said.contains(why) && !said.contains("hunter2"), "{said}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "what is there is left alone");
        }
    }
}
