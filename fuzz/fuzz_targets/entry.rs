//! Log entries: what is decoded encodes to the very bytes it came from.
#![no_main]

use belay::wire::{decode, encode};
use belay_fuzz::is_one_line;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match decode(bytes) {
        Ok(entry) => {
            assert_eq!(encode(&entry), bytes);
            assert!(belay::domain::event::Body::KINDS.contains(&entry.body.kind()));
        }
        Err(error) => is_one_line(&error.to_string()),
    }
});
