//! agentgateway's `ExtMcp`: each message of an MCP client, decided before it goes to its servers, and what of a server's
//! tools a client is shown. Every method is decided; none passes because nobody thought of it.

mod listed;
mod question;

use serde_json::{Value, json};
use tonic::{Request, Response, Status};

use super::ruling::{Answer, Ruling, Through};
use super::shown::{Headers, OURS, TICKET};
use super::{Edge, open};
use crate::broker::Asked;
use crate::domain::error::Error;
use crate::wire::ext_mcp::authorization_error::Code as Kind;
use crate::wire::ext_mcp::ext_mcp_server::ExtMcp;
use crate::wire::ext_mcp::{
    AuthorizationError, HeaderMutation, McpHeader, McpRequest, McpRequestResult, McpResponse, McpResponseResult, Pass,
    mcp_request_result, mcp_response_result,
};
use question::Question;

/// The method that the gateway does not ask about before it is sent: it is decided when its result comes.
const UNASKED: &str = "completion/complete";

#[tonic::async_trait]
impl ExtMcp for Edge {
    async fn check_request(&self, request: Request<McpRequest>) -> Result<Response<McpRequestResult>, Status> {
        let (asked, message) = open(request)?;
        let headers = Headers::from(&message.headers[..]);
        let result = match self.every(&asked, Question::of(&message, &headers)).await {
            Ruling::Through(through) => McpRequestResult {
                result: Some(mcp_request_result::Result::Pass(Pass {})),
                header_mutation: Some(passed(through, &headers)),
            },
            Ruling::Answer(answer) => McpRequestResult {
                result: Some(mcp_request_result::Result::Error(refused(answer))),
                header_mutation: None,
            },
        };
        Ok(Response::new(result))
    }

    async fn check_response(&self, request: Request<McpResponse>) -> Result<Response<McpResponseResult>, Status> {
        let (asked, message) = open(request)?;
        let result = match self.answered(&asked, &message).await {
            Ok(None) => mcp_response_result::Result::Pass(Pass {}),
            Ok(Some(result)) => mcp_response_result::Result::Mutated(result),
            Err(answer) => mcp_response_result::Result::Error(refused(answer)),
        };
        Ok(Response::new(McpResponseResult { result: Some(result) }))
    }
}

impl Edge {
    /// Decides a message for each server that it goes to: all of them, or it goes to none.
    async fn every(&self, asked: &Asked, question: Result<Question<'_>, Error>) -> Ruling {
        match question {
            Ok(Question { shown, messages }) => self.ruling_of_all(asked, &shown, &messages).await,
            Err(error) => Ruling::Answer(Answer::refused(&error)),
        }
    }

    /// What a client is shown of a result that came: of a list of tools those that its grant has scopes for, of the rest
    /// all; and none once its credential is over.
    async fn answered(&self, asked: &Asked, message: &McpResponse) -> Result<Option<Vec<u8>>, Answer> {
        if message.method == UNASKED {
            return match self.every(asked, Question::of_result(message)).await {
                Ruling::Through(_) => Ok(None),
                Ruling::Answer(answer) => Err(answer),
            };
        }
        self.listed(asked, message).map_err(|error| Answer::refused(&error))
    }
}

/// The request goes on without what the client proved itself by. The gateway removes after it has set.
fn passed(through: Through, headers: &Headers) -> HeaderMutation {
    let mut remove = vec!["authorization".to_owned(), "dpop".to_owned(), TICKET.to_owned()];
    remove.extend(headers.names().filter(|name| name.starts_with(OURS)).map(str::to_owned));
    remove.retain(|name| through.set.iter().all(|(set, _)| set != name));
    remove.sort_unstable();
    remove.dedup();
    let set = through.set.into_iter().map(|(key, value)| McpHeader { key, value: value.into_bytes() }).collect();
    HeaderMutation { set, remove }
}

fn refused(answer: Answer) -> AuthorizationError {
    let kind = match answer.code.as_str() {
        "malformed" | "missing" | "body_malformed" | "route_malformed" | "method_unknown" => Kind::Invalid,
        "quota_exceeded" | "queue_full" => Kind::ResourceExhausted,
        _ => Kind::PermissionDenied,
    };
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_else(|_| json!({}));
    let data = body.get("error").map(|error| error.to_string().into_bytes());
    AuthorizationError { code: kind.into(), reason: answer.message, mcp_error: data }
}
