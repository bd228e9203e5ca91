//! The clocks, behind a trait so that tests turn their hands.

use crate::domain::time::{Span, Timestamp};

/// Both clocks, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The wall clock, which somebody may set.
    pub wall: Timestamp,
    /// Time since boot, suspended or not, which nobody sets.
    pub boot: Span,
}

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// Reads both clocks at one moment.
    fn read(&self) -> Reading;
}

/// The system's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

/// Between the two clocks this process may have been stopped: how often they are read again, and what is soon enough.
const TRIES: u32 = 5;
const TOGETHER: Span = Span::millis(50);

impl Clock for SystemClock {
    fn read(&self) -> Reading {
        let mut before = boot();
        let mut reading = Reading { wall: wall(), boot: boot() };
        for _ in 0..TRIES {
            if reading.boot.less(before) <= TOGETHER {
                break;
            }
            before = reading.boot;
            reading = Reading { wall: wall(), boot: boot() };
        }
        reading
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where the wall clock enters")]
fn wall() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn boot() -> Span {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Span::millis(time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_of_the_system_go_on() {
        let first = SystemClock.read();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let second = SystemClock.read();
        assert!(second.wall.since(first.wall) >= Span::millis(19), "{first:?} {second:?}");
        assert!(second.boot.less(first.boot) >= Span::millis(19), "{first:?} {second:?}");
    }
}
