//! The foundation: a ledger with its beginning, a key ring with its keys.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;

use super::bodies::Readers;
use super::dpop::Dpop;
use super::keys::Keeper;
use super::{Asked, Broker, token};
use crate::cedar::Set;
use crate::domain::decide::{AddKey, ApplyPolicy, Begin, Decide};
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::event::Origin;
use crate::domain::key::Purpose;
use crate::domain::name::{Audience, TrustDomain};
use crate::effect::Cuts;
use crate::effect::Targets;
use crate::effect::crl::RevocationLists;
use crate::effect::feed::Hub;
use crate::effect::status::StatusLists;
use crate::ledger::{Clock, Ledger, Request, Seeds};
use crate::sign::{MasterKey, Vault};
use crate::store::Store;
use crate::verifier::Seen;

/// What a broker stands on.
pub struct Foundation {
    /// The log's home.
    pub store: Box<dyn Store>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where random bytes come from.
    pub seeds: Seeds,
    /// Events between snapshots.
    pub snapshot_every: u64,
    /// The trust domain; fixed by the ledger once it has begun.
    pub trust_domain: TrustDomain,
    /// `iss` of tokens; fixed by the ledger once it has begun.
    pub issuer: Audience,
    /// Where callers reach the broker.
    pub address: String,
    /// What a ledger without policies begins with.
    pub policies: fn() -> Result<Set, Error>,
}

impl Broker {
    /// Opens the ledger, begins it if it is new, and unseals its keys with the master key in `directory`.
    ///
    /// # Errors
    /// The store is damaged, lost or of another trust domain, or the master key is not the one it was sealed with.
    pub async fn open(foundation: Foundation, directory: &Path) -> Result<Self, Error> {
        let Foundation { store, clock, seeds, snapshot_every, trust_domain, issuer, address, policies } = foundation;
        let ledger = Arc::new(Ledger::open(store, clock, seeds, snapshot_every, Arc::new(Readers))?);
        let path = directory.join("master.key");
        // The key is made after the log has begun: one beside an empty log says that a log was here.
        if ledger.checkpoint().0 == 0 && path.exists() {
            let message = format!(
                "{} is here and the ledger is empty: bring the ledger back, or remove the key to begin anew",
                path.display()
            );
            return Err(Error::new(Code::Invalid, "ledger_lost", message));
        }
        let origin = begin(&ledger, trust_domain, issuer).await?;
        begin_policies(&ledger, policies).await?;
        let sealed = ledger.view(|view| view.keys().next().is_some());
        let master = MasterKey::open(&path, sealed)?;
        for purpose in Purpose::ALL {
            ensure_key(&ledger, purpose, &master, &origin).await?;
        }
        let master = Arc::new(master);
        let keys = Keeper::open(Arc::clone(&master), &ledger, &origin)?;
        let vault = Vault::new(master, origin.clone());
        let upstreams = super::upstream::Sealed::under(vault.clone());
        let targets = Arc::new(Targets::new(Arc::clone(&ledger), vault, &origin));
        let (crls, statuses) = (RevocationLists::new(Arc::clone(&ledger)), StatusLists::new(Arc::clone(&ledger)));
        let feed = Hub::new(Arc::clone(&ledger), origin.clone());
        let cuts = Arc::new(Cuts::of(&ledger, Arc::<Hub>::clone(&feed)));
        let signed = Seen::new(token::SEEN);
        let dpop = Dpop::new(&ledger.seed(), ledger.now());
        let (quotas, address) = (super::Quotas::default(), address.into());
        let holdings = super::holding::Holdings::default();
        Ok(Self {
            ledger,
            cuts,
            keys,
            signed,
            dpop,
            feed,
            targets,
            upstreams,
            crls,
            statuses,
            origin,
            quotas,
            holdings,
            address,
        })
    }
}

/// The origin as the log has it; what was asked for has to agree with it.
async fn begin(ledger: &Ledger, trust_domain: TrustDomain, issuer: Audience) -> Result<Origin, Error> {
    if ledger.view(|view| view.origin().is_none()) {
        let epoch = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&ledger.seed()[..12]);
        let origin = Origin { trust_domain: trust_domain.clone(), issuer, epoch };
        submit(ledger, Begin { origin }, Vec::new()).await?;
    }
    let origin = ledger.view(|view| view.origin().cloned());
    let origin = origin.ok_or_else(|| Error::new(Code::Internal, "no_origin", "the ledger did not begin"))?;
    if origin.trust_domain != trust_domain {
        let message = format!("the ledger is of trust domain `{}`, not `{trust_domain}`", origin.trust_domain);
        return Err(Error::new(Code::Invalid, "trust_domain", message).on("trust_domain"));
    }
    Ok(origin)
}

/// Without policies nothing is allowed: a ledger that has none takes these.
async fn begin_policies(ledger: &Ledger, first: fn() -> Result<Set, Error>) -> Result<(), Error> {
    if ledger.view(|view| view.applied_policies().is_some()) {
        return Ok(());
    }
    let set = first()?;
    let bytes = set.to_bytes();
    let digest = Digest::of(&bytes);
    let command = ApplyPolicy { policies: Arc::new(set), digest, over: Some(0), force: true };
    submit(ledger, command, vec![(digest, bytes)]).await.map(drop)
}

async fn ensure_key(ledger: &Ledger, purpose: Purpose, master: &MasterKey, origin: &Origin) -> Result<(), Error> {
    let now = ledger.now();
    let (signs, over) = ledger.view(|view| {
        let signer = view.signer(purpose, now);
        (signer.is_some_and(|key| !key.is_ending(now)), signer.map(|key| (key.kid.clone(), key.not_after)))
    });
    if signs {
        return Ok(());
    }
    if let Some((kid, Some(end))) = over {
        // Nothing that it signed outlives it: a new one takes nothing away.
        let message =
            "the certificate authority is over: a new one takes its place, and everybody under it enrolls again";
        tracing::warn!(%purpose, kid, %end, "{message}");
    }
    let (key, sealed) = crate::sign::generate(purpose, master, origin, ledger.now())?;
    let blobs = vec![(key.sealed, sealed)];
    submit(ledger, AddKey { key }, blobs).await
}

async fn submit<D: Decide>(ledger: &Ledger, command: D, blobs: Vec<(Digest, Vec<u8>)>) -> Result<D::Answer, Error> {
    let Asked { caller, request_id } = Asked::broker("boot");
    ledger.submit(Request { command, caller, request_id, idempotency: None, seed: ledger.seed(), blobs }).await
}
