//! Every token that was handed out is checked as a service would: offline, with the published keys.

use std::collections::HashSet;

use belay::domain::digest::Digest;
use belay::domain::time::Timestamp;
use belay::verifier::Keys;

use super::load::SCOPE;

/// A token as it was answered, and the grant that it was asked for.
pub struct Answered {
    pub id: String,
    pub token: String,
    pub grant: String,
}

/// Checks all of them, on two threads, and that no two are the same. Returns how many there were.
pub fn check(verifier: &Keys, certificate: &[u8], answered: &[Answered], seen: &mut HashSet<String>) -> usize {
    let thumbprint = Digest::of(certificate);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = Timestamp::from_millis(i64::try_from(now.as_millis()).unwrap());
    std::thread::scope(|scope| {
        for part in answered.chunks(answered.len().div_ceil(2).max(1)) {
            scope.spawn(move || part.iter().for_each(|one| is_what_was_asked_for(verifier, &thumbprint, one, now)));
        }
    });
    for one in answered {
        assert!(seen.insert(one.id.clone()), "token {} was issued twice", one.id);
    }
    answered.len()
}

fn is_what_was_asked_for(verifier: &Keys, thumbprint: &Digest, answered: &Answered, now: Timestamp) {
    let claims = verifier.check(&answered.token, Some(&verifier.issuer), Some(thumbprint), now).unwrap();
    assert_eq!((claims.id.to_string(), claims.grant.to_string()), (answered.id.clone(), answered.grant.clone()));
    assert_eq!(claims.scopes.iter().map(ToString::to_string).collect::<Vec<_>>(), [SCOPE]);
    assert_eq!((claims.chain.len(), claims.chain[0].agent.as_str()), (1, "bench"));
    assert!(claims.seq > 0 && claims.expires_at > now);
}
