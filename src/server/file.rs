//! Small files that an administrator wrote.

use std::fs::Metadata;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// The largest file that is read.
const LARGEST: u64 = 1 << 20;

/// The content of a file, which may be reached by a symbolic link, and what the very file that was read is like.
///
/// # Errors
/// It is missing, not a regular file, not readable, or larger than 1 MiB: why, to follow its name.
pub(super) fn read(path: &Path) -> Result<(Zeroizing<Vec<u8>>, Metadata), String> {
    // Not blocking, so that a pipe in the place of the file does not hold up the start.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = std::fs::File::options().read(true).custom_flags(flags).open(path);
    let mut file = file.map_err(|error| why(&error))?;
    let about = file.metadata().map_err(|error| why(&error))?;
    if !about.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.by_ref().take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| why(&error))?;
    if bytes.len() as u64 > LARGEST {
        return Err("it is larger than 1 MiB".to_owned());
    }
    Ok((bytes, about))
}

/// A path on one line.
pub(super) fn shown(path: &Path) -> String {
    path.to_string_lossy()
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] })
        .collect()
}

fn why(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
        _ => format!("it cannot be read: {error}"),
    }
}
