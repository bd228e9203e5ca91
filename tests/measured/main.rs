//! What is bounded in time. Cargo runs one target after the other, so nothing of the suite runs beside these, and they
//! wait for each other: what they measure is Belay and the machine, not the rest of the tests.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::large_futures,
    clippy::print_stdout,
    reason = "a test that cannot go on says so by failing, and makes its own world"
)]

mod bare;
mod certificates;
mod cut;
mod fanout;
mod guarded;
mod stream;
#[allow(dead_code, unused_imports, unused_macros, reason = "it is the suite's, and not all of it is needed here")]
#[path = "../suite/support/mod.rs"]
mod support;

/// Held by the test that measures.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
/// The machine is shared: a series that something else disturbed is measured again.
const SERIES: usize = 5;
