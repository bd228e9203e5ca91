//! Authorize: decided from live state and recorded within 50 ms; what limits count and what has to be in the log first is
//! decided in a turn. What cannot be recorded is refused.

use super::presenter::{Presented, possession};
use super::wanted::{Wanted, What, name_of};
use super::{Asked, Broker, Room, idempotency};
use crate::domain::decide::{Attempt, Authorize, Caller, Judged, Presenter, RecordInvocation, Verdict, judge};
use crate::domain::digest::Digest;
use crate::domain::entropy::Entropy;
use crate::domain::error::{Code, Error};
use crate::domain::grant::Credential;
use crate::domain::id::{GrantId, InvocationId};
use crate::domain::invocation::Ticket;
use crate::domain::prepared::Prepared;
use crate::domain::scope::Call;
use crate::domain::time::Timestamp;
use crate::format::ticket;
use crate::ledger::Request;

/// A decided call.
#[derive(Debug)]
pub struct Authorized {
    /// Its id.
    pub id: InvocationId,
    /// Allow or deny, and why.
    pub verdict: Verdict,
    /// Whether the caller proved to hold the bound key.
    pub proven: bool,
    /// The credential that it was decided under, where it is one.
    pub credential: Option<Credential>,
    /// The call, as it was decided; none if what was asked makes none.
    pub call: Option<Call>,
    /// Its ticket.
    pub ticket: Option<SignedTicket>,
    /// Whether it was decided as one that a secret goes with.
    pub(super) hands_out: bool,
    /// The nonce for the next DPoP proof, where the token needs one.
    pub nonce: Option<String>,
    /// The certificate that an enforcement point saw with it.
    pub presenter: Option<Presenter>,
    /// The room that it takes if it is held.
    pub room: Option<Room>,
}

/// A signed call ticket, a secret.
#[derive(Clone)]
pub struct SignedTicket {
    /// The compact JWS.
    pub ticket: String,
    /// Its end.
    pub expires_at: Timestamp,
}

/// What was shown with something that is wanted, as far as it was looked at.
pub(super) struct Door {
    /// Whether the caller proved to hold the bound key.
    proven: bool,
    /// The credential, or why there is none.
    presented: Result<Credential, Error>,
    /// Whether a DPoP proof came with it.
    is_bound: bool,
    /// The certificate that an enforcement point saw with it.
    presenter: Option<Presenter>,
}

