//! Tasks: begun, ended, listed.

use prost::Message as _;
use tonic::{Request, Response, Status};

use super::convert::{lifetime, line, task};
use super::{Edge, open, weights};
use crate::broker::idempotency;
use crate::domain::approval::Approval;
use crate::domain::decide::{EndTask, SetTaskStatus, StartTask};
use crate::domain::error::Error;
use crate::domain::name::Line;
use crate::domain::scope::Scopes;
use crate::domain::time::DEFAULT_TASK;
use crate::wire::v1::{self, tasks_server::Tasks};

#[tonic::async_trait]
impl Tasks for Edge {
    async fn start(&self, request: Request<v1::StartTaskRequest>) -> Result<Response<v1::StartTaskResponse>, Status> {
        let (asked, mut body) = open(request)?;
        let key = std::mem::take(&mut body.idempotency_key);
        let subject = self.subject(&body.on_behalf_of)?;
        // A retry may come with a fresh token: what is asked for is bound to the subject.
        body.on_behalf_of = subject.as_ref().map_or_else(String::new, ToString::to_string);
        let key = idempotency::<StartTask>(&key, &body.encode_to_vec())?;
        let ttl = lifetime(body.ttl_ms, DEFAULT_TASK)?;
        let envelope = match body.envelope.is_empty() {
            true => None,
            false => Some((
                Scopes::parse(&body.envelope).map_err(|error| error.on("envelope"))?,
                lifetime(body.envelope_ttl_ms, ttl)?,
            )),
        };
        let command = StartTask { purpose: line(&body.purpose, "purpose")?, subject, ttl, envelope };
        let started = self.0.submit_once(&asked, command, key).await?;
        Ok(Response::new(v1::StartTaskResponse {
            task: Some(self.task(&started.task)),
            approval: started.approval.map(|approval| self.approval(&approval)),
        }))
    }

    async fn end(&self, request: Request<v1::EndTaskRequest>) -> Result<Response<v1::Task>, Status> {
        let (asked, body) = open(request)?;
        let command = EndTask { id: body.id.parse()?, reason: line(&body.reason, "reason")? };
        let ended = self.0.submit(&asked, command).await?;
        Ok(Response::new(self.task(&ended)))
    }

    async fn suspend(&self, request: Request<v1::ChangeTaskRequest>) -> Result<Response<v1::Task>, Status> {
        self.set_task(request, true).await
    }

    async fn resume(&self, request: Request<v1::ChangeTaskRequest>) -> Result<Response<v1::Task>, Status> {
        self.set_task(request, false).await
    }

    async fn list(&self, request: Request<v1::ListTasksRequest>) -> Result<Response<v1::ListTasksResponse>, Status> {
        let (asked, _) = open(request)?;
        let found = self.aside(move |broker| broker.tasks(&asked)).await?;
        let tasks = found.iter().map(|(known, state)| task(known, *state)).collect();
        Ok(Response::new(v1::ListTasksResponse { tasks }))
    }
}

impl Edge {
    /// An approval, with how it stands now.
    pub(super) fn approval(&self, known: &Approval) -> v1::Approval {
        weights::approval(&self.0.shown(known))
    }

    async fn set_task(
        &self,
        request: Request<v1::ChangeTaskRequest>,
        suspended: bool,
    ) -> Result<Response<v1::Task>, Status> {
        let (asked, body) = open(request)?;
        let command = SetTaskStatus { id: body.id.parse()?, suspended, reason: line(&body.reason, "reason")? };
        let changed = self.0.submit(&asked, command).await?;
        Ok(Response::new(self.task(&changed)))
    }

    /// Whom a token proves; without one, nobody.
    fn subject(&self, token: &str) -> Result<Option<Line>, Error> {
        if token.is_empty() {
            return Ok(None);
        }
        self.3.prove(token, self.0.origin().issuer.as_str(), self.0.ledger().now()).map(Some)
    }

    fn task(&self, known: &crate::domain::grant::Task) -> v1::Task {
        let now = self.0.ledger().now();
        task(known, self.0.ledger().view(|view| view.task_state(known, now)))
    }
}
