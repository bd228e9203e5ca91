//! The provenance of one thing: who asked, for whom, by which chain, and what became of it.

use std::collections::{HashMap, HashSet};

use super::Broker;
use super::calls::{CallFilter, JoinedCall};
use super::read::{CHUNK, Found};
use crate::domain::cut::Target;
use crate::domain::error::{Code, Error};
use crate::domain::event::Body;
use crate::domain::grant::{Grant, Task};
use crate::domain::id::{ApprovalId, CertificateId, GrantId, InvocationId, RevocationId, TaskId, TokenId};
use crate::domain::name::Name;

/// Where something comes from.
#[derive(Debug)]
pub struct Provenance {
    /// What kind of thing.
    pub kind: &'static str,
    /// The task it serves, where it serves one.
    pub task: Option<Task>,
    /// Root first.
    pub chain: Vec<Grant>,
    /// The events that made it what it is.
    pub events: Vec<Found>,
    /// Of a tool call: what was asked, decided and done.
    pub call: Option<JoinedCall>,
}

/// What is asked about.
enum Subject {
    Task(TaskId),
    Grant(GrantId),
    Token(TokenId),
    Certificate(CertificateId),
    Revocation(RevocationId),
    Invocation(InvocationId),
    Approval(ApprovalId),
}

impl Subject {
    fn parse(text: &str) -> Result<Self, Error> {
        match text.split_once('_').map(|(prefix, _)| prefix) {
            Some(TaskId::PREFIX) => text.parse().map(Self::Task),
            Some(GrantId::PREFIX) => text.parse().map(Self::Grant),
            Some(TokenId::PREFIX) => text.parse().map(Self::Token),
            Some(CertificateId::PREFIX) => text.parse().map(Self::Certificate),
            Some(RevocationId::PREFIX) => text.parse().map(Self::Revocation),
            Some(InvocationId::PREFIX) => text.parse().map(Self::Invocation),
            Some(ApprovalId::PREFIX) => text.parse().map(Self::Approval),
            _ => Err(Error::malformed("id", text, "name a tsk_, grt_, tok_, crt_, apr_, rev_ or inv_ id")),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Task(_) => "task",
            Self::Grant(_) => "grant",
            Self::Token(_) => "token",
            Self::Certificate(_) => "certificate",
            Self::Revocation(_) => "revocation",
            Self::Invocation(_) => "invocation",
            Self::Approval(_) => "approval",
        }
    }

    /// Whether this event is the one that made it, or changed it itself.
    fn is_in(&self, body: &Body) -> bool {
        match (self, body) {
            (Self::Task(id), Body::TaskStarted { task }) => task.id == *id,
            (Self::Task(id), Body::TaskEnded { id: ended, .. }) => ended == id,
            (Self::Grant(id), Body::GrantIssued { grant }) => grant.id == *id,
            (
                Self::Grant(id),
                Body::GrantRenewed { id: changed, .. } | Body::GrantStatusChanged { id: changed, .. },
            ) => changed == id,
            (Self::Grant(id), body) if asks(body).is_some() || matches!(body, Body::GrantActivated(_)) => {
                body.grant() == Some(*id)
            }
            (Self::Approval(id), body) if asks(body).is_some() => asks(body) == Some(*id),
            (Self::Task(id), Body::EnvelopeOpened { task, .. }) => task == id,
            (Self::Task(id), Body::ApprovalRequested { approval }) => approval.task == *id && approval.grant.is_none(),
            (Self::Token(id), Body::TokenIssued { token }) => token.id == *id,
            (Self::Certificate(id), Body::CertificateRecorded { certificate, .. }) => certificate.id == *id,
            (Self::Certificate(id), Body::CertificateSigned { id: signed, .. }) => signed == id,
            (Self::Revocation(id), Body::Revoked(revocation)) => revocation.id == *id,
            (Self::Invocation(id), Body::Invoked(invocation)) => {
                invocation.id == *id || invocation.redeems == Some(*id)
            }
            (Self::Invocation(id), Body::InvocationReported(report)) => report.id == *id,
            (_, Body::Revoked(revocation)) => self.is_target(&revocation.target),
            _ => false,
        }
    }

    fn is_target(&self, target: &Target) -> bool {
        match (self, target) {
            (Self::Task(one), Target::Task(other)) => one == other,
            (Self::Grant(one), Target::Grant(other)) => one == other,
            (Self::Token(one), Target::Token(other)) => one == other,
            (Self::Certificate(one), Target::Certificate(other)) => one == other,
            _ => false,
        }
    }
}

/// The approval that an event is about.
fn asks(body: &Body) -> Option<ApprovalId> {
    match body {
        Body::ApprovalRequested { approval } => Some(approval.id),
        Body::ApprovalGiven { id, .. } | Body::ApprovalDenied { id, .. } => Some(*id),
        Body::GrantActivated(activation) => Some(activation.approval),
        Body::EnvelopeOpened { envelope, .. } => Some(envelope.approval),
        _ => None,
    }
}

