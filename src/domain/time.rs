//! Moments and spans, in whole milliseconds.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::Error;

/// A moment: milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A length of time in milliseconds, never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span(i64);

/// How long what has ended stays in memory, so that a late question gets "expired", not "unknown".
pub const GRACE: Span = Span::minutes(5);
/// The longest a task may run, and so the longest anything below it may live.
pub const LONGEST_TASK: Span = Span::hours(24 * 7);
/// A task's life when none is asked for.
pub const DEFAULT_TASK: Span = Span::hours(1);
/// A grant's life when none is asked for.
pub const DEFAULT_GRANT: Span = Span::minutes(15);
/// Life of an identity certificate.
pub const IDENTITY_LIFE: Span = Span::hours(24);
/// An authority signs nothing in the last hour of its life.
pub const AUTHORITY_MARGIN: Span = Span::hours(1);
/// Life of a join token.
pub const JOIN_LIFE: Span = Span::minutes(10);
/// How long an idempotency key outlives what it made.
pub const KEY_KEPT: Span = Span::hours(1);
/// How far ahead of this clock another may be: beyond it an id is dated in the future.
pub const SKEW: Span = Span::seconds(2);

impl Timestamp {
    /// The moment `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// The moment `seconds` seconds after the Unix epoch.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The same moment cut to whole seconds, as certificates and tokens hold it.
    pub const fn whole_seconds(self) -> Self {
        Self::from_seconds(self.seconds())
    }

    /// This moment and `span` later.
    pub const fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// This moment and `span` earlier.
    pub const fn minus(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }

    /// From `earlier` to this moment; nothing if it is later.
    pub fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0).max(0))
    }
}

impl std::fmt::Display for Timestamp {
    /// RFC 3339, UTC, with milliseconds.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

impl std::str::FromStr for Timestamp {
    type Err = Error;

    /// RFC 3339.
    fn from_str(text: &str) -> Result<Self, Error> {
        let time = text.parse::<jiff::Timestamp>();
        let time = time.map_err(|_| Error::malformed("at", text, "expected a moment such as 2026-11-22T17:00:00Z"))?;
        Ok(Self(time.as_millisecond()))
    }
}

impl Serialize for Timestamp {
    /// For people RFC 3339, for machines the milliseconds.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { s.serialize_i64(self.0) }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if !d.is_human_readable() {
            return i64::deserialize(d).map(Self);
        }
        let time: jiff::Timestamp = String::deserialize(d)?.parse().map_err(serde::de::Error::custom)?;
        Ok(Self(time.as_millisecond()))
    }
}

impl Span {
    /// A span of milliseconds.
    pub const fn millis(millis: i64) -> Self {
        Self(millis)
    }

    /// A span of seconds.
    pub const fn seconds(seconds: i64) -> Self {
        Self(seconds * 1000)
    }

    /// A span of minutes.
    pub const fn minutes(minutes: i64) -> Self {
        Self::seconds(minutes * 60)
    }

    /// A span of hours.
    pub const fn hours(hours: i64) -> Self {
        Self::minutes(hours * 60)
    }

    /// Milliseconds.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Both spans, one after the other.
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// What this span has more than `other`; nothing if it has less.
    pub fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0).max(0))
    }

    /// A lifetime that a caller asked for, in milliseconds: at least a second, at most the longest task.
    ///
    /// # Errors
    /// `ttl` is zero, negative, below a second or above [`LONGEST_TASK`].
    pub fn lifetime(millis: i64) -> Result<Self, Error> {
        if millis < 1000 {
            return Err(Error::malformed("ttl", &format!("{millis}ms"), "a lifetime is at least 1s"));
        }
        if millis > LONGEST_TASK.0 {
            return Err(Error::malformed("ttl", &format!("{millis}ms"), "a lifetime is at most 7d"));
        }
        Ok(Self(millis))
    }
}

impl std::str::FromStr for Span {
    type Err = Error;

    /// Reads `90s`, `15m`, `1h30m`, `2d`: a number always with its unit.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::malformed("duration", text, why);
        let days = text.strip_suffix('d').and_then(|n| n.parse::<i64>().ok());
        let millis = match days {
            Some(days) => i128::from(days) * 86_400_000,
            None => text
                .parse::<jiff::SignedDuration>()
                .map_err(|_| wrong("expected a number with its unit, such as 90s, 15m, 1h30m or 2d"))?
                .as_millis(),
        };
        match i64::try_from(millis) {
            Ok(millis) if millis >= 0 => Ok(Self(millis)),
            _ => Err(wrong("a duration is not negative and not endless")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_its_unit() {
        assert_eq!("15m".parse::<Span>().unwrap(), Span::minutes(15));
        assert_eq!("1h30m".parse::<Span>().unwrap(), Span::minutes(90));
        assert_eq!("2d".parse::<Span>().unwrap(), Span::hours(48));
        for wrong in ["", "15", "-5m", "1e9h", "m", "99999999999999999d", "9 parsecs"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn lifetimes_have_bounds() {
        for wrong in [i64::MIN, -1, 0, 1, 999, LONGEST_TASK.as_millis() + 1, i64::MAX] {
            assert!(Span::lifetime(wrong).is_err(), "{wrong}");
        }
        assert!(Span::lifetime(1000).is_ok() && Span::lifetime(LONGEST_TASK.as_millis()).is_ok());
    }

    #[test]
    fn moments_print_as_rfc_3339() {
        assert_eq!(Timestamp::from_millis(1_234).to_string(), "1970-01-01T00:00:01.234Z");
    }
}
