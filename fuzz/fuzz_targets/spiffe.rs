//! SPIFFE IDs and the names within: no text has a twin.
#![no_main]

use belay::domain::name::{Audience, Line, Name, TrustDomain};
use belay::format::spiffe::SpiffeId;
use belay_fuzz::is_fit_to_print;
use libfuzzer_sys::fuzz_target;

macro_rules! reads_back {
    ($text:expr, $($kind:ident),*) => {$(
        match $text.parse::<$kind>() {
            Ok(value) => assert_eq!(value.to_string(), $text),
            Err(error) => is_fit_to_print(&error),
        }
    )*};
}

fuzz_target!(|text: &str| {
    reads_back!(text, SpiffeId, Name, Line, Audience, TrustDomain);
    let Ok(id) = text.parse::<SpiffeId>() else { return };
    assert!(text.is_ascii() && text.len() <= 2048);
    if let Some((kind, name)) = id.party() {
        assert_eq!(SpiffeId::of(id.trust_domain(), kind, &name), id);
    }
});
