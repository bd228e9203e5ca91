//! Random trees, lived through restarts, against an oracle that knows only DESIGN.

use std::cell::RefCell;

use crate::support::lockstep::Lockstep;
use crate::support::property::check;
use crate::support::steps::{Tally, steps};

#[test]
fn any_history_goes_as_the_model_says() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // 3 and 11: most restarts load a snapshot and a tail; the last: all is folded.
    let values = (steps(90), proptest::sample::select(&[3, 11, 1_000_000]));
    let seen = RefCell::new(Tally::default());
    check(cases(), &values, |(steps, snapshot_every)| {
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let mut history = Lockstep::begin(directory.path(), snapshot_every).await;
            for step in &steps {
                history.step(step).await;
            }
            seen.borrow_mut().add(history.end());
        });
        Ok(())
    });
    let seen = seen.into_inner();
    assert!(seen.is_telling(), "these histories prove little: {seen:?}");
}

/// `BELAY_CASES=N` looks longer.
fn cases() -> u32 {
    std::env::var("BELAY_CASES").map_or(30, |cases| cases.parse().unwrap())
}

#[test]
fn the_oracle_uses_nothing_of_the_product() {
    let model = include_str!("support/model.rs");
    assert!(!model.contains("belay::") && model.contains("pub fn revoke"));
}
