//! What one argument may be: a conjunction of bounds, kept in one form.

use std::collections::{BTreeMap, BTreeSet};

use super::decimal::Decimal;
use super::glob::Glob;
use super::place::{Prefix, Suffix};
use super::value::{Value, shown};

/// What one argument may be. Without any bound it may be anything, and has to be given all the same.
///
/// In its one form: values that are listed pass every other bound, which then is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Constraint {
    pub(super) values: Option<BTreeSet<Value>>,
    pub(super) min: Option<Decimal>,
    pub(super) max: Option<Decimal>,
    pub(super) prefix: Option<Prefix>,
    pub(super) suffix: Option<Suffix>,
    pub(super) glob: BTreeSet<Glob>,
    pub(super) max_len: Option<u64>,
    pub(super) optional: bool,
}

impl Constraint {
    /// What the value would have to be and is not; none if it may be this.
    pub fn refusal(&self, value: &Value) -> Option<String> {
        self.refused_value(value)
            .or_else(|| self.refused_number(value))
            .or_else(|| self.refused_text(value))
            .or_else(|| self.refused_length(value))
    }

    /// Whether it may be left out.
    pub fn is_optional(&self) -> bool {
        self.optional
    }

    fn refused_value(&self, value: &Value) -> Option<String> {
        let values = self.values.as_ref().filter(|values| !values.contains(value))?;
        let list: Vec<String> = values.iter().take(8).map(|value| short(&value.to_string())).collect();
        let more = if values.len() > 8 { format!(" or {} others", values.len() - 8) } else { String::new() };
        Some(match values.len() {
            1 => format!("must be {}", list.join("")),
            _ => format!("must be one of {}{more}", list.join(", ")),
        })
    }

    fn refused_number(&self, value: &Value) -> Option<String> {
        match (value, &self.min, &self.max) {
            (_, None, None) => None,
            (Value::Number(number), Some(min), _) if number < min => Some(format!("must be at least {min}")),
            (Value::Number(number), _, Some(max)) if number > max => Some(format!("must be at most {max}")),
            (Value::Number(_), _, _) => None,
            _ => Some("must be a number".to_owned()),
        }
    }

    fn refused_text(&self, value: &Value) -> Option<String> {
        if self.prefix.is_none() && self.suffix.is_none() && self.glob.is_empty() {
            return None;
        }
        let Value::Text(text) = value else { return Some("must be a string".to_owned()) };
        let prefix = self.prefix.as_ref().filter(|prefix| !prefix.allows(text));
        let suffix = self.suffix.as_ref().filter(|suffix| !suffix.allows(text));
        let glob = self.glob.iter().find(|glob| !glob.allows(text));
        None.or(prefix.map(|prefix| format!("must be `{0}` or lie plainly below `{0}/`", shown(prefix.as_str()))))
            .or(suffix.map(|suffix| format!("must end with `{}`", shown(suffix.as_str()))))
            .or(glob.map(|glob| format!("must match `{}`", shown(glob.as_str()))))
    }

    fn refused_length(&self, value: &Value) -> Option<String> {
        let most = self.max_len?;
        let (length, of) = match value {
            Value::Text(text) => (text.chars().count(), "characters"),
            Value::List(items) => (items.len(), "elements"),
            _ => return Some("must be a string or a list".to_owned()),
        };
        (u64::try_from(length).map_or(true, |length| length > most)).then(|| format!("must have at most {most} {of}"))
    }

    /// Whether everything that `child` allows is allowed here.
    pub fn covers(&self, child: &Self) -> bool {
        if child.optional && !self.optional {
            return false;
        }
        if let Some(values) = &child.values {
            return values.iter().all(|value| self.refusal(value).is_none());
        }
        self.values.is_none() && self.wider(child).is_none()
    }

