//! The cut: one event, whatever is below. Descendants die whether or not anybody enumerates them.

use super::{Caller, Context, Decide, Decision};
use crate::domain::agent::Kind;
use crate::domain::cut::Target;
use crate::domain::error::Error;
use crate::domain::event::{Body, CutCounts, Revocation};
use crate::domain::grant::{Credential, Grant, Status};
use crate::domain::id::{CertificateId, GrantId, LeaseId, RevocationId, TokenId};
use crate::domain::lease::{Lease, LeaseStatus};
use crate::domain::name::{Line, Name};
use crate::domain::policy::{AboutTarget, Right};
use crate::domain::time::{SKEW, Timestamp};

/// At most this many effects are listed in an answer; the counts are whole.
const LISTED: usize = 1000;

/// Revokes one target and all below it.
#[derive(Debug)]
pub struct Revoke {
    /// What.
    pub target: Target,
    /// Why.
    pub reason: Line,
    /// Only tell what would die.
    pub dry_run: bool,
}

/// A revocation as it is answered.
#[derive(Debug)]
pub struct Revoked {
    /// The record; of a dry run, the one that would be made.
    pub revocation: Revocation,
    /// When.
    pub at: Timestamp,
    /// Per credential, up to a thousand.
    pub effects: Vec<Effect>,
}

/// What a revocation does to one credential.
#[derive(Debug)]
pub struct Effect {
    /// The credential.
    pub credential: Credential,
    /// Whether everybody honours it already.
    pub state: EffectState,
    /// Since when, or until when.
    pub at: Timestamp,
}

/// Whether a cut reaches everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EffectState {
    /// Refused from now on by all who decide: the broker itself.
    Enforced,
    /// Refused by the broker, and still to be ended in the system that it is a secret of.
    Pending,
    /// Honoured until it expires by a party that checks offline and cannot be told.
    Expires,
}

impl Decide for Revoke {
    type Answer = Revoked;
    const VERB: &'static str = "revoke";

    fn is_urgent(&self) -> bool {
        !self.dry_run
    }

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Revoked>, Error> {
        if self.target.time().is_some_and(|dated| dated > ctx.now.plus(SKEW)) {
            let why = "it is dated in the future; check the id and the clocks";
            return Err(Error::malformed("target", &self.target.to_string(), why));
        }
        let known = self.permitted(ctx)?;
        let (cut, effects, tree) = self.extent(ctx);
        let revocation = Revocation {
            id: RevocationId::mint(ctx.now, ctx.entropy),
            target: self.target.clone(),
            tree,
            reason: self.reason.clone(),
            known,
            until: self.target.forget_at(ctx.now),
            cut,
        };
        let events = if self.dry_run { Vec::new() } else { vec![Body::Revoked(revocation.clone())] };
        Ok(Decision::new(events, Revoked { revocation, at: ctx.now, effects }))
    }
}

impl Revoke {
    /// Whether the target is known to somebody who may cut it.
    fn permitted(&self, ctx: &Context<'_>) -> Result<bool, Error> {
        let known = self.is_known(ctx);
        let unknown = || Error::not_found("target", &self.target).on("target");
        match ctx.caller {
            Caller::Agent(presenter) => {
                let agent = ctx.known_agent(presenter)?;
                // To an agent, the unknown and the foreign look the same.
                if self.is_below(ctx, &agent.name) { Ok(true) } else { Err(unknown()) }
            }
            _ => {
                ctx.operator_about(Right::Revoke, Some(self.about(ctx)))?;
                // A name that nobody bears is a slip; an id never seen may turn up yet, and is remembered.
                if known || self.target.time().is_some() { Ok(known) } else { Err(unknown()) }
            }
        }
    }

    /// What policies may know of the target.
    fn about<'a>(&'a self, ctx: &Context<'a>) -> AboutTarget<'a> {
        let view = &ctx.view;
        let of_grant = |id: GrantId| view.grant(id).map(|grant| &grant.owner);
        let (kind, owner) = match &self.target {
            Target::Grant(id) => ("grant", of_grant(*id)),
            Target::Task(id) => {
                let task = view.task(id);
                ("task", task.and_then(|task| view.agent(&task.agent)).map(|agent| &agent.owner))
            }
            Target::Token(id) => ("token", view.token(id).and_then(|token| of_grant(token.grant))),
            Target::Certificate(id) => {
                let known = view.certificate(id);
                let holder = known.filter(|one| one.kind == Kind::Agent).and_then(|one| view.agent(&one.name));
                ("certificate", holder.map(|agent| &agent.owner))
            }
            Target::Lease(id) => ("lease", view.lease(id).and_then(|lease| of_grant(lease.grant))),
            Target::Agent(name) => ("agent", view.agent(name).map(|agent| &agent.owner)),
            Target::Owner(owner) => ("owner", Some(owner)),
            Target::Subject(_) => ("subject", None),
        };
        AboutTarget { kind, owner }
    }

