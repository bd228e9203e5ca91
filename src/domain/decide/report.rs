//! What became of a call that was allowed.

use super::{Caller, Context, Decide, Decision, unknown_caller};
use crate::domain::error::{Code, Error};
use crate::domain::event::{Body, Report};
use crate::domain::id::InvocationId;
use crate::domain::invocation::{OPEN_FOR, OpenCall, Outcome};
use crate::domain::name::Line;

/// Says what became of a call. Of one that limits counted, only who asked about it may say so; and that it was never made
/// is believed of an enforcement point alone, for it gives back what was charged.
#[derive(Debug)]
pub struct ReportOutcome {
    /// Which call.
    pub id: InvocationId,
    /// What became of it.
    pub outcome: Outcome,
    /// In one line.
    pub detail: Option<Line>,
}

/// A report that is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Whether what was charged was given back.
    pub refunded: bool,
}

impl Decide for ReportOutcome {
    type Answer = Reported;
    const VERB: &'static str = "report";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Reported>, Error> {
        self.may_say(ctx)?;
        let unknown = || Error::not_found("invocation", self.id);
        // What is longer ago is not open any more; what is dated ahead was never decided here.
        if self.id.time() > ctx.now || self.id.time().plus(OPEN_FOR) <= ctx.now {
            return Err(unknown());
        }
        let open = ctx.view.call(&self.id);
        if open.is_some_and(|open| open.by != ctx.caller.actor()) {
            return Err(unknown());
        }
        match open.and_then(|open| open.outcome.map(|outcome| (open, outcome))) {
            Some((open, outcome)) if outcome == self.outcome => {
                let refunded = outcome == Outcome::NotExecuted && open.charged.is_some();
                return Ok(Decision::new(Vec::new(), Reported { refunded }));
            }
            Some((_, outcome)) => {
                let message = format!("call `{}` was reported `{outcome}` already", self.id);
                return Err(Error::new(Code::Conflict, "reported", message).on("outcome"));
            }
            None => {}
        }
        let refunded = self.outcome == Outcome::NotExecuted && open.is_some_and(|open| open.charged.is_some());
        self.can_be(open)?;
        let grant = open.and_then(|open| ctx.view.grant(open.grant));
        let report = Report {
            id: self.id,
            outcome: self.outcome,
            detail: self.detail.clone(),
            grant: open.map(|open| open.grant),
            tree: grant.map(|grant| grant.root),
            agent: grant.map(|grant| grant.agent.clone()),
            refunded,
        };
        Ok(Decision::new(vec![Body::InvocationReported(report)], Reported { refunded }))
    }
}

impl ReportOutcome {
    fn may_say(&self, ctx: &Context<'_>) -> Result<(), Error> {
        let nobody =
            || Error::denied("not_for_operators", "who asks about a call for somebody reports what became of it");
        ctx.presentable(ctx.caller.presenter().ok_or_else(nobody)?)?;
        match ctx.caller {
            Caller::Pep(presenter) => match ctx.view.pep(&presenter.name) {
                Some(pep) if pep.retired.is_none() => Ok(()),
                _ => Err(unknown_caller("enforcement point", &presenter.name)),
            },
            Caller::Agent(_) | Caller::Holder(_) if self.outcome == Outcome::NotExecuted => {
                let message = "that a call was never made is believed of an enforcement point alone";
                Err(Error::denied("peps_only", message).on("outcome"))
            }
            Caller::Agent(_) | Caller::Holder(_) => Ok(()),
            Caller::Operator(_) | Caller::Broker | Caller::Stranger => Err(nobody()),
        }
    }

    /// What was handed out for a ticket was handed out.
    fn can_be(&self, open: Option<&OpenCall>) -> Result<(), Error> {
        if self.outcome == Outcome::NotExecuted && open.is_some_and(|open| open.redeemed) {
            let message = format!("the ticket of call `{}` was spent: it counts as made", self.id);
            return Err(Error::new(Code::Conflict, "ticket_spent", message).on("outcome"));
        }
        Ok(())
    }
}
