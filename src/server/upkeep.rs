//! What is done beside the requests: certificates are renewed long before they end and when their keys change, and
//! on SIGHUP the configuration is read again. One task does all, so that neither undoes the other.

use std::future::pending;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tonic_health::server::HealthReporter;

use super::certificate::{self, PageIdentity};
use super::keys::{Follower, LOOK};
use super::tls::ServerIdentity;
use super::{Config, Mode, log, metrics, names, operator, subject};
use crate::attest::subject::Issuers;
use crate::broker::Broker;
use crate::domain::agent::Kind;
use crate::domain::error::Error;
use crate::domain::time::{IDENTITY_LIFE, Span, Timestamp};

/// What is kept up.
pub(super) struct Upkeep {
    pub broker: Arc<Broker>,
    pub mode: Mode,
    /// What the broker runs with now.
    pub config: watch::Sender<Config>,
    /// What the listeners present, and until when it is valid. What the ledger says of certificates would not do:
    /// one that was recorded and never came to be presented is in it too.
    pub identity: (Arc<ServerIdentity>, Timestamp),
    pub pages: Arc<PageIdentity>,
    /// Who says on whose behalf a task runs.
    pub issuers: Arc<Issuers>,
    pub at: [SocketAddr; 2],
    /// SIGHUP; a development broker has no configuration to read again.
    pub hangup: Option<Signal>,
    /// Whom the gRPC health service asks.
    pub health: HealthReporter,
}

impl Upkeep {
    /// Keeps it up until it is dropped.
    pub(super) async fn run(mut self) {
        let mut keys = Follower::of(&self.broker);
        loop {
            // A panic ends this round, not those to come.
            match AssertUnwindSafe(self.renew()).catch_unwind().await {
                Ok(Some(revision)) => self.broker.keys_shown(revision),
                Ok(None) => {}
                Err(_) => tracing::error!("the upkeep broke off; it goes on in {} s", LOOK.as_secs()),
            }
            keys.tell(&self.health).await;
            let asked = tokio::select! {
                () = keys.changed() => false,
                // Signals that come while one is handled are one more.
                () = told(&mut self.hangup) => true,
            };
            if let (true, Mode::Production { file }) = (asked, self.mode.clone()) {
                match self.reload(&file).await {
                    Ok(kept) => {
                        metrics::reloaded("ok");
                        tell(&kept);
                    }
                    Err(error) => {
                        metrics::reloaded("refused");
                        tracing::error!(%error, "the configuration was not read again; the old one stays");
                    }
                }
            }
        }
    }

    /// All of it or, after an error, nothing. The keys that have changed and cannot while the broker runs.
    async fn reload(&mut self, file: &Path) -> Result<Vec<&'static str>, Error> {
        let running = self.config.borrow().clone();
        let mut next = Config::load(file)?;
        let page = certificate::given(&next, self.broker.ledger().wall())?;
        let issuers = subject::issuers(&next)?;
        let kept = keep_fixed(&mut next, &running);
        if next.names != running.names {
            self.present(&next.names).await?;
        }
        self.pages.replace(page);
        self.issuers.replace(issuers);
        log::set(&next.log);
        self.broker.quotas().set(Some(next.quotas));
        self.broker.set_address(names::address(&next.names, self.at[0]));
        self.config.send_replace(next);
        Ok(kept)
    }

    /// Brings up to date what hangs on time and on the keys: the revision of the keys that is shown then.
    async fn renew(&mut self) -> Option<u64> {
        let broker = &self.broker;
        let revision = broker.refresh_keys().inspect_err(|error| tracing::error!(%error, "the keys were not opened"));
        let now = broker.ledger().now();
        let ends = broker.ledger().view(|view| view.authority(Kind::Server, now).and_then(|key| key.not_after));
        if !is_fresh(self.identity.1, ends, now) || self.identity.0.authority() != broker.authority() {
            let names = self.config.borrow().names.clone();
            if let Err(error) = self.present(&names).await {
                tracing::error!(%error, "the listeners' certificate was not renewed");
            }
        }
        if let Mode::Dev { home } = &self.mode
            && let Err(error) = operator::development(&self.broker, home).await
        {
            tracing::error!(%error, "the development operator's certificate was not renewed");
        }
        revision.ok()
    }

    /// Presents a new certificate from the next handshake on.
    async fn present(&mut self, names: &[String]) -> Result<(), Error> {
        let issued = names::issue(&self.broker, names, self.at).await?;
        self.identity.0.replace(issued.chain, issued.key)?;
        self.identity.1 = issued.until;
        Ok(())
    }
}

/// Whether a certificate that ends at `until` is good for a while: more than half of its life is left, or its
/// authority ends with it, so that no later end is to be had.
fn is_fresh(until: Timestamp, authority_ends: Option<Timestamp>, now: Timestamp) -> bool {
    let half = Span::millis(IDENTITY_LIFE.as_millis() / 2);
    until > now.plus(half) || authority_ends.is_some_and(|ends| until >= ends)
}

fn tell(kept: &[&str]) {
    match kept {
        [] => tracing::info!("the configuration was read again"),
        keys => {
            let keys = keys.join(", ");
            tracing::warn!(keys, "the configuration was read again; these keys change only by a restart");
        }
    }
}

/// Takes over from `running` what only a restart changes: the keys that are different in `next`.
fn keep_fixed(next: &mut Config, running: &Config) -> Vec<&'static str> {
    let mut kept = Vec::new();
    macro_rules! keep {
        ($($key:ident),*; $($live:ident),*) => {
            // All keys are here, or this does not compile: a new one is either kept or changed.
            let Config { $($key,)* $($live: _,)* } = running;
            $(if next.$key != *$key {
                kept.push(stringify!($key));
                next.$key = $key.clone();
            })*
        };
    }
    keep!(
        trust_domain, issuer, data, grpc, http, snapshot_every, request_timeout;
        names, http_certificate, http_key, drain, log, subject_issuer, quotas
    );
    kept
}

async fn told(hangup: &mut Option<Signal>) {
    let told = match hangup {
        Some(signal) => signal.recv().await,
        None => None,
    };
    if told.is_none() {
        pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_at_half_of_its_life_unless_no_later_end_is_to_be_had() {
        let now = Timestamp::from_seconds(1_795_000_000);
        let [soon, late] = [Span::hours(6), Span::hours(18)].map(|left| now.plus(left));
        assert!(is_fresh(late, None, now) && is_fresh(late, Some(now.plus(Span::hours(1000))), now));
        assert!(!is_fresh(soon, None, now) && !is_fresh(soon, Some(late), now));
        assert!(is_fresh(soon, Some(soon), now));
    }
}
