//! Calls decided, one by one or over a stream, and what became of them.

use tonic::{Request, Response, Status, Streaming};

use super::deciding::{Deciding, Messages};
use super::dpop::AUTHORIZE;
use super::tokens::possession;
use super::{Edge, metrics, open, weights};
use crate::broker::{Asked, Authorized, Listed, Presented, Wanted, What};
use crate::domain::catalog::{Body, HttpRequest, McpMessage};
use crate::domain::decide::{Reason, ReportOutcome};
use crate::domain::error::Error;
use crate::domain::scope::{Args, Call};
use crate::measure::Stopwatch;
use crate::wire::v1::{self, decisions_server::Decisions};

#[tonic::async_trait]
impl Decisions for Edge {
    type StreamStream = Messages;

    async fn authorize(
        &self,
        request: Request<v1::AuthorizeRequest>,
    ) -> Result<Response<v1::AuthorizeResponse>, Status> {
        let (asked, body) = open(request)?;
        let authorized = self.decide(&asked, &body).await?;
        Ok(Response::new(decided(authorized)))
    }

    async fn stream(&self, request: Request<Streaming<v1::DecisionRequest>>) -> Result<Response<Messages>, Status> {
        let (asked, requests) = open(request)?;
        let room = self.0.open_stream(&asked.caller)?;
        Ok(Response::new(Deciding::begin(self.clone(), asked, requests, room)))
    }

    async fn report(&self, request: Request<v1::ReportRequest>) -> Result<Response<v1::ReportResponse>, Status> {
        let (asked, body) = open(request)?;
        Ok(Response::new(self.reported(&asked, &body).await?))
    }

    async fn list_tools(
        &self,
        request: Request<v1::ListToolsRequest>,
    ) -> Result<Response<v1::ListToolsResponse>, Status> {
        let (asked, body) = open(request)?;
        let presenter = self.asserted(&asked, &body.presenter)?;
        let shown = Presented { token: &body.token, presenter, proof: None };
        let tools: Vec<_> = body
            .tools
            .iter()
            .map(|tool| Listed { server: &body.server, name: &tool.name, schema: &tool.schema_digest })
            .collect();
        let within = self.0.tools_within(&asked, &shown, &tools)?;
        let names = tools.iter().zip(within).filter(|(_, within)| *within).map(|(tool, _)| tool.name.to_owned());
        Ok(Response::new(v1::ListToolsResponse { names: names.collect() }))
    }
}

impl Edge {
    /// Decides what a message asks.
    pub(super) async fn decide(&self, asked: &Asked, body: &v1::AuthorizeRequest) -> Result<Authorized, Error> {
        self.decide_for(asked, body, |wanted| wanted).await
    }

    /// The same for who wants more with it.
    pub(super) async fn decide_for(
        &self,
        asked: &Asked,
        body: &v1::AuthorizeRequest,
        more: impl for<'a> FnOnce(Wanted<'a>) -> Wanted<'a>,
    ) -> Result<Authorized, Error> {
        let what = what(body)?;
        self.decide_what(asked, body, what, more).await
    }

    /// The same for a question that cannot be allowed, whatever its credential is: it is denied and recorded for this
    /// reason, unless the credential is at fault first.
    pub(super) async fn refuse(
        &self,
        asked: &Asked,
        body: &v1::AuthorizeRequest,
        reason: Reason,
    ) -> Result<Authorized, Error> {
        self.decide_what(asked, body, What::Refused(reason), |wanted| wanted).await
    }

    async fn decide_what(
        &self,
        asked: &Asked,
        body: &v1::AuthorizeRequest,
        what: What<'_>,
        more: impl for<'a> FnOnce(Wanted<'a>) -> Wanted<'a>,
    ) -> Result<Authorized, Error> {
        let since = Stopwatch::start();
        let shown = self.shown(asked, body)?;
        let (key, ticket, redeem) = (body.idempotency_key.as_str(), body.ticket, body.redeem.as_str());
        let schema = body.mcp.as_ref().map_or("", |message| &message.schema_digest);
        let wanted = Wanted { key, ticket, redeem, schema, ..Wanted::only(what) };
        let authorized = self.0.authorize(asked, shown, more(wanted)).await?;
        metrics::decided(&authorized, since);
        Ok(authorized)
    }

    /// Decides a message for each server that it goes to, as one: unless all are allowed, none counts as made.
    pub(super) async fn decide_all(
        &self,
        asked: &Asked,
        body: &v1::AuthorizeRequest,
        messages: &[McpMessage<'_>],
    ) -> Result<Vec<Authorized>, Error> {
        let since = Stopwatch::start();
        let shown = self.shown(asked, body)?;
        let redeem = body.redeem.as_str();
        let wanted = messages.iter().map(|message| Wanted { redeem, ..Wanted::only(What::Mcp(*message)) });
        let decided = self.0.authorize_all(asked, shown, wanted.collect()).await?;
        decided.iter().for_each(|authorized| metrics::decided(authorized, since));
        Ok(decided)
    }

    fn shown<'a>(&self, asked: &Asked, body: &'a v1::AuthorizeRequest) -> Result<Presented<'a>, Error> {
        let presenter = self.asserted(asked, &body.presenter)?;
        let proof = self.proof(asked, body.dpop.as_ref(), AUTHORIZE)?;
        Ok(Presented { token: &body.token, presenter, proof })
    }

    /// Records what became of a call.
    pub(super) async fn reported(&self, asked: &Asked, body: &v1::ReportRequest) -> Result<v1::ReportResponse, Error> {
        let command = ReportOutcome {
            id: body.invocation.parse().map_err(|error: Error| error.on("invocation"))?,
            outcome: body.outcome.parse()?,
            detail: match body.detail.as_str() {
                "" => None,
                detail => Some(detail.parse().map_err(|error: Error| error.on("detail"))?),
            },
        };
        let (invocation, outcome) = (command.id.to_string(), command.outcome.to_string());
        let told = self.0.submit(asked, command).await?;
        Ok(v1::ReportResponse { invocation, outcome, refunded: told.refunded })
    }
}

