//! No sequence of steps yields an authority that nobody was entitled to give.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use belay::store::Sqlite;
use proptest::prelude::*;

use crate::fold::{folded, without_snapshot};
use crate::support::elevated::{Elevated, Step};
use crate::support::property::check;
use crate::support::world::World;

/// `BELAY_CASES=N` looks longer.
fn cases() -> u32 {
    std::env::var("BELAY_CASES").map_or(16, |cases| cases.parse().unwrap())
}

/// What chance brings about too seldom: an envelope, approved and used, and a grant that two humans approve in part.
const BEGINNING: [Step; 6] = [
    [0, 0, 0, 0, 255, 9, 255, 0],
    [150, 0, 0, 100, 3, 0, 0, 1],
    [20, 0, 0, 0, 0, 1, 40, 5],
    [20, 0, 0, 0, 255, 3, 40, 5],
    [150, 1, 0, 100, 1, 4, 0, 1],
    [150, 1, 1, 100, 3, 0, 0, 1],
];

#[test]
fn no_history_yields_an_authority_beyond_ancestors_ceilings_and_what_humans_allowed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let steps = proptest::collection::vec(any::<Step>(), 40..120);
    // 3 and 11: most restarts load a snapshot and a tail; the last: all is folded.
    let values = (steps, proptest::sample::select(&[3, 11, 1_000_000]));
    let seen: RefCell<BTreeMap<&'static str, u32>> = RefCell::default();
    check(cases(), &values, |(steps, snapshot_every)| {
        let directory = tempfile::tempdir().unwrap();
        let history = runtime.block_on(async {
            let mut history = Elevated::begin(directory.path(), snapshot_every).await;
            for step in BEGINNING.iter().chain(&steps) {
                history.step(step).await;
            }
            history
        });
        for (what, count) in &history.book.counts {
            *seen.borrow_mut().entry(what).or_default() += count;
        }
        let live = history.world().ledger.fingerprint().unwrap();
        let hands = Arc::clone(&history.world().hands);
        let history = history.close();
        let with = folded(directory.path());
        assert!(with.0 == live, "a restart changed the state");
        let whole = without_snapshot(directory.path());
        assert!(folded(whole.path()) == with, "a full fold is another state");
        // And everything reaches what it reached.
        for path in [directory.path(), whole.path()] {
            let world =
                runtime.block_on(World::over(Box::new(Sqlite::open(path).unwrap()), Arc::clone(&hands), 1_000_000));
            history.agrees(&world);
        }
        Ok(())
    });
    let seen = seen.into_inner();
    println!("{seen:?}");
    let telling = [
        "active roots", "active within", "active own", "pending", "given", "approved by one", "approved by two",
        "approved in part", "denied", "envelopes opened", "within an envelope", "renewed", "completed", "revoked",
        "halted or resumed", "tokens", "narrowed", "catalogs", "policies", "scope_widened", "beyond_ceiling",
        "approval_stale", "approval_widens", "own_request", "approval_decided", "depth_limit",
    ];
    // Of few histories, some have none of these.
    let rare = ["policy_denied", "approval_needed", "already_given"];
    let telling = telling.iter().chain(rare.iter().filter(|_| cases() >= 100));
    let missing: Vec<_> = telling.filter(|what| !seen.contains_key(**what)).collect();
    assert!(missing.is_empty(), "these histories prove little: never {missing:?} in {seen:?}");
}
