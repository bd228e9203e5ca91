//! How much is live, counted in small steps: whoever decides waits for one step, not for the count.

use super::Broker;
use crate::domain::agent::AgentStatus;
use crate::domain::cut::Target;
use crate::domain::decide::{Wanted, judge, wanted};
use crate::domain::grant::{Credential, GrantState};
use crate::domain::lease::LeaseStatus;
use crate::domain::view::View;

/// Records looked at under one hold on the state.
const STEP: usize = 256;

/// What may be used. Counted over some milliseconds while others act: no single moment had exactly these numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Agents that may act.
    pub agents: u64,
    /// Tasks that are open.
    pub tasks: u64,
    /// Grants that are live.
    pub grants: u64,
    /// Tokens under them.
    pub tokens: u64,
    /// Certificates under them.
    pub certificates: u64,
    /// Identity certificates that are neither over nor cut.
    pub identities: u64,
    /// Leases that whoever has them can use.
    pub leases: u64,
}

impl Broker {
    /// Counts what is live. Takes about a microsecond per record; not for a thread that others wait for.
    pub fn live(&self) -> Live {
        let now = self.ledger.now();
        let hold = |look: &mut dyn FnMut(&View<'_>)| self.ledger.view(|view| look(&view));
        Live {
            agents: self
                .ledger
                .view(|view| view.agents().filter(|agent| agent.status == AgentStatus::Active).count() as u64),
            tasks: count(
                hold,
                |view| view.tasks().map(|task| task.id).collect(),
                |view, id| view.task(id).is_some_and(|task| view.task_state(task, now) == GrantState::Active),
            ),
            grants: count(
                hold,
                |view| view.grants().map(|grant| grant.id).collect(),
                |view, id| view.standing(*id, now).is_some_and(|standing| standing.state == GrantState::Active),
            ),
            tokens: count(
                hold,
                |view| view.tokens().map(|token| token.id).collect(),
                |view, id| judge(view, now, Credential::Token(*id), None).allowed,
            ),
            certificates: count(
                hold,
                |view| view.certificates().filter(|one| one.grant.is_some()).map(|one| one.id).collect(),
                |view, id| judge(view, now, Credential::Certificate(*id), None).allowed,
            ),
            identities: count(
                hold,
                |view| view.certificates().filter(|one| one.grant.is_none()).map(|one| one.id).collect(),
                |view, id| {
                    let open = view.certificate(id).is_some_and(|one| now < one.not_after);
                    open && view.cut(&Target::Certificate(*id)).is_none()
                },
            ),
            leases: count(
                hold,
                |view| view.leases().map(|lease| lease.id).collect(),
                |view, id| {
                    let made = view.lease(id).filter(|lease| lease.status == LeaseStatus::Made);
                    made.is_some_and(|lease| wanted(view, lease, now) == Wanted::Live)
                },
            ),
        }
    }

    /// Leases that should be gone or halted and are not: those that somebody could still use, and those that nobody
    /// can, of which something remains.
    pub fn debt(&self) -> (u64, u64) {
        let now = self.ledger.now();
        let hold = |look: &mut dyn FnMut(&View<'_>)| self.ledger.view(|view| look(&view));
        let owed = |powerless: bool| {
            count(
                hold,
                |view| view.leases().filter(|lease| lease.status != LeaseStatus::Ended).map(|lease| lease.id).collect(),
                |view, id| {
                    let known = view.lease(id).filter(|lease| lease.is_powerless() == powerless);
                    known.is_some_and(|lease| match wanted(view, lease, now) {
                        Wanted::Live => false,
                        Wanted::Halted => !powerless,
                        Wanted::Gone => lease.status != LeaseStatus::Ended,
                    })
                },
            )
        };
        (owed(false), owed(true))
    }
}

/// How many are live of those that `all` finds: one look for which there are, then one for each step of them.
fn count<T>(
    hold: impl Fn(&mut dyn FnMut(&View<'_>)),
    all: impl Fn(&View<'_>) -> Vec<T>,
    is_live: impl Fn(&View<'_>, &T) -> bool,
) -> u64 {
    let mut ids = Vec::new();
    hold(&mut |view| ids = all(view));
    let mut live = 0;
    for step in ids.chunks(STEP) {
        hold(&mut |view| live += step.iter().filter(|id| is_live(view, id)).count() as u64);
    }
    live
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::domain::state::State;

    #[test]
    fn turns_go_on_while_what_is_live_is_counted() {
        let state = State::default();
        let (judged, holds) = (Cell::new(0), RefCell::new(Vec::new()));
        let hold = |look: &mut dyn FnMut(&View<'_>)| {
            let before = judged.get();
            look(&View::of(&state));
            holds.borrow_mut().push(judged.get() - before);
        };
        let even = |_: &View<'_>, id: &u32| {
            judged.set(judged.get() + 1);
            id.is_multiple_of(2)
        };
        assert_eq!(count(hold, |_| (0..1001).collect(), even), 501);
        // Between two holds a turn goes in: each judges few, though all are judged.
        assert_eq!(*holds.borrow(), [0, 256, 256, 256, 233]);
    }
}
