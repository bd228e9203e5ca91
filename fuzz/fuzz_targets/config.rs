//! The configuration: nothing unknown is taken, and what is wrong is said in one line.
#![no_main]

use belay::server::Config;
use belay_fuzz::is_fit_to_print;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Config::parse(text) {
        Ok(config) => {
            assert_eq!(Config::parse(text).ok().as_ref(), Some(&config));
            assert!(Config::parse(&format!("not_a_key = 1\n{text}")).is_err(), "an unknown key is taken");
            if let Err(error) = config.issuer() {
                is_fit_to_print(&error);
            }
        }
        Err(error) => is_fit_to_print(&error),
    }
});
