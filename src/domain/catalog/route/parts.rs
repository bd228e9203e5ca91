//! Paths and calls with placeholders: `{name}` for one part, `{name...}` for all parts that are left.

use super::{Reason, refused, shown};
use crate::domain::scope::{Action, Call, Path, Scope};

/// Bytes of a path or a call as it is written.
const LONGEST: usize = 512;

/// One part of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Itself.
    Name(String),
    /// Exactly one part.
    One(String),
    /// One part or more, at the end only.
    Rest(String),
}

/// The path of a request: `/repos/{owner}/{repo}/issues`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) parts: Vec<Part>,
    /// Whether it ends with a `/`.
    pub(super) slash: bool,
}

/// A call to be: `github:issues.read@repo/{owner}/{repo}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) tool: String,
    pub(super) action: String,
    resource: Vec<Part>,
}

/// Whether this can be one part of a resource, and of a request's path: no `/`, no wildcard, no `.` or `..`, nothing
/// that is not plain ASCII.
pub(super) fn is_name(text: &str) -> bool {
    Path::parse(text).is_some_and(|path| path.is_concrete() && path.segments().len() == 1)
}

impl Part {
    fn parse(text: &str) -> Result<Self, String> {
        let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
            let why = "is neither a name of letters, digits and `._~-:@+=,` nor a placeholder such as {id}";
            return if is_name(text) {
                Ok(Self::Name(text.to_owned()))
            } else {
                Err(format!("`{}` {why}", shown(text)))
            };
        };
        let (name, rest) = name.strip_suffix("...").map_or((name, false), |name| (name, true));
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        match !name.is_empty() && name.len() <= 64 && name.bytes().all(good) {
            true => Ok(if rest { Self::Rest(name.to_owned()) } else { Self::One(name.to_owned()) }),
            false => Err(format!("placeholder `{}` is no name of letters, digits, `_` and `-`", shown(text))),
        }
    }

    fn all(text: &str) -> Result<Vec<Self>, String> {
        let parts: Vec<Self> = text.split('/').map(Self::parse).collect::<Result<_, _>>()?;
        let (_, before) = parts.split_last().unwrap_or((&Self::Name(String::new()), &[]));
        match before.iter().find(|part| matches!(part, Self::Rest(_))) {
            Some(part) => Err(format!("`{part}` has to be the last part")),
            None => Ok(parts),
        }
    }

    fn placeholder(&self) -> Option<&str> {
        match self {
            Self::Name(_) => None,
            Self::One(name) | Self::Rest(name) => Some(name),
        }
    }
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("a path has at most {LONGEST} bytes"));
        }
        let rest = text.strip_prefix('/').ok_or("a path begins with `/`")?;
        if rest.is_empty() {
            return Ok(Self { parts: Vec::new(), slash: true });
        }
        let (rest, slash) = rest.strip_suffix('/').map_or((rest, false), |rest| (rest, true));
        let parts = Part::all(rest)?;
        let names: Vec<&str> = parts.iter().filter_map(Part::placeholder).collect();
        match names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            Some((_, name)) => Err(format!("its path has `{{{name}}}` twice")),
            None => Ok(Self { parts, slash }),
        }
    }

    /// What stands for this placeholder in a path that the pattern matches.
    pub(super) fn value(&self, name: &str, path: &[String]) -> Option<String> {
        let at = self.parts.iter().position(|part| part.placeholder() == Some(name))?;
        match self.parts[at] {
            Part::Rest(_) => Some(path.get(at..)?.join("/")),
            _ => path.get(at).cloned(),
        }
    }

    /// The first placeholder of a call for which this path has no value of its kind.
    pub(super) fn lacks<'t>(&self, call: &'t Template) -> Option<&'t Part> {
        call.resource.iter().find(|part| part.placeholder().is_some() && !self.parts.contains(part))
    }
}

impl Template {
    /// Reads `tool:action@resource`; of all three parts only those of the resource may be placeholders.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("a call has at most {LONGEST} bytes"));
        }
        let parts = text.split_once(':').and_then(|(tool, rest)| Some((tool, rest.split_once('@')?)));
        let (tool, (action, resource)) = parts.ok_or("write its call as tool:action@resource")?;
        if !matches!(Action::parse(action), Some(Action::Exact(_))) {
            return Err(format!("`{}` is no action: write it out, without wildcards and placeholders", shown(action)));
        }
        if is_reserved(action) {
            return Err(format!("action `{action}` is kept for messages of MCP clients; no route leads there"));
        }
        let resource = Part::all(resource)?;
        Call::parse(tool, action, "x").map_err(|_| format!("`{}` is no name of a tool", shown(tool)))?;
        Ok(Self { tool: tool.to_owned(), action: action.to_owned(), resource })
    }

    /// All calls that it can become.
    pub(super) fn reach(&self) -> Option<Scope> {
        let part = |part: &Part| match part {
            Part::Name(name) => name.clone(),
            Part::One(_) => "*".to_owned(),
            Part::Rest(_) => "**".to_owned(),
        };
        let resource: Vec<String> = self.resource.iter().map(part).collect();
        format!("{}:{}@{}", self.tool, self.action, resource.join("/")).parse().ok()
    }

    /// The call, with a text for each placeholder. Each is exactly what its placeholder says, so that no text reaches
    /// further than the route.
    pub(super) fn fill(&self, value: impl Fn(&str) -> Result<String, Reason>) -> Result<Call, Reason> {
        let part = |part: &Part| {
            let (name, text, good) = match part {
                Part::Name(name) => return Ok(name.clone()),
                Part::One(name) => (name, value(name)?, is_name as fn(&str) -> bool),
                Part::Rest(name) => (name, value(name)?, (|text| text.split('/').all(is_name)) as fn(&str) -> bool),
            };
            match good(&text) {
                true => Ok(text),
                false => {
                    let why = format!("`{name}` is `{}`, which is no part of a resource", shown(&text));
                    Err(refused("route_malformed", why))
                }
            }
        };
        let resource = self.resource.iter().map(part).collect::<Result<Vec<_>, _>>()?.join("/");
        Call::parse(&self.tool, &self.action, &resource).map_err(|error| refused("route_malformed", error.message))
    }
}

/// Whether only messages of MCP clients make calls with this action.
pub(super) fn is_reserved(action: &str) -> bool {
    action == "mcp" || action.starts_with("mcp.")
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::One(name) => write!(f, "{{{name}}}"),
            Self::Rest(name) => write!(f, "{{{name}...}}"),
        }
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.parts.iter().try_for_each(|part| write!(f, "/{part}"))?;
        f.write_str(if self.slash { "/" } else { "" })
    }
}

impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let resource: Vec<String> = self.resource.iter().map(Part::to_string).collect();
        write!(f, "{}:{}@{}", self.tool, self.action, resource.join("/"))
    }
}
