//! Which invocation a call of the agent's was, from before it to after it: a file for each, that nobody else reads.

use std::fs::DirBuilder;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::super::failed;
use crate::client::Refusal;
use crate::domain::digest::Digest;

/// Calls that are remembered. Of some, agents never say what became.
const MOST: usize = 10_000;

/// Remembers it. A call without a name is not told of again.
pub(super) fn keep(identity: &Path, id: &str, invocation: &str) -> Result<(), Refusal> {
    if id.is_empty() {
        return Ok(());
    }
    let wrong = |error: std::io::Error| failed("not_kept", format!("cannot remember which call it is: {error}"));
    let file = file(identity, id);
    let folder = file.parent().unwrap_or(identity);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(wrong)?;
    if std::fs::read_dir(folder).map_err(wrong)?.count() >= MOST {
        std::fs::remove_dir_all(folder).and_then(|()| DirBuilder::new().mode(0o700).create(folder)).map_err(wrong)?;
    }
    let _ = std::fs::remove_file(&file);
    let mut open = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file).map_err(wrong)?;
    open.write_all(invocation.as_bytes()).map_err(wrong)
}

/// What was remembered, once.
pub(super) fn taken(identity: &Path, id: &str) -> Option<String> {
    let file = file(identity, id);
    let invocation = std::fs::read_to_string(&file).ok().filter(|text| text.starts_with("inv_"))?;
    std::fs::remove_file(&file).ok()?;
    Some(invocation)
}

/// Beside the identity: it is what the calls are made with.
fn file(identity: &Path, id: &str) -> PathBuf {
    identity.join("calls").join(Digest::of(id.as_bytes()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_remembered_once() {
        let dir = tempfile::tempdir().unwrap();
        keep(dir.path(), "../../toolu_1", "inv_1").unwrap();
        keep(dir.path(), "", "inv_2").unwrap();
        assert_eq!(taken(dir.path(), "toolu_2"), None);
        assert_eq!(taken(dir.path(), "../../toolu_1").as_deref(), Some("inv_1"));
        assert_eq!(taken(dir.path(), "../../toolu_1"), None);
        let folder = dir.path().join("calls");
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&folder.metadata().unwrap().permissions()) & 0o777, 0o700);
    }
}
