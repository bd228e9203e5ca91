//! Routes: which call an HTTP request or a message of an MCP client makes.
//!
//! A request is read in one way or not at all: whatever a proxy, a broker and a server could read differently (an
//! escaped `/`, a `..`, a name that is given twice) is refused and never repaired.

mod draft;
mod http;
mod mcp;
mod parts;
mod place;
mod request;
mod table;
#[cfg(test)]
mod tests;

pub use draft::DraftRoute;
pub use mcp::is_session;
pub(super) use table::Table;

use parts::{Pattern, Template};
use place::Place;

use crate::domain::reason::Reason;

/// An HTTP request, as an enforcement point received it.
#[derive(Clone, Copy, Debug)]
pub struct HttpRequest<'a> {
    /// `GET`, `POST`, …: compared as it is.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The host that was asked for, with or without a port.
    pub host: &'a str,
    /// The path with its query, as it was sent: not decoded, not normalised.
    pub path: &'a str,
    /// The body.
    pub body: Body<'a>,
}

/// How much of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// All of it.
    Complete(&'a [u8]),
    /// There is more than was handed over.
    Truncated,
    /// Whoever asks does not see bodies.
    Withheld,
    /// It is said to be something else than plain JSON: another `content-type`, or any `content-encoding`. A server
    /// that believes the header reads another thing in the same bytes.
    NotJson,
}

/// A JSON-RPC message of an MCP client, taken apart.
#[derive(Clone, Copy, Debug)]
pub struct McpMessage<'a> {
    /// The server, which is the tool as scopes name it.
    pub server: &'a str,
    /// `tools/call`, `tools/list`, …
    pub method: &'a str,
    /// The text of `params`, if there are any.
    pub params: Option<&'a str>,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    on: On,
    to: To,
}

/// What a route applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum On {
    /// Requests with this method, to these hosts, with such a path.
    Http { method: String, place: Place, path: Pattern },
    /// Calls of this tool of an MCP server, by the name that the server gives it.
    Tool { server: String, tool: String },
}

/// What it makes of that.
#[derive(Clone, Debug, PartialEq, Eq)]
enum To {
    /// A call; its arguments are those of the query, and of the body too if that is to be read.
    Call { call: Template, body: bool },
    /// The body is a message for this MCP server.
    Mcp(String),
}

impl Route {
    /// What it does with what it applies to.
    pub(super) fn does(&self) -> String {
        match &self.to {
            To::Call { call, body: false } => call.to_string(),
            To::Call { call, body: true } => format!("{call}, with the JSON body"),
            To::Mcp(server) => format!("MCP messages for {server}"),
        }
    }
}

impl std::fmt::Display for Route {
    /// What it applies to.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.on {
            On::Http { method, place, path } => write!(f, "{method} {place}{path}"),
            On::Tool { server, tool } => write!(f, "mcp {server} {tool}"),
        }
    }
}

fn refused(code: &'static str, message: impl Into<String>) -> Reason {
    Reason { code, message: message.into() }
}

/// A text of a stranger within a message: its beginning, escaped.
pub(super) fn shown(text: &str) -> String {
    let shown: String = text.chars().take(32).flat_map(char::escape_debug).collect();
    if text.chars().nth(32).is_some() { shown + "…" } else { shown }
}
