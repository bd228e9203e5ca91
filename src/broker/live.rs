//! How much is live, counted in small steps: whoever decides waits for one step, not for the count.

use super::Broker;
use crate::domain::agent::AgentStatus;
use crate::domain::cut::Target;
use crate::domain::decide::judge;
use crate::domain::grant::{Credential, GrantState};
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
}

impl Broker {
    /// Counts what is live. Takes about a microsecond per record; not for a thread that others wait for.
    pub fn live(&self) -> Live {
        let now = self.ledger.now();
        Live {
            agents: self
                .ledger
                .view(|view| view.agents().filter(|agent| agent.status == AgentStatus::Active).count() as u64),
            tasks: self.count(
                |view| view.tasks().map(|task| task.id).collect(),
                |view, id| view.task(id).is_some_and(|task| view.task_state(task, now) == GrantState::Active),
            ),
            grants: self.count(
                |view| view.grants().map(|grant| grant.id).collect(),
                |view, id| view.standing(*id, now).is_some_and(|standing| standing.state == GrantState::Active),
            ),
            tokens: self.count(
                |view| view.tokens().map(|token| token.id).collect(),
                |view, id| judge(view, now, Credential::Token(*id), None).allowed,
            ),
            certificates: self.count(
                |view| view.certificates().filter(|one| one.grant.is_some()).map(|one| one.id).collect(),
                |view, id| judge(view, now, Credential::Certificate(*id), None).allowed,
            ),
            identities: self.count(
                |view| view.certificates().filter(|one| one.grant.is_none()).map(|one| one.id).collect(),
                |view, id| {
                    let open = view.certificate(id).is_some_and(|one| now < one.not_after);
                    open && view.cut(&Target::Certificate(*id)).is_none()
                },
            ),
        }
    }

    fn count<T>(&self, all: impl Fn(&View<'_>) -> Vec<T>, is_live: impl Fn(&View<'_>, &T) -> bool) -> u64 {
        let ids = self.ledger.view(|view| all(&view));
        let step = |ids: &[T]| self.ledger.view(|view| ids.iter().filter(|id| is_live(&view, id)).count() as u64);
        ids.chunks(STEP).map(step).sum()
    }
}
