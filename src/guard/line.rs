//! The line to the broker: one stream of decisions, made again whenever it breaks.
//!
//! While there is none, every question is answered `unavailable`: nothing is allowed from memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::access::{Access, Authority};
use super::unavailable;
use crate::client::Refusal;
use crate::domain::error::Code;
use crate::wire::v1::decision_message::Said;
use crate::wire::v1::decision_request::Said as Asks;
use crate::wire::v1::decisions_client::DecisionsClient;
use crate::wire::v1::{
    AuthorizeRequest, AuthorizeResponse, CallEnded, DecisionMessage, DecisionRequest, ReportRequest,
};

/// Questions that wait to be sent.
const QUEUE: usize = 256;
/// A question that has no answer by then is answered here.
const ANSWER: Duration = Duration::from_secs(5);
/// Between two attempts to connect: from …
const FIRST: Duration = Duration::from_millis(50);
/// … to this.
const LAST: Duration = Duration::from_secs(2);

/// The asking end. Cheap to share.
#[derive(Clone)]
pub struct Line(mpsc::Sender<Ask>);

/// A call that may go on for as long as nothing is heard here.
pub struct Hold(oneshot::Receiver<CallEnded>);

/// Why a hold says something.
#[derive(Debug)]
pub enum Over {
    /// The broker would not allow it any more.
    Ended(CallEnded),
    /// The line broke: nobody knows.
    Lost,
}

struct Ask {
    said: Asks,
    answer: oneshot::Sender<Result<Said, Refusal>>,
    ended: Option<oneshot::Sender<CallEnded>>,
}

impl Line {
    /// A line, and what serves it for as long as it is polled.
    pub fn new(authority: Arc<Authority>) -> (Self, impl Future<Output = ()>) {
        let (asks, asked) = mpsc::channel(QUEUE);
        (Self(asks), serve(authority, asked))
    }

    /// Has a call decided.
    ///
    /// # Errors
    /// The broker refuses the question, or cannot be asked.
    pub async fn authorize(&self, call: AuthorizeRequest) -> Result<AuthorizeResponse, Refusal> {
        decided(self.ask(Asks::Authorize(Box::new(call)), None).await?)
    }

    /// The same for a call that goes on: the broker says when it would not allow it any more.
    ///
    /// # Errors
    /// As [`Line::authorize`].
    pub async fn hold(&self, call: AuthorizeRequest) -> Result<(AuthorizeResponse, Hold), Refusal> {
        let (ended, hold) = oneshot::channel();
        let decided = decided(self.ask(Asks::Authorize(Box::new(call)), Some(ended)).await?)?;
        Ok((decided, Hold(hold)))
    }

    /// Says what became of a call; it is held no longer.
    pub async fn report(&self, invocation: &str, outcome: &str, detail: &str) {
        let [invocation, outcome, detail] = [invocation, outcome, detail].map(str::to_owned);
        let report = ReportRequest { invocation, outcome, detail };
        if let Err(refusal) = self.ask(Asks::Report(report), None).await {
            tracing::warn!(reason = refusal.reason, "an outcome was not recorded: {refusal}");
        }
    }

    async fn ask(&self, said: Asks, ended: Option<oneshot::Sender<CallEnded>>) -> Result<Said, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Ask { said, answer, ended }).map_err(|_| unavailable("too much waits for the broker"))?;
        match tokio::time::timeout(ANSWER, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(unavailable("the guard is ending")),
            Err(_) => Err(unavailable("the broker did not answer within 5 s")),
        }
    }
}

impl Hold {
    /// Resolves when the call may not go on, or nobody knows whether it may.
    pub async fn over(&mut self) -> Over {
        match (&mut self.0).await {
            Ok(ended) => Over::Ended(ended),
            Err(_) => Over::Lost,
        }
    }
}

/// Only a verdict is one.
fn decided(said: Said) -> Result<AuthorizeResponse, Refusal> {
    match said {
        Said::Decided(decided) => Ok(decided),
        _ => Err(unavailable("the broker answered another question")),
    }
}

