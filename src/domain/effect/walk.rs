//! Who died by a cut: found in small steps, whenever somebody asks.
//!
//! What was open when the cut was made stays told apart from what was over before: below a cut nothing is renewed,
//! completed or denied any more, and the other ends carry their sequence.

use std::collections::HashSet;

use crate::domain::certificate::Certificate;
use crate::domain::cut::{Recorded, Target};
use crate::domain::event::CutCounts;
use crate::domain::grant::{Grant, LiveToken, Status, Task};
use crate::domain::id::{CertificateId, GrantId, LeaseId, TokenId};
use crate::domain::lease::{Lease, LeaseStatus};
use crate::domain::name::Line;
use crate::domain::time::Timestamp;
use crate::domain::view::View;

/// A cut at its moment, made or imagined.
#[derive(Clone, Debug)]
pub struct Cutting {
    /// What it names.
    pub target: Target,
    /// Its sequence; of one that is only imagined, the next one.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Whether what died by an earlier cut of the same is told too: who cuts again is told the same again.
    pub again: bool,
}

/// Something that died by a cut.
#[derive(Clone, Copy, Debug)]
pub enum Dead<'a> {
    /// A task.
    Task,
    /// A grant.
    Grant(&'a Grant),
    /// A token under one.
    Token(&'a Grant, &'a LiveToken),
    /// A certificate, and the grant that it hangs on if it is no identity.
    Certificate(Option<&'a Grant>, &'a Certificate),
    /// A leased secret under one.
    Lease(&'a Grant, &'a Lease),
}

/// A walk through what died.
#[derive(Debug)]
pub struct Walk {
    cut: Cutting,
    queue: Vec<GrantId>,
    seen: HashSet<GrantId>,
    begun: bool,
}

impl From<&Recorded> for Cutting {
    fn from(recorded: &Recorded) -> Self {
        Self { target: recorded.revocation.target.clone(), seq: recorded.seq, at: recorded.at, again: true }
    }
}

impl Walk {
    /// Before its first step.
    pub fn new(cut: Cutting) -> Self {
        Self { cut, queue: Vec::new(), seen: HashSet::new(), begun: false }
    }

    /// The cut.
    pub fn cut(&self) -> &Cutting {
        &self.cut
    }

    /// Looks at up to `most` grants and tells of what died with each; false once all were looked at. Between two steps
    /// others may act.
    pub fn step(&mut self, view: &View<'_>, most: usize, mut tell: impl FnMut(&Dead<'_>)) -> bool {
        if !self.begun {
            self.begun = true;
            self.begin(view, &mut tell);
            return true;
        }
        for _ in 0..most {
            let Some(id) = self.queue.pop() else { return false };
            let Some(grant) = view.grant(id).filter(|grant| is_open(view, &self.cut, grant)) else { continue };
            if !self.seen.insert(id) {
                continue;
            }
            tell(&Dead::Grant(grant));
            under(view, &self.cut, grant).for_each(|dead| tell(&dead));
            self.queue.extend(view.children(id).iter().map(|child| child.id));
        }
        !self.queue.is_empty()
    }

    fn begin(&mut self, view: &View<'_>, tell: &mut impl FnMut(&Dead<'_>)) {
        let cut = &self.cut;
        match &cut.target {
            Target::Token(id) => one_token(view, cut, *id).iter().for_each(tell),
            Target::Certificate(id) => one_certificate(view, cut, *id).iter().for_each(tell),
            Target::Lease(id) => one_lease(view, cut, *id).iter().for_each(tell),
            Target::Task(id) => {
                view.task(id).filter(|task| task_is_open(view, cut, task)).iter().for_each(|_| tell(&Dead::Task))
            }
            Target::Subject(_) => {
                tasks(view, cut).filter(|task| task_is_open(view, cut, task)).for_each(|_| tell(&Dead::Task))
            }
            Target::Grant(_) | Target::Agent(_) | Target::Owner(_) => {}
        }
        let above = |id: &GrantId| {
            let grant = view.grant(*id).filter(|grant| grant.seq <= cut.seq);
            // Below the top, only its own link can have ended before.
            grant.is_some_and(|grant| {
                grant.parent.is_none_or(|parent| view.ancestry(parent).all(|link| is_open(view, cut, link)))
            })
        };
        self.queue = tops(view, cut).into_iter().filter(above).collect();
    }
}

/// The grants at the top of what dies.
pub fn tops(view: &View<'_>, cut: &Cutting) -> Vec<GrantId> {
    match &cut.target {
        Target::Grant(id) => vec![*id],
        Target::Task(id) => view.roots(*id),
        Target::Agent(name) => view.held(name),
        Target::Owner(owner) => {
            view.agents().filter(|agent| agent.owner == *owner).flat_map(|agent| view.held(&agent.name)).collect()
        }
        Target::Subject(subject) => {
            let roots = tasks(view, cut).flat_map(|task| view.roots(task.id));
            roots.chain(left_behind(view, cut, subject)).collect()
        }
        Target::Token(_) | Target::Certificate(_) | Target::Lease(_) => Vec::new(),
    }
}

/// The trees whose task is forgotten already, while something of theirs still lies in another system.
fn left_behind<'a>(view: &View<'a>, cut: &'a Cutting, subject: &'a Line) -> impl Iterator<Item = GrantId> {
    let is_mine = move |lease: &&Lease| {
        let grant = view.grant(lease.grant).filter(|grant| grant.subject.as_ref() == Some(subject));
        grant.is_some_and(|grant| view.task(&grant.task).is_none())
    };
    view.leases().filter(move |lease| lease_was_there(cut, lease)).filter(is_mine).map(|lease| lease.root)
}

