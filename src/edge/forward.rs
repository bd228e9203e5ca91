//! `/v1/authorize`: what nginx (`auth_request`), Traefik and Caddy (forward auth) ask before they let a request through.
//!
//! They know three answers: 200, 401 and 403. And they show no body, so that what depends on one is refused.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::Edge;
use super::metrics::Told;
use super::ruling::{Answer, Ruling};
use super::shown::{Headers, Shown, certificate};
use super::status::code_of;
use crate::broker::Asked;
use crate::domain::error::{Code, Error};
use crate::wire::v1;

/// The row of the access table.
pub(super) const PATH: &str = "/v1/authorize";

/// What was asked for, as the two families of proxies name it.
struct Original {
    method: String,
    scheme: String,
    host: String,
    uri: String,
}

/// Decides the request that these headers speak of.
pub(super) async fn authorize(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    headers: HeaderMap,
) -> Response {
    match edge.ruling(&asked, question(&Headers::from(&headers)), false).await {
        Ruling::Answer(answer) => answered(answer),
        Ruling::Through(through) => {
            let mut told = HeaderMap::new();
            for (name, value) in &through.set {
                let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) else {
                    let unsendable = Error::new(Code::Internal, "unsendable", "the answer is no header; report it");
                    return answered(Answer::refused(&unsendable));
                };
                told.insert(name, value);
            }
            (StatusCode::OK, told).into_response()
        }
    }
}

fn answered(answer: Answer) -> Response {
    let mut told = HeaderMap::new();
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            told.insert(name, value);
        }
    }
    let came_to = answer.failed.map_or(tonic::Code::Ok, code_of);
    (answer.status, Extension(Told(came_to)), told, answer.body).into_response()
}

fn question(headers: &Headers) -> Result<v1::AuthorizeRequest, Error> {
    let Original { method, scheme, host, uri } = original(headers)?;
    let presenter = certificate(headers.one("x-client-cert")?.unwrap_or_default())?;
    let url = format!("{scheme}://{host}{uri}");
    let asked = Shown::of(headers)?.asks(&method, &url);
    let body_state = "withheld".to_owned();
    let http = v1::HttpRequest { method, host, path: uri, body: Vec::new(), body_state, scheme };
    Ok(v1::AuthorizeRequest { presenter, http: Some(http), ..asked })
}

/// What nginx is told to send, or what Traefik and Caddy send by themselves. A client may have sent either: where both
/// are there, they have to say the same.
fn original(headers: &Headers) -> Result<Original, Error> {
    let part = |name: &'static str, ours: &str, theirs: &str| match (headers.single(ours)?, headers.single(theirs)?) {
        (Some(one), Some(other)) if one != other => {
            let message = format!("the headers `{ours}` and `{theirs}` say different things; let the proxy remove one");
            Err(Error::new(Code::Invalid, "original_ambiguous", message).on(name))
        }
        (one, other) => Ok(one.or(other).map(str::to_owned)),
    };
    let needed = |name: &'static str, found: Option<String>| found.ok_or_else(|| Error::missing(name));
    Ok(Original {
        method: needed("x-original-method", part("method", "x-original-method", "x-forwarded-method")?)?,
        scheme: part("scheme", "x-original-scheme", "x-forwarded-proto")?.unwrap_or_else(|| "https".to_owned()),
        host: needed("x-original-host", part("host", "x-original-host", "x-forwarded-host")?)?,
        uri: needed("x-original-uri", uri(headers)?)?,
    })
}

/// As `part`, but for a target, in which a comma is nothing special.
fn uri(headers: &Headers) -> Result<Option<String>, Error> {
    match (headers.one("x-original-uri")?, headers.one("x-forwarded-uri")?) {
        (Some(one), Some(other)) if one != other => {
            let message =
                "the headers `x-original-uri` and `x-forwarded-uri` say different things; let the proxy remove one";
            Err(Error::new(Code::Invalid, "original_ambiguous", message).on("uri"))
        }
        (one, other) => Ok(one.or(other).map(str::to_owned)),
    }
}
