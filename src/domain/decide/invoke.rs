//! One tool call, decided from live state at the moment it is made.

use super::{Context, Decide, Decision};
use crate::domain::certificate::Certificate;
use crate::domain::error::Error;
use crate::domain::event::{Body, Invocation};
use crate::domain::grant::{Credential, GrantState};
use crate::domain::id::GrantId;
use crate::domain::name::Name;
use crate::domain::scope::Call;
use crate::domain::time::Timestamp;
use crate::domain::view::View;

/// Allow or deny, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the call may be made.
    pub allowed: bool,
    /// Why: at least one.
    pub reasons: Vec<Reason>,
    /// The credential's grant, if it is known.
    pub grant: Option<GrantId>,
    /// The root of that grant's tree.
    pub tree: Option<GrantId>,
    /// The holder.
    pub agent: Option<Name>,
}

/// A stable word, and a line that says the same to a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// For programs.
    pub code: &'static str,
    /// For people and models.
    pub message: String,
}

/// Records a decided call.
#[derive(Debug)]
pub struct RecordInvocation {
    /// The call and its verdict.
    pub invocation: Invocation,
}

impl Verdict {
    /// A refusal that knows nothing of the credential.
    pub fn deny(code: &'static str, message: impl Into<String>) -> Self {
        let reasons = vec![Reason { code, message: message.into() }];
        Self { allowed: false, reasons, grant: None, tree: None, agent: None }
    }
}

/// Decides a call under a credential whose signature, times and binding were checked before. Without a call it
/// decides the credential alone.
pub fn judge(view: &View<'_>, now: Timestamp, credential: Credential, call: Option<&Call>) -> Verdict {
    let kind = credential.kind();
    let Some(known) = known(view, credential) else {
        let code = if kind == "token" { "token_unknown" } else { "certificate_unknown" };
        return Verdict::deny(code, format!("{kind} `{credential}` is not live here"));
    };
    let Some(grant) = view.grant(known.grant) else {
        return Verdict::deny("grant_expired", format!("grant `{}` is over", known.grant));
    };
    let (code, message) = if view.cut(&credential.target()).is_some() {
        let code = if kind == "token" { "token_revoked" } else { "certificate_revoked" };
        (code, format!("{kind} `{credential}` was revoked"))
    } else if view.is_tainted(known.kid) {
        (
            "key_tainted",
            format!("{kind} `{credential}` is signed by a key that is not trusted any more; ask for a new one"),
        )
    } else if now >= known.expires_at {
        let code = if kind == "token" { "token_expired" } else { "certificate_expired" };
        (code, format!("{kind} `{credential}` has expired"))
    } else {
        match (view.standing(grant.id, now), call) {
            (Some(standing), _) if standing.state != GrantState::Active => {
                (standing.reason, format!("grant `{}` is {}, by `{}`", grant.id, standing.state, standing.link))
            }
            (None, _) => ("grant_expired", format!("grant `{}` is over", grant.id)),
            (Some(_), Some(call)) if !grant.scopes.allow(call) => {
                ("out_of_scope", format!("`{call}` is not within grant `{}`", grant.id))
            }
            (Some(_), _) => ("in_scope", "the grant is live and covers it".to_owned()),
        }
    };
    Verdict {
        allowed: code == "in_scope",
        reasons: vec![Reason { code, message }],
        grant: Some(grant.id),
        tree: Some(grant.root),
        agent: Some(grant.agent.clone()),
    }
}

/// What memory knows of a credential.
struct Known<'a> {
    grant: GrantId,
    kid: &'a String,
    expires_at: Timestamp,
}

fn known<'a>(view: &View<'a>, credential: Credential) -> Option<Known<'a>> {
    match credential {
        Credential::Token(id) => {
            view.token(&id).map(|token| Known { grant: token.grant, kid: &token.kid, expires_at: token.expires_at })
        }
        Credential::Certificate(id) => {
            let certificate = view.certificate(&id).filter(|one| one.der.is_some())?;
            let Certificate { authority, not_after, .. } = certificate;
            Some(Known { grant: certificate.grant?, kid: authority, expires_at: *not_after })
        }
    }
}

impl Decide for RecordInvocation {
    type Answer = ();
    const VERB: &'static str = "authorize";

    fn decide(&self, _: &mut Context<'_>) -> Result<Decision<()>, Error> {
        Ok(Decision::new(vec![Body::Invoked(self.invocation.clone())], ()))
    }
}
