//! What a decision means to a proxy: let the request through with these headers, or answer the client with this.

use axum::http::StatusCode;
use serde_json::json;

use super::Edge;
use super::decisions::decided;
use crate::broker::{Asked, Broker, Injected, Wanted};
use crate::domain::catalog::McpMessage;
use crate::domain::error::{Code, Error};
use crate::domain::id::GrantId;
use crate::wire::v1;

/// What a proxy is to do. Only an allowing decision makes the first.
pub(super) enum Ruling {
    /// Pass the request on.
    Through(Through),
    /// Answer the client.
    Answer(Answer),
}

/// A request that may be passed on.
pub(super) struct Through {
    /// Header fields that the service behind is sent, in place of any that the client sent: who calls, and under which
    /// grant.
    pub set: Vec<(String, String)>,
}

/// What the client is told instead.
#[derive(Debug)]
pub(super) struct Answer {
    /// 401 if the credential is at fault, else 403: proxies pass on these two.
    pub status: StatusCode,
    /// A stable word.
    pub code: String,
    /// One line.
    pub message: String,
    /// Header fields.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: String,
    /// What kept it from being decided; none if this is a decision.
    pub failed: Option<Code>,
}

impl Edge {
    /// Decides what a proxy asks. One that `puts_in` what it is given is given the upstream secret that goes with the call.
    pub(super) async fn ruling(
        &self,
        asked: &Asked,
        question: Result<v1::AuthorizeRequest, Error>,
        puts_in: bool,
    ) -> Ruling {
        let made = match question {
            Ok(question) => self.decide_for(asked, &question, |wanted| Wanted { hands_out: puts_in, ..wanted }).await,
            Err(error) => Err(error),
        };
        let made = match made {
            Ok(made) => self.0.upstream(&made).await.map(|secret| (secret, decided(made))),
            Err(error) => Err(error),
        };
        match made {
            Err(error) => Ruling::Answer(Answer::refused(&error)),
            Ok((secret, decided)) => Ruling::of(&self.0, &decided, secret),
        }
    }

    /// Decides a message that goes to each of these servers: to all of them, or to none.
    pub(super) async fn ruling_of_all(
        &self,
        asked: &Asked,
        question: &v1::AuthorizeRequest,
        messages: &[McpMessage<'_>],
    ) -> Ruling {
        let made = match self.decide_all(asked, question, messages).await {
            Ok(made) => made,
            Err(error) => return Ruling::Answer(Answer::refused(&error)),
        };
        let mut last = Ruling::Answer(Answer::refused(&Error::missing("service_names")));
        for made in made {
            last = Ruling::of(&self.0, &decided(made), None);
            if let Ruling::Answer(_) = last {
                return last;
            }
        }
        last
    }
}

impl Ruling {
    /// What a decision comes to.
    fn of(broker: &Broker, decided: &v1::AuthorizeResponse, secret: Option<Injected>) -> Self {
        if decided.decision != "allow" {
            return Self::Answer(Answer::denied(decided));
        }
        match holder(broker, &decided.grant) {
            Some((agent, chain)) => Self::Through(Through::under(decided, agent, chain, secret)),
            None => Self::Answer(Answer::refused(&Error::denied("grant_expired", "the grant is over"))),
        }
    }
}

impl Through {
    fn under(decided: &v1::AuthorizeResponse, agent: String, chain: String, secret: Option<Injected>) -> Self {
        let set =
            [("agent", agent), ("grant", decided.grant.clone()), ("invocation", decided.id.clone()), ("chain", chain)];
        let ours = set.into_iter().map(|(name, value)| (format!("{}{name}", super::shown::OURS), value));
        // What is set here is never taken from the client.
        let secret = secret.map(|(header, value)| (header.to_string(), value.to_string()));
        Self { set: ours.chain(secret).collect() }
    }
}

impl Answer {
    /// A request that was not decided: the broker could not, or it is none.
    pub fn refused(error: &Error) -> Self {
        let Error { code, reason, message, .. } = error;
        let told = json!({ "code": reason, "message": message });
        let headers = match code {
            Code::Unauthenticated => vec![challenge("invalid_request", message, "")],
            _ => Vec::new(),
        };
        Self { failed: Some(*code), ..Self::new(reason, message, headers, &json!({ "error": told })) }
    }

    fn denied(decided: &v1::AuthorizeResponse) -> Self {
        let reason = decided.reasons.first().cloned().unwrap_or_default();
        let v1::Reason { code, message } = &reason;
        let mut told = json!({ "code": code, "message": message, "invocation": decided.id });
        let mut headers = Vec::new();
        if decided.decision == "step_up" {
            headers.push(challenge("insufficient_scope", message, &decided.call));
            told["ask"] = format!("belay grant request --scope '{}'", decided.call).into();
            told["scope"] = decided.call.clone().into();
            if !decided.approval.is_empty() {
                told["approval"] = decided.approval.clone().into();
            }
        } else if code == "no_credential" {
            headers.push(("www-authenticate", "Bearer realm=\"belay\"".to_owned()));
        } else if is_the_credential(code) {
            headers.push(challenge("invalid_token", message, ""));
        }
        if !decided.dpop_nonce.is_empty() {
            headers.retain(|(name, _)| *name != "www-authenticate");
            headers.push(("www-authenticate", "DPoP error=\"use_dpop_nonce\"".to_owned()));
            headers.push(("dpop-nonce", decided.dpop_nonce.clone()));
        }
        Self::new(code, message, headers, &json!({ "error": told }))
    }

    fn new(code: &str, message: &str, mut headers: Vec<(&'static str, String)>, body: &serde_json::Value) -> Self {
        let asked = headers.iter().any(|(name, value)| *name == "www-authenticate" && !value.contains("insufficient"));
        let status = if asked { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
        headers.push(("content-type", "application/json".to_owned()));
        let (code, message) = (code.to_owned(), message.to_owned());
        Self { status, code, message, headers, body: format!("{body}\n"), failed: None }
    }
}

/// The holder of a live grant and its chain, the root first.
fn holder(broker: &Broker, grant: &str) -> Option<(String, String)> {
    let grant: GrantId = grant.parse().ok()?;
    let mut chain: Vec<String> =
        broker.ledger().view(|view| view.ancestry(grant).map(|grant| grant.agent.to_string()).collect());
    let agent = chain.first()?.clone();
    chain.reverse();
    Some((agent, chain.join(",")))
}

/// Whether a reason speaks of the credential, so that another one may help, and not of what was asked with it.
fn is_the_credential(code: &str) -> bool {
    let about = ["token_", "certificate_", "key_", "dpop_"];
    about.iter().any(|prefix| code.starts_with(prefix))
        || matches!(code, "signature" | "possession" | "one_credential" | "no_credential")
}

/// A challenge of RFC 6750.
fn challenge(error: &str, message: &str, scope: &str) -> (&'static str, String) {
    let quoted =
        |text: &str| text.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect::<String>();
    let scope = if scope.is_empty() { String::new() } else { format!(", scope=\"{}\"", quoted(scope)) };
    ("www-authenticate", format!("Bearer error=\"{error}\", error_description=\"{}\"{scope}", quoted(message)))
}
