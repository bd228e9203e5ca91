//! A snapshot saves time and nothing else: with it or without, the log folds to the same state.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use belay::broker::Readers;
use belay::domain::decide::{Caller, MarkSnapshot, StartTask};
use belay::domain::digest::Digest;
use belay::domain::error::Error;
use belay::domain::fold::VERSION;
use belay::domain::time::Span;
use belay::ledger::{Clock, Ledger, Request, Seeds};
use belay::store::Sqlite;
use rusqlite::Connection;

use crate::support::lockstep::Lockstep;
use crate::support::property::check;
use crate::support::steps::steps;
use crate::support::world::{Hands, World};

fn open(directory: &Path) -> Result<Ledger, Error> {
    let store = Box::new(Sqlite::open(directory).unwrap());
    Ledger::open(store, Hands::new() as Arc<dyn Clock>, Seeds::fixed([9; 32]), 1_000_000, std::sync::Arc::new(Readers))
}

/// What opening this directory folds to, and the log's size and root.
pub fn folded(directory: &Path) -> (Vec<u8>, (u64, belay::merkle::Hash)) {
    let ledger = open(directory).unwrap();
    (ledger.fingerprint().unwrap(), ledger.checkpoint())
}

fn change(directory: &Path, sql: &str) {
    Connection::open(directory.join("ledger.db")).unwrap().execute_batch(sql).unwrap();
}

fn number(directory: &Path, sql: &str) -> u64 {
    let connection = Connection::open(directory.join("ledger.db")).unwrap();
    connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
}

/// The same directory, whose head knows of no snapshot: all of its log is folded.
pub fn without_snapshot(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(directory).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    change(copy.path(), "UPDATE head SET snapshot = 0");
    copy
}

#[test]
fn a_full_fold_equals_snapshot_plus_tail() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (both, collected) = (AtomicU32::new(0), AtomicU32::new(0));
    let values = (steps(60), proptest::sample::select(&[4, 7, 13]), proptest::sample::select(&[0, 8, 90]));
    check(12, &values, |(steps, snapshot_every, minutes)| {
        let directory = tempfile::tempdir().unwrap();
        let (live, forgot) = runtime.block_on(async {
            let mut history = Lockstep::begin(directory.path(), snapshot_every).await;
            for step in &steps {
                history.step(step).await;
            }
            let grants = |world: &World| world.ledger.view(|view| view.grants().count());
            let before = grants(history.world());
            history.settle().await;
            history.world().hands.turn(Span::minutes(minutes));
            one_batch_of_many(history.world()).await;
            history.settle().await;
            let forgot = grants(history.world()) < before;
            (history.world().ledger.fingerprint().unwrap(), forgot)
        });
        let snapshot = number(directory.path(), "SELECT snapshot FROM head");
        let size = number(directory.path(), "SELECT size FROM head");
        both.fetch_add(u32::from(snapshot > 0 && snapshot < size), Ordering::Relaxed);
        collected.fetch_add(u32::from(forgot), Ordering::Relaxed);

        let with = folded(directory.path());
        assert!(live == with.0, "a restart changed the state");
        assert!(folded(without_snapshot(directory.path()).path()) == with, "a full fold is another state");
        Ok(())
    });
    assert!(both.into_inner() > 0, "never a snapshot and a tail");
    assert!(collected.into_inner() > 0, "nothing was ever over");
}

/// Several requests in one turn, each with events of its own: live they are taken in at once, later one by one.
async fn one_batch_of_many(world: &World) {
    let (one, two) = (world.agent("eva").await, world.agent("fritz").await);
    let start = |caller, key| {
        let command =
            StartTask { purpose: "testing".parse().unwrap(), subject: None, ttl: Span::hours(1), envelope: None };
        world.submit_once(caller, command, Some((key, b"body")))
    };
    let (a, b, c, d) = tokio::join!(start(&one, "1"), start(&two, "1"), start(&one, "1"), start(&one, "2"));
    assert_eq!(a.unwrap().task.id, c.unwrap().task.id, "one key, one task");
    assert_ne!(b.unwrap().task.id, d.unwrap().task.id);
}

/// A ledger of some events with a snapshot among them, closed.
async fn with_snapshot() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let world = World::over(Box::new(Sqlite::open(directory.path()).unwrap()), Hands::new(), 6).await;
    let planner = world.agent("planner").await;
    world.task(&planner).await;
    world.task(&planner).await;
    drop(world);
    assert!(number(directory.path(), "SELECT snapshot FROM head") > 0);
    directory
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused_by_name() {
    let newest = "(SELECT digest FROM blob ORDER BY length(body) DESC LIMIT 1)";
    for (damage, says) in [
        (
            format!("UPDATE blob SET body = CAST(body || x'00' AS BLOB) WHERE digest = {newest}"),
            "its bytes are damaged",
        ),
        (format!("UPDATE blob SET body = x'' WHERE digest = {newest}"), "its bytes are damaged"),
        (format!("UPDATE blob SET digest = zeroblob(32) WHERE digest = {newest}"), "is missing"),
        (format!("DELETE FROM blob WHERE digest = {newest}"), "is missing"),
        ("UPDATE head SET snapshot = 1".to_owned(), "entry 1 should name a snapshot and is `origin`"),
        ("UPDATE head SET snapshot = 10000".to_owned(), "entry 10000 is missing"),
    ] {
        let directory = with_snapshot().await;
        let digest: String = Connection::open(directory.path().join("ledger.db"))
            .unwrap()
            .query_row(&format!("SELECT lower(hex({newest}))"), [], |row| row.get(0))
            .unwrap();
        open(directory.path()).unwrap();
        change(directory.path(), &damage);
        let error = open(directory.path()).err().unwrap_or_else(|| panic!("opened after {damage}"));
        assert!(error.message.contains(says), "{damage}: {error}");
        assert!(error.message.contains(&digest) || damage.contains("head"), "{damage}: {error}");
    }
}

/// Not even a digest that was changed with its body gets through: the event that names it is part of the log.
#[tokio::test]
async fn a_forged_snapshot_does_not_fit_the_log() {
    let directory = with_snapshot().await;
    let at = number(directory.path(), "SELECT snapshot FROM head");
    change(
        directory.path(),
        &format!("UPDATE log SET body = CAST(substr(body, 1, length(body) - 1) || x'63' AS BLOB) WHERE seq = {at}"),
    );
    let error = open(directory.path()).err().unwrap();
    assert!(error.message.contains("damaged"), "{error}");
}

#[tokio::test]
async fn a_snapshot_of_another_fold_is_not_read_but_replayed() {
    let directory = with_snapshot().await;
    let bytes = b"what another version makes of a state".to_vec();
    let digest = Digest::of(&bytes);
    let ledger = open(directory.path()).unwrap();
    let request = Request {
        command: MarkSnapshot { seq: ledger.checkpoint().0, digest, version: VERSION + 1 },
        caller: Caller::Broker,
        request_id: "test".to_owned(),
        idempotency: None,
        seed: ledger.seed(),
        blobs: vec![(digest, bytes)],
    };
    ledger.submit(request).await.unwrap();
    let live = ledger.fingerprint().unwrap();
    let size = ledger.checkpoint().0;
    drop(ledger);
    assert_eq!(number(directory.path(), "SELECT snapshot FROM head"), size);
    assert!(folded(directory.path()).0 == live);
}
