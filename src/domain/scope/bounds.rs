//! What a scope says of arguments: a constraint for each that is named, and whether others may be given.

use std::collections::BTreeMap;

use super::args::Args;
use super::constraint::Constraint;
use super::value::{Value, shown};

/// Constraints on the arguments of a call. Without any, every argument may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bounds {
    pub(super) args: BTreeMap<String, Constraint>,
    pub(super) closed: bool,
}

/// The member that widens, such as `args.amount.max`, and why.
type Wider = (String, String);

impl Bounds {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.args.is_empty() && !self.closed
    }

    /// The constraints, by name of the argument.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Constraint)> {
        self.args.iter().map(|(name, constraint)| (name.as_str(), constraint))
    }

    /// Whether no other argument may be given.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether a call with these arguments is allowed.
    pub fn allow(&self, args: &Args) -> bool {
        self.refusals(args).next().is_none()
    }

    /// What is wrong with the arguments, one line each.
    pub fn refusals<'a>(&'a self, args: &'a Args) -> impl Iterator<Item = String> + 'a {
        let named = self.iter().filter_map(|(name, constraint)| match args.get(name) {
            Some(value) => constraint.refusal(value).map(|must| format!("`{}` {must}", shown(name))),
            None if constraint.optional => None,
            None => Some(format!("`{}` must be given", shown(name))),
        });
        let other = args.iter().filter(|(name, _)| self.closed && !self.args.contains_key(*name));
        named.chain(other.map(|(name, _)| format!("`{}` must not be given", shown(name))))
    }

    /// Whether all arguments that `child` allows are allowed here.
    pub fn covers(&self, child: &Self) -> bool {
        let named = self.iter().all(|(name, ours)| match child.args.get(name) {
            Some(theirs) => ours.covers(theirs),
            // It can never be given, and need not be.
            None => child.closed && ours.optional,
        });
        named && (!self.closed || (child.closed && child.args.keys().all(|name| self.args.contains_key(name))))
    }

    /// These bounds with what `parent` has and they leave out.
    pub(super) fn inherit(&self, parent: &Self) -> Result<Self, Wider> {
        let mut child = Self { args: BTreeMap::new(), closed: self.closed || parent.closed };
        for (name, theirs) in self.iter() {
            let found = match parent.args.get(name) {
                Some(ours) => theirs.inherit(ours).map_err(|(kind, why)| {
                    let dot = if kind.is_empty() { "" } else { "." };
                    (format!("args.{}{dot}{kind}", shown(name)), why)
                })?,
                None if parent.closed => {
                    return Err((format!("args.{}", shown(name)), "no such argument may be given".to_owned()));
                }
                None => theirs.clone(),
            };
            child.args.insert(name.to_owned(), found);
        }
        for (name, ours) in parent.iter().filter(|(name, _)| !self.args.contains_key(*name)) {
            match (self.closed, ours.optional) {
                (false, _) => _ = child.args.insert(name.to_owned(), ours.clone()),
                (true, true) => {}
                (true, false) => {
                    let why = "it must be given, and `closed` leaves it out; name it".to_owned();
                    return Err((format!("args.{}", shown(name)), why));
                }
            }
        }
        Ok(child)
    }

    /// What both allow; none if that is nothing, or has no such form.
    pub(super) fn meet(&self, other: &Self) -> Option<Self> {
        let closed = self.closed || other.closed;
        let mut args = BTreeMap::new();
        for name in self.args.keys().chain(other.args.keys()) {
            let met = match (self.args.get(name), other.args.get(name)) {
                (Some(ours), Some(theirs)) => match ours.meet(theirs) {
                    Some(met) => Some(met),
                    // Left out by both is all that remains, which only `closed` can say.
                    None if ours.optional && theirs.optional && closed => None,
                    None => return None,
                },
                (Some(one), None) => one.unless(other.closed)?,
                (None, Some(one)) => one.unless(self.closed)?,
                (None, None) => None,
            };
            args.extend(met.map(|met| (name.clone(), met)));
        }
        Some(Self { args, closed })
    }

    /// Whether some arguments may be allowed by both. May say yes too often, and never no too often.
    pub fn intersect(&self, other: &Self) -> bool {
        let names = self.args.keys().chain(other.args.keys());
        names.into_iter().all(|name| match (self.args.get(name), other.args.get(name)) {
            (Some(ours), Some(theirs)) => (ours.optional && theirs.optional) || ours.meet(theirs).is_some(),
            (Some(one), None) => !other.closed || one.optional,
            (None, Some(one)) => !self.closed || one.optional,
            (None, None) => true,
        })
    }

    /// The constraints as a JSON object; none if there are none.
    pub fn args_json(&self) -> Option<String> {
        self.args_value().map(|args| args.to_string())
    }

    fn args_value(&self) -> Option<Value> {
        let args = self.iter().map(|(name, constraint)| (name.to_owned(), Value::Object(constraint.members())));
        (!self.args.is_empty()).then(|| Value::Object(args.collect()))
    }

    /// Reads a JSON object with `args` and `closed`.
    pub(super) fn parse(json: &str) -> Result<Self, String> {
        let Value::Object(mut members) = Value::parse(json)? else { return Err("constraints are one object".into()) };
        let closed = match members.remove("closed") {
            None => false,
            Some(Value::Bool(true)) => true,
            Some(_) => return Err("`closed` is `true` or left out".into()),
        };
        let mut bounds = Self { args: BTreeMap::new(), closed };
        match members.remove("args") {
            None => {}
            Some(Value::Object(args)) => {
                for (name, value) in args {
                    if name.is_empty() || name.chars().count() > 64 {
                        return Err("the name of an argument has 1 to 64 characters".into());
                    }
                    let read =
                        Constraint::read(value).map_err(|why| format!("of argument `{}`: {why}", shown(&name)))?;
                    bounds.args.insert(name, read);
                }
            }
            Some(_) => return Err("`args` is an object of argument names and constraints".into()),
        }
        match members.keys().next() {
            Some(name) => Err(format!("`{}` is no constraint; there are `args` and `closed`", shown(name))),
            None => Ok(bounds),
        }
    }
}

impl Constraint {
    /// It stays, unless the argument may not be given: then it has to be one that need not.
    fn unless(&self, forbidden: bool) -> Option<Option<Self>> {
        match (forbidden, self.optional) {
            (false, _) => Some(Some(self.clone())),
            (true, true) => Some(None),
            (true, false) => None,
        }
    }
}

impl std::fmt::Display for Bounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut members = BTreeMap::from_iter(self.args_value().map(|args| ("args".to_owned(), args)));
        if self.closed {
            members.insert("closed".to_owned(), Value::Bool(true));
        }
        write!(f, "{}", Value::Object(members))
    }
}
