//! Humans decide: bound to what they were shown, never on their own behalf, and never wider than was asked.

use super::grant::life;
use super::pend::{is_party, is_waiting};
use super::weigh::{Weight, Wish, ask, may_approve, names, weigh};
use super::{Caller, Context, Decide, Decision};
use crate::domain::agent::{Agent, AgentStatus, Operator};
use crate::domain::approval::{Approval, ApprovalState, ApprovalStatus, Envelope, Vote};
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::event::{Activation, Body};
use crate::domain::exposure::longest_under;
use crate::domain::grant::{Grant, GrantState, Task};
use crate::domain::id::ApprovalId;
use crate::domain::name::Line;
use crate::domain::policy::{Action, Decided, Mode, Outcome};
use crate::domain::radius::{Figures, Unions};
use crate::domain::scope::Scopes;
use crate::domain::time::{Span, Timestamp};
use crate::domain::view::View;

/// Approves: all of it, or less.
#[derive(Debug)]
pub struct Approve {
    /// Which.
    pub id: ApprovalId,
    /// The digest of what was shown.
    pub digest: Digest,
    /// Why.
    pub reason: Line,
    /// No more than this.
    pub scopes: Option<Scopes>,
    /// No longer than this.
    pub ttl: Option<Span>,
}

/// Denies, for all.
#[derive(Debug)]
pub struct Deny {
    /// Which.
    pub id: ApprovalId,
    /// Why.
    pub reason: Line,
}

/// What became of an approval.
#[derive(Debug)]
pub struct Voted {
    /// The approval as it is now.
    pub approval: Approval,
    /// How it stands.
    pub state: ApprovalState,
    /// How many more humans have to approve.
    pub missing: u8,
}

impl Decide for Approve {
    type Answer = Voted;
    const VERB: &'static str = "approval.approve";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Voted>, Error> {
        let operator = ctx.calling_operator()?;
        let case = Case::open(ctx, self.id, operator)?;
        let approval = case.approval;
        if approval.digest != self.digest {
            let message = format!("approval `{}` is not what was shown; look at it again", self.id);
            return Err(Error::new(Code::Conflict, "approval_changed", message).on("digest"));
        }
        if let Some(vote) = approval.given.iter().find(|vote| vote.by == operator.name) {
            let message =
                format!("`{}` has approved `{}` at {}; another human has to", operator.name, self.id, vote.at);
            return Err(Error::new(Code::Conflict, "already_given", message));
        }
        let vote = Vote {
            by: operator.name.clone(),
            at: ctx.now,
            reason: self.reason.clone(),
            scopes: self.narrowed(approval)?,
            ttl: self.ttl,
        };
        case.is_not_halted()?;
        let left = approval.meet(Some(&vote)).ok_or_else(|| {
            Error::denied("nothing_left", "what the approvals so far and this one have in common is nothing")
                .on("scope")
        })?;
        case.is_not_frozen(&left.0)?;
        let given = case.counted()?.saturating_add(1);
        let decided = case.still_holds(&left, given)?;
        let votes = approval.given.iter().cloned().chain([vote.clone()]).collect();
        let mut now = Approval { given: votes, ..approval.clone() };
        let mut events = vec![Body::ApprovalGiven { id: self.id, grant: approval.grant, vote }];
        let missing = approval.needed.saturating_sub(given);
        if missing == 0 {
            events.push(case.effect(&now, left, given, decided));
            now.status = ApprovalStatus::Approved;
        }
        let state = state_of(&ctx.view, &now, ctx.now);
        Ok(Decision::new(events, Voted { approval: now, state, missing }))
    }
}

impl Approve {
    /// What the approver would rather allow: within what was asked for, naming the field if it is not.
    fn narrowed(&self, approval: &Approval) -> Result<Option<Scopes>, Error> {
        if self.ttl.is_some_and(|ttl| ttl > approval.ttl) {
            let message = format!("an approval never widens: {} s were asked for", approval.ttl.as_millis() / 1000);
            return Err(Error::denied("approval_widens", message).on("ttl"));
        }
        let Some(scopes) = &self.scopes else { return Ok(None) };
        approval.scopes.within(scopes).map(Some).map_err(|widening| {
            Error::denied("approval_widens", format!("an approval never widens: {widening}")).on("scope")
        })
    }
}

