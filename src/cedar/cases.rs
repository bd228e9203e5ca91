//! `policy test`: a file of questions with the answers that are expected, in TOML.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::domain::agent::{Agent, AgentStatus, Operator, Role};
use crate::domain::catalog::{Risk, Sensitivity};
use crate::domain::entropy::Entropy;
use crate::domain::error::{Code, Error};
use crate::domain::id::AgentId;
use crate::domain::name::{Line, Name};
use crate::domain::policy::{
    AboutTarget, Action, Area, MOST_APPROVALS, Mode, Object, Outcome, Principal, Question, ToolFacts, step_up,
};
use crate::domain::radius::{Figures, Unions};
use crate::domain::scope::{Args, Decimal, Scope, Value};
use crate::domain::time::Timestamp;

use super::Set;

/// How one case went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseResult {
    /// Its name.
    pub name: String,
    /// `allow`, `deny` or `approvals:N`.
    pub expected: String,
    /// The same, as the set answers.
    pub got: String,
    /// The policies that decided.
    pub by: Vec<String>,
    /// Policies that failed.
    pub errors: Vec<String>,
    /// Whether it went as expected, the policies included where the case names them.
    pub passed: bool,
}

/// Puts every case of a file to `set`.
///
/// # Errors
/// [`Code::Invalid`] if the file is not TOML of this form, a case says something malformed, or there is none in it.
pub fn run(set: &Set, text: &str) -> Result<Vec<CaseResult>, Error> {
    let file: File = toml::from_str(text).map_err(|error| {
        let line =
            error.span().map_or(0, |span| text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1);
        refused(format!("line {line}: {}", super::load::one_line(error.message())))
    })?;
    if file.case.is_empty() {
        return Err(refused("there is no [[case]] in it".to_owned()));
    }
    let named = |case: &Case| case.run(set).map_err(|error| refused(format!("case `{}`: {error}", case.name)));
    file.case.iter().map(named).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    case: Vec<Case>,
}

/// One question. Facts that are not given are harmless ones: a catalogued, public read by somebody's tool.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: Line,
    /// `agent:NAME` or `operator:NAME`.
    principal: String,
    /// Of the operator.
    #[serde(default)]
    roles: Vec<Role>,
    /// Of the agent.
    owner: Option<Line>,
    #[serde(default)]
    labels: BTreeMap<Name, Line>,
    /// Who is to hold it; without, the agent that asks.
    holder: Option<Holder>,
    action: Action,
    /// `tool:action@resource`, or …
    scope: Option<Scope>,
    /// … part of the broker.
    area: Option<Area>,
    target: Option<Target>,
    tool_owner: Option<Line>,
    risk: Option<Risk>,
    sensitivity: Option<Sensitivity>,
    catalogued: Option<bool>,
    destination: Option<String>,
    args: Option<toml::Table>,
    #[serde(default)]
    approvals: u8,
    #[serde(default)]
    radius: Reached,
    #[serde(default)]
    unions: Reaches,
    seconds: Option<i64>,
    #[serde(default)]
    depth: u8,
    #[serde(default)]
    mode: Mode,
    purpose: Option<String>,
    subject: Option<String>,
    attestation: Option<String>,
    expect: String,
    by: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Holder {
    name: Name,
    owner: Option<Line>,
    #[serde(default)]
    labels: BTreeMap<Name, Line>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    kind: String,
    owner: Option<Line>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Reaches {
    task: Reached,
    agent: Reached,
    owner: Reached,
    subject: Reached,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Reached {
    score: u64,
    public: u64,
    internal: u64,
    confidential: u64,
    restricted: u64,
    unbounded: bool,
}

impl Case {
    fn run(&self, set: &Set) -> Result<CaseResult, Error> {
        let approvals = self.expect.strip_prefix("approvals:").map(str::parse::<u8>);
        match (self.expect.as_str(), approvals) {
            ("allow" | "deny", _) | (_, Some(Ok(1..=MOST_APPROVALS))) => {}
            _ => {
                return Err(Error::malformed(
                    "expect",
                    &self.expect,
                    "expected one of allow deny approvals:1…approvals:4",
                ));
            }
        }
        let (kind, name) = self.principal.split_once(':').unwrap_or(("", &self.principal));
        let (agent, operator);
        let principal = match kind {
            "agent" => {
                agent = self::agent(name.parse()?, self.owner.as_ref(), &self.labels)?;
                Principal::Agent(&agent)
            }
            "operator" => {
                operator = self.operator(name.parse()?);
                Principal::Operator(&operator)
            }
            _ => return Err(Error::malformed("principal", &self.principal, "expected agent:NAME or operator:NAME")),
        };
        let holder = match (&self.holder, principal) {
            (Some(holder), _) => self::agent(holder.name.clone(), holder.owner.as_ref(), &holder.labels)?,
            (None, Principal::Agent(agent)) => agent.clone(),
            (None, Principal::Operator(_)) => self::agent("unnamed".parse()?, None, &BTreeMap::new())?,
        };
        let args = self.args.as_ref().map(arguments).transpose()?;
        let unnamed = "unnamed".parse()?;
        let action = self.scope.as_ref().map(|scope| scope.action().to_string()).unwrap_or_default();
        let resource = self.scope.as_ref().map(|scope| scope.resource().to_string()).unwrap_or_default();
        let object = match (&self.scope, self.area) {
            (Some(scope), None) => {
                let facts = self.facts(scope.tool(), &action, &resource, &unnamed, args.as_ref(), &holder);
                Object::Tool(Box::new(facts))
            }
            (None, Some(area)) => {
                let target = self.target.as_ref();
                Object::Area(
                    area,
                    target.map(|target| AboutTarget { kind: &target.kind, owner: target.owner.as_ref() }),
                )
            }
            _ => return Err(refused("it needs either scope or area".to_owned())),
        };
        Ok(self.compare(step_up(set, &Question { principal, action: self.action, object })))
    }

    fn compare(&self, outcome: Outcome) -> CaseResult {
        let (got, by, errors) = match outcome {
            Outcome::Allowed(by) => ("allow".to_owned(), by, Vec::new()),
            Outcome::Needs(approvals, by) => (format!("approvals:{approvals}"), by, Vec::new()),
            Outcome::Denied(by, errors) => ("deny".to_owned(), by, errors),
        };
        let named = self.by.as_ref().is_none_or(|expected| {
            let mut expected = expected.clone();
            expected.sort_unstable();
            expected == by
        });
        let passed = got == self.expect && named;
        CaseResult { name: self.name.to_string(), expected: self.expect.clone(), got, by, errors, passed }
    }

    fn operator(&self, name: Name) -> Operator {
        Operator { name, roles: self.roles.clone(), removed: false, created_at: Timestamp::from_seconds(0) }
    }

    fn facts<'a>(
        &'a self,
        tool: &'a str,
        action: &'a str,
        resource: &'a str,
        unnamed: &'a Line,
        args: Option<&'a Args>,
        holder: &'a Agent,
    ) -> ToolFacts<'a> {
        let catalogued = self.catalogued.unwrap_or(true);
        // What is not in the catalog is taken for the worst, as the broker does.
        let (risk, sensitivity) =
            if catalogued { (Risk::Read, Sensitivity::Public) } else { (Risk::Admin, Sensitivity::Restricted) };
        ToolFacts {
            holder,
            tool,
            tool_owner: self.tool_owner.as_ref().or(catalogued.then_some(unnamed)),
            action,
            resource,
            risk: self.risk.unwrap_or(risk),
            sensitivity: self.sensitivity.unwrap_or(sensitivity),
            catalogued,
            destination: self.destination.as_deref(),
            args,
            approvals: self.approvals,
            radius: self.radius.figures(),
            unions: self.unions.figures(),
            seconds: self.seconds.unwrap_or(900),
            depth: self.depth,
            mode: self.mode,
            purpose: self.purpose.as_deref().unwrap_or("a case of a policy test"),
            subject: self.subject.as_deref(),
            attestation: self.attestation.as_deref().unwrap_or("mtls"),
        }
    }
}

