//! What is measured: one table of names, and the only way to a number behind one of them.
//!
//! A label's value is a word of this program's source (`&'static str`): no agent, grant, token or subject can
//! become one, and the number of series is bounded by the text of the program.

mod process;
mod stopwatch;
mod table;

use std::sync::OnceLock;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

pub use process::observe as observe_process;
pub use stopwatch::Stopwatch;
pub use table::*;

use crate::domain::error::{Code, Error};

/// A measured quantity. Its unit is the end of its name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// As Prometheus knows it.
    pub name: &'static str,
    /// What sort of number it is.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, in a sentence.
    pub help: &'static str,
}

/// What sort of number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size: the upper ends of the buckets.
    Histogram(&'static [f64]),
}

const META: Metadata<'static> = Metadata::new("belay", Level::INFO, None);

impl Metric {
    /// Counts `more`.
    pub fn add(&self, more: u64, labels: &[&'static str]) {
        self.counter(labels).increment(more);
    }

    /// Makes a counter what has been counted elsewhere.
    pub fn advance_to(&self, total: u64, labels: &[&'static str]) {
        self.counter(labels).absolute(total);
    }

    /// Makes a gauge `value`.
    #[expect(clippy::cast_precision_loss, reason = "beyond 2^53 nobody looks at the last digit")]
    pub fn set<N>(&self, value: N, labels: &[&'static str])
    where
        i64: TryFrom<N>,
    {
        self.gauge(labels).set(i64::try_from(value).unwrap_or(i64::MAX) as f64);
    }

    /// Makes a gauge greater by one, until the result is dropped.
    #[must_use]
    pub fn hold(&self, labels: &[&'static str]) -> Held {
        let gauge = self.gauge(labels);
        gauge.increment(1.0);
        Held(gauge)
    }

    /// Adds a value to a histogram.
    pub fn record(&self, value: f64, labels: &[&'static str]) {
        self.histogram(labels).record(value);
    }

    /// Makes it appear with nothing counted, so that the first time is seen as a change.
    pub fn begin(&self, labels: &[&'static str]) {
        match self.kind {
            Kind::Counter => self.counter(labels).increment(0),
            Kind::Gauge => self.gauge(labels).increment(0.0),
            Kind::Histogram(_) => drop(self.histogram(labels)),
        }
    }

    fn counter(&self, labels: &[&'static str]) -> Counter {
        metrics::with_recorder(|recorder| recorder.register_counter(&self.key(labels), &META))
    }

    fn gauge(&self, labels: &[&'static str]) -> Gauge {
        metrics::with_recorder(|recorder| recorder.register_gauge(&self.key(labels), &META))
    }

    fn histogram(&self, labels: &[&'static str]) -> Histogram {
        metrics::with_recorder(|recorder| recorder.register_histogram(&self.key(labels), &META))
    }

    fn key(&self, values: &[&'static str]) -> Key {
        debug_assert_eq!(self.labels.len(), values.len(), "{} has the labels {:?}", self.name, self.labels);
        let labels: Vec<Label> =
            self.labels.iter().zip(values).map(|(name, value)| Label::from_static_parts(name, value)).collect();
        Key::from_parts(self.name, labels)
    }
}

/// Something that is there as long as this is.
pub struct Held(Gauge);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// All that was measured, as text.
#[derive(Clone)]
pub struct Exporter(PrometheusHandle);

impl Exporter {
    /// The process's own; the first call begins to measure.
    ///
    /// # Errors
    /// Something else in this process collects measurements already.
    pub fn install() -> Result<Self, Error> {
        static INSTALLED: OnceLock<Result<PrometheusHandle, Error>> = OnceLock::new();
        INSTALLED.get_or_init(build).clone().map(Self)
    }

    /// The text that Prometheus reads (version 0.0.4).
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds what histograms have collected into their buckets. Without it, and without anybody who reads them,
    /// they would grow for ever.
    pub fn tidy(&self) {
        self.0.run_upkeep();
    }
}

fn build() -> Result<PrometheusHandle, Error> {
    let unusable = |error: &dyn std::fmt::Display| {
        Error::new(Code::Internal, "metrics", format!("measurements cannot be collected: {error}"))
    };
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS {
        if let Kind::Histogram(buckets) = metric.kind {
            let matcher = Matcher::Full(metric.name.to_owned());
            builder = builder.set_buckets_for_metric(matcher, buckets).map_err(|error| unusable(&error))?;
        }
    }
    let handle = builder.install_recorder().map_err(|error| unusable(&error))?;
    for Metric { name, kind, help, .. } in METRICS {
        match kind {
            Kind::Counter => metrics::describe_counter!(*name, *help),
            Kind::Gauge => metrics::describe_gauge!(*name, *help),
            Kind::Histogram(_) => metrics::describe_histogram!(*name, *help),
        }
    }
    Ok(handle)
}