    pub(super) fn is_known(&self, ctx: &Context<'_>) -> bool {
        let view = &ctx.view;
        match &self.target {
            Target::Grant(id) => view.grant(*id).is_some(),
            Target::Task(id) => view.task(id).is_some(),
            Target::Token(id) => view.token(id).is_some(),
            Target::Certificate(id) => view.certificate(id).is_some(),
            Target::Lease(id) => view.lease(id).is_some(),
            Target::Agent(name) => view.agent(name).is_some(),
            Target::Owner(owner) => view.agents().any(|agent| agent.owner == *owner),
            Target::Subject(subject) => view.tasks().any(|task| task.subject.as_ref() == Some(subject)),
        }
    }

    /// What an agent holds, and all below it: never above or beside.
    pub(super) fn is_below(&self, ctx: &Context<'_>, agent: &Name) -> bool {
        let view = &ctx.view;
        let held = |grant: GrantId| view.ancestry(grant).any(|link| link.agent == *agent);
        match &self.target {
            Target::Grant(id) => held(*id),
            Target::Task(id) => view.task(id).is_some_and(|task| task.agent == *agent),
            Target::Token(id) => view.token(id).is_some_and(|token| held(token.grant)),
            Target::Certificate(id) => view.certificate(id).is_some_and(|one| match one.grant {
                Some(grant) => held(grant),
                None => one.kind == Kind::Agent && one.name == *agent,
            }),
            Target::Lease(id) => view.lease(id).is_some_and(|lease| held(lease.grant)),
            Target::Agent(name) => name == agent,
            Target::Owner(_) | Target::Subject(_) => false,
        }
    }

    /// The grants at the top of what dies.
    pub(super) fn tops(&self, ctx: &Context<'_>) -> Vec<GrantId> {
        let view = &ctx.view;
        match &self.target {
            Target::Grant(id) => vec![*id],
            Target::Task(id) => view.roots(*id),
            Target::Agent(name) => view.held(name),
            Target::Owner(owner) => {
                view.agents().filter(|agent| agent.owner == *owner).flat_map(|agent| view.held(&agent.name)).collect()
            }
            Target::Subject(subject) => view
                .tasks()
                .filter(|task| task.subject.as_ref() == Some(subject))
                .flat_map(|task| view.roots(task.id))
                .collect(),
            Target::Token(_) | Target::Certificate(_) | Target::Lease(_) => Vec::new(),
        }
    }

    /// The grants that die: every one that was not over.
    pub(super) fn open<'a>(&self, ctx: &Context<'a>) -> Vec<&'a Grant> {
        let view = &ctx.view;
        let open = |grant: &Grant| view.standing(grant.id, ctx.now).is_some_and(|standing| !standing.state.is_ended());
        view.descend(self.tops(ctx), open)
    }

    /// What dies: every grant that was not over, and every token under one that was not over.
    pub(super) fn extent(&self, ctx: &Context<'_>) -> Extent {
        match &self.target {
            Target::Token(id) => return one_token(ctx, *id),
            Target::Certificate(id) => return one_certificate(ctx, *id),
            Target::Lease(id) => return one_lease(ctx, *id),
            _ => {}
        }
        let view = &ctx.view;
        let grants = self.open(ctx);
        let mut counts = CutCounts { grants: grants.len() as u64, ..CutCounts::default() };
        let mut effects = Vec::new();
        for grant in &grants {
            for (credential, expires_at) in credentials(ctx, grant.id) {
                count(&mut counts, credential);
                if effects.len() < LISTED {
                    effects.push(effect(ctx, grant, credential, expires_at));
                }
            }
        }
        let tree = match &self.target {
            Target::Grant(id) => view.grant(*id).map(|grant| grant.root),
            _ => None,
        };
        (counts, effects, tree)
    }
}

