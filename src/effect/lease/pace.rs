//! How soon what failed is tried again: a system that is away is asked by one at a time, and soon again at first.

use std::time::Duration;

/// The first wait, the longest while a system has been away for minutes only, and the longest.
const WAITS: [Duration; 3] = [Duration::from_millis(250), Duration::from_secs(2), Duration::from_secs(30)];
/// For how long a system is expected back within seconds.
const HOPE: Duration = Duration::from_secs(180);

/// The circuit of one system: closed while it answers. Times are since the engine began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Circuit {
    failures: u32,
    away_since: Option<Duration>,
    retry_at: Duration,
    probing: bool,
}

impl Circuit {
    /// Whether something may be tried now.
    pub(super) fn admits(&self, now: Duration) -> bool {
        self.away_since.is_none() || (!self.probing && now >= self.retry_at)
    }

    /// Something is tried.
    pub(super) fn tried(&mut self) {
        self.probing = self.away_since.is_some();
    }

    /// When something may be tried again; none while it answers, or is being asked.
    pub(super) fn retry_at(&self) -> Option<Duration> {
        self.away_since.filter(|_| !self.probing).map(|_| self.retry_at)
    }

    /// It answered, whatever it said.
    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }

    /// It did not. Those who were asking together count as one.
    pub(super) fn away(&mut self, now: Duration, jitter: u8) {
        let since = *self.away_since.get_or_insert(now);
        if !self.probing && self.failures > 0 && now < self.retry_at {
            return;
        }
        self.probing = false;
        self.failures = self.failures.saturating_add(1);
        let longest = if now.saturating_sub(since) < HOPE { WAITS[1] } else { WAITS[2] };
        self.retry_at = now + wait(self.failures, longest, jitter);
    }
}

/// When one lease is tried again that its system refused so often in a row.
pub(super) fn again(now: Duration, refusals: u32, jitter: u8) -> Duration {
    now + wait(refusals, WAITS[2], jitter)
}

/// Twice as long each time, and up to a quarter less by chance, so that not all come back together.
fn wait(failures: u32, longest: Duration, jitter: u8) -> Duration {
    let grown = WAITS[0].saturating_mul(1 << failures.saturating_sub(1).min(10)).min(longest);
    grown - grown / 4 * u32::from(jitter) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_system_that_is_away_is_asked_by_one_every_two_seconds_for_minutes_and_then_every_thirty() {
        let mut circuit = Circuit::default();
        let (mut now, mut waits) = (at(1000), Vec::new());
        while now < at(400_000) {
            assert!(circuit.admits(now));
            circuit.tried();
            assert!(circuit.away_since.is_none() || !circuit.admits(now), "one at a time");
            circuit.away(now, 0);
            // Another, asked at the same time.
            circuit.away(now, 0);
            let next = circuit.retry_at().unwrap();
            assert!(!circuit.admits(next - at(1)));
            waits.push((now, next - now));
            now = next;
        }
        assert_eq!(
            waits[..5].iter().map(|(_, wait)| wait.as_millis()).collect::<Vec<_>>(),
            [250, 500, 1000, 2000, 2000]
        );
        assert!(waits.iter().all(|(now, wait)| *wait <= at(2000) || *now >= at(181_000)), "{waits:?}");
        assert_eq!(waits.last().unwrap().1, at(30_000));
        circuit.answered();
        assert!(circuit.admits(now) && circuit.retry_at().is_none());
    }

    #[test]
    fn chance_makes_a_wait_shorter_by_a_quarter_at_most() {
        let mut circuit = Circuit::default();
        circuit.away(at(0), 255);
        assert!(circuit.retry_at().is_some_and(|retry| retry >= at(187) && retry < at(250)), "{circuit:?}");
    }
}
