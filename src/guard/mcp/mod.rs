//! The guard of one MCP server over stdio: every message of the client is decided before the server sees it.
//!
//! The client speaks to this process as it would to the server; the server is its child. A call that was allowed is held
//! at the broker while it goes on, and the session itself for as long as it lasts, so that a cut ends both at once.

mod message;
mod pins;
mod relay;
mod request;
mod stdio;
mod step_up;
mod tools;

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::ChildStdin;
use tokio::sync::{mpsc, oneshot, watch as seen};
use tokio::task::JoinSet;

use self::message::{Id, Message};
use self::pins::Pins;
use super::child::{Child, Stdio};
use super::line::Line;
use super::watch::{Watch, asking, renewed};
use super::{Access, Authority, Ended, failed};
use crate::client::Refusal;
use crate::wire::v1::AuthorizeRequest;

pub use super::child::environment;

/// Messages that wait for the server.
const QUEUE: usize = 64;
/// For how long what is under way is waited for when the client sends no more.
const DRAIN: Duration = Duration::from_secs(5);
/// For how long outcomes are told at the end.
const LAST: Duration = Duration::from_secs(1);

/// What to guard.
#[derive(Debug)]
pub struct Options {
    /// The server's name, which is the tool as scopes name it.
    pub server: String,
    /// The program and its arguments.
    pub words: Vec<OsString>,
    /// All of its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// For how long a call waits for humans.
    pub wait: Duration,
}

/// What all parts of a session share.
struct Session {
    server: String,
    wait: Duration,
    authority: Arc<Authority>,
    line: Line,
    to_client: mpsc::Sender<String>,
    to_server: mpsc::Sender<String>,
    state: Mutex<State>,
    /// Why all is over, once it is.
    cut: seen::Sender<Option<Ended>>,
    /// Only one at a time looks at all tools.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// Requests of the client that have no answer yet.
    open: HashMap<Id, Open>,
    /// Who waits for an answer of the server: a request of the client's, or one of the guard's own.
    asked: HashMap<Id, oneshot::Sender<Result<String, String>>>,
    /// Requests of the server that the client has.
    wanted: HashMap<Id, ()>,
    pins: Pins,
    own: u64,
}

/// A request of the client.
struct Open {
    method: String,
    /// The call that it became, once it was allowed.
    invocation: Option<String>,
    /// Resolves where the client wants no answer any more.
    cancelled: Arc<tokio::sync::Notify>,
}

/// Guards a server until it ends, its client goes away, or the authority is over.
///
/// # Errors
/// The server cannot be started, or the broker lets nobody hold a session with it under this grant.
pub async fn run(authority: Authority, options: Options) -> Result<Ended, Refusal> {
    let authority = Arc::new(authority);
    let mut tasks = JoinSet::new();
    let (line, served) = Line::new(Arc::clone(&authority));
    tasks.spawn(served);
    let (to_client, client) = stdio::written("to-client", std::io::stdout())?;
    let (to_server, for_server) = mpsc::channel(QUEUE);
    let session = Arc::new(Session {
        server: options.server,
        wait: options.wait,
        authority: Arc::clone(&authority),
        line,
        to_client,
        to_server,
        state: Mutex::default(),
        cut: seen::Sender::new(None),
        looking: tokio::sync::Mutex::default(),
    });
    let watch = Watch { authority: &authority, line: &session.line, tool: &session.server };
    if let Some(ended) = watch.may_begin().await? {
        return Ok(ended);
    }
    let mut child = Child::start(&options.words, options.environment, Stdio::Piped)?;
    let (stdin, stdout) = child.pipes().ok_or_else(|| failed("no_pipes", "the server has no stdin and stdout"))?;
    let stdout = stdout.into_owned_fd().map_err(|error| failed("no_pipes", format!("no stdout to read: {error}")))?;
    let from_server = stdio::lines("from-server", std::fs::File::from(stdout))?;
    let from_client = stdio::lines("from-client", std::io::stdin())?;
    tasks.spawn(feed(stdin, for_server));
    let mut cut = session.cut.subscribe();
    let ended = tokio::select! {
        biased;
        Ok(ended) = cut.wait_for(Option::is_some) => ended.clone().unwrap_or(Ended::Stopped),
        ended = authority.keep() => ended,
        ended = watch.watch() => ended,
        () = Arc::clone(&session).serve(from_client) => Ended::Stopped,
        () = super::stopped() => Ended::Stopped,
        // It closed its stdout: it is ending.
        () = Arc::clone(&session).relay(from_server) => {
            let ended = tokio::time::timeout(LAST, child.wait()).await;
            Ended::Child(ended.unwrap_or(1))
        }
    };
    // What is under way was answered before, unless something came between.
    let give_up = tokio::time::timeout(DRAIN, session.give_up(&ended));
    let ((), _) = tokio::join!(end(&mut child, &ended, &session, &mut tasks), give_up);
    drop(session);
    tasks.shutdown().await;
    // A client that does not read is not waited for.
    for _ in 0..50 {
        if client.is_finished() {
            break;
        }
        tokio::time::sleep(LAST / 50).await;
    }
    Ok(ended)
}

