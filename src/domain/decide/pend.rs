//! Asking humans: a durable request, bound to what it will show, to operators who have prompts to spare.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::Context;
use super::approval::is_open;
use super::grant::life;
use super::weigh::{Weight, Wish, may_approve, names as names_of};
use crate::domain::agent::Operator;
use crate::domain::approval::{
    APPROVAL_LIFE, Approval, ApprovalStatus, MOST_ASKED, MOST_KEPT, MOST_WAITING, PROMPTS_PER_HOUR,
    PROMPTS_PER_REQUESTER,
};
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::exposure::longest_under;
use crate::domain::grant::Grant;
use crate::domain::id::ApprovalId;
use crate::domain::name::{Line, Name};
use crate::domain::policy::Decided;
use crate::domain::time::{Span, Timestamp};

/// A wish that needs humans.
pub(super) struct Elevated<'a> {
    pub wish: &'a Wish<'a>,
    pub weight: Weight,
    pub needed: u8,
    pub decided: Decided,
    /// The grant that waits; none: an envelope.
    pub grant: Option<&'a Grant>,
}

/// The approval that it needs. It ends no later than what it would hang on: a task, a parent.
pub(super) fn pend(ctx: &mut Context<'_>, elevated: Elevated<'_>) -> Result<Approval, Error> {
    let Elevated { wish, weight, needed, decided, grant } = elevated;
    let parent = grant.and_then(|grant| grant.parent).and_then(|parent| ctx.view.grant(parent));
    let requester = parent.map_or(&wish.holder.name, |parent| &parent.agent).clone();
    not_too_many(ctx, &requester)?;
    let above = grant.and_then(|grant| grant.parent).into_iter().flat_map(|parent| ctx.view.ancestry(parent));
    let mut chain: Vec<Name> = above.map(|link| link.agent.clone()).collect();
    chain.reverse();
    let mut approval = Approval {
        id: ApprovalId::mint(ctx.now, ctx.entropy),
        grant: grant.map(|grant| grant.id),
        task: wish.task.id,
        purpose: wish.task.purpose.clone(),
        requester,
        holder: wish.holder.name.clone(),
        chain,
        parent: parent.map(|parent| parent.id),
        mode: wish.mode,
        subject: wish.task.subject.clone(),
        scopes: wish.scopes.clone(),
        audience: grant.map(|grant| grant.audience.clone()),
        ttl: wish.ttl,
        renewable_until: None,
        limits: grant.map(|grant| grant.limits.clone()).unwrap_or_default(),
        needed,
        decided,
        catalog: ctx.view.catalog_version(),
        radius: weight.radius,
        adds: weight.adds,
        names: Some(names_of(&ctx.view, wish)),
        unions: weight.unions,
        digest: Digest([0; 32]),
        asked: Vec::new(),
        created_at: ctx.now,
        expires_at: ctx.now,
        given: Vec::new(),
        denied: None,
        status: ApprovalStatus::Pending,
    };
    approval.asked = asked(ctx, &approval, wish, &weight)?;
    // One that is queued has its full time once it is shown.
    let shown = approval.prompted_at().map_or(ctx.now, |at| at.max(ctx.now));
    let end = shown.plus(APPROVAL_LIFE).min(wish.task.expires_at);
    approval.expires_at = parent.map_or(end, |parent| end.min(parent.expires_at));
    // Approved at the last moment, it would last the longest.
    let longest = |grant: &Grant| longest_under(&ctx.view, grant);
    let latest = |grant: &Grant| life(approval.expires_at, wish.ttl, longest(grant), parent, wish.holder, wish.task).1;
    approval.renewable_until = grant.map(latest);
    approval.digest = bound(&approval);
    Ok(approval)
}

/// What an agent asks for is kept for a while, also if nobody waits for it any more.
fn not_too_many(ctx: &Context<'_>, requester: &Name) -> Result<(), Error> {
    let (mut waiting, mut kept) = (0, 0);
    for approval in ctx.view.approvals().filter(|one| one.requester == *requester) {
        kept += 1;
        waiting += usize::from(is_open(&ctx.view, approval, ctx.now));
    }
    let message = match (waiting >= MOST_WAITING, kept >= MOST_KEPT) {
        (true, _) => format!("agent `{requester}` has {waiting} approvals waiting; wait until some are decided"),
        (_, true) => format!("agent `{requester}` has asked for {kept} approvals within two hours; wait a while"),
        _ => return Ok(()),
    };
    Err(Error::new(Code::Exhausted, "too_many_approvals", message))
}

/// Whether it still waits for humans.
pub(super) fn is_waiting(approval: &Approval, now: Timestamp) -> bool {
    approval.status == ApprovalStatus::Pending && now < approval.expires_at
}

