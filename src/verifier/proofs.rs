//! DPoP proofs that were shown: each is good once.
//!
//! A proof is remembered for as long as it could be shown again, never less: when there is no room for another, the other
//! is refused. What was shown to another process, or to this one before it began, is not known here: whoever asks says
//! which proofs could have been.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::time::{Span, Timestamp};
use crate::format::dpop::{AHEAD, LIFE, Proof};

/// Proofs that are remembered at once, in each of two halves. Together they hold some 20 MB when full.
const MOST: usize = 50_000;
/// The part of them that one holder may take: it cannot fill the room of all others.
const SHARE: usize = 8;
/// How long a half is filled before it becomes the old one. No proof of the one that is then forgotten is good any more.
const HALF: Span = LIFE.plus(AHEAD).plus(Span::seconds(1));

/// The proofs that were shown lately.
#[derive(Debug)]
pub struct Proofs {
    /// In each half.
    most: usize,
    spent: Mutex<Spent>,
}

#[derive(Debug)]
struct Spent {
    young: Half,
    old: Half,
    /// When the young half was begun.
    turned: Timestamp,
    /// Time goes on and not back: what was forgotten was over by then.
    latest: Timestamp,
}

#[derive(Debug, Default)]
struct Half {
    /// By key and `jti`: the request that a proof was shown for, if that can be made again.
    proofs: HashMap<Digest, Option<Digest>>,
    /// How many are whose.
    holders: HashMap<Digest, usize>,
}

impl Default for Proofs {
    fn default() -> Self {
        Self::new(MOST)
    }
}

impl Proofs {
    /// None yet, and never more than twice `most`.
    pub fn new(most: usize) -> Self {
        let begun = Timestamp::from_millis(0);
        let spent = Spent { young: Half::default(), old: Half::default(), turned: begun, latest: begun };
        Self { most, spent: Mutex::new(spent) }
    }

