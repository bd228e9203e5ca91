//! Scopes: `tool:action@resource`, and what it means for one to cover another.
//!
//! [`Scope::covers`] never accepts falsely: whatever the child allows, the parent allows. An empty set
//! means nothing. Constraints on arguments are refused until they are decided, never ignored.

mod action;
mod args;
mod decimal;
mod path;

use serde::{Deserialize, Serialize};

pub use action::Action;
pub use args::{Args, Value};
pub use decimal::Decimal;
pub use path::{Path, Segment};

use super::error::{Code, Error};
use super::{MAX_SCOPE_BYTES, MAX_SCOPES};

const LONGEST: usize = 512;

/// One scope: a tool, an action pattern and a resource pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope {
    tool: String,
    action: Action,
    resource: Path,
}

/// The scopes of one grant: at least one, at most [`MAX_SCOPES`], each once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<Scope>", into = "Vec<Scope>")]
pub struct Scopes(Vec<Scope>);

/// One concrete tool call: nothing in it is a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Call {
    /// The tool.
    pub tool: String,
    /// The action, dotted.
    pub action: String,
    /// The resource path.
    pub resource: String,
}

impl Scope {
    /// Whether every call that `child` allows is allowed by this scope.
    pub fn covers(&self, child: &Scope) -> bool {
        self.tool == child.tool && self.action.covers(&child.action) && self.resource.covers(&child.resource)
    }

    /// Whether this scope allows `call`.
    pub fn allows(&self, call: &Call) -> bool {
        self.tool == call.tool && self.action.allows(&call.action) && self.resource.allows(&call.resource)
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
}

impl Scopes {
    /// The scopes in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Scope> {
        self.0.iter()
    }

    /// The first scope of `child` that no scope here covers.
    pub fn first_uncovered<'c>(&self, child: &'c Scopes) -> Option<&'c Scope> {
        child.iter().find(|wanted| !self.iter().any(|ours| ours.covers(wanted)))
    }

    /// Whether some scope allows `call`.
    pub fn allow(&self, call: &Call) -> bool {
        self.iter().any(|scope| scope.allows(call))
    }

    /// Reads scopes from their text forms.
    ///
    /// # Errors
    /// None given, too many, one malformed, or one given twice.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self, Error> {
        if texts.len() > MAX_SCOPES {
            return Err(Error::malformed("scope", &texts.len().to_string(), "a grant has at most 64 scopes"));
        }
        texts.iter().map(|text| text.as_ref().parse()).collect::<Result<Vec<Scope>, _>>()?.try_into()
    }
}

impl TryFrom<Vec<Scope>> for Scopes {
    type Error = Error;

    fn try_from(scopes: Vec<Scope>) -> Result<Self, Error> {
        if scopes.is_empty() {
            return Err(Error::missing("scope"));
        }
        if scopes.len() > MAX_SCOPES {
            return Err(Error::malformed("scope", &scopes.len().to_string(), "a grant has at most 64 scopes"));
        }
        let bytes: usize = scopes.iter().map(|scope| scope.to_string().len()).sum();
        if bytes > MAX_SCOPE_BYTES {
            // A token carries them all, and has to fit a header of an ordinary HTTP server.
            return Err(Error::malformed(
                "scope",
                &format!("{bytes} bytes"),
                "all scopes together have at most 8192 bytes",
            ));
        }
        let twice = scopes.iter().enumerate().find(|(at, scope)| scopes[..*at].contains(scope));
        match twice {
            Some((_, scope)) => Err(Error::malformed("scope", &scope.to_string(), "it is given twice")),
            None => Ok(Self(scopes)),
        }
    }
}

impl From<Scopes> for Vec<Scope> {
    fn from(scopes: Scopes) -> Self {
        scopes.0
    }
}

impl Call {
    /// A call, read from its parts.
    ///
    /// # Errors
    /// A part is empty, too long, or holds anything but names: a wildcard or `..` in a call is refused.
    pub fn parse(tool: &str, action: &str, resource: &str) -> Result<Self, Error> {
        let wrong = |field, text: &str, why: &str| Err(Error::malformed(field, text, why));
        if tool.len() + action.len() + resource.len() > LONGEST {
            return wrong("resource", resource, "tool, action and resource together have at most 512 bytes");
        }
        if !is_tool(tool) {
            return wrong("tool", tool, TOOL);
        }
        if !matches!(Action::parse(action), Some(Action::Exact(_))) {
            return wrong("action", action, "use dotted names of a-z, A-Z, 0-9, `_` and `-`, without wildcards");
        }
        match Path::parse(resource) {
            Some(path) if path.is_concrete() => {}
            _ => {
                return wrong(
                    "resource",
                    resource,
                    "use a `/`-path of names, without wildcards, `.`, `..` or empty parts",
                );
            }
        }
        Ok(Self { tool: tool.to_owned(), action: action.to_owned(), resource: resource.to_owned() })
    }
}

const TOOL: &str = "a tool is a-z, 0-9, `_` and `-`, beginning with a letter";

fn is_tool(text: &str) -> bool {
    let good = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    text.len() <= 64 && text.bytes().next().is_some_and(|b| b.is_ascii_lowercase()) && text.bytes().all(good)
}

impl std::str::FromStr for Scope {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::malformed("scope", text, why);
        if text.is_empty() {
            return Err(Error::missing("scope"));
        }
        if text.len() > LONGEST {
            return Err(wrong("at most 512 bytes"));
        }
        if text.contains(['?', '[', '{', ';', ' ']) {
            return Err(Error {
                code: Code::Invalid,
                reason: "constraint_unsupported",
                ..wrong("constraints on arguments are not supported yet; write tool:action@resource")
            });
        }
        let form = "write tool:action@resource, such as postgres:select@db/orders/*";
        let (tool, rest) = text.split_once(':').ok_or_else(|| wrong(form))?;
        let (action, resource) = rest.split_once('@').ok_or_else(|| wrong(form))?;
        if !is_tool(tool) {
            return Err(wrong(TOOL));
        }
        let action =
            Action::parse(action).ok_or_else(|| wrong("an action is dotted names, may end in `.*`, or is `*`"))?;
        let resource = Path::parse(resource).ok_or_else(|| {
            wrong("a resource is a `/`-path of names, `*` for one part, `**` for any tail; no `.`, `..` or empty parts")
        })?;
        Ok(Self { tool: tool.to_owned(), action, resource })
    }
}

impl TryFrom<String> for Scope {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}@{}", self.tool, self.action, self.resource)
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}@{}", self.tool, self.action, self.resource)
    }
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

    #[test]
    fn sets_are_neither_empty_nor_doubled() {
        assert!(Scopes::parse::<&str>(&[]).is_err());
        assert!(Scopes::parse(&["pg:select@db", "pg:select@db"]).is_err());
        assert!(Scopes::parse(&vec!["pg:select@db".to_owned(); 65]).is_err());
        assert!(serde_json::from_str::<Scopes>("[]").is_err());
    }

    #[test]
    fn a_call_holds_no_pattern() {
        assert!(Call::parse("pg", "select", "db/orders").is_ok());
        for (tool, action, resource) in [
            ("pg", "*", "db"),
            ("pg", "a.*", "db"),
            ("pg", "a", "db/*"),
            ("pg", "a", "**"),
            ("pg", "a", "db/.."),
            ("pg", "a", ""),
            ("", "a", "db"),
            ("pg", "", "db"),
        ] {
            assert!(Call::parse(tool, action, resource).is_err(), "{tool} {action} {resource}");
        }
    }
}
