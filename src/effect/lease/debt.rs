//! What is owed: leases that are not as they should be.

use crate::domain::decide::{Wanted, wanted};
use crate::domain::lease::{Lease, LeaseStatus, MAKING};
use crate::domain::time::{Span, Timestamp};
use crate::domain::view::View;

/// Beyond [`MAKING`], for how long the name of a lease is kept that may still be under way: longer than a statement
/// that the target has begun may take.
const MARGIN: Span = Span::seconds(15);

/// What is to be done about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing before this moment of the ledger's clock.
    At(Timestamp),
    /// Nothing any more.
    Never,
    /// This, now.
    Now(Act),
}

/// What is done in a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Its name is taken, so that whoever makes it comes too late.
    Hold,
    /// It is taken away.
    End,
    /// Nobody comes in.
    Halt,
    /// Whoever has the secret comes in.
    Resume,
    /// It is as it should be: only the record says otherwise.
    Clear,
}

impl Act {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::End => "end",
            Self::Halt => "halt",
            Self::Resume => "resume",
            Self::Clear => "clear",
        }
    }

    /// How a lease is once it is done; none where it is as it was.
    pub(super) fn done(self) -> Option<LeaseStatus> {
        match self {
            Self::Hold | Self::Halt => Some(LeaseStatus::Halted),
            Self::End => Some(LeaseStatus::Ended),
            Self::Resume => Some(LeaseStatus::Made),
            Self::Clear => None,
        }
    }

    /// Whether it takes something from somebody: it goes before whatever gives.
    pub(super) fn takes(self) -> bool {
        matches!(self, Self::Hold | Self::End | Self::Halt)
    }
}

/// What is to be done about a lease, and when it is to be looked at again.
pub(super) fn due(view: &View<'_>, lease: &Lease, now: Timestamp) -> Due {
    let settled = lease.created_at.plus(MAKING).plus(MARGIN);
    match (wanted(view, lease, now), lease.status) {
        (_, LeaseStatus::Ended) => Due::Never,
        // Its maker may still be on the way.
        (Wanted::Gone, LeaseStatus::Halted) if !lease.kept && now < settled => Due::At(settled),
        (Wanted::Gone, _) if !lease.kept && now < settled => Due::Now(Act::Hold),
        (Wanted::Gone, _) => Due::Now(Act::End),
        // Halted is only what was kept: that is there, whatever was recorded of it since.
        (Wanted::Halted, LeaseStatus::Made | LeaseStatus::Planned) => Due::Now(Act::Halt),
        (Wanted::Live, LeaseStatus::Halted) => Due::Now(Act::Resume),
        (Wanted::Live | Wanted::Halted, _) if lease.trouble.is_some() => Due::Now(Act::Clear),
        (Wanted::Live, LeaseStatus::Planned) if !lease.kept => {
            Due::At(lease.created_at.plus(MAKING).min(lease.expires_at))
        }
        _ => Due::At(lease.expires_at),
    }
}
