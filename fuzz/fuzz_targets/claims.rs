//! The claims behind a good signature: a broken or hostile issuer under our key still cannot widen or confuse.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use belay::domain::digest::Digest;
use belay::domain::grant::Token;
use belay::domain::name::TrustDomain;
use belay::format::jwt::{self, Claims};
use belay::format::spiffe::SpiffeId;
use belay_fuzz::{is_fit_to_print, key};
use libfuzzer_sys::fuzz_target;

/// Signs `input`, and reads it as one who trusts the key.
fn read(input: &str) -> Result<Claims, belay::domain::error::Error> {
    jwt::parse(&key::sign(input))?.verify(&key::point())
}

fuzz_target!(|text: &str| {
    let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"at+jwt","alg":"ES256","kid":"k1"}"#);
    let claims = match read(&format!("{header}.{}", URL_SAFE_NO_PAD.encode(text))) {
        Ok(claims) => claims,
        Err(error) => return is_fit_to_print(&error),
    };
    assert!(claims.chain.last().is_some_and(|last| last.grant == claims.grant) && claims.chain.len() <= 16);
    let trust_domain: TrustDomain = match claims.client_id.parse::<SpiffeId>() {
        Ok(id) => id.trust_domain().clone(),
        Err(error) => panic!("client_id: {error}"),
    };
    // Recorded and signed again, it says the same.
    let token = Token {
        id: claims.id,
        issuer: claims.issuer.clone(),
        subject: claims.subject.clone(),
        audience: claims.audience.clone(),
        issued_at: claims.issued_at,
        expires_at: claims.expires_at,
        grant: claims.grant,
        task: claims.task,
        scopes: claims.scopes.clone(),
        seq: claims.seq,
        epoch: claims.epoch.clone(),
        chain: claims.chain.clone(),
        confirmation: claims.confirmation,
        key_hash: Digest([0; 32]),
        kid: "k1".to_owned(),
        status: claims.status,
    };
    let again = read(&jwt::signing_input(&token, &trust_domain)).expect("what was read can be written and read again");
    assert_eq!(Claims { json: claims.json.clone(), ..again }, claims);
});
