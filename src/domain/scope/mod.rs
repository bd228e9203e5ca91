//! Scopes: `tool:action@resource`, with constraints on arguments, and what it means for one to cover another.
//!
//! [`Scope::covers`] never accepts falsely: whatever the child allows, the parent allows. [`Scope::intersects`] never
//! misses. An empty set means nothing. What a child leaves out of its parent's constraints it inherits.

mod action;
mod args;
mod bounds;
mod call;
mod constraint;
mod decimal;
mod glob;
mod path;
mod place;
mod read;
mod set;
mod text;
mod value;
mod widening;

use serde::{Deserialize, Serialize};

pub use action::Action;
pub use args::{Args, twin};
pub use bounds::Bounds;
pub use call::Call;
pub use constraint::Constraint;
pub use decimal::Decimal;
pub use path::{Path, Segment};
pub use set::Scopes;
pub use value::Value;
pub(in crate::domain) use value::members;
pub use widening::{Difference, Widening};

/// One scope: a tool, an action pattern, a resource pattern, and constraints on arguments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope {
    tool: String,
    action: Action,
    resource: Path,
    bounds: Bounds,
}

impl Scope {
    /// Whether every call that `child` allows is allowed by this scope. A child that leaves out a constraint of this
    /// scope is not covered: see [`Scope::inherit`].
    pub fn covers(&self, child: &Scope) -> bool {
        self.tool == child.tool
            && self.action.covers(&child.action)
            && self.resource.covers(&child.resource)
            && self.bounds.covers(&child.bounds)
    }

    /// Whether this scope allows `call`.
    pub fn allows(&self, call: &Call) -> bool {
        self.tool == call.tool
            && self.action.allows(&call.action)
            && self.resource.allows(&call.resource)
            && self.bounds.allow(&call.args)
    }

    /// Whether some call may be allowed by both. Of tool, action and resource this is exact; of constraints it may
    /// say yes too often.
    pub fn intersects(&self, other: &Scope) -> bool {
        self.tool == other.tool
            && self.action.meet(&other.action).is_some()
            && self.resource.meet(&other.resource).is_some()
            && self.bounds.intersect(&other.bounds)
    }

    /// This scope with the constraints that `parent` has and it leaves out: then `parent` covers it.
    ///
    /// # Errors
    /// The first field in which it goes beyond `parent`.
    pub fn inherit(&self, parent: &Scope) -> Result<Scope, Widening> {
        let widens =
            |near, field: &str, why| Err(Widening { scope: self.to_string(), field: field.to_owned(), why, near });
        if self.tool != parent.tool {
            return widens(0, "tool", format!("{} is not {}", self.tool, parent.tool));
        }
        if !parent.action.covers(&self.action) {
            return widens(1, "action", format!("{} is not within {}", self.action, parent.action));
        }
        if !parent.resource.covers(&self.resource) {
            return widens(2, "resource", format!("{} is not within {}", self.resource, parent.resource));
        }
        match self.bounds.inherit(&parent.bounds) {
            Err((field, why)) => widens(3, &field, why),
            Ok(bounds) => (Self { bounds, ..self.clone() }.if_it_fits())
                .map_or_else(|| widens(4, "args", "with what it inherits it has more than 2048 bytes".to_owned()), Ok),
        }
    }

    /// What both allow, as one scope; none if that is nothing, or is too long, or cannot be said by a scope.
    pub fn meet(&self, other: &Scope) -> Option<Scope> {
        let same = (self.tool == other.tool).then(|| self.tool.clone())?;
        let action = self.action.meet(&other.action)?.clone();
        let resource = self.resource.meet(&other.resource)?;
        Self { tool: same, action, resource, bounds: self.bounds.meet(&other.bounds)? }.if_it_fits()
    }

    /// The tool.
    pub fn tool(&self) -> &str {
        &self.tool
    }

    /// The action pattern.
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// The resource pattern.
    pub fn resource(&self) -> &Path {
        &self.resource
    }

    /// The constraints on arguments.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }
}

const TOOL: &str = "a tool is a-z, 0-9, `_` and `-`, beginning with a letter";

fn is_tool(text: &str) -> bool {
    let good = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    text.len() <= 64 && text.bytes().next().is_some_and(|b| b.is_ascii_lowercase()) && text.bytes().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Scope {
        text.parse().unwrap()
    }

    #[test]
    fn a_scope_covers_only_what_lies_within_it() {
        let within = [
            ("pg:*@db/**", "pg:select@db/orders/eu"),
            ("pg:*@db/**", "pg:*@db/**"),
            ("pg:*@**", "pg:rows.read@a"),
            ("pg:rows.*@db/*", "pg:rows.read.one@db/*"),
            ("pg:rows.*@db/*", "pg:rows.read.*@db/orders"),
        ];
        for (parent, child) in within {
            assert!(scope(parent).covers(&scope(child)), "{parent} {child}");
        }
        let beyond = [
            ("pg:select@db/orders", "pg:select@db/orders2"),
            ("pg:select@db/orders", "pg:select@db/orders/eu"),
            ("pg:select@db/*", "pg:select@db/**"),
            ("pg:select@db/**", "pg:select@db"),
            ("pg:select@db/*/eu", "pg:select@db/*/*"),
            ("pg:rows.*@db", "pg:rows@db"),
            ("pg:rows.*@db", "pg:rowsx.read@db"),
            ("pg:rows.read@db", "pg:rows.*@db"),
            ("pg:select@db", "pg:*@db"),
            ("pg:select@db", "my:select@db"),
            ("pg:select@*/**", "pg:select@**"),
        ];
        for (parent, child) in beyond {
            assert!(!scope(parent).covers(&scope(child)), "{parent} {child}");
        }
    }

    #[test]
    fn malformed_scopes_are_refused() {
        let long = format!("pg:select@{}", "a/".repeat(300) + "b");
        let wrong = [
            "", "pg", "pg:", "pg:select", "pg:select@", ":select@db", "pg:@db", "*:select@db", "PG:select@db",
            "pg:sel*@db", "pg:select@db//x", "pg:select@/db", "pg:select@db/", "pg:select@db/../x", "pg:select@./db",
            "pg:select@**/db", "pg:select@db\0", "pg:select@db\n", "pg:select@d%2eb", "pg:select@d\u{430}b",
            "pg:select@db/\u{202e}x", "pg:.x@db", "pg:x..y@db", "pg:select@db?limit=1", "pg:select@db{limit<=5}",
            "pg:select@db[limit=1]", "pg:select@***", " pg:select@db", &long,
        ];
        for text in wrong {
            assert!(text.parse::<Scope>().is_err(), "{text:?}");
        }
    }
}
