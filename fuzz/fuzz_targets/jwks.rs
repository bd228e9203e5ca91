//! Key sets, as a verifier fetches them: no private key, no key for another use, no key id twice.
#![no_main]

use std::collections::HashSet;

use belay::format::bundle::{jwks, keys_of};
use belay_fuzz::is_fit_to_print;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match keys_of(text) {
        Ok(keys) => {
            assert!(!keys.is_empty() && keys.iter().all(|(kid, point)| !kid.is_empty() && point.len() == 65));
            let ids: HashSet<&str> = keys.iter().map(|(kid, _)| kid.as_str()).collect();
            assert_eq!(ids.len(), keys.len(), "a key id is given twice");
            let written = jwks(keys.iter().map(|(kid, point)| (kid.as_str(), &point[..]))).to_string();
            assert_eq!(keys_of(&written).expect("what was read can be written and read again"), keys);
        }
        Err(error) => is_fit_to_print(&error),
    }
});
