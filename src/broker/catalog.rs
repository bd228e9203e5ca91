//! The catalog file: TOML, as operators write it.

use std::sync::Arc;

use super::{Asked, Broker};
use crate::domain::applied::Applied;
use crate::domain::catalog::{Catalog, Change, Draft};
use crate::domain::decide::ApplyCatalog;
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};

/// Bytes of a catalog file.
const LARGEST: usize = 64 << 20;

/// Reads a catalog file.
///
/// # Errors
/// It is too large, not TOML, has a key that catalogs do not have or a value of another kind (with the line), or an
/// entry that is wrong (with its value).
pub fn parse(text: &str) -> Result<Catalog, Error> {
    if text.len() > LARGEST {
        return Err(Error::malformed("catalog", &format!("{} bytes", text.len()), "it has at most 67108864"));
    }
    let draft: Draft = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        // The parser quotes what it met, whatever that was.
        let why: String = error.message().lines().collect::<Vec<_>>().join(", ");
        let why: String = why.chars().take(256).flat_map(char::escape_debug).collect();
        Error::malformed("catalog", &format!("line {line}"), &why)
    })?;
    Catalog::build(draft)
}

/// A catalog that was read, and how it differs from the one in force.
pub struct Applying {
    /// The version that the changes are against.
    pub over: u64,
    /// What would change, sorted.
    pub changes: Vec<Change>,
    catalog: Arc<Catalog>,
    text: String,
}

/// The catalog in force.
pub struct CatalogText {
    /// Its version and digest.
    pub applied: Applied<Catalog>,
    /// Its text, where it was asked for.
    pub text: String,
}

impl Broker {
    /// Reads a catalog file and holds it against the catalog in force. Takes seconds for the largest: not for a thread
    /// that others wait for.
    ///
    /// # Errors
    /// As [`parse`].
    pub fn read_catalog(&self, text: String) -> Result<Applying, Error> {
        let catalog = Arc::new(parse(&text)?);
        let before = self.ledger().view(|view| view.applied_catalog().cloned());
        let (over, before) = before.map_or((0, None), |before| (before.version, before.body));
        let changes = before.unwrap_or_default().diff(&catalog);
        Ok(Applying { over, changes, catalog, text })
    }

    /// Puts a catalog that was read in force, if its changes still are what they were; or only says what would come of
    /// it. The same bytes once more are no new version.
    ///
    /// # Errors
    /// The caller may not, or the catalog in force is another than the one it was held against, or than `over`.
    pub async fn apply_catalog(
        &self,
        asked: &Asked,
        applying: Applying,
        over: Option<u64>,
        dry_run: bool,
    ) -> Result<Applied<Catalog>, Error> {
        let Applying { over: held_against, catalog, text, .. } = applying;
        let digest = Digest::of(text.as_bytes());
        let command = ApplyCatalog { catalog, digest, over: Some(over.unwrap_or(held_against)) };
        match dry_run {
            true => self.peek(asked, &command),
            false => self.submit_with(asked, command, vec![(digest, text.into_bytes())]).await,
        }
    }

    /// The catalog in force; none before one was applied.
    ///
    /// # Errors
    /// Its text is wanted and cannot be read.
    pub fn catalog(&self, with_text: bool) -> Result<Option<CatalogText>, Error> {
        let Some(applied) = self.ledger().view(|view| view.applied_catalog().cloned()) else { return Ok(None) };
        let text = if with_text { self.ledger().blob(applied.digest)? } else { Vec::new() };
        let text = String::from_utf8(text)
            .map_err(|_| Error::new(Code::Internal, "catalog_unread", "the catalog in force is not text"))?;
        Ok(Some(CatalogText { applied, text }))
    }
}
