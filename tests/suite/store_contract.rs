//! The store's contract, as one suite for any backend: what is kept, in which order, and what is refused.

use belay::domain::digest::Digest;
use belay::merkle::{Frontier, leaf_hash};
use belay::store::{Batch, Head, Store};

use crate::support::backend::{Backend, over_every_backend};

over_every_backend![
    an_empty_store_has_an_empty_head,
    what_is_committed_is_there_after_opening_again,
    what_was_missed_comes_in_order_and_within_the_limit,
    a_rollback_keeps_nothing,
    a_turn_that_its_process_did_not_end_keeps_nothing,
    an_append_at_another_size_is_refused_and_changes_nothing,
    a_batch_is_found_by_its_name_behind_where_it_was_appended,
    blobs_come_with_their_batch_and_go_when_forgotten,
    a_reader_sees_only_what_is_committed,
    a_damaged_blob_is_named,
    nobody_else_appends_during_a_turn,
];

/// A batch of these entries behind a head.
fn batch(head: Head, name: u8, entries: &[&str]) -> Batch {
    let size = head.size + entries.len() as u64;
    let mut frontier = Frontier::default();
    frontier.push(leaf_hash(&[name]));
    Batch {
        id: [name; 16],
        after: head.size,
        entries: entries.iter().map(|entry| entry.as_bytes().to_vec()).collect(),
        blobs: Vec::new(),
        forget: None,
        head: Head { size, root: frontier.root(), snapshot: head.snapshot },
    }
}

/// A whole turn.
fn turn(store: &mut dyn Store, name: u8, entries: &[&str]) -> Head {
    let head = store.begin().unwrap();
    let batch = batch(head, name, entries);
    store.append(&batch).unwrap();
    store.commit().unwrap();
    batch.head
}

fn head(store: &mut dyn Store) -> Head {
    let head = store.begin().unwrap();
    store.rollback();
    head
}

fn log(store: &dyn Store) -> Vec<String> {
    let entries = store.reader().unwrap().entries(0, 1000).unwrap();
    entries.into_iter().map(|entry| String::from_utf8(entry).unwrap()).collect()
}

fn an_empty_store_has_an_empty_head(backend: &Backend) {
    let mut store = backend.open();
    let empty = Head { size: 0, root: Frontier::default().root(), snapshot: 0 };
    assert_eq!(store.begin().unwrap(), empty);
    assert!(store.missed(0, 10).unwrap().is_empty());
    assert!(!store.contains([1; 16], 0).unwrap());
    store.rollback();
    assert!(log(&*store).is_empty());
}

fn what_is_committed_is_there_after_opening_again(backend: &Backend) {
    let mut store = backend.open();
    turn(&mut *store, 1, &["a", "b"]);
    let mut last = batch(store.begin().unwrap(), 2, &["c"]);
    last.head.snapshot = 3;
    store.append(&last).unwrap();
    store.commit().unwrap();
    assert_eq!(head(&mut *store), last.head);
    drop(store);
    let mut again = backend.open();
    assert_eq!(head(&mut *again), last.head);
    assert_eq!(log(&*again), ["a", "b", "c"]);
    turn(&mut *again, 3, &["d"]);
    assert_eq!(log(&*again), ["a", "b", "c", "d"]);
}

fn what_was_missed_comes_in_order_and_within_the_limit(backend: &Backend) {
    let mut store = backend.open();
    turn(&mut *store, 1, &["a", "b", "c"]);
    turn(&mut *store, 2, &["d", "e"]);
    store.begin().unwrap();
    let reader = store.reader().unwrap();
    for (after, limit, expected) in [(0, 9, "abcde"), (0, 2, "ab"), (1, 3, "bcd"), (4, 9, "e"), (5, 9, ""), (9, 9, "")]
    {
        assert_eq!(store.missed(after, limit).unwrap().concat(), expected.as_bytes(), "{after} {limit}");
        assert_eq!(reader.entries(after, limit).unwrap().concat(), expected.as_bytes(), "{after} {limit}");
    }
    store.rollback();
}

fn a_rollback_keeps_nothing(backend: &Backend) {
    let mut store = backend.open();
    let before = turn(&mut *store, 1, &["a"]);
    let mut dropped = batch(store.begin().unwrap(), 2, &["b"]);
    dropped.blobs = vec![(Digest::of(b"body"), b"body".to_vec())];
    store.append(&dropped).unwrap();
    store.rollback();
    store.rollback();
    assert_eq!(head(&mut *store), before);
    assert_eq!(store.reader().unwrap().blob(Digest::of(b"body")).unwrap(), None);
    drop(store);
    let mut again = backend.open();
    assert_eq!((head(&mut *again), log(&*again)), (before, vec!["a".to_owned()]));
    turn(&mut *again, 2, &["c"]);
    assert_eq!(log(&*again), ["a", "c"]);
}

