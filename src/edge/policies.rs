//! Policies: applied whole or not at all, shown, and asked what they would say.

use tonic::{Request, Response, Status};

use super::convert::{given, lifetime};
use super::{Edge, open, weights};
use crate::domain::applied::Applied;
use crate::domain::decide::{Explain, ExplainCall, Explained, Ruled, Subject};
use crate::domain::error::Error;
use crate::domain::policy;
use crate::domain::scope::Scopes;
use crate::domain::time::DEFAULT_GRANT;
use crate::wire::v1::{self, policies_server::Policies};

#[tonic::async_trait]
impl Policies for Edge {
    async fn apply(&self, request: Request<v1::ApplyPolicyRequest>) -> Result<Response<v1::PolicySet>, Status> {
        let (asked, body) = open(request)?;
        let v1::ApplyPolicyRequest { files, dry_run, force, over } = body;
        let files: Vec<_> = files.into_iter().map(|file| (file.name, file.text)).collect();
        let set = self.aside(move |broker| broker.read_policies(&files)).await??;
        let applied = self.0.apply_policies(&asked, set, over, force, dry_run).await?;
        Ok(Response::new(policies(&applied, Vec::new())))
    }

    async fn show(&self, request: Request<v1::ShowPolicyRequest>) -> Result<Response<v1::PolicySet>, Status> {
        open(request)?;
        let shown = self.aside(|broker| broker.policies()).await??;
        Ok(Response::new(shown.map_or_else(v1::PolicySet::default, |(applied, files)| {
            let file = |(name, text)| v1::PolicyFile { name, text };
            policies(&applied, files.into_iter().map(file).collect())
        })))
    }

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Result<Response<v1::ExplainResponse>, Status> {
        let (asked, body) = open(request)?;
        let explained = match is_call(&body) {
            true => {
                let command = call(body)?;
                self.aside(move |broker| broker.peek(&asked, &command)).await??
            }
            false => {
                let command = asks(&body)?;
                self.aside(move |broker| broker.peek(&asked, &command)).await??
            }
        };
        Ok(Response::new(response(explained)))
    }
}

fn policies(applied: &Applied<dyn policy::Policies>, files: Vec<v1::PolicyFile>) -> v1::PolicySet {
    v1::PolicySet {
        version: applied.version,
        digest: applied.digest.to_string(),
        policies: applied.body.as_ref().map_or(0, |body| body.count()) as u64,
        files,
    }
}

/// A request, with or without a task, and a delegation have no tool.
fn is_call(body: &v1::ExplainRequest) -> bool {
    let v1::ExplainRequest { tool, action, resource, args, destination, .. } = body;
    [tool, action, resource, args, destination].iter().any(|part| !part.is_empty())
}

/// A call under a grant: fields of a request are refused.
fn call(body: v1::ExplainRequest) -> Result<ExplainCall, Error> {
    let v1::ExplainRequest { agent, scopes, task, grant, to, ttl_ms, tool, action, resource, args, destination } = body;
    for (field, given) in [("agent", &agent), ("task", &task), ("to", &to)] {
        if !given.is_empty() {
            return Err(Error::malformed(field, given, "a call is of its grant"));
        }
    }
    if !scopes.is_empty() || ttl_ms != 0 {
        return Err(Error::malformed("scope", &scopes.join(" "), "a call has the scopes and the time of its grant"));
    }
    let asked = v1::AuthorizeRequest { tool, action, resource, args, destination, ..v1::AuthorizeRequest::default() };
    Ok(ExplainCall { grant: required(&grant, "grant")?, call: super::decisions::call(&asked)? })
}

/// A request of an agent, or a delegation of a grant.
fn asks(body: &v1::ExplainRequest) -> Result<Explain, Error> {
    let v1::ExplainRequest { agent, scopes, task, grant, to, ttl_ms, .. } = body;
    let subject = match (grant.is_empty(), to.is_empty()) {
        (true, true) => Subject::Request { agent: required(agent, "agent")?, task: given(task)? },
        (false, false) => {
            if !task.is_empty() {
                return Err(Error::malformed("task", task, "a delegation is of the task of its grant").on("task"));
            }
            Subject::Delegation { parent: required(grant, "grant")?, to: required(to, "to")?, by: given(agent)? }
        }
        (false, true) => return Err(Error::missing("to")),
        (true, false) => return Err(Error::missing("grant")),
    };
    Ok(Explain { subject, scopes: Scopes::parse(scopes)?, ttl: lifetime(*ttl_ms, DEFAULT_GRANT)? })
}

fn required<T: std::str::FromStr<Err = Error>>(text: &str, field: &'static str) -> Result<T, Error> {
    given(text).map_err(|error| error.on(field))?.ok_or_else(|| Error::missing(field))
}

fn response(explained: Explained) -> v1::ExplainResponse {
    let Explained { ruled, decided, weight, reasons } = explained;
    let (outcome, needed) = match ruled {
        Ruled::Allow => ("allow", 0),
        Ruled::StepUp(needed) => ("step_up", needed),
        Ruled::Deny => ("deny", 0),
    };
    let reason =
        |reason: crate::domain::decide::Reason| v1::Reason { code: reason.code.to_owned(), message: reason.message };
    v1::ExplainResponse {
        outcome: outcome.to_owned(),
        needed: needed.into(),
        policy: Some(weights::decided(&decided)),
        reasons: reasons.into_iter().map(reason).collect(),
        radius: Some(weights::weight(&weight)),
    }
}
