//! agentgateway's `ExtMcp`, at the level of its protocol: every method is decided, and a list shows what may be called.

use belay::wire::ext_mcp::authorization_error::Code;
use belay::wire::ext_mcp::ext_mcp_client::ExtMcpClient;
use belay::wire::ext_mcp::mcp_request_result::Result as Asked;
use belay::wire::ext_mcp::mcp_response_result::Result as Shown;
use belay::wire::ext_mcp::{McpHeader, McpRequest, McpRequestResult, McpResponse};
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::support::front::Front;

/// The gateway, with the agent's request in hand.
struct Gateway {
    front: Front,
    client: ExtMcpClient<Channel>,
}

impl Gateway {
    async fn new() -> Self {
        let front = Front::usual().await;
        let client = ExtMcpClient::new(front.broker.channel_as(&front.pep).await.unwrap());
        Self { front, client }
    }

    fn context(&self, more: &[(&str, String)]) -> Option<prost_types::Struct> {
        let text = |text: String| prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(text)) };
        let mut fields = vec![("certificate", self.front.certificate())];
        fields.extend(more.iter().cloned());
        Some(prost_types::Struct {
            fields: fields.into_iter().map(|(name, value)| (name.to_owned(), text(value))).collect(),
        })
    }

    async fn ask(
        &self,
        servers: &[&str],
        method: &str,
        params: Option<Value>,
        more: &[(&str, &str)],
    ) -> McpRequestResult {
        let bearer = self.front.bearer();
        let usual = [(":method", "POST"), (":path", "/mcp"), ("authorization", bearer.as_str())];
        let header =
            |(key, value): &(&str, &str)| McpHeader { key: (*key).to_owned(), value: value.as_bytes().to_vec() };
        let request = McpRequest {
            service_names: servers.iter().map(ToString::to_string).collect(),
            method: method.to_owned(),
            metadata_context: self.context(&[]),
            mcp_request: params.map(|params| params.to_string().into_bytes()),
            headers: usual.iter().chain(more).map(header).collect(),
        };
        self.client.clone().check_request(request).await.unwrap().into_inner()
    }

    /// The kind and the code of a refusal; `pass` if it is none.
    async fn verdict(&self, servers: &[&str], method: &str, params: Option<Value>) -> (Code, String) {
        let answer = self.ask(servers, method, params, &[]).await;
        match answer.result.expect("an answer without a result") {
            Asked::Pass(_) => (Code::Unknown, "pass".to_owned()),
            Asked::Error(error) => {
                assert!(answer.header_mutation.is_none() && !error.reason.is_empty());
                let data: Value = serde_json::from_slice(&error.mcp_error.clone().unwrap()).unwrap();
                (error.code(), data["code"].as_str().unwrap().to_owned())
            }
            Asked::Mutated(_) => panic!("nothing is rewritten"),
        }
    }

    async fn shown(&self, response: McpResponse) -> Shown {
        self.client
            .clone()
            .check_response(response)
            .await
            .unwrap()
            .into_inner()
            .result
            .expect("an answer without a result")
    }

    async fn list(&self, servers: &[&str], tools: &[&str], token: Option<&str>) -> Result<Vec<String>, String> {
        let token = token.map(|token| ("authorization", format!("Bearer {token}")));
        let tools: Vec<_> = tools.iter().map(|name| json!({ "name": name, "inputSchema": {} })).collect();
        let request = McpResponse {
            service_names: servers.iter().map(ToString::to_string).collect(),
            method: "tools/list".to_owned(),
            metadata_context: self.context(token.as_slice()),
            mcp_response: json!({ "tools": tools, "nextCursor": "more" }).to_string().into_bytes(),
        };
        match self.shown(request).await {
            Shown::Mutated(result) => {
                let result: Value = serde_json::from_slice(&result).unwrap();
                assert_eq!(result["nextCursor"], "more");
                let name = |tool: &Value| tool["name"].as_str().unwrap().to_owned();
                Ok(result["tools"].as_array().unwrap().iter().map(name).collect())
            }
            Shown::Error(error) => Err(error.reason),
            Shown::Pass(_) => panic!("a list went by unseen"),
        }
    }
}

