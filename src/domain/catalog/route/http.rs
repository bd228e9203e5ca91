//! From an HTTP request to a call.

use super::super::Catalog;
use super::super::destination::authority_of;
use super::request::Target;
use super::{Body, HttpRequest, McpMessage, On, Reason, Route, To, mcp, refused, shown};
use crate::domain::scope::{Args, Call, Value, twin};

/// Bytes of all arguments in their one form, as everywhere.
const LONGEST_ARGS: usize = 64 * 1024;

impl Catalog {
    /// The call that a request makes, by the one route that says most of it.
    ///
    /// # Errors
    /// `route_malformed`: method, host or path can be read in two ways or in none, or their values do not fit the
    /// route. `route_unknown`: no route applies. `body_needed`, `body_truncated`, `body_malformed`: the route reads the
    /// body, and it is withheld, not whole, or not what it has to be. `method_unknown`: as [`Catalog::mcp`].
    pub fn http(&self, request: &HttpRequest<'_>) -> Result<Call, Reason> {
        let HttpRequest { method, scheme, host, path, body } = *request;
        let malformed = |why: String| refused("route_malformed", why);
        let scheme = scheme.to_ascii_lowercase();
        let usual = match scheme.as_str() {
            "https" => 443,
            "http" => 80,
            _ => return Err(malformed(format!("scheme `{}` is neither http nor https", shown(&scheme)))),
        };
        let (name, port) = authority_of(host).filter(|_| host.len() <= 255).ok_or_else(|| {
            malformed(format!("host `{}` is neither a name nor an address, with a port or without", shown(host)))
        })?;
        let target = Target::parse(path).map_err(|why| malformed(format!("the path cannot be routed: {why}")))?;
        let place = (name.as_str(), port.or(Some(usual)));
        let route = self.routes.http(method, place, &target.path, target.slash).ok_or_else(|| {
            let asked = format!("{} {name}{}", shown(method), shown(path.split('?').next().unwrap_or_default()));
            refused("route_unknown", format!("no route of the catalog says which tool `{asked}` calls"))
        })?;
        let port = port.map_or(String::new(), |port| format!(":{port}"));
        let call = self.follow(route, target, body)?.with_destination(&format!("{scheme}://{name}{port}"));
        call.map_err(|error| malformed(error.message))
    }

    fn follow(&self, route: &Route, target: Target, body: Body<'_>) -> Result<Call, Reason> {
        match (&route.on, &route.to) {
            (_, To::Mcp(server)) => {
                if !target.query.is_empty() {
                    let why = format!("`{route}` takes messages for an MCP server, and no query beside them");
                    return Err(refused("route_malformed", why));
                }
                let message = mcp::Rpc::parse(text(body)?)?;
                self.mcp(&McpMessage { server, method: &message.method, params: message.params })
            }
            (On::Http { path, .. }, To::Call { call, body: read }) => {
                let value = |name: &str| {
                    let lost = || refused("route_malformed", format!("the path has no `{name}`"));
                    path.value(name, &target.path).ok_or_else(lost)
                };
                let call = call.fill(value)?;
                let body = if *read { members(text(body)?)? } else { Args::default() };
                Ok(call.with_args(joined(target.query.into_iter(), &body)?))
            }
            // The table finds routes of requests alone.
            (On::Tool { .. }, To::Call { .. }) => Err(refused("route_unknown", format!("`{route}` is for no request"))),
        }
    }
}

/// The text of a body that is to be read.
fn text(body: Body<'_>) -> Result<&str, Reason> {
    match body {
        Body::Complete(bytes) => {
            std::str::from_utf8(bytes).map_err(|_| refused("body_malformed", "the body is no UTF-8 text"))
        }
        Body::Truncated => Err(refused("body_truncated", "the body was cut off; send a shorter one")),
        Body::Withheld => {
            Err(refused("body_needed", "which call this is depends on the body, which cannot be seen from here"))
        }
        Body::NotJson => {
            let why = "the body has to be JSON, sent as `content-type: application/json` and without any encoding";
            Err(refused("body_malformed", why))
        }
    }
}

fn members(text: &str) -> Result<Args, Reason> {
    Args::parse(text).map_err(|error| refused("body_malformed", format!("of the body, {}", error.message)))
}

/// Holds unless two names are one to some server: they differ by case, in whatever script, or by white space around them.
pub(super) fn told_apart<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), Reason> {
    match twin(names) {
        Some(twin) => {
            let why = format!("argument `{}` is given twice, by query, body, or in another case", shown(twin));
            Err(refused("route_malformed", why))
        }
        None => Ok(()),
    }
}

/// The arguments of query and body: each once, since one server takes the first and another the last. Names that
/// differ by case alone are one name to some.
fn joined(query: impl Iterator<Item = (String, String)>, body: &Args) -> Result<Args, Reason> {
    let body = body.iter().map(|(name, value)| (name.to_owned(), value.clone()));
    let all: Vec<(String, Value)> = query.map(|(name, value)| (name, Value::Text(value))).chain(body).collect();
    told_apart(all.iter().map(|(name, _)| name.as_str()))?;
    let args: Args = all.into_iter().collect();
    match args.canonical().len() > LONGEST_ARGS {
        true => Err(refused("body_malformed", "the arguments of query and body have more than 64 KiB")),
        false => Ok(args),
    }
}