impl Decide for Deny {
    type Answer = Voted;
    const VERB: &'static str = "approval.deny";

    fn is_urgent(&self) -> bool {
        true
    }

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Voted>, Error> {
        let operator = ctx.calling_operator()?;
        let case = Case::open(ctx, self.id, operator)?;
        let vote =
            Vote { by: operator.name.clone(), at: ctx.now, reason: self.reason.clone(), scopes: None, ttl: None };
        let approval = Approval { denied: Some(vote.clone()), status: ApprovalStatus::Denied, ..case.approval.clone() };
        let event = Body::ApprovalDenied { id: self.id, grant: approval.grant, vote };
        Ok(Decision::new(vec![event], Voted { approval, state: ApprovalState::Denied, missing: 0 }))
    }
}

/// An approval that waits, with what it is about.
struct Case<'a> {
    view: View<'a>,
    now: Timestamp,
    approval: &'a Approval,
    grant: Option<&'a Grant>,
    task: &'a Task,
    asks: &'a Agent,
    holder: &'a Agent,
}

impl<'a> Case<'a> {
    /// The case, if this operator may decide it.
    fn open(ctx: &Context<'a>, id: ApprovalId, operator: &Operator) -> Result<Self, Error> {
        let approval = ctx.view.approval(&id).ok_or_else(|| Error::not_found("approval", id))?;
        let state = state_of(&ctx.view, approval, ctx.now);
        if !matches!(state, ApprovalState::Pending | ApprovalState::Queued) {
            let reason = match state {
                ApprovalState::Expired => "approval_expired",
                ApprovalState::Revoked => "approval_revoked",
                _ => "approval_decided",
            };
            return Err(Error::new(Code::Conflict, reason, format!("approval `{id}` is {state}")));
        }
        let case = Self::of(ctx.view, ctx.now, approval)?;
        if is_party(approval, &operator.name) {
            let message =
                format!("`{}` asks for, holds or is served by `{id}`; another human has to decide", operator.name);
            return Err(Error::denied("own_request", message));
        }
        if !case.entitles(operator, case.counted()?)? {
            let message = format!("operator `{}` may not decide `{id}`", operator.name);
            return Err(Error::denied("not_entitled", message));
        }
        Ok(case)
    }

    fn of(view: View<'a>, now: Timestamp, approval: &'a Approval) -> Result<Self, Error> {
        let task = view.task(&approval.task).ok_or_else(|| Error::not_found("task", approval.task))?;
        let agent = |name| view.agent(name).ok_or_else(|| Error::not_found("agent", name));
        let grant = approval.grant.and_then(|grant| view.grant(grant));
        let (holder, requester) = (agent(&approval.holder)?, agent(&approval.requester)?);
        let asks = if grant.is_some_and(|grant| grant.mode == Mode::Narrowed) { requester } else { holder };
        Ok(Self { view, now, approval, grant, task, asks, holder })
    }

    /// Whether the policies let this operator decide it, by what was shown, once so many others have approved.
    fn entitles(&self, operator: &Operator, given: u8) -> Result<bool, Error> {
        let approval = self.approval;
        let weight = Weight { radius: approval.radius, adds: approval.adds, unions: approval.unions };
        may_approve(
            &self.view,
            operator,
            &Wish { approvals: given, ..self.wish(&approval.scopes, approval.ttl, 0) },
            &weight,
        )
    }

    /// The votes that count: of operators who are still there and may still decide it. What others took away stays
    /// taken away.
    fn counted(&self) -> Result<u8, Error> {
        let mut counted = 0;
        for vote in &self.approval.given {
            let operator = self.view.operator(&vote.by).filter(|operator| !operator.removed);
            counted += u8::from(operator.map_or(Ok(false), |operator| self.entitles(operator, counted))?);
        }
        Ok(counted)
    }

