//! Approvals as callers see them: operators what they are asked about, agents what they wait for.

use super::{Asked, Broker};
use crate::domain::approval::{Approval, ApprovalState};
use crate::domain::decide::{Caller, missing, state_of};
use crate::domain::error::Error;
use crate::domain::id::ApprovalId;
use crate::domain::name::Name;
use crate::domain::time::Timestamp;
use crate::domain::view::View;

/// An approval, and how it stands.
#[derive(Clone, Debug)]
pub struct Shown {
    /// It.
    pub approval: Approval,
    /// How it stands.
    pub state: ApprovalState,
    /// How many more humans have to approve.
    pub missing: u8,
}

/// What of an approval a change is seen by: how it stands, how many approved, how many have to.
pub type Mark = (ApprovalState, usize, u8);

impl Shown {
    fn of(view: &View<'_>, approval: &Approval, now: Timestamp) -> Self {
        let (state, missing) = (state_of(view, approval, now), missing(view, approval, now));
        Self { approval: approval.clone(), state, missing }
    }
}

impl Broker {
    /// How an approval stands now.
    pub fn shown(&self, approval: &Approval) -> Shown {
        let now = self.ledger.now();
        self.ledger.view(|view| Shown::of(&view, approval, now))
    }

    /// Oldest first: for an operator those that it is asked about by now and has not approved, for an agent those that
    /// wait on its behalf. With `all`, also what is decided or over; for an operator, whomever it is for.
    pub fn approvals(&self, asked: &Asked, all: bool) -> Vec<Shown> {
        let now = self.ledger.now();
        let mut found: Vec<Shown> = self.ledger.view(|view| {
            let wanted = |one: &&Approval| match &asked.caller {
                Caller::Agent(presenter) => is_of(one, &presenter.name),
                Caller::Operator(presenter) => {
                    let approved = one.given.iter().any(|vote| vote.by == presenter.name);
                    all || !approved && is_asked(one, &presenter.name, now)
                }
                Caller::Broker => true,
                Caller::Holder(_) | Caller::Pep(_) | Caller::Stranger => false,
            };
            let waits = |one: &&Approval| all || is_waiting(state_of(&view, one, now));
            view.approvals().filter(wanted).filter(waits).map(|one| Shown::of(&view, one, now)).collect()
        });
        found.sort_by_key(|shown| shown.approval.id);
        found
    }

    /// One approval. To an agent, the unknown and the foreign look the same.
    ///
    /// # Errors
    /// There is none of that id, or not for this caller.
    pub fn approval(&self, asked: &Asked, id: ApprovalId) -> Result<Shown, Error> {
        let now = self.ledger.now();
        self.ledger.view(|view| {
            let known = view.approval(&id).filter(|one| match &asked.caller {
                Caller::Agent(presenter) => is_of(one, &presenter.name),
                Caller::Operator(_) | Caller::Broker => true,
                Caller::Holder(_) | Caller::Pep(_) | Caller::Stranger => false,
            });
            known.map(|one| Shown::of(&view, one, now)).ok_or_else(|| Error::not_found("approval", id))
        })
    }

    /// The approvals that an operator has been asked about by now, oldest first, and by what a change is seen.
    pub fn asked_of(&self, operator: &Name) -> Vec<(ApprovalId, Mark)> {
        let now = self.ledger.now();
        let mut found: Vec<(ApprovalId, Mark)> = self.ledger.view(|view| {
            let mark = |one: &Approval| (state_of(&view, one, now), one.given.len(), missing(&view, one, now));
            let asked = view.approvals().filter(|one| is_asked(one, operator, now));
            asked.map(|one| (one.id, mark(one))).collect()
        });
        found.sort_by_key(|(id, _)| *id);
        found
    }
}

/// Whether it can still be decided.
pub fn is_waiting(state: ApprovalState) -> bool {
    matches!(state, ApprovalState::Pending | ApprovalState::Queued)
}

fn is_of(approval: &Approval, agent: &Name) -> bool {
    approval.requester == *agent || approval.holder == *agent
}

fn is_asked(approval: &Approval, operator: &Name, now: Timestamp) -> bool {
    approval.asked.iter().any(|(name, at)| name == operator && *at <= now)
}
