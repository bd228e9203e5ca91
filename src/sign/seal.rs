//! Keys at rest: AES-256-GCM (RFC 5116) under the master key, bound to the key's id, the trust domain and
//! the epoch. So a blob serves only the key, the broker and the life of the log that it was made for.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use super::{MasterKey, internal, random};
use crate::domain::error::Error;
use crate::domain::event::Origin;

/// Seals `secret` for the key `kid`: a random nonce, then the ciphertext and its tag.
pub(super) fn seal(master: &MasterKey, kid: &str, origin: &Origin, secret: &[u8]) -> Result<Vec<u8>, Error> {
    seal_for(master, &[kid], origin, secret)
}

/// The same, for what has a name of several parts.
pub(super) fn seal_for(master: &MasterKey, name: &[&str], origin: &Origin, secret: &[u8]) -> Result<Vec<u8>, Error> {
    let failed = |_| internal("seal", format!("`{}` could not be sealed", name.join(" ")));
    let mut nonce = [0; NONCE_LEN];
    random().fill(&mut nonce).map_err(failed)?;
    // Encrypted in place: the buffer holds ciphertext when it is copied, and is wiped if that fails.
    let mut sealed = Zeroizing::new(secret.to_vec());
    let tag = aead(master)
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), bound(name, origin), sealed.as_mut_slice())
        .map_err(failed)?;
    Ok([&nonce, sealed.as_slice(), tag.as_ref()].concat())
}

/// Opens a blob that was sealed for the key `kid`; none if it was not, or is damaged.
pub(super) fn open(master: &MasterKey, kid: &str, origin: &Origin, blob: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    open_for(master, &[kid], origin, blob)
}

/// The same, for what has a name of several parts.
pub(super) fn open_for(master: &MasterKey, name: &[&str], origin: &Origin, blob: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = blob.split_first_chunk::<NONCE_LEN>()?;
    let mut secret = Zeroizing::new(sealed.to_vec());
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let length = aead(master).open_in_place(nonce, bound(name, origin), secret.as_mut_slice()).ok()?.len();
    secret.truncate(length);
    Some(secret)
}

fn aead(master: &MasterKey) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, master.bytes()).expect("the master key is as long as the cipher's"))
}

/// Each part behind its length, so that no two bindings are the same bytes.
fn bound(name: &[&str], origin: &Origin) -> Aad<Vec<u8>> {
    let mut bytes = Vec::new();
    for part in name.iter().copied().chain([origin.trust_domain.as_str(), &origin.epoch]) {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    Aad::from(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::tests::{master, origin};

    #[test]
    fn a_blob_opens_only_for_its_key_domain_epoch_and_master() {
        let (master, home) = (master(), origin("example.org", "e1"));
        let blob = seal(&master, "k1", &home, b"secret").unwrap();
        assert_eq!(open(&master, "k1", &home, &blob).unwrap().as_slice(), b"secret");
        assert!(open(&master, "k2", &home, &blob).is_none());
        assert!(open(&master, "k1", &origin("example.com", "e1"), &blob).is_none());
        assert!(open(&master, "k1", &origin("example.org", "e2"), &blob).is_none());
        assert!(open(&crate::sign::tests::master(), "k1", &home, &blob).is_none());
        // The same characters, otherwise divided.
        assert!(open(&master, "k1e", &origin("xample.org", "e1"), &blob).is_none());
        assert!(open(&master, "k1", &origin("example.orge", "1"), &blob).is_none());
    }

    #[test]
    fn a_damaged_blob_does_not_open() {
        let (master, home) = (master(), origin("example.org", "e1"));
        let blob = seal(&master, "k1", &home, b"secret").unwrap();
        for at in 0..blob.len() {
            let mut damaged = blob.clone();
            damaged[at] ^= 1;
            assert!(open(&master, "k1", &home, &damaged).is_none(), "byte {at}");
            assert!(open(&master, "k1", &home, &blob[..at]).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn the_same_secret_is_never_sealed_alike() {
        let (master, home) = (master(), origin("example.org", "e1"));
        let blob = || seal(&master, "k1", &home, b"secret").unwrap();
        let (one, two) = (blob(), blob());
        assert!(one[..NONCE_LEN] != two[..NONCE_LEN] && one[NONCE_LEN..] != two[NONCE_LEN..]);
        assert!(!one.windows(6).any(|window| window == b"secret"));
    }
}