    /// Nothing is activated for somebody who is halted: what waits can be approved once it goes on.
    fn is_not_halted(&self) -> Result<(), Error> {
        let parties = [self.asks, self.holder].map(|agent| (agent.status, format!("agent `{}`", agent.name)));
        let halted = parties.into_iter().find(|(status, _)| *status == AgentStatus::Suspended).map(|(_, who)| who);
        let above = || {
            let parent = self.grant.and_then(|grant| grant.parent)?;
            let standing = self.view.standing(parent, self.now)?;
            (standing.state != GrantState::Active).then(|| format!("grant `{}`", standing.link))
        };
        let task = || self.task.suspended.then(|| format!("task `{}`", self.task.id));
        match halted.or_else(above).or_else(task) {
            None => Ok(()),
            Some(who) => {
                let message = format!("{who} is suspended; `{}` can be approved once it was resumed", self.approval.id);
                Err(Error::new(Code::Conflict, "approval_halted", message))
            }
        }
    }

    /// Nothing is activated that a freeze could stop: it waits on, and can be approved once that was thawed.
    fn is_not_frozen(&self, scopes: &Scopes) -> Result<(), Error> {
        let frozen = scopes.iter().find_map(|scope| self.view.may_be_frozen(scope).map(|freeze| (scope, freeze)));
        frozen.map_or(Ok(()), |(scope, freeze)| {
            let message = format!(
                "`{scope}` is frozen by `{}`: {}; `{}` can be approved once it was thawed",
                freeze.id, freeze.reason, self.approval.id
            );
            Err(Error::new(Code::Conflict, "frozen", message).on("scope"))
        })
    }

    fn wish<'b>(&'b self, scopes: &'b Scopes, ttl: Span, approvals: u8) -> Wish<'b> {
        let mode = self.grant.map_or(Mode::Root, |grant| grant.mode);
        let carried = self.grant.map_or(0, |grant| grant.approvals);
        let (expires_at, _) = self.life(ttl);
        Wish {
            action: if mode == Mode::Narrowed { Action::Delegate } else { Action::Request },
            asks: self.asks,
            holder: self.holder,
            task: self.task,
            scopes,
            approvals: approvals.max(carried),
            ttl: expires_at.since(self.now),
            depth: self.grant.map_or(0, |grant| grant.depth),
            mode,
        }
    }

    fn life(&self, ttl: Span) -> (Timestamp, Timestamp) {
        let parent = self.grant.and_then(|grant| grant.parent).and_then(|parent| self.view.grant(parent));
        life(
            self.now,
            ttl,
            self.grant.and_then(|grant| longest_under(&self.view, grant)),
            parent,
            self.holder,
            self.task,
        )
    }

    /// Stale if the policies or the catalog have moved in a way that changes the answer, or if it would add more than
    /// was shown. What neighbours of the same owner did since changes nothing: their union counts as it was shown. What
    /// the agent and the subject have gained since counts: else two that wait would pass together.
    fn still_holds(&self, left: &(Scopes, Span), given: u8) -> Result<Decided, Error> {
        let approval = self.approval;
        let stale = |why: String| {
            let message = format!("approval `{}` is stale: {why}; it has to be asked for again", approval.id);
            Error::new(Code::Conflict, "approval_stale", message)
        };
        let as_if = given.max(approval.needed);
        let wish = self.wish(&left.0, left.1, as_if);
        let now = weigh(&self.view, &wish);
        if now.adds.exceeds(&approval.adds) {
            let score = |figures: &Figures| match figures.unbounded {
                true => format!("a score of {} and what is not in the catalog", figures.score),
                false => format!("a score of {}", figures.score),
            };
            let (now, shown) = (score(&now.adds), score(&approval.adds));
            return Err(stale(format!("it would add {now}, and {shown} was shown")));
        }
        // By another catalog, as much may be something else.
        let moved = self.view.catalog_version() != approval.catalog;
        let shown = || names(&self.view, &self.wish(&approval.scopes, approval.ttl, as_if));
        if moved && approval.names.is_some_and(|names| names != shown()) {
            return Err(stale("it would add other resources than were shown".to_owned()));
        }
        let unions = Unions { owner: approval.unions.owner, ..now.unions };
        let (outcome, decided) = ask(&self.view, &wish, &Weight { unions, ..now })?;
        match outcome {
            Outcome::Allowed(_) => Ok(decided),
            Outcome::Needs(needed, _) => Err(stale(format!("it would need {needed} approvals by now"))),
            Outcome::Denied(..) => Err(stale(format!("policy version {} denies it", decided.version))),
        }
    }

