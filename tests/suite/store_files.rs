//! The embedded store's files: whose they are, who has them, and what is refused before it is touched.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use belay::domain::entropy::Entropy;
use belay::store::{Batch, Head, Sqlite, Store};
use rusqlite::Connection;

/// The line that opening this directory is refused with.
fn refusal(directory: &Path) -> String {
    let error = Sqlite::open(directory).err().expect("it was to be refused").to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

/// A closed store with a few large entries in it, so that its file has many pages.
fn filled() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Sqlite::open(directory.path()).unwrap();
    let head = store.begin().unwrap();
    let size = head.size + 20;
    let entries = (0..20).map(|_| vec![7; 10_000]).collect();
    let head = Head { size, ..head };
    store.append(&Batch { id: [1; 16], after: 0, entries, blobs: Vec::new(), forget: None, head }).unwrap();
    store.commit().unwrap();
    drop(store);
    Sqlite::open(directory.path()).unwrap();
    directory
}

fn change(directory: &Path, sql: &str) {
    Connection::open(directory.join("ledger.db")).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn a_second_opener_is_refused_until_the_first_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let first = Sqlite::open(directory.path()).unwrap();
    assert!(refusal(directory.path()).contains("another broker uses this data directory"));
    drop(first);
    Sqlite::open(directory.path()).unwrap();
}

#[test]
fn files_are_for_their_owner_alone() {
    let directory = filled();
    let _open = Sqlite::open(directory.path()).unwrap();
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        seen.push(entry.file_name().into_string().unwrap());
    }
    seen.sort();
    assert_eq!(seen, ["ledger.db", "ledger.db-shm", "ledger.db-wal", "lock", "reserve"]);
}

#[test]
fn a_newer_version_is_refused() {
    let directory = filled();
    change(directory.path(), "PRAGMA user_version = 2");
    let line = refusal(directory.path());
    assert!(line.contains("its version is 2") && line.contains("ledger.db"), "{line}");
    change(directory.path(), "PRAGMA user_version = 1");
    Sqlite::open(directory.path()).unwrap();
}

#[test]
fn another_programs_database_is_refused_and_not_touched() {
    let marks = ["PRAGMA application_id = 7", "PRAGMA user_version = 7", "PRAGMA user_version = 0"];
    for mark in marks {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.db");
        change(directory.path(), &format!("CREATE TABLE theirs (id INTEGER); {mark}"));
        let before = std::fs::read(&path).unwrap();
        let line = refusal(directory.path());
        assert!(line.contains("belongs to another program") && line.contains("ledger.db"), "{mark}: {line}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "{mark}");
    }
}

#[test]
fn a_file_that_is_no_database_is_refused_and_not_touched() {
    let noise = Entropy::from_seed([5; 32]).take::<32>().repeat(300);
    let texts: [&[u8]; 3] =
        [b"not a database at all, but a text that is long enough to be looked at as one", &noise, b"x"];
    for content in texts {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.db");
        std::fs::write(&path, content).unwrap();
        let line = refusal(directory.path());
        assert!(line.contains("ledger.db") && line.contains("not a database"), "{line}");
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
}

#[test]
fn a_truncated_file_is_refused() {
    let whole = filled();
    let bytes = std::fs::read(whole.path().join("ledger.db")).unwrap();
    for length in [50, 100, 4096, 4097, 3 * 4096, bytes.len() / 2, bytes.len() - 4096, bytes.len() - 1] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ledger.db"), &bytes[..length]).unwrap();
        // Opening looks at the first page; a start reads all of it.
        let opened = Sqlite::open(directory.path());
        let read = opened.and_then(|store| store.reader()?.entries(0, 1000));
        let error = read.err().unwrap_or_else(|| panic!("{length} of {} bytes were taken for all", bytes.len()));
        let line = error.to_string();
        let whys = ["malformed", "not a database", "disk I/O error"];
        assert!(whys.iter().any(|why| line.contains(why)), "{length}: {line}");
    }
}

#[test]
fn an_emptied_file_beside_its_log_is_refused() {
    let directory = filled();
    let open = Sqlite::open(directory.path()).unwrap();
    // As after a crash: the write-ahead log was not folded in.
    let copy = tempfile::tempdir().unwrap();
    for name in ["ledger.db", "ledger.db-wal"] {
        std::fs::copy(directory.path().join(name), copy.path().join(name)).unwrap();
    }
    drop(open);
    drop(Sqlite::open(copy.path()).unwrap());
    std::fs::write(copy.path().join("ledger.db-wal"), b"of one that was not").unwrap();
    std::fs::write(copy.path().join("ledger.db"), b"").unwrap();
    assert!(refusal(copy.path()).contains("write-ahead log"));
    assert!(copy.path().join("ledger.db-wal").exists());
}

#[test]
fn a_directory_in_the_place_of_the_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("ledger.db")).unwrap();
    assert!(refusal(directory.path()).contains("ledger.db"));
}