/// Whether a grant has been active: one that waits, or was denied, reaches nothing.
pub(super) fn is_counted(grant: &Grant) -> bool {
    !matches!(grant.status, Status::Pending | Status::Denied)
}

type Extent = (CutCounts, Vec<Effect>, Option<GrantId>);

fn one_token(ctx: &Context<'_>, id: TokenId) -> Extent {
    let token = ctx.view.token(&id).filter(|token| is_open(ctx, Credential::Token(id), token.expires_at));
    let found = token.and_then(|token| Some((Credential::Token(id), token.expires_at, ctx.view.grant(token.grant)?)));
    found.map_or_else(Default::default, |(credential, expires_at, grant)| one(ctx, credential, expires_at, grant))
}

/// An identity hangs on no grant: nobody but the broker looks at it, and the broker refuses it at once.
fn one_certificate(ctx: &Context<'_>, id: CertificateId) -> Extent {
    let credential = Credential::Certificate(id);
    let Some(certificate) = ctx.view.certificate(&id).filter(|one| is_open(ctx, credential, one.not_after)) else {
        return Extent::default();
    };
    match certificate.grant.and_then(|grant| ctx.view.grant(grant)) {
        Some(grant) => one(ctx, credential, certificate.not_after, grant),
        None => {
            let effect = Effect { credential, state: EffectState::Enforced, at: ctx.now };
            (CutCounts { certificates: 1, ..CutCounts::default() }, vec![effect], None)
        }
    }
}

fn one_lease(ctx: &Context<'_>, id: LeaseId) -> Extent {
    let credential = Credential::Lease(id);
    let lease = ctx.view.lease(&id).filter(|lease| is_there(lease) && is_open(ctx, credential, lease.expires_at));
    let found = lease.and_then(|lease| Some((lease.expires_at, ctx.view.grant(lease.grant)?)));
    found.map_or_else(Default::default, |(expires_at, grant)| one(ctx, credential, expires_at, grant))
}

fn is_there(lease: &Lease) -> bool {
    lease.status != LeaseStatus::Ended
}

fn one(ctx: &Context<'_>, credential: Credential, expires_at: Timestamp, grant: &Grant) -> Extent {
    let mut counts = CutCounts::default();
    count(&mut counts, credential);
    (counts, vec![effect(ctx, grant, credential, expires_at)], Some(grant.root))
}

fn count(counts: &mut CutCounts, credential: Credential) {
    match credential {
        Credential::Token(_) => counts.tokens += 1,
        Credential::Certificate(_) => counts.certificates += 1,
        Credential::Lease(_) => counts.leases += 1,
    }
}

/// The credentials under one grant that are not over.
fn credentials<'a>(ctx: &'a Context<'_>, grant: GrantId) -> impl Iterator<Item = (Credential, Timestamp)> + use<'a> {
    let tokens = ctx.view.tokens_of(grant).into_iter().map(|token| (Credential::Token(token.id), token.expires_at));
    let certificates = ctx.view.certificates_of(grant).into_iter();
    let certificates = certificates.map(|one| (Credential::Certificate(one.id), one.not_after));
    let leases = ctx.view.leases_of(grant).into_iter().filter(|lease| is_there(lease));
    let leases = leases.map(|lease| (Credential::Lease(lease.id), lease.expires_at));
    tokens.chain(certificates).chain(leases).filter(|(credential, expires_at)| is_open(ctx, *credential, *expires_at))
}

fn is_open(ctx: &Context<'_>, credential: Credential, expires_at: Timestamp) -> bool {
    ctx.now < expires_at && ctx.view.cut(&credential.target()).is_none()
}

/// What the broker alone decides on is refused at once; what another may check offline it may honour until it expires.
fn effect(ctx: &Context<'_>, grant: &Grant, credential: Credential, expires_at: Timestamp) -> Effect {
    if matches!(credential, Credential::Lease(_)) {
        return Effect { credential, state: EffectState::Pending, at: ctx.now };
    }
    let ours = ctx.view.origin().is_some_and(|origin| origin.issuer == grant.audience);
    match ours && matches!(credential, Credential::Token(_)) {
        true => Effect { credential, state: EffectState::Enforced, at: ctx.now },
        false => Effect { credential, state: EffectState::Expires, at: expires_at },
    }
}
