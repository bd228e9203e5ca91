//! Join tokens: one text each, and a refusal that tells nothing of it.
#![no_main]

use std::collections::HashSet;
use std::sync::Mutex;

use belay::format::join::JoinToken;
use belay_fuzz::is_fit_to_print;
use libfuzzer_sys::fuzz_target;

/// Any part of the text may be the secret: if the messages are few, none is made of it.
static MESSAGES: Mutex<Option<HashSet<String>>> = Mutex::new(None);
const FEW: usize = 8;

fuzz_target!(|text: &str| {
    match text.parse::<JoinToken>() {
        Ok(token) => {
            assert_eq!(token.reveal(), text);
            assert!(token.addr.starts_with("https://") && token.addr.len() <= 256, "{}", token.addr);
            let shown = format!("{token:?}");
            assert!(!shown.contains(&format!("{:?}", token.secret)) && !shown.contains(text), "{shown}");
        }
        Err(error) => {
            is_fit_to_print(&error);
            let mut known = MESSAGES.lock().expect("a failed assertion ends the process");
            let known = known.get_or_insert_default();
            known.insert(error.message);
            assert!(known.len() <= FEW, "{known:#?}");
        }
    }
});
