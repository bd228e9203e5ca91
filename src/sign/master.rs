//! The master key: 32 bytes in a file, under which all other keys are sealed. Whoever can read it and the
//! store can sign as the broker, so a file that others may read is not used.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::rand::SecureRandom;
use rustix::fs::OFlags;
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use super::random;
use crate::domain::error::{Code, Error};

const LENGTH: usize = 32;

/// The key under which keys are sealed. Wiped from memory when dropped; never printed.
pub struct MasterKey(Zeroizing<[u8; LENGTH]>);

impl MasterKey {
    /// Reads the key at `path`. If there is none, and nothing is `sealed` under one yet, makes one (0600) that
    /// is durable before this returns.
    ///
    /// # Errors
    /// The file is missing though keys are sealed under it, is a symbolic link, not a file, not exactly 32
    /// bytes, or open to group or others; or the file system refuses.
    pub fn open(path: &Path, sealed: bool) -> Result<Self, Error> {
        match Self::load(path)? {
            Some(key) => Ok(key),
            None if sealed => {
                Err(refused(path, "is missing, and the ledger's keys are sealed under it; bring it back"))
            }
            None => Self::create(path),
        }
    }

    pub(super) fn bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }

    fn load(path: &Path) -> Result<Option<Self>, Error> {
        // Not blocking, so that a pipe in the place of the file does not hold up the start.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
            Err(_) if path.is_symlink() => return Err(refused(path, "is a symbolic link; name the file itself")),
            Err(why) => return Err(refused(path, &format!("cannot be opened: {why}"))),
        };
        let about = file.metadata().map_err(|why| refused(path, &format!("cannot be looked at: {why}")))?;
        if !about.is_file() {
            return Err(refused(path, "is not a regular file"));
        }
        if about.mode() & 0o077 != 0 {
            let mode = about.mode() & 0o7777;
            return Err(refused(path, &format!("has mode {mode:04o}, which lets others at it; run `chmod 600` on it")));
        }
        if about.len() != LENGTH as u64 {
            return Err(refused(
                path,
                &format!("holds {} bytes, not {LENGTH}; it is not a master key, or a damaged one", about.len()),
            ));
        }
        let mut key = Zeroizing::new([0; LENGTH]);
        file.read_exact(key.as_mut_slice()).map_err(|why| refused(path, &format!("cannot be read: {why}")))?;
        Ok(Some(Self(key)))
    }

    /// Writes the key beside its place and moves it there, so that a crash leaves no half of a key and a
    /// key made at the same moment by another process is not overwritten.
    fn create(path: &Path) -> Result<Self, Error> {
        let mut key = Zeroizing::new([0; LENGTH]);
        let filled = random().fill(key.as_mut_slice());
        filled.map_err(|_| refused(path, "cannot be made: the system gives no random bytes"))?;
        let failed = |why: std::io::Error| refused(path, &format!("cannot be made: {why}"));
        let folder =
            path.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or(PathBuf::from("."), PathBuf::from);
        let mut file = NamedTempFile::new_in(&folder).map_err(failed)?;
        file.write_all(key.as_slice()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        match file.persist_noclobber(path) {
            Ok(_) => File::open(&folder).and_then(|folder| folder.sync_all()).map_err(failed)?,
            Err(why) if why.error.kind() == ErrorKind::AlreadyExists => {
                return Self::load(path)?.ok_or_else(|| refused(path, "came and went while it was being made"));
            }
            Err(why) => return Err(failed(why.error)),
        }
        Ok(Self(key))
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

fn refused(path: &Path, why: &str) -> Error {
    Error::new(Code::Invalid, "master_key", format!("master key file `{}` {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn message(path: &Path) -> String {
        MasterKey::open(path, false).expect_err("it is to be refused").message
    }

    #[test]
    fn a_master_key_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let made = MasterKey::open(&path, false).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(MasterKey::open(&path, false).unwrap().bytes(), made.bytes());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        let other = MasterKey::open(&folder.path().join("other.key"), false).unwrap();
        assert_ne!(other.bytes(), made.bytes());
    }

    #[test]
    fn a_master_key_that_is_missing_is_not_replaced_by_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let error = MasterKey::open(&path, true).expect_err("keys are sealed under the one that is missing");
        assert!(error.message.contains("bring it back") && !path.exists(), "{error}");
    }

    #[test]
    fn making_a_master_key_never_replaces_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let first = MasterKey::create(&path).unwrap();
        assert_eq!(MasterKey::create(&path).unwrap().bytes(), first.bytes());
    }

    #[test]
    fn a_master_key_that_others_may_touch_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        drop(MasterKey::open(&path, false).unwrap());
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o777] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let message = message(&path);
            for part in [path.to_str().unwrap(), &format!("{mode:04o}"), "chmod 600"] {
                assert!(message.contains(part), "{message}");
            }
        }
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert!(MasterKey::open(&path, false).is_ok());
    }

    #[test]
    fn what_is_not_a_master_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for length in [0, 31, 33] {
            fs::write(at("length"), vec![7; length]).unwrap();
            fs::set_permissions(at("length"), Permissions::from_mode(0o600)).unwrap();
            assert!(message(&at("length")).contains(&format!("holds {length} bytes")));
        }
        drop(MasterKey::open(&at("real"), false).unwrap());
        symlink(at("real"), at("link")).unwrap();
        assert!(message(&at("link")).contains("symbolic link"));
        symlink(at("nowhere"), at("dangling")).unwrap();
        assert!(message(&at("dangling")).contains("symbolic link"));
        assert!(message(folder.path()).contains("not a regular file"));
        assert!(message(&at("no/such/folder")).contains("cannot be made"));
    }
}
