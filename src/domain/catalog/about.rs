//! What the catalog says of one scope or one call.

use super::destination::Destination;
use super::{Catalog, Risk, Sensitivity};
use crate::domain::name::Line;
use crate::domain::scope::{Action, Call, Path};

/// What is known of a tool, an action and a resource together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About<'a> {
    /// Who answers for the tool; none if it is not in the catalog.
    pub owner: Option<&'a Line>,
    /// The worst that the action can do; `admin` unless one catalogued action covers it.
    pub risk: Risk,
    /// The most sensitive that it touches; `restricted` unless one catalogued resource covers it.
    pub sensitivity: Sensitivity,
    /// Whether tool, action and resource are all in the catalog.
    pub catalogued: bool,
}

impl Catalog {
    /// What is known of this action on this resource; both may be patterns.
    pub fn about(&self, tool: &str, action: &Action, resource: &Path) -> About<'_> {
        let (risk, known) = self.risk(tool, action);
        let covered = self.index.covers(tool, resource);
        let mut sensitivity = if covered { Sensitivity::Public } else { Sensitivity::Restricted };
        self.index.meeting(tool, resource, |run| {
            let worst = self.resources[run].iter().map(|resource| resource.sensitivity).max();
            sensitivity = sensitivity.max(worst.unwrap_or_default());
        });
        let owner = self.tool(tool).map(|tool| &tool.owner);
        About { owner, risk, sensitivity, catalogued: known && covered }
    }

    /// The same of one call.
    pub fn about_call(&self, call: &Call) -> About<'_> {
        let tool = self.tool(&call.tool);
        let nowhere = About {
            owner: tool.map(|tool| &tool.owner),
            risk: Risk::Admin,
            sensitivity: Sensitivity::Restricted,
            catalogued: false,
        };
        if tool.is_none() {
            return nowhere;
        }
        let (action, resource) = (Action::parse(&call.action), Path::parse(&call.resource));
        action.zip(resource).map_or(nowhere, |(action, resource)| self.about(&call.tool, &action, &resource))
    }

    /// The worst that the action can do, and whether one catalogued action covers it.
    pub(super) fn risk(&self, tool: &str, action: &Action) -> (Risk, bool) {
        let Some(tool) = self.tool(tool) else { return (Risk::Admin, false) };
        if !tool.actions.iter().any(|known| known.name.covers(action)) {
            return (Risk::Admin, false);
        }
        let met = tool.actions.iter().filter(|known| known.name.meet(action).is_some());
        (met.map(|known| known.risk).max().unwrap_or(Risk::Admin), true)
    }

    /// Whether a call is known to change what cannot be changed back, or who may do what.
    pub fn is_grave(&self, call: &Call) -> bool {
        let Some(action) = Action::parse(&call.action) else { return true };
        matches!(self.risk(&call.tool, &action), (risk, true) if risk >= Risk::Destructive)
    }

    /// The digest that the input schema of an action has to have, if the catalog pins it: by its own name, else by a
    /// pattern that covers it.
    pub fn schema_digest(&self, tool: &str, action: &str) -> Option<&str> {
        let (tool, action) = (self.tool(tool)?, Action::parse(action)?);
        let mut known = tool.actions.iter().filter(|known| known.name.covers(&action));
        let pinned = tool
            .actions
            .iter()
            .find(|known| known.name == action)
            .or_else(|| known.find(|known| known.schema_digest.is_some()));
        pinned?.schema_digest.as_deref()
    }

    /// Whether a call of this tool may go there. A tool without destinations, or one that is not in the catalog, is
    /// not bound to any; of the others, a call that does not say where it goes, or not clearly, goes nowhere.
    pub fn destination_allowed(&self, tool: &str, destination: Option<&str>) -> bool {
        let Some(tool) = self.tool(tool).filter(|tool| !tool.destinations.is_empty()) else { return true };
        let Some(going) = destination.and_then(Destination::parse) else { return false };
        tool.destinations.iter().filter_map(|known| Destination::parse(known)).any(|known| known.allows(&going))
    }
}
