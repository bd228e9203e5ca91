//! The keys in memory: opened from the log's sealed blobs, and opened again when the log has new ones.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;

use super::{Asked, Broker};
use crate::domain::decide::{RotateKey, TaintKey, Tainted};
use crate::domain::error::Error;
use crate::domain::event::Origin;
use crate::domain::key::{Key, Phase, Purpose};
use crate::domain::name::Line;
use crate::ledger::Ledger;
use crate::sign::{KeyRing, MasterKey};
use crate::verifier::Keys as TokenKeys;

/// How long a rotation waits for the listeners: they need one certificate, and what is decided does not hang on them.
const SETTLE: Duration = Duration::from_secs(2);

/// What signs and what checks, as of one moment of the log.
pub(super) struct Keys {
    pub ring: KeyRing,
    pub verifier: TokenKeys,
    /// The authorities (DER) under which a client certificate may stand.
    pub roots: Vec<Vec<u8>>,
    /// Grows with every change.
    pub revision: u64,
    /// By which a change is known.
    phases: Vec<(String, Phase)>,
}

/// The keys of a broker, following its log.
pub(super) struct Keeper {
    master: Arc<MasterKey>,
    current: RwLock<Arc<Keys>>,
    /// One opens keys at a time, so that nobody puts older ones over newer ones.
    opening: Mutex<()>,
    changed: watch::Sender<u64>,
    /// The revision that the listeners show to others; none while nobody listens.
    shown: watch::Sender<Option<u64>>,
}

impl Keeper {
    pub fn open(master: Arc<MasterKey>, ledger: &Ledger, origin: &Origin) -> Result<Self, Error> {
        let current = RwLock::new(Arc::new(load(&master, ledger, origin, phases(ledger), 1)?));
        let (changed, shown) = (watch::Sender::new(1), watch::Sender::new(None));
        Ok(Self { master, current, opening: Mutex::new(()), changed, shown })
    }

    /// A key for `purpose` that is not recorded yet, and its sealed private half.
    pub fn make(&self, purpose: Purpose, ledger: &Ledger, origin: &Origin) -> Result<(Key, Vec<u8>), Error> {
        crate::sign::generate(purpose, &self.master, origin, ledger.now())
    }

    pub fn current(&self) -> Arc<Keys> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The keys with this one among them: the log may have it since they were opened.
    pub fn holding(&self, kid: &str, ledger: &Ledger, origin: &Origin) -> Result<Arc<Keys>, Error> {
        let keys = self.current();
        if keys.ring.holds(kid) {
            return Ok(keys);
        }
        self.refresh(ledger, origin)?;
        Ok(self.current())
    }

    /// Opens the keys again if the log has other ones, or one of them has come to another phase.
    pub fn refresh(&self, ledger: &Ledger, origin: &Origin) -> Result<u64, Error> {
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, phases) = (self.current(), phases(ledger));
        if known.phases == phases {
            return Ok(known.revision);
        }
        let next = Arc::new(load(&self.master, ledger, origin, phases, known.revision + 1)?);
        let revision = next.revision;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
        self.changed.send_replace(revision);
        Ok(revision)
    }

    /// Waits until the listeners show this revision, where there are any.
    async fn settled(&self, revision: u64) {
        let mut shown = self.shown.subscribe();
        let settled = shown.wait_for(|shown| shown.is_none_or(|shown| shown >= revision));
        if tokio::time::timeout(SETTLE, settled).await.is_err() {
            tracing::warn!("the listeners do not show the new keys yet");
        }
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
        self.take_up_keys().await;
        Ok(key)
    }

    /// Refuses everything under a key from now on. If it is in use, a new one takes over in the same moment.
    ///
    /// # Errors
    /// The caller may not, or there is no such key.
    pub async fn taint_key(&self, asked: &Asked, kid: String, reason: Line) -> Result<Tainted, Error> {
        let tainted = match self.taint(asked, kid.clone(), reason.clone()).await {
            // It came into use between the look and the turn.
            Err(error) if error.reason == "no_successor" => self.taint(asked, kid, reason).await?,
            outcome => outcome?,
        };
        self.take_up_keys().await;
        Ok(tainted)
    }

    async fn taint(&self, asked: &Asked, kid: String, reason: Line) -> Result<Tainted, Error> {
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
        self.submit_with(asked, TaintKey { kid, reason, successor }, blobs).await
    }

    /// What the log says is done, and is not undone because a key does not open: that is said in the log.
    async fn take_up_keys(&self) {
        match self.refresh_keys() {
            Ok(revision) => self.keys.settled(revision).await,
            Err(error) => tracing::error!(%error, "the new keys were not opened"),
        }
    }

    /// Opens the keys again, as the log and the time have them: their revision, which grows with every change.
    ///
    /// # Errors
    /// A key does not open.
    pub fn refresh_keys(&self) -> Result<u64, Error> {
        self.keys.refresh(&self.ledger, &self.origin)
    }

    /// Tells of every new revision of the keys.
    pub fn key_changes(&self) -> watch::Receiver<u64> {
        self.keys.changed.subscribe()
    }

    /// The listeners show this revision to others.
    pub fn keys_shown(&self, revision: u64) {
        self.keys.shown.send_replace(Some(revision));
    }
}

/// The keys that are not over, and where each is in its life.
fn phases(ledger: &Ledger) -> Vec<(String, Phase)> {
    let now = ledger.now();
    let mut phases: Vec<_> =
        ledger.view(|view| view.keys().map(|key| (key.kid.clone(), view.phase(key, now))).collect());
    phases.retain(|(_, phase)| phase.is_accepted());
    phases.sort_by(|(one, _), (other, _)| one.cmp(other));
    phases
}

fn load(
    master: &MasterKey,
    ledger: &Ledger,
    origin: &Origin,
    phases: Vec<(String, Phase)>,
    revision: u64,
) -> Result<Keys, Error> {
    let keys: Vec<Key> = ledger.view(|view| phases.iter().filter_map(|(kid, _)| view.key(kid).cloned()).collect());
    let sealed = keys.iter().map(|key| ledger.blob(key.sealed)).collect::<Result<Vec<_>, _>>()?;
    let tokens = keys.iter().filter(|key| key.purpose == Purpose::Token);
    let verifier = TokenKeys {
        issuer: origin.issuer.clone(),
        epoch: origin.epoch.clone(),
        keys: tokens.map(|key| (key.kid.clone(), key.public.clone())).collect(),
    };
    let ring = KeyRing::open(master, origin, keys.iter().zip(sealed))?;
    let roots = keys.into_iter().filter_map(|key| key.certificate).collect();
    Ok(Keys { ring, verifier, roots, revision, phases })
}
