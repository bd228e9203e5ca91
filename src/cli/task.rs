//! `belay task`: a declared purpose with a deadline, the root of every grant.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connect::{Global, answer};
use super::output::{Answer, given, pairs, rows, sparse};
use super::secret::Secret;
use super::{NO_REASON, lifetime};
use crate::client::Refusal;
use crate::wire::v1::tasks_client::TasksClient;
use crate::wire::v1::{EndTaskRequest, ListTasksRequest, StartTaskRequest, Task};

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
    /// List tasks
    #[command(after_help = "Example:\n  belay task list")]
    List,
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
    /// A retry with the same key is the same task
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        let mut tasks = TasksClient::new(global.channel().await?);
        let task = match self {
            Self::Start(start) => answer(tasks.start(start.request()?).await)?.task.unwrap_or_default(),
            Self::End { id, reason } => answer(tasks.end(EndTaskRequest { id, reason }).await)?,
            Self::List => return list(global, &answer(tasks.list(ListTasksRequest {}).await)?.tasks),
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
            ..StartTaskRequest::default()
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
    }))
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
    ])
}