#[tokio::test]
async fn every_method_of_an_mcp_client_is_decided_for_agentgateway() {
    let gateway = Gateway::new().await;
    let pass = (Code::Unknown, "pass".to_owned());
    let denied = |code: &str| (Code::PermissionDenied, code.to_owned());
    let call = |name: &str| Some(json!({ "name": name, "arguments": {} }));
    assert_eq!(gateway.verdict(&["files"], "tools/call", call("read")).await, pass);
    assert_eq!(gateway.verdict(&["files"], "tools/call", call("write")).await, denied("out_of_scope"));
    assert_eq!(gateway.verdict(&["other"], "tools/call", call("read")).await, denied("out_of_scope"));
    for session in ["initialize", "ping", "tools/list", "notifications/initialized", "logging/setLevel"] {
        assert_eq!(gateway.verdict(&["files"], session, None).await, pass, "{session}");
        assert_eq!(gateway.verdict(&["other"], session, None).await, denied("out_of_scope"), "{session}");
    }
    for other in [
        "prompts/list", "prompts/get", "resources/list", "resources/read", "resources/subscribe",
        "resources/templates/list", "completion/complete", "sampling/createMessage", "elicitation/create",
        "roots/list", "tasks/get", "tasks/cancel", "tools/delete", "something/new",
    ] {
        assert_eq!(gateway.verdict(&["files"], other, None).await, denied("out_of_scope"), "{other}");
    }
    // What goes to several servers goes to all of them, or to none.
    assert_eq!(gateway.verdict(&["files", "other"], "tools/list", None).await, denied("out_of_scope"));
    assert_eq!(gateway.verdict(&["files", "orders"], "tools/list", None).await, pass);
    for (servers, method, params) in [
        (&[][..], "tools/call", call("read")),
        (&["files"], "tools/call", None),
        (&["files"], "tools/call", Some(json!([]))),
        (&["files"], "tools/call", Some(json!({ "arguments": {} }))),
        (&["files"], "", None),
    ] {
        let (kind, code) = gateway.verdict(servers, method, params.clone()).await;
        assert!(kind != Code::Unknown, "{servers:?} {method} {params:?}: {code}");
    }
}

#[tokio::test]
async fn agentgateway_passes_on_who_calls_and_nothing_that_the_client_proved_itself_by() {
    let gateway = Gateway::new().await;
    let forged = [("X-Belay-Agent", "root"), ("x-belay-role", "admin")];
    let params = Some(json!({ "name": "read" }));
    let answer = gateway.ask(&["files"], "tools/call", params, &forged).await;
    assert!(matches!(answer.result, Some(Asked::Pass(_))), "{answer:?}");
    let mutation = answer.header_mutation.unwrap();
    let set = |name: &str| {
        let found = mutation.set.iter().find(|header| header.key == name);
        String::from_utf8(found.unwrap_or_else(|| panic!("no {name}")).value.clone()).unwrap()
    };
    assert_eq!((set("x-belay-agent"), set("x-belay-chain")), ("ana".to_owned(), "ana".to_owned()));
    assert_eq!(set("x-belay-grant"), gateway.front.grant);
    for gone in ["authorization", "dpop", "x-belay-ticket", "x-belay-role"] {
        assert!(mutation.remove.iter().any(|name| name == gone), "{gone}: {mutation:?}");
    }
    assert!(!mutation.remove.iter().any(|name| name == "x-belay-agent"), "it would be removed after it was set");
}

#[tokio::test]
async fn a_list_shows_agentgateways_client_the_tools_that_its_grant_allows() {
    let gateway = Gateway::new().await;
    let token = gateway.front.token.clone();
    let all = ["read", "write", "mcp.tools.list", "Read It"];
    assert_eq!(gateway.list(&["files"], &all, Some(&token)).await.unwrap(), ["read"]);
    assert!(gateway.list(&["other"], &all, Some(&token)).await.unwrap().is_empty());
    let several = ["files_read", "files_write", "other_read", "read"];
    assert_eq!(gateway.list(&["files", "other"], &several, Some(&token)).await.unwrap(), ["files_read"]);
    for wrong in [None, Some("x"), Some(&format!("{token}x")[..])] {
        assert!(gateway.list(&["files"], &all, wrong).await.is_err(), "{wrong:?}");
    }
    // Of what is not asked about before it is sent, nothing comes back; of the rest, all.
    let result = async |method: &str| {
        let context = gateway.context(&[("authorization", gateway.front.bearer())]);
        let (service_names, mcp_response) = (vec!["files".to_owned()], b"{}".to_vec());
        gateway
            .shown(McpResponse { service_names, method: method.to_owned(), metadata_context: context, mcp_response })
            .await
    };
    assert!(matches!(result("tools/call").await, Shown::Pass(_)));
    assert!(matches!(result("completion/complete").await, Shown::Error(_)));
    gateway.front.broker.run(&["revoke", &gateway.front.grant, "--reason", "testing"]).ok();
    assert!(matches!(result("tools/call").await, Shown::Error(_)));
    assert!(gateway.list(&["files"], &all, Some(&token)).await.unwrap_err().contains("revoked"));
}