/// SHA-256 over what is shown.
fn bound(approval: &Approval) -> Digest {
    let Approval {
        id,
        grant,
        task,
        purpose,
        requester,
        holder,
        chain,
        parent,
        mode,
        subject,
        scopes,
        audience,
        ttl,
        renewable_until,
        limits,
        needed,
        decided,
        catalog,
        radius,
        adds,
        names,
        unions,
        created_at,
        ..
    } = approval;
    let who = (id, grant, task, purpose, requester, holder, chain, parent, mode, subject);
    let what = (scopes, audience, ttl, renewable_until, limits, created_at);
    let why = (needed, decided, catalog, radius, adds, names, unions);
    // Records of names, numbers and lists always encode; were one not to, nothing could be approved.
    Digest::of(&serde_json::to_vec(&(who, what, why)).unwrap_or_default())
}

/// Who may not approve: whoever asks, holds, or is served.
pub(super) fn is_party(approval: &Approval, operator: &Name) -> bool {
    let agents = [&approval.requester, &approval.holder];
    agents.into_iter().chain(&approval.chain).any(|name| name == operator)
        || approval.subject.as_ref().is_some_and(|subject| names(subject, operator))
}

/// Whether a subject is this operator: by its name, or by a name before an `@` or behind a `:` or `|`.
fn names(subject: &Line, operator: &Name) -> bool {
    let subject = subject.as_str().to_lowercase();
    let last = subject.rsplit([':', '|', '/', '#']).next().unwrap_or(&subject);
    let local = last.split('@').next().unwrap_or(last);
    [subject.as_str(), last, local].contains(&operator.as_str())
}

/// The operators who may approve it, and from when on each is asked.
fn asked(
    ctx: &Context<'_>,
    approval: &Approval,
    wish: &Wish<'_>,
    weight: &Weight,
) -> Result<Vec<(Name, Timestamp)>, Error> {
    let mut operators: Vec<&Operator> = ctx.view.operators().filter(|operator| !operator.removed).collect();
    operators.sort_by(|one, two| one.name.cmp(&two.name));
    operators.dedup_by(|one, two| one.name == two.name);
    let (all, own) = (prompts(ctx, |_| true), prompts(ctx, |one| one.requester == approval.requester));
    let mut asked = Vec::new();
    for operator in operators {
        if asked.len() < MOST_ASKED
            && !is_party(approval, &operator.name)
            && entitled(ctx, operator, wish, weight, approval.needed)?
        {
            let [all, own] = [&all, &own].map(|prompts| prompts.get(&operator.name).map_or(&[][..], Vec::as_slice));
            asked.push((operator.name.clone(), slot(all, own, ctx.now)));
        }
    }
    Ok(asked)
}

/// Whether an operator may approve it, as the first or as a later one.
fn entitled(
    ctx: &Context<'_>,
    operator: &Operator,
    wish: &Wish<'_>,
    weight: &Weight,
    needed: u8,
) -> Result<bool, Error> {
    for approvals in 0..needed {
        if may_approve(&ctx.view, operator, &Wish { approvals, ..*wish }, weight)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// When each operator was prompted, or will be: what is over before it was shown has troubled nobody.
fn prompts<'a>(ctx: &Context<'a>, whose: impl Fn(&Approval) -> bool) -> HashMap<&'a Name, Vec<Timestamp>> {
    let mut prompts: HashMap<&Name, Vec<Timestamp>> = HashMap::new();
    for approval in ctx.view.approvals().filter(|one| whose(one)) {
        let open = is_open(&ctx.view, approval, ctx.now);
        for (name, at) in approval.asked.iter().filter(|(_, at)| open || *at <= ctx.now) {
            prompts.entry(name).or_default().push(*at);
        }
    }
    prompts.values_mut().for_each(|times| times.sort_unstable());
    prompts
}

/// When an operator can be asked once more: no more than so many times within any hour, in all and for one requester.
/// What waits for a later hour leaves the room before it to others.
fn slot(all: &[Timestamp], own: &[Timestamp], now: Timestamp) -> Timestamp {
    let later = all.iter().map(|at| at.plus(Span::hours(1))).filter(|at| *at > now);
    let mut free = std::iter::once(now).chain(later);
    free.find(|at| fits(all, *at, PROMPTS_PER_HOUR) && fits(own, *at, PROMPTS_PER_REQUESTER)).unwrap_or(now)
}

/// Whether one more at this moment leaves no hour with more than `most`. The others are sorted.
fn fits(others: &[Timestamp], at: Timestamp, most: usize) -> bool {
    let place = others.partition_point(|other| *other <= at);
    let nth = |n: usize| match n.cmp(&place) {
        Ordering::Less => others[n],
        Ordering::Equal => at,
        Ordering::Greater => others[n - 1],
    };
    let hours = place.saturating_sub(most)..=place;
    hours
        .filter(|first| first + most <= others.len())
        .all(|first| nth(first + most).since(nth(first)) >= Span::hours(1))
}
