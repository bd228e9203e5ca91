//! One concrete tool call.

use serde::Serialize;

use super::{Action, Args, Path, TOOL, is_tool};
use crate::domain::error::Error;

const LONGEST: usize = 512;

/// One concrete tool call: nothing in it is a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Call {
    /// The tool.
    pub tool: String,
    /// The action, dotted.
    pub action: String,
    /// The resource path.
    pub resource: String,
    /// The arguments.
    #[serde(skip_serializing_if = "Args::is_empty")]
    pub args: Args,
    /// Where it goes, as far as that was said: a URL, or a host with or without a port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
}

impl Call {
    /// A call without arguments, read from its parts.
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
        let [tool, action, resource] = [tool, action, resource].map(str::to_owned);
        Ok(Self { tool, action, resource, args: Args::default(), destination: None })
    }

    /// Bytes of memory that it takes, about. That of its arguments may be a hundred times as long as their text.
    pub fn weight(&self) -> usize {
        let going = self.destination.as_ref().map_or(0, String::len);
        size_of::<Self>() + self.tool.len() + self.action.len() + self.resource.len() + going + self.args.weight()
    }

    /// The call with these arguments.
    #[must_use]
    pub fn with_args(self, args: Args) -> Self {
        Self { args, ..self }
    }

    /// The call, going there.
    ///
    /// # Errors
    /// It is empty, has more than 512 bytes, or holds anything but printable ASCII without spaces.
    pub fn with_destination(self, destination: &str) -> Result<Self, Error> {
        let printable = destination.bytes().all(|byte| byte.is_ascii_graphic());
        if destination.is_empty() || destination.len() > LONGEST || !printable {
            let why = "use a URL or host:port of at most 512 bytes of printable ASCII";
            return Err(Error::malformed("destination", destination, why));
        }
        Ok(Self { destination: Some(destination.to_owned()), ..self })
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}@{}", self.tool, self.action, self.resource)
    }
}

#[cfg(test)]
mod tests {
    use super::{Args, Call};

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

    #[test]
    fn a_destination_is_printable_and_short() {
        let call = Call::parse("pg", "select", "db").unwrap().with_args(Args::parse(r#"{"n":1}"#).unwrap());
        let there = call.clone().with_destination("https://db.example:5432/x").unwrap();
        assert_eq!((there.destination.as_deref(), &there.args), (Some("https://db.example:5432/x"), &call.args));
        for wrong in ["", "a b", "a\n", "\u{430}.example", &"x".repeat(513)] {
            assert_eq!(call.clone().with_destination(wrong).unwrap_err().field, Some("destination"), "{wrong:?}");
        }
    }
}
