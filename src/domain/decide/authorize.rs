//! Decided calls in the turn: those that limits count are decided there, the others only recorded.

use super::invoke::{Attempt, Verdict, judge};
use super::{Caller, Context, Decide, Decision, unknown_caller};
use crate::domain::error::{Code, Error};
use crate::domain::event::{Body, Invocation};
use crate::domain::grant::Credential;
use crate::domain::id::InvocationId;
use crate::domain::policy::Decided;
use crate::domain::scope::Call;

/// Records a call that was decided from memory.
#[derive(Debug)]
pub struct RecordInvocation {
    /// The call and its verdict.
    pub invocation: Invocation,
}

/// Decides a call of a chain whose limits count calls, and charges it: two calls that would each pass alone do not both
/// pass where there is room for one. Who asks has proved to hold the credential, or is an enforcement point and says who did.
#[derive(Debug)]
pub struct Authorize {
    /// The id that the call has if it is a new one.
    pub id: InvocationId,
    /// The credential, its signature, times and binding checked.
    pub credential: Credential,
    /// The call, with its arguments.
    pub call: Call,
}

/// A call that was decided in the turn.
#[derive(Debug)]
pub struct Judged {
    /// Its id: of a retry, that of the call that was charged.
    pub id: InvocationId,
    /// Allow or deny, and why.
    pub verdict: Verdict,
}

impl Decide for RecordInvocation {
    type Answer = ();
    const VERB: &'static str = "authorize";

    fn decide(&self, _: &mut Context<'_>) -> Result<Decision<()>, Error> {
        Ok(Decision::new(vec![Body::Invoked(self.invocation.clone())], ()))
    }
}

impl Decide for Authorize {
    type Answer = Judged;
    const VERB: &'static str = "authorize";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Judged>, Error> {
        let presenter = ctx.caller.presenter();
        let unproven = || Error::new(Code::Internal, "unproven", "a call was charged for nobody; report this");
        ctx.presentable(presenter.ok_or_else(unproven)?)?;
        if let Caller::Pep(presenter) = ctx.caller
            && ctx.view.pep(&presenter.name).is_none_or(|pep| pep.retired.is_some())
        {
            return Err(unknown_caller("enforcement point", &presenter.name));
        }
        let attempt = Attempt { call: &self.call, proven: true };
        let made = ctx.replayed::<Self>()?.and_then(|made| made.invocation.clone());
        let (id, verdict) = match made {
            Some(made) => self.again(ctx, made),
            None => (self.id, judge(&ctx.view, ctx.now, self.credential, Some(attempt))),
        };
        let events = match id == self.id {
            true => vec![Body::Invoked(verdict.record(id, Some(self.credential), attempt))],
            // It is in the log, and was charged.
            false => Vec::new(),
        };
        Ok(Decision::new(events, Judged { id, verdict }))
    }
}

impl Authorize {
    /// The same verdict as the first time, for as long as the chain lives.
    fn again(&self, ctx: &Context<'_>, (id, decided): (InvocationId, Decided)) -> (InvocationId, Verdict) {
        let verdict = judge(&ctx.view, ctx.now, self.credential, None);
        if verdict.allowed { (id, Verdict { decided, ..verdict }) } else { (self.id, verdict) }
    }
}
