//! The embedded store: SQLite with a write-ahead log and a full sync at every commit.
//!
//! One process at a time: the data directory is locked, because a second writer would be a second ledger.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, ffi, params};

use super::crash::Point;
use super::reserve::{self, Reserve};
use super::{Batch, BatchId, CommitError, Head, Reader, Store, StoreError};
use crate::domain::digest::Digest;
use crate::merkle::{Frontier, Hash};

const SCHEMA: i64 = 1;
/// "blay": another program's database is not taken for ours.
const APPLICATION: i64 = 0x626c_6179;
/// How every SQLite file begins.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// The embedded store.
pub struct Sqlite {
    connection: Connection,
    path: PathBuf,
    reserve: Reserve,
    is_full: bool,
    // Dropped last: the directory is let go when the database is closed.
    _lock: Lock,
}

/// A locked file. A process that was just forked off has a copy of it, which must not keep the lock.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // An error leaves the lock to the end of the process.
        let _ = self.0.unlock();
    }
}

struct SqliteReader(Mutex<Connection>);

impl Sqlite {
    /// Opens or creates the store in `directory`, and locks the directory.
    ///
    /// # Errors
    /// Another broker has it, it is of a newer version or another program, or the disk is full or says no.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let lock = lock(directory)?;
        let reserve = Reserve::take(directory).map_err(|error| match reserve::is_full(&error) {
            true => full(directory, error),
            false => StoreError::new(format!("keeping room in {}", directory.display()), error),
        })?;
        let path = directory.join("ledger.db");
        let connection = prepare(directory, &path);
        let connection = connection.map_err(|error| match reserve.is_all_there_is() {
            true => full(directory, error),
            false => error,
        })?;
        Ok(Self { connection, path, reserve, is_full: false, _lock: lock })
    }
}

fn prepare(directory: &Path, path: &Path) -> Result<Connection, StoreError> {
    // SQLite would make the file with the umask's mode; its journal files take over the mode of this one.
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(failed(format!("opening {}", path.display())))?;
    let is_new = is_new(path)?;
    let connection = connect(path)?;
    if is_new {
        create(&connection).map_err(failed(format!("creating {}", path.display())))?;
    }
    // A file whose name is not on disk yet is lost with the power, however well it was synced.
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("syncing the data directory"))?;
    Ok(connection)
}

fn full(directory: &Path, why: impl std::fmt::Display) -> StoreError {
    let doing = format!("opening {}", directory.display());
    StoreError::new(doing, format!("its disk is full; free some space there, or keep the data elsewhere ({why})"))
}

fn lock(directory: &Path) -> Result<Lock, StoreError> {
    let path = directory.join("lock");
    let doing = format!("locking {}", path.display());
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(|error| {
        match reserve::is_full(&error) {
            true => full(directory, error),
            false => StoreError::new(doing.clone(), error),
        }
    })?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(StoreError::new(doing, "another broker uses this data directory"))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(StoreError::new(doing, error)),
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let doing = || format!("opening {}", path.display());
    let connection = Connection::open(path).map_err(failed(doing()))?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed(doing()))?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed(doing()))?;
    connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(failed(doing()))?;
    // Both are requests: a file system may not be able to, and then nothing here would be durable.
    let mode: String =
        connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).map_err(failed(doing()))?;
    let synchronous: i64 =
        connection.pragma_query_value(None, "synchronous", |row| row.get(0)).map_err(failed(doing()))?;
    if mode != "wal" || synchronous != 2 {
        return Err(StoreError::new(
            doing(),
            format!("journal_mode is {mode} and synchronous is {synchronous}; wal and 2 are needed"),
        ));
    }
    tracing::debug!(path = %path.display(), journal_mode = mode, synchronous, "a connection that syncs every commit");
    Ok(connection)
}

