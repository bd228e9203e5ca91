//! A log that is not what it was is not opened: altered, reordered, dropped or truncated, it is named.

use std::path::Path;
use std::sync::Arc;

use belay::broker::Readers;
use belay::domain::error::Code;
use belay::ledger::{Ledger, Seeds};
use belay::store::Sqlite;
use rusqlite::{Connection, params};

use crate::support::block_on;
use crate::support::world::{Hands, World};

/// A closed store with some history and no snapshot, and how many entries it has.
fn history(snapshot_every: u64) -> (tempfile::TempDir, u64) {
    let directory = tempfile::tempdir().unwrap();
    let size = block_on(async {
        let store = Box::new(Sqlite::open(directory.path()).unwrap());
        let world = World::over(store, Hands::new(), snapshot_every).await;
        let planner = world.agent("planner").await;
        let task = world.task(&planner).await;
        for _ in 0..3 {
            world.grant(&planner, task.id, &["db:read@**"]).await.unwrap();
        }
        world.ledger.close();
        world.ledger.checkpoint().0
    });
    (directory, size)
}

fn open(directory: &Path) -> Result<Ledger, belay::domain::error::Error> {
    let store = Box::new(Sqlite::open(directory).unwrap());
    Ledger::open(store, Arc::clone(&Hands::new()) as _, Seeds::fixed([3; 32]), 1_000_000, std::sync::Arc::new(Readers))
}

/// The store's file as it was, whatever a test does to it.
struct Original(tempfile::TempDir, Vec<u8>);

impl Original {
    fn of(directory: tempfile::TempDir) -> Self {
        drop(open(directory.path()).unwrap());
        let bytes = std::fs::read(directory.path().join("ledger.db")).unwrap();
        Self(directory, bytes)
    }

    /// Puts it back, damages it, and returns the line that it is then refused with.
    fn refusal(&self, damage: impl FnOnce(&Connection)) -> String {
        let path = self.0.path().join("ledger.db");
        std::fs::write(&path, &self.1).unwrap();
        drop(open(self.0.path()).expect("it opens before it is damaged"));
        let connection = Connection::open(&path).unwrap();
        damage(&connection);
        drop(connection);
        let error = open(self.0.path()).err().expect("damage was not found");
        assert_eq!((error.code, error.reason), (Code::Unavailable, "store"), "{error}");
        assert!(!error.message.contains('\n'), "{error}");
        error.message
    }
}

fn entry(connection: &Connection, seq: u64) -> Vec<u8> {
    connection.query_row("SELECT body FROM log WHERE seq = ?", params![seq as i64], |row| row.get(0)).unwrap()
}

fn put(connection: &Connection, seq: u64, body: &[u8]) {
    let changed = connection.execute("UPDATE log SET body = ? WHERE seq = ?", params![body, seq as i64]).unwrap();
    assert_eq!(changed, 1);
}

#[test]
fn an_altered_entry_is_found_wherever_it_is() {
    let (directory, size) = history(1_000_000);
    let original = Original::of(directory);
    for seq in 1..=size {
        let line = original.refusal(|connection| {
            let mut body = entry(connection, seq);
            let middle = body.len() / 2;
            body[middle] ^= 1;
            put(connection, seq, &body);
        });
        assert!(line.contains("damaged"), "{seq}: {line}");
    }
}

#[test]
fn reordered_entries_are_found_wherever_they_are() {
    let (directory, size) = history(1_000_000);
    let original = Original::of(directory);
    for seq in 1..size {
        let line = original.refusal(|connection| {
            let (one, two) = (entry(connection, seq), entry(connection, seq + 1));
            put(connection, seq, &two);
            put(connection, seq + 1, &one);
        });
        assert!(line.contains("damaged"), "{seq}: {line}");
    }
}

#[test]
fn a_dropped_entry_is_found_whether_or_not_the_gap_was_closed() {
    let (directory, size) = history(1_000_000);
    let original = Original::of(directory);
    for seq in 1..=size {
        let drop = format!("DELETE FROM log WHERE seq = {seq};");
        let open = original.refusal(|connection| connection.execute_batch(&drop).unwrap());
        if seq < size {
            assert!(open.contains(&format!("entry {seq} is missing")), "{seq}: {open}");
        }
        let close = format!(
            "{drop} UPDATE log SET seq = -(seq - 1) WHERE seq > {seq}; UPDATE log SET seq = -seq WHERE seq < 0;"
        );
        let closed = original.refusal(|connection| connection.execute_batch(&close).unwrap());
        assert!(closed.contains("damaged"), "{seq}: {closed}");
        let head = format!("{close} UPDATE head SET size = size - 1;");
        let told = original.refusal(|connection| connection.execute_batch(&head).unwrap());
        assert!(told.contains("damaged"), "{seq}: {told}");
    }
}

#[test]
fn a_truncated_log_is_found_even_where_the_head_agrees() {
    let (directory, size) = history(1_000_000);
    let original = Original::of(directory);
    for left in [0, 1, size / 2, size - 1] {
        let cut = format!("DELETE FROM log WHERE seq > {left};");
        let line = original.refusal(|connection| connection.execute_batch(&cut).unwrap());
        assert!(line.contains(&format!("the head says {size} entries")), "{left}: {line}");
        let told = format!("{cut} UPDATE head SET size = {left};");
        let line = original.refusal(|connection| connection.execute_batch(&told).unwrap());
        assert!(line.contains(&format!("the head says {left} entries")), "{left}: {line}");
    }
}

#[test]
fn an_added_entry_is_found() {
    let (directory, size) = history(1_000_000);
    let original = Original::of(directory);
    let add = format!("INSERT INTO log SELECT {size} + 1, batch, body FROM log WHERE seq = {size};");
    for told in ["", "UPDATE head SET size = size + 1;"] {
        let sql = format!("{add} {told}");
        let line = original.refusal(|connection| connection.execute_batch(&sql).unwrap());
        assert!(line.contains("damaged"), "{line}");
    }
}

#[test]
fn a_damaged_or_missing_snapshot_is_named_and_not_replayed_around() {
    let (directory, _) = history(5);
    let original = Original::of(directory);
    let cases = [
        ("UPDATE blob SET body = CAST(body || x'00' AS BLOB)", "damaged"),
        ("DELETE FROM blob", "missing"),
        ("UPDATE head SET snapshot = snapshot - 1", "should name a snapshot"),
        ("UPDATE head SET snapshot = 1000000", "missing"),
        ("UPDATE head SET root = zeroblob(32)", "the head says"),
        ("UPDATE head SET root = x'00'", "32 bytes"),
        ("DELETE FROM head", "head"),
    ];
    for (sql, why) in cases {
        let line = original.refusal(|connection| connection.execute_batch(sql).unwrap());
        assert!(line.contains(why), "{sql}: {line}");
    }
}
