//! Tasks: begun, ended, listed.

use prost::Message as _;
use tonic::{Request, Response, Status};

use super::convert::{lifetime, line, task};
use super::{Edge, open};
use crate::broker::idempotency;
use crate::domain::decide::{EndTask, StartTask};
use crate::domain::time::DEFAULT_TASK;
use crate::wire::v1::{self, tasks_server::Tasks};

#[tonic::async_trait]
impl Tasks for Edge {
    async fn start(&self, request: Request<v1::StartTaskRequest>) -> Result<Response<v1::Task>, Status> {
        let (asked, mut body) = open(request)?;
        let key = std::mem::take(&mut body.idempotency_key);
        let key = idempotency::<StartTask>(&key, &body.encode_to_vec())?;
        let command = StartTask {
            purpose: line(&body.purpose, "purpose")?,
            subject: None,
            ttl: lifetime(body.ttl_ms, DEFAULT_TASK)?,
        };
        let started = self.0.submit_once(&asked, command, key).await?;
        Ok(Response::new(self.task(&started)))
    }

    async fn end(&self, request: Request<v1::EndTaskRequest>) -> Result<Response<v1::Task>, Status> {
        let (asked, body) = open(request)?;
        let command = EndTask { id: body.id.parse()?, reason: line(&body.reason, "reason")? };
        let ended = self.0.submit(&asked, command).await?;
        Ok(Response::new(self.task(&ended)))
    }

    async fn list(&self, request: Request<v1::ListTasksRequest>) -> Result<Response<v1::ListTasksResponse>, Status> {
        let (asked, _) = open(request)?;
        let found = self.aside(move |broker| broker.tasks(&asked)).await?;
        let tasks = found.iter().map(|(known, state)| task(known, *state)).collect();
        Ok(Response::new(v1::ListTasksResponse { tasks }))
    }
}

impl Edge {
    fn task(&self, known: &crate::domain::grant::Task) -> v1::Task {
        let now = self.0.ledger().now();
        task(known, self.0.ledger().view(|view| view.task_state(known, now)))
    }
}
