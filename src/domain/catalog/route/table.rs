//! Finds the route of a request without looking at the others.

use std::collections::HashMap;

use super::parts::{Part, Pattern};
use super::place::upwards;
use super::{On, Route};
use crate::domain::error::Error;

/// Routes by what they apply to.
#[derive(Debug, Default)]
pub(in super::super) struct Table {
    routes: Vec<Route>,
    /// By host (below a `.`, all that end so), method and port.
    hosts: HashMap<String, HashMap<String, HashMap<Option<u16>, Node>>>,
    /// By MCP server, and the name that it gives its tool.
    tools: HashMap<String, HashMap<String, u32>>,
}

/// All paths that begin alike.
#[derive(Debug, Default)]
struct Node {
    names: HashMap<String, Node>,
    one: Option<Box<Node>>,
    ends: Ends,
    rest: Ends,
}

/// A route for paths without a `/` at the end, and one for those with it.
type Ends = [Option<u32>; 2];

impl Table {
    /// Of these routes.
    ///
    /// # Errors
    /// Two of them apply to the same, whatever their placeholders are called.
    pub(in super::super) fn of(routes: Vec<Route>) -> Result<Self, Error> {
        let mut table = Self::default();
        for (at, route) in (0u32..).zip(&routes) {
            let before = match &route.on {
                On::Http { method, place, path } => {
                    let methods = table.hosts.entry(place.host.clone()).or_default();
                    let ports = methods.entry(method.clone()).or_default();
                    ports.entry(place.port).or_default().end(path).replace(at)
                }
                On::Tool { server, tool } => table.tools.entry(server.clone()).or_default().insert(tool.clone(), at),
            };
            if let Some(before) = before {
                let why = match routes[before as usize].to_string() {
                    before if before == route.to_string() => "it is given twice".to_owned(),
                    before => format!("`{before}` applies to the same requests"),
                };
                return Err(Error::malformed("route", &route.to_string(), &why));
            }
        }
        Ok(Self { routes, ..table })
    }

    /// All of them, in the order in which they were given.
    pub(in super::super) fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The route of a request: of all that apply, the one that says most. The host decides first, a port before
    /// none; then the path from its beginning, a name before a placeholder, one part before many.
    pub(super) fn http(
        &self,
        method: &str,
        place: (&str, Option<u16>),
        path: &[String],
        slash: bool,
    ) -> Option<&Route> {
        let (host, port) = place;
        let below = upwards(host).filter_map(|host| self.hosts.get(host)?.get(method));
        let mut nodes = below.flat_map(|ports| [port.and_then(|port| ports.get(&Some(port))), ports.get(&None)]);
        nodes.find_map(|node| self.routes.get(node?.find(path, slash)? as usize))
    }

    /// The route of a call of an MCP server's tool.
    pub(super) fn tool(&self, server: &str, tool: &str) -> Option<&Route> {
        self.routes.get(*self.tools.get(server)?.get(tool)? as usize)
    }
}

impl Node {
    /// Where a path ends.
    fn end(&mut self, path: &Pattern) -> &mut Option<u32> {
        let mut node = self;
        for part in &path.parts {
            node = match part {
                Part::Name(name) => node.names.entry(name.clone()).or_default(),
                Part::One(_) => node.one.get_or_insert_default(),
                Part::Rest(_) => return &mut node.rest[usize::from(path.slash)],
            };
        }
        &mut node.ends[usize::from(path.slash)]
    }

    /// Looks at each node once at most, since only one way leads to it.
    fn find(&self, path: &[String], slash: bool) -> Option<u32> {
        let [first, after @ ..] = path else { return self.ends[usize::from(slash)] };
        let named = self.names.get(first).and_then(|node| node.find(after, slash));
        let one = || self.one.as_ref().and_then(|node| node.find(after, slash));
        named.or_else(one).or(self.rest[usize::from(slash)])
    }
}
