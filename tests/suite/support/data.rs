//! What a broker's data directory holds: its log, its blobs and, with the master key, its keys.

use std::path::Path;

use belay::domain::event::{Body, Entry, Origin};
use belay::domain::key::{Key, Purpose};
use belay::wire;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rusqlite::{Connection, OpenFlags};

/// A data directory, read from outside. Whoever has it and its master key is the broker: tests use it to
/// make what only the broker could make, and show that even this is refused.
pub struct Data {
    pub log: Vec<Entry>,
    /// Everything in the database that is bytes or text, table by table.
    pub cells: Vec<Vec<u8>>,
    blobs: Vec<(Vec<u8>, Vec<u8>)>,
    master: Vec<u8>,
}

impl Data {
    /// Reads the directory of a broker, which may be running.
    pub fn read(directory: &Path) -> Self {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let database = Connection::open_with_flags(directory.join("ledger.db"), flags).unwrap();
        let rows = |query: &str| {
            let mut statement = database.prepare(query).unwrap();
            let columns = statement.column_count();
            let row = |row: &rusqlite::Row<'_>| {
                let cell = |at| match row.get_ref(at)? {
                    rusqlite::types::ValueRef::Blob(bytes) | rusqlite::types::ValueRef::Text(bytes) => {
                        Ok(bytes.to_vec())
                    }
                    _ => Ok(Vec::new()),
                };
                (0..columns).map(cell).collect::<rusqlite::Result<Vec<Vec<u8>>>>()
            };
            let rows = statement.query_map([], row).unwrap();
            rows.collect::<rusqlite::Result<Vec<_>>>().unwrap()
        };
        let tables = rows("SELECT name FROM sqlite_master WHERE type = 'table'");
        let tables: Vec<String> = tables.into_iter().map(|mut row| String::from_utf8(row.remove(0)).unwrap()).collect();
        let log = rows("SELECT body FROM log ORDER BY seq");
        let blobs = rows("SELECT digest, body FROM blob");
        Self {
            log: log.iter().map(|row| wire::decode(&row[0]).unwrap()).collect(),
            cells: tables.iter().flat_map(|table| rows(&format!("SELECT * FROM {table}"))).flatten().collect(),
            blobs: blobs.into_iter().map(|mut row| (row.remove(0), row.remove(0))).collect(),
            master: std::fs::read(directory.join("master.key")).unwrap(),
        }
    }

    pub fn master(&self) -> &[u8] {
        &self.master
    }

    pub fn origin(&self) -> &Origin {
        let origin = self.log.iter().find_map(|entry| match &entry.body {
            Body::Origin(origin) => Some(origin),
            _ => None,
        });
        origin.unwrap()
    }

    /// The record of the key for `purpose`, and its private half (PKCS #8), unsealed as the broker does it.
    pub fn key(&self, purpose: Purpose) -> (Key, Vec<u8>) {
        let added = |entry: &Entry| match &entry.body {
            Body::KeyAdded(key) if key.purpose == purpose => Some(key.clone()),
            _ => None,
        };
        let key = self.log.iter().find_map(added).unwrap();
        let (_, blob) = self.blobs.iter().find(|(digest, _)| digest[..] == key.sealed.0).unwrap();
        let pkcs8 = self.unseal(&key.kid, blob);
        (key, pkcs8)
    }

    fn unseal(&self, kid: &str, blob: &[u8]) -> Vec<u8> {
        let mut bound = Vec::new();
        for part in [kid, self.origin().trust_domain.as_str(), &self.origin().epoch] {
            bound.extend((part.len() as u64).to_be_bytes());
            bound.extend(part.as_bytes());
        }
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.master).unwrap());
        let (nonce, sealed) = blob.split_first_chunk().unwrap();
        let mut sealed = sealed.to_vec();
        cipher.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(bound), &mut sealed).unwrap().to_vec()
    }
}

/// The private number inside a P-256 key (PKCS #8), 32 bytes.
pub fn scalar(pkcs8: &[u8]) -> &[u8] {
    // ECPrivateKey (RFC 5915): version 1, then the octet string.
    let start = b"\x02\x01\x01\x04\x20";
    let at = pkcs8.windows(start.len()).position(|window| window == start).unwrap() + start.len();
    &pkcs8[at..at + 32]
}
