//! What a grant would reach, and what the policies say to it.

use std::sync::Arc;

use super::Context;
use crate::domain::agent::{Agent, Operator};
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::grant::Task;
use crate::domain::policy::{
    Action, Decided, MOST_APPROVALS, Mode, Object, Outcome, Principal, Question, ToolFacts, step_up,
};
use crate::domain::radius::{Figures, Reach, Unions};
use crate::domain::reach::Whole;
use crate::domain::scope::{Scope, Scopes};
use crate::domain::time::Span;
use crate::domain::view::View;

/// What a grant reaches, and what that comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// What it reaches.
    pub radius: Figures,
    /// What of it is new to its task.
    pub adds: Figures,
    /// What it comes to with everything else.
    pub unions: Unions,
}

impl Weight {
    /// As if nothing else were there.
    pub(super) fn alone(&self) -> Self {
        let unions = Unions { task: self.radius, agent: self.radius, owner: self.radius, subject: self.radius };
        Self { radius: self.radius, adds: Figures::default(), unions }
    }
}

/// A grant, or an envelope, as policies are asked about it.
#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    /// `request` or `delegate`.
    pub action: Action,
    /// Who asks.
    pub asks: &'a Agent,
    /// Who is to hold it.
    pub holder: &'a Agent,
    /// The task.
    pub task: &'a Task,
    /// What it is to allow.
    pub scopes: &'a Scopes,
    /// Humans who have approved it already, or that within which it lies.
    pub approvals: u8,
    /// For how long.
    pub ttl: Span,
    /// Links above.
    pub depth: u8,
    /// How it stands to its parent.
    pub mode: Mode,
}

/// What a wish would reach, counted with everything that this batch has decided.
pub(super) fn weigh(view: &View<'_>, wish: &Wish<'_>) -> Weight {
    let reach: Arc<Reach> = view.reach(wish.scopes);
    let (adds, unions) =
        view.unions(wish.task.id, &wish.holder.name, &wish.holder.owner, wish.task.subject.as_ref(), &reach);
    Weight { radius: view.catalog().figures(&reach), adds, unions }
}

/// SHA-256 over the names of what a wish would add to its task.
pub(super) fn names(view: &View<'_>, wish: &Wish<'_>) -> Digest {
    let added = view.added(&Whole::Task(wish.task.id), &view.reach(wish.scopes));
    Digest::of(added.join("\n").as_bytes())
}

/// What the policies say to a wish: the worst over its scopes, and who decided.
pub(super) fn ask(view: &View<'_>, wish: &Wish<'_>, weight: &Weight) -> Result<(Outcome, Decided), Error> {
    let (policies, version) = policies(view)?;
    let (mut needed, mut by) = (0, Vec::new());
    for scope in wish.scopes.iter() {
        let outcome = about(view, wish, weight, scope, |facts| {
            let question = Question {
                principal: Principal::Agent(wish.asks),
                action: wish.action,
                object: Object::Tool(Box::new(facts)),
            };
            step_up(policies, &question)
        });
        match outcome {
            Outcome::Allowed(deciding) => by.extend(deciding),
            Outcome::Needs(more, deciding) => {
                needed = needed.max(more);
                by.extend(deciding);
            }
            denied @ Outcome::Denied(..) => {
                return Ok((denied, Decided { version, policies: Vec::new() }));
            }
        }
    }
    let outcome = if needed == 0 { Outcome::Allowed(by.clone()) } else { Outcome::Needs(needed, by.clone()) };
    Ok((outcome, Decided::new(version, by)))
}

/// Whether an operator may approve a wish: every scope of it.
pub(super) fn may_approve(
    view: &View<'_>,
    operator: &Operator,
    wish: &Wish<'_>,
    weight: &Weight,
) -> Result<bool, Error> {
    let (policies, _) = policies(view)?;
    Ok(wish.scopes.iter().all(|scope| {
        about(view, wish, weight, scope, |facts| {
            let object = Object::Tool(Box::new(facts));
            policies
                .decide(&Question { principal: Principal::Operator(operator), action: Action::Approve, object })
                .allowed
        })
    }))
}

fn about<T>(
    view: &View<'_>,
    wish: &Wish<'_>,
    weight: &Weight,
    scope: &Scope,
    ask: impl FnOnce(ToolFacts<'_>) -> T,
) -> T {
    let about = view.catalog().about(scope.tool(), scope.action(), scope.resource());
    let (action, resource) = (scope.action().to_string(), scope.resource().to_string());
    ask(ToolFacts {
        holder: wish.holder,
        tool: scope.tool(),
        tool_owner: about.owner,
        action: &action,
        resource: &resource,
        risk: about.risk,
        sensitivity: about.sensitivity,
        catalogued: about.catalogued,
        destination: None,
        args: None,
        approvals: wish.approvals,
        radius: weight.radius,
        unions: weight.unions,
        seconds: wish.ttl.as_millis() / 1000,
        depth: wish.depth,
        mode: wish.mode,
        purpose: wish.task.purpose.as_str(),
        subject: wish.task.subject.as_ref().map(|subject| subject.as_str()),
        attestation: "mtls",
    })
}

/// The policies in force: without any, nothing is allowed.
pub(super) fn policies<'a>(view: &View<'a>) -> Result<(&'a dyn crate::domain::policy::Policies, u64), Error> {
    match view.policies() {
        (Some(policies), version) => Ok((&**policies, version)),
        (None, _) => Err(Error::new(Code::Unavailable, "no_policy", "no policy is in force; apply one")),
    }
}

/// What a refusal by policy says: which policy, of which version, and never its text.
pub(super) fn refused(version: u64, what: &str, by: &[String], errors: &[String]) -> Error {
    let why = match (errors, by) {
        ([error, ..], _) => format!("a policy could not be evaluated: {error}"),
        ([], []) => format!("no policy permits it, with up to {MOST_APPROVALS} approvals"),
        ([], by) => format!("forbidden by `{}`", by.join("`, `")),
    };
    Error::denied("policy_denied", format!("policy version {version} denies {what}: {why}"))
}

impl Context<'_> {
    /// What the policies say to a wish, and what it would reach.
    pub(super) fn consider(&self, wish: &Wish<'_>) -> Result<(Weight, Outcome, Decided), Error> {
        let weight = weigh(&self.view, wish);
        let (outcome, decided) = self.consider_as(wish, &weight)?;
        Ok((weight, outcome, decided))
    }

    /// The same, with what it is taken to reach.
    pub(super) fn consider_as(&self, wish: &Wish<'_>, weight: &Weight) -> Result<(Outcome, Decided), Error> {
        let (outcome, decided) = ask(&self.view, wish, weight)?;
        if let Outcome::Denied(by, errors) = &outcome {
            let what = format!("{} of {} to agent `{}`", wish.action, shown(wish.scopes), wish.asks.name);
            return Err(refused(decided.version, &what, by, errors).on("scope"));
        }
        Ok((outcome, decided))
    }
}

fn shown(scopes: &Scopes) -> String {
    let more = scopes.as_slice().len() - 1;
    let first = scopes.iter().next().map(Scope::to_string).unwrap_or_default();
    if more == 0 { format!("`{first}`") } else { format!("`{first}` and {more} more") }
}
