//! The catalog: which tools and resources there are, how bad and how sensitive, and where reaching one leads.
//!
//! What is not in the catalog is taken to be the worst: its risk is `admin`, its sensitivity `restricted`, and whoever
//! may reach it reaches without bounds.

mod about;
mod destination;
mod diff;
mod draft;
mod graph;
mod index;
mod reach;
mod route;

use serde::{Deserialize, Serialize};

pub use about::About;
pub use destination::Host;
pub use diff::{Change, Part, What};
pub use draft::{Draft, DraftAction, DraftEdge, DraftResource, DraftTool};
pub use route::{Body, DraftRoute, HttpRequest, McpMessage, Route, is_session};

use super::agent::words;
use super::error::Error;
use super::name::Line;
use super::scope::{Action, Path, Scope};

/// Tools of one catalog.
pub const MAX_TOOLS: usize = 10_000;
/// Actions of one tool: each is looked at when something is asked about the tool.
pub const MAX_ACTIONS: usize = 1000;
/// Resources of one catalog.
pub const MAX_RESOURCES: usize = 200_000;
/// Edges of one catalog.
pub const MAX_EDGES: usize = 500_000;
/// Routes of one catalog.
pub const MAX_ROUTES: usize = 10_000;
/// Pairs of an edge and what begins or lies where it ends: wildcards could make for billions.
const LINKS: usize = 20_000_000;

/// What an operator has said there is. A resource's place is its place in the order of tools and paths.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Sorted by name.
    tools: Vec<Tool>,
    /// Sorted by tool and path.
    resources: Vec<Resource>,
    index: index::Index,
    /// Sorted by where they begin.
    edges: Vec<Edge>,
    graph: graph::Graph,
    routes: route::Table,
}

/// A tool and what it can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// As scopes name it.
    pub name: String,
    /// Who answers for it.
    pub owner: Line,
    /// Where its calls may go; empty: anywhere.
    pub destinations: Vec<String>,
    /// Whether no secret is handed out for it without a call ticket.
    pub ticket: bool,
    /// Its actions.
    pub actions: Vec<ToolAction>,
}

/// An action, or a pattern of actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolAction {
    /// Which.
    pub name: Action,
    /// What it can do.
    pub risk: Risk,
    /// `sha256:…` of the input schema that it has to have.
    pub schema_digest: Option<String>,
}

/// A resource, or a pattern of resources that count as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The tool that reaches it.
    pub tool: String,
    /// Where it is.
    pub path: Path,
    /// How sensitive it is.
    pub sensitivity: Sensitivity,
}

/// Whoever can do `from` can reach `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// What somebody has to be able to do.
    pub from: Scope,
    /// The tool of what it leads to.
    pub tool: String,
    /// What it leads to.
    pub to: Path,
}

impl Catalog {
    /// The tool of this name.
    pub fn tool(&self, name: &str) -> Option<&Tool> {
        self.tools.binary_search_by(|tool| tool.name.as_str().cmp(name)).ok().map(|at| &self.tools[at])
    }

    /// How many tools, resources, edges and routes there are.
    pub fn counts(&self) -> (usize, usize, usize, usize) {
        (self.tools.len(), self.resources.len(), self.edges.len(), self.routes.routes().len())
    }

    /// `tool:path` of the resource at this place.
    pub fn name(&self, at: u32) -> String {
        self.resources.get(at as usize).map(Resource::to_string).unwrap_or_default()
    }

    /// How sensitive the resource at this place is.
    pub fn sensitivity(&self, at: u32) -> Sensitivity {
        self.resources.get(at as usize).map_or(Sensitivity::Restricted, |resource| resource.sensitivity)
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.tool, self.path)
    }
}

impl std::fmt::Display for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} -> {}:{}", self.from, self.tool, self.to)
    }
}

/// What an action can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// Looks.
    #[default]
    Read,
    /// Changes what can be changed back.
    Write,
    /// Changes what cannot.
    Destructive,
    /// Changes who may do what.
    Admin,
}

/// How bad it is if a resource falls into the wrong hands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sensitivity {
    /// Not at all.
    #[default]
    Public,
    /// A nuisance.
    Internal,
    /// Harm.
    Confidential,
    /// Great harm.
    Restricted,
}

impl Sensitivity {
    /// What one resource of this sensitivity adds to a score: each step is four times the one below.
    pub const fn weight(self) -> u64 {
        match self {
            Self::Public => 1,
            Self::Internal => 4,
            Self::Confidential => 16,
            Self::Restricted => 64,
        }
    }
}

words! { Risk "risk": Read = "read", Write = "write", Destructive = "destructive", Admin = "admin" }
words! { Sensitivity "sensitivity": Public = "public", Internal = "internal", Confidential = "confidential",
Restricted = "restricted" }
