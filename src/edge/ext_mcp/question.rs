//! What the gateway asks: a message, its servers, and what the client showed with it.

use crate::domain::catalog::McpMessage;
use crate::domain::error::{Code, Error};
use crate::edge::shown::{Headers, Shown, certificate};
use crate::wire::ext_mcp::{McpHeader, McpRequest, McpResponse};
use crate::wire::v1;

/// Servers that one message goes to, at most.
const SERVERS: usize = 64;

/// A message, once for each server that it goes to.
pub(super) struct Question<'a> {
    /// What was shown with it.
    pub shown: v1::AuthorizeRequest,
    /// What it is to each.
    pub messages: Vec<McpMessage<'a>>,
}

impl<'a> Question<'a> {
    /// One that is to be sent.
    ///
    /// # Errors
    /// It goes to no server, or to more than 64; its params are no text; what was shown cannot be read.
    pub fn of(message: &'a McpRequest, headers: &Headers) -> Result<Self, Error> {
        let params = message.mcp_request.as_deref().map(std::str::from_utf8).transpose();
        let params =
            params.map_err(|_| Error::new(Code::Invalid, "body_malformed", "the params of the message are no text"))?;
        let pseudo = |name: &str| Ok::<_, Error>(headers.one(name)?.unwrap_or_default().to_owned());
        let url = format!("{}://{}{}", pseudo(":scheme")?, pseudo(":authority")?, pseudo(":path")?);
        let shown = Shown::of(headers)?.asks(&pseudo(":method")?, &url);
        let presenter = certificate(&text_of(message.metadata_context.as_ref(), "certificate"))?;
        let messages = messages(&message.service_names, &message.method, params)?;
        Ok(Self { shown: v1::AuthorizeRequest { presenter, ..shown }, messages })
    }

    /// One that was sent unasked, by its result: that comes without headers and params, so what was shown with the
    /// message stands in what the gateway's configuration adds.
    ///
    /// # Errors
    /// As [`Question::of`].
    pub fn of_result(message: &'a McpResponse) -> Result<Self, Error> {
        let text = |name: &str| text_of(message.metadata_context.as_ref(), name);
        let header = |name: &str| McpHeader { key: name.to_owned(), value: text(name).into_bytes() };
        let headers = Headers::from(&["authorization", "dpop"].map(header)[..]);
        let shown = Shown::of(&headers)?.asks(&text("method"), &text("url"));
        let presenter = certificate(&text("certificate"))?;
        let messages = messages(&message.service_names, &message.method, None)?;
        Ok(Self { shown: v1::AuthorizeRequest { presenter, ..shown }, messages })
    }
}

fn messages<'a>(servers: &'a [String], method: &'a str, params: Option<&'a str>) -> Result<Vec<McpMessage<'a>>, Error> {
    if servers.is_empty() {
        return Err(Error::missing("service_names"));
    }
    if servers.len() > SERVERS {
        let count = servers.len().to_string();
        return Err(Error::malformed("service_names", &count, "one message goes to at most 64 servers"));
    }
    Ok(servers.iter().map(|server| McpMessage { server, method, params }).collect())
}

/// A text that the gateway's configuration adds to each message.
pub(super) fn text_of(context: Option<&prost_types::Struct>, name: &str) -> String {
    use prost_types::value::Kind;
    match context.and_then(|context| context.fields.get(name)?.kind.as_ref()) {
        Some(Kind::StringValue(text)) => text.clone(),
        _ => String::new(),
    }
}