/// Whether there is nothing in the file yet. What is not ours is refused before anything in it is changed.
fn is_new(path: &Path) -> Result<bool, StoreError> {
    let doing = || format!("opening {}", path.display());
    // SQLite takes a file of a few bytes for an empty database, and drops the log beside a file of none.
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut start)).map_err(failed(doing()))?;
    if start.is_empty() && path.with_extension("db-wal").exists() {
        return Err(StoreError::new(doing(), "it is empty, and the write-ahead log beside it is of one that was not"));
    }
    if !start.is_empty() && start != MAGIC {
        return Err(StoreError::new(doing(), "it is not a database"));
    }
    let connection = Connection::open(path).map_err(failed(doing()))?;
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(failed(doing()));
    let tables = || {
        let count = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
        count.map_err(failed(doing()))
    };
    match (pragma("application_id")?, pragma("user_version")?) {
        (APPLICATION, SCHEMA) => Ok(false),
        // Most programs do not mark their databases: one that is not marked is new only while it is empty.
        (0, 0) if tables()? == 0 => Ok(true),
        (APPLICATION, version) => Err(StoreError::new(
            doing(),
            format!("its version is {version}, this program reads {SCHEMA}; use the program that wrote it"),
        )),
        (other, _) => Err(StoreError::new(doing(), format!("it belongs to another program ({other:#x})"))),
    }
}

fn create(connection: &Connection) -> rusqlite::Result<()> {
    let root = Frontier::default().root();
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE;
         CREATE TABLE log (seq INTEGER PRIMARY KEY, batch BLOB NOT NULL, body BLOB NOT NULL);
         CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 1), size INTEGER NOT NULL, root BLOB NOT NULL, snapshot INTEGER NOT NULL);
         CREATE TABLE blob (digest BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
         INSERT INTO head VALUES (1, 0, x'{root}', 0);
         PRAGMA application_id = {APPLICATION};
         PRAGMA user_version = {SCHEMA};
         COMMIT;"
    ))
}

impl Store for Sqlite {
    fn begin(&mut self) -> Result<Head, StoreError> {
        let begun = self.connection.execute_batch("BEGIN IMMEDIATE");
        begun.map_err(|error| self.noted("taking the turn of", error))?;
        let head = self.connection.prepare_cached("SELECT size, root, snapshot FROM head").and_then(|mut statement| {
            statement.query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, i64>(2)?)))
        });
        let parsed = head.map_err(failed("reading the head")).and_then(|(size, root, snapshot)| {
            let root = root
                .try_into()
                .ok()
                .map(Hash)
                .ok_or_else(|| StoreError::new("reading the head", "its root is not 32 bytes"))?;
            Ok(Head { size: size.unsigned_abs(), root, snapshot: snapshot.unsigned_abs() })
        });
        if parsed.is_err() {
            self.rollback();
        }
        parsed
    }

    fn missed(&mut self, after: u64, limit: u32) -> Result<Vec<Vec<u8>>, StoreError> {
        entries(&self.connection, after, limit)
    }

    fn append(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.write(batch).map_err(|error| self.noted("appending to", error))?;
        Point::Appended.reached();
        Ok(())
    }

    fn commit(&mut self) -> Result<(), CommitError> {
        let Err(error) = self.connection.execute_batch("COMMIT") else { return Ok(()) };
        let code = extended(&error);
        let why = self.noted("committing to", error).to_string();
        if matches!(code, Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)) {
            return Err(CommitError::Fatal(why));
        }
        if self.connection.is_autocommit() {
            return Err(CommitError::Unknown(why));
        }
        self.rollback();
        Err(CommitError::Failed(why))
    }

    fn rollback(&mut self) {
        // An error here means that there is no transaction, which is what is wanted.
        let _ = self.connection.execute_batch("ROLLBACK");
    }

    fn contains(&mut self, batch: BatchId, after: u64) -> Result<bool, StoreError> {
        self.connection
            .query_row(
                "SELECT 1 FROM log WHERE seq > ? AND batch = ? LIMIT 1",
                params![signed(after), batch.as_slice()],
                |_| Ok(()),
            )
            .optional()
            .map(|found| found.is_some())
            .map_err(failed("looking for a batch"))
    }

    fn is_full(&self) -> bool {
        self.is_full
    }

    fn release_reserve(&mut self) {
        if let Err(error) = self.reserve.release() {
            tracing::error!(%error, "the room that is kept for revokes could not be given up");
        }
    }

    fn retake_reserve(&mut self) -> bool {
        self.release_reserve();
        // A batch that did not fit has left its pages in the write-ahead log, which never shrinks by itself. What is
        // kept in it has to go to the database first, and takes room there.
        let shrunk = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        let taken = self.reserve.retake();
        tracing::debug!(?shrunk, ?taken, "looked for room");
        self.is_full = taken.is_err();
        !self.is_full
    }

    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        Ok(Box::new(SqliteReader(Mutex::new(connect(&self.path)?))))
    }

    fn name(&self) -> &'static str {
        "sqlite"
    }
}

