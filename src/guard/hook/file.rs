//! From the file that a tool of an agent's own names to a resource.
//!
//! An agent makes more of a path than its text: it takes away white space around it, and `~` for a home. What could be
//! another file to it than it is here is refused.

use super::wrong;
use crate::client::Refusal;
use crate::domain::error::Error;
use crate::domain::scope::{Args, Value};

/// `file/` and the parts of an absolute path. What a part of a resource cannot hold is written as `=` and two
/// hexadecimal digits, so that no two files have one name. Links are not followed.
///
/// # Errors
/// The member is no string, or the file it names could be another one to who reads it.
pub(super) fn resource(args: &Args, member: &str, cwd: &str) -> Result<String, Refusal> {
    let path = match args.get(member) {
        None | Some(Value::Null) => cwd.to_owned(),
        Some(Value::Text(path)) => path.clone(),
        Some(_) => return Err(wrong("tool_input", "a path is a string")),
    };
    let wrong = |why: &str| Refusal::from(Error::malformed("path", &path, why));
    if path.starts_with('~') {
        return Err(wrong("name the file itself, without `~`"));
    }
    if path.trim() != path || path.contains(|c: char| c.is_control() || c == '\u{feff}') {
        return Err(wrong("no white space is before or behind it, and no control character within"));
    }
    let whole = match path.starts_with('/') {
        true => path.clone(),
        false => format!("{}/{}", cwd.trim_end_matches('/'), path.trim_start_matches("./")),
    };
    let Some(rest) = whole.strip_prefix('/') else { return Err(wrong("expected an absolute path, or a cwd")) };
    let parts = rest.trim_end_matches('/').split('/').map(|part| match part {
        "." | ".." => Err(wrong("name the file itself, without `.` and `..`")),
        "" if !rest.trim_end_matches('/').is_empty() => Err(wrong("a part of it is empty")),
        part => Ok(escaped(part)),
    });
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    Ok(format!("file/{}", parts.join("/")).trim_end_matches('/').to_owned())
}

/// A pattern of names is looked for below the folder that is decided on. One that leads out of it names another.
///
/// # Errors
/// It is no string, or leads elsewhere.
pub(super) fn pattern_below(args: &Args, member: &str) -> Result<(), Refusal> {
    let pattern = match args.get(member) {
        None => return Ok(()),
        Some(Value::Text(pattern)) => pattern,
        Some(_) => return Err(wrong("tool_input", "a pattern is a string")),
    };
    let leads_out = pattern.trim_start().starts_with(['/', '~', '\\', '{'])
        || pattern.split(['/', '\\', '{', '}', ',']).any(|part| part.trim() == "..");
    match leads_out {
        true => {
            Err(Error::malformed("pattern", pattern, "name the folder in `path`, and what is below it here").into())
        }
        false => Ok(()),
    }
}

fn escaped(part: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-:@+,".contains(&byte);
    part.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("={byte:02X}") }).collect()
}
