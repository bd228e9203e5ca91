//! agentgateway's `ExtMcp`: each message of an MCP client, decided before it goes to its servers, and what of a server's
//! tools a client is shown. Every method is decided; none passes because nobody thought of it.

use serde_json::{Value, json};
use tonic::{Request, Response, Status};

use super::ruling::{Answer, Ruling, Through};
use super::shown::{Headers, OURS, Shown, TICKET, certificate};
use super::{Edge, open};
use crate::broker::{Asked, Presented};
use crate::domain::catalog::McpMessage;
use crate::domain::error::{Code, Error};
use crate::domain::scope::Scopes;
use crate::wire::ext_mcp::authorization_error::Code as Kind;
use crate::wire::ext_mcp::ext_mcp_server::ExtMcp;
use crate::wire::ext_mcp::{
    AuthorizationError, HeaderMutation, McpHeader, McpRequest, McpRequestResult, McpResponse, McpResponseResult, Pass,
    mcp_request_result, mcp_response_result,
};
use crate::wire::v1;

/// The method that the gateway does not ask about before it is sent.
const UNASKED: &str = "completion/complete";
/// Servers that one message goes to, at most.
const SERVERS: usize = 64;

#[tonic::async_trait]
impl ExtMcp for Edge {
    async fn check_request(&self, request: Request<McpRequest>) -> Result<Response<McpRequestResult>, Status> {
        let (asked, message) = open(request)?;
        let headers = Headers::from(&message.headers[..]);
        let result = match self.every(&asked, &message, &headers).await {
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
        let result = match self.shown_of(&asked, &message) {
            Ok(None) => mcp_response_result::Result::Pass(Pass {}),
            Ok(Some(result)) => mcp_response_result::Result::Mutated(result),
            Err(error) => mcp_response_result::Result::Error(refused(Answer::refused(&error))),
        };
        Ok(Response::new(McpResponseResult { result: Some(result) }))
    }
}

impl Edge {
    /// Decides a message for each server that it goes to: all of them, or it goes to none.
    async fn every(&self, asked: &Asked, message: &McpRequest, headers: &Headers) -> Ruling {
        let questions = match questions(message, headers) {
            Ok(questions) => questions,
            Err(error) => return Ruling::Answer(Answer::refused(&error)),
        };
        let mut last = Ruling::Answer(Answer::refused(&Error::missing("service_names")));
        for question in questions {
            last = self.ruling(asked, Ok(question), false).await;
            if let Ruling::Answer(_) = last {
                return last;
            }
        }
        last
    }

    /// What a client is shown of a result: of a list of tools those that its grant has scopes for, of the rest all.
    fn shown_of(&self, asked: &Asked, message: &McpResponse) -> Result<Option<Vec<u8>>, Error> {
        let context = |name: &str| text_of(message.metadata_context.as_ref(), name);
        let authorization = context("authorization");
        let token = authorization.split_once(' ').map_or("", |(_, token)| token.trim());
        let presenter = self.asserted(asked, &certificate(&context("certificate"))?)?;
        let scopes = self.0.offered(asked, &Presented { token, presenter, proof: None })?;
        match message.method.as_str() {
            "tools/list" => self.listed(message, &scopes).map(Some),
            UNASKED => self.completes(message, &scopes).map(|()| None),
            _ => Ok(None),
        }
    }

    fn listed(&self, message: &McpResponse, scopes: &Scopes) -> Result<Vec<u8>, Error> {
        let malformed =
            || Error::new(Code::Invalid, "body_malformed", "the server's list of tools is no list of tools");
        let mut result: Value = serde_json::from_slice(&message.mcp_response).map_err(|_| malformed())?;
        let tools = result.get_mut("tools").and_then(Value::as_array_mut).ok_or_else(malformed)?;
        self.0.ledger().view(|view| {
            tools.retain(|tool| {
                let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
                of_server(&message.service_names, name)
                    .any(|(server, name)| view.catalog().offers(scopes, server, name))
            });
        });
        Ok(result.to_string().into_bytes())
    }

    /// The one method that the gateway sends on without asking: its result is held back instead.
    fn completes(&self, message: &McpResponse, scopes: &Scopes) -> Result<(), Error> {
        let allowed = |server: &String| {
            let message = McpMessage { server, method: UNASKED, params: None };
            let call = self.0.ledger().view(|view| view.catalog().mcp(&message));
            call.is_ok_and(|call| scopes.allow(&call))
        };
        match !message.service_names.is_empty() && message.service_names.iter().all(allowed) {
            true => Ok(()),
            false => Err(Error::denied("out_of_scope", "no scope of the grant allows `mcp.completion.complete`")),
        }
    }
}

/// Which server's tool a name may be: of several, the gateway puts the server's own name before it.
fn of_server<'a>(servers: &'a [String], name: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let several = servers.len() > 1;
    servers.iter().filter_map(move |server| {
        let own = if several { name.strip_prefix(server.as_str())?.strip_prefix('_')? } else { name };
        Some((server.as_str(), own))
    })
}

fn questions(message: &McpRequest, headers: &Headers) -> Result<Vec<v1::AuthorizeRequest>, Error> {
    if message.service_names.len() > SERVERS {
        let count = message.service_names.len().to_string();
        return Err(Error::malformed("service_names", &count, "one message goes to at most 64 servers"));
    }
    let params = match &message.mcp_request {
        None => "",
        Some(params) => std::str::from_utf8(params)
            .map_err(|_| Error::new(Code::Invalid, "body_malformed", "the params of the message are no text"))?,
    };
    let presenter = certificate(&text_of(message.metadata_context.as_ref(), "certificate"))?;
    let pseudo = |name: &str| Ok::<_, Error>(headers.one(name)?.unwrap_or_default().to_owned());
    let (method, scheme) = (pseudo(":method")?, pseudo(":scheme")?);
    let url = format!("{scheme}://{}{}", pseudo(":authority")?, pseudo(":path")?);
    let ask = |server: &String| {
        let mcp = v1::McpRequest {
            server: server.clone(),
            method: message.method.clone(),
            params: params.to_owned(),
            ..Default::default()
        };
        let asked = Shown::of(headers)?.asks(&method, &url);
        Ok(v1::AuthorizeRequest { presenter: presenter.clone(), mcp: Some(mcp), ..asked })
    };
    message.service_names.iter().map(ask).collect()
}

/// A text that the gateway's configuration adds to each message.
fn text_of(context: Option<&prost_types::Struct>, name: &str) -> String {
    use prost_types::value::Kind;
    match context.and_then(|context| context.fields.get(name)?.kind.as_ref()) {
        Some(Kind::StringValue(text)) => text.clone(),
        _ => String::new(),
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
