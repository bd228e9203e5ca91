//! The feed to enforcement points: one answer that does not end, and what they say meanwhile.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use futures_util::stream::{self, Stream};
use tonic::{Request, Response, Status, Streaming};

use super::{Edge, access, open};
use crate::domain::decide::Caller;
use crate::domain::error::Error;
use crate::domain::feed::{Message, Said};
use crate::effect::feed::Subscription;
use crate::measure::Stopwatch;
use crate::wire::feed::message;
use crate::wire::v1::feed_request::Said as Asks;
use crate::wire::v1::{FeedHello, FeedMessage, FeedRequest, feed_server::Feed};

/// How often it is asked whether an enforcement point may follow on: its certificate ends without an event.
const LOOK: Duration = Duration::from_secs(1);
/// How long a subscription may wait for the first word.
const HELLO: Duration = Duration::from_secs(10);
/// The call, as the access table has it.
const RPC: &str = "/belay.v1.Feed/Subscribe";

type Messages = Pin<Box<dyn Stream<Item = Result<FeedMessage, Status>> + Send>>;

/// One enforcement point that follows.
struct Following {
    edge: Edge,
    caller: Caller,
    subscription: Subscription,
    /// None once it has said all that it wants to.
    requests: Option<Streaming<FeedRequest>>,
    looked: Stopwatch,
}

#[tonic::async_trait]
impl Feed for Edge {
    type SubscribeStream = Messages;

    async fn subscribe(&self, request: Request<Streaming<FeedRequest>>) -> Result<Response<Messages>, Status> {
        let (asked, requests) = open(request)?;
        let Caller::Pep(presenter) = &asked.caller else {
            return Err(Error::denied("peps_only", "this needs an enforcement point's identity").into());
        };
        let (edge, caller, pep) = (self.clone(), asked.caller.clone(), presenter.name.clone());
        // The head of the answer does not wait for the first word: some clients send none before it.
        let begin = async move {
            let mut requests = requests;
            let hello = tokio::time::timeout(HELLO, requests.message()).await;
            let hello = hello.map_err(|_| Error::missing("hello"))??;
            let hello = match hello.and_then(|request| request.said) {
                Some(Asks::Hello(hello)) => hello,
                _ => return Err(Status::from(Error::missing("hello"))),
            };
            let FeedHello { after, epoch } = hello;
            let subscription = edge.0.feed().subscribe(&pep, after.map(|after| (after, epoch.as_str())))?;
            let requests = Some(requests);
            Ok(Following { edge, caller, subscription, requests, looked: Stopwatch::start() })
        };
        let messages = stream::once(begin).map_ok(|following| stream::try_unfold(following, Following::next));
        Ok(Response::new(Box::pin(messages.try_flatten())))
    }
}

thread_local! {
    /// What this thread wrote last, of what all are told.
    static LAST: RefCell<Option<(Arc<Message>, FeedMessage)>> = const { RefCell::new(None) };
}

/// The message as it is sent: written once for many.
fn written(said: &Arc<Message>) -> FeedMessage {
    if !matches!(said.said, Said::Signal(_)) {
        return message(Message::clone(said));
    }
    LAST.with_borrow_mut(|last| match last {
        Some((of, written)) if Arc::ptr_eq(of, said) => written.clone(),
        _ => {
            let written = message(Message::clone(said));
            *last = Some((Arc::clone(said), written.clone()));
            written
        }
    })
}

impl Following {
    async fn next(mut self) -> Result<Option<(FeedMessage, Self)>, Status> {
        loop {
            if self.looked.elapsed() >= LOOK {
                access::admitted(&self.edge.0, RPC, &self.caller)?;
                self.looked = Stopwatch::start();
            }
            let Some(requests) = &mut self.requests else {
                let said = self.subscription.next().await?;
                return Ok(Some((written(&said), self)));
            };
            tokio::select! {
                request = requests.message() => match request? {
                    Some(request) => self.take(request)?,
                    None => self.requests = None,
                },
                said = self.subscription.next() => return Ok(Some((written(&said?), self))),
            }
        }
    }

    fn take(&mut self, request: FeedRequest) -> Result<(), Error> {
        match request.said {
            Some(Asks::Beat(beat)) => self.subscription.beat(beat.nonce),
            Some(Asks::Ack(ack)) => {
                self.subscription.ack(ack.seq);
                Ok(())
            }
            Some(Asks::Hello(_)) => Err(Error::malformed("hello", "…", "it is said once, at the beginning")),
            None => Err(Error::missing("said")),
        }
    }
}
