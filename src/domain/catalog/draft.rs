//! From the file that an operator writes to a catalog: every entry is checked, and the first that is wrong is named.

use serde::Deserialize;

use super::destination::Destination;
use super::graph::Graph;
use super::index::Index;
use super::route::{DraftRoute, shown};
use super::{
    Catalog, Edge, MAX_ACTIONS, MAX_EDGES, MAX_RESOURCES, MAX_TOOLS, Resource, Risk, Sensitivity, Tool, ToolAction,
};
use crate::domain::error::Error;
use crate::domain::name::Line;
use crate::domain::scope::{Action, Path, Scope};

/// A catalog as it is written, not checked yet. Its names are those of the file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Draft {
    /// Tools.
    pub tool: Vec<DraftTool>,
    /// Resources.
    pub resource: Vec<DraftResource>,
    /// Edges.
    pub edge: Vec<DraftEdge>,
    /// Routes.
    pub route: Vec<DraftRoute>,
}

/// A tool as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DraftTool {
    /// As scopes name it.
    pub name: String,
    /// Who answers for it.
    pub owner: String,
    /// Where its calls may go; none: anywhere.
    #[serde(default)]
    pub destinations: Vec<String>,
    /// Whether no secret is handed out for it without a call ticket.
    #[serde(default)]
    pub ticket: bool,
    /// Its actions.
    #[serde(default)]
    pub action: Vec<DraftAction>,
}

/// An action as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DraftAction {
    /// A name, or a pattern of names.
    pub name: String,
    /// The worst that it can do.
    pub risk: Risk,
    /// `sha256:` and 64 hexadecimal digits.
    pub schema_digest: Option<String>,
}

/// A resource as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DraftResource {
    /// `tool:path`
    pub path: String,
    /// How sensitive it is.
    pub sensitivity: Sensitivity,
}

/// An edge as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DraftEdge {
    /// `tool:action@path`
    pub from: String,
    /// `tool:path`
    pub to: String,
}

/// Bytes of a scope or of a resource with its tool.
const LONGEST: usize = 512;

impl Catalog {
    /// A catalog of which every entry is good.
    ///
    /// # Errors
    /// The first entry that is not, with its value: malformed, given twice, about a tool or resource that is not
    /// there, or more than there may be.
    pub fn build(draft: Draft) -> Result<Self, Error> {
        at_most("tool", draft.tool.len(), MAX_TOOLS)?;
        at_most("resource", draft.resource.len(), MAX_RESOURCES)?;
        at_most("edge", draft.edge.len(), MAX_EDGES)?;
        let mut catalog =
            Self { tools: draft.tool.into_iter().map(tool).collect::<Result<_, _>>()?, ..Self::default() };
        catalog.tools.sort_unstable_by(|one, two| one.name.cmp(&two.name));
        once("tool", &catalog.tools, |one, two| one.name == two.name, |tool| tool.name.clone())?;

        let resources = draft.resource.iter().map(|written| catalog.resource(written));
        catalog.resources = resources.collect::<Result<_, _>>()?;
        catalog.resources.sort_unstable_by(|one, two| (&one.tool, &one.path).cmp(&(&two.tool, &two.path)));
        let same = |one: &Resource, two: &Resource| one.tool == two.tool && one.path == two.path;
        once("resource", &catalog.resources, same, Resource::to_string)?;
        let keys: Vec<(&str, &Path)> = catalog.resources.iter().map(|one| (one.tool.as_str(), &one.path)).collect();
        catalog.index = Index::of(&keys);

        catalog.edges = draft.edge.iter().map(|written| catalog.edge(written)).collect::<Result<_, _>>()?;
        catalog.edges.sort_unstable_by(|one, two| order(one).cmp(&order(two)));
        once("edge", &catalog.edges, PartialEq::eq, Edge::to_string)?;
        catalog.graph = Graph::of(&catalog.edges, &catalog.index)?;
        catalog.routes = catalog.routes_of(&draft.route)?;
        Ok(catalog)
    }

    fn resource(&self, written: &DraftResource) -> Result<Resource, Error> {
        let (tool, path) = located(&written.path).map_err(|why| Error::malformed("resource", &written.path, why))?;
        self.known(tool).map_err(|why| Error::malformed("resource", &written.path, &why))?;
        Ok(Resource { tool: tool.to_owned(), path, sensitivity: written.sensitivity })
    }