async fn serve(authority: Arc<Authority>, mut asked: mpsc::Receiver<Ask>) {
    let mut pause = FIRST;
    loop {
        let access = authority.access();
        let trouble = match Talk::begin(&access).await {
            Ok(mut talk) => {
                pause = FIRST;
                match talk.run(&authority, &access, &mut asked).await {
                    Some(refusal) => refusal,
                    None => return,
                }
            }
            Err(refusal) => refusal,
        };
        // Whoever asks in the meantime is told at once.
        let wait = tokio::time::sleep(pause);
        tokio::pin!(wait);
        loop {
            tokio::select! {
                () = &mut wait => break,
                ask = asked.recv() => match ask {
                    Some(ask) => drop(ask.answer.send(Err(trouble.clone()))),
                    None => return,
                },
            }
        }
        pause = (pause * 2).min(LAST);
    }
}

/// One stream.
struct Talk {
    requests: mpsc::Sender<DecisionRequest>,
    messages: Streaming<DecisionMessage>,
    asked: HashMap<u64, Ask>,
    held: HashMap<u64, oneshot::Sender<CallEnded>>,
    next: u64,
}

impl Talk {
    async fn begin(access: &Access) -> Result<Self, Refusal> {
        let (requests, sent) = mpsc::channel(QUEUE);
        let mut decisions = DecisionsClient::new(access.channel.clone());
        let answer = tokio::time::timeout(ANSWER, decisions.stream(ReceiverStream::new(sent))).await;
        let messages = answer.map_err(|_| unavailable("the broker did not answer within 5 s"))??.into_inner();
        Ok(Self { requests, messages, asked: HashMap::new(), held: HashMap::new(), next: 0 })
    }

    /// To its end: why it broke; none if nobody asks any more.
    async fn run(&mut self, authority: &Authority, access: &Access, asks: &mut mpsc::Receiver<Ask>) -> Option<Refusal> {
        let mut changes = authority.changes();
        let broke = loop {
            tokio::select! {
                ask = asks.recv(), if self.asked.len() < QUEUE => match ask {
                    Some(ask) => self.send(ask),
                    None => return None,
                },
                message = self.messages.message() => match message {
                    Ok(Some(message)) => self.take(message),
                    Ok(None) => break unavailable("the broker ended the stream of decisions"),
                    Err(status) => break Refusal::from(status),
                },
                // Another certificate: tokens that are bound to it are not shown over this connection.
                _ = changes.wait_for(|now| now.channels != access.channels) => {
                    break unavailable("the connection is made anew, with a new certificate");
                }
            }
        };
        for (_, ask) in self.asked.drain() {
            let _ = ask.answer.send(Err(broke.clone()));
        }
        Some(broke)
    }

    fn send(&mut self, ask: Ask) {
        if ask.answer.is_closed() {
            return;
        }
        let id = self.next;
        self.next += 1;
        let request = DecisionRequest { id, said: Some(ask.said.clone()), hold: ask.ended.is_some() };
        match self.requests.try_send(request) {
            Ok(()) => drop(self.asked.insert(id, ask)),
            Err(_) => drop(ask.answer.send(Err(unavailable("the broker does not take what is said to it")))),
        }
    }

    fn take(&mut self, DecisionMessage { id, said }: DecisionMessage) {
        match said {
            Some(Said::Ended(ended)) => {
                if let Some(held) = self.held.remove(&id) {
                    let _ = held.send(ended);
                }
            }
            Some(Said::Refused(refused)) => {
                let Some(ask) = self.asked.remove(&id) else { return };
                let reason = refused.reason.unwrap_or_default();
                let code = i32::try_from(refused.code).map_or(tonic::Code::Internal, tonic::Code::from);
                let refusal = Refusal { reason: reason.code, ..tonic::Status::new(code, reason.message).into() };
                let _ = ask.answer.send(Err(refusal));
            }
            Some(said) => {
                let Some(Ask { answer, ended, .. }) = self.asked.remove(&id) else { return };
                if let Some(ended) = ended {
                    self.held.retain(|_, held| !held.is_closed());
                    self.held.insert(id, ended);
                }
                let _ = answer.send(Ok(said));
            }
            None => {
                let refusal = Refusal { code: Code::Internal, ..unavailable("the broker said nothing") };
                if let Some(ask) = self.asked.remove(&id) {
                    let _ = ask.answer.send(Err(refusal));
                }
            }
        }
    }
}
