//! The use cases: prepare, have it decided in the turn, sign what was recorded. No rules of their own.

mod approval;
mod authorize;
mod authorize_all;
mod bodies;
mod boot;
mod calls;
pub mod catalog;
mod certificate;
mod cut;
mod dpop;
mod holding;
mod identity;
mod join;
mod keys;
mod lease;
mod live;
mod policy;
mod presenter;
mod published;
mod quota;
mod radius;
mod read;
mod token;
mod tools;
mod trust;
mod upstream;
mod wanted;
mod why;

use std::sync::{Arc, PoisonError, RwLock};

pub use approval::{Mark, Shown, is_waiting};
pub use authorize::{Authorized, SignedTicket};
pub use bodies::Readers;
pub use boot::Foundation;
pub use calls::{CallFilter, JoinedCall, Told, Wish};
pub use catalog::{Applying, CatalogText};
pub use cut::{CameOf, Revocation};
pub use dpop::ShownProof;
pub use holding::Room;
pub use identity::{Issued, OwnIdentity};
pub use lease::{Checked as CheckedBackend, Leased};
pub use live::Live;
pub use policy::{PoliciesInForce, PolicyFiles};
pub use presenter::Presented;
pub use quota::{PartyQuotas, Quota, Quotas, UnderWay};
pub use radius::Surveyed;
pub use read::{EventFilter, Found};
pub use token::{Checked, SignedToken};
pub use tools::Listed;
pub use trust::Ending;
pub use upstream::Injected;
pub use wanted::{Wanted, What};
pub use why::Provenance;

use crate::domain::decide::{Caller, Context, Decide};
use crate::domain::digest::Digest;
use crate::domain::entropy::Entropy;
use crate::domain::error::Error;
use crate::domain::event::{Idempotency, Origin};
use crate::effect::Cuts;
use crate::effect::Targets;
use crate::effect::feed::Hub;
use crate::ledger::{Ledger, Request};
use crate::verifier::Seen;

/// The broker: everything below the edge, joined.
pub struct Broker {
    ledger: Arc<Ledger>,
    keys: keys::Keeper,
    /// Tokens whose signature was found good.
    signed: Seen<token::Signed>,
    dpop: dpop::Dpop,
    feed: Arc<Hub>,
    crls: crate::effect::crl::RevocationLists,
    statuses: crate::effect::status::StatusLists,
    targets: Arc<Targets>,
    upstreams: upstream::Sealed,
    origin: Origin,
    quotas: Quotas,
    holdings: holding::Holdings,
    cuts: Arc<Cuts>,
    /// Where callers reach it, as join tokens say.
    address: RwLock<String>,
}

/// A call as the edge understood it: who asks, under which id.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Who asks.
    pub caller: Caller,
    /// The request's id.
    pub request_id: String,
}

impl Asked {
    /// The broker asking itself.
    pub fn broker(request_id: &str) -> Self {
        Self { caller: Caller::Broker, request_id: request_id.to_owned() }
    }
}

impl Broker {
    /// Has a command decided in a turn.
    ///
    /// # Errors
    /// It is refused, or its outcome could not be recorded.
    pub async fn submit<D: Decide>(&self, asked: &Asked, command: D) -> Result<D::Answer, Error> {
        self.submit_once(asked, command, None).await
    }

    /// The same, under the caller's own name for the request.
    ///
    /// # Errors
    /// As [`Broker::submit`]; or the name was used for another request.
    pub async fn submit_once<D: Decide>(
        &self,
        asked: &Asked,
        command: D,
        idempotency: Option<Idempotency>,
    ) -> Result<D::Answer, Error> {
        self.ledger.submit(self.request(asked, command, idempotency, Vec::new())).await
    }

    async fn submit_with<D: Decide>(
        &self,
        asked: &Asked,
        command: D,
        blobs: Vec<(Digest, Vec<u8>)>,
    ) -> Result<D::Answer, Error> {
        self.ledger.submit(self.request(asked, command, None, blobs)).await
    }

    fn request<D>(
        &self,
        asked: &Asked,
        command: D,
        idempotency: Option<Idempotency>,
        blobs: Vec<(Digest, Vec<u8>)>,
    ) -> Request<D> {
        let Asked { caller, request_id } = asked.clone();
        Request { command, caller, request_id, idempotency, seed: self.ledger.seed(), blobs }
    }

    /// What a command would be answered now. Nothing is recorded, so nothing that it says may be handed out.
    ///
    /// # Errors
    /// It would be refused.
    pub fn peek<D: Decide>(&self, asked: &Asked, command: &D) -> Result<D::Answer, Error> {
        let mut entropy = Entropy::from_seed(self.ledger.seed());
        let now = self.ledger.now();
        self.ledger.view(|view| {
            let mut context = Context { view, now, caller: &asked.caller, entropy: &mut entropy, idempotency: None };
            command.decide(&mut context).map(|decision| decision.answer)
        })
    }

    /// The ledger, for looking.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// The systems in which secrets are leased.
    pub fn targets(&self) -> &Arc<Targets> {
        &self.targets
    }

    /// What enforcement points are told.
    pub fn feed(&self) -> &Arc<Hub> {
        &self.feed
    }

    /// Trust domain, issuer and epoch.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Sends callers to another address from now on.
    pub fn set_address(&self, address: String) {
        *self.address.write().unwrap_or_else(PoisonError::into_inner) = address;
    }
}

/// A caller's name for its request, bound to the request's body.
///
/// # Errors
/// The key is too long or holds more than printable ASCII.
pub fn idempotency<D: Decide>(key: &str, body: &[u8]) -> Result<Option<Idempotency>, Error> {
    if key.is_empty() {
        return Ok(None);
    }
    if key.len() > 128 || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::malformed("idempotency_key", key, "use 1 to 128 printable ASCII characters without spaces"));
    }
    Ok(Some(Idempotency { verb: D::VERB.to_owned(), key: key.to_owned(), digest: Digest::of(body) }))
}
