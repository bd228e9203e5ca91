//! The catalog file: TOML, as operators write it.

use crate::domain::catalog::{Catalog, Draft};
use crate::domain::error::Error;

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
