//! The identity providers of a configuration, with the keys in their files.

use std::os::unix::fs::MetadataExt as _;

use super::{Config, SubjectIssuer, file};
use crate::attest::subject::{Issuer, KeySet};
use crate::domain::error::{Code, Error};

/// Everybody whom `config` names, with the keys that are in the files now.
///
/// # Errors
/// A file cannot be read, everybody may write it, or it is no JWK Set with a public key to use.
pub(super) fn issuers(config: &Config) -> Result<Vec<Issuer>, Error> {
    config.subject_issuer.iter().map(issuer).collect()
}

fn issuer(known: &SubjectIssuer) -> Result<Issuer, Error> {
    let SubjectIssuer { issuer, audience, jwks, claim, prefix } = known;
    let refused = |why: &str| {
        let message = format!("`jwks` of a `[[subject_issuer]]`, {}: {why}", file::shown(jwks));
        Error::new(Code::Invalid, "subject_issuer", message).on("subject_issuer")
    };
    let (bytes, about) = file::read(jwks).map_err(|why| refused(&why))?;
    let mode = about.mode() & 0o7777;
    if mode & 0o002 != 0 {
        // Whoever writes a key into it signs for any human.
        return Err(refused(&format!("its mode {mode:04o} lets everybody write it; run `chmod o-w` on it")));
    }
    let keys = KeySet::read(&bytes).map_err(refused)?;
    let [issuer, audience, claim] = [issuer, audience, claim].map(ToString::to_string);
    Ok(Issuer { issuer, audience, claim, prefix: prefix.clone(), keys })
}
