//! `belay task`: a declared purpose with a deadline, the root of every grant.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connect::{Global, answer};
use super::output::{Answer, given, pairs, rows, sparse, visible};
use super::secret::Secret;
use super::{NO_REASON, lifetime, weights};
use crate::client::Refusal;
use crate::domain::error::Error;
use crate::wire::v1::tasks_client::TasksClient;
use crate::wire::v1::{
    ChangeTaskRequest, EndTaskRequest, Envelope, ListTasksRequest, StartTaskRequest, StartTaskResponse, Task,
};

/// What to do with tasks.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Declare a task, as an agent
    #[command(after_help = "Example:\n  belay --identity ./planner task start 'review pull request 42' --ttl 30m")]
    Start(Start),
    /// End a task, and with it all its grants
    #[command(after_help = "Example:\n  belay task end tsk_01m826b1x1ec8vm5xb46v44k2n --reason 'merged'")]
    End {
        /// The task
        id: String,
        /// Why, for the audit
        #[arg(long, default_value = NO_REASON)]
        reason: String,
    },
    /// Halt a task and all its grants, until it is resumed
    #[command(after_help = "Example:\n  belay task suspend tsk_01m826b1x1ec8vm5xb46v44k2n --reason 'looking into it'")]
    Suspend {
        /// The task
        id: String,
        /// Why, for the audit
        #[arg(long, default_value = NO_REASON)]
        reason: String,
    },
    /// Let a halted task go on
    #[command(after_help = "Example:\n  belay task resume tsk_01m826b1x1ec8vm5xb46v44k2n --reason 'nothing was wrong'")]
    Resume {
        /// The task
        id: String,
        /// Why, for the audit
        #[arg(long, default_value = NO_REASON)]
        reason: String,
    },
    /// List tasks
    #[command(after_help = "Example:\n  belay task list")]
    List,
    /// Show a task
    #[command(after_help = "Example:\n  belay task show tsk_01m826b1x1ec8vm5xb46v44k2n")]
    Show {
        /// The task
        id: String,
    },
}

/// A task to be.
#[derive(Debug, Args)]
pub struct Start {
    /// What is to be done
    purpose: String,
    /// For how long [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    ttl: Option<i64>,
    /// For whom: an ID or access token of the human's identity provider; or @FILE, or - for stdin
    #[arg(long, value_name = "JWT")]
    on_behalf_of: Option<Secret>,
    /// What a human is asked to approve for this purpose beforehand: requests within it need nobody then
    #[arg(long, num_args = 1.., value_name = "SCOPE")]
    envelope: Vec<String>,
    /// For how long, from its approval [default: as long as the task]
    #[arg(long, value_name = "DURATION", value_parser = lifetime, requires = "envelope")]
    envelope_ttl: Option<i64>,
    /// A retry with the same key is the same task
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        let mut tasks = TasksClient::new(global.channel().await?);
        let task = match self {
            Self::Start(start) => return started(global, &answer(tasks.start(start.request()?).await)?),
            Self::End { id, reason } => answer(tasks.end(EndTaskRequest { id, reason }).await)?,
            Self::Suspend { id, reason } => answer(tasks.suspend(ChangeTaskRequest { id, reason }).await)?,
            Self::Resume { id, reason } => answer(tasks.resume(ChangeTaskRequest { id, reason }).await)?,
            Self::List => return list(global, &answer(tasks.list(ListTasksRequest {}).await)?.tasks),
            Self::Show { id } => {
                let all = answer(tasks.list(ListTasksRequest {}).await)?.tasks;
                let found = all.into_iter().find(|task| task.id == id);
                found.ok_or_else(|| Error::not_found("task", visible(&id)))?
            }
        };
        global.printer().print(&json!({ "task": document(&task) }), || table(&task))
    }
}

impl Start {
    fn request(self) -> Result<StartTaskRequest, Refusal> {
        Ok(StartTaskRequest {
            purpose: self.purpose,
            ttl_ms: self.ttl.unwrap_or_default(),
            idempotency_key: self.idempotency_key.unwrap_or_default(),
            on_behalf_of: self.on_behalf_of.map(Secret::read).transpose()?.unwrap_or_default(),
            envelope: self.envelope,
            envelope_ttl_ms: self.envelope_ttl.unwrap_or_default(),
        })
    }
}

fn document(task: &Task) -> Value {
    sparse(json!({
        "id": task.id,
        "purpose": task.purpose,
        "agent": task.agent,
        "subject": given(&task.subject),
        "state": task.state,
        "expires_at": task.expires_at,
        "created_at": given(&task.created_at),
        "envelope": task.envelope.as_ref().map(envelope),
    }))
}

fn envelope(Envelope { approval, scopes, approvals, expires_at }: &Envelope) -> Value {
    json!({ "approval": approval, "scopes": scopes, "approvals": approvals, "expires_at": expires_at })
}

/// A task is there at once; its envelope once humans have approved it.
fn started(global: &Global, started: &StartTaskResponse) -> Answer {
    let task = started.task.clone().unwrap_or_default();
    let approval = started.approval.as_ref();
    let document = sparse(json!({ "task": document(&task), "approval": approval.map(weights::approval) }));
    global.printer().print(&document, || match approval {
        None => table(&task),
        Some(approval) => {
            format!("{}\n{}", table(&task), pairs([("envelope", &approval.id), ("", &approval.message)]))
        }
    })
}

fn list(global: &Global, tasks: &[Task]) -> Answer {
    let document = json!({ "tasks": tasks.iter().map(document).collect::<Vec<_>>() });
    global.printer().print(&document, || {
        let row = |task: &Task| [&task.id, &task.state, &task.agent, &task.expires_at, &task.purpose].map(Clone::clone);
        rows(["TASK", "STATE", "AGENT", "UNTIL", "PURPOSE"], tasks.iter().map(row))
    })
}

fn table(task: &Task) -> String {
    pairs([
        ("task", &task.id),
        ("purpose", &task.purpose),
        ("agent", &task.agent),
        ("for", &task.subject),
        ("state", &task.state),
        ("until", &task.expires_at),
        ("envelope", &task.envelope.as_ref().map(|open| open.scopes.join("\n")).unwrap_or_default()),
        ("until", task.envelope.as_ref().map_or("", |open| &open.expires_at)),
    ])
}
