//! What of a server's tools a client is shown.

use serde_json::Value;

use super::question::text_of;
use crate::broker::{Asked, Listed, Presented};
use crate::domain::error::{Code, Error};
use crate::edge::Edge;
use crate::edge::shown::certificate;
use crate::wire::ext_mcp::McpResponse;

impl Edge {
    /// The list of tools in a result, cut down to those that its client may call somehow; none if the result is no such
    /// list. The request for it was decided, with the proof that it brought.
    ///
    /// # Errors
    /// The client's credential is none, is over, or is not for who asks; the list is none.
    pub(super) fn listed(&self, asked: &Asked, message: &McpResponse) -> Result<Option<Vec<u8>>, Error> {
        let context = |name: &str| text_of(message.metadata_context.as_ref(), name);
        let authorization = context("authorization");
        let token = authorization.split_once(' ').map_or("", |(_, token)| token.trim());
        let presenter = self.asserted(asked, &certificate(&context("certificate"))?)?;
        let shown = Presented { token, presenter, proof: None };
        if message.method != "tools/list" {
            return self.0.tools_answered(asked, &shown, &[]).map(|_| None);
        }
        let mut result: Value = serde_json::from_slice(&message.mcp_response).map_err(|_| malformed())?;
        let tools = result.get_mut("tools").and_then(Value::as_array_mut).ok_or_else(malformed)?;
        let names: Vec<&str> = tools.iter().map(|tool| tool["name"].as_str().unwrap_or_default()).collect();
        let meant: Vec<Vec<Listed<'_>>> =
            names.iter().map(|name| of_server(&message.service_names, name).collect()).collect();
        let mut within = self.0.tools_answered(asked, &shown, &meant.concat())?.into_iter();
        let kept: Vec<bool> =
            meant.iter().map(|meant| within.by_ref().take(meant.len()).fold(false, |any, one| any | one)).collect();
        let mut kept = kept.into_iter();
        tools.retain(|_| kept.next() == Some(true));
        Ok(Some(result.to_string().into_bytes()))
    }
}

/// Which server's tool a name may be: of several, the gateway puts the server's own name before it.
fn of_server<'a>(servers: &'a [String], name: &'a str) -> impl Iterator<Item = Listed<'a>> {
    let several = servers.len() > 1;
    servers.iter().filter_map(move |server| {
        let own = if several { name.strip_prefix(server.as_str())?.strip_prefix('_')? } else { name };
        Some(Listed { server, name: own, schema: "" })
    })
}

fn malformed() -> Error {
    Error::new(Code::Invalid, "body_malformed", "the server's list of tools is no list of tools")
}
