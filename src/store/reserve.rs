//! Room on the disk that is kept for what ends or halts something: a full disk must not stand before a revoke.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// What is kept: some hundreds of revokes.
const SIZE: u64 = 4 << 20;
/// What has to be free beside it: else the next request would find the disk full again.
const SLACK: u64 = 1 << 20;

/// A file that holds nothing but its place.
pub(super) struct Reserve(File);

impl Reserve {
    /// Takes the room in `directory`, or finds it taken there by an earlier run.
    pub(super) fn take(directory: &Path) -> io::Result<Self> {
        let file =
            File::options().create(true).truncate(false).write(true).mode(0o600).open(directory.join("reserve"))?;
        let taken = allocate(&file, SIZE);
        if taken.is_err() {
            file.set_len(0)?;
        }
        taken.map(|()| Self(file))
    }

    /// Gives the room to whoever writes next.
    pub(super) fn release(&self) -> io::Result<()> {
        self.0.set_len(0)
    }

    /// Takes the room back, if it is there and some more.
    pub(super) fn retake(&self) -> io::Result<()> {
        let taken = allocate(&self.0, SIZE + SLACK);
        // What was taken in part is given back: it is not enough, and somebody may need it.
        self.0.set_len(if taken.is_ok() { SIZE } else { 0 })?;
        taken
    }

    /// Whether there is no more room beside it.
    pub(super) fn is_all_there_is(&self) -> bool {
        let held = self.0.metadata().map_or(0, |metadata| metadata.len());
        let more = allocate(&self.0, held + SLACK);
        // An error leaves the reserve larger, never smaller.
        let _ = self.0.set_len(held);
        more.is_err_and(|error| is_full(&error))
    }
}

/// Whether this says that there is no room, or none for us.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn allocate(mut file: &File, size: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, size) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        done => return Ok(done?),
    }
    let held = file.metadata()?.len();
    file.seek(SeekFrom::Start(held))?;
    let block = [0; 64 << 10];
    for _ in 0..size.saturating_sub(held).div_ceil(block.len() as u64) {
        file.write_all(&block)?;
    }
    // Some file systems find out only now.
    file.sync_all()
}
