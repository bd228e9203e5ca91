//! What comes from the client: each request decided, passed on, watched while it goes on, and answered.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;

use super::super::ended::{Meaning, meaning, of};
use super::super::line::{Hold, Over};
use super::super::watch::reason;
use super::message::{Id, Message, refused};
use super::stdio::Line;
use super::{DRAIN, Open, Session};
use crate::client::{Refusal, made_up_key};
use crate::domain::error::Code;
use crate::wire::v1::{AuthorizeRequest, Reason};

/// JSON-RPC's code of a refusal.
const DENIED: i32 = -32001;
/// Requests that are under way at once.
const MOST: usize = 256;
/// Between two attempts to hold a call again.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(250);

/// Why a message is not passed on, in words that a model can act on.
#[derive(Clone, Debug)]
pub(super) struct Denied {
    code: String,
    message: String,
    invocation: String,
    approval: String,
    /// The call that it was, and the grant under which it is not allowed.
    pub(super) call: String,
    pub(super) grant: String,
}

/// A call that may be made now.
pub(super) struct Allowed {
    pub(super) invocation: String,
    hold: Option<Hold>,
    /// How it is asked for again.
    again: AuthorizeRequest,
    /// The grant that humans gave for it alone.
    pub(super) once: Option<String>,
}

/// How a call that was passed on went.
enum Went {
    Answered(Result<String, String>),
    Cancelled,
    Denied(Denied),
}

impl Session {
    /// Takes what comes, until nothing comes any more and what is under way is answered.
    pub(super) async fn serve(self: Arc<Self>, mut lines: mpsc::Receiver<Line>) {
        let mut tasks = JoinSet::new();
        while let Some(line) = lines.recv().await {
            while tasks.try_join_next().is_some() {}
            let read = match line {
                Line::Whole(line) => Message::read(&line).map_err(refused),
                Line::TooLong => Err(json!({ "jsonrpc": "2.0", "id": null,
                    "error": { "code": -32600, "message": "a message has at most 16 MiB" } })
                .to_string()),
            };
            match read {
                Err(answer) => self.say(answer).await,
                Ok(Message::Response { id, answer }) => {
                    // Only what the server asked for, and was allowed to.
                    if self.state(|state| state.wanted.remove(&id)).is_some() {
                        self.pass(&Message::Response { id, answer }).await;
                    }
                }
                // In their order: what is said of the session comes before what is asked in it.
                Ok(Message::Notification { method, params }) => self.notice(method, params).await,
                Ok(Message::Request { id, method, params }) => {
                    let cancelled = Arc::new(Notify::new());
                    if let Some(why) = self.open(&id, &method, &cancelled) {
                        let error = json!({ "jsonrpc": "2.0", "id": id.value(),
                            "error": { "code": -32600, "message": why } });
                        self.say(error).await;
                        continue;
                    }
                    let session = Arc::clone(&self);
                    tasks.spawn(async move { session.request(id, method, params, &cancelled).await });
                }
            }
        }
        let all = async { while tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(DRAIN, all).await;
    }

    fn open(&self, id: &Id, method: &str, cancelled: &Arc<Notify>) -> Option<&'static str> {
        self.state(|state| {
            if state.open.contains_key(id) {
                return Some("this id is taken by a request that has no answer yet");
            }
            if state.open.len() >= MOST {
                return Some("256 requests are under way; wait for some of them");
            }
            let open = Open { method: method.to_owned(), invocation: None, cancelled: Arc::clone(cancelled) };
            state.open.insert(id.clone(), open);
            None
        })
    }

    async fn notice(&self, method: String, params: String) {
        if method == "notifications/cancelled" {
            let said: Value = serde_json::from_str(&params).unwrap_or_default();
            let of = Id::of(&said["requestId"]);
            let open = of.and_then(|id| self.state(|state| Some(Arc::clone(&state.open.get(&id)?.cancelled))));
            if let Some(cancelled) = open {
                cancelled.notify_one();
            }
        }
        match self.may(&method, &params, String::new()).await {
            Ok(_) => drop(self.pass(&Message::Notification { method, params }).await),
            Err(denied) => tracing::warn!(code = denied.code, "a notification is not passed on: {}", denied.message),
        }
    }

