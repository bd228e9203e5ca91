//! `[[subject_issuer]]`: the identity providers whose tokens say on whose behalf a task runs.

use std::path::PathBuf;

use super::read::{Keys, Known};
use crate::domain::error::{Code, Error};
use crate::domain::name::Line;

/// An identity provider, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectIssuer {
    /// `iss` of its tokens, byte for byte.
    pub issuer: Line,
    /// What has to be in their `aud`.
    pub audience: Line,
    /// Its public keys, a JWK Set. Absolute; read again by a reload.
    pub jwks: PathBuf,
    /// The claim that names the human. Default: `sub`.
    pub claim: Line,
    /// What stands before the name. Default: nothing, if there is one issuer; else each has its own, and none begins
    /// another.
    pub prefix: String,
}

/// Every key of a table, and what its value has to be.
pub(super) const KEYS: Known = &[
    ("issuer", "the `iss` of its tokens: one line of at most 256 characters"),
    ("audience", "one text that has to be in the `aud` of its tokens, of at most 256 characters"),
    ("jwks", "the absolute path of a JWK Set"),
    ("claim", "the name of a claim, of at most 256 characters"),
    ("prefix", "at most 64 visible characters that do not begin with a space"),
];

/// Subjects of more would hardly be told apart by their prefixes.
pub(super) const MOST: usize = 16;
const LONGEST_PREFIX: usize = 64;

/// The tables, each read whole.
pub(super) fn read(tables: Vec<Keys<'_>>) -> Result<Vec<SubjectIssuer>, Error> {
    let issuer = |mut keys: Keys<'_>| {
        Ok(SubjectIssuer {
            issuer: keys.needed("issuer", |_| true)?,
            audience: keys.needed("audience", |_| true)?,
            jwks: keys.needed("jwks", |path: &PathBuf| path.is_absolute())?,
            claim: keys.optional("claim", |_| true)?.map_or_else(|| "sub".parse(), Ok)?,
            prefix: keys.optional("prefix", is_prefix)?.unwrap_or_default(),
        })
    };
    tables.into_iter().map(issuer).collect()
}

/// A name may follow it, and both are one line.
fn is_prefix(prefix: &String) -> bool {
    prefix.chars().count() <= LONGEST_PREFIX && format!("{prefix}x").parse::<Line>().is_ok()
}

/// Whether they go together: no token is of two issuers, and no subject of two tokens of different ones.
pub(super) fn agree(issuers: &[SubjectIssuer], own: &str) -> Result<(), Error> {
    let refused = |message: &str| Err(Error::new(Code::Invalid, "configuration", message).on("subject_issuer"));
    for (at, one) in issuers.iter().enumerate() {
        if one.issuer.as_str() == own {
            return refused("the `issuer` of a `[[subject_issuer]]` is the broker's own; its tokens name no human");
        }
        for other in &issuers[at + 1..] {
            if one.issuer == other.issuer {
                return refused("two `[[subject_issuer]]` have one `issuer`; configure each once");
            }
            // An empty prefix begins every other.
            if one.prefix.starts_with(&other.prefix) || other.prefix.starts_with(&one.prefix) {
                return refused(
                    "with more than one `[[subject_issuer]]` each needs a `prefix`, and none may begin another: two \
                     issuers may know one name",
                );
            }
        }
    }
    Ok(())
}
