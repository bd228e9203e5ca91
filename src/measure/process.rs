//! The process as the operating system sees it, under the names that every Prometheus client uses.

use std::path::Path;

use super::{DATA_FREE_BYTES, PROCESS_CPU_SECONDS, PROCESS_MAX_FDS, PROCESS_OPEN_FDS, PROCESS_RESIDENT_BYTES};

/// Looks now. `data` is the directory whose file system the log is on. What cannot be read keeps its last value.
pub fn observe(data: &Path) {
    if let Some(kilobytes) = resident_kilobytes() {
        PROCESS_RESIDENT_BYTES.set(kilobytes.saturating_mul(1024), &[]);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // Reading the list takes one itself.
        PROCESS_OPEN_FDS.set(open.count().saturating_sub(1), &[]);
    }
    if let Some(most) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        PROCESS_MAX_FDS.set(most, &[]);
    }
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    PROCESS_CPU_SECONDS.advance_to(used.tv_sec.cast_unsigned(), &[]);
    if let Ok(disk) = rustix::fs::statvfs(data) {
        DATA_FREE_BYTES.set(disk.f_bavail.saturating_mul(disk.f_frsize), &[]);
    }
}

fn resident_kilobytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
