//! The HTTPS pages that anybody may read: keys, trust bundle, lists of what is over, the log's signed head, health,
//! measurements.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tracing::Instrument as _;

use super::fault::Place;
use super::metrics::{self, Scrape};
use super::status::code_of;
use super::{Edge, access, authzen, forward, lists};
use crate::attest::subject::Issuers;
use crate::domain::error::Error;
use crate::domain::key::Purpose;
use crate::format::bundle;

/// How long a key set may be kept, seconds.
const REFRESH: u32 = 300;

/// The router of the HTTPS listener.
pub fn pages(scrape: Scrape, issuers: &Arc<Issuers>) -> axum::Router {
    let edge = Arc::new(Edge::over(&scrape.shared(), issuers));
    let pages = axum::Router::new()
        .route("/.well-known/jwks.json", get(jwks))
        .route("/bundle", get(trust_bundle))
        .route("/crl", get(lists::directory))
        .route("/crl/all.pem", get(lists::crls))
        .route("/crl/{authority}/{file}", get(lists::crl))
        .route("/statuslists/{number}", get(lists::status))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/checkpoint", get(checkpoint))
        .route("/metrics", get(measurements))
        .with_state(Arc::new(scrape));
    pages.merge(decisions(edge)).layer(axum::middleware::from_fn(contain))
}

/// What enforcement points ask over HTTPS. Nobody else's body is read.
fn decisions(edge: Arc<Edge>) -> axum::Router {
    axum::Router::new()
        .route(forward::PATH, get(forward::authorize).post(forward::authorize))
        .route(authzen::EVALUATION, post(authzen::evaluation))
        .route(authzen::EVALUATIONS, post(authzen::evaluations))
        .route_layer(axum::middleware::from_fn_with_state(Arc::clone(&edge), admit))
        .route(authzen::METADATA, get(authzen::metadata))
        .layer(DefaultBodyLimit::max(authzen::LARGEST))
        .with_state(edge)
}

async fn admit(State(edge): State<Arc<Edge>>, mut request: Request, next: Next) -> Response {
    let mut measured = metrics::Rpc::begin(access::page_of(request.uri().path()).map(|row| row.rpc));
    let response = match access::page(&edge.0, request.uri().path(), request.extensions().get()) {
        Ok((asked, _counted)) => {
            let span = tracing::info_span!("page", request_id = asked.request_id, path = request.uri().path());
            request.extensions_mut().insert(asked);
            next.run(request).instrument(span).await
        }
        Err(error) => {
            metrics::refused(error.reason);
            refused(&error, request.uri().path() == forward::PATH)
        }
    };
    measured.shown(&response);
    response
}

/// Why somebody may not ask here, or not so much. A proxy takes a 403 for what it is, whatever the reason.
fn refused(error: &Error, by_proxy: bool) -> Response {
    let told = serde_json::json!({ "error": { "code": error.reason, "message": error.message } });
    let later = error.retry_after.filter(|_| !by_proxy);
    let status = if later.is_some() { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::FORBIDDEN };
    let mut response = (status, axum::Extension(metrics::Told(code_of(error.code))), axum::Json(told)).into_response();
    if let Some(pause) = later {
        let seconds = pause.as_millis().div_euclid(1000) + 1;
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// In a task of its own: a page that panics does not take along what else its connection carries.
#[expect(clippy::disallowed_methods, reason = "a page's own task; it ends by itself, and its caller with it")]
async fn contain(request: Request, next: Next) -> Response {
    let page = tokio::spawn(async {
        Place::Page.reached();
        next.run(request).await
    });
    page.await.unwrap_or_else(|_| {
        (StatusCode::INTERNAL_SERVER_ERROR, "the broker failed on this request; report it\n").into_response()
    })
}

async fn measurements(State(scrape): State<Arc<Scrape>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], scrape.read().await.to_string())
        .into_response()
}

async fn jwks(State(scrape): State<Arc<Scrape>>) -> Response {
    let keys = scrape.broker().accepted_keys(&[Purpose::Token]);
    json(&bundle::jwks(keys.iter().map(|key| (key.kid.as_str(), key.public.as_slice()))))
}

async fn trust_bundle(State(scrape): State<Arc<Scrape>>) -> Response {
    let (authorities, sequence) = scrape.broker().trust();
    match bundle::trust_bundle(authorities.iter().map(Vec::as_slice), sequence, REFRESH) {
        Ok(bundle) => json(&bundle),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn ready(State(scrape): State<Arc<Scrape>>) -> Response {
    match scrape.broker().is_ready() {
        Ok(()) => "ready\n".into_response(),
        Err(error) => unavailable(&error),
    }
}

/// The log's head, signed: two of them that do not fit together prove that the log was changed.
async fn checkpoint(State(scrape): State<Arc<Scrape>>) -> Response {
    match scrape.broker().signed_checkpoint() {
        Ok(note) => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")], note)
            .into_response(),
        Err(error) => unavailable(&error),
    }
}

fn unavailable(error: &Error) -> Response {
    // Anybody reads this page: where the data is, which stands behind the sentence, is not for everybody.
    let said = error.message.split(" (").next().unwrap_or_default();
    (StatusCode::SERVICE_UNAVAILABLE, format!("{}: {said}\n", error.reason)).into_response()
}

fn json(value: &serde_json::Value) -> Response {
    let cache = format!("public, max-age={REFRESH}");
    ([(header::CONTENT_TYPE, "application/json".to_owned()), (header::CACHE_CONTROL, cache)], value.to_string())
        .into_response()
}
