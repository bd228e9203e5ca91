//! The keys in memory: opened from the log's sealed blobs, and opened again when the log has new ones.

use std::sync::{Arc, PoisonError, RwLock};

use super::{Asked, Broker};
use crate::domain::decide::{RotateKey, TaintKey, Tainted};
use crate::domain::error::Error;
use crate::domain::event::Origin;
use crate::domain::key::{Key, Phase, Purpose};
use crate::domain::name::Line;
use crate::domain::view::View;
use crate::ledger::Ledger;
use crate::sign::{KeyRing, MasterKey};
use crate::verifier::Verifier;

/// What signs and what checks, as of one moment of the log.
pub(super) struct Keys {
    pub ring: KeyRing,
    pub verifier: Verifier,
}

/// The keys of a broker, following its log.
pub(super) struct Keeper {
    master: MasterKey,
    current: RwLock<Arc<Keys>>,
}

impl Keeper {
    pub fn open(master: MasterKey, ledger: &Ledger, origin: &Origin) -> Result<Self, Error> {
        let current = RwLock::new(Arc::new(load(&master, ledger, origin)?));
        Ok(Self { master, current })
    }

    /// A key for `purpose` that is not recorded yet, and its sealed private half.
    pub fn make(&self, purpose: Purpose, ledger: &Ledger, origin: &Origin) -> Result<(Key, Vec<u8>), Error> {
        crate::sign::generate(purpose, &self.master, origin, ledger.now())
    }

    pub fn current(&self) -> Arc<Keys> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens the keys again: the log has other ones, or one of them has come to its end.
    pub fn refresh(&self, ledger: &Ledger, origin: &Origin) -> Result<(), Error> {
        let next = Arc::new(load(&self.master, ledger, origin)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }
}

impl Broker {
    /// Makes a new key for `purpose`: published now, in use after its notice, or at once.
    ///
    /// # Errors
    /// The caller may not, or another one waits already.
    pub async fn rotate_key(&self, asked: &Asked, purpose: Purpose, at_once: bool) -> Result<Key, Error> {
        let (key, sealed) = self.keys.make(purpose, &self.ledger, &self.origin)?;
        let blobs = vec![(key.sealed, sealed)];
        let key = self.submit_with(asked, RotateKey { key, at_once }, blobs).await?;
        self.refresh_keys()?;
        Ok(key)
    }

    /// Refuses everything under a key from now on. If it is in use, a new one takes over in the same moment.
    ///
    /// # Errors
    /// The caller may not, or there is no such key.
    pub async fn taint_key(&self, asked: &Asked, kid: String, reason: Line) -> Result<Tainted, Error> {
        let now = self.ledger.now();
        let used = self
            .ledger
            .view(|view| view.key(&kid).filter(|key| view.phase(key, now) == Phase::Used).map(|key| key.purpose));
        let (mut successor, mut blobs) = (None, Vec::new());
        if let Some(purpose) = used {
            let (key, sealed) = self.keys.make(purpose, &self.ledger, &self.origin)?;
            blobs.push((key.sealed, sealed));
            successor = Some(key);
        }
        let tainted = self.submit_with(asked, TaintKey { kid, reason, successor }, blobs).await?;
        self.refresh_keys()?;
        Ok(tainted)
    }

    /// Opens the keys again, as the log and the time have them.
    ///
    /// # Errors
    /// A key does not open.
    pub fn refresh_keys(&self) -> Result<(), Error> {
        self.keys.refresh(&self.ledger, &self.origin)
    }

    /// The keys of these purposes that are accepted now: the one that signs first, then by their turn.
    pub fn accepted_keys(&self, purposes: &[Purpose]) -> Vec<Key> {
        let now = self.ledger.now();
        self.ledger.view(|view| {
            let mut keys: Vec<(Phase, &Key)> = view
                .keys()
                .filter(|key| purposes.contains(&key.purpose))
                .map(|key| (view.phase(key, now), key))
                .filter(|(phase, _)| phase.is_accepted())
                .collect();
            keys.sort_by_key(|(phase, key)| (*phase != Phase::Used, key.use_from));
            keys.into_iter().map(|(_, key)| key.clone()).collect()
        })
    }

    /// The certificates (DER) of the authorities that vouch for this broker and its agents; the first one signs.
    pub fn authorities(&self) -> Vec<Vec<u8>> {
        self.accepted_keys(&[Purpose::Authority]).into_iter().filter_map(|key| key.certificate).collect()
    }

    /// The certificate (DER) of the authority that signs agents and servers now.
    pub fn authority(&self) -> Vec<u8> {
        self.authorities().into_iter().next().unwrap_or_default()
    }

    /// The certificates (DER) of all authorities, those of operators too, and a number that grows when they change.
    pub fn trust(&self) -> (Vec<Vec<u8>>, u64) {
        let now = self.ledger.now();
        let keys = self.accepted_keys(&[Purpose::Authority, Purpose::Operator]);
        let steps = |phase| match phase {
            Phase::Published | Phase::Used | Phase::Retiring => 1,
            Phase::Retired | Phase::Tainted => 2,
        };
        let sequence = self.ledger.view(|view| view.keys().map(|key| steps(view.phase(key, now))).sum());
        (keys.into_iter().filter_map(|key| key.certificate).collect(), sequence)
    }
}

fn load(master: &MasterKey, ledger: &Ledger, origin: &Origin) -> Result<Keys, Error> {
    let now = ledger.now();
    let accepted = |view: View<'_>| -> Vec<Key> {
        view.keys().filter(|key| view.phase(key, now).is_accepted()).cloned().collect()
    };
    let keys = ledger.view(accepted);
    let sealed = keys.iter().map(|key| ledger.blob(key.sealed)).collect::<Result<Vec<_>, _>>()?;
    let tokens = keys.iter().filter(|key| key.purpose == Purpose::Token);
    let verifier = Verifier {
        issuer: origin.issuer.clone(),
        epoch: origin.epoch.clone(),
        keys: tokens.map(|key| (key.kid.clone(), key.public.clone())).collect(),
    };
    let ring = KeyRing::open(master, origin, keys.iter().zip(sealed))?;
    Ok(Keys { ring, verifier })
}