    /// Takes a proof that is in time and was not shown before, once `unseen` has nothing against it either.
    ///
    /// `holder` is whoever it is a proof of, and `request` names the request that it is shown for: the same request with the
    /// same proof is a retry, and passes. None: it cannot be told from another.
    ///
    /// # Errors
    /// `dpop_invalid` if it is not in time, `dpop_replayed` if it was shown before, `too_many_proofs` if there is no room to
    /// remember it, and what `unseen` says.
    pub fn spend(
        &self,
        proof: &Proof,
        holder: &str,
        request: Option<Digest>,
        now: Timestamp,
        unseen: impl FnOnce(Timestamp) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut spent = self.lock();
        let now = now.max(spent.latest);
        proof.is_timely(now)?;
        let name = name_of(proof);
        if let Some(shown) = spent.young.proofs.get(&name).or_else(|| spent.old.proofs.get(&name)) {
            return match request.is_some() && *shown == request {
                true => Ok(()),
                false => {
                    Err(Error::denied("dpop_replayed", "the DPoP proof was shown before; make one for each request"))
                }
            };
        }
        unseen(now)?;
        spent.turn(now);
        let holder = Digest::of(holder.as_bytes());
        let taken = spent.young.holders.get(&holder).copied().unwrap_or_default();
        if spent.young.proofs.len() >= self.most || taken >= self.most.div_ceil(SHARE) {
            let message = "more DPoP proofs come than can be remembered; try again in a minute";
            return Err(Error::new(Code::Exhausted, "too_many_proofs", message));
        }
        spent.latest = now;
        spent.young.holders.insert(holder, taken + 1);
        spent.young.proofs.insert(name, request);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spent {
    fn turn(&mut self, now: Timestamp) {
        let since = now.since(self.turned);
        if since >= HALF {
            let filled = std::mem::take(&mut self.young);
            // What was there when as much time again has gone by is over as well.
            self.old = if since < HALF.plus(HALF) { filled } else { Half::default() };
            self.turned = now;
        }
    }
}

/// Nobody but the holder of a key uses up its names.
fn name_of(proof: &Proof) -> Digest {
    Digest::of(&[&proof.key.0[..], proof.id.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::dpop::tests::{Key, MADE};

    /// What becomes of a proof with this `jti`, made then and shown now.
    fn shown(proofs: &Proofs, key: &Key, id: &str, made: Timestamp, now: Timestamp) -> &'static str {
        let proof = key.proof(|draft| {
            draft.id = id;
            draft.issued_at = made;
        });
        let spent = proofs.spend(&Proof::read(&proof).unwrap(), "ana", None, now, |_| Ok(()));
        spent.map_or_else(|error| error.reason, |()| "")
    }

    #[test]
    fn a_proof_is_good_once_for_as_long_as_it_is_in_time() {
        let (proofs, key, other) = (Proofs::default(), Key::new(), Key::new());
        assert_eq!(shown(&proofs, &key, "a", MADE, MADE), "");
        assert_eq!(shown(&proofs, &other, "a", MADE, MADE), "", "a name is its key's own");
        assert_eq!(shown(&proofs, &key, "b", MADE, MADE), "");
        // Others come and go meanwhile; it is shown again at every second, until it is over.
        for second in 0..=60 {
            let now = MADE.plus(Span::seconds(second));
            assert_eq!(shown(&proofs, &key, &format!("{second}"), now, now), "");
            assert_eq!(shown(&proofs, &key, "a", MADE, now), "dpop_replayed", "{second}");
        }
        assert_eq!(shown(&proofs, &key, "a", MADE, MADE.plus(Span::millis(60_001))), "dpop_invalid");
    }

    #[test]
    fn a_proof_from_ahead_is_remembered_for_as_long_as_it_lasts() {
        // Wherever in the life of a half it comes.
        for begun in 0..70 {
            let (proofs, key) = (Proofs::default(), Key::new());
            assert_eq!(shown(&proofs, &key, "first", MADE, MADE), "");
            let now = MADE.plus(Span::seconds(begun));
            let ahead = now.plus(AHEAD);
            assert_eq!(shown(&proofs, &key, "a", ahead, now), "");
            for second in [1, 30, 64, 65] {
                let now = now.plus(Span::seconds(second));
                assert_eq!(shown(&proofs, &key, &format!("{second}"), now, now), "");
                assert_eq!(shown(&proofs, &key, "a", ahead, now), "dpop_replayed", "{begun} {second}");
            }
            let over = now.plus(Span::millis(65_001));
            assert_eq!(shown(&proofs, &key, "a", ahead, over), "dpop_invalid");
        }
    }

    #[test]
    fn a_clock_that_goes_back_makes_no_proof_new() {
        let (proofs, key) = (Proofs::default(), Key::new());
        assert_eq!(shown(&proofs, &key, "a", MADE, MADE), "");
        for minutes in 1..5 {
            let now = MADE.plus(Span::minutes(2 * minutes));
            assert_eq!(shown(&proofs, &key, &format!("{minutes}"), now, now), "");
        }
        assert_eq!(shown(&proofs, &key, "a", MADE, MADE), "dpop_invalid", "forgotten, and over");
    }

    #[test]
    fn what_cannot_be_remembered_is_refused_and_nothing_is_forgotten_for_it() {
        let (proofs, key) = (Proofs::new(16), Key::new());
        let spend = |id: &str, holder: &str| {
            let proof = Proof::read(&key.proof(|draft| draft.id = id)).unwrap();
            proofs.spend(&proof, holder, None, MADE, |_| Ok(())).map_or_else(|error| error.reason, |()| "")
        };
        // One holder takes an eighth.
        assert_eq!(["1", "2", "3"].map(|id| spend(id, "ana")), ["", "", "too_many_proofs"]);
        for at in 3..=16 {
            assert_eq!(spend(&at.to_string(), &format!("holder-{at}")), "", "{at}");
        }
        assert_eq!(spend("17", "bob"), "too_many_proofs");
        assert_eq!(["1", "16"].map(|id| spend(id, "bob")), ["dpop_replayed"; 2]);
        let later = MADE.plus(HALF);
        assert_eq!(shown(&proofs, &key, "17", later, later), "", "there is room again");
    }

    #[test]
    fn the_same_request_with_the_same_proof_is_a_retry_and_no_other_is() {
        let (proofs, key) = (Proofs::default(), Key::new());
        let spend = |id: &str, request: Option<&str>| {
            let proof = Proof::read(&key.proof(|draft| draft.id = id)).unwrap();
            let request = request.map(|request| Digest::of(request.as_bytes()));
            proofs.spend(&proof, "ana", request, MADE, |_| Ok(())).map_or_else(|error| error.reason, |()| "")
        };
        assert_eq!(
            [Some("r"), Some("r"), Some("other"), None].map(|request| spend("a", request)),
            ["", "", "dpop_replayed", "dpop_replayed"]
        );
        assert_eq!([None, None, Some("r")].map(|request| spend("b", request)), ["", "dpop_replayed", "dpop_replayed"]);
    }
}