fn a_turn_that_its_process_did_not_end_keeps_nothing(backend: &Backend) {
    let mut store = backend.open();
    let before = turn(&mut *store, 1, &["a"]);
    let open = batch(store.begin().unwrap(), 2, &["b"]);
    store.append(&open).unwrap();
    drop(store);
    let mut again = backend.open();
    assert_eq!((head(&mut *again), log(&*again)), (before, vec!["a".to_owned()]));
}

fn an_append_at_another_size_is_refused_and_changes_nothing(backend: &Backend) {
    let mut store = backend.open();
    let before = turn(&mut *store, 1, &["a", "b"]);
    for after in [0, 1, 3] {
        let at = store.begin().unwrap();
        let stale = batch(Head { size: after, ..at }, 2, &["c"]);
        store.append(&stale).unwrap_err();
        store.rollback();
        assert_eq!(head(&mut *store), before, "at {after}");
        assert_eq!(log(&*store), ["a", "b"], "at {after}");
    }
    turn(&mut *store, 2, &["c"]);
    assert_eq!(log(&*store), ["a", "b", "c"]);
}

fn a_batch_is_found_by_its_name_behind_where_it_was_appended(backend: &Backend) {
    let mut store = backend.open();
    turn(&mut *store, 1, &["a", "b"]);
    turn(&mut *store, 2, &["c"]);
    let lost = batch(store.begin().unwrap(), 3, &["d"]);
    store.append(&lost).unwrap();
    store.rollback();
    drop(store);
    let mut again = backend.open();
    again.begin().unwrap();
    for (name, after, expected) in
        [(1, 0, true), (1, 1, true), (1, 2, false), (2, 2, true), (3, 3, false), (3, 0, false)]
    {
        assert_eq!(again.contains([name; 16], after).unwrap(), expected, "batch {name} behind {after}");
    }
    again.rollback();
}

fn blobs_come_with_their_batch_and_go_when_forgotten(backend: &Backend) {
    let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
    let mut store = backend.open();
    let mut first = batch(store.begin().unwrap(), 1, &["a"]);
    first.blobs = vec![(old, b"old".to_vec())];
    store.append(&first).unwrap();
    store.commit().unwrap();
    let mut second = batch(store.begin().unwrap(), 2, &["b"]);
    second.blobs = vec![(new, b"new".to_vec()), (new, b"new".to_vec())];
    second.forget = Some(old);
    let reader = store.reader().unwrap();
    store.append(&second).unwrap();
    assert_eq!(reader.blob(old).unwrap(), Some(b"old".to_vec()));
    store.commit().unwrap();
    assert_eq!(reader.blob(old).unwrap(), None);
    drop((reader, store));
    let reader = backend.open().reader().unwrap();
    assert_eq!((reader.blob(new).unwrap(), reader.blob(old).unwrap()), (Some(b"new".to_vec()), None));
}

fn a_reader_sees_only_what_is_committed(backend: &Backend) {
    let mut store = backend.open();
    turn(&mut *store, 1, &["a"]);
    let reader = store.reader().unwrap();
    let mut open = batch(store.begin().unwrap(), 2, &["b"]);
    open.blobs = vec![(Digest::of(b"body"), b"body".to_vec())];
    store.append(&open).unwrap();
    assert_eq!(reader.entries(0, 9).unwrap().len(), 1);
    assert_eq!(reader.blob(Digest::of(b"body")).unwrap(), None);
    store.commit().unwrap();
    assert_eq!(reader.entries(0, 9).unwrap().len(), 2);
    assert_eq!(reader.blob(Digest::of(b"body")).unwrap(), Some(b"body".to_vec()));
}

fn a_damaged_blob_is_named(backend: &Backend) {
    let (whole, damaged) = (Digest::of(b"whole"), Digest::of(b"as it was"));
    let mut store = backend.open();
    let mut batch = batch(store.begin().unwrap(), 1, &["a"]);
    batch.blobs = vec![(whole, b"whole".to_vec()), (damaged, b"as it is".to_vec())];
    store.append(&batch).unwrap();
    store.commit().unwrap();
    let reader = store.reader().unwrap();
    assert_eq!(reader.blob(whole).unwrap(), Some(b"whole".to_vec()));
    let error = reader.blob(damaged).unwrap_err().to_string();
    assert!(error.contains(&damaged.to_string()) && error.contains("damaged"), "{error}");
}

fn nobody_else_appends_during_a_turn(backend: &Backend) {
    let mut store = backend.open();
    let open = batch(store.begin().unwrap(), 1, &["a"]);
    // A backend may refuse to be opened twice; one that does not lets only one in at a time.
    let second = backend.try_open();
    if let Ok(mut second) = second {
        second.begin().unwrap_err();
        store.append(&open).unwrap();
        store.commit().unwrap();
        assert_eq!(turn(&mut *second, 2, &["b"]).size, 2);
        assert_eq!(log(&*store), ["a", "b"]);
    } else {
        store.append(&open).unwrap();
        store.commit().unwrap();
        drop(store);
        assert_eq!(turn(&mut *backend.open(), 2, &["b"]).size, 2);
    }
}
