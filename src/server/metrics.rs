//! What the listeners measure, and what becomes of a panic anywhere in the process.

use crate::measure::{self, Exporter, Held};

/// How often histograms are folded, scraped or not.
const TIDY: std::time::Duration = std::time::Duration::from_secs(5);

/// The panicking threads that are told apart.
const THREADS: [&str; 3] = ["sequencer", "worker", "other"];

/// How a handshake ended.
const OUTCOMES: [&str; 4] = ["ok", "failed", "timeout", "crowded_out"];

/// Makes what this listener counts appear, at nothing.
pub(super) fn begin(listener: &'static str) {
    OUTCOMES.iter().for_each(|outcome| measure::HANDSHAKES.begin(&[listener, outcome]));
    measure::CONNECTIONS.begin(&[listener]);
    measure::ACCEPTS_FAILED.begin(&[listener]);
}

/// Makes reloads appear, at none.
pub(super) fn begin_reloads() {
    ["ok", "refused"].iter().for_each(|outcome| measure::RELOADS.begin(&[outcome]));
}

/// The configuration was read again, or refused.
pub(super) fn reloaded(outcome: &'static str) {
    measure::RELOADS.add(1, &[outcome]);
}

/// A handshake ended.
pub(super) fn handshake(listener: &'static str, outcome: &'static str) {
    measure::HANDSHAKES.add(1, &[listener, outcome]);
}

/// A connection is open until the result is dropped.
pub(super) fn open(listener: &'static str) -> Held {
    measure::CONNECTIONS.hold(&[listener])
}

/// The system handed over no connection.
pub(super) fn not_accepted(listener: &'static str) {
    measure::ACCEPTS_FAILED.add(1, &[listener]);
}

/// The listeners have a certificate until then.
pub(super) fn certified(until: crate::domain::time::Timestamp) {
    measure::LISTENER_END.set(until.seconds(), &[]);
}

/// Folds histograms for as long as the process runs.
pub(super) async fn tidy(exporter: Exporter) {
    loop {
        tokio::time::sleep(TIDY).await;
        exporter.tidy();
    }
}

/// From here on a panic is one counted line with its place. What it panicked with is shown only where it is a text
/// of the source: a made one may hold a secret that was at hand.
pub(super) fn watch_panics() {
    THREADS.iter().for_each(|thread| measure::PANICS.begin(&[thread]));
    std::panic::set_hook(Box::new(|panic| {
        let name = std::thread::current().name().map(str::to_owned).unwrap_or_default();
        let thread = match name.as_str() {
            "sequencer" => THREADS[0],
            name if name.starts_with("tokio-") => THREADS[1],
            _ => THREADS[2],
        };
        measure::PANICS.add(1, &[thread]);
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let why = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(not shown)");
        tracing::error!(place, thread = name, why, "panicked: this is a defect; report it");
    }));
}
