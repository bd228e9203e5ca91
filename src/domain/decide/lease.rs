//! Leases: recorded before they are made, kept once they are, and what each of them should be.

use super::backend::call;
use super::call::judge_call;
use super::invoke::Attempt;
use super::{Caller, Context, Decide, Decision};
use crate::domain::cut::Target;
use crate::domain::error::{Code, Error};
use crate::domain::event::{Body, CutCounts, LeaseChange, Revocation};
use crate::domain::exposure::may_lease;
use crate::domain::grant::{Grant, GrantState};
use crate::domain::id::{GrantId, InvocationId, LeaseId, RevocationId};
use crate::domain::lease::{Backend, Lease, LeaseStatus, MAKING, MAX_LEASES, Trouble};
use crate::domain::name::{Line, Name};
use crate::domain::time::{Span, Timestamp};
use crate::domain::view::View;

/// Asks for a secret of a backend, under a grant that the caller holds.
#[derive(Debug)]
pub struct IssueLease {
    /// Which grant: it has to allow the call `BACKEND:lease@ROLE`.
    pub grant: GrantId,
    /// Where.
    pub backend: Name,
    /// The role that it is made from.
    pub role: Name,
    /// For how long at most; the grant's own time if nothing is said.
    pub ttl: Option<Span>,
    /// The call whose ticket is spent: where the catalog asks for one.
    pub ticket: Option<InvocationId>,
}

/// The secret was made and is about to be handed out. By the broker itself.
#[derive(Debug)]
pub struct KeepLease {
    /// Which.
    pub id: LeaseId,
}

/// The secret could not be made, or nobody knows whether it was: nobody will have it. By the broker itself.
#[derive(Debug)]
pub struct GiveUpLease {
    /// Which.
    pub id: LeaseId,
}

/// Records what is known of a lease in its target. By the broker itself.
#[derive(Debug)]
pub struct ReportLease {
    /// Which.
    pub id: LeaseId,
    /// How it is there; none if that is as the state has it, and only what stands in the way is reported.
    pub status: Option<LeaseStatus>,
    /// Why it is not as it should be, if it is not.
    pub trouble: Option<Trouble>,
}

/// What a lease should be in its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// There, for whoever has the secret.
    Live,
    /// There, and of no use until its grant is resumed.
    Halted,
    /// Gone, and every session of it.
    Gone,
}

/// What a lease should be now.
pub fn wanted(view: &View<'_>, lease: &Lease, now: Timestamp) -> Wanted {
    let over = now >= lease.expires_at || view.cut(&Target::Lease(lease.id)).is_some();
    if over || !is_of(view.backend(&lease.backend), lease) {
        return Wanted::Gone;
    }
    let state = view.standing(lease.grant, now).map(|standing| standing.state);
    let frozen = call(&lease.backend, &lease.role).is_ok_and(|call| view.frozen(&call).is_some());
    match state {
        // Nobody has it yet: it is made now, or not at all.
        Some(GrantState::Active) if !lease.kept && !frozen => {
            let on_its_way = lease.status == LeaseStatus::Planned && now < lease.created_at.plus(MAKING);
            if on_its_way { Wanted::Live } else { Wanted::Gone }
        }
        _ if !lease.kept => Wanted::Gone,
        Some(GrantState::Active) if frozen => Wanted::Halted,
        Some(GrantState::Active) => Wanted::Live,
        Some(GrantState::Suspended) => Wanted::Halted,
        _ => Wanted::Gone,
    }
}

/// Whether the backend is there, and was ever since the lease was made: one that is added again brings nothing back.
fn is_of(backend: Option<&Backend>, lease: &Lease) -> bool {
    backend.is_some_and(|backend| !backend.removed && backend.created_at <= lease.created_at)
}

impl Decide for IssueLease {
    type Answer = Lease;
    const VERB: &'static str = "lease.issue";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Lease>, Error> {
        let (agent, _) = ctx.agent()?;
        let grant = ctx.own_grant(self.grant, &agent.name).map_err(|error| error.on("grant"))?;
        ctx.is_live(grant)?;
        may_lease(&ctx.view, grant)?;
        let made = ctx.replayed::<Self>()?;
        let backend = ctx.view.backend(&self.backend).filter(|backend| !backend.removed);
        let backend = backend.ok_or_else(|| Error::not_found("backend", &self.backend).on("backend"))?;
        if backend.roles.binary_search(&self.role).is_err() {
            let message = format!("backend `{}` leases no role `{}`", backend.name, self.role);
            return Err(Error::denied("role_not_leased", message).on("role"));
        }
        let mut events = Vec::new();
        if let Some(earlier) = made.and_then(|made| made.lease) {
            // Whether its secret arrived is not known, and it was not kept to be sent again.
            events.extend(give_up(ctx, earlier));
        }
        let charged = made.is_some_and(|made| made.invocation.is_some());
        events.extend(self.charge(ctx, grant, charged)?);
        self.has_room(ctx, grant)?;
        let lease = self.lease(ctx, grant)?;
        events.push(Body::LeaseIssued { lease: lease.clone() });
        Ok(Decision::new(events, lease))
    }
}

