//! The catalog: which tools and resources there are, how bad and how sensitive, and where reaching one leads.

use serde::{Deserialize, Serialize};

use super::agent::words;
use super::error::Error;
use super::name::Line;
use super::scope::{Action, Path, Scope};

/// What an operator has said there is.
#[derive(Debug, Default)]
pub struct Catalog {
    tools: Vec<Tool>,
    resources: Vec<Resource>,
    edges: Vec<Edge>,
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
    /// How sensitive the resource at this place is.
    pub fn sensitivity(&self, at: u32) -> Sensitivity {
        self.resources.get(at as usize).map_or(Sensitivity::Restricted, |resource| resource.sensitivity)
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
