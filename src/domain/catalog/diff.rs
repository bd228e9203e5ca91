//! What applying another catalog would change.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Catalog, Tool};
use crate::domain::agent::words;
use crate::domain::error::Error;

/// One difference between two catalogs, sorted by part and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// What kind of entry.
    pub part: Part,
    /// Which.
    pub name: String,
    /// What happens to it.
    pub what: What,
    /// What it is then, and where it changes, what it was: `internal -> restricted`. Empty for edges.
    pub detail: String,
}

/// What happens to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It was not there.
    Added,
    /// It is not there any more.
    Removed,
    /// It is another.
    Changed,
}

/// The kinds of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// A tool, apart from its actions.
    Tool,
    /// An action of a tool.
    Action,
    /// A resource.
    Resource,
    /// An edge.
    Edge,
    /// A route.
    Route,
}

impl Catalog {
    /// What would change if `next` took this one's place, sorted.
    pub fn diff(&self, next: &Self) -> Vec<Change> {
        let (old, mut new) = (self.entries(), next.entries());
        let mut changes = Vec::new();
        for ((part, name), was) in old {
            let (what, detail) = match new.remove(&(part, name.clone())) {
                None => (What::Removed, was),
                Some(is) if is == was => continue,
                Some(is) => (What::Changed, format!("{was} -> {is}")),
            };
            changes.push(Change { part, name, what, detail });
        }
        let added = new.into_iter();
        changes.extend(added.map(|((part, name), detail)| Change { part, name, what: What::Added, detail }));
        changes.sort_unstable();
        changes
    }

    fn entries(&self) -> BTreeMap<(Part, String), String> {
        let tools = self.tools.iter().map(|tool| ((Part::Tool, tool.name.clone()), said(tool)));
        let actions = self.tools.iter().flat_map(|tool| {
            tool.actions.iter().map(|action| {
                let schema =
                    action.schema_digest.as_deref().map_or(String::new(), |digest| format!(", schema {digest}"));
                ((Part::Action, format!("{}:{}", tool.name, action.name)), format!("{}{schema}", action.risk))
            })
        });
        let resources = self
            .resources
            .iter()
            .map(|resource| ((Part::Resource, resource.to_string()), resource.sensitivity.to_string()));
        let edges = self.edges.iter().map(|edge| ((Part::Edge, edge.to_string()), String::new()));
        let routes = self.routes.routes().iter().map(|route| ((Part::Route, route.to_string()), route.does()));
        tools.chain(actions).chain(resources).chain(edges).chain(routes).collect()
    }
}

fn said(tool: &Tool) -> String {
    let goes = if tool.destinations.is_empty() { "anywhere".to_owned() } else { tool.destinations.join(" ") };
    let ticket = if tool.ticket { ", with a ticket" } else { "" };
    format!("owner {}, goes {goes}{ticket}", tool.owner)
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.what, self.part, self.name)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

words! { What "change": Added = "added", Removed = "removed", Changed = "changed" }
words! { Part "part": Tool = "tool", Action = "action", Resource = "resource", Edge = "edge",
Route = "route" }