impl Sqlite {
    /// An error of a turn. Whether the disk is full is not always in it: a quota, or the index of the write-ahead log
    /// that cannot grow, is a plain I/O error.
    fn noted(&mut self, doing: &str, error: rusqlite::Error) -> StoreError {
        self.is_full |= match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => true,
            Some(rusqlite::ErrorCode::SystemIoFailure) => self.reserve.is_all_there_is(),
            _ => false,
        };
        StoreError::new(format!("{doing} {}", self.path.display()), error)
    }

    fn write(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        let moved = self
            .connection
            .prepare_cached("UPDATE head SET size = ?, root = ?, snapshot = ? WHERE size = ?")?
            .execute(params![
                signed(batch.head.size),
                batch.head.root.0.as_slice(),
                signed(batch.head.snapshot),
                signed(batch.after)
            ])?;
        if moved != 1 {
            return Err(rusqlite::Error::QueryReturnedNoRows);
        }
        let mut insert = self.connection.prepare_cached("INSERT INTO log (seq, batch, body) VALUES (?, ?, ?)")?;
        for (seq, body) in (batch.after + 1..).zip(&batch.entries) {
            insert.execute(params![signed(seq), batch.id.as_slice(), body])?;
        }
        for (digest, body) in &batch.blobs {
            self.connection
                .prepare_cached("INSERT OR IGNORE INTO blob (digest, body) VALUES (?, ?)")?
                .execute(params![digest.0.as_slice(), body])?;
        }
        if let Some(digest) = &batch.forget {
            self.connection
                .prepare_cached("DELETE FROM blob WHERE digest = ?")?
                .execute(params![digest.0.as_slice()])?;
        }
        Ok(())
    }
}

impl Reader for SqliteReader {
    fn entries(&self, after: u64, limit: u32) -> Result<Vec<Vec<u8>>, StoreError> {
        entries(&self.0.lock().unwrap_or_else(PoisonError::into_inner), after, limit)
    }

    fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let body: Option<Vec<u8>> = connection
            .query_row("SELECT body FROM blob WHERE digest = ?", params![digest.0.as_slice()], |row| row.get(0))
            .optional()
            .map_err(failed("reading a blob"))?;
        match body {
            Some(body) if Digest::of(&body) != digest => {
                Err(StoreError::new(format!("reading blob {digest}"), "its bytes are damaged"))
            }
            body => Ok(body),
        }
    }
}

fn entries(connection: &Connection, after: u64, limit: u32) -> Result<Vec<Vec<u8>>, StoreError> {
    let read = || -> rusqlite::Result<Vec<(i64, Vec<u8>)>> {
        let mut statement =
            connection.prepare_cached("SELECT seq, body FROM log WHERE seq > ? ORDER BY seq LIMIT ?")?;
        statement.query_map(params![signed(after), limit], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    let rows = read().map_err(failed("reading the log"))?;
    match rows.iter().zip(after.saturating_add(1)..).find(|((seq, _), expected)| *seq != signed(*expected)) {
        Some((_, expected)) => Err(StoreError::new("reading the log", format!("entry {expected} is missing"))),
        None => Ok(rows.into_iter().map(|(_, body)| body).collect()),
    }
}

fn signed(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

fn extended(error: &rusqlite::Error) -> Option<i32> {
    match error {
        rusqlite::Error::SqliteFailure(code, _) => Some(code.extended_code),
        _ => None,
    }
}

fn failed<E: std::fmt::Display>(doing: impl Into<String>) -> impl FnOnce(E) -> StoreError {
    let doing = doing.into();
    move |error| StoreError::new(doing, error)
}
