//! The arguments of a call, as values that can be compared exactly.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::value::{Value, weight_of};
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};

const LONGEST: usize = 64 * 1024;

/// The arguments of one call, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Args(BTreeMap<String, Value>);

impl Args {
    /// Reads a JSON object: at most 64 KiB and 16 levels, each member once, numbers of at most 64 digits.
    ///
    /// # Errors
    /// It is anything else. The message holds names of members at most, since a value may be a secret.
    pub fn parse(json: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            let message = format!("args are not valid: {why}; give a JSON object of argument names and values");
            Error::new(Code::Invalid, "malformed", message).on("args")
        };
        if json.len() > LONGEST {
            return Err(wrong("they have more than 64 KiB"));
        }
        match Value::parse(json).map_err(|why| wrong(&why))? {
            Value::Object(args) => Ok(Self(args)),
            _ => Err(wrong("they are no object")),
        }
    }

    /// The arguments in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The argument of this name; `null` counts as given.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// SHA-256 of their one text; none if there are none. They may hold secrets, so this is what is kept of them.
    pub fn digest(&self) -> Option<Digest> {
        (!self.is_empty()).then(|| Digest::of(self.canonical().as_bytes()))
    }

    /// Bytes of memory that they take, about.
    pub(super) fn weight(&self) -> usize {
        weight_of(&self.0)
    }

    /// The one text of these arguments, for digests: JSON without white space, members sorted by their bytes,
    /// numbers in one form, strings as RFC 8785 writes them.
    pub fn canonical(&self) -> String {
        Value::Object(self.0.clone()).canonical()
    }
}

impl std::fmt::Display for Args {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.canonical())
    }
}

impl TryFrom<String> for Args {
    type Error = Error;
    fn try_from(json: String) -> Result<Self, Error> {
        Self::parse(&json)
    }
}

impl From<Args> for String {
    fn from(args: Args) -> Self {
        args.canonical()
    }
}

impl FromIterator<(String, Value)> for Args {
    /// Of two of one name, the last.
    fn from_iter<T: IntoIterator<Item = (String, Value)>>(pairs: T) -> Self {
        Self(pairs.into_iter().collect())
    }
}

/// A name that some reader takes for one before it: they differ by case, in whatever script, or by white space around
/// them.
pub fn twin<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut known = HashSet::new();
    let folded = |name: &str| name.trim().to_lowercase().to_uppercase().to_lowercase();
    names.into_iter().find(|name| !known.insert(folded(name)))
}

#[cfg(test)]
mod tests {
    use super::Args;

    #[test]
    fn arguments_are_one_object_read_exactly() {
        let args = Args::parse(r#" {"b":98.70,"a":{"y":null,"x":[1e0]}} "#).unwrap();
        assert_eq!(args.canonical(), r#"{"a":{"x":[1],"y":null},"b":98.7}"#);
        assert_eq!(Args::parse(&args.canonical()).unwrap(), args);
        assert_ne!(Args::parse(r#"{"a":0.1}"#).unwrap(), Args::parse(r#"{"a":0.10000000000000000555}"#).unwrap());
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(64 * 1024));
        for wrong in ["", "[]", "null", "1", "{", r#"{"a":1,"a":2}"#, r#"{"a":{"b":1,"b":1}}"#, r#"{"a":1e999}"#, &long]
        {
            let error = Args::parse(wrong).unwrap_err();
            assert_eq!((error.reason, error.field), ("malformed", Some("args")), "{wrong:.40}");
        }
        let error = Args::parse("{\"\u{202e}\u{7}\":1,\"\u{202e}\\u0007\":\"secret\"}").unwrap_err();
        assert!(error.message.bytes().all(|b| (b' '..=b'~').contains(&b)), "{error}");
        assert!(!error.message.contains("secret"));
    }
}
