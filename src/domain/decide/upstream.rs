//! Upstream secrets, added, replaced and removed.

use super::{Context, Decide, Decision};
use crate::domain::catalog::Host;
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::event::Body;
use crate::domain::name::{Line, Name};
use crate::domain::policy::Right;
use crate::domain::scope::Call;
use crate::domain::upstream::{Header, MOST_UPSTREAMS, Upstream};

/// Adds a secret for a tool's API at one host. The value was sealed before, and goes with the event as a blob.
#[derive(Clone, Debug)]
pub struct AddUpstream {
    /// Its name.
    pub name: Name,
    /// The tool whose calls it goes with.
    pub tool: Name,
    /// Where it goes.
    pub host: Host,
    /// The header that it goes in.
    pub header: Header,
    /// The blob.
    pub sealed: Digest,
    /// Whether it may take the place of one of that name.
    pub replace: bool,
}

/// Removes one: no call gets it from now on.
#[derive(Debug)]
pub struct RemoveUpstream {
    /// Which.
    pub name: Name,
    /// Why.
    pub reason: Line,
}

impl Decide for AddUpstream {
    type Answer = Upstream;
    const VERB: &'static str = "upstream.add";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Upstream>, Error> {
        ctx.operator(Right::ManageBackends)?;
        // What no call could name would never be put into one.
        Call::parse(self.tool.as_str(), "any", "any")?;
        let known = ctx.view.upstream(&self.name);
        let conflict = |message: String| Error::new(Code::Conflict, "upstream_exists", message);
        if known.is_some_and(|known| !known.removed) && !self.replace {
            return Err(conflict(format!("upstream `{}` exists; replace it", self.name)).on("name"));
        }
        let same =
            |one: &&Upstream| !one.removed && one.name != self.name && one.tool == self.tool && one.host == self.host;
        if let Some(other) = ctx.view.upstreams().find(same) {
            let message = format!(
                "upstream `{}` is for tool `{}` at `{}` already; replace or remove that one",
                other.name, self.tool, self.host
            );
            return Err(conflict(message).on("host"));
        }
        if known.is_none() && ctx.view.upstreams().count() >= MOST_UPSTREAMS {
            let message = format!("there are {MOST_UPSTREAMS} upstream secrets; take the name of one that was removed");
            return Err(Error::new(Code::Exhausted, "too_many_upstreams", message));
        }
        let Self { name, tool, host, header, sealed, replace: _ } = self.clone();
        let upstream = Upstream { name, tool, host, header, sealed, removed: false, created_at: ctx.now };
        Ok(Decision::new(vec![Body::UpstreamAdded(upstream.clone())], upstream))
    }
}

impl Decide for RemoveUpstream {
    type Answer = Upstream;
    const VERB: &'static str = "upstream.remove";

    fn is_urgent(&self) -> bool {
        true
    }

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Upstream>, Error> {
        ctx.operator(Right::ManageBackends)?;
        let known = ctx.view.upstream(&self.name).ok_or_else(|| Error::not_found("upstream", &self.name).on("name"))?;
        let removed = Upstream { removed: true, ..known.clone() };
        if known.removed {
            return Ok(Decision::new(Vec::new(), removed));
        }
        let event = Body::UpstreamRemoved { name: self.name.clone(), reason: self.reason.clone() };
        Ok(Decision::new(vec![event], removed))
    }
}