impl std::fmt::Debug for SignedTicket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignedTicket").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl Broker {
    /// Decides one tool call: under the token that was shown, or without one under the certificate of the caller's
    /// connection, or the one that an enforcement point saw. Where the log has it before the answer, the same key and
    /// call are one call; elsewhere a key does nothing.
    ///
    /// # Errors
    /// The key is malformed or was used for another call, the caller was cut just now, the agent that an enforcement
    /// point asks for is over its quota, or there is no room to hold the call. All else is a verdict.
    pub async fn authorize<'a>(
        &self,
        asked: &Asked,
        shown: impl Into<Presented<'a>>,
        wanted: impl Into<Wanted<'a>>,
    ) -> Result<Authorized, Error> {
        let (shown, wanted) = (shown.into(), wanted.into());
        let door = self.door(asked, &shown, std::slice::from_ref(&wanted))?;
        self.decided_at(&door, asked, wanted).await
    }

    /// Looks at what was shown, once for all that is wanted by it.
    pub(super) fn door(&self, asked: &Asked, shown: &Presented<'_>, wanted: &[Wanted<'_>]) -> Result<Door, Error> {
        // Whatever becomes of it, a key that is none is told.
        wanted.iter().try_for_each(|one| idempotency::<Authorize>(one.key, &[]).map(drop))?;
        let presented = self.presented(asked, shown, name_of(wanted), self.ledger.now());
        let (proven, is_bound) = (possession(asked, shown).is_some(), shown.proof.is_some());
        Ok(Door { proven, presented, is_bound, presenter: shown.presenter.clone() })
    }

    /// Decides a call under what was shown.
    pub(super) async fn decided_at(&self, door: &Door, asked: &Asked, wanted: Wanted<'_>) -> Result<Authorized, Error> {
        let authorized = self.judged(door, asked, wanted).await?;
        let reason = authorized.verdict.reasons.first().map(|reason| reason.code);
        let (nonce, presenter) = (self.next_nonce(door.is_bound, reason), door.presenter.clone());
        Ok(Authorized { nonce, presenter, ..authorized })
    }

    async fn judged(&self, door: &Door, asked: &Asked, wanted: Wanted<'_>) -> Result<Authorized, Error> {
        let (now, proven) = (self.ledger.now(), door.proven);
        let id = InvocationId::mint(now, &mut Entropy::from_seed(self.ledger.seed()));
        let call = self.ledger.view(|view| match &wanted.what {
            What::Call(call) => Ok(call.clone()),
            What::Http(request) => view.catalog().http(request),
            What::Mcp(message) => view.catalog().mcp(message),
            What::Refused(reason) => Err(reason.clone()),
        });
        let presented = door.presented.clone().and_then(|credential| Ok((credential, self.spends(wanted.redeem)?)));
        let (credential, redeems) = match presented {
            Ok(presented) => presented,
            Err(error) => {
                let (verdict, call) = (Verdict::deny(error.reason, error.message), call.ok());
                return Ok(self.recorded(asked, id, None, verdict, call.as_ref().map(|call| Attempt::of(call, false))));
            }
        };
        let _counted = self.enter_behind(&asked.caller, credential)?;
        let call = match call {
            Ok(call) => call,
            Err(reason) => {
                // Whoever has no good credential hears of that, and of no route.
                let live = self.ledger.view(|view| judge(&view, now, credential, None));
                let reasons = if live.allowed { vec![reason] } else { live.reasons };
                let verdict = Verdict { allowed: false, reasons, ..live };
                return Ok(self.recorded(asked, id, Some(credential), verdict, None));
            }
        };
        let room = wanted.hold.then(|| self.hold(&asked.caller, credential, &call)).transpose()?;
        let schema = Some(wanted.schema).filter(|schema| !schema.is_empty());
        let hands_out = wanted.hands_out && self.injects(&call);
        let attempt = Attempt { redeems, hands_out, schema, ..Attempt::of(&call, proven) };
        let (verdict, first) = self.ledger.view(|view| {
            let verdict = judge(&view, now, credential, Some(attempt));
            // A retry of a call that was charged may find no room for another, and one that spent a ticket finds it spent.
            let counts = || redeems.is_some() || verdict.grant.is_some_and(|grant| view.counts_calls(grant));
            let retried = || !wanted.key.is_empty() && counts();
            let first = (verdict.allowed && (verdict.grave || wanted.ticket)) || retried();
            let grant = verdict.grant.filter(|_| proven && first);
            (verdict, grant)
        });
        let Some(grant) = first else {
            return Ok(Authorized { room, ..self.recorded(asked, id, Some(credential), verdict, Some(attempt)) });
        };
        let (ticket, schema) = (wanted.ticket, schema.map(str::to_owned));
        let command = Authorize { id, credential, call, ticket, redeems, hands_out, schema };
        Ok(Authorized { room, ..self.in_turn(asked, command, grant, wanted.key).await? })
    }

    /// The call whose ticket is spent, by the ticket's signature; none without a ticket.
    ///
    /// # Errors
    /// `ticket_malformed`: it is not one that this broker signed.
    pub fn spends(&self, ticket: &str) -> Result<Option<InvocationId>, Error> {
        if ticket.is_empty() {
            return Ok(None);
        }
        let read = self.keys.current().verifier.ticket(ticket);
        read.map(Some).map_err(|error| Error::denied("ticket_malformed", format!("the ticket is none: {error}")))
    }

    /// What was decided from memory, once it is on its way into the log.
    fn recorded(
        &self,
        asked: &Asked,
        id: InvocationId,
        credential: Option<Credential>,
        verdict: Verdict,
        attempt: Option<Attempt<'_>>,
    ) -> Authorized {
        let proven = attempt.is_some_and(|attempt| attempt.proven);
        let invocation = |verdict: &Verdict| match attempt {
            Some(attempt) => verdict.record(id, credential, attempt),
            None => verdict.record_none(id, credential),
        };
        let request = |verdict: &Verdict| Request {
            command: RecordInvocation { invocation: invocation(verdict) },
            caller: asked.caller.clone(),
            request_id: asked.request_id.clone(),
            idempotency: None,
            seed: self.ledger.seed(),
            blobs: Vec::new(),
        };
        let recorded = match verdict.allowed {
            true => self.ledger.record(request(&verdict)),
            false => self.ledger.record_denied(request(&verdict)),
        };
        let verdict = match recorded {
            Ok(()) => verdict,
            Err(error) => {
                let allowed = verdict.allowed;
                let verdict = unrecorded(verdict, &error);
                if allowed {
                    // A full queue takes this no more than the other: the answer is no in any case.
                    let _ = self.ledger.record_denied(request(&verdict));
                }
                verdict
            }
        };
        let call = attempt.map(|attempt| attempt.call.clone());
        let hands_out = attempt.is_some_and(|attempt| attempt.hands_out);
        let (ticket, nonce, presenter, room) = (None, None, None, None);
        Authorized { id, verdict, proven, credential, call, ticket, hands_out, nonce, presenter, room }
    }

    /// Has a call decided in a turn, where its chain is charged, and nobody hears of it before it is in the log.
    async fn in_turn(&self, asked: &Asked, command: Authorize, grant: GrantId, key: &str) -> Result<Authorized, Error> {
        let Authorize { id, credential, redeems, hands_out, .. } = command;
        let call = command.call.clone();
        // A new token of the same grant makes the same call.
        let body = serde_json::to_vec(&(grant, &call, redeems, command.ticket)).map_err(|error| unencodable(&error))?;
        let (id, verdict, ticket) = match self.submit_once(asked, command, idempotency::<Authorize>(key, &body)?).await
        {
            Ok(Judged { id, verdict, ticket }) => (id, verdict, ticket),
            Err(error) if matches!(error.code, Code::Conflict | Code::Unauthenticated) => return Err(error),
            Err(error) => {
                let now = self.ledger.now();
                let verdict = self.ledger.view(|view| judge(&view, now, credential, None));
                let attempt = Attempt { redeems, hands_out, ..Attempt::of(&call, true) };
                return Ok(self.recorded(asked, id, Some(credential), unrecorded(verdict, &error), Some(attempt)));
            }
        };
        let ticket = ticket.map(|ticket| self.sign_ticket(ticket)).transpose()?;
        let (credential, call) = (Some(credential), Some(call));
        let (proven, nonce, presenter, room) = (true, None, None, None);
        Ok(Authorized { id, verdict, proven, credential, call, ticket, hands_out, nonce, presenter, room })
    }

    fn sign_ticket(&self, recorded: Prepared<Ticket>) -> Result<SignedTicket, Error> {
        let expires_at = recorded.get().expires_at;
        let keys = self.keys.holding(&recorded.get().kid, &self.ledger, &self.origin)?;
        Ok(SignedTicket { ticket: keys.ring.sign_ticket(recorded, ticket::signing_input)?, expires_at })
    }

    /// The one credential that a call is made under, its signature, times and binding checked. The proof that came with
    /// it is spent, for the request of this name if it has one.
    pub(super) fn presented(
        &self,
        asked: &Asked,
        shown: &Presented<'_>,
        request: Option<Digest>,
        now: Timestamp,
    ) -> Result<Credential, Error> {
        let token = shown.token;
        match &asked.caller {
            // The handshake proved its key, and the access table that it may be presented.
            Caller::Holder(presenter) if token.is_empty() => Ok(Credential::Certificate(presenter.certificate)),
            Caller::Holder(_) => {
                let why = "the certificate of this connection is a credential itself; leave the token out";
                Err(Error::denied("one_credential", why))
            }
            Caller::Pep(_) if token.is_empty() => self.seen(asked, shown, now),
            _ if token.is_empty() => {
                let why = "an identity is no credential; add a token, or call with a certificate under a grant";
                Err(Error::denied("no_credential", why))
            }
            _ => self.verify(asked, shown, request, now).map(Credential::Token),
        }
    }
}

/// What may be done has to be written down first: else the answer is no.
fn unrecorded(verdict: Verdict, error: &Error) -> Verdict {
    let refused = Verdict::deny("not_recorded", format!("the decision could not be recorded: {error}"));
    Verdict { reasons: refused.reasons, allowed: false, needs: 0, ..verdict }
}

fn unencodable(error: &serde_json::Error) -> Error {
    Error::new(Code::Internal, "unencodable", format!("the call does not encode: {error}; report this"))
}
