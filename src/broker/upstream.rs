//! Upstream secrets: sealed as they come, opened for a call that was allowed, and never told otherwise.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

use super::{Asked, Authorized, Broker};
use crate::domain::decide::AddUpstream;
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::name::Name;
use crate::domain::scope::Call;
use crate::domain::upstream::{Header, Upstream, is_value};
use crate::sign::Vault;

/// What a value is sealed as.
const SEALED: &str = "upstream";

/// Opens values, and keeps those that were opened as long as they are the ones in force.
pub(super) struct Sealed {
    vault: Vault,
    open: Mutex<Opened>,
    /// One is read at a time: at a start many ask for the same one at once.
    reading: tokio::sync::Mutex<()>,
}

type Opened = HashMap<Name, (Digest, Zeroizing<String>)>;

/// A secret, and the header that it goes in.
pub type Injected = (Header, Zeroizing<String>);

impl Sealed {
    /// None is open yet.
    pub(super) fn under(vault: Vault) -> Self {
        Self { vault, open: Mutex::default(), reading: tokio::sync::Mutex::default() }
    }

    /// The value, if it was opened since it is in force.
    fn known(&self, upstream: &Upstream) -> Option<Zeroizing<String>> {
        let open = self.lock();
        open.get(&upstream.name).filter(|(sealed, _)| *sealed == upstream.sealed).map(|(_, value)| value.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Opened> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker {
    /// Adds an upstream secret, or has its value take the place of another.
    ///
    /// # Errors
    /// The caller may not, the value cannot stand in a header, there is one of that name or for that tool and host.
    pub async fn add_upstream(&self, asked: &Asked, command: AddUpstream, value: &str) -> Result<Upstream, Error> {
        is_value(value)?;
        let would = self.peek(asked, &command)?;
        let blob = self.upstreams.vault.seal(SEALED, &would.sealed_for(), value.as_bytes())?;
        let sealed = Digest::of(&blob);
        self.submit_with(asked, AddUpstream { sealed, ..command }, vec![(sealed, blob)]).await
    }

    /// Whether a secret goes with this call, for whoever puts it in.
    pub(super) fn injects(&self, call: &Call) -> bool {
        let going = call.destination.as_deref();
        going.is_some_and(|going| self.ledger.view(|view| view.upstream_of(&call.tool, going).is_some()))
    }

    /// The secret that goes with a call that was allowed to whoever puts it in: only where that was said when it was
    /// decided, since some tools ask for a ticket then. None where there is none for it, any more.
    ///
    /// # Errors
    /// It does not open: the call must not go on without it.
    pub async fn upstream(&self, authorized: &Authorized) -> Result<Option<Injected>, Error> {
        let Authorized { verdict, proven, hands_out, call, .. } = authorized;
        let going = call.as_ref().and_then(|call| Some((call, call.destination.as_deref()?)));
        let Some((call, going)) = going.filter(|_| verdict.allowed && *proven && *hands_out) else {
            return Ok(None);
        };
        match self.ledger.view(|view| view.upstream_of(&call.tool, going).cloned()) {
            Some(upstream) => self.opened(&upstream).await.map(|value| Some((upstream.header, value))),
            None => Ok(None),
        }
    }

    /// The value as it is known, or read from the store: a read may wait for a long one, so it is not for a thread that
    /// others wait for.
    async fn opened(&self, upstream: &Upstream) -> Result<Zeroizing<String>, Error> {
        if let Some(value) = self.upstreams.known(upstream) {
            return Ok(value);
        }
        let _turn = self.upstreams.reading.lock().await;
        if let Some(value) = self.upstreams.known(upstream) {
            return Ok(value);
        }
        let (ledger, sealed) = (Arc::clone(&self.ledger), upstream.sealed);
        let read = tokio::task::spawn_blocking(move || ledger.blob(sealed)).await;
        let failed = |_| Error::new(Code::Internal, "panicked", "the secret could not be read; report it");
        let blob = read.map_err(failed)??;
        let bytes = self.upstreams.vault.open(SEALED, &upstream.sealed_for(), &blob)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| {
            Error::new(Code::Internal, "sealed", format!("the value of upstream `{}` is not text", upstream.name))
        })?;
        let value = Zeroizing::new(text.to_owned());
        self.upstreams.lock().insert(upstream.name.clone(), (upstream.sealed, value.clone()));
        Ok(value)
    }
}
