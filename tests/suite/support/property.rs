//! Property tests with a fixed number of cases, a new seed at every run, and the seed in the failure.

use std::hash::{BuildHasher, RandomState};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseResult, TestRunner};

/// Holds `property` against `cases` values; `BELAY_SEED=N` repeats a run.
pub fn check<S: Strategy>(cases: u32, values: &S, property: impl Fn(S::Value) -> TestCaseResult) {
    let given = std::env::var("BELAY_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or_else(|| RandomState::new().hash_one(cases));
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_time: 20_000,
        ..Config::default()
    };
    if let Err(failure) = TestRunner::new(config).run(values, property) {
        panic!("{failure}\nagain with BELAY_SEED={seed}");
    }
}
