//! How long something took. It is only shown; no decision rests on it.

use std::time::{Duration, Instant};

use super::Metric;

/// Runs from its making.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts.
    #[expect(clippy::disallowed_methods, reason = "a duration that is shown and decides nothing")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Since its start.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// Puts the seconds since its start into a histogram.
    pub fn record(self, metric: &Metric, labels: &[&'static str]) {
        metric.record(self.elapsed().as_secs_f64(), labels);
    }
}
