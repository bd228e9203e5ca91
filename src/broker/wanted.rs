//! What somebody wants to have decided, and the name that it has when it is asked for again.

use crate::domain::catalog::{Body, HttpRequest, McpMessage};
use crate::domain::decide::Reason;
use crate::domain::digest::Digest;
use crate::domain::scope::Call;

/// What somebody wants to do. The catalog's routes say which call a request or a message makes.
#[derive(Clone, Debug)]
pub enum What<'a> {
    /// A call, by its parts.
    Call(Call),
    /// An HTTP request.
    Http(HttpRequest<'a>),
    /// A message of an MCP client.
    Mcp(McpMessage<'a>),
    /// Nothing that could be allowed: whoever translated it has a reason against it. It is denied and recorded like
    /// any other.
    Refused(Reason),
}

/// A call that somebody wants to make, and what goes with it.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The call.
    pub what: What<'a>,
    /// The caller's own name for it, where the log has it before the answer: the same name and call are one call. With
    /// the same DPoP proof it is a retry only if all else is the same.
    pub key: &'a str,
    /// Whether a ticket is wanted with an allow.
    pub ticket: bool,
    /// The ticket of this very call; empty if none is spent.
    pub redeem: &'a str,
    /// Whether who asks puts the secret into the call that the broker may hold for it
    /// ([`Broker::upstream`](super::Broker::upstream)).
    pub hands_out: bool,
    /// `sha256:…` of the input schema that the tool shows now; empty if that is not known.
    pub schema: &'a str,
    /// Whether it goes on once it is allowed, and takes [`Room`](super::Room) for as long.
    pub hold: bool,
}

impl<'a> Wanted<'a> {
    /// Only to be decided.
    pub fn only(what: What<'a>) -> Self {
        Self { what, key: "", ticket: false, redeem: "", hands_out: false, schema: "", hold: false }
    }
}

impl From<Call> for Wanted<'_> {
    fn from(call: Call) -> Self {
        Self::only(What::Call(call))
    }
}

/// The name of a request, by all that is asked in it; none if its caller gave it none, or it cannot be told from others.
/// Whoever has the proof of another's request, and its key, can have nothing else decided with it.
pub(super) fn name_of(wanted: &[Wanted<'_>]) -> Option<Digest> {
    let named = !wanted.is_empty() && wanted.iter().all(|one| !one.key.is_empty());
    let parts = if named { wanted.iter().map(parts).collect::<Option<Vec<_>>>()? } else { return None };
    serde_json::to_vec(&parts).ok().map(|text| Digest::of(&text))
}

fn parts(wanted: &Wanted<'_>) -> Option<serde_json::Value> {
    let Wanted { what, key, ticket, redeem, hands_out, schema, hold } = wanted;
    let (kind, what) = match what {
        What::Call(call) => ("call", serde_json::to_value(call)),
        What::Http(HttpRequest { method, scheme, host, path, body }) => {
            let body = match body {
                Body::Complete(bytes) => format!("complete {}", Digest::of(bytes)),
                Body::Truncated => "truncated".to_owned(),
                Body::Withheld => "withheld".to_owned(),
                Body::NotJson => "not_json".to_owned(),
            };
            ("http", serde_json::to_value((method, scheme, host, path, body)))
        }
        What::Mcp(McpMessage { server, method, params }) => ("mcp", serde_json::to_value((server, method, params))),
        What::Refused(Reason { code, .. }) => ("refused", serde_json::to_value(code)),
    };
    serde_json::to_value((key, kind, what.ok()?, ticket, redeem, hands_out, schema, hold)).ok()
}
