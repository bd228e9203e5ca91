//! Which parts of a question a policy reads: nothing else has to be built to decide it.

use cedar_policy::Policy;
use serde_json::Value;

use super::head::Head;

/// A set of [`Field`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields(u32);

/// What can be left out: a field of the context, each union by itself, and what is said of principal and resource beyond
/// who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Holder,
    Approvals,
    Action,
    Resource,
    Risk,
    RiskLevel,
    Sensitivity,
    SensitivityLevel,
    Catalogued,
    Destination,
    Args,
    Numbers,
    Radius,
    UnionTask,
    UnionAgent,
    UnionOwner,
    UnionSubject,
    Seconds,
    Depth,
    Mode,
    Purpose,
    Subject,
    Attestation,
    TargetKind,
    TargetOwner,
    AboutPrincipal,
    AboutResource,
}

use Field::{
    AboutPrincipal, AboutResource, Action, Approvals, Args, Attestation, Catalogued, Depth, Destination, Holder, Mode,
    Numbers, Purpose, Radius, Resource, Risk, RiskLevel, Seconds, Sensitivity, SensitivityLevel, Subject, TargetKind,
    TargetOwner, UnionAgent, UnionOwner, UnionSubject, UnionTask,
};

/// The fields of the context, as the schema calls them.
const CONTEXT: [(&str, Field); 21] = [
    ("holder", Holder),
    ("approvals", Approvals),
    ("action", Action),
    ("resource", Resource),
    ("risk", Risk),
    ("risk_level", RiskLevel),
    ("sensitivity", Sensitivity),
    ("sensitivity_level", SensitivityLevel),
    ("catalogued", Catalogued),
    ("destination", Destination),
    ("args", Args),
    ("numbers", Numbers),
    ("radius", Radius),
    ("seconds", Seconds),
    ("depth", Depth),
    ("mode", Mode),
    ("purpose", Purpose),
    ("subject", Subject),
    ("attestation", Attestation),
    ("kind", TargetKind),
    ("owner", TargetOwner),
];
/// The fields of `context.unions`.
pub const UNIONS: [(&str, Field); 4] =
    [("task", UnionTask), ("agent", UnionAgent), ("owner", UnionOwner), ("subject", UnionSubject)];

impl Fields {
    /// Everything.
    pub const ALL: Self = Self(u32::MAX);

    /// What the conditions of `policy` read. What is not understood counts as everything.
    pub fn of(policy: &Policy) -> Self {
        let Ok(json) = policy.to_json() else { return Self::ALL };
        let mut fields = Self::default();
        fields.read(json.get("conditions").unwrap_or(&Value::Null));
        fields
    }

    /// Whether this field is among them.
    pub fn has(self, field: Field) -> bool {
        self.0 & (1 << field as u32) != 0
    }

    /// Whether some union is among them.
    pub fn has_unions(self) -> bool {
        UNIONS.iter().any(|(_, union)| self.has(*union))
    }

    /// Their names, as `Debug` has them.
    #[cfg(test)]
    pub fn names(self) -> Vec<String> {
        let all = CONTEXT.iter().chain(&UNIONS).map(|(_, field)| *field).chain([AboutPrincipal, AboutResource]);
        let mut given: Vec<Field> = all.filter(|field| self.has(*field)).collect();
        given.sort_by_key(|field| *field as u32);
        given.iter().map(|field| format!("{field:?}")).collect()
    }

    /// These, and what a policy reads.
    pub fn with_head(self, head: &Head) -> Self {
        Self(self.0 | head.fields().0)
    }

    fn add(&mut self, of: &[(&str, Field)], name: &str) {
        match of.iter().find(|(known, _)| *known == name) {
            Some((_, field)) => self.0 |= 1 << *field as u32,
            None => *self = Self::ALL,
        }
    }

    /// Walks an expression in Cedar's JSON form (docs.cedarpolicy.com, "JSON policy format").
    fn read(&mut self, json: &Value) {
        match path(json).as_deref() {
            Some(["principal", ..]) => self.0 |= 1 << AboutPrincipal as u32,
            Some(["resource", ..]) => self.0 |= 1 << AboutResource as u32,
            Some(["context", "unions", union, ..]) => self.add(&UNIONS, union),
            Some(["context", "unions"]) => UNIONS.iter().for_each(|(_, union)| self.0 |= 1 << *union as u32),
            Some(["context", field, ..]) => self.add(&CONTEXT, field),
            Some(["context"]) => *self = Self::ALL,
            _ => match json {
                Value::Array(parts) => parts.iter().for_each(|part| self.read(part)),
                Value::Object(parts) => parts.values().for_each(|part| self.read(part)),
                _ => {}
            },
        }
    }
}

/// The variable and the attributes that an expression is: `context.unions.task`, `context has destination`.
fn path(json: &Value) -> Option<Vec<&str>> {
    let (operator, inner) = json.as_object().filter(|object| object.len() == 1)?.iter().next()?;
    match operator.as_str() {
        "Var" => inner.as_str().map(|name| vec![name]),
        "." | "has" => {
            let mut path = path(inner.get("left")?)?;
            path.push(inner.get("attr")?.as_str()?);
            Some(path)
        }
        _ => None,
    }
}
