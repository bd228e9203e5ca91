//! Tokens whose signature was found good a while ago: checking it is the dearest part of deciding a call.
//!
//! Only what cannot change is kept, by the digest of the whole text. Whether its key is good and the token live is asked
//! at every call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::digest::Digest;
/// What was found of the tokens seen last. Two halves: a full one becomes the old one, and what was not used since is
/// forgotten.
#[derive(Debug)]
pub struct Seen<T> {
    /// Tokens in each half.
    most: usize,
    halves: Mutex<Halves<T>>,
}

#[derive(Debug)]
struct Halves<T> {
    young: HashMap<Digest, Arc<T>>,
    old: HashMap<Digest, Arc<T>>,
}

impl<T> Seen<T> {
    /// Nothing yet, and never more than twice `most`.
    pub fn new(most: usize) -> Self {
        Self { most, halves: Mutex::new(Halves { young: HashMap::new(), old: HashMap::new() }) }
    }

    /// What is known of the token whose text has this digest.
    pub fn find(&self, text: &Digest) -> Option<Arc<T>> {
        let mut halves = self.lock();
        if let Some(found) = halves.young.get(text) {
            return Some(Arc::clone(found));
        }
        let found = Arc::clone(halves.old.get(text)?);
        halves.put(self.most, *text, Arc::clone(&found));
        Some(found)
    }

    /// Keeps what was just found of a token whose signature is good.
    pub fn put(&self, text: Digest, found: T) -> Arc<T> {
        let found = Arc::new(found);
        self.lock().put(self.most, text, Arc::clone(&found));
        found
    }

    fn lock(&self) -> MutexGuard<'_, Halves<T>> {
        self.halves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Halves<T> {
    fn put(&mut self, most: usize, text: Digest, found: Arc<T>) {
        if self.young.len() >= most {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(text, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 512;

    fn text(number: usize) -> Digest {
        Digest::of(&number.to_be_bytes())
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_makes_room() {
        let seen = Seen::new(MOST);
        for number in 0..10 * MOST {
            seen.put(text(number), number);
            if number % 100 == 0 {
                assert_eq!(seen.find(&text(0)), Some(Arc::new(0)), "{number}");
            }
        }
        assert_eq!(seen.find(&text(1)), None);
        assert_eq!(seen.find(&text(10 * MOST - 1)), Some(Arc::new(10 * MOST - 1)));
        let halves = seen.lock();
        assert!(halves.young.len() + halves.old.len() <= 2 * MOST);
    }
}
