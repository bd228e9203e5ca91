//! One tool call under a live grant: scopes, freezes, catalog, policies, limits, in this order.

use super::invoke::{Attempt, Reason, Verdict};
use super::limit::charge;
use super::weigh::policies;
use crate::domain::catalog::is_session;
use crate::domain::grant::{Grant, GrantState};
use crate::domain::policy::{
    Action, Decided, MOST_APPROVALS, Object, Outcome, Policies, Principal, Question, ToolFacts, step_up,
};
use crate::domain::radius::Unions;
use crate::domain::reach::Whole;
use crate::domain::scope::{Action as ActionPattern, Call, Scope};
use crate::domain::time::Timestamp;
use crate::domain::view::View;

/// Decides a call under this grant, whatever credential it is made with. Nothing is charged by asking.
pub fn judge_call(view: &View<'_>, now: Timestamp, grant: &Grant, attempt: Attempt<'_>) -> Verdict {
    let mut verdict = live(view, now, grant);
    if !verdict.allowed {
        return verdict;
    }
    if let Err(reason) = asked(view, now, grant, attempt, &mut verdict) {
        verdict.allowed = false;
        verdict.reasons = vec![reason];
    }
    verdict
}

/// Whether some call that lies in this scope could be allowed under this grant, going by its scopes, the schema that the
/// catalog pins and freezes: what a list of tools is cut down to. It says yes too often and never allows anything.
pub fn is_within_reach(view: &View<'_>, grant: &Grant, calls: &Scope, schema: Option<&str>) -> bool {
    let pinned = || match (schema, calls.action()) {
        (Some(shown), ActionPattern::Exact(action)) => {
            view.catalog().schema_digest(calls.tool(), action).is_none_or(|pinned| pinned == shown)
        }
        _ => true,
    };
    grant.scopes.iter().any(|scope| scope.intersects(calls))
        && pinned()
        && !view.freezes().any(|freeze| freeze.stops_all(calls))
}

/// Whether the grant is live, for whatever it is used.
pub(super) fn live(view: &View<'_>, now: Timestamp, grant: &Grant) -> Verdict {
    let (code, message) = match view.standing(grant.id, now) {
        Some(standing) if standing.state == GrantState::Active => {
            ("in_scope", "the grant is live and covers it".to_owned())
        }
        Some(standing) => {
            (standing.reason, format!("grant `{}` is {}, by `{}`", grant.id, standing.state, standing.link))
        }
        None => ("grant_expired", format!("grant `{}` is over", grant.id)),
    };
    Verdict { allowed: code == "in_scope", ..Verdict::under(grant, Reason { code, message }) }
}

fn asked(
    view: &View<'_>,
    now: Timestamp,
    grant: &Grant,
    attempt: Attempt<'_>,
    verdict: &mut Verdict,
) -> Result<(), Reason> {
    let Attempt { call, proven, .. } = attempt;
    let session = is_session(call);
    // To hold a session with a server calls nothing: whoever may call anything of it may.
    let covered =
        if session { grant.scopes.iter().any(|scope| scope.tool() == call.tool) } else { grant.scopes.allow(call) };
    if !covered {
        return Err(Reason { code: "out_of_scope", message: grant.scopes.why_not(call) });
    }
    if let Some(shown) = attempt.schema {
        is_pinned(view, call, shown)?;
    }
    ticketed(view, now, grant, attempt)?;
    if let Some(freeze) = view.frozen(call) {
        let message = format!("freeze `{}` stops it: {}", freeze.id, freeze.reason);
        return Err(Reason { code: "frozen", message });
    }
    if session {
        // A ticket is spent in the turn, whatever for.
        verdict.grave = attempt.redeems.is_some();
        return Ok(());
    }
    if !view.catalog().destination_allowed(&call.tool, call.destination.as_deref()) {
        return Err(elsewhere(call));
    }
    let (policies, version) = policies(view).map_err(|error| Reason { code: error.reason, message: error.message })?;
    let outcome = consider(view, now, grant, call, proven, policies);
    verdict.decided.version = version;
    match outcome {
        Outcome::Allowed(by) => verdict.decided.policies = by,
        Outcome::Needs(needed, by) => {
            verdict.needs = needed;
            verdict.decided.policies = by;
            return Err(elevated(call, needed, version));
        }
        Outcome::Denied(by, errors) => {
            let message = forbidden(call, version, &by, &errors);
            verdict.decided.policies = by;
            return Err(Reason { code: "policy_denied", message });
        }
    }
    // What a ticket was given for is in the log, and was charged.
    verdict.charge = if attempt.redeems.is_some() { None } else { charge(view, grant, call)? };
    verdict.grave =
        verdict.charge.is_some() || attempt.redeems.is_some() || grant.approvals > 0 || view.catalog().is_grave(call);
    Ok(())
}

