//! The data directory: whether one is there, whose it is, and whether `belay init` has finished with it.

use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use super::file::shown;
use crate::domain::error::{Code, Error};

const LEDGER: &str = "ledger.db";
const MASTER_KEY: &str = "master.key";
/// Lies beside the ledger while its first operator has no identity yet.
const UNFINISHED: &str = "init.unfinished";

/// What is in a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing of a broker's, or no directory.
    Empty,
    /// A ledger without a master key: an init that hardly began, or a broker's that lost its key.
    Keyless,
    /// An init that did not come to its end.
    Unfinished,
    /// A broker's.
    Made,
}

/// Looks at the data directory of a production broker, and changes nothing.
///
/// # Errors
/// It is not a directory, another user's, or open to others; or its ledger or master key is not in order.
pub fn state(path: &Path) -> Result<State, Error> {
    let about = match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => return Ok(State::Empty),
        about => about.map_err(|error| refused(path, &error.to_string()))?,
    };
    if !about.is_dir() {
        return Err(refused(path, "it is not a directory"));
    }
    private(path, &about)?;
    let key = path.join(MASTER_KEY);
    match std::fs::symlink_metadata(&key) {
        Ok(about) if !about.is_file() => {
            return Err(refused(path, "`master.key` in it is not a regular file; name the file itself"));
        }
        Ok(about) => private(&key, &about)?,
        Err(_) if !path.join(LEDGER).exists() => return Ok(State::Empty),
        Err(_) if path.join(UNFINISHED).exists() => return Ok(State::Unfinished),
        Err(_) => return Ok(State::Keyless),
    }
    if !path.join(LEDGER).exists() {
        return Err(refused(
            path,
            "`master.key` is in it and `ledger.db` is not: bring the ledger back, or remove the key to begin anew",
        ));
    }
    Ok(if path.join(UNFINISHED).exists() { State::Unfinished } else { State::Made })
}

/// The directory for a broker to start in.
///
/// # Errors
/// As [`state`]; or `belay init` has not made it.
pub(super) fn made(path: &Path) -> Result<(), Error> {
    match state(path)? {
        // Without its key the ledger does not open, and says so.
        State::Made | State::Keyless => Ok(()),
        State::Empty => Err(not_made(path)),
        State::Unfinished => Err(Error::new(
            Code::Invalid,
            "init_unfinished",
            format!("`data`: init was interrupted in {}; run `belay init --config FILE` again", shown(path)),
        )
        .on("data")),
    }
}

/// The refusal to begin a ledger that has no operator.
pub(super) fn not_made(path: &Path) -> Error {
    let message = format!("`data`: there is no broker in {}; make one with `belay init --config FILE`", shown(path));
    Error::new(Code::Invalid, "not_initialised", message).on("data")
}

/// Notes, durably, that an init has begun.
pub(super) fn begin(path: &Path) -> Result<(), Error> {
    let failed = |error: std::io::Error| refused(path, &error.to_string());
    std::fs::File::create(path.join(UNFINISHED)).and_then(|file| file.sync_all()).map_err(failed)?;
    sync(path).map_err(failed)
}

/// Notes, durably, that it has come to its end.
pub(super) fn finish(path: &Path) -> Result<(), Error> {
    let removed = std::fs::remove_file(path.join(UNFINISHED)).and_then(|()| sync(path));
    removed.map_err(|error| refused(path, &error.to_string()))
}

/// The data directory: made for its owner alone. What is in it has mode 0600; nobody else may put files there.
pub(super) fn make(path: &Path) -> Result<(), Error> {
    make_durably(path).map_err(|error| refused(path, &error.to_string()))?;
    let mode = std::fs::metadata(path).map_err(|error| refused(path, &error.to_string()))?.permissions().mode();
    if mode & 0o022 != 0 {
        let message = format!(
            "data directory {0} has mode {1:o}; others could put files there: chmod 700 {0}",
            shown(path),
            mode & 0o777
        );
        return Err(Error::new(Code::Invalid, "data_mode", message));
    }
    Ok(())
}

/// A directory that is not on disk takes all that is in it along when the power fails.
fn make_durably(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_durably(parent)?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    sync(parent)
}

fn sync(directory: &Path) -> std::io::Result<()> {
    std::fs::File::open(directory)?.sync_all()
}

/// Nobody else's, and open to nobody else. A file that root made in it would stop the broker's own user later.
fn private(path: &Path, about: &std::fs::Metadata) -> Result<(), Error> {
    let (owner, user) = (about.uid(), rustix::process::geteuid().as_raw());
    if owner != user {
        let message = format!(
            "`data`: {} is of user {owner}, and this is user {user}; run it as its owner, or change the owner",
            shown(path)
        );
        return Err(Error::new(Code::Invalid, "data_owner", message).on("data"));
    }
    let mode = about.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let wanted = if about.is_dir() { "700" } else { "600" };
    let message =
        format!("`data`: {0} has mode {mode:04o}, which lets others at its secrets: chmod {wanted} {0}", shown(path));
    Err(Error::new(Code::Invalid, "data_mode", message).on("data"))
}

fn refused(path: &Path, why: &str) -> Error {
    Error::new(Code::Invalid, "data", format!("data directory {}: {why}", shown(path))).on("data")
}