impl Broker {
    /// Reads the whole log, twice: once for the thing and its chain, once for what touched that chain. Takes as
    /// long as the log is: not for a thread that others wait for.
    ///
    /// # Errors
    /// The id is malformed or nothing in the log made it.
    pub fn why(&self, id: &str) -> Result<Provenance, Error> {
        let subject = Subject::parse(id)?;
        let (mut grants, mut tasks, mut own) = (HashMap::new(), HashMap::new(), Vec::new());
        let (mut grant, mut purpose) = (None, None);
        self.each(|found| {
            match &found.entry.body {
                Body::GrantIssued { grant } => drop(grants.insert(grant.id, grant.clone())),
                Body::TaskStarted { task } => drop(tasks.insert(task.id, task.clone())),
                _ => {}
            }
            if subject.is_in(&found.entry.body) {
                grant = found.entry.body.grant().or(grant);
                if let Body::ApprovalRequested { approval } = &found.entry.body {
                    purpose = Some(approval.task);
                }
                own.push(found);
            }
        })?;
        if own.is_empty() {
            return Err(Error::new(Code::NotFound, "not_found", format!("nothing in the log made `{id}`")));
        }
        let mut chain: Vec<Grant> = std::iter::successors(grant.and_then(|id| grants.get(&id)), |grant| {
            grant.parent.and_then(|parent| grants.get(&parent))
        })
        .cloned()
        .collect();
        chain.reverse();
        let task = match &subject {
            Subject::Task(id) => tasks.remove(id),
            _ => chain.first().map(|grant| grant.task).or(purpose).and_then(|task| tasks.remove(&task)),
        };
        let known: HashSet<u64> = own.iter().map(|event| event.seq).collect();
        let mut events = own;
        self.each(|found| {
            if !known.contains(&found.seq) && touches(&found.entry.body, &chain, task.as_ref()) {
                events.push(found);
            }
        })?;
        events.sort_by_key(|event| event.seq);
        let call = match subject {
            Subject::Invocation(id) => self.joined(id, &events)?,
            _ => None,
        };
        Ok(Provenance { kind: subject.kind(), task, chain, events, call })
    }

    /// A call, with what is found about it behind its event.
    fn joined(&self, id: InvocationId, events: &[Found]) -> Result<Option<JoinedCall>, Error> {
        let made = |found: &&Found| matches!(&found.entry.body, Body::Invoked(one) if one.id == id);
        let Some(made) = events.iter().find(made) else { return Ok(None) };
        let (calls, _) = self.calls(&CallFilter::default(), made.seq.saturating_sub(1), 1)?;
        Ok(calls.into_iter().next())
    }

    fn each(&self, mut visit: impl FnMut(Found)) -> Result<(), Error> {
        let mut after = 0;
        loop {
            let page = self.ledger.entries(after, CHUNK)?;
            let Some((last, ..)) = page.last() else { return Ok(()) };
            after = *last;
            page.into_iter().for_each(|(seq, entry, leaf)| visit(Found { seq, entry, leaf }));
        }
    }
}

/// Whether an event made, changed or cut a link of this chain, its task, or one of its holders.
fn touches(body: &Body, chain: &[Grant], task: Option<&Task>) -> bool {
    let link = |id: &GrantId| chain.iter().any(|grant| grant.id == *id);
    let holder = |name: &Name| chain.iter().any(|grant| grant.agent == *name);
    match body {
        Body::GrantIssued { grant } => link(&grant.id),
        Body::GrantActivated(activation) => link(&activation.id),
        Body::ApprovalRequested { .. } | Body::ApprovalGiven { .. } | Body::ApprovalDenied { .. } => {
            body.grant().is_some_and(|id| link(&id))
        }
        Body::EnvelopeOpened { task: opened, .. } => task.is_some_and(|task| task.id == *opened),
        Body::GrantRenewed { id, .. } | Body::GrantStatusChanged { id, .. } => link(id),
        Body::TaskStarted { task: started } => task.is_some_and(|task| task.id == started.id),
        Body::TaskEnded { id, .. } => task.is_some_and(|task| task.id == *id),
        Body::AgentRegistered { agent, .. } => holder(&agent.name),
        Body::AgentStatusChanged { name, .. } => holder(name),
        Body::Revoked(revocation) => match &revocation.target {
            Target::Grant(id) => link(id),
            Target::Task(id) => task.is_some_and(|task| task.id == *id),
            Target::Agent(name) => holder(name),
            Target::Owner(owner) => chain.iter().any(|grant| grant.owner == *owner),
            Target::Subject(subject) => chain.iter().any(|grant| grant.subject.as_ref() == Some(subject)),
            Target::Token(_) | Target::Certificate(_) | Target::Lease(_) => false,
        },
        _ => false,
    }
}
