//! The text of a scope: `tool:action@resource`, and after it one JSON object if it has constraints.

use super::{Action, Bounds, Path, Scope, TOOL, is_tool};
use crate::domain::error::{Code, Error};

/// Bytes of a scope without constraints, and of one with them.
const LONGEST: [usize; 2] = [512, 2048];

impl Scope {
    /// The scope, unless its text is longer than what can be read.
    pub(super) fn if_it_fits(self) -> Option<Self> {
        (self.to_string().len() <= LONGEST[usize::from(!self.bounds.is_empty())]).then_some(self)
    }
}

impl std::str::FromStr for Scope {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::malformed("scope", text, why);
        if text.is_empty() {
            return Err(Error::missing("scope"));
        }
        let (head, json) = match text.find('{') {
            Some(at) => (text[..at].trim_end_matches([' ', '\t', '\r', '\n']), Some(&text[at..])),
            None => (text, None),
        };
        if head.len() > LONGEST[0] {
            return Err(wrong("at most 512 bytes"));
        }
        if text.len() > LONGEST[1] {
            return Err(wrong("at most 2048 bytes with its constraints"));
        }
        if head.contains(['?', '[', ';', ' ']) {
            return Err(Error {
                code: Code::Invalid,
                reason: "constraint_unsupported",
                ..wrong(
                    "write constraints as JSON behind it: tool:action@resource{\"args\":{\"amount\":{\"max\":100}}}",
                )
            });
        }
        let form = "write tool:action@resource, such as postgres:select@db/orders/*";
        let (tool, rest) = head.split_once(':').ok_or_else(|| wrong(form))?;
        let (action, resource) = rest.split_once('@').ok_or_else(|| wrong(form))?;
        if !is_tool(tool) {
            return Err(wrong(TOOL));
        }
        let action =
            Action::parse(action).ok_or_else(|| wrong("an action is dotted names, may end in `.*`, or is `*`"))?;
        let resource = Path::parse(resource).ok_or_else(|| {
            wrong("a resource is a `/`-path of names, `*` for one part, `**` for any tail; no `.`, `..` or empty parts")
        })?;
        let bounds = json.map_or_else(|| Ok(Bounds::default()), Bounds::parse).map_err(|why| wrong(&why))?;
        let scope = Self { tool: tool.to_owned(), action, resource, bounds };
        scope
            .if_it_fits()
            .ok_or_else(|| wrong("at most 2048 bytes with its constraints, each escaped as \\u and 4 digits"))
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
    /// The one text of the scope: printable ASCII without spaces.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}@{}", self.tool, self.action, self.resource)?;
        if self.bounds.is_empty() { Ok(()) } else { write!(f, "{}", self.bounds) }
    }
}
