//! Files that operators hand in: read whole, and only if they are files of a size that will do.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::output::visible;
use crate::client::Refusal;
use crate::domain::error::{Code, Error};

/// Files of one policy set.
const MOST: usize = 10_000;

/// The text of a file of at most `most` bytes.
///
/// # Errors
/// It is not there, not a file, not readable, too long, or not text.
pub fn text(path: &Path, most: usize) -> Result<String, Refusal> {
    let (file, length) = open(path)?;
    fits(path, length, most)?;
    let mut text = String::new();
    // It may have grown since.
    let read = file.take(most as u64 + 1).read_to_string(&mut text);
    let read = read.map_err(|error| refused(path, &format!("cannot be read: {error}")))?;
    fits(path, read as u64, most)?;
    Ok(text)
}

/// Names and texts of policy files: of these, and of every `*.cedar` in those that are directories, `most` bytes
/// together at most. How long they are is asked of all before any is read.
///
/// # Errors
/// As [`text`], of any of them; or there is none.
pub fn policies(paths: &[PathBuf], most: usize) -> Result<Vec<(String, String)>, Refusal> {
    let mut found = Vec::new();
    for path in paths {
        match std::fs::metadata(path) {
            Ok(there) if there.is_dir() => found.extend(cedar_files(path)?),
            Ok(_) => found.push(path.clone()),
            Err(error) => return Err(refused(path, &format!("cannot be read: {error}"))),
        }
    }
    if found.is_empty() {
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(wrong(format!("there is no *.cedar file in `{}`", names.join("`, `"))));
    }
    if found.len() > MOST {
        return Err(wrong(format!("there are {} policy files; at most {MOST} are read", found.len())));
    }
    let mut length = 0;
    for path in &found {
        length += open(path)?.1;
        fits(path, length, most)?;
    }
    let mut files =
        found.iter().map(|path| Ok((name(path)?, text(path, most)?))).collect::<Result<Vec<_>, Refusal>>()?;
    files.sort_unstable();
    Ok(files)
}

/// Hidden files are left out: editors and mounted volumes leave theirs.
fn cedar_files(directory: &Path) -> Result<Vec<PathBuf>, Refusal> {
    let unread = |error: std::io::Error| refused(directory, &format!("cannot be read: {error}"));
    let entries = std::fs::read_dir(directory).map_err(unread)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(unread)?;
    let hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let mut paths: Vec<PathBuf> =
        paths.into_iter().filter(|path| path.extension().is_some_and(|end| end == "cedar") && !hidden(path)).collect();
    paths.sort_unstable();
    Ok(paths)
}

/// Opens what is a file, or leads to one: a pipe is not waited for.
fn open(path: &Path) -> Result<(File, u64), Refusal> {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| refused(path, &format!("cannot be read: {error}")))?;
    let about = file.metadata().map_err(|error| refused(path, &format!("cannot be read: {error}")))?;
    if about.is_file() { Ok((file, about.len())) } else { Err(refused(path, "is not a file")) }
}

fn fits(path: &Path, length: u64, most: usize) -> Result<(), Refusal> {
    if length <= most as u64 {
        return Ok(());
    }
    Err(refused(path, &format!("comes to {length} bytes; at most {most} are read")))
}

fn name(path: &Path) -> Result<String, Refusal> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(ToOwned::to_owned).ok_or_else(|| refused(path, "has a name that is not text"))
}

fn refused(path: &Path, why: &str) -> Refusal {
    wrong(format!("`{}` {why}", path.display()))
}

fn wrong(message: String) -> Refusal {
    Error::new(Code::Invalid, "file", visible(&message).replace('\n', " ")).on("file").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(result: Result<Vec<(String, String)>, Refusal>) -> String {
        let message = result.unwrap_err().message;
        assert_eq!(message.lines().count(), 1, "{message}");
        message
    }

    #[test]
    fn a_directory_is_its_cedar_files_by_name() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.cedar", "a.cedar", "notes.txt", ".hidden.cedar"] {
            std::fs::write(directory.path().join(name), name).unwrap();
        }
        std::os::unix::fs::symlink(directory.path().join("notes.txt"), directory.path().join("c.cedar")).unwrap();
        let files = policies(&[directory.path().to_owned()], 100).unwrap();
        let names: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!(names, [("a.cedar", "a.cedar"), ("b.cedar", "b.cedar"), ("c.cedar", "notes.txt")]);
        let one = policies(&[directory.path().join("notes.txt")], 100).unwrap();
        assert_eq!(one, [("notes.txt".to_owned(), "notes.txt".to_owned())]);
    }

    #[test]
    fn what_is_no_readable_file_is_said_in_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        assert!(message(policies(&[directory.path().to_owned()], 100)).contains("no *.cedar file"));
        assert!(message(policies(&[at("absent")], 100)).contains("cannot be read"));
        std::os::unix::fs::symlink(at("absent"), at("dangling.cedar")).unwrap();
        assert!(message(policies(&[directory.path().to_owned()], 100)).contains("dangling.cedar` cannot be read"));
        std::fs::remove_file(at("dangling.cedar")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe.cedar"), rustix::fs::Mode::RWXU).unwrap();
        assert!(message(policies(&[directory.path().to_owned()], 100)).contains("pipe.cedar` is not a file"));
        std::fs::remove_file(at("pipe.cedar")).unwrap();
        std::fs::create_dir(at("inner.cedar")).unwrap();
        assert!(message(policies(&[directory.path().to_owned()], 100)).contains("inner.cedar` is not a file"));
        std::fs::write(at("bytes"), [0xff]).unwrap();
        assert!(message(policies(&[at("bytes")], 100)).contains("UTF-8"));
    }

    #[test]
    fn all_files_together_are_measured_before_one_is_read() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.cedar"), [0xff; 60]).unwrap();
        // Without a byte of it on the disk: reading it all would take minutes, and memory that nobody has.
        File::create(directory.path().join("b.cedar")).unwrap().set_len(1 << 40).unwrap();
        let said = message(policies(&[directory.path().to_owned()], 100));
        assert!(said.contains("b.cedar` comes to") && said.contains("at most 100"), "{said}");
        assert!(text(&directory.path().join("b.cedar"), 100).unwrap_err().message.contains("at most 100"));
    }
}