/// Ends the server. One whose client went away is told so first: its stdin ends.
async fn end(child: &mut Child, ended: &Ended, session: &Session, tasks: &mut JoinSet<()>) {
    if *ended == Ended::Stopped {
        // The line goes on, for what is still to be told.
        session.close();
        let _ = tokio::time::timeout(LAST, child.wait()).await;
    }
    child.end().await;
    while tasks.try_join_next().is_some() {}
}

/// Writes what waits for the server, until it is told that no more comes.
async fn feed(mut stdin: ChildStdin, mut lines: mpsc::Receiver<String>) {
    while let Some(mut line) = lines.recv().await {
        if line.is_empty() {
            return;
        }
        line.push('\n');
        if stdin.write_all(line.as_bytes()).await.is_err() || stdin.flush().await.is_err() {
            return;
        }
    }
}

impl Session {
    fn state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The question whether a message may be passed on.
    fn asking(&self, method: &str, params: &str, schema: &str, key: &str) -> AuthorizeRequest {
        let mut asked = asking(&self.authority, &self.server, method, params);
        asked.idempotency_key = key.to_owned();
        if let Some(mcp) = &mut asked.mcp {
            mcp.schema_digest = schema.to_owned();
        }
        asked
    }

    /// Waits a while for a token after this one.
    async fn renewed(&self, spent: &Access) {
        renewed(&self.authority, spent).await;
    }

    /// Says something to the client. One that is gone hears nothing.
    async fn say(&self, line: impl ToString) {
        let _ = self.to_client.send(line.to_string()).await;
    }

    /// Passes something on to the server; false if it takes nothing any more.
    async fn pass(&self, message: &Message) -> bool {
        self.to_server.send(message.to_string()).await.is_ok()
    }

    /// Ends the server's stdin.
    fn close(&self) {
        let _ = self.to_server.try_send(String::new());
    }

    /// All is over.
    fn is_over(&self, code: &str, message: &str) {
        let ended = Ended::Cut { code: code.to_owned(), message: message.to_owned() };
        self.cut.send_if_modified(|now| now.is_none() && now.replace(ended).is_none());
    }

    /// Answers what has no answer yet, now that none can come, and says what became of it.
    async fn give_up(&self, ended: &Ended) {
        let (code, message) = match ended {
            Ended::Cut { code, message } => (code.as_str(), message.as_str()),
            Ended::Child(_) => ("server_ended", "the server has ended; nobody knows whether it was done"),
            Ended::Stopped => ("stopped", "the guard was stopped; nobody knows whether it was done"),
        };
        let open: Vec<_> = self.state(|state| state.open.drain().collect());
        for (id, Open { method, invocation, .. }) in open {
            let denied = request::Denied::new(code, message).of(invocation.as_deref());
            self.say(denied.answer(&id, &method)).await;
            if let Some(invocation) = invocation {
                let _ = tokio::time::timeout(LAST, self.line.report(&invocation, "failed", code)).await;
            }
        }
    }
}