fn agent(name: Name, owner: Option<&Line>, labels: &BTreeMap<Name, Line>) -> Result<Agent, Error> {
    let at = Timestamp::from_seconds(0);
    Ok(Agent {
        // No policy sees it.
        id: AgentId::mint(at, &mut Entropy::from_seed([0; 32])),
        name,
        owner: owner.cloned().map_or_else(|| "unnamed".parse(), Ok)?,
        purpose: "a case of a policy test".parse()?,
        status: AgentStatus::Active,
        ceiling: None,
        max_ttl: None,
        labels: labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        retired: None,
        created_at: at,
    })
}

impl Reaches {
    fn figures(&self) -> Unions {
        Unions {
            task: self.task.figures(),
            agent: self.agent.figures(),
            owner: self.owner.figures(),
            subject: self.subject.figures(),
        }
    }
}

impl Reached {
    fn figures(&self) -> Figures {
        let by = [self.public, self.internal, self.confidential, self.restricted];
        Figures { score: self.score, by, unbounded: self.unbounded }
    }
}

fn arguments(table: &toml::Table) -> Result<Args, Error> {
    table.iter().map(|(name, given)| Ok((name.clone(), value(given)?))).collect()
}

fn value(given: &toml::Value) -> Result<Value, Error> {
    let number = |text: String| {
        let number = Decimal::parse(&text).map(Value::Number);
        number.ok_or_else(|| Error::malformed("args", &text, "it is not a number of at most 64 characters"))
    };
    match given {
        toml::Value::String(text) => Ok(Value::Text(text.clone())),
        toml::Value::Boolean(bool) => Ok(Value::Bool(*bool)),
        toml::Value::Integer(integer) => number(integer.to_string()),
        // As Rust prints it for itself: the shortest that reads back the same, with an exponent where that is shorter.
        toml::Value::Float(float) => number(format!("{float:?}")),
        toml::Value::Array(values) => values.iter().map(value).collect::<Result<_, _>>().map(Value::List),
        toml::Value::Table(table) => {
            let pairs = table.iter().map(|(name, given)| Ok((name.clone(), value(given)?)));
            pairs.collect::<Result<_, Error>>().map(Value::Object)
        }
        toml::Value::Datetime(at) => {
            Err(Error::malformed("args", &at.to_string(), "JSON has no dates: write a string"))
        }
    }
}

fn refused(message: String) -> Error {
    Error::new(Code::Invalid, "policy_case_invalid", message)
}