    /// A request, from its decision to its answer.
    async fn request(&self, id: Id, method: String, params: String, cancelled: &Notify) {
        let allowed = tokio::select! {
            allowed = self.decided(&method, &params) => allowed,
            // It never came to the server.
            () = cancelled.notified() => return drop(self.state(|state| state.open.remove(&id))),
        };
        let mut allowed = match allowed {
            Ok(allowed) => allowed,
            Err(denied) => return self.answer(&id, &method, Err(denied)).await,
        };
        let invocation = allowed.invocation.clone();
        let (asked, answered) = oneshot::channel();
        self.state(|state| {
            if let Some(open) = state.open.get_mut(&id) {
                open.invocation = Some(invocation.clone());
            }
            state.asked.insert(id.clone(), asked);
        });
        let message = Message::Request { id: id.clone(), method: method.clone(), params };
        if !self.pass(&message).await {
            return;
        }
        let went = tokio::select! {
            Ok(answer) = answered => Went::Answered(answer),
            denied = self.until_over(&mut allowed) => Went::Denied(denied),
            () = cancelled.notified() => Went::Cancelled,
        };
        self.state(|state| state.asked.remove(&id));
        let (outcome, detail) = match &went {
            Went::Answered(Ok(result)) if !is_error(result) => ("done", ""),
            Went::Answered(_) => ("failed", "the server answered with an error"),
            Went::Cancelled => ("failed", "the client cancelled it"),
            Went::Denied(denied) => ("failed", denied.code.as_str()),
        };
        self.line.report(&invocation, outcome, detail).await;
        match went {
            Went::Cancelled => drop(self.state(|state| state.open.remove(&id))),
            Went::Denied(denied) => {
                self.cancel(&id).await;
                self.answer(&id, &method, Err(denied.of(Some(&invocation)))).await;
            }
            Went::Answered(Ok(result)) if method == "tools/list" => {
                let shown = self.within_reach(&result).await;
                self.answer(&id, &method, shown).await;
            }
            Went::Answered(answer) => self.answer(&id, &method, Ok(answer)).await,
        }
        if let Some(grant) = allowed.once {
            self.used_up(&grant).await;
        }
    }

    async fn answer(&self, id: &Id, method: &str, answer: Result<Result<String, String>, Denied>) {
        if self.state(|state| state.open.remove(id)).is_none() {
            return;
        }
        match answer {
            Ok(answer) => self.say(Message::Response { id: id.clone(), answer }).await,
            Err(denied) => self.say(denied.answer(id, method)).await,
        }
    }

    /// The server need not go on with it.
    async fn cancel(&self, id: &Id) {
        let params = json!({ "requestId": id.value(), "reason": "it is not allowed any more" }).to_string();
        let method = "notifications/cancelled".to_owned();
        self.pass(&Message::Notification { method, params }).await;
    }

    /// Whether a request may be passed on, humans asked where they have to be.
    async fn decided(&self, method: &str, params: &str) -> Result<Allowed, Denied> {
        let schema = match method {
            "tools/call" => self.schema(params).await?,
            _ => String::new(),
        };
        match self.may(method, params, schema.clone()).await {
            Err(denied) if denied.code == "approval_needed" => self.approved(method, params, &schema, denied).await,
            decided => decided,
        }
    }

    /// Whether a message may be passed on now. It is held from then on.
    pub(super) async fn may(&self, method: &str, params: &str, schema: String) -> Result<Allowed, Denied> {
        let access = self.authority.access();
        let asking = self.asking(method, params, &schema, &made_up_key());
        let denied = match self.hold(asking).await {
            Err(denied) if meaning(&denied.code) == Meaning::Token => denied,
            decided => return decided,
        };
        // The token ended in between: one that takes its place makes the same call.
        self.renewed(&access).await;
        match self.authority.access().tokens == access.tokens {
            true => Err(denied),
            false => self.hold(self.asking(method, params, &schema, &made_up_key())).await,
        }
    }

    /// Has a call decided, and held if it is allowed.
    pub(super) async fn hold(&self, asking: AuthorizeRequest) -> Result<Allowed, Denied> {
        let (verdict, hold) = self.line.hold(asking.clone()).await.map_err(|refusal| self.refused(refusal))?;
        if verdict.decision == "allow" {
            return Ok(Allowed { invocation: verdict.id, hold: Some(hold), again: asking, once: None });
        }
        let Reason { code, message } = reason(&verdict);
        if meaning(&code) == Meaning::Over {
            self.is_over(&code, &message);
        }
        let (invocation, approval) = (verdict.id, verdict.approval);
        Err(Denied { code, message, invocation, approval, call: verdict.call, grant: verdict.grant })
    }

