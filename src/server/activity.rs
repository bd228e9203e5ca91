//! Whether a connection is of use: one that carries no request for a while is closed, so that what strangers hold
//! open is bounded. Bytes alone do not count, or whoever sends one now and then would stay for ever.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use http_body::{Body, Frame, SizeHint};
use tower::{Layer, Service};

use super::connection::Info;
use super::listen::Incoming;

/// The requests of one connection.
#[derive(Clone, Debug, Default)]
pub struct Activity(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    under_way: AtomicUsize,
    begun: AtomicU64,
}

/// Watches a connection from its own side.
#[derive(Debug)]
pub(super) struct Watch {
    activity: Activity,
    seen: u64,
    patience: Duration,
    timer: Pin<Box<tokio::time::Sleep>>,
}

impl Watch {
    /// A connection without a request for this long, and at most twice as long, is of no use.
    pub(super) fn new(patience: Duration) -> Self {
        let timer = Box::pin(tokio::time::sleep(patience));
        Self { activity: Activity::default(), seen: 0, patience, timer }
    }

    pub(super) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Ready once it is of no use any more.
    pub(super) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let begun = self.activity.0.begun.load(Ordering::Relaxed);
            if begun == self.seen && self.activity.0.under_way.load(Ordering::Relaxed) == 0 {
                return Poll::Ready(());
            }
            self.seen = begun;
            self.timer.set(tokio::time::sleep(self.patience));
        }
    }
}

impl Activity {
    fn begin(&self) -> UnderWay {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        self.0.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(self.clone())
    }
}

/// A request whose answer is not sent yet.
#[derive(Debug)]
struct UnderWay(Activity);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connected<IncomingStream<'_, Incoming>> for Info {
    fn connect_info(stream: IncomingStream<'_, Incoming>) -> Self {
        stream.io().info()
    }
}

/// Notes each request on its connection, until the last of its answer is taken.
#[derive(Clone, Debug)]
pub(super) struct Noticed;

/// A service whose requests are noted.
#[derive(Clone, Debug)]
pub(super) struct Noticing<S>(S);

impl<S> Layer<S> for Noticed {
    type Service = Noticing<S>;

    fn layer(&self, inner: S) -> Noticing<S> {
        Noticing(inner)
    }
}

impl<S, B, A> Service<http::Request<B>> for Noticing<S>
where
    S: Service<http::Request<B>, Response = http::Response<A>>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Answer<A>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let pages = request.extensions_mut().remove::<ConnectInfo<Info>>().map(|ConnectInfo(info)| info);
        let info = pages.or_else(|| request.extensions_mut().remove());
        let under_way = info.as_ref().map(|info| info.activity.begin());
        // A stranger who does not fetch an answer, or has one that never ends, is not served for ever.
        let is_known = info.as_ref().is_some_and(|info| info.peer.certificate.is_some());
        if let Some(info) = info {
            request.extensions_mut().insert(info.peer);
        }
        let answer = self.0.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            Ok(answer.map(|body| Answer { body, _under_way: under_way.filter(|_| is_known) }))
        })
    }
}

/// An answer that is being sent.
#[derive(Debug)]
pub(super) struct Answer<B> {
    body: B,
    _under_way: Option<UnderWay>,
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
