//! From a route as it is written to one that is good.

use serde::Deserialize;

use super::super::{Catalog, MAX_ROUTES};
use super::parts::{Pattern, Template};
use super::place::Place;
use super::{On, Route, Table, To};
use crate::domain::error::Error;

/// A route as it is written. It has one of three forms: `host`, `method`, `path` and `call` (with or without `body`);
/// `host`, `method`, `path` and `mcp`; or `mcp`, `tool` and `call`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DraftRoute {
    /// A host, with a port or without, or `*.example.com`.
    pub host: Option<String>,
    /// `GET`, `POST`, …
    pub method: Option<String>,
    /// `/repos/{owner}/{repo}`
    pub path: Option<String>,
    /// `tool:action@resource`; parts of the resource may be placeholders.
    pub call: Option<String>,
    /// The MCP server, which is a tool of the catalog.
    pub mcp: Option<String>,
    /// The tool, as the MCP server names it.
    pub tool: Option<String>,
    /// `json`: members of the body are arguments.
    pub body: Option<String>,
}

const FORMS: &str = "a route has host, method, path and call (and may have body = \"json\"), or host, method, path and \
                     mcp, or mcp, tool and call; nothing more and nothing less";

impl Catalog {
    /// A table of good routes.
    pub(in super::super) fn routes_of(&self, written: &[DraftRoute]) -> Result<Table, Error> {
        if written.len() > MAX_ROUTES {
            let why = format!("a catalog has at most {MAX_ROUTES}");
            return Err(Error::malformed("route", &format!("{} given", written.len()), &why));
        }
        let routes = written
            .iter()
            .map(|written| self.route(written).map_err(|why| Error::malformed("route", &written.to_string(), &why)));
        Table::of(routes.collect::<Result<_, _>>()?)
    }

    fn route(&self, written: &DraftRoute) -> Result<Route, String> {
        let DraftRoute { host, method, path, call, mcp, tool, body } = written;
        let request = match (host, method, path) {
            (Some(host), Some(method), Some(path)) => Some((host, method, path)),
            (None, None, None) => None,
            _ => return Err(FORMS.to_owned()),
        };
        match (request, call, mcp, tool, body) {
            (Some(request), Some(call), None, None, body) => {
                let (on, call) = (http(request)?, self.template(call)?);
                if let On::Http { path, .. } = &on
                    && let Some(part) = path.lacks(&call)
                {
                    return Err(format!("its path has no {part}, which its call needs"));
                }
                let body = match body.as_deref() {
                    None => false,
                    Some("json") => true,
                    Some(_) => {
                        return Err("its body can be \"json\" alone; leave it out where it is not read".to_owned());
                    }
                };
                Ok(Route { on, to: To::Call { call, body } })
            }
            (Some(request), None, Some(server), None, None) => {
                self.known(server)?;
                Ok(Route { on: http(request)?, to: To::Mcp(server.clone()) })
            }
            (None, Some(call), Some(server), Some(tool), None) => {
                self.known(server)?;
                if tool.is_empty() || tool.len() > 256 || tool.chars().any(char::is_control) {
                    return Err("its tool is a name of 1 to 256 bytes".to_owned());
                }
                let on = On::Tool { server: server.clone(), tool: tool.clone() };
                Ok(Route { on, to: To::Call { call: self.template(call)?, body: false } })
            }
            _ => Err(FORMS.to_owned()),
        }
    }

    fn template(&self, call: &str) -> Result<Template, String> {
        let call = Template::parse(call)?;
        self.known(&call.tool)?;
        Ok(call)
    }
}

fn http((host, method, path): (&String, &String, &String)) -> Result<On, String> {
    let is_method = !method.is_empty()
        && method.len() <= 32
        && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    if !is_method {
        return Err("a method is one word in capitals, such as GET; a wildcard is none".to_owned());
    }
    Ok(On::Http { method: method.clone(), place: Place::parse(host)?, path: Pattern::parse(path)? })
}

impl std::fmt::Display for DraftRoute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, method, path, call, mcp, tool, body } = self;
        let said =
            [("", method), ("", host), ("", path), ("mcp ", mcp), ("tool ", tool), ("call ", call), ("body ", body)];
        let said = said.into_iter().filter_map(|(key, value)| Some(format!("{key}{}", value.as_ref()?)));
        f.write_str(&said.collect::<Vec<_>>().join(" "))
    }
}
