//! What others are to believe: keys by phase, authorities, the log's signed head, and whether all that will last.

use super::{Asked, Broker};
use crate::domain::agent::Kind;
use crate::domain::checkpoint::Checkpoint;
use crate::domain::error::{Code, Error};
use crate::domain::key::{Key, Phase, Purpose};
use crate::domain::time::Timestamp;
use crate::format::note::VerifierKey;

/// An authority that signs now, and when its own certificate ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Which authority.
    pub purpose: Purpose,
    /// Its key.
    pub kid: String,
    /// When it ends.
    pub at: Timestamp,
    /// Whether it signs no more because of it.
    pub over: bool,
}

impl Broker {
    /// Every key of the log with its phase, by purpose and turn.
    pub fn keys(&self) -> Vec<(Key, Phase)> {
        let now = self.ledger.now();
        let mut keys: Vec<_> =
            self.ledger.view(|view| view.keys().map(|key| (key.clone(), view.phase(key, now))).collect());
        keys.sort_by(|(one, _), (other, _)| {
            (one.purpose, one.use_from, &one.kid).cmp(&(other.purpose, other.use_from, &other.kid))
        });
        keys
    }

    /// The keys of these purposes that are accepted now: the one that signs first, then by their turn.
    pub fn accepted_keys(&self, purposes: &[Purpose]) -> Vec<Key> {
        let mut keys = self.keys();
        keys.retain(|(key, phase)| purposes.contains(&key.purpose) && phase.is_accepted());
        keys.sort_by_key(|(key, phase)| (*phase != Phase::Used, key.use_from));
        keys.into_iter().map(|(key, _)| key).collect()
    }

    /// The certificates (DER) of the authorities that vouch for this broker and its agents; the first one is that
    /// of the broker's own certificate.
    pub fn authorities(&self) -> Vec<Vec<u8>> {
        let face = self.authority();
        let mut found: Vec<_> =
            self.accepted_keys(&[Purpose::Authority]).into_iter().filter_map(|key| key.certificate).collect();
        found.sort_by_key(|certificate| *certificate != face);
        found
    }

    /// The certificate (DER) of the authority by which this broker is known, as join tokens name it.
    pub fn authority(&self) -> Vec<u8> {
        let now = self.ledger.now();
        let face = self.ledger.view(|view| view.authority(Kind::Server, now).and_then(|key| key.certificate.clone()));
        face.unwrap_or_default()
    }

    /// The certificates (DER) of all authorities, those of operators too, and a number that grows when they change.
    pub fn trust(&self) -> (Vec<Vec<u8>>, u64) {
        let keys = self.accepted_keys(&[Purpose::Authority, Purpose::Operator]);
        let steps = |phase: &Phase| match phase {
            Phase::Published | Phase::Used | Phase::Retiring => 1,
            Phase::Retired | Phase::Tainted => 2,
        };
        let sequence = self.keys().iter().map(|(_, phase)| steps(phase)).sum();
        (keys.into_iter().filter_map(|key| key.certificate).collect(), sequence)
    }

    /// The authorities (DER) under which a client certificate may stand, and the revision of the keys.
    pub fn roots(&self) -> (u64, Vec<Vec<u8>>) {
        let keys = self.keys.current();
        (keys.revision, keys.roots.clone())
    }

    /// The next moment at which a key comes to another phase; none if nothing is to come.
    pub fn next_key_change(&self) -> Option<Timestamp> {
        let now = self.ledger.now();
        self.ledger.view(|view| view.keys().filter_map(|key| key.next_change(now)).min())
    }

    /// The end of each authority that signs.
    pub fn endings(&self) -> Vec<Ending> {
        let now = self.ledger.now();
        self.ledger.view(|view| {
            let signers = [Purpose::Authority, Purpose::Operator].map(|purpose| view.signer(purpose, now));
            let ending = |key: &Key| {
                let (purpose, kid) = (key.purpose, key.kid.clone());
                key.not_after.map(|at| Ending { purpose, kid, at, over: key.is_ending(now) })
            };
            signers.into_iter().flatten().filter_map(ending).collect()
        })
    }

    /// Holds if what is asked for now can be decided, recorded and signed.
    ///
    /// # Errors
    /// Why not, in a line.
    pub fn is_ready(&self) -> Result<(), Error> {
        self.ledger.check_ready()?;
        match self.endings().into_iter().find(|ending| ending.over) {
            None => Ok(()),
            Some(Ending { purpose, at, .. }) => {
                let message =
                    format!("the {purpose} certificate ends at {at} and signs no more; rotate it, or restart");
                Err(Error::new(Code::Unavailable, "authority_expired", message))
            }
        }
    }

    /// The durable head of the log as a signed note (C2SP tlog-checkpoint).
    ///
    /// # Errors
    /// No log key is in use.
    pub fn signed_checkpoint(&self) -> Result<String, Error> {
        let none = || Error::new(Code::Unavailable, "no_key", "no log key is in use; rotate it");
        let now = self.ledger.now();
        let kid =
            self.ledger.view(|view| view.signer(Purpose::Log, now).map(|key| key.kid.clone())).ok_or_else(none)?;
        let head = self.ledger.durable_head().ok_or_else(none)?;
        self.keys.holding(&kid, &self.ledger, &self.origin)?.ring.sign_checkpoint(&kid, head)
    }

    /// A log key as those who check checkpoints want it; none if it is a key for something else.
    pub fn verifier_key(&self, key: &Key) -> Option<VerifierKey> {
        let log = Some(key).filter(|key| key.purpose == Purpose::Log)?;
        VerifierKey::new(&Checkpoint::name_of(&self.origin), &log.public).ok()
    }

    /// Whether the certificate that the caller showed is not accepted any more, because its authority is tainted.
    pub fn is_shut_out(&self, asked: &Asked) -> bool {
        let shown = asked.caller.presenter().map(|presenter| presenter.certificate);
        self.ledger.view(|view| {
            let certificate = shown.and_then(|shown| view.certificate(&shown));
            certificate.is_some_and(|certificate| view.is_tainted(&certificate.authority))
        })
    }
}
