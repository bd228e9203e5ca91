//! One constraint as JSON has it: every member known, of its type, and together allowing something.

use std::collections::{BTreeMap, BTreeSet};

use super::constraint::Constraint;
use super::decimal::Decimal;
use super::glob::Glob;
use super::place::{Prefix, Suffix};
use super::value::{Value, shown};

impl Constraint {
    pub(super) fn read(value: Value) -> Result<Self, String> {
        let Value::Object(mut members) = value else {
            return Err("a constraint is an object, such as {\"max\":5}".into());
        };
        let prefix = text(&mut members, "prefix")?.map(|text| Prefix::parse(&text)).transpose()?;
        let suffix = text(&mut members, "suffix")?.map(|text| Suffix::parse(&text)).transpose()?;
        let constraint = Self {
            values: values(&mut members)?,
            min: number(&mut members, "min")?,
            max: number(&mut members, "max")?,
            prefix,
            suffix,
            glob: globs(&mut members)?,
            max_len: length(&mut members)?,
            optional: optional(&mut members)?,
        };
        if let Some(name) = members.keys().next() {
            let all = "there are eq, in, min, max, prefix, suffix, glob, max_len and optional";
            return Err(format!("`{}` is no constraint; {all}", shown(name)));
        }
        Ok(constraint.in_form()?)
    }
}

type Members = BTreeMap<String, Value>;

/// `eq` and `in`; both together mean what is in both.
fn values(members: &mut Members) -> Result<Option<BTreeSet<Value>>, String> {
    let listed = match members.remove("in") {
        None => None,
        Some(Value::List(values)) if !values.is_empty() => Some(BTreeSet::from_iter(values)),
        Some(_) => return Err("`in` is a list of one or more values".into()),
    };
    match (members.remove("eq"), listed) {
        (Some(eq), Some(listed)) if !listed.contains(&eq) => Err("the value of `eq` is not in `in`".into()),
        (Some(eq), _) => Ok(Some(BTreeSet::from([eq]))),
        (None, listed) => Ok(listed),
    }
}

fn number(members: &mut Members, name: &str) -> Result<Option<Decimal>, String> {
    match members.remove(name) {
        None => Ok(None),
        Some(Value::Number(number)) => Ok(Some(number)),
        Some(_) => Err(format!("`{name}` is a number")),
    }
}

fn text(members: &mut Members, name: &str) -> Result<Option<String>, String> {
    match members.remove(name) {
        None => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{name}` is a string")),
    }
}

fn globs(members: &mut Members) -> Result<BTreeSet<Glob>, String> {
    let patterns = match members.remove("glob") {
        None => return Ok(BTreeSet::new()),
        Some(Value::List(patterns)) if !patterns.is_empty() => patterns,
        Some(one @ Value::Text(_)) => vec![one],
        Some(_) => return Err("`glob` is a pattern or a list of patterns".into()),
    };
    let pattern = |value| match value {
        Value::Text(text) => Glob::parse(&text).map_err(str::to_owned),
        _ => Err("a pattern is a string".to_owned()),
    };
    patterns.into_iter().map(pattern).collect()
}

fn length(members: &mut Members) -> Result<Option<u64>, String> {
    let Some(number) = number(members, "max_len")? else { return Ok(None) };
    number.to_string().parse().map(Some).map_err(|_| "`max_len` is a whole number of 0 or more".into())
}

fn optional(members: &mut Members) -> Result<bool, String> {
    match members.remove("optional") {
        None => Ok(false),
        Some(Value::Bool(true)) => Ok(true),
        Some(_) => Err("`optional` is `true` or left out".into()),
    }
}
