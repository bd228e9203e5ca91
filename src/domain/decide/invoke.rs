//! One tool call, decided from live state at the moment it is made.

use super::{Context, Decide, Decision};
use crate::domain::cut::Target;
use crate::domain::error::Error;
use crate::domain::event::{Body, Invocation};
use crate::domain::grant::GrantState;
use crate::domain::id::{GrantId, TokenId};
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
    /// The token's grant, if the token is known.
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
    /// A refusal that knows nothing of the token.
    pub fn deny(code: &'static str, message: impl Into<String>) -> Self {
        let reasons = vec![Reason { code, message: message.into() }];
        Self { allowed: false, reasons, grant: None, tree: None, agent: None }
    }
}

/// Decides a call under a token whose signature, times and binding were checked before. Without a call it
/// decides the token alone.
pub fn judge(view: &View<'_>, now: Timestamp, token: TokenId, call: Option<&Call>) -> Verdict {
    let Some(known) = view.token(&token) else {
        return Verdict::deny("token_unknown", format!("token `{token}` is not live here"));
    };
    let Some(grant) = view.grant(known.grant) else {
        return Verdict::deny("grant_expired", format!("grant `{}` is over", known.grant));
    };
    let (code, message) = if view.cut(&Target::Token(token)).is_some() {
        ("token_revoked", format!("token `{token}` was revoked"))
    } else if now >= known.expires_at {
        ("token_expired", format!("token `{token}` has expired"))
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

impl Decide for RecordInvocation {
    type Answer = ();
    const VERB: &'static str = "authorize";

    fn decide(&self, _: &mut Context<'_>) -> Result<Decision<()>, Error> {
        Ok(Decision::new(vec![Body::Invoked(self.invocation.clone())], ()))
    }
}
