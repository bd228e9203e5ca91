//! Reading: lists of what is live, pages of the log.

use super::{Asked, Broker};
use crate::domain::decide::Caller;
use crate::domain::error::{Code, Error};
use crate::domain::event::{Actor, Entry};
use crate::domain::grant::{Grant, GrantState, Task};
use crate::domain::id::{GrantId, TaskId};
use crate::domain::name::Name;
use crate::domain::time::Timestamp;
use crate::domain::view::Standing;
use crate::merkle::Hash;

/// A page of the log at a time: how many entries are read in one go.
pub(super) const CHUNK: u32 = 1000;

/// Which events are wanted; what is not given is not asked about.
#[derive(Debug, Default)]
pub struct EventFilter {
    /// About this grant.
    pub grant: Option<GrantId>,
    /// About this tree, by its root.
    pub tree: Option<GrantId>,
    /// About this agent.
    pub agent: Option<Name>,
    /// Of this kind.
    pub kind: Option<String>,
    /// By this actor.
    pub actor: Option<Actor>,
    /// Not before this moment.
    pub since: Option<Timestamp>,
}

/// An event with its place.
#[derive(Debug)]
pub struct Found {
    /// Its sequence.
    pub seq: u64,
    /// What happened.
    pub entry: Entry,
    /// Its leaf in the Merkle tree.
    pub leaf: Hash,
}

impl EventFilter {
    fn takes(&self, entry: &Entry) -> bool {
        let body = &entry.body;
        self.grant.is_none_or(|grant| body.grant() == Some(grant))
            && self.tree.is_none_or(|tree| body.tree() == Some(tree))
            && self.agent.as_ref().is_none_or(|agent| body.agent() == Some(agent))
            && self.kind.as_ref().is_none_or(|kind| body.kind() == kind)
            && self.actor.as_ref().is_none_or(|actor| entry.actor == *actor)
            && self.since.is_none_or(|since| entry.at >= since)
    }
}

impl Broker {
    /// Up to `limit` events behind sequence `after` that the filter takes, and where the next page begins.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn events(&self, filter: &EventFilter, after: u64, limit: usize) -> Result<(Vec<Found>, Option<u64>), Error> {
        let mut found = Vec::new();
        let mut after = after;
        loop {
            let page = self.ledger.entries(after, CHUNK)?;
            if page.is_empty() {
                return Ok((found, None));
            }
            for (seq, entry, leaf) in page {
                if found.len() == limit {
                    return Ok((found, Some(after)));
                }
                after = seq;
                if filter.takes(&entry) {
                    found.push(Found { seq, entry, leaf });
                }
            }
        }
    }

    /// The events among the `entries` behind sequence `after` that the filter takes, and the last sequence that
    /// was looked at.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn follow(&self, filter: &EventFilter, after: u64, entries: u32) -> Result<(Vec<Found>, u64), Error> {
        let page = self.ledger.entries(after, entries)?;
        let last = page.last().map_or(after, |(seq, ..)| *seq);
        let taken = page.into_iter().filter(|(_, entry, _)| filter.takes(entry));
        Ok((taken.map(|(seq, entry, leaf)| Found { seq, entry, leaf }).collect(), last))
    }

    /// One event.
    ///
    /// # Errors
    /// There is none at that sequence.
    pub fn event(&self, seq: u64) -> Result<Found, Error> {
        let wanted = || Error::new(Code::NotFound, "not_found", format!("no event {seq}; the log begins at 1"));
        let page = self.ledger.entries(seq.checked_sub(1).ok_or_else(wanted)?, 1)?;
        let (seq, entry, leaf) = page.into_iter().next().ok_or_else(wanted)?;
        Ok(Found { seq, entry, leaf })
    }

    /// A grant that the caller may see, with how it stands, and all below it if asked.
    ///
    /// # Errors
    /// There is none, or not for this caller.
    pub fn grant(&self, asked: &Asked, id: GrantId, tree: bool) -> Result<Vec<(Grant, Standing)>, Error> {
        let now = self.ledger.now();
        self.ledger.view(|view| {
            let own = |grant: &Grant| match &asked.caller {
                Caller::Agent(presenter) => view.ancestry(grant.id).any(|link| link.agent == presenter.name),
                Caller::Operator(_) | Caller::Broker => true,
                Caller::Holder(_) | Caller::Pep(_) | Caller::Stranger => false,
            };
            let grant = view.grant(id).filter(|grant| own(grant)).ok_or_else(|| Error::not_found("grant", id))?;
            let mut found = if tree { view.descend(vec![id], |_| true) } else { vec![grant] };
            found.sort_by_key(|grant| (grant.depth, grant.id));
            let standing = |grant: &Grant| view.standing(grant.id, now).map(|standing| (grant.clone(), standing));
            Ok(found.into_iter().filter_map(standing).collect())
        })
    }

    /// The grants that the caller may see: an agent's own, or all.
    pub fn grants(
        &self,
        asked: &Asked,
        agent: Option<&Name>,
        task: Option<TaskId>,
        state: Option<GrantState>,
    ) -> Vec<(Grant, Standing)> {
        let now = self.ledger.now();
        let only = match &asked.caller {
            Caller::Agent(presenter) => Some(&presenter.name),
            _ => None,
        };
        self.ledger.view(|view| {
            let wanted = |grant: &&Grant| {
                only.is_none_or(|name| grant.agent == *name)
                    && agent.is_none_or(|name| grant.agent == *name)
                    && task.is_none_or(|task| grant.task == task)
            };
            let mut found: Vec<(Grant, Standing)> = view
                .grants()
                .filter(wanted)
                .filter_map(|grant| view.standing(grant.id, now).map(|standing| (grant.clone(), standing)))
                .filter(|(_, standing)| state.is_none_or(|state| standing.state == state))
                .collect();
            found.sort_by_key(|(grant, _)| grant.id);
            found
        })
    }

    /// The tasks that the caller may see: an agent's own, or all.
    pub fn tasks(&self, asked: &Asked) -> Vec<(Task, GrantState)> {
        let now = self.ledger.now();
        self.ledger.view(|view| {
            let own = |task: &&Task| match &asked.caller {
                Caller::Agent(presenter) => task.agent == presenter.name,
                _ => true,
            };
            let mut found: Vec<(Task, GrantState)> =
                view.tasks().filter(own).map(|task| (task.clone(), view.task_state(task, now))).collect();
            found.sort_by_key(|(task, _)| task.id);
            found
        })
    }
}
