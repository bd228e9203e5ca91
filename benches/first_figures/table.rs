//! Medians over the rounds with their spread, as a table for people and a line of JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Load, Window};

/// Median, least and greatest over the rounds.
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn over(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self { median: values[values.len() / 2], min: values[0], max: values[values.len() - 1] }
    }

    fn json(&self) -> Value {
        let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
        json!({ "median": rounded(self.median), "min": rounded(self.min), "max": rounded(self.max) })
    }

    fn text(&self, digits: usize) -> String {
        format!("{:.digits$} [{:.digits$}..{:.digits$}]", self.median, self.min, self.max)
    }
}

/// The table and the JSON lines. A ratio compares two windows of one round, never of two.
pub fn figures(windows: &[Window]) -> String {
    let mut text = format!(
        "\n{:<16} {:>22} {:>20} {:>22} {:>22} {:>22} {:>9} {:>10}\n",
        "figure", "calls/s", "of floor", "p50 us", "p99 us", "server cpu us/call", "verified", "unrecorded"
    );
    let mut lines = String::new();
    for load in Load::ALL {
        let of = |load| windows.iter().filter(move |window: &&Window| window.load == load);
        let spread = |figure: fn(&Window) -> f64| Spread::over(of(load).map(figure).collect());
        let rate = |window: &Window| window.calls as f64 / window.seconds;
        let ratio = Spread::over(of(load).zip(of(load.floor())).map(|(own, floor)| rate(own) / rate(floor)).collect());
        let p50_of = Spread::over(
            of(load)
                .zip(of(load.floor()))
                .map(|(own, floor)| f64::from(own.p50_us) / f64::from(floor.p50_us))
                .collect(),
        );
        let (calls, p50, p99) =
            (spread(rate), spread(|window| f64::from(window.p50_us)), spread(|window| f64::from(window.p99_us)));
        let cpu = spread(|window| window.cpu_us);
        let verified: usize = of(load).map(|window| window.verified).sum();
        let unrecorded: usize = of(load).map(|window| window.unrecorded).sum();
        writeln!(
            text,
            "{:<16} {:>22} {:>20} {:>22} {:>22} {:>22} {verified:>9} {unrecorded:>10}",
            load.name(),
            calls.text(0),
            ratio.text(3),
            p50.text(0),
            p99.text(0),
            cpu.text(0)
        )
        .unwrap();
        let line = json!({
            "figure": load.name(), "floor": load.floor().name(), "rounds": of(load).count(),
            "rate": calls.json(), "ratio": ratio.json(), "p50_us": p50.json(), "p99_us": p99.json(),
            "p50_ratio": p50_of.json(), "cpu_us": cpu.json(), "verified": verified, "unrecorded": unrecorded,
        });
        writeln!(lines, "{line}").unwrap();
    }
    format!("{text}\n{lines}")
}
