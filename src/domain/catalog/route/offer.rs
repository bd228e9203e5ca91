//! Which of a server's tools a client is shown.

use super::super::Catalog;
use super::To;
use super::mcp::RESOURCE;
use super::parts::is_reserved;
use crate::domain::scope::{Action, Scope, Scopes};

impl Catalog {
    /// Whether these scopes may allow some call of a tool, as the MCP server names it. Of arguments, limits and policies
    /// that says nothing: each call is decided when it is made.
    pub fn offers(&self, scopes: &Scopes, server: &str, name: &str) -> bool {
        match self.routes.tool(server, name).map(|route| &route.to) {
            Some(To::Call { call, .. }) => {
                scopes.iter().any(|scope| scope.tool() == call.tool && scope.action().allows(&call.action))
            }
            _ => {
                let covers = |scope: &Scope| {
                    scope.tool() == server && scope.action().allows(name) && scope.resource().allows(RESOURCE)
                };
                let is_action = matches!(Action::parse(name), Some(Action::Exact(_)));
                is_action && !is_reserved(name) && scopes.iter().any(covers)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::DraftRoute;
    use super::*;
    use crate::domain::catalog::{Draft, DraftTool};

    #[test]
    fn a_client_is_shown_what_its_scopes_may_allow() {
        let tool = |name: &str| {
            let (name, owner) = (name.to_owned(), "team".to_owned());
            DraftTool { name, owner, destinations: Vec::new(), ticket: false, action: Vec::new() }
        };
        let some = |text: &str| Some(text.to_owned());
        let call = some("github:pulls.merge@repo/{owner}/{repo}");
        let route = DraftRoute { mcp: some("files"), tool: some("Merge It"), call, ..Default::default() };
        let draft = Draft { tool: vec![tool("files"), tool("github")], route: vec![route], ..Default::default() };
        let catalog = Catalog::build(draft).unwrap();
        let shown = |scopes: &[&str], name| catalog.offers(&Scopes::parse(scopes).unwrap(), "files", name);
        assert!(shown(&["files:read@mcp"], "read"));
        assert!(shown(&["files:*@**"], "read"));
        assert!(shown(&["github:pulls.*@repo/acme/*"], "Merge It"));
        for (scopes, name) in [
            (&["files:read@mcp"][..], "write"),
            (&["files:read@elsewhere"], "read"),
            (&["github:read@mcp"], "read"),
            (&["files:*@**"], "Merge It"),
            (&["files:*@**"], "mcp.tools.list"),
            (&["files:*@**"], ""),
        ] {
            assert!(!shown(scopes, name), "{scopes:?} {name}");
        }
    }
}
