//! One tool call, decided from live state at the moment it is made.

use super::call::{judge_call, live};
use crate::domain::certificate::Certificate;
use crate::domain::event::Invocation;
use crate::domain::grant::Credential;
use crate::domain::id::{GrantId, InvocationId};
use crate::domain::limits::Charge;
use crate::domain::name::Name;
use crate::domain::policy::Decided;
pub use crate::domain::reason::Reason;
use crate::domain::scope::{Args, Call};
use crate::domain::time::Timestamp;
use crate::domain::view::View;

/// A call that somebody wants to make.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The call, with its arguments.
    pub call: &'a Call,
    /// Whether who asks proved to hold the credential.
    pub proven: bool,
    /// The call whose ticket is spent with it.
    pub redeems: Option<InvocationId>,
    /// Whether a secret is handed out if it is allowed: some tools ask for a ticket then.
    pub hands_out: bool,
    /// `sha256:…` of the input schema that the tool shows now, where that is known.
    pub schema: Option<&'a str>,
}

impl<'a> Attempt<'a> {
    /// A call by whoever proved to hold the credential, or did not.
    pub fn of(call: &'a Call, proven: bool) -> Self {
        Self { call, proven, redeems: None, hands_out: false, schema: None }
    }
}

/// Allow, deny, or not without more humans; and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the call may be made.
    pub allowed: bool,
    /// Humans who would have to approve for that; 0 where no number of them would do.
    pub needs: u8,
    /// Why: at least one.
    pub reasons: Vec<Reason>,
    /// The credential's grant, if it is known.
    pub grant: Option<GrantId>,
    /// The root of that grant's tree.
    pub tree: Option<GrantId>,
    /// The holder.
    pub agent: Option<Name>,
    /// The policies that decided; none where it did not come to them.
    pub decided: Decided,
    /// What an allowed call takes from the limits of its chain; none if they count no calls.
    pub charge: Option<Charge>,
    /// Whether it has to be in the log before anybody hears of it: limits count it, humans had to approve its grant, or
    /// it cannot be undone.
    pub grave: bool,
}

impl Verdict {
    /// A refusal that knows nothing of the credential.
    pub fn deny(code: &'static str, message: impl Into<String>) -> Self {
        let reasons = vec![Reason { code, message: message.into() }];
        let decided = Decided::default();
        Self {
            allowed: false,
            needs: 0,
            reasons,
            grant: None,
            tree: None,
            agent: None,
            decided,
            charge: None,
            grave: false,
        }
    }

    /// `allow`, `step_up` or `deny`. Only the first allows anything.
    pub fn decision(&self) -> &'static str {
        match (self.allowed, self.needs) {
            (true, _) => "allow",
            (false, 0) => "deny",
            (false, _) => "step_up",
        }
    }

    /// The record of a decided call: of its arguments only a digest, for they may hold secrets.
    pub fn record(&self, id: InvocationId, credential: Option<Credential>, attempt: Attempt<'_>) -> Invocation {
        let used = self.allowed && attempt.proven;
        Invocation {
            call: Some(Call { args: Args::default(), ..attempt.call.clone() }),
            args: attempt.call.args.digest(),
            allowed: self.allowed,
            proven: attempt.proven,
            charged: self.charge.clone().filter(|_| used),
            redeems: attempt.redeems.filter(|_| used),
            ..self.record_none(id, credential)
        }
    }

    /// The record of what was refused before a call was made out of it.
    pub fn record_none(&self, id: InvocationId, credential: Option<Credential>) -> Invocation {
        Invocation {
            id,
            credential,
            grant: self.grant,
            tree: self.tree,
            agent: self.agent.clone(),
            call: None,
            args: None,
            decided: self.decided.clone(),
            allowed: false,
            reasons: self.reasons.iter().map(|reason| reason.code.to_owned()).collect(),
            proven: false,
            charged: None,
            ticket: None,
            redeems: None,
        }
    }
}

/// Decides a call under a credential whose signature, times and binding were checked before. Without a call it
/// decides the credential alone, and asks no policy.
pub fn judge(view: &View<'_>, now: Timestamp, credential: Credential, attempt: Option<Attempt<'_>>) -> Verdict {
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
        return match attempt {
            Some(attempt) => judge_call(view, now, grant, attempt),
            None => live(view, now, grant),
        };
    };
    Verdict::under(grant, Reason { code, message })
}

impl View<'_> {
    /// When a credential ends, as far as it is known.
    pub(super) fn credential_end(&self, credential: Credential) -> Option<Timestamp> {
        known(self, credential).map(|known| known.expires_at)
    }
}

/// Who holds a credential, as far as memory knows it.
pub fn holder<'a>(view: &View<'a>, credential: Credential) -> Option<&'a Name> {
    view.grant(known(view, credential)?.grant).map(|grant| &grant.agent)
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
        // A lease is presented to its own system, never here.
        Credential::Lease(_) => None,
    }
}
