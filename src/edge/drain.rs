//! The end of a broker, as its calls see it: what was asked is answered, what was only half asked and what would
//! never end by itself is ended.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use tokio::sync::watch;
use tonic::Status;

use crate::domain::error::{Code, Error};

/// How long a message that has begun to arrive may take to be whole once the broker is told to stop.
const REST: Duration = Duration::from_millis(500);

/// Knows when the broker is told to stop, and counts the calls that are being answered.
#[derive(Clone)]
pub struct Drain {
    stop: watch::Receiver<bool>,
    under_way: Arc<watch::Sender<usize>>,
}

/// One call that is being answered; it is no more when this is dropped.
pub(super) struct UnderWay(Arc<watch::Sender<usize>>);

impl Drain {
    /// `stop` holds `true` from when the broker is told to stop.
    pub fn new(stop: watch::Receiver<bool>) -> Self {
        Self { stop, under_way: Arc::new(watch::Sender::new(0)) }
    }

    /// Resolves when no call is being answered.
    pub async fn settled(&self) {
        // The sender is ours: waiting cannot fail.
        let _ = self.under_way.subscribe().wait_for(|count| *count == 0).await;
    }

    pub(super) fn begin(&self) -> UnderWay {
        self.under_way.send_modify(|count| *count += 1);
        UnderWay(Arc::clone(&self.under_way))
    }

    /// The call, whose message does not stay half sent when the broker is told to stop.
    pub(super) fn request(&self, request: Request) -> Request {
        request.map(|body| Until::told(body, self.clone(), Last::Lost))
    }

    /// The answer, which ends when the broker is told to stop and nothing more is there to be said.
    pub(super) fn response(&self, response: Response) -> Response {
        response.map(|body| Until::told(body, self.clone(), Last::Status))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// What a body comes to that is cut short.
#[derive(Clone, Copy)]
enum Last {
    /// An error to who reads it here.
    Lost,
    /// A status to the caller.
    Status,
}

/// A body that is not waited for once the broker is told to stop.
struct Until {
    body: Body,
    drain: Drain,
    /// Made when the body has to be waited for the first time, which for most is never.
    told: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    last: Last,
    over: bool,
}

impl Until {
    fn told(body: Body, drain: Drain, last: Last) -> Body {
        Body::new(Self { body, drain, told: None, last, over: false })
    }
}

async fn told(mut stop: watch::Receiver<bool>, last: Last) {
    // A sender that is gone means the same.
    let _ = stop.wait_for(|stop| *stop).await;
    if let Last::Lost = last {
        tokio::time::sleep(REST).await;
    }
}

impl http_body::Body for Until {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        let (stop, last) = (&this.drain.stop, this.last);
        ready!(this.told.get_or_insert_with(|| Box::pin(told(stop.clone(), last))).as_mut().poll(cx));
        this.over = true;
        let status = stopping();
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(match (last, status.add_header(&mut trailers)) {
            (Last::Status, Ok(())) => Ok(Frame::trailers(trailers)),
            _ => Err(axum::Error::new(status)),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn stopping() -> Status {
    Error::new(Code::Unavailable, "stopping", "the broker is stopping; try again in a moment").into()
}
