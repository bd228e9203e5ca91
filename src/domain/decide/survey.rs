//! Blast radius of what is there: what a target reaches, what is live under it, and what more would come to.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::revoke::{Revoke, is_counted};
use super::{Caller, Context, Decide, Decision};
use crate::domain::agent::Kind;
use crate::domain::catalog::Catalog;
use crate::domain::cut::Target;
use crate::domain::effect::{Cutting, extent, tops};
use crate::domain::error::Error;
use crate::domain::event::CutCounts;
use crate::domain::grant::{Grant, GrantState};
use crate::domain::id::GrantId;
use crate::domain::name::Line;
use crate::domain::policy::{Mode, Right};
use crate::domain::radius::{Figures, Reach, Unions};
use crate::domain::reach::Whole;
use crate::domain::scope::{Scope, Scopes};
use crate::domain::time::Timestamp;

/// Calls that are listed.
const MOST_CALLS: usize = 1000;

/// Asks for the radius of a target.
#[derive(Debug)]
pub struct Survey {
    /// What.
    pub target: Target,
    /// What it would be with these as well.
    pub more: Option<Scopes>,
}

/// What is known of a target at one moment. What its scopes reach is for whoever asked to work out: the state is not
/// held for as long as that takes.
#[derive(Debug)]
pub struct Extent {
    /// What was meant: of a credential, what it hangs on.
    pub target: Target,
    /// What it may do: of a task, all that was ever granted under it.
    pub scopes: Vec<Scope>,
    /// The catalog by which they are counted.
    pub catalog: Arc<Catalog>,
    /// What is counted together; none of a grant, which is counted by its scopes.
    pub whole: Option<Figures>,
    /// What more scopes would add, and come to; of a whole.
    pub more: Option<(Figures, Figures)>,
    /// What a revoke would end.
    pub live: CutCounts,
    /// Grants among it that hang on others of it.
    pub descendants: u64,
    /// The latest moment that any of it still works, if nothing is done.
    pub until: Option<Timestamp>,
    /// Calls that were allowed under it, each once, a thousand at most; and whether there were others.
    pub exercised: (BTreeSet<String>, bool),
    /// The unions that it belongs to: task, agent, owner and subject.
    pub unions: Belongs,
}

/// What each of the unions comes to that a target belongs to.
pub type Belongs = [Option<Figures>; 4];

impl Decide for Survey {
    type Answer = Extent;
    const VERB: &'static str = "radius.get";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Extent>, Error> {
        let unknown = || Error::not_found("target", &self.target).on("target");
        let revoke = Revoke { target: self.meant(ctx).ok_or_else(unknown)?, reason: reason()?, dry_run: true };
        match ctx.caller {
            Caller::Agent(_) => {
                let (agent, _) = ctx.agent()?;
                // To an agent, the unknown and the foreign look the same.
                if !revoke.is_below(ctx, &agent.name) {
                    return Err(unknown());
                }
            }
            _ => {
                ctx.operator(Right::Read)?;
                if !revoke.is_known(ctx) {
                    return Err(unknown());
                }
            }
        }
        Ok(Decision::new(Vec::new(), self.extent(ctx, &revoke)))
    }
}

impl Survey {
    /// A credential stands for what it hangs on.
    fn meant(&self, ctx: &Context<'_>) -> Option<Target> {
        Some(match &self.target {
            Target::Token(id) => Target::Grant(ctx.view.token(id)?.grant),
            Target::Certificate(id) => {
                let known = ctx.view.certificate(id)?;
                match known.grant {
                    Some(grant) => Target::Grant(grant),
                    None if known.kind == Kind::Agent => Target::Agent(known.name.clone()),
                    None => return None,
                }
            }
            Target::Lease(id) => Target::Grant(ctx.view.lease(id)?.grant),
            other => other.clone(),
        })
    }

