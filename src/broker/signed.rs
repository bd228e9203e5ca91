//! Tokens whose signature was found good a while ago: checking it is the dearest part of deciding a call.
//!
//! Only what cannot change is kept, by the digest of the whole text: which key signed it, and what it says of
//! its time and holder. Whether that key is good and the token live is asked at every call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::digest::Digest;
use crate::verifier::Bounds;

/// Tokens in each half; both hold some 3 MB when full.
const MOST: usize = 8192;

/// A token whose signature was good.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The key.
    pub kid: String,
    /// What to ask of it each time.
    pub bounds: Bounds,
}

/// The tokens seen last. Two halves: a full one becomes the old one, and what was not used since is forgotten.
#[derive(Default)]
pub(super) struct Signed(Mutex<Halves>);

#[derive(Default)]
struct Halves {
    young: HashMap<Digest, Arc<Found>>,
    old: HashMap<Digest, Arc<Found>>,
}

impl Signed {
    /// What is known of the token whose text has this digest.
    pub(super) fn find(&self, text: &Digest) -> Option<Arc<Found>> {
        let mut halves = self.lock();
        if let Some(found) = halves.young.get(text) {
            return Some(Arc::clone(found));
        }
        let found = Arc::clone(halves.old.get(text)?);
        halves.put(*text, Arc::clone(&found));
        Some(found)
    }

    /// Keeps a token whose signature was just found good.
    pub(super) fn put(&self, text: Digest, found: Found) -> Arc<Found> {
        let found = Arc::new(found);
        self.lock().put(text, Arc::clone(&found));
        found
    }

    fn lock(&self) -> MutexGuard<'_, Halves> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Halves {
    fn put(&mut self, text: Digest, found: Arc<Found>) {
        if self.young.len() >= MOST {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(text, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::entropy::Entropy;
    use crate::domain::id::TokenId;
    use crate::domain::time::Timestamp;

    fn token(number: usize) -> (Digest, Found) {
        let (text, at) = (Digest::of(&number.to_be_bytes()), Timestamp::from_seconds(1_795_000_000));
        let id = TokenId::mint(at, &mut Entropy::from_seed(text.0));
        let bounds = Bounds { id, issued_at: at, expires_at: at, thumbprint: text };
        (text, Found { kid: "k1".to_owned(), bounds })
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_makes_room() {
        let signed = Signed::default();
        for number in 0..10 * MOST {
            let (text, found) = token(number);
            signed.put(text, found);
            if number % 1000 == 0 {
                assert_eq!(signed.find(&token(0).0), Some(Arc::new(token(0).1)), "{number}");
            }
        }
        assert_eq!(signed.find(&token(1).0), None);
        assert_eq!(signed.find(&token(10 * MOST - 1).0), Some(Arc::new(token(10 * MOST - 1).1)));
        let halves = signed.lock();
        assert!(halves.young.len() + halves.old.len() <= 2 * MOST);
    }
}
