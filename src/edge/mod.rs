//! gRPC and HTTPS: translate, nothing else. Who may call what is in [`access`], what is decided in `domain`.

pub mod access;
mod approvals;
mod audit;
mod authzen;
mod backends;
mod calls;
mod catalogs;
mod certificates;
mod convert;
mod deciding;
mod decisions;
mod dpop;
mod drain;
mod envoy;
mod ext_mcp;
pub mod fault;
mod feed;
mod forward;
mod freezes;
mod grants;
mod http;
mod identity;
mod keys;
mod leases;
mod lists;
mod metrics;
mod operators;
mod peps;
mod policies;
pub mod quota;
mod radius;
mod revocations;
mod ruling;
mod shown;
mod status;
mod summary;
mod tail;
mod tasks;
mod tokens;
mod upstreams;
mod weights;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};

pub use drain::Drain;
use fault::Place;
pub use http::pages;
pub use metrics::Scrape;

use crate::attest::subject::Issuers;
use crate::broker::{Asked, Broker};
use crate::domain::error::{Code, Error};
use crate::wire::{self, v1};

/// Bytes of one request: the largest, a grant with 64 scopes of 512 bytes, is far below.
pub const LARGEST_REQUEST: usize = 256 * 1024;

/// Bytes of a request by somebody unknown: a certificate request of 16 KiB and a join token.
const LARGEST_ENROLMENT: usize = 24 * 1024;
/// Bytes of a request with a catalog in it: the largest catalog, and room for the rest.
pub const LARGEST_CATALOG: usize = (64 << 20) + LARGEST_REQUEST;
/// Bytes of a request with policies in it: twice what all files of a set may hold.
pub const LARGEST_POLICIES: usize = 8 << 20;
/// Long reads under way at once: they hold up what decides, each for as long as it looks.
const LONG_READS: usize = 1;

/// Those who follow the log at once. Each holds one page of it, and looks once a second whether it still may.
const TAILS: usize = 32;

/// Every service, over one broker, the turnstile for reads that take long, the places of those who follow, and who
/// says on whose behalf a task runs.
#[derive(Clone)]
pub struct Edge(Arc<Broker>, Arc<Semaphore>, Arc<Semaphore>, Arc<Issuers>);

impl Edge {
    fn over(broker: &Arc<Broker>, issuers: &Arc<Issuers>) -> Self {
        let [reads, tails] = [LONG_READS, TAILS].map(|permits| Arc::new(Semaphore::new(permits)));
        Self(Arc::clone(broker), reads, tails, Arc::clone(issuers))
    }

    /// Reads much of the log or the state on a thread of its own, one such read after the other: decisions do
    /// not wait for them all.
    #[expect(clippy::disallowed_methods, reason = "it ends by itself, once it had its turn")]
    async fn aside<T: Send + 'static>(&self, read: impl FnOnce(&Broker) -> T + Send + 'static) -> Result<T, Error> {
        let failed = || Error::new(Code::Internal, "panicked", "this could not be read; report it");
        let (broker, turnstile) = (Arc::clone(&self.0), Arc::clone(&self.1));
        let span = tracing::Span::current();
        let read = move || {
            let _request = span.entered();
            Place::Aside.reached();
            read(&broker)
        };
        // In a task of its own: a stream that nobody reads is not polled, and would keep its turn from all others.
        let turn = tokio::spawn(async move {
            let _turn = turnstile.acquire_owned().await.ok()?;
            tokio::task::spawn_blocking(read).await.ok()
        });
        turn.await.ok().flatten().ok_or_else(failed)
    }
}

/// Every gRPC service and the health of all, behind the access table.
pub fn routes(
    broker: &Arc<Broker>,
    issuers: &Arc<Issuers>,
    health: HealthServer<impl Health>,
    drain: &Drain,
) -> Routes {
    let edge = Edge::over(broker, issuers);
    macro_rules! add {
        ($routes:expr, $($server:path),*) => {{
            let mut routes = $routes;
            $(routes = routes.add_service(<$server>::new(edge.clone()).max_decoding_message_size(LARGEST_REQUEST));)*
            routes
        }};
    }
    let catalogs = v1::catalogs_server::CatalogsServer::new(edge.clone()).max_decoding_message_size(LARGEST_CATALOG);
    let policies = v1::policies_server::PoliciesServer::new(edge.clone()).max_decoding_message_size(LARGEST_POLICIES);
    let routes = add!(
        Routes::new(health)
            .add_service(
                v1::identity_server::IdentityServer::new(edge.clone()).max_decoding_message_size(LARGEST_ENROLMENT)
            )
            .add_service(catalogs)
            .add_service(policies),
        v1::agents_server::AgentsServer<Edge>,
        v1::operators_server::OperatorsServer<Edge>,
        v1::peps_server::PepsServer<Edge>,
        v1::feed_server::FeedServer<Edge>,
        v1::tasks_server::TasksServer<Edge>,
        v1::grants_server::GrantsServer<Edge>,
        v1::tokens_server::TokensServer<Edge>,
        v1::certificates_server::CertificatesServer<Edge>,
        v1::backends_server::BackendsServer<Edge>,
        v1::upstreams_server::UpstreamsServer<Edge>,
        v1::leases_server::LeasesServer<Edge>,
        v1::decisions_server::DecisionsServer<Edge>,
        wire::envoy::authorization_server::AuthorizationServer<Edge>,
        wire::ext_mcp::ext_mcp_server::ExtMcpServer<Edge>,
        v1::approvals_server::ApprovalsServer<Edge>,
        v1::revocations_server::RevocationsServer<Edge>,
        v1::freezes_server::FreezesServer<Edge>,
        v1::audit_server::AuditServer<Edge>,
        v1::keys_server::KeysServer<Edge>,
        v1::radius_server::RadiusServer<Edge>,
        v1::status_server::StatusServer<Edge>
    );
    access::guard(routes, Arc::clone(broker), drain.clone())
}

/// A request as the access table let it through: who asks, and what.
fn open<T>(request: tonic::Request<T>) -> Result<(Asked, T), Error> {
    Place::Handler.reached();
    let (_, extensions, body) = request.into_parts();
    let asked = extensions.get::<Asked>().cloned();
    let asked =
        asked.ok_or_else(|| Error::new(Code::Internal, "no_caller", "the request did not pass the access table"))?;
    Ok((asked, body))
}