impl IssueLease {
    /// The call that it is, if the grant allows it. A retry was charged already.
    fn charge(&self, ctx: &mut Context<'_>, grant: &Grant, charged: bool) -> Result<Option<Body>, Error> {
        let call = call(&self.backend, &self.role)?;
        // A retry has spent the ticket already: it is of the same request, which the key stands for.
        let redeems = self.ticket.filter(|_| !charged);
        let attempt = Attempt { redeems, hands_out: !charged, ..Attempt::of(&call, true) };
        let verdict = judge_call(&ctx.view, ctx.now, grant, attempt);
        match verdict.reasons.first() {
            _ if verdict.allowed && charged => Ok(None),
            _ if verdict.allowed => {
                let id = InvocationId::mint(ctx.now, ctx.entropy);
                Ok(Some(Body::Invoked(verdict.record(id, None, attempt))))
            }
            // Limits are asked last: all else allows it.
            Some(reason) if charged && reason.code == "limit_reached" => Ok(None),
            Some(reason) => Err(Error::denied(reason.code, reason.message.clone())),
            None => Err(Error::denied("denied", format!("grant `{}` does not allow it", grant.id))),
        }
    }

    fn has_room(&self, ctx: &Context<'_>, grant: &Grant) -> Result<(), Error> {
        let open = |lease: &&Lease| lease.status != LeaseStatus::Ended;
        if ctx.view.leases_of(grant.id).iter().filter(|lease| open(lease)).count() < MAX_LEASES {
            return Ok(());
        }
        let message = format!("grant `{}` has {MAX_LEASES} leases that are not gone yet; revoke some", grant.id);
        Err(Error::new(Code::Exhausted, "too_many_leases", message))
    }

    fn lease(&self, ctx: &mut Context<'_>, grant: &Grant) -> Result<Lease, Error> {
        let id = LeaseId::mint(ctx.now, ctx.entropy);
        ctx.not_cut(Target::Lease(id))?;
        Ok(Lease {
            id,
            grant: grant.id,
            root: grant.root,
            agent: grant.agent.clone(),
            backend: self.backend.clone(),
            role: self.role.clone(),
            created_at: ctx.now,
            expires_at: self.ttl.map_or(grant.expires_at, |ttl| ctx.now.plus(ttl).min(grant.expires_at)),
            status: LeaseStatus::Planned,
            kept: false,
            changed_at: ctx.now,
            trouble: None,
        })
    }
}

impl Decide for KeepLease {
    type Answer = Lease;
    const VERB: &'static str = "lease.keep";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Lease>, Error> {
        let lease = own(ctx, self.id)?;
        let grant = ctx.view.grant(lease.grant).ok_or_else(|| Error::not_found("grant", lease.grant))?;
        ctx.is_live(grant)?;
        if lease.status != LeaseStatus::Planned || wanted(&ctx.view, lease, ctx.now) != Wanted::Live {
            let message =
                format!("lease `{}` was over before its secret could be handed out; ask for another", lease.id);
            return Err(Error::denied("lease_over", message));
        }
        let kept = Lease { status: LeaseStatus::Made, kept: true, changed_at: ctx.now, trouble: None, ..lease.clone() };
        Ok(Decision::new(vec![changed(&kept)], kept))
    }
}

impl Decide for GiveUpLease {
    type Answer = ();
    const VERB: &'static str = "lease.give_up";

    fn is_urgent(&self) -> bool {
        true
    }

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<()>, Error> {
        own(ctx, self.id)?;
        Ok(Decision::new(give_up(ctx, self.id).into_iter().collect(), ()))
    }
}

impl Decide for ReportLease {
    type Answer = ();
    const VERB: &'static str = "lease.report";

    fn is_urgent(&self) -> bool {
        matches!(self.status, Some(LeaseStatus::Halted | LeaseStatus::Ended))
    }

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<()>, Error> {
        let lease = own(ctx, self.id)?;
        // What it was when the attempt began may be over: what is known by now stays.
        let status = self.status.unwrap_or(lease.status);
        let same = (lease.status, &lease.trouble) == (status, &self.trouble);
        if same || lease.status == LeaseStatus::Ended {
            return Ok(Decision::new(Vec::new(), ()));
        }
        let reported = Lease { status, trouble: self.trouble.clone(), ..lease.clone() };
        Ok(Decision::new(vec![changed(&reported)], ()))
    }
}

fn own<'a>(ctx: &Context<'a>, id: LeaseId) -> Result<&'a Lease, Error> {
    if *ctx.caller != Caller::Broker {
        return Err(Error::denied("broker_only", "only the broker says what is in a backend"));
    }
    ctx.view.lease(&id).ok_or_else(|| Error::not_found("lease", id))
}

fn changed(lease: &Lease) -> Body {
    Body::LeaseChanged(LeaseChange {
        id: lease.id,
        grant: lease.grant,
        root: lease.root,
        agent: lease.agent.clone(),
        status: lease.status,
        trouble: lease.trouble.clone(),
    })
}

/// Cuts a lease whose secret nobody may have; none if it is over already.
fn give_up(ctx: &mut Context<'_>, earlier: LeaseId) -> Option<Body> {
    let target = Target::Lease(earlier);
    let open = ctx.view.lease(&earlier).filter(|lease| lease.status != LeaseStatus::Ended)?;
    if ctx.view.cut(&target).is_some() {
        return None;
    }
    let reason: Result<Line, _> = "its secret was never known to arrive".parse();
    Some(Body::Revoked(Revocation {
        id: RevocationId::mint(ctx.now, ctx.entropy),
        until: target.forget_at(ctx.now),
        target,
        tree: Some(open.root),
        reason: reason.expect("a fixed text is a line"),
        known: true,
        cut: CutCounts { leases: 1, ..CutCounts::default() },
    }))
}