/// Holds if the tool still shows the input schema that the catalog pins, where it pins one.
fn is_pinned(view: &View<'_>, call: &Call, shown: &str) -> Result<(), Reason> {
    match view.catalog().schema_digest(&call.tool, &call.action) {
        Some(pinned) if pinned != shown => {
            let message = format!(
                "the input schema of `{}:{}` is not the one that the catalog pins: the tool has changed, and an operator \
                 has to look at it",
                call.tool, call.action
            );
            Err(Reason { code: "schema_changed", message })
        }
        _ => Ok(()),
    }
}

/// Holds if the ticket that comes with the call is good for it, or none is asked for.
fn ticketed(view: &View<'_>, now: Timestamp, grant: &Grant, attempt: Attempt<'_>) -> Result<(), Reason> {
    let call = attempt.call;
    let Some(id) = attempt.redeems else {
        let asked = attempt.hands_out && view.catalog().tool(&call.tool).is_some_and(|tool| tool.ticket);
        let message = || {
            format!(
                "tool `{}` hands out nothing without a call ticket: have `{call}` authorized with a ticket first",
                call.tool
            )
        };
        return if asked { Err(Reason { code: "ticket_required", message: message() }) } else { Ok(()) };
    };
    let why_not = match view.call(&id) {
        Some(open) => open.why_not(grant.id, call, now),
        None => Some(("ticket_unknown", "no ticket of this id is open here")),
    };
    match why_not {
        Some((code, why)) => {
            Err(Reason { code, message: format!("ticket `{id}`: {why}; have the call authorized once more") })
        }
        None => Ok(()),
    }
}

/// What the policies say.
fn consider(
    view: &View<'_>,
    now: Timestamp,
    grant: &Grant,
    call: &Call,
    proven: bool,
    policies: &dyn Policies,
) -> Outcome {
    // The grant is live, so its holder and its task are there.
    let (Some(holder), Some(task)) = (view.agent(&grant.agent), view.task(&grant.task)) else {
        return Outcome::Denied(Vec::new(), Vec::new());
    };
    let about = view.catalog().about_call(call);
    let facts = ToolFacts {
        holder,
        tool: &call.tool,
        tool_owner: about.owner,
        action: &call.action,
        resource: &call.resource,
        risk: about.risk,
        sensitivity: about.sensitivity,
        catalogued: about.catalogued,
        destination: call.destination.as_deref(),
        args: Some(&call.args),
        approvals: grant.approvals,
        radius: view.radius_of(grant.id).unwrap_or_default(),
        unions: if policies.reads_unions(Action::Invoke) { unions(view, grant) } else { Unions::default() },
        seconds: grant.expires_at.since(now).as_millis() / 1000,
        depth: grant.depth,
        mode: grant.mode,
        purpose: task.purpose.as_str(),
        subject: grant.subject.as_ref().map(|subject| subject.as_str()),
        attestation: if proven { "mtls" } else { "none" },
    };
    let object = Object::Tool(Box::new(facts));
    step_up(policies, &Question { principal: Principal::Agent(holder), action: Action::Invoke, object })
}

/// What everything together comes to now: the grant is in it already.
fn unions(view: &View<'_>, grant: &Grant) -> Unions {
    let subject = grant.subject.clone().map(|subject| view.figures(&Whole::Subject(subject)));
    Unions {
        task: view.figures(&Whole::Task(grant.task)),
        agent: view.figures(&Whole::Agent(grant.agent.clone())),
        owner: view.figures(&Whole::Owner(grant.owner.clone())),
        subject: subject.unwrap_or_default(),
    }
}

fn elsewhere(call: &Call) -> Reason {
    let message = match &call.destination {
        Some(going) => format!("calls of tool `{}` may not go to `{}`", call.tool, going.escape_debug()),
        None => format!("calls of tool `{}` have to say where they go: name a destination", call.tool),
    };
    Reason { code: "destination_denied", message }
}

fn elevated(call: &Call, needed: u8, version: u64) -> Reason {
    let humans = if needed == 1 { "1 human has".to_owned() } else { format!("{needed} humans have") };
    let message = format!(
        "{humans} to approve `{call}`, by policy version {version}: request a grant for it, and call under that one"
    );
    Reason { code: "approval_needed", message }
}

/// Which policies, of which version; never their text.
fn forbidden(call: &Call, version: u64, by: &[String], errors: &[String]) -> String {
    let why = match (errors, by) {
        // What a policy says of itself stands behind its name.
        ([error, ..], _) if error.starts_with("policy `") => {
            format!(
                "{} could not be evaluated",
                error.split_inclusive("`: ").next().unwrap_or(error).trim_end_matches(": ")
            )
        }
        ([error, ..], _) => error.clone(),
        ([], []) => format!("no policy permits it, with up to {MOST_APPROVALS} approvals"),
        ([], by) => format!("forbidden by `{}`", by.join("`, `")),
    };
    format!("policy version {version} denies `{call}`: {why}")
}

impl Verdict {
    /// A refusal under a grant.
    pub(super) fn under(grant: &Grant, reason: Reason) -> Self {
        Self {
            allowed: false,
            needs: 0,
            reasons: vec![reason],
            grant: Some(grant.id),
            tree: Some(grant.root),
            agent: Some(grant.agent.clone()),
            decided: Decided::default(),
            charge: None,
            grave: false,
        }
    }
}
