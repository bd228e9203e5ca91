//! When the keys of the log change: at once when one is made or tainted, and when its time comes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tonic_health::ServingStatus::{NotServing, Serving};
use tonic_health::server::HealthReporter;

use crate::broker::Broker;
use crate::domain::time::{Span, Timestamp};

/// How often everything is looked at, whether or not a key is known to change: clocks are set, machines sleep.
pub(super) const LOOK: Duration = Duration::from_secs(60);
/// How long before an authority ends the log begins to say so, once a day.
const WARNING: Span = Span::hours(30 * 24);
const DAY: Span = Span::hours(24);

/// Follows the keys.
pub(super) struct Follower {
    broker: Arc<Broker>,
    changes: watch::Receiver<u64>,
    warned: Option<Timestamp>,
}

impl Follower {
    pub fn of(broker: &Arc<Broker>) -> Self {
        Self { changes: broker.key_changes(), broker: Arc::clone(broker), warned: None }
    }

    /// Resolves when another key is there, one comes to another phase, or it is time to look anyhow.
    pub async fn changed(&mut self) {
        let now = self.broker.ledger().now();
        let next = self.broker.next_key_change().map(|at| at.since(now).as_millis());
        let pause = next.and_then(|millis| u64::try_from(millis).ok());
        let pause = pause.map_or(LOOK, |millis| LOOK.min(Duration::from_millis(millis)));
        tokio::select! {
            // The broker lives as long as this, and with it the sender.
            _ = self.changes.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }

    /// Tells whoever asks for health, and once a day the log that an authority ends soon.
    pub async fn tell(&mut self, health: &HealthReporter) {
        let status = if self.broker.is_ready().is_ok() { Serving } else { NotServing };
        health.set_service_status("", status).await;
        let now = self.broker.ledger().now();
        if self.warned.is_some_and(|last| now.since(last) < DAY) {
            return;
        }
        for ending in self.broker.endings().into_iter().filter(|ending| now.plus(WARNING) >= ending.at) {
            self.warned = Some(now);
            let message = "this certificate authority ends soon: rotate it at least a day before";
            tracing::warn!(purpose = %ending.purpose, kid = ending.kid, end = %ending.at, "{message}");
        }
    }
}
