//! Envoy's `ext_authz`: each request that comes to it, decided before it goes on.
//!
//! To Envoy an empty answer is a yes. So there is one constructor, which makes a yes of an allowing ruling and of nothing
//! else; and whatever goes wrong here is answered as a denial, never as an error that a setting of Envoy's may pass over.

use tonic::{Code, Request, Response, Status};

use super::ruling::{Answer, Ruling, Through};
use super::shown::{Headers, OURS, Shown, TICKET, certificate};
use super::{Edge, open};
use crate::domain::error::Error;
use crate::wire::envoy::authorization_server::Authorization;
use crate::wire::envoy::check_response::HttpResponse;
use crate::wire::envoy::{
    Append, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValue, HeaderValueOption, HttpRequest, HttpStatus,
    OkHttpResponse, Status as Verdict,
};
use crate::wire::v1;

/// What Envoy says beside a body that it looked into: whether there was more.
const PARTIAL: &str = "x-envoy-auth-partial-body";

#[tonic::async_trait]
impl Authorization for Edge {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let (asked, check) = open(request)?;
        let http = check.attributes.as_ref().and_then(|all| all.request.as_ref()?.http.as_ref());
        let headers = http.map(Headers::from);
        let ruling = match (http, &headers) {
            (Some(http), Some(headers)) => self.ruling(&asked, question(&check, http, headers), true).await,
            _ => Ruling::Answer(Answer::refused(&Error::missing("attributes.request.http"))),
        };
        Ok(Response::new(response(ruling, headers.as_ref())))
    }
}

fn question(check: &CheckRequest, http: &HttpRequest, headers: &Headers) -> Result<v1::AuthorizeRequest, Error> {
    let source = check.attributes.as_ref().and_then(|all| all.source.as_ref());
    let presenter = certificate(source.map_or("", |source| &source.certificate))?;
    let url = format!("{}://{}{}", http.scheme, http.host, http.path);
    let (body, state) = body(http, headers)?;
    let seen = v1::HttpRequest {
        method: http.method.clone(),
        host: http.host.clone(),
        path: http.path.clone(),
        body: body.to_vec(),
        body_state: state.to_owned(),
        scheme: http.scheme.clone(),
    };
    agrees(headers, body)?;
    let asked = Shown::of(headers)?.asks(&http.method, &url);
    Ok(v1::AuthorizeRequest { presenter, http: Some(seen), ..asked })
}

/// The body, and whether it is all of it. Envoy shows what it has buffered, so that a body counts as complete only where
/// it is as long as the client said that it would be.
fn body<'a>(http: &'a HttpRequest, headers: &Headers) -> Result<(&'a [u8], &'static str), Error> {
    let body = if http.raw_body.is_empty() { http.body.as_bytes() } else { &http.raw_body };
    let said = headers.single("content-length")?;
    let whole = said.and_then(|said| said.parse().ok()) == Some(body.len());
    Ok(match headers.one(PARTIAL)? {
        Some("false") if whole && !body.is_empty() && !is_plain(headers)? => (body, "not_json"),
        Some("false") if whole && !body.is_empty() => (body, "complete"),
        // Nothing was sent, and the client said so. Without such a word Envoy may not have looked.
        _ if body.is_empty() && said == Some("0") => (body, "complete"),
        _ if body.is_empty() => (body, "withheld"),
        _ => (body, "truncated"),
    })
}

/// Whether a body is said to be JSON, as it stands there. A service that believes what the header says reads another
/// thing in the same bytes.
fn is_plain(headers: &Headers) -> Result<bool, Error> {
    let kind = headers.single("content-type")?.unwrap_or_default().to_ascii_lowercase();
    let (kind, parameters) = kind.split_once(';').map_or((kind.trim(), ""), |(kind, more)| (kind.trim(), more.trim()));
    // In another charset the same bytes are another text.
    if !matches!(parameters, "" | "charset=utf-8" | "charset=\"utf-8\"") {
        return Ok(false);
    }
    let coded = headers.one("content-encoding")?.is_some_and(|coding| coding != "identity");
    Ok(!coded && (kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json")))
}

/// Holds unless the headers by which MCP servers route a message (`Mcp-Method`, `Mcp-Name`) say another thing than the
/// message.
fn agrees(headers: &Headers, body: &[u8]) -> Result<(), Error> {
    let (method, name) = (headers.single("mcp-method")?, headers.single("mcp-name")?);
    if method.is_none() && name.is_none() {
        return Ok(());
    }
    let message: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let params = &message["params"];
    let named = params.get("name").or_else(|| params.get("uri")).unwrap_or(&serde_json::Value::Null);
    let differs = |said: Option<&str>, is: &serde_json::Value| said.is_some_and(|said| is.as_str() != Some(said));
    match differs(method, &message["method"]) || differs(name, named) {
        true => {
            Err(Error::denied("mcp_mismatch", "the headers of the message name another method or tool than its body"))
        }
        false => Ok(()),
    }
}

/// The one constructor of an answer.
fn response(ruling: Ruling, headers: Option<&Headers>) -> CheckResponse {
    let verdict = |code: Code, message: &str| Some(Verdict { code: code.into(), message: message.to_owned() });
    match ruling {
        Ruling::Through(through) => CheckResponse {
            status: verdict(Code::Ok, ""),
            http_response: Some(HttpResponse::OkResponse(passed(through, headers))),
        },
        Ruling::Answer(answer) => CheckResponse {
            status: verdict(Code::PermissionDenied, &answer.code),
            http_response: Some(HttpResponse::DeniedResponse(DeniedHttpResponse {
                status: Some(HttpStatus { code: answer.status.as_u16().into() }),
                headers: answer.headers.into_iter().map(|(name, value)| set(name.to_owned(), value)).collect(),
                body: answer.body,
            })),
        },
    }
}

/// The request goes on without what the client proved itself by. Envoy removes after it has set.
fn passed(through: Through, headers: Option<&Headers>) -> OkHttpResponse {
    let mut remove = vec!["authorization".to_owned(), "dpop".to_owned(), TICKET.to_owned()];
    // To services behind CGI and its like `_` and `-` are one.
    let same = |name: &str| name.replace('_', "-");
    let is_set = |name: &str| through.set.iter().any(|(set, _)| same(set) == same(name));
    let forged =
        headers.into_iter().flat_map(Headers::names).filter(|name| same(name).starts_with(OURS) || is_set(name));
    remove.extend(forged.map(str::to_owned));
    remove.retain(|name| through.set.iter().all(|(set, _)| set != name));
    remove.sort_unstable();
    remove.dedup();
    let headers = through.set.into_iter().map(|(name, value)| set(name, value)).collect();
    OkHttpResponse { headers, headers_to_remove: remove }
}

fn set(key: String, value: String) -> HeaderValueOption {
    let header = Some(HeaderValue { key, value, ..Default::default() });
    HeaderValueOption { header, append_action: Append::OverwriteIfExistsOrAdd.into() }
}
