//! Certificate requests, in three forms, of which a mutation leaves at least one well formed: as they arrive; from a
//! `[0]` element on, as attributes under a good signature; and anything else as the names that a good request asks for.
#![no_main]

use belay::attest::csr::{ProvenKey, prove};
use belay_fuzz::{is_fit_to_print, key};
use libfuzzer_sys::fuzz_target;

/// How a key begins that may be used: P-256, P-384, Ed25519 (SubjectPublicKeyInfo).
const ALLOWED: [&[u8]; 3] = [
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00\x04",
    b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00\x04",
    b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00",
];

fn is_sound(der: &[u8], proven: &ProvenKey) {
    assert!(der.len() <= 16 * 1024);
    assert!(ALLOWED.iter().any(|start| proven.spki.starts_with(start)), "{:02x?}", proven.spki);
    let holds = |part: &[u8]| der.windows(part.len()).any(|window| window == part);
    assert!(holds(&proven.spki) && proven.asks.iter().all(|asked| asked.is_empty() || holds(asked.as_bytes())));
    for other in [&der[..der.len() - 1], &[der, &[0]].concat()] {
        assert!(prove(other).is_err(), "a byte more or less is no request");
    }
    let mut altered = der.to_vec();
    altered[der.len() - 1] ^= 1;
    assert!(prove(&altered).is_err(), "an altered signature is good");
    if let Err(error) = proven.may_have("spiffe://td.example/agent/ana") {
        is_fit_to_print(&error);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let names: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let (der, asked) = match bytes.first() {
        Some(0x30) => (bytes.to_vec(), None),
        Some(0xa0) => (key::request(bytes), None),
        _ => (key::request(&key::asking(&names)), Some(names)),
    };
    match prove(&der) {
        Ok(proven) => {
            is_sound(&der, &proven);
            if let Some(asked) = asked {
                assert!(proven.asks.iter().map(String::as_bytes).eq(asked), "{:?}", proven.asks);
            }
        }
        Err(error) => {
            assert!(error.reason.starts_with("csr_") && error.field == Some("csr"), "{error:?}");
            is_fit_to_print(&error);
        }
    }
});
