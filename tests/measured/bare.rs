//! The least that could send a message to many: a bare broadcast behind the broker's own listener and TLS.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use belay::server::listen::{Listener, bind};
use belay::server::tls::{self, ServerIdentity};
use belay::wire::v1::feed_server::{Feed, FeedServer};
use belay::wire::v1::{FeedMessage, FeedRequest};
use futures_util::stream::{self, Stream};
use rustls::time_provider::DefaultTimeProvider;
use tokio::sync::broadcast;
use tonic::{Request, Response, Status, Streaming};

use crate::certificates::certificates;

/// What it sends, and where it is.
pub struct Bare {
    pub sender: broadcast::Sender<FeedMessage>,
    pub addr: String,
}

struct Sends(broadcast::Sender<FeedMessage>);

#[tonic::async_trait]
impl Feed for Sends {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<FeedMessage, Status>> + Send>>;

    async fn subscribe(&self, _: Request<Streaming<FeedRequest>>) -> Result<Response<Self::SubscribeStream>, Status> {
        let next = |mut receiver: broadcast::Receiver<FeedMessage>| async move {
            let message = receiver.recv().await.map_err(|error| Status::internal(error.to_string()))?;
            Ok(Some((message, receiver)))
        };
        Ok(Response::new(Box::pin(stream::try_unfold(self.0.subscribe(), next))))
    }
}

impl Bare {
    /// Serves until this process ends; the identity of a client is in `directory`.
    pub fn start(directory: &Path) -> Self {
        let (chain, key) = certificates(directory, "spiffe://belay.dev/pep/bare");
        let identity = ServerIdentity::new(chain.to_vec(), key).unwrap();
        let config = tls::grpc(identity, vec![chain[1].clone()], Arc::new(DefaultTimeProvider)).unwrap();
        let listener = Listener::new(bind("grpc", ([127, 0, 0, 1], 0).into()).unwrap(), config).unwrap();
        let addr = format!("https://{}", listener.local_addr());
        let sender = broadcast::Sender::new(64);
        let server = tonic::transport::Server::builder()
            .max_concurrent_streams(256)
            .add_service(FeedServer::new(Sends(sender.clone())))
            .serve_with_incoming(listener.accept_until(std::future::pending()));
        tokio::spawn(server);
        Self { sender, addr }
    }
}
