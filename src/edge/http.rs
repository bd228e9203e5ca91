//! The HTTPS pages that anybody may read: keys, trust bundle, health.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::broker::Broker;
use crate::domain::key::Purpose;
use crate::format::bundle;

/// How long a key set may be kept, seconds.
const REFRESH: u32 = 300;

/// Instead of a page that seems to be missing.
const NO_CRL: &str =
    "no revocation list is published yet; ask at each call: `Decisions.Authorize` over gRPC, or `belay authorize`\n";

/// The router of the HTTPS listener.
pub fn pages(broker: Arc<Broker>) -> axum::Router {
    axum::Router::new()
        .route("/.well-known/jwks.json", get(jwks))
        .route("/bundle", get(trust_bundle))
        .route("/crl", get(|| async { (StatusCode::NOT_FOUND, NO_CRL) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(broker)
}

async fn jwks(State(broker): State<Arc<Broker>>) -> Response {
    let keys = broker.accepted_keys(&[Purpose::Token]);
    json(&bundle::jwks(keys.iter().map(|key| (key.kid.as_str(), key.public.as_slice()))))
}

async fn trust_bundle(State(broker): State<Arc<Broker>>) -> Response {
    let (authorities, sequence) = broker.trust();
    match bundle::trust_bundle(authorities.iter().map(Vec::as_slice), sequence, REFRESH) {
        Ok(bundle) => json(&bundle),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn ready(State(broker): State<Arc<Broker>>) -> Response {
    match broker.ledger().check_ready() {
        Ok(()) => "ready\n".into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}: {error}\n", error.reason)).into_response(),
    }
}

fn json(value: &serde_json::Value) -> Response {
    let cache = format!("public, max-age={REFRESH}");
    ([(header::CONTENT_TYPE, "application/json".to_owned()), (header::CACHE_CONTROL, cache)], value.to_string())
        .into_response()
}