    /// The first bound here that `child` has not, or has wider; `child` lists no values.
    fn wider(&self, child: &Self) -> Option<&'static str> {
        let within = [
            ("min", implied(&self.min, &child.min, |ours, theirs| ours <= theirs)),
            ("max", implied(&self.max, &child.max, |ours, theirs| ours >= theirs)),
            ("prefix", implied(&self.prefix, &child.prefix, Prefix::covers)),
            ("suffix", implied(&self.suffix, &child.suffix, Suffix::covers)),
            ("glob", self.glob.iter().all(|ours| child.glob.iter().any(|theirs| ours.covers(theirs)))),
            ("max_len", implied(&self.max_len, &child.max_len, |ours, theirs| ours >= theirs)),
        ];
        within.iter().find(|(_, within)| !within).map(|(kind, _)| *kind)
    }

    /// This constraint with the bounds that `parent` has and it leaves out; else the bound that widens, and why.
    pub(super) fn inherit(&self, parent: &Self) -> Result<Self, (&'static str, String)> {
        if self.optional && !parent.optional {
            return Err(("optional", "it may not be left out".to_owned()));
        }
        if let Some(values) = &self.values {
            let wide = values.iter().find_map(|value| parent.refusal(value).map(|must| (value, must)));
            return match wide {
                Some((value, must)) => Err((self.listed(), format!("{} {must}", short(&value.to_string())))),
                None => Ok(self.clone()),
            };
        }
        let child = Self {
            values: parent.values.clone(),
            min: self.min.clone().or_else(|| parent.min.clone()),
            max: self.max.clone().or_else(|| parent.max.clone()),
            prefix: self.prefix.clone().or_else(|| parent.prefix.clone()),
            suffix: self.suffix.clone().or_else(|| parent.suffix.clone()),
            glob: if self.glob.is_empty() { parent.glob.clone() } else { self.glob.clone() },
            max_len: self.max_len.or(parent.max_len),
            optional: self.optional,
        };
        if let Some(kind) = parent.wider(&child) {
            let [ours, theirs] = [self.bound(kind), parent.bound(kind)];
            let beyond = match kind {
                "min" => "is under",
                "max" | "max_len" => "is over",
                _ => "is not within",
            };
            return Err((kind, format!("{} {beyond} {}", short(&ours), short(&theirs))));
        }
        child.in_form().map_err(|why| ("", format!("with what it inherits, {why}")))
    }

    fn listed(&self) -> &'static str {
        if self.values.as_ref().is_some_and(|values| values.len() == 1) { "eq" } else { "in" }
    }

    fn bound(&self, kind: &str) -> String {
        self.members().remove(kind).map_or_else(String::new, |value| value.to_string())
    }

    /// What both allow; none if that is nothing. Whether it may be left out is both's to say.
    pub fn meet(&self, other: &Self) -> Option<Self> {
        let values = match (&self.values, &other.values) {
            (Some(ours), Some(theirs)) => Some(ours & theirs),
            (one, None) | (None, one) => one.clone(),
        };
        let met = Self {
            values,
            min: self.min.clone().max(other.min.clone()),
            max: [&self.max, &other.max].into_iter().flatten().min().cloned(),
            prefix: narrower(&self.prefix, &other.prefix, Prefix::covers)?,
            suffix: narrower(&self.suffix, &other.suffix, Suffix::covers)?,
            glob: &self.glob | &other.glob,
            max_len: [self.max_len, other.max_len].into_iter().flatten().min(),
            optional: self.optional && other.optional,
        };
        met.in_form().ok()
    }

    /// The one form; else why it allows nothing.
    pub(super) fn in_form(mut self) -> Result<Self, &'static str> {
        let number = self.min.is_some() || self.max.is_some();
        let text = self.prefix.is_some() || self.suffix.is_some() || !self.glob.is_empty() || self.max_len.is_some();
        if matches!((&self.min, &self.max), (Some(min), Some(max)) if min > max) {
            return Err("`min` is over `max`");
        }
        if number && text {
            return Err("`min` and `max` are for numbers, and the other bounds are not");
        }
        if let Some(listed) = self.values.take() {
            let values: BTreeSet<Value> = listed.into_iter().filter(|value| self.refusal(value).is_none()).collect();
            if values.is_empty() {
                return Err("no listed value passes the other bounds");
            }
            return Ok(Self { values: Some(values), optional: self.optional, ..Self::default() });
        }
        let all = std::mem::take(&mut self.glob);
        // Of two that cover each other, one stays.
        let spare = |glob: &Glob| {
            all.iter().any(|other| other != glob && glob.covers(other) && (other < glob || !other.covers(glob)))
        };
        self.glob = all.iter().filter(|glob| !spare(glob)).cloned().collect();
        Ok(self)
    }

    /// As JSON has it.
    pub(super) fn members(&self) -> BTreeMap<String, Value> {
        let text = |text: &str| Value::Text(text.to_owned());
        let mut globs: Vec<Value> = self.glob.iter().map(|glob| text(glob.as_str())).collect();
        let glob = if globs.len() > 1 { Some(Value::List(std::mem::take(&mut globs))) } else { globs.pop() };
        let mut values: Vec<Value> = self.values.iter().flatten().cloned().collect();
        let values = if values.len() > 1 { Some(Value::List(std::mem::take(&mut values))) } else { values.pop() };
        let members = [
            (self.listed(), values),
            ("min", self.min.clone().map(Value::Number)),
            ("max", self.max.clone().map(Value::Number)),
            ("prefix", self.prefix.as_ref().map(|prefix| text(prefix.as_str()))),
            ("suffix", self.suffix.as_ref().map(|suffix| text(suffix.as_str()))),
            ("glob", glob),
            ("max_len", self.max_len.and_then(|most| Decimal::parse(&most.to_string())).map(Value::Number)),
            ("optional", self.optional.then_some(Value::Bool(true))),
        ];
        members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

fn implied<T>(ours: &Option<T>, theirs: &Option<T>, holds: impl Fn(&T, &T) -> bool) -> bool {
    match (ours, theirs) {
        (None, _) => true,
        (Some(ours), Some(theirs)) => holds(ours, theirs),
        (Some(_), None) => false,
    }
}

/// Of two nested bounds the inner one; none if they have nothing in common, since places nest or are apart.
fn narrower<T: Clone>(one: &Option<T>, two: &Option<T>, covers: impl Fn(&T, &T) -> bool) -> Option<Option<T>> {
    match (one, two) {
        (Some(one), Some(two)) if covers(one, two) => Some(Some(two.clone())),
        (Some(one), Some(two)) => covers(two, one).then(|| Some(one.clone())),
        (one, None) | (None, one) => Some(one.clone()),
    }
}

fn short(text: &str) -> String {
    if text.len() > 80 { format!("{}...", &text[..80]) } else { text.to_owned() }
}
