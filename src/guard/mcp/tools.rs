//! The server's tools: which of them the client sees, and whether they are what they were.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::message::{Id, Message};
use super::pins::{Known, schema};
use super::request::Denied;
use super::{Session, State};
use crate::client::{Refusal, made_up_key};
use crate::guard::unavailable;
use crate::wire::v1::decisions_client::DecisionsClient;
use crate::wire::v1::{ListToolsRequest, McpTool};

/// The server and the broker have so long to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Pages of one list of tools.
const PAGES: usize = 64;

impl Session {
    /// The digest of the input schema of the tool that is to be called. Tools that were never looked at, or may have
    /// changed since, are looked at first.
    pub(super) async fn schema(&self, params: &str) -> Result<String, Denied> {
        let params: Value = serde_json::from_str(params).unwrap_or_default();
        let Some(name) = params["name"].as_str() else {
            return Err(Denied::new("body_malformed", "a tools/call has params with the name of a tool"));
        };
        if !self.state(|state| state.pins.are_fresh() && state.pins.known(name) != Known::Never) {
            self.look(&params["_meta"]).await?;
        }
        match self.state(|state| state.pins.known(name)) {
            Known::Same(digest) => Ok(digest),
            Known::Changed => Err(Denied::new(
                "schema_changed",
                "the tool is not what it was when it was first shown: its schema or its description changed, and a \
                 human has to look at it",
            )),
            Known::Never => Err(Denied::new("tool_unknown", "the server does not show a tool of this name")),
        }
    }

    /// Looks at all tools of the server, in the client's version of the protocol: newer ones say it with each message.
    async fn look(&self, meta: &Value) -> Result<(), Denied> {
        let _alone = self.looking.lock().await;
        let said = self.state(|state| state.pins.said());
        let mut cursor = Value::Null;
        for _ in 0..PAGES {
            let mut params = json!({});
            if let Some(mut meta) = meta.as_object().cloned() {
                meta.remove("progressToken");
                params["_meta"] = Value::Object(meta);
            }
            if cursor.is_string() {
                params["cursor"] = cursor;
            }
            let answer = self.ask("tools/list", &params).await;
            let page: Value = answer.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
            let Some(tools) = page["tools"].as_array() else {
                return Err(Denied::new("tools_unknown", "the server does not say which tools it has"));
            };
            self.state(|state| state.pins.see(tools));
            cursor = page["nextCursor"].clone();
            if !cursor.is_string() {
                self.state(|state| state.pins.looked(said));
                return Ok(());
            }
        }
        Err(Denied::new("tools_unknown", "the server's list of tools does not end"))
    }

    /// A question of the guard's own to the server.
    async fn ask(&self, method: &str, params: &Value) -> Result<String, String> {
        let (asked, answered) = oneshot::channel();
        let id = self.state(|state| {
            state.own += 1;
            // Nobody else makes up such an id.
            let id = Id::own(&format!("belay-{}-{}", state.own, made_up_key()));
            state.asked.insert(id.clone(), asked);
            id
        });
        let message = Message::Request { id: id.clone(), method: method.to_owned(), params: params.to_string() };
        let answer = match self.pass(&message).await {
            true => timeout(ANSWER, answered).await.ok().and_then(Result::ok),
            false => None,
        };
        self.state(|state: &mut State| state.asked.remove(&id));
        answer.unwrap_or_else(|| Err("no answer".to_owned()))
    }

    /// A list of tools without those that are out of reach, or have changed: the answer to the client.
    pub(super) async fn within_reach(&self, result: &str) -> Result<Result<String, String>, Denied> {
        let Ok(mut result) = serde_json::from_str::<Value>(result) else {
            return Err(Denied::new("tools_unknown", "the server's list of tools is none"));
        };
        let tools = match result.get_mut("tools").map(Value::take) {
            Some(Value::Array(tools)) => tools,
            _ => return Err(Denied::new("tools_unknown", "the server's list of tools is none")),
        };
        self.state(|state| state.pins.see(&tools));
        let same = |tool: &Value| {
            let name = tool["name"].as_str()?;
            let known = self.state(|state| state.pins.known(name));
            (known == Known::Same(schema(tool))).then(|| name.to_owned())
        };
        let tools: Vec<(String, Value)> = tools.into_iter().filter_map(|tool| Some((same(&tool)?, tool))).collect();
        let names = self.reach(&tools).await.map_err(|refusal| self.refused(refusal))?;
        let shown = tools.into_iter().filter(|(name, _)| names.contains(name)).map(|(_, tool)| tool);
        result["tools"] = Value::Array(shown.collect());
        Ok(Ok(result.to_string()))
    }

    async fn reach(&self, tools: &[(String, Value)]) -> Result<Vec<String>, Refusal> {
        let access: Arc<_> = self.authority.access();
        let tools = tools.iter().map(|(name, tool)| McpTool { name: name.clone(), schema_digest: schema(tool) });
        let request = ListToolsRequest {
            token: access.token.clone(),
            server: self.server.clone(),
            tools: tools.collect(),
            ..ListToolsRequest::default()
        };
        let mut decisions = DecisionsClient::new(access.channel.clone());
        let listed = timeout(ANSWER, decisions.list_tools(request)).await;
        let listed = listed.map_err(|_| unavailable("the broker did not answer within 10 s"))??;
        Ok(listed.into_inner().names)
    }
}
