//! The path and query of a request, read in the one way in which every server reads them.

use std::collections::BTreeMap;

use super::parts::is_name;
use super::shown;

/// Bytes of path and query.
const LONGEST: usize = 8192;

/// What a request asks for.
#[derive(Debug)]
pub(super) struct Target {
    /// The parts of the path, decoded once.
    pub(super) path: Vec<String>,
    /// Whether it ends with a `/`.
    pub(super) slash: bool,
    /// The parameters, decoded.
    pub(super) query: BTreeMap<String, String>,
}

impl Target {
    /// Reads `/path?query`. The error says what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("path and query have more than {LONGEST} bytes"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err("it holds what no path and no query can: write it with percent signs".to_owned());
        }
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let path = path.strip_prefix('/').ok_or("it does not begin with `/`")?;
        let query = parameters(query)?;
        if path.is_empty() {
            return Ok(Self { path: Vec::new(), slash: true, query });
        }
        let (path, slash) = path.strip_suffix('/').map_or((path, false), |path| (path, true));
        let path = path.split('/').map(part).collect::<Result<_, _>>()?;
        Ok(Self { path, slash, query })
    }
}

/// Decoded once, a part is a plain name: whoever decodes it again, or repairs paths, finds nothing to do.
fn part(text: &str) -> Result<String, String> {
    let why = "can be read in more than one way: use letters, digits and `._~-:@+=,`, and no `.`, `..` or empty part";
    decoded(text, false).filter(|part| is_name(part)).ok_or_else(|| format!("its part `{}` {why}", shown(text)))
}

fn parameters(query: &str) -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    // To some servers a `;` is an `&`.
    if query.contains(';') {
        return Err("its query holds a `;`: write it as %3B".to_owned());
    }
    for pair in query.split('&').filter(|_| !query.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let read = |text| decoded(text, true).filter(|text| !text.contains('\0'));
        let (name, value) = match (read(name).filter(|name| !name.is_empty()), read(value)) {
            (Some(name), Some(value)) => (name, value),
            _ => return Err(format!("its query has no name and value at `{}`", shown(name))),
        };
        let said = shown(&name);
        if found.insert(name, value).is_some() {
            return Err(format!("its query has `{said}` twice"));
        }
    }
    Ok(found)
}

/// Decodes once; none if a percent sign is not followed by two digits, or what comes out is no text.
fn decoded(text: &str, plus: bool) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => digit(bytes.next()?)? << 4 | digit(bytes.next()?)?,
            b'+' if plus => b' ',
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}
