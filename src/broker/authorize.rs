//! Authorize: decided from live state and recorded within 50 ms; where a limit counts calls, decided in a turn. What
//! cannot be recorded is refused.

use super::presenter::{Presented, possession};
use super::{Asked, Broker, idempotency};
use crate::domain::decide::{Attempt, Authorize, Caller, Judged, RecordInvocation, Verdict, judge};
use crate::domain::entropy::Entropy;
use crate::domain::error::{Code, Error};
use crate::domain::grant::Credential;
use crate::domain::id::{GrantId, InvocationId};
use crate::domain::scope::Call;
use crate::domain::time::Timestamp;
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
}

impl Broker {
    /// Decides one tool call: under the token that was shown, or without one under the certificate of the caller's
    /// connection, or the one that an enforcement point saw. Where a limit counts it, the same `key` and call are one
    /// call; elsewhere a key does nothing.
    ///
    /// # Errors
    /// The key is malformed or was used for another call, or the caller was cut just now. All else is a verdict.
    pub async fn authorize<'a>(
        &self,
        asked: &Asked,
        shown: impl Into<Presented<'a>>,
        call: Call,
        key: &str,
    ) -> Result<Authorized, Error> {
        let shown = shown.into();
        // Whatever becomes of it, a key that is none is told.
        idempotency::<Authorize>(key, &[])?;
        let now = self.ledger.now();
        let seed = self.ledger.seed();
        let id = InvocationId::mint(now, &mut Entropy::from_seed(seed));
        let proven = possession(asked, &shown).is_some();
        let credential = match self.presented(asked, &shown, now) {
            Ok(credential) => credential,
            Err(error) => {
                let verdict = Verdict::deny(error.reason, error.message);
                return Ok(self.recorded(asked, id, None, verdict, Attempt { call: &call, proven: false }));
            }
        };
        let attempt = Attempt { call: &call, proven };
        let (verdict, counted) = self.ledger.view(|view| {
            let verdict = judge(&view, now, credential, Some(attempt));
            // A retry of a call that was charged may find no room for another.
            let retried = || verdict.grant.filter(|grant| !key.is_empty() && view.counts_calls(*grant));
            let counted = if verdict.charge.is_some() { verdict.grant } else { retried() };
            (verdict, counted.filter(|_| proven))
        });
        match counted {
            Some(grant) => self.charged(asked, Authorize { id, credential, call }, grant, key).await,
            None => Ok(self.recorded(asked, id, Some(credential), verdict, attempt)),
        }
    }

    /// What was decided from memory, once it is on its way into the log.
    fn recorded(
        &self,
        asked: &Asked,
        id: InvocationId,
        credential: Option<Credential>,
        verdict: Verdict,
        attempt: Attempt<'_>,
    ) -> Authorized {
        let proven = attempt.proven;
        let request = |verdict: &Verdict| Request {
            command: RecordInvocation { invocation: verdict.record(id, credential, attempt) },
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
        let Err(error) = recorded else { return Authorized { id, verdict, proven } };
        let allowed = verdict.allowed;
        let verdict = unrecorded(verdict, &error);
        if allowed {
            // A full queue takes this no more than the other: the answer is no in any case.
            let _ = self.ledger.record_denied(request(&verdict));
        }
        Authorized { id, verdict, proven }
    }

    /// Has a call decided in a turn, where its chain is charged.
    async fn charged(&self, asked: &Asked, command: Authorize, grant: GrantId, key: &str) -> Result<Authorized, Error> {
        let Authorize { id, credential, .. } = command;
        let call = command.call.clone();
        // A new token of the same grant makes the same call.
        let body = serde_json::to_vec(&(grant, &call)).map_err(|error| unencodable(&error))?;
        match self.submit_once(asked, command, idempotency::<Authorize>(key, &body)?).await {
            Ok(Judged { id, verdict }) => Ok(Authorized { id, verdict, proven: true }),
            Err(error) if matches!(error.code, Code::Conflict | Code::Unauthenticated) => Err(error),
            Err(error) => {
                let now = self.ledger.now();
                let verdict = self.ledger.view(|view| judge(&view, now, credential, None));
                let verdict = unrecorded(verdict, &error);
                Ok(self.recorded(asked, id, Some(credential), verdict, Attempt { call: &call, proven: true }))
            }
        }
    }

    /// The one credential that a call is made under, its signature, times and binding checked.
    fn presented(&self, asked: &Asked, shown: &Presented<'_>, now: Timestamp) -> Result<Credential, Error> {
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
            _ => self.verify(asked, shown, now).map(Credential::Token),
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
