//! What time it is, and whether the wall clock can be believed. Pure: it is shown readings and says.
//!
//! Somebody may set the wall clock; nobody sets the time since boot. While both advance alike, time is what the
//! wall clock says. When they come apart, time goes on by the boot clock, until they have agreed for a while.

use super::clock::Reading;
use crate::domain::error::{Code, Error};
use crate::domain::time::{SKEW, Span, Timestamp};

/// How long wall and boot clock have to agree after a jump.
const AGREED: Span = Span::seconds(10);
/// The largest step that is believed while the broker runs.
const LARGEST_STEP: Span = Span::hours(24);
/// How fast a clock that is being slewed may drift: a tenth of the time. Many small steps are a jump.
const SLEW: i64 = 10;

/// The belief: what wall and boot clock are apart.
#[derive(Debug)]
pub(super) struct Steady {
    /// Wall minus boot time, milliseconds.
    offset: i64,
    /// Boot time of the last look.
    looked: Span,
    /// The latest time told. None earlier is told again: what expired by it stays expired.
    told: Timestamp,
    jump: Option<Jump>,
    /// Why the clock was not believed at the last look.
    doubted: Option<&'static str>,
}

/// What the wall clock says that is not believed yet.
#[derive(Debug)]
struct Jump {
    offset: i64,
    since: Span,
}

/// The time, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// The time to decide by: never before the log nor before what was told.
    pub now: Timestamp,
    /// The wall clock as it is believed, though the log may be ahead of it.
    pub wall: Timestamp,
    /// Why nothing may be granted by this time.
    pub doubt: Option<Doubt>,
    /// Whether doubt came or went since the last look.
    pub changed: bool,
}

/// Why a time is not good enough to grant anything by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// A later time was seen already: what is granted by that time would live longer than was asked.
    Behind(Span),
    /// The wall clock jumped by so many milliseconds against the time since boot.
    Jumped(i64),
}

impl Steady {
    /// Believes what the clocks say at the start: there is nothing yet to hold them against.
    pub(super) fn new(reading: Reading) -> Self {
        Self { offset: offset(reading), looked: reading.boot, told: reading.wall, jump: None, doubted: None }
    }

    /// The time by this reading and the date of the last batch.
    pub(super) fn look(&mut self, reading: Reading, logged: Timestamp) -> Moment {
        self.hold_against(reading);
        let wall = match self.jump {
            None => reading.wall,
            Some(_) => Timestamp::from_millis(reading.boot.as_millis().saturating_add(self.offset)),
        };
        self.told = self.told.max(wall);
        let now = self.told.max(logged);
        let behind = now.since(wall);
        let doubt = match &self.jump {
            Some(jump) => Some(Doubt::Jumped(jump.offset.saturating_sub(self.offset))),
            None => (behind > SKEW).then_some(Doubt::Behind(behind)),
        };
        let doubted = doubt.map(Doubt::reason);
        let changed = doubted != std::mem::replace(&mut self.doubted, doubted);
        Moment { now, wall, doubt, changed }
    }

    fn hold_against(&mut self, reading: Reading) {
        let (offset, boot) = (offset(reading), reading.boot);
        let step = offset.saturating_sub(self.offset);
        match &self.jump {
            None if is_within(step, SKEW) => {
                let most = boot.less(self.looked).as_millis() / SLEW;
                // Looks that are close together allow nothing each, and yet something together.
                if most == 0 {
                    return;
                }
                self.offset += step.clamp(-most, most);
            }
            Some(jump) if is_within(offset.saturating_sub(jump.offset), SKEW) => {
                if boot.less(jump.since) >= AGREED && is_within(step, LARGEST_STEP) {
                    (self.offset, self.jump) = (offset, None);
                }
            }
            _ => self.jump = Some(Jump { offset, since: boot }),
        }
        self.looked = boot;
    }
}

impl Doubt {
    /// The word for it.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Behind(_) => "clock_behind",
            Self::Jumped(_) => "clock_jumped",
        }
    }

    /// What a caller is told whose request needs a clock.
    pub(super) fn refusal(self) -> Error {
        const STILL: &str = "only revoking and halting work until";
        let message = match self {
            Self::Behind(by) => {
                format!("the clock is {} behind the log; {STILL} it has caught up or is set right", length(by))
            }
            Self::Jumped(by) => {
                let size = Span::millis(by.saturating_abs());
                let way = if by < 0 { "back" } else { "ahead" };
                let end = match is_within(by, LARGEST_STEP) {
                    true => "it has gone evenly for 10 s",
                    false => "it is set right; if the new time is true, restart the broker",
                };
                format!("the clock jumped {way} by {} against the time since boot; {STILL} {end}", length(size))
            }
        };
        Error::new(Code::Unavailable, self.reason(), message)
    }
}

fn offset(reading: Reading) -> i64 {
    reading.wall.millis().saturating_sub(reading.boot.as_millis())
}

fn is_within(step: i64, most: Span) -> bool {
    step.saturating_abs() <= most.as_millis()
}

fn length(span: Span) -> String {
    format!("{:#}", jiff::SignedDuration::from_millis(span.as_millis()))
}
