//! Tool calls as the log has them, each joined with what became of it.
//!
//! What became of a call stands behind it in the log, within an hour: a page reads on for as long as that after the last
//! call that is on it. It may stand a little before it, too: a report is decided in the next turn, while a call that was
//! decided from memory waits to be recorded.

use std::collections::{HashMap, VecDeque};

use super::Broker;
use super::read::CHUNK;
use crate::domain::error::Error;
use crate::domain::event::{Actor, Body, Entry, Invocation};
use crate::domain::id::{GrantId, InvocationId, LeaseId};
use crate::domain::invocation::{OPEN_FOR, Outcome};
use crate::domain::lease::LeaseStatus;
use crate::domain::name::{Line, Name};
use crate::domain::time::Timestamp;

/// Calls that are joined at a time where only some of them are wanted.
const WINDOW: usize = 10_000;
/// Events by which a report may come before its call: more than wait to be recorded at a time.
const BEFORE: u64 = 20_000;

/// Which calls are wanted; what is not given is not asked about.
#[derive(Clone, Debug, Default)]
pub struct CallFilter {
    /// Under this grant.
    pub grant: Option<GrantId>,
    /// In this tree, by its root.
    pub tree: Option<GrantId>,
    /// Of this agent.
    pub agent: Option<Name>,
    /// Not before this moment.
    pub since: Option<Timestamp>,
    /// Of which this became.
    pub outcome: Option<Wish>,
}

/// What is asked of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// This one.
    Was(Outcome),
    /// None: it was allowed, and nobody has said what became of it.
    Untold,
}

/// A call, and what became of it.
#[derive(Clone, Debug)]
pub struct JoinedCall {
    /// The sequence of its event.
    pub seq: u64,
    /// When it was decided.
    pub at: Timestamp,
    /// Who asked.
    pub by: Actor,
    /// What was asked, and decided.
    pub invocation: Invocation,
    /// What became of it, as far as that was told by somebody who is believed.
    pub told: Option<Told>,
    /// The call that spent its ticket.
    pub redeemed_by: Option<InvocationId>,
    request_id: String,
}

/// What became of a call.
#[derive(Clone, Debug)]
pub struct Told {
    /// What.
    pub outcome: Outcome,
    /// When that was told.
    pub at: Timestamp,
    /// By whom.
    pub by: Actor,
    /// In one line.
    pub detail: Option<Line>,
}

impl std::str::FromStr for Wish {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "none" { Ok(Self::Untold) } else { text.parse().map(Self::Was) }
    }
}

impl CallFilter {
    fn takes(&self, entry: &Entry, invocation: &Invocation) -> bool {
        self.grant.is_none_or(|grant| invocation.grant == Some(grant))
            && self.tree.is_none_or(|tree| invocation.tree == Some(tree))
            && self.agent.as_ref().is_none_or(|agent| invocation.agent.as_ref() == Some(agent))
            && self.since.is_none_or(|since| entry.at >= since)
    }

    fn wants(&self, call: &JoinedCall) -> bool {
        match self.outcome {
            None => true,
            Some(Wish::Was(outcome)) => call.told.as_ref().is_some_and(|told| told.outcome == outcome),
            Some(Wish::Untold) => call.may_have_been_made() && call.told.is_none() && call.redeemed_by.is_none(),
        }
    }
}

impl JoinedCall {
    /// `allow`, `step_up` or `deny`.
    pub fn decision(&self) -> &'static str {
        match self.invocation.allowed {
            true => "allow",
            false if self.invocation.reasons.iter().any(|code| code == "approval_needed") => "step_up",
            false => "deny",
        }
    }

    /// Whether it was allowed to somebody who proved to hold the credential.
    fn may_have_been_made(&self) -> bool {
        self.invocation.allowed && self.invocation.proven
    }

    /// Until when it can be told what became of it.
    pub fn open_until(&self) -> Timestamp {
        self.invocation.id.time().plus(OPEN_FOR)
    }
}

/// Calls, and what is found about them behind them.
#[derive(Default)]
struct Joining {
    calls: Vec<JoinedCall>,
    known: HashMap<InvocationId, usize>,
    /// Leases that were made by one of these calls.
    leases: HashMap<LeaseId, usize>,
    /// Reports of the last events that are of none of them so far.
    early: VecDeque<(u64, InvocationId, Told)>,
}