    /// What `voted` comes to, with all the approvals that it needs.
    fn effect(&self, voted: &Approval, (scopes, ttl): (Scopes, Span), approvals: u8, decided: Decided) -> Body {
        let approval = self.approval;
        let (expires_at, renewable_until) = self.life(ttl);
        // No later than was shown, whatever has been changed about the holder since.
        let shown = approval.renewable_until.unwrap_or(renewable_until);
        let (expires_at, renewable_until) = (expires_at.min(shown), renewable_until.min(shown));
        let Some(grant) = self.grant else {
            let envelope = Envelope { approval: approval.id, scopes, radius: approval.radius, approvals, expires_at };
            return Body::EnvelopeOpened { task: self.task.id, agent: self.task.agent.clone(), envelope };
        };
        // An approver who says for how long means renewals too.
        let shortened = voted.given.iter().any(|vote| vote.ttl.is_some());
        Body::GrantActivated(Activation {
            id: grant.id,
            approval: approval.id,
            root: grant.root,
            agent: grant.agent.clone(),
            scopes,
            expires_at,
            renewable_until: if shortened { expires_at } else { renewable_until },
            approvals: approvals.max(grant.approvals),
            decided,
        })
    }
}

/// How many more humans have to approve it; none once it is decided.
pub fn missing(view: &View<'_>, approval: &Approval, now: Timestamp) -> u8 {
    if approval.status != ApprovalStatus::Pending {
        return 0;
    }
    // Where nothing can be asked about any more, nobody is going to decide it either.
    let known = view.approval(&approval.id).and_then(|known| Case::of(*view, now, known).ok());
    approval.needed.saturating_sub(known.and_then(|case| case.counted().ok()).unwrap_or(0))
}

/// Whether it can still be decided, now or once it is shown.
pub(super) fn is_open(view: &View<'_>, approval: &Approval, now: Timestamp) -> bool {
    is_waiting(approval, now) && matches!(state_of(view, approval, now), ApprovalState::Pending | ApprovalState::Queued)
}

/// How an approval stands: its own status, time, and what it is for.
pub fn state_of(view: &View<'_>, approval: &Approval, now: Timestamp) -> ApprovalState {
    match approval.status {
        ApprovalStatus::Approved => return ApprovalState::Approved,
        ApprovalStatus::Denied => return ApprovalState::Denied,
        ApprovalStatus::Pending => {}
    }
    if !is_waiting(approval, now) {
        return ApprovalState::Expired;
    }
    let stands = match approval.grant {
        // What is halted above waits on: it may be resumed.
        Some(grant) => view.standing(grant, now).is_some_and(|standing| !standing.state.is_ended()),
        None => view.task(&approval.task).is_some_and(|task| {
            let retired = view.agent(&task.agent).is_none_or(|agent| agent.status == AgentStatus::Retired);
            !view.task_state(task, now).is_ended() && !retired && !view.is_cut_since(task, approval.created_at)
        }),
    };
    match (stands, approval.prompted_at()) {
        (false, _) => ApprovalState::Revoked,
        (true, Some(at)) if at > now => ApprovalState::Queued,
        (true, _) => ApprovalState::Pending,
    }
}

impl<'a> Context<'a> {
    /// The calling operator, whatever it may do.
    fn calling_operator(&self) -> Result<&'a Operator, Error> {
        let Caller::Operator(presenter) = self.caller else {
            return Err(Error::denied("operators_only", "only a human decides an approval"));
        };
        self.presentable(presenter)?;
        let operator = self.view.operator(&presenter.name).filter(|operator| !operator.removed);
        operator.ok_or_else(|| super::unknown_caller("operator", &presenter.name))
    }
}
