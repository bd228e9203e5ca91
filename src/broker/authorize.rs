//! Authorize: decided from live state, recorded within 50 ms, refused where it cannot be recorded.

use super::token::possession;
use super::{Asked, Broker};
use crate::domain::decide::{Caller, RecordInvocation, Verdict, judge};
use crate::domain::entropy::Entropy;
use crate::domain::error::Error;
use crate::domain::event::Invocation;
use crate::domain::grant::Credential;
use crate::domain::id::InvocationId;
use crate::domain::policy::Decided;
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
    /// Decides one tool call: under `token`, or without one under the certificate of the caller's connection.
    pub fn authorize(&self, asked: &Asked, token: &str, call: Call) -> Authorized {
        let now = self.ledger.now();
        let seed = self.ledger.seed();
        let id = InvocationId::mint(now, &mut Entropy::from_seed(seed));
        let (credential, verdict) = match self.presented(asked, token, now) {
            Err(error) => (None, Verdict::deny(error.reason, error.message)),
            Ok(credential) => (Some(credential), self.ledger.view(|view| judge(&view, now, credential, Some(&call)))),
        };
        let proven = credential.is_some() && possession(asked).is_some();
        let request = |verdict: &Verdict| Request {
            command: RecordInvocation { invocation: invocation(id, credential, verdict, call.clone(), proven) },
            caller: asked.caller.clone(),
            request_id: asked.request_id.clone(),
            idempotency: None,
            seed,
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

    /// The one credential that a call is made under, its signature, times and binding checked.
    fn presented(&self, asked: &Asked, token: &str, now: Timestamp) -> Result<Credential, Error> {
        match &asked.caller {
            // The handshake proved its key, and the access table that it may be presented.
            Caller::Holder(presenter) if token.is_empty() => Ok(Credential::Certificate(presenter.certificate)),
            Caller::Holder(_) => {
                let why = "the certificate of this connection is a credential itself; leave the token out";
                Err(Error::denied("one_credential", why))
            }
            _ if token.is_empty() => {
                let why = "an identity is no credential; add a token, or call with a certificate under a grant";
                Err(Error::denied("no_credential", why))
            }
            _ => self.verify(asked, token, now).map(Credential::Token),
        }
    }
}

/// What may be done has to be written down first: else the answer is no.
fn unrecorded(verdict: Verdict, error: &Error) -> Verdict {
    let refused = Verdict::deny("not_recorded", format!("the decision could not be recorded: {error}"));
    Verdict { reasons: refused.reasons, allowed: false, ..verdict }
}

fn invocation(
    id: InvocationId,
    credential: Option<Credential>,
    verdict: &Verdict,
    call: Call,
    proven: bool,
) -> Invocation {
    Invocation {
        id,
        credential,
        grant: verdict.grant,
        tree: verdict.tree,
        agent: verdict.agent.clone(),
        call: Some(call),
        args: None,
        decided: Decided::default(),
        allowed: verdict.allowed,
        reasons: verdict.reasons.iter().map(|reason| reason.code.to_owned()).collect(),
        proven,
    }
}
