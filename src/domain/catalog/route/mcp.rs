//! From a message of an MCP client to a call.

use super::super::Catalog;
use super::http::told_apart;
use super::parts::{Template, is_reserved};
use super::{McpMessage, Reason, To, refused, shown};
use crate::domain::scope::{Action, Args, Call, Scope, Value, members};

/// The resource of every call that is made by a message.
pub(super) const RESOURCE: &str = "mcp";

/// Whether a call is a message by which a client holds its session, and calls nothing: `initialize`, `ping`,
/// `tools/list`, `logging/setLevel` and notifications. Routes cannot make such calls.
pub fn is_session(call: &Call) -> bool {
    let held = |method| matches!(method, "initialize" | "ping" | "tools.list" | "logging.setLevel");
    let method = call.action.strip_prefix("mcp.").filter(|_| call.resource == RESOURCE);
    method.is_some_and(|method| held(method) || method.starts_with("notifications."))
}

impl Catalog {
    /// The call that a message makes. A `tools/call` is what the route of that tool says, or the server's name, the
    /// tool's name as the action, and the resource `mcp`; every other method `a/b` is `SERVER:mcp.a.b@mcp`, with its
    /// params as arguments unless it [holds the session](is_session).
    ///
    /// # Errors
    /// `method_unknown`: no action can have that name. `body_malformed`: the params are not those of the method.
    /// `route_malformed`: an argument does not fit the route.
    pub fn mcp(&self, message: &McpMessage<'_>) -> Result<Call, Reason> {
        let McpMessage { server, method, params } = *message;
        if method == "tools/call" {
            return self.tool_call(server, params);
        }
        let plain = |part: &str| matches!(Action::parse(part), Some(Action::Exact(name)) if !name.contains('.'));
        if !method.split('/').all(plain) {
            return Err(refused("method_unknown", format!("`{}` is no method of MCP", shown(method))));
        }
        let call = call(server, &format!("mcp.{}", method.replace('/', ".")))?;
        let mut params = params.map_or_else(|| Ok(Default::default()), |text| object("its params", text))?;
        // For the transport: tokens of progress, trace contexts.
        params.remove("_meta");
        if is_session(&call) {
            return Ok(call);
        }
        let text: Vec<String> =
            params.iter().map(|(name, raw)| format!("{}:{raw}", Value::Text(name.clone()))).collect();
        Ok(call.with_args(args(&format!("{{{}}}", text.join(",")))?))
    }

    /// All calls that a `tools/call` of this tool can make, as [`Catalog::mcp`] makes them; none if it can make none.
    pub fn tool_reach(&self, server: &str, name: &str) -> Option<Scope> {
        match self.routes.tool(server, name).map(|route| &route.to) {
            Some(To::Call { call, .. }) => call.reach(),
            _ if matches!(Action::parse(name), Some(Action::Exact(_))) && !is_reserved(name) => {
                format!("{server}:{name}@{RESOURCE}").parse().ok()
            }
            _ => None,
        }
    }

    fn tool_call(&self, server: &str, params: Option<&str>) -> Result<Call, Reason> {
        let params = params.ok_or_else(|| refused("body_malformed", "a tools/call has params with a name"))?;
        let params = object("its params", params)?;
        // A server that reads names of either case would take another `Name` for the name.
        if let Some(other) = params.keys().find(|name| !matches!(name.as_str(), "name" | "arguments" | "_meta")) {
            let why = format!("params of a tools/call have name and arguments, and no `{}`", shown(other));
            return Err(refused("body_malformed", why));
        }
        let name = string("the name of a tools/call", params.get("name").copied())?;
        let args = params.get("arguments").map_or_else(|| Ok(Args::default()), |text| args(text))?;
        let call = match self.routes.tool(server, &name).map(|route| &route.to) {
            Some(To::Call { call, .. }) => call.fill(|name| argument(&args, name, call))?,
            _ if matches!(Action::parse(&name), Some(Action::Exact(_))) && !is_reserved(&name) => call(server, &name)?,
            _ => {
                let why = format!(
                    "`{0}` is no name of an action; a [[route]] with tool = \"{0}\" can give it one",
                    shown(&name)
                );
                return Err(refused("method_unknown", why));
            }
        };
        Ok(call.with_args(args))
    }
}

fn call(server: &str, action: &str) -> Result<Call, Reason> {
    Call::parse(server, action, RESOURCE).map_err(|error| refused("route_malformed", error.message))
}

/// The text of an argument that a route makes a part of the resource.
fn argument(args: &Args, name: &str, call: &Template) -> Result<String, Reason> {
    let whole =
        |text: &str| text.bytes().enumerate().all(|(at, byte)| byte.is_ascii_digit() || at == 0 && byte == b'-');
    let found = match args.get(name) {
        Some(Value::Text(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()).filter(|text| whole(text)),
        _ => None,
    };
    let why = || format!("`{call}` needs argument `{name}`, a string or a whole number");
    found.ok_or_else(|| refused("route_malformed", why()))
}

fn args(text: &str) -> Result<Args, Reason> {
    let args = Args::parse(text).map_err(|error| refused("body_malformed", error.message))?;
    told_apart(args.iter().map(|(name, _)| name))?;
    Ok(args)
}

fn object<'a>(what: &str, text: &'a str) -> Result<std::collections::BTreeMap<String, &'a str>, Reason> {
    members(text).map_err(|why| refused("body_malformed", format!("{what} are no object that can be read: {why}")))
}

fn string(what: &str, raw: Option<&str>) -> Result<String, Reason> {
    let text = raw.and_then(|raw| serde_json::from_str::<String>(raw).ok());
    text.ok_or_else(|| refused("body_malformed", format!("{what} is not there, or no string")))
}

/// A JSON-RPC message, as the body of a request.
pub(super) struct Rpc<'a> {
    pub(super) method: String,
    pub(super) params: Option<&'a str>,
}

impl<'a> Rpc<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Reason> {
        if text.trim_start().starts_with('[') {
            return Err(refused("body_malformed", "send one JSON-RPC message at a time, not a list of them"));
        }
        let message = object("the members of the message", text)?;
        let known = ["jsonrpc", "id", "method", "params"];
        if let Some(other) = message.keys().find(|name| !known.contains(&name.as_str())) {
            let why =
                format!("a message that calls something has jsonrpc, id, method and params, and no `{}`", shown(other));
            return Err(refused("body_malformed", why));
        }
        if string("jsonrpc", message.get("jsonrpc").copied())? != "2.0" {
            return Err(refused("body_malformed", "its jsonrpc has to be \"2.0\""));
        }
        let method = string("the method", message.get("method").copied())?;
        Ok(Self { method, params: message.get("params").copied() })
    }
}