/// What is asked about: a call by its parts, or a request or a message that makes one.
fn what(body: &v1::AuthorizeRequest) -> Result<What<'_>, Error> {
    let parts = [&body.tool, &body.action, &body.resource, &body.args, &body.destination];
    let by_parts = parts.iter().any(|part| !part.is_empty());
    match (&body.http, &body.mcp) {
        (None, None) => call(body).map(What::Call),
        (Some(request), None) if !by_parts => http(request).map(What::Http),
        (None, Some(message)) if !by_parts => Ok(What::Mcp(McpMessage {
            server: &message.server,
            method: &message.method,
            params: Some(message.params.as_str()).filter(|params| !params.is_empty()),
        })),
        _ => Err(Error::malformed(
            "tool",
            &body.tool,
            "ask about a call, an http request or an mcp message: one of them",
        )),
    }
}

fn http(request: &v1::HttpRequest) -> Result<HttpRequest<'_>, Error> {
    let body = match request.body_state.as_str() {
        "" | "complete" => Body::Complete(&request.body),
        "truncated" => Body::Truncated,
        "withheld" => Body::Withheld,
        "not_json" => Body::NotJson,
        other => {
            let why = "expected complete, truncated, withheld or not_json";
            return Err(Error::malformed("body_state", other, why));
        }
    };
    let scheme = if request.scheme.is_empty() { "https" } else { &request.scheme };
    Ok(HttpRequest { method: &request.method, scheme, host: &request.host, path: &request.path, body })
}

/// The call of a request; what is left out is not given.
pub(super) fn call(body: &v1::AuthorizeRequest) -> Result<Call, Error> {
    let mut call = Call::parse(&body.tool, &body.action, &body.resource)?;
    if !body.args.is_empty() {
        call = call.with_args(Args::parse(&body.args)?);
    }
    if !body.destination.is_empty() {
        call = call.with_destination(&body.destination)?;
    }
    Ok(call)
}

/// A verdict as it is sent.
pub(super) fn decided(authorized: Authorized) -> v1::AuthorizeResponse {
    let Authorized { id, verdict, proven, call, ticket, nonce, .. } = authorized;
    let (ticket, ticket_expires_at) = ticket.map(|one| (one.ticket, one.expires_at.to_string())).unwrap_or_default();
    v1::AuthorizeResponse {
        decision: verdict.decision().to_owned(),
        id: id.to_string(),
        grant: verdict.grant.map_or_else(String::new, |grant| grant.to_string()),
        possession: possession(proven),
        policy: (verdict.decided.version > 0).then(|| weights::decided(&verdict.decided)),
        reasons: verdict.reasons.into_iter().map(reason).collect(),
        call: call.map_or_else(String::new, |call| call.to_string()),
        ticket,
        ticket_expires_at,
        dpop_nonce: nonce.unwrap_or_default(),
        approval: String::new(),
    }
}

pub(super) fn reason(Reason { code, message }: Reason) -> v1::Reason {
    v1::Reason { code: code.to_owned(), message }
}