    fn edge(&self, written: &DraftEdge) -> Result<Edge, Error> {
        let wrong = |why: &str| Error::malformed("edge", &format!("{} -> {}", written.from, written.to), why);
        let from: Scope = written.from.parse().map_err(|error: Error| wrong(&error.message))?;
        // Whatever a scope can say beyond its three parts would be lost here, and the edge would be another one.
        if format!("{}:{}@{}", from.tool(), from.action(), from.resource()) != written.from {
            return Err(wrong("the `from` of an edge takes no constraints; write tool:action@resource"));
        }
        self.known(from.tool()).map_err(|why| wrong(&why))?;
        let (tool, to) = located(&written.to).map_err(wrong)?;
        self.known(tool).map_err(|why| wrong(&why))?;
        if !self.index.covers(tool, &to) {
            return Err(wrong(&format!("no [[resource]] covers {tool}:{to}; add one, with its sensitivity")));
        }
        Ok(Edge { from, tool: tool.to_owned(), to })
    }

    /// Refuses a tool that is not there.
    pub(super) fn known(&self, tool: &str) -> Result<(), String> {
        match self.tool(tool) {
            Some(_) => Ok(()),
            None => Err(format!("there is no tool `{}`; add a [[tool]] of this name", shown(tool))),
        }
    }
}

/// Edges that begin alike stand together.
fn order(edge: &Edge) -> impl Ord + '_ {
    (edge.from.tool(), edge.from.resource(), edge.from.action(), edge.tool.as_str(), &edge.to)
}

fn tool(written: DraftTool) -> Result<Tool, Error> {
    let DraftTool { name, owner, destinations, ticket, action } = written;
    let wrong = |why: &str| Error::malformed("tool", &name, why);
    let scope = format!("{name}:*@**").parse::<Scope>();
    if !scope.is_ok_and(|scope| scope.tool() == name) {
        return Err(wrong("a tool is a-z, 0-9, `_` and `-`, beginning with a letter"));
    }
    let owner: Line = owner.parse().map_err(|error: Error| wrong(&format!("owner: {error}")))?;
    for destination in &destinations {
        if Destination::parse(destination).is_none() {
            let why = format!("destination `{}` is neither a URL nor a host", destination.escape_debug());
            return Err(wrong(&why));
        }
    }
    if action.len() > MAX_ACTIONS {
        return Err(wrong(&format!("it has {} actions; at most {MAX_ACTIONS}", action.len())));
    }
    let mut actions = action.into_iter().map(|action| tool_action(&name, action)).collect::<Result<Vec<_>, _>>()?;
    actions.sort_unstable_by(|one, two| one.name.cmp(&two.name));
    once("action", &actions, |one, two| one.name == two.name, |action| format!("{name}:{}", action.name))?;
    Ok(Tool { name, owner, destinations, ticket, actions })
}

fn tool_action(tool: &str, written: DraftAction) -> Result<ToolAction, Error> {
    let wrong = |why: &str| Error::malformed("action", &format!("{tool}:{}", written.name), why);
    if written.name.len() > LONGEST {
        return Err(wrong("at most 512 bytes"));
    }
    let name =
        Action::parse(&written.name).ok_or_else(|| wrong("write dotted names, which may end in `.*`, or `*`"))?;
    let is_digest = |text: &str| text.strip_prefix("sha256:").is_some_and(is_sha256);
    if written.schema_digest.as_deref().is_some_and(|text| !is_digest(text)) {
        return Err(wrong("its schema_digest has to be `sha256:` and 64 digits of 0-9 and a-f"));
    }
    Ok(ToolAction { name, risk: written.risk, schema_digest: written.schema_digest })
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The parts of `tool:path`.
fn located(text: &str) -> Result<(&str, Path), &'static str> {
    if text.len() > LONGEST {
        return Err("at most 512 bytes");
    }
    let (tool, path) = text.split_once(':').ok_or("write tool:path, such as github:repo/acme/*")?;
    let why = "a path is names with `/` between, `*` for one, `**` for any tail; no `.`, `..` or empty parts";
    Ok((tool, Path::parse(path).ok_or(why)?))
}

fn at_most(field: &'static str, count: usize, most: usize) -> Result<(), Error> {
    match count > most {
        true => Err(Error::malformed(field, &format!("{count} given"), &format!("a catalog has at most {most}"))),
        false => Ok(()),
    }
}

/// Refuses neighbours that are the same.
fn once<T>(
    field: &'static str,
    sorted: &[T],
    same: impl Fn(&T, &T) -> bool,
    name: impl Fn(&T) -> String,
) -> Result<(), Error> {
    match sorted.windows(2).find(|pair| same(&pair[0], &pair[1])) {
        Some(pair) => Err(Error::malformed(field, &name(&pair[0]), "it is given twice")),
        None => Ok(()),
    }
}
