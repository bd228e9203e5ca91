//! Decided calls in the turn: what limits count and what has to be in the log first is decided there, the others are only
//! recorded.

use super::invoke::{Attempt, Verdict, holder, judge};
use super::{Caller, Context, Decide, Decision, unknown_caller};
use crate::domain::error::{Code, Error};
use crate::domain::event::{Body, Invocation};
use crate::domain::grant::Credential;
use crate::domain::id::InvocationId;
use crate::domain::invocation::{Named, Outcome, TICKET_LIFE, Ticket, TicketGiven};
use crate::domain::key::Purpose;
use crate::domain::name::Name;
use crate::domain::policy::Decided;
use crate::domain::prepared::Prepared;
use crate::domain::scope::Call;
use crate::domain::view::View;

/// Records a call that was decided from memory.
#[derive(Debug)]
pub struct RecordInvocation {
    /// The call and its verdict.
    pub invocation: Invocation,
}

/// Decides a call of which the log has to know before anybody hears of it, and charges it where limits count: two calls
/// that would each pass alone do not both pass where there is room for one. Who asks has proved to hold the credential, or
/// is an enforcement point and says who did.
#[derive(Debug)]
pub struct Authorize {
    /// The id that the call has if it is a new one.
    pub id: InvocationId,
    /// The credential, its signature, times and binding checked.
    pub credential: Credential,
    /// The call, with its arguments.
    pub call: Call,
    /// Whether a ticket is wanted.
    pub ticket: bool,
    /// The call whose ticket is spent.
    pub redeems: Option<InvocationId>,
    /// Whether a secret is handed out if it is allowed.
    pub hands_out: bool,
    /// `sha256:…` of the input schema that the tool shows now, where that is known.
    pub schema: Option<String>,
}

/// A call that was decided in the turn.
#[derive(Debug)]
pub struct Judged {
    /// Its id: of a retry, that of the call that was made first.
    pub id: InvocationId,
    /// Allow or deny, and why.
    pub verdict: Verdict,
    /// Its ticket, to be signed.
    pub ticket: Option<Prepared<Ticket>>,
}

impl Decide for RecordInvocation {
    type Answer = ();
    const VERB: &'static str = "authorize";

    fn about(&self, _: &View<'_>) -> Option<Name> {
        self.invocation.agent.clone()
    }

    fn decide(&self, _: &mut Context<'_>) -> Result<Decision<()>, Error> {
        Ok(Decision::new(vec![Body::Invoked(self.invocation.clone())], ()))
    }
}

impl Decide for Authorize {
    type Answer = Judged;
    const VERB: &'static str = "authorize";

    fn about(&self, view: &View<'_>) -> Option<Name> {
        holder(view, self.credential).cloned()
    }

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Judged>, Error> {
        let presenter = ctx.caller.presenter();
        let unproven = || Error::new(Code::Internal, "unproven", "a call was charged for nobody; report this");
        ctx.presentable(presenter.ok_or_else(unproven)?)?;
        if let Caller::Pep(presenter) = ctx.caller
            && ctx.view.pep(&presenter.name).is_none_or(|pep| pep.retired.is_some())
        {
            return Err(unknown_caller("enforcement point", &presenter.name));
        }
        // What was never made was given back: to make it after all is another call.
        let undone =
            |id: &InvocationId| ctx.view.call(id).is_some_and(|call| call.outcome == Some(Outcome::NotExecuted));
        let made = ctx.replayed::<Self>()?.and_then(|made| made.invocation.clone());
        match made.filter(|(id, _)| !undone(id)) {
            Some(made) => self.again(ctx, made),
            None => self.anew(ctx),
        }
    }
}

impl Authorize {
    fn attempt(&self) -> Attempt<'_> {
        let (redeems, hands_out, schema) = (self.redeems, self.hands_out, self.schema.as_deref());
        Attempt { redeems, hands_out, schema, ..Attempt::of(&self.call, true) }
    }

    fn anew(&self, ctx: &Context<'_>) -> Result<Decision<Judged>, Error> {
        let verdict = judge(&ctx.view, ctx.now, self.credential, Some(self.attempt()));
        let mut record = verdict.record(self.id, Some(self.credential), self.attempt());
        let ticket = if self.ticket && verdict.allowed { Some(self.ticket(ctx, &verdict)?) } else { None };
        record.ticket = ticket.as_ref().map(|one| TicketGiven { kid: one.kid.clone(), expires_at: one.expires_at });
        let judged = Judged { id: self.id, verdict, ticket: ticket.map(Prepared::recorded) };
        Ok(Decision::new(vec![Body::Invoked(record)], judged))
    }

    /// The same verdict as the first time, for as long as the chain lives, and its ticket while that can be spent. It is
    /// in the log, and was charged.
    fn again(&self, ctx: &Context<'_>, (id, decided): (InvocationId, Decided)) -> Result<Decision<Judged>, Error> {
        // What the call itself took of limits and tickets does not stand against it; whatever else came up since does.
        let anew = judge(&ctx.view, ctx.now, self.credential, Some(self.attempt()));
        let taken = |code: &str| matches!(code, "limit_reached" | "limit_argument" | "ticket_spent");
        let verdict = match anew.allowed || anew.reasons.iter().all(|reason| taken(reason.code)) {
            true => judge(&ctx.view, ctx.now, self.credential, None),
            false => anew,
        };
        if !verdict.allowed {
            let record = verdict.record(self.id, Some(self.credential), self.attempt());
            return Ok(Decision::new(vec![Body::Invoked(record)], Judged { id: self.id, verdict, ticket: None }));
        }
        let issuer = &ctx.origin()?.issuer;
        let open = ctx.view.call(&id).zip(verdict.grant.and_then(|grant| ctx.view.grant(grant)));
        let ticket = open.and_then(|(open, grant)| open.ticket(grant, issuer, ctx.now)).filter(|_| self.ticket);
        let judged = Judged { id, verdict: Verdict { decided, ..verdict }, ticket: ticket.map(Prepared::recorded) };
        Ok(Decision::new(Vec::new(), judged))
    }

    /// No ticket outlives the credential, nor its grant.
    fn ticket(&self, ctx: &Context<'_>, verdict: &Verdict) -> Result<Ticket, Error> {
        let grant = verdict.grant.and_then(|grant| ctx.view.grant(grant));
        let grant = grant.ok_or_else(|| Error::new(Code::Internal, "no_grant", "a call was allowed under no grant"))?;
        let ends = [Some(grant.expires_at), ctx.view.credential_end(self.credential)];
        let expires_at = ends.into_iter().flatten().fold(ctx.now.plus(TICKET_LIFE), std::cmp::min);
        Ok(Ticket {
            id: self.id,
            kid: ctx.signer(Purpose::Token)?.kid.clone(),
            issuer: ctx.origin()?.issuer.clone(),
            expires_at,
            grant: grant.id,
            agent: grant.agent.clone(),
            call: Named::of(&self.call),
            args: self.call.args.digest(),
        })
    }
}
