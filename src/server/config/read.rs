//! From text to typed values, key by key, so that every error can name its key and line and show no value.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use toml::{Spanned, Value};

use super::{KEYS, quotas, subject};
use crate::domain::error::{Code, Error};
use crate::domain::time::Span;

/// Keys, and what the value of each has to be.
pub(super) type Known = &'static [(&'static str, &'static str)];

/// The keys of a configuration file, or of one table in it, that were not taken yet.
pub(super) struct Keys<'a> {
    text: &'a str,
    known: Known,
    /// Which table it is: its key, and in a list its number from 1.
    table: Option<(&'static str, Option<usize>)>,
    left: BTreeMap<String, Spanned<Value>>,
}

impl<'a> Keys<'a> {
    /// The keys of `text`, all of which are known.
    pub(super) fn of(text: &'a str) -> Result<Self, Error> {
        let left: BTreeMap<String, Spanned<Value>> = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let why: Vec<_> = error.message().lines().collect();
            // What the parser says of the text names no value; what is said of a value does.
            let why = match why.join(", ") {
                why if why.starts_with("invalid type") || why.starts_with("invalid value") => {
                    "a number with more than 64 bits".to_owned()
                }
                why => why,
            };
            refused(None, format!("line {}{}: {why}", line(text, at), key_before(text, at)))
        })?;
        Self { text, known: KEYS, table: None, left }.all_known()
    }

    fn all_known(self) -> Result<Self, Error> {
        let known = |key: &str| self.known.iter().any(|(known, _)| *known == key);
        if let Some((key, value)) = self.left.iter().find(|(key, _)| !known(key)) {
            let names: Vec<_> = self.known.iter().map(|(key, _)| *key).collect();
            let shown: String = key.chars().take(40).flat_map(char::escape_debug).collect();
            let (at, place) = (line(self.text, value.span().start), self.place());
            let why = format!("line {at}: `{shown}`{place} is not a key; the keys are {}", names.join(", "));
            return Err(refused(None, why));
        }
        Ok(self)
    }

    /// The tables of a list, at most `most`, each with keys of its own; none if the list is left out.
    ///
    /// Where a value stands inside of a table is not kept: errors name the line of the first.
    pub(super) fn tables(&mut self, key: &'static str, known: Known, most: usize) -> Result<Vec<Self>, Error> {
        let span = self.left.get(key).map_or(0..0, Spanned::span);
        let is_good = |tables: &Vec<BTreeMap<String, Value>>| tables.len() <= most;
        let tables = self.optional(key, is_good)?.unwrap_or_default();
        let keys = |(at, table): (usize, BTreeMap<String, Value>)| {
            let left = table.into_iter().map(|(key, value)| (key, Spanned::new(span.clone(), value))).collect();
            Self { text: self.text, known, table: Some((key, Some(at + 1))), left }.all_known()
        };
        tables.into_iter().enumerate().map(keys).collect()
    }

    /// The one table of a key, with keys of its own; an empty one if it is left out. Errors name its line.
    pub(super) fn table(&mut self, key: &'static str, known: Known) -> Result<Self, Error> {
        let span = self.left.get(key).map_or(0..0, Spanned::span);
        let table: BTreeMap<String, Value> = self.optional(key, |_| true)?.unwrap_or_default();
        let left = table.into_iter().map(|(key, value)| (key, Spanned::new(span.clone(), value))).collect();
        Self { text: self.text, known, table: Some((key, None)), left }.all_known()
    }

    /// A key that has to be there.
    pub(super) fn needed<T: DeserializeOwned>(
        &mut self,
        key: &'static str,
        is_good: impl Fn(&T) -> bool,
    ) -> Result<T, Error> {
        let value = self.optional(key, is_good)?;
        let (place, rule) = (self.place(), self.rule(key));
        let missing = || refused(self.field(key), format!("`{key}`{place} is missing; it has to be {rule}"));
        value.ok_or_else(missing)
    }

    /// A key that may be left out.
    pub(super) fn optional<T: DeserializeOwned>(
        &mut self,
        key: &'static str,
        is_good: impl Fn(&T) -> bool,
    ) -> Result<Option<T>, Error> {
        self.take(key, |value| T::deserialize(value).ok().filter(&is_good))
    }

    /// A length of time, with its unit.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        is_good: impl Fn(&Duration) -> bool,
    ) -> Result<Option<Duration>, Error> {
        self.take(key, |value| {
            let span: Span = value.as_str()?.parse().ok()?;
            Some(Duration::from_millis(u64::try_from(span.as_millis()).ok()?)).filter(&is_good)
        })
    }

    fn take<T>(&mut self, key: &'static str, read: impl FnOnce(Value) -> Option<T>) -> Result<Option<T>, Error> {
        let Some(value) = self.left.remove(key) else { return Ok(None) };
        let at = line(self.text, value.span().start);
        let value = value.into_inner();
        let class = match value.type_str() {
            class @ ("integer" | "array") => format!("an {class}"),
            class => format!("a {class}"),
        };
        let (place, rule) = (self.place(), self.rule(key));
        let wrong = || refused(self.field(key), format!("line {at}: `{key}`{place} is {class} that is not {rule}"));
        read(value).map(Some).ok_or_else(wrong)
    }

    fn rule(&self, key: &str) -> &'static str {
        self.known.iter().find(|(known, _)| *known == key).map_or("", |(_, rule)| rule)
    }

    fn place(&self) -> String {
        match self.table {
            None => String::new(),
            Some((key, None)) => format!(" in `[{key}]`"),
            Some((list, Some(at))) => format!(" in `[[{list}]]` {at}"),
        }
    }

    /// The key of the file that is wrong.
    fn field(&self, key: &'static str) -> Option<&'static str> {
        Some(self.table.map_or(key, |(list, _)| list))
    }
}

fn line(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
}

/// The key on the line that cannot be read, if it begins with one that is known.
fn key_before(text: &str, at: usize) -> String {
    let key = text.lines().nth(line(text, at) - 1).and_then(|line| line.split('=').next()).map(str::trim);
    let known = key.filter(|key| KEYS.iter().chain(subject::KEYS).chain(quotas::KEYS).any(|(known, _)| known == key));
    known.map_or(String::new(), |key| format!(" (`{key}`)"))
}

fn refused(field: Option<&'static str>, message: String) -> Error {
    Error { field, ..Error::new(Code::Invalid, "configuration", message) }
}
