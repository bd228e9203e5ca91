//! AuthZEN 1.0 (OpenID Foundation, January 2026): calls decided for whoever speaks that.
//!
//! The subject is whoever holds the token in its properties; its id may be left empty and grants nothing. The action is
//! the action, the resource a tool and the path in it; arguments and destination stand in the context.

mod question;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::Edge;
use super::decisions::decided;
use crate::broker::Asked;
use crate::domain::error::{Code, Error};
use crate::wire::v1;
use question::{Body, Question, Semantic};

/// Bytes of a request, at most.
pub(super) const LARGEST: usize = 1 << 20;
/// The rows of the access table.
pub(super) const EVALUATION: &str = "/access/v1/evaluation";
pub(super) const EVALUATIONS: &str = "/access/v1/evaluations";
/// Where this is told to everybody.
pub(super) const METADATA: &str = "/.well-known/authzen-configuration";

/// What this decision point offers, and where.
pub(super) async fn metadata(State(edge): State<Arc<Edge>>) -> Response {
    let issuer = &edge.0.origin().issuer;
    let at = |path: &str| format!("{issuer}{path}");
    let offered = json!({
        "policy_decision_point": issuer.to_string(),
        "access_evaluation_endpoint": at(EVALUATION),
        "access_evaluations_endpoint": at(EVALUATIONS),
    });
    ([(header::CONTENT_TYPE, "application/json")], offered.to_string()).into_response()
}

/// One question.
pub(super) async fn evaluation(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    headers: HeaderMap,
    text: Bytes,
) -> Response {
    let answer = async {
        is_json(&headers)?;
        edge.one(&asked, &Body::read(&text)?).await
    };
    answered(&headers, answer.await)
}

/// Several questions, as far as they are asked for.
pub(super) async fn evaluations(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    headers: HeaderMap,
    text: Bytes,
) -> Response {
    let answer = async {
        is_json(&headers)?;
        let body = Body::read(&text)?;
        let Some((items, semantic)) = body.several()? else { return edge.one(&asked, &body).await };
        let mut answers = Vec::new();
        for item in items {
            let answer = edge.among(&asked, item.get(), &body).await;
            let permitted = answer["decision"] == json!(true);
            answers.push(answer);
            match (semantic, permitted) {
                (Semantic::UntilDeny, false) | (Semantic::UntilPermit, true) => break,
                _ => {}
            }
        }
        Ok(json!({ "evaluations": answers }))
    };
    answered(&headers, answer.await)
}

impl Edge {
    /// One that is missing a part, or has a malformed one, is none; what cannot be true is false.
    async fn one(&self, asked: &Asked, body: &Body<'_>) -> Result<Value, Error> {
        let decided = match body.question(body, &self.0.origin().trust_domain) {
            Err(error) if error.code == Code::Invalid => return Err(error),
            Err(error) => Err(error),
            Ok(question) => self.ask(asked, question).await,
        };
        Ok(decided.map_or_else(|error| undecided(&error), answer))
    }

    /// One of several, which does not make the others fail.
    async fn among(&self, asked: &Asked, item: &str, defaults: &Body<'_>) -> Value {
        let read = Body::read(item.as_bytes()).and_then(|item| item.question(defaults, &self.0.origin().trust_domain));
        match read {
            Ok(question) => self.ask(asked, question).await.map_or_else(|error| undecided(&error), answer),
            Err(error) => undecided(&error),
        }
    }

    async fn ask(&self, asked: &Asked, question: Question) -> Result<v1::AuthorizeResponse, Error> {
        let Question { call, against } = question;
        let made = match against {
            Some(reason) => self.refuse(asked, &call, reason).await,
            None => self.decide(asked, &call).await,
        };
        made.map(decided)
    }
}

/// A decision, which is true for an allow and for nothing else.
fn answer(decided: v1::AuthorizeResponse) -> Value {
    let reasons: Vec<_> =
        decided.reasons.iter().map(|reason| json!({ "code": reason.code, "message": reason.message })).collect();
    let mut context = json!({ "id": decided.id, "reasons": reasons });
    if decided.decision == "step_up" {
        context["reason"] = "approval_required".into();
        context["ask"] = format!("belay grant request --scope '{}'", decided.call).into();
        if !decided.approval.is_empty() {
            context["approval"] = decided.approval.into();
        }
    }
    json!({ "decision": decided.decision == "allow", "context": context })
}

fn undecided(error: &Error) -> Value {
    let reason = json!({ "code": error.reason, "message": error.message });
    json!({ "decision": false, "context": { "reasons": [reason] } })
}

fn is_json(headers: &HeaderMap) -> Result<(), Error> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        true => Ok(()),
        false => Err(Error::malformed("content-type", kind, "send application/json")),
    }
}

/// As JSON, under the request id that the caller gave.
fn answered(asked: &HeaderMap, answer: Result<Value, Error>) -> Response {
    let (status, body) = match answer {
        Ok(body) => (StatusCode::OK, body),
        Err(error) => (status(&error), json!({ "error": { "code": error.reason, "message": error.message } })),
    };
    let mut told = HeaderMap::new();
    told.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    told.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(id) = asked.get("x-request-id").filter(|id| id.len() <= 256) {
        told.insert("x-request-id", id.clone());
    }
    (status, told, body.to_string()).into_response()
}

fn status(error: &Error) -> StatusCode {
    match error.code {
        Code::Invalid => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Exhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Denied | Code::NotFound | Code::Conflict => StatusCode::FORBIDDEN,
    }
}