impl Joining {
    fn add(&mut self, seq: u64, entry: &Entry, invocation: &Invocation) {
        self.known.insert(invocation.id, self.calls.len());
        self.calls.push(JoinedCall {
            seq,
            at: entry.at,
            by: entry.actor.clone(),
            invocation: invocation.clone(),
            told: None,
            redeemed_by: None,
            request_id: entry.request_id.clone(),
        });
        let early = self.early.iter().filter(|(_, id, _)| *id == invocation.id).map(|(.., told)| told.clone());
        for told in early.collect::<Vec<_>>() {
            self.tell(invocation.id, told);
        }
    }

    /// Whoever did not ask says nothing of a call, unless it is there to see calls made; and the first word stands.
    fn tell(&mut self, id: InvocationId, told: Told) -> bool {
        let Some(call) = self.known.get(&id).and_then(|at| self.calls.get_mut(*at)) else { return false };
        let believed = told.by == call.by || matches!(told.by, Actor::Pep(_));
        if believed && call.may_have_been_made() && call.told.is_none() {
            call.told = Some(told);
        }
        true
    }

    /// Looks at an entry that may be about one of them, or about one to come.
    fn learn(&mut self, seq: u64, entry: &Entry) {
        while self.early.front().is_some_and(|(before, ..)| before + BEFORE < seq) {
            self.early.pop_front();
        }
        let told = |outcome, by: Actor, detail| Told { outcome, at: entry.at, by, detail };
        match &entry.body {
            Body::Invoked(Invocation { id, redeems: Some(spent), .. }) => {
                if let Some(call) = self.known.get(spent).and_then(|at| self.calls.get_mut(*at)) {
                    call.redeemed_by = call.redeemed_by.or(Some(*id));
                }
            }
            Body::InvocationReported(report) => {
                let told = told(report.outcome, entry.actor.clone(), report.detail.clone());
                if !self.tell(report.id, told.clone()) {
                    self.early.push_back((seq, report.id, told));
                }
            }
            // What a lease is for is done by the broker, which does not report to itself.
            Body::LeaseIssued { lease } => {
                let of_it = |call: &JoinedCall| {
                    call.request_id == entry.request_id && call.invocation.grant == Some(lease.grant)
                };
                if self.calls.last().is_some_and(of_it) {
                    self.leases.insert(lease.id, self.calls.len() - 1);
                }
            }
            Body::LeaseChanged(change) => {
                let outcome = match change.status {
                    LeaseStatus::Made => Outcome::Done,
                    LeaseStatus::Ended => Outcome::Failed,
                    LeaseStatus::Planned | LeaseStatus::Halted => return,
                };
                if let Some(call) = self.leases.remove(&change.id).and_then(|at| self.calls.get_mut(at)) {
                    call.told = Some(told(outcome, Actor::Broker, None));
                }
            }
            _ => {}
        }
    }

    /// Whether nothing behind this moment can be about any of them.
    fn is_done(&self, at: Timestamp) -> bool {
        self.calls.last().is_none_or(|last| at >= last.open_until())
    }
}

impl Broker {
    /// Up to `limit` calls behind sequence `after` that the filter takes, and where the next page begins; there may be
    /// fewer on a page, or none, and more behind it. Takes as long as the log of an hour is: not for a thread that others
    /// wait for.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn calls(
        &self,
        filter: &CallFilter,
        after: u64,
        limit: usize,
    ) -> Result<(Vec<JoinedCall>, Option<u64>), Error> {
        let window = if filter.outcome.is_some() { WINDOW.max(limit) } else { limit };
        let (mut joining, mut read, mut next) = (Joining::default(), after.saturating_sub(BEFORE), None);
        loop {
            let page = self.ledger.entries(read, CHUNK)?;
            let Some((last, entry, _)) = page.last() else { break };
            let (last, at) = (*last, entry.at);
            for (seq, entry, _) in page {
                joining.learn(seq, &entry);
                match &entry.body {
                    Body::Invoked(invocation) if seq > after && next.is_none() && filter.takes(&entry, invocation) => {
                        joining.add(seq, &entry, invocation);
                        next = (joining.calls.len() == window).then_some(seq);
                    }
                    _ => {}
                }
            }
            read = last;
            if next.is_some() && joining.is_done(at) {
                break;
            }
        }
        let mut calls: Vec<JoinedCall> = joining.calls.into_iter().filter(|call| filter.wants(call)).collect();
        if calls.len() > limit {
            calls.truncate(limit);
            next = calls.last().map(|last| last.seq);
        }
        Ok((calls, next))
    }
}
