//! gRPC and HTTPS: translate, nothing else. Who may call what is in [`access`], what is decided in `domain`.

pub mod access;
mod audit;
mod convert;
mod grants;
mod http;
mod identity;
mod operators;
mod status;
mod summary;
mod tasks;
mod tokens;

use std::sync::Arc;

use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};

pub use http::pages;

use crate::broker::{Asked, Broker};
use crate::domain::error::{Code, Error};
use crate::wire::v1;

/// Bytes of one request: the largest, a grant with 64 scopes of 512 bytes, is far below.
pub const LARGEST_REQUEST: usize = 256 * 1024;

/// Every service, over one broker.
#[derive(Clone)]
pub struct Edge(Arc<Broker>);

/// Every gRPC service and the health of all, behind the access table.
pub fn routes(broker: &Arc<Broker>, health: HealthServer<impl Health>) -> Routes {
    let edge = Edge(Arc::clone(broker));
    macro_rules! add {
        ($routes:expr, $($server:path),*) => {{
            let mut routes = $routes;
            $(routes = routes.add_service(<$server>::new(edge.clone()).max_decoding_message_size(LARGEST_REQUEST));)*
            routes
        }};
    }
    let routes = add!(
        Routes::new(health),
        v1::identity_server::IdentityServer<Edge>,
        v1::agents_server::AgentsServer<Edge>,
        v1::operators_server::OperatorsServer<Edge>,
        v1::tasks_server::TasksServer<Edge>,
        v1::grants_server::GrantsServer<Edge>,
        v1::tokens_server::TokensServer<Edge>,
        v1::decisions_server::DecisionsServer<Edge>,
        v1::revocations_server::RevocationsServer<Edge>,
        v1::audit_server::AuditServer<Edge>,
        v1::status_server::StatusServer<Edge>
    );
    access::guard(routes, Arc::clone(broker))
}

/// A request as the access table let it through: who asks, and what.
fn open<T>(request: tonic::Request<T>) -> Result<(Asked, T), Error> {
    let (_, extensions, body) = request.into_parts();
    let asked = extensions.get::<Asked>().cloned();
    let asked =
        asked.ok_or_else(|| Error::new(Code::Internal, "no_caller", "the request did not pass the access table"))?;
    Ok((asked, body))
}
