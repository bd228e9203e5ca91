//! A command under a grant of its own, that ends when the command does.
//!
//! The grant is short and renewed for as long as this process lives. When it is killed, nobody renews it any more, and
//! all that hangs on it ends by itself. When the grant is cut, the command is ended.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::child::{Child, Stdio};
use super::line::Line;
use super::socket::Socket;
use super::watch::Watch;
use super::{Authority, Ended, Source, failed};
use crate::client::{Identity, Refusal, client_config, connect, made_up_key};
use crate::domain::error::Error;
use crate::domain::scope::Scope;
use crate::wire::v1::grants_client::GrantsClient;
use crate::wire::v1::tasks_client::TasksClient;
use crate::wire::v1::{EndTaskRequest, Grant, RequestGrantRequest, StartTaskRequest};

/// What to run, and for what.
#[derive(Debug)]
pub struct Options {
    /// The broker.
    pub addr: String,
    /// The agent's identity.
    pub identity: PathBuf,
    /// What is to be done.
    pub purpose: String,
    /// What for.
    pub scopes: Vec<String>,
    /// The deadline of the task, in milliseconds; 0: the broker's default.
    pub ttl_ms: i64,
    /// For how long the grant lives without this process, in milliseconds.
    pub beat_ms: i64,
    /// The program and its arguments.
    pub words: Vec<OsString>,
    /// All of its environment but the socket.
    pub environment: Vec<(OsString, OsString)>,
}

/// Runs it to its end.
///
/// # Errors
/// There is no such grant to be had (one that waits for humans is `awaits_approval`), or the command cannot be started.
pub async fn run(options: Options) -> Result<Ended, Refusal> {
    let tool = options.scopes.first().ok_or_else(|| Error::missing("scope"))?.parse::<Scope>()?.tool().to_owned();
    let identity = Identity::load(&options.identity)?;
    let channel = connect(&options.addr, client_config(&identity)?).await?;
    let mut tasks = TasksClient::new(channel.clone());
    let start = StartTaskRequest {
        purpose: options.purpose.clone(),
        ttl_ms: options.ttl_ms,
        idempotency_key: made_up_key(),
        ..StartTaskRequest::default()
    };
    let started = tasks.start(start).await?.into_inner();
    let task = started.task.ok_or_else(|| failed("no_task", "the broker started no task"))?.id;
    let wanted = RequestGrantRequest {
        task: task.clone(),
        scopes: options.scopes.clone(),
        ttl_ms: options.beat_ms,
        idempotency_key: made_up_key(),
        ..RequestGrantRequest::default()
    };
    let granted = GrantsClient::new(channel).request(wanted).await.map_err(Refusal::from);
    let ended = match granted.and_then(|granted| active(granted.into_inner().grant)) {
        Ok(grant) => under(&options, &grant, &tool).await,
        Err(refusal) => Err(refusal),
    };
    // All that hangs on it is over with it. A broker that is away hears nothing: the grant ends by itself.
    let reason = match &ended {
        Ok(Ended::Child(code)) => format!("the command ended with {code}"),
        Ok(Ended::Stopped) => "stopped".to_owned(),
        Ok(Ended::Cut { .. }) => return ended,
        Err(_) => "the command did not run".to_owned(),
    };
    if let Err(status) = tasks.end(EndTaskRequest { id: task, reason }).await {
        tracing::warn!("the task was not ended: {}", Refusal::from(status));
    }
    ended
}

fn active(grant: Option<Grant>) -> Result<Grant, Refusal> {
    let grant = grant.ok_or_else(|| failed("no_grant", "the broker gave no grant"))?;
    match grant.state.as_str() {
        "active" => Ok(grant),
        state => {
            let message = format!("grant `{}` is {state}; a command that runs waits for nobody", grant.id);
            Err(Refusal { reason: "awaits_approval".to_owned(), ..Error::denied("denied", message).into() })
        }
    }
}

async fn under(options: &Options, grant: &Grant, tool: &str) -> Result<Ended, Refusal> {
    let source = Source::Grant(grant.id.clone());
    let authority = Arc::new(Authority::open(&options.addr, &options.identity, source, true).await?);
    let socket = Socket::open()?;
    let (line, served) = Line::new(Arc::clone(&authority));
    let mut tasks = JoinSet::new();
    tasks.spawn(served);
    let place = (OsString::from("BELAY_SOCKET"), socket.path().into_os_string());
    let environment = options.environment.iter().cloned().chain([place]);
    let stdio = if std::io::stdin().is_terminal() { Stdio::Terminal } else { Stdio::Shared };
    let mut child = Child::start(&options.words, environment, stdio)?;
    let watch = Watch { authority: &authority, line: &line, tool };
    let ended = tokio::select! {
        biased;
        ended = authority.keep() => ended,
        ended = watch.watch() => ended,
        () = super::stopped() => Ended::Stopped,
        () = socket.serve(&authority, &grant.id) => Ended::Stopped,
        code = child.wait() => Ended::Child(code),
    };
    child.end().await;
    tasks.shutdown().await;
    Ok(ended)
}
