//! The floor: the least that a server of these messages can do. It believes whoever it let in.
//!
//! TLS, listener and server settings are the broker's own; so is the look at the peer's certificate. No
//! access table, no decision, no log, no signature.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use rustls::time_provider::DefaultTimeProvider;
use tonic::{Request, Response, Status};

use belay::edge::LARGEST_REQUEST;
use belay::server::connection::Info;
use belay::server::listen::{Listener, bind};
use belay::server::tls::{self, ServerIdentity};
use belay::wire::v1;
use v1::decisions_server::{Decisions, DecisionsServer};
use v1::tokens_server::{Tokens, TokensServer};

use crate::certificates::certificates;

const ID: &str = "tok_00000000000000000000000000";

/// Answers of the broker's shape and size, made beforehand.
#[derive(Clone)]
struct Floor {
    token: v1::Token,
    verdict: v1::AuthorizeResponse,
}

impl Floor {
    fn new(token_bytes: usize) -> Self {
        let reason = v1::Reason { code: "in_scope".into(), message: "the grant is live and covers it".into() };
        Self {
            token: v1::Token {
                id: ID.into(),
                token: "x".repeat(token_bytes),
                expires_at: "2026-01-01T00:00:00.000Z".into(),
                ..Default::default()
            },
            verdict: v1::AuthorizeResponse {
                decision: "allow".into(),
                id: ID.into(),
                reasons: vec![reason],
                grant: ID.into(),
                possession: "proven".into(),
                policy: Some(v1::Decided { version: 1, policies: vec!["dev-agents-request-anything".into()] }),
                call: "db:read@orders".into(),
                ..Default::default()
            },
        }
    }
}

/// Who calls: the floor, too, knows whom it answers.
fn caller<T>(request: &Request<T>) -> Result<(), Status> {
    let peer = request.extensions().get::<Info>().and_then(|info| info.peer.certificate.as_ref());
    peer.map(drop).ok_or_else(|| Status::unauthenticated("no certificate"))
}

#[tonic::async_trait]
impl Tokens for Floor {
    async fn issue(&self, request: Request<v1::IssueTokenRequest>) -> Result<Response<v1::Token>, Status> {
        caller(&request)?;
        Ok(Response::new(self.token.clone()))
    }

    async fn verify(&self, _: Request<v1::VerifyTokenRequest>) -> Result<Response<v1::VerifyTokenResponse>, Status> {
        Err(Status::unimplemented("the floor verifies nothing"))
    }
}

#[tonic::async_trait]
impl Decisions for Floor {
    async fn authorize(
        &self,
        request: Request<v1::AuthorizeRequest>,
    ) -> Result<Response<v1::AuthorizeResponse>, Status> {
        caller(&request)?;
        Ok(Response::new(self.verdict.clone()))
    }

    type StreamStream = tokio_stream::Empty<Result<v1::DecisionMessage, Status>>;

    async fn stream(
        &self,
        _: Request<tonic::Streaming<v1::DecisionRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        Err(Status::unimplemented("the floor decides one by one"))
    }

    async fn report(&self, _: Request<v1::ReportRequest>) -> Result<Response<v1::ReportResponse>, Status> {
        Err(Status::unimplemented("the floor keeps nothing"))
    }

    async fn list_tools(&self, _: Request<v1::ListToolsRequest>) -> Result<Response<v1::ListToolsResponse>, Status> {
        Err(Status::unimplemented("the floor has no tools"))
    }
}

/// Serves until stdin ends, so that it does not outlive whoever started it. Prints its address once, after the
/// client's identity lies in `directory`.
pub fn serve(directory: &Path, token_bytes: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let floor = Floor::new(token_bytes);
    let (chain, key) = certificates(directory, "spiffe://belay.dev/agent/floor");
    runtime.spawn(async move {
        let identity = ServerIdentity::new(chain.to_vec(), key).unwrap();
        let config = tls::grpc(identity, vec![chain[1].clone()], Arc::new(DefaultTimeProvider)).unwrap();
        let listener = Listener::new(bind("grpc", ([127, 0, 0, 1], 0).into()).unwrap(), config).unwrap();
        println!("https://{}", listener.local_addr());
        tonic::transport::Server::builder()
            .max_concurrent_streams(256)
            .timeout(std::time::Duration::from_secs(30))
            .http2_keepalive_interval(Some(std::time::Duration::from_secs(30)))
            .add_service(TokensServer::new(floor.clone()).max_decoding_message_size(LARGEST_REQUEST))
            .add_service(DecisionsServer::new(floor).max_decoding_message_size(LARGEST_REQUEST))
            .serve_with_incoming(listener.accept_until(std::future::pending()))
            .await
            .unwrap();
    });
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    runtime.shutdown_background();
}