/// The tasks that began on the word of the subject that is cut.
fn tasks<'a>(view: &View<'a>, cut: &Cutting) -> impl Iterator<Item = &'a Task> {
    let Target::Subject(subject) = &cut.target else { return None.into_iter().flatten() };
    let mine = |task: &&Task| task.subject.as_ref() == Some(subject) && task.created_at <= cut.at;
    Some(view.tasks().filter(mine)).into_iter().flatten()
}

/// All that a cut ends, at once: the grants, and how much of what. For who holds the state anyway.
pub fn extent<'a>(view: &View<'a>, cut: Cutting) -> (Vec<&'a Grant>, CutCounts) {
    let (mut grants, mut counts) = (Vec::new(), CutCounts::default());
    let mut walk = Walk::new(cut);
    let mut tell = |dead: &Dead<'_>| match dead {
        Dead::Task => {}
        Dead::Grant(grant) => grants.push(grant.id),
        Dead::Token(..) => counts.tokens += 1,
        Dead::Certificate(..) => counts.certificates += 1,
        Dead::Lease(..) => counts.leases += 1,
    };
    while walk.step(view, usize::MAX, &mut tell) {}
    let grants: Vec<&Grant> = grants.into_iter().filter_map(|id| view.grant(id)).collect();
    counts.grants = grants.len() as u64;
    (grants, counts)
}

/// Whether this link was not over when the cut was made. What is above it is another question.
pub fn is_open(view: &View<'_>, cut: &Cutting, grant: &Grant) -> bool {
    let since = |seq: Option<u64>| seq.is_none_or(|seq| seq >= cut.seq);
    grant.expires_at > cut.at
        && !matches!(grant.status, Status::Denied | Status::Completed)
        && view.agent(&grant.agent).is_some_and(|agent| since(agent.retired))
        // A task is forgotten no sooner than its grants are over; one that stays for its lease was within it.
        && view.task(&grant.task).is_none_or(|task| task_is_open(view, cut, task))
        && !was_cut(view, cut, &Target::Grant(grant.id), None)
        && ![Target::Agent(grant.agent.clone()), Target::Owner(grant.owner.clone())]
            .iter()
            .any(|target| was_cut(view, cut, target, Some(grant.seq)))
}

fn task_is_open(view: &View<'_>, cut: &Cutting, task: &Task) -> bool {
    let subject = task.subject.clone().map(Target::Subject);
    let by_subject = |target: Target| {
        let before = view.cut(&target).is_some_and(|made| made.seq < cut.seq && task.created_at <= made.id.time());
        before && !(cut.again && target == cut.target)
    };
    task.expires_at > cut.at
        && task.ended.is_none_or(|seq| seq >= cut.seq)
        && !was_cut(view, cut, &Target::Task(task.id), None)
        && !subject.is_some_and(by_subject)
}

/// Whether another cut ended it before. One of the same target does not count: who cuts again is told the same again.
fn was_cut(view: &View<'_>, cut: &Cutting, target: &Target, granted: Option<u64>) -> bool {
    let before = view.cut(target).filter(|made| made.seq < cut.seq && granted.is_none_or(|seq| seq <= made.seq));
    before.is_some() && !(cut.again && *target == cut.target)
}

/// The credentials under one grant that were not over.
fn under<'a>(view: &View<'a>, cut: &Cutting, grant: &'a Grant) -> impl Iterator<Item = Dead<'a>> {
    let tokens = view.tokens_of(grant.id).into_iter().filter(|token| token_was_good(view, cut, token));
    let certificates = view.certificates_of(grant.id).into_iter();
    let certificates = certificates.filter(|one| certificate_was_good(view, cut, one));
    let leases = view.leases_of(grant.id).into_iter().filter(|lease| lease_was_there(cut, lease));
    let dead: Vec<Dead<'a>> = tokens
        .map(|token| Dead::Token(grant, token))
        .chain(certificates.map(|one| Dead::Certificate(Some(grant), one)))
        .chain(leases.map(|lease| Dead::Lease(grant, lease)))
        .collect();
    dead.into_iter()
}

pub(super) fn token_was_good(view: &View<'_>, cut: &Cutting, token: &LiveToken) -> bool {
    token.seq <= cut.seq && token.expires_at > cut.at && !was_cut(view, cut, &Target::Token(token.id), None)
}

fn certificate_was_good(view: &View<'_>, cut: &Cutting, one: &Certificate) -> bool {
    one.not_after > cut.at && !was_cut(view, cut, &Target::Certificate(one.id), None)
}

/// What lies in another system dies when it is gone from there, and not by its time alone.
fn lease_was_there(cut: &Cutting, lease: &Lease) -> bool {
    lease.created_at <= cut.at && (lease.status != LeaseStatus::Ended || lease.changed_at >= cut.at)
}

fn one_token<'a>(view: &View<'a>, cut: &Cutting, id: TokenId) -> Option<Dead<'a>> {
    let token = view.token(&id).filter(|token| token_was_good(view, cut, token))?;
    Some(Dead::Token(view.grant(token.grant)?, token))
}

/// An identity hangs on no grant.
fn one_certificate<'a>(view: &View<'a>, cut: &Cutting, id: CertificateId) -> Option<Dead<'a>> {
    let one = view.certificate(&id).filter(|one| certificate_was_good(view, cut, one))?;
    Some(Dead::Certificate(one.grant.and_then(|grant| view.grant(grant)), one))
}

fn one_lease<'a>(view: &View<'a>, cut: &Cutting, id: LeaseId) -> Option<Dead<'a>> {
    let lease = view.lease(&id).filter(|lease| lease_was_there(cut, lease))?;
    Some(Dead::Lease(view.grant(lease.grant)?, lease))
}