    /// Nothing is allowed where the broker does not say so.
    pub(super) fn refused(&self, refusal: Refusal) -> Denied {
        if of(&refusal) == Meaning::Over {
            self.is_over(&refusal.reason, &refusal.message);
        }
        let code = if refusal.code == Code::Unavailable { "unavailable".to_owned() } else { refusal.reason };
        Denied { code, ..Denied::new("", &refusal.message) }
    }

    /// Until a call that goes on may not any more. While the broker is away nobody knows, and it goes on.
    async fn until_over(&self, allowed: &mut Allowed) -> Denied {
        loop {
            let denied = match &mut allowed.hold {
                Some(hold) => match hold.over().await {
                    Over::Ended(ended) => {
                        let Reason { code, message } = ended.reasons.into_iter().next().unwrap_or_default();
                        Some(Denied::new(&code, &message))
                    }
                    Over::Lost => None,
                },
                None => None,
            };
            allowed.hold = None;
            match denied {
                Some(denied) if meaning(&denied.code) == Meaning::Over => {
                    if allowed.once.is_none() {
                        self.is_over(&denied.code, &denied.message);
                    }
                    return denied;
                }
                // Its token ended as they do. A call under a grant for it alone began in time.
                Some(denied) if meaning(&denied.code) != Meaning::Token => return denied,
                Some(_) if allowed.once.is_some() => return std::future::pending().await,
                _ => tokio::time::sleep(AGAIN).await,
            }
            // The same call under the same key counts once.
            let token = match allowed.once {
                Some(_) => allowed.again.token.clone(),
                None => self.authority.access().token.clone(),
            };
            match self.hold(AuthorizeRequest { token, ..allowed.again.clone() }).await {
                Ok(held) => allowed.hold = held.hold,
                Err(denied) if denied.code == "unavailable" || meaning(&denied.code) == Meaning::Token => {}
                Err(denied) => return denied,
            }
        }
    }
}

impl Allowed {
    /// Under a grant that humans gave for it alone.
    pub(super) fn once(self, grant: String) -> Self {
        Self { once: Some(grant), ..self }
    }
}

impl Denied {
    pub(super) fn new(code: &str, message: &str) -> Self {
        let ([code, message], none) = ([code, message].map(str::to_owned), String::new);
        Self { code, message, invocation: none(), approval: none(), call: none(), grant: none() }
    }

    /// The same of this call.
    pub(super) fn of(self, invocation: Option<&str>) -> Self {
        Self { invocation: invocation.unwrap_or_default().to_owned(), ..self }
    }

    pub(super) fn with_approval(self, approval: &str) -> Self {
        Self { approval: approval.to_owned(), ..self }
    }

    pub(super) fn code(&self) -> &str {
        &self.code
    }

    /// The answer to a request: of a tool, a result that its model reads; else an error.
    pub(super) fn answer(&self, id: &Id, method: &str) -> String {
        let answer = match method {
            "tools/call" => {
                let text = json!({ "type": "text", "text": self.text() });
                // Newer versions of the protocol want the type of a result, and older ones do not mind it.
                Ok(json!({ "isError": true, "content": [text], "resultType": "complete" }).to_string())
            }
            _ => Err(self.error().to_string()),
        };
        Message::Response { id: id.clone(), answer }.to_string()
    }

    /// As an error of JSON-RPC.
    pub(super) fn error(&self) -> Value {
        let mut data = json!({ "code": self.code });
        for (name, value) in [("request", &self.invocation), ("approval", &self.approval)] {
            if !value.is_empty() {
                data[name] = Value::from(value.as_str());
            }
        }
        json!({ "code": DENIED, "message": self.text(), "data": data })
    }

    /// One line.
    pub(super) fn text(&self) -> String {
        let mut text = format!("denied: {} ({})", self.message, self.code);
        for (name, value) in [("approval", &self.approval), ("request", &self.invocation)] {
            if !value.is_empty() {
                text.push_str(&format!("; {name} {value}"));
            }
        }
        text
    }
}

/// Whether a result says of itself that it is a failure.
fn is_error(result: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Failure {
        #[serde(rename = "isError", default)]
        is_error: bool,
    }
    serde_json::from_str::<Failure>(result).is_ok_and(|result| result.is_error)
}
