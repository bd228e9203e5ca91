//! `--field a.b`: one value of an answer, for scripts that have no JSON reader.

use std::str::FromStr;

use serde_json::Value;

use crate::domain::error::{Code, Error};

/// A path into a document: names of keys and, in lists, numbers, with dots between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field(String);

impl FromStr for Field {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split('.').all(|part| !part.is_empty()) {
            true => Ok(Self(text.to_owned())),
            false => Err(Error::malformed("field", text, "expected names with dots between them, such as grant.id")),
        }
    }
}

impl Field {
    /// The value as it is printed: texts bare, everything else as JSON.
    ///
    /// # Errors
    /// It is not there. The command was done all the same, and the error says so.
    pub fn of(&self, document: &Value) -> Result<String, Error> {
        let (mut value, mut at) = (document, 0);
        while at < self.0.len() {
            let rest = &self.0[at..];
            let (step, found) = step(value, rest).ok_or_else(|| self.absent(at, value))?;
            (value, at) = (found, (at + step + 1).min(self.0.len()));
        }
        Ok(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    fn absent(&self, at: usize, value: &Value) -> Error {
        let place = match self.0[..at].trim_end_matches('.') {
            "" => "it".to_owned(),
            place => format!("`{place}`"),
        };
        let there = match value {
            Value::Object(map) if !map.is_empty() => {
                let mut keys: Vec<&str> = map.keys().map(String::as_str).collect();
                keys.sort_unstable();
                format!("{place} has {}", keys.join(", "))
            }
            Value::Array(list) if !list.is_empty() => format!("{place} is a list, from 0 to {}", list.len() - 1),
            Value::Object(_) | Value::Array(_) => format!("{place} is empty"),
            _ => format!("{place} is a value with nothing in it"),
        };
        let message = format!("the command was done, but its answer has no field `{}`: {there}", self.0);
        Error::new(Code::Invalid, "no_such_field", message).on("field")
    }
}

/// The part of a value that the path names next, and how much of the path that takes. A key may hold dots.
fn step<'a>(value: &'a Value, path: &str) -> Option<(usize, &'a Value)> {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(key, _)| {
                path.strip_prefix(key.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
            .max_by_key(|(key, _)| key.len())
            .map(|(key, found)| (key.len(), found)),
        Value::Array(list) => {
            let number = path.split('.').next()?;
            Some((number.len(), list.get(number.parse::<usize>().ok()?)?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(path: &str) -> Result<String, Error> {
        let document = json!({
            "grant": { "id": "grt_1", "scopes": ["a:b@c"], "depth": 0, "open": true, "none": null, "labels": { "a.b": "c" } },
            "events": [{ "seq": 7 }, { "seq": 8 }],
            "empty": [],
        });
        path.parse::<Field>().unwrap().of(&document)
    }

    #[test]
    fn a_text_is_bare_and_everything_else_is_json() {
        for (path, expected) in [
            ("grant.id", "grt_1"),
            ("grant.depth", "0"),
            ("grant.open", "true"),
            ("grant.none", "null"),
            ("grant.scopes", r#"["a:b@c"]"#),
            ("grant.scopes.0", "a:b@c"),
            ("grant.labels.a.b", "c"),
            ("events.1.seq", "8"),
            ("events.0", r#"{"seq":7}"#),
        ] {
            assert_eq!(of(path).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn a_field_that_is_not_there_is_named_with_what_is() {
        for (path, there) in [
            ("id", "it has empty, events, grant"),
            ("grant.idd", "`grant` has depth, id, labels, none, open, scopes"),
            ("grant.id.x", "`grant.id` is a value with nothing in it"),
            ("events.2", "`events` is a list, from 0 to 1"),
            ("events.seq", "`events` is a list, from 0 to 1"),
            ("events.-1", "`events` is a list, from 0 to 1"),
            ("empty.0", "`empty` is empty"),
        ] {
            let error = of(path).unwrap_err();
            let expected = format!("the command was done, but its answer has no field `{path}`: {there}");
            assert_eq!((error.code, error.message), (Code::Invalid, expected));
        }
    }

    #[test]
    fn a_path_with_an_empty_part_is_no_path() {
        for wrong in ["", ".", "a.", ".a", "a..b"] {
            assert!(wrong.parse::<Field>().is_err(), "{wrong:?}");
        }
    }
}