    fn extent(&self, ctx: &Context<'_>, revoke: &Revoke) -> Extent {
        let (view, target) = (&ctx.view, &revoke.target);
        let cut = Cutting { target: target.clone(), seq: ctx.next_seq(), at: ctx.now, again: false };
        let tops: HashSet<_> = tops(view, &cut).into_iter().collect();
        let (open, live) = extent(view, cut.clone());
        let below = open.iter().filter(|grant| !tops.contains(&grant.id)).count() as u64;
        let works = |grant: &&&Grant| {
            let standing = view.standing(grant.id, ctx.now).map(|standing| standing.state);
            matches!(standing, Some(GrantState::Active | GrantState::Suspended))
        };
        let until = open.iter().filter(works).map(|grant| grant.expires_at).max();
        let whole = whole(target);
        let scopes = match target {
            Target::Grant(id) => {
                // What is narrowed lies within what it hangs on; one that waits reaches what it would.
                let counts = |grant: &&&Grant| grant.id == *id || (grant.mode == Mode::Own && is_counted(grant));
                unique(open.iter().filter(counts).flat_map(|grant| grant.scopes.iter()))
            }
            Target::Task(id) => view.granted(*id),
            Target::Agent(name) => {
                let held = view.held(name);
                unique(held.iter().filter_map(|id| view.grant(*id)).filter(|grant| is_counted(grant)).flat_map(of))
            }
            Target::Owner(owner) => all(ctx, |grant| grant.owner == *owner),
            Target::Subject(subject) => all(ctx, |grant| grant.subject.as_ref() == Some(subject)),
            Target::Token(_) | Target::Certificate(_) | Target::Lease(_) => Vec::new(),
        };
        let more = self.more.as_ref().zip(whole.as_ref()).map(|(more, whole)| view.with(whole, &view.reach(more)));
        let catalog = view.applied_catalog().and_then(|applied| applied.body.clone()).unwrap_or_default();
        Extent {
            target: target.clone(),
            scopes,
            catalog,
            whole: whole.map(|whole| view.figures(&whole)),
            more,
            live,
            descendants: below,
            until,
            exercised: exercised(ctx, &cut),
            unions: unions(ctx, target),
        }
    }
}

/// What was done by whoever is counted: of a grant and a task, everything below too.
fn exercised(ctx: &Context<'_>, cut: &Cutting) -> (BTreeSet<String>, bool) {
    let view = &ctx.view;
    let grants: Vec<GrantId> = match &cut.target {
        Target::Owner(owner) => view.grants().filter(|grant| grant.owner == *owner).map(|grant| grant.id).collect(),
        Target::Subject(subject) => {
            view.grants().filter(|grant| grant.subject.as_ref() == Some(subject)).map(|grant| grant.id).collect()
        }
        Target::Agent(name) => view.held(name),
        _ => view.descend(tops(view, cut), |_| true).iter().map(|grant| grant.id).collect(),
    };
    let (mut calls, mut more) = (BTreeSet::new(), false);
    for grant in grants {
        let exercised = view.exercised(grant);
        more |= exercised.more;
        for call in exercised.calls {
            if calls.len() < MOST_CALLS || calls.contains(&call) {
                calls.insert(call);
            } else {
                more = true;
            }
        }
    }
    (calls, more)
}

fn of(grant: &Grant) -> impl Iterator<Item = &Scope> {
    grant.scopes.iter()
}

fn all(ctx: &Context<'_>, wanted: impl Fn(&Grant) -> bool) -> Vec<Scope> {
    unique(ctx.view.grants().filter(|grant| wanted(grant) && is_counted(grant)).flat_map(of))
}

fn unique<'a>(scopes: impl Iterator<Item = &'a Scope>) -> Vec<Scope> {
    scopes.collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

fn whole(target: &Target) -> Option<Whole> {
    match target {
        Target::Task(id) => Some(Whole::Task(*id)),
        Target::Agent(name) => Some(Whole::Agent(name.clone())),
        Target::Owner(owner) => Some(Whole::Owner(owner.clone())),
        Target::Subject(subject) => Some(Whole::Subject(subject.clone())),
        Target::Grant(_) | Target::Token(_) | Target::Certificate(_) | Target::Lease(_) => None,
    }
}

fn unions(ctx: &Context<'_>, target: &Target) -> Belongs {
    let view = &ctx.view;
    let figures = |whole: Option<Whole>| whole.map(|whole| view.figures(&whole));
    let owner = |name| view.agent(name).map(|agent| Whole::Owner(agent.owner.clone()));
    match target {
        Target::Grant(id) => {
            let Some(grant) = view.grant(*id) else { return Belongs::default() };
            let Unions { task, agent, owner, subject } =
                view.unions(grant.task, &grant.agent, &grant.owner, grant.subject.as_ref(), &Reach::default()).1;
            [Some(task), Some(agent), Some(owner), grant.subject.as_ref().map(|_| subject)]
        }
        Target::Task(id) => {
            let task = view.task(id);
            let subject = task.and_then(|task| task.subject.clone()).map(Whole::Subject);
            let (agent, owner) =
                task.map_or((None, None), |task| (Some(Whole::Agent(task.agent.clone())), owner(&task.agent)));
            [figures(Some(Whole::Task(*id))), figures(agent), figures(owner), figures(subject)]
        }
        Target::Agent(name) => [None, figures(whole(target)), figures(owner(name)), None],
        Target::Owner(_) => [None, None, figures(whole(target)), None],
        Target::Subject(_) => [None, None, None, figures(whole(target))],
        Target::Token(_) | Target::Certificate(_) | Target::Lease(_) => Belongs::default(),
    }
}

fn reason() -> Result<Line, Error> {
    "nothing is revoked".parse()
}
