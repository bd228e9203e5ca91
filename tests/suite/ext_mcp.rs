//! agentgateway's `ExtMcp`, at the level of its protocol: every method is decided, and a list shows what may be called.

use belay::client::ProofKey;
use belay::wire::ext_mcp::authorization_error::Code;
use belay::wire::ext_mcp::ext_mcp_client::ExtMcpClient;
use belay::wire::ext_mcp::mcp_request_result::Result as Asked;
use belay::wire::ext_mcp::mcp_response_result::Result as Shown;
use belay::wire::ext_mcp::{McpHeader, McpRequest, McpRequestResult, McpResponse};
use belay::wire::v1;
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::support::calls::Acting;
use crate::support::front::{AUDIENCE, Front, USUAL};
use crate::support::within;

/// Where the gateway is.
const PLACE: &str = "https://mcp.example/mcp";

/// The gateway, with the agent's request in hand.
struct Gateway {
    front: Front,
    client: ExtMcpClient<Channel>,
    /// What the request shows.
    authorization: String,
    /// For its next proof.
    nonce: String,
}

impl Gateway {
    async fn new() -> Self {
        Self::under(&USUAL).await
    }

    async fn under(scopes: &[&str]) -> Self {
        let front = Front::new(scopes).await;
        let client = ExtMcpClient::new(front.broker.channel_as(&front.pep).await.unwrap());
        let authorization = front.bearer();
        Self { front, client, authorization, nonce: String::new() }
    }

    /// From now on under another grant, within these limits.
    async fn limited(&mut self, scopes: &[&str], limits: &[&str]) {
        let ana = Acting::with(&self.front.broker, &self.front.agent).await;
        let [scopes, limits] = [scopes, limits].map(|texts| texts.iter().map(ToString::to_string).collect());
        let (task, audience) = (ana.task().await, AUDIENCE.to_owned());
        let request = v1::RequestGrantRequest { task, scopes, limits, audience, token: true, ..Default::default() };
        let granted = ana.request(request).await.unwrap().into_inner();
        self.authorization = format!("Bearer {}", granted.token.unwrap().token);
    }

    /// From now on with a token that is bound to a key.
    async fn bind(&mut self) {
        let ana = Acting::with(&self.front.broker, &self.front.agent).await;
        let place = format!("{}/belay.v1.Tokens/Issue", self.front.broker.addr);
        let proof = self.key().prove("POST", &place, None, None).unwrap();
        let dpop = Some(v1::DpopProof { proof, ..Default::default() });
        let request = v1::IssueTokenRequest { grant: self.front.grant.clone(), dpop, ..Default::default() };
        let made = v1::tokens_client::TokensClient::new(ana.0).issue(request).await.unwrap().into_inner();
        self.authorization = format!("DPoP {}", made.token);
        self.nonce = made.dpop_nonce;
    }

    fn key(&self) -> ProofKey {
        ProofKey::load_or_make(&self.front.broker.home.join("proof.pem")).unwrap()
    }

    /// What proves the token for one message.
    fn proof(&self) -> String {
        let token = self.authorization.strip_prefix("DPoP ").unwrap();
        self.key().prove("POST", PLACE, Some(token), Some(&self.nonce)).unwrap()
    }

    /// What the audit has of the calls of this action, in order: the decision, the code, and what became of it.
    async fn recorded(&self, action: &str, count: usize) -> Vec<[String; 3]> {
        within("calls are recorded", async || {
            let told = self.front.broker.run(&["audit", "calls"]).ok();
            let calls = told["calls"].as_array().unwrap();
            let of_it = calls.iter().filter(|call| call["call"].as_str().is_some_and(|call| call.contains(action)));
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let rows: Vec<_> = of_it
                .map(|call| [text(&call["decision"]), text(&call["reasons"][0]), text(&call["outcome"])])
                .collect();
            if rows.len() == count { Ok(rows) } else { Err(format!("{count} of {action} in {told}")) }
        })
        .await
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
        let usual = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "mcp.example"),
            (":path", "/mcp"),
            ("authorization", self.authorization.as_str()),
        ];
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
        self.shows(servers, method, params, &[]).await
    }

    /// The same with further headers.
    async fn shows(
        &self,
        servers: &[&str],
        method: &str,
        params: Option<Value>,
        more: &[(&str, &str)],
    ) -> (Code, String) {
        let answer = self.ask(servers, method, params, more).await;
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

    /// The code of what keeps back a completion that came from these servers; `pass` if nothing does. With it comes
    /// what the configuration adds, and `more` in place of that.
    async fn completes(&self, servers: &[&str], more: &[(&str, &str)]) -> String {
        let added = [("authorization", self.authorization.as_str())];
        let added: Vec<_> = added.iter().chain(more).map(|(name, value)| (*name, (*value).to_owned())).collect();
        let response = McpResponse {
            service_names: servers.iter().map(ToString::to_string).collect(),
            method: "completion/complete".to_owned(),
            metadata_context: self.context(&added),
            mcp_response: br#"{"completion":{"values":["a"]}}"#.to_vec(),
        };
        match self.shown(response).await {
            Shown::Pass(_) => "pass".to_owned(),
            Shown::Error(error) => {
                let data: Value = serde_json::from_slice(&error.mcp_error.unwrap()).unwrap();
                data["code"].as_str().unwrap().to_owned()
            }
            Shown::Mutated(_) => panic!("nothing is rewritten"),
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

#[tokio::test]
async fn a_result_that_nobody_was_asked_about_is_decided_as_its_message_would_have_been() {
    let mut gateway = Gateway::under(&[&USUAL[..], &["files:mcp.completion.complete@mcp"]].concat()).await;
    let plain = gateway.authorization.clone();
    assert_eq!(gateway.completes(&["files"], &[]).await, "pass");
    assert_eq!(gateway.completes(&["orders"], &[]).await, "out_of_scope");
    assert_eq!(gateway.completes(&["files", "orders"], &[]).await, "out_of_scope");
    // Whoever has the token alone has nothing.
    assert_eq!(gateway.completes(&["files"], &[("certificate", "")]).await, "possession");
    let frozen = gateway.front.broker.run(&["freeze", "--scope", "files:*@**", "--reason", "testing"]).ok();
    assert_eq!(gateway.completes(&["files"], &[]).await, "frozen");
    let token = gateway.front.token.clone();
    assert!(gateway.list(&["files"], &["read"], Some(&token)).await.unwrap().is_empty(), "what is frozen is not shown");
    gateway.front.broker.run(&["thaw", frozen["freeze"]["id"].as_str().unwrap()]).ok();
    assert_eq!(gateway.list(&["files"], &["read"], Some(&token)).await.unwrap(), ["read"]);

    // A token that is bound to a key needs a proof of it, made for this request, once.
    gateway.bind().await;
    assert_eq!(gateway.completes(&["files"], &[]).await, "credential_malformed");
    let bare = gateway.authorization.replace("DPoP ", "Bearer ");
    assert_eq!(gateway.completes(&["files"], &[("authorization", &bare)]).await, "dpop_required");
    let proof = gateway.proof();
    let came = [("dpop", proof.as_str()), ("method", "POST"), ("url", PLACE)];
    assert_eq!(gateway.completes(&["files"], &came[..1]).await, "malformed");
    assert_eq!(gateway.completes(&["files"], &[came[0], ("method", "GET"), came[2]]).await, "dpop_invalid");
    assert_eq!(gateway.completes(&["files"], &came).await, "pass");
    assert_eq!(gateway.completes(&["files"], &came).await, "dpop_replayed");

    // All that was decided is recorded; the last to be denied wait until then with what came before them.
    let rows = gateway.recorded("mcp.completion.complete", 10).await;
    let count = |code: &str| rows.iter().filter(|[_, reason, _]| reason == code).count();
    let told = ["in_scope", "out_of_scope", "possession", "frozen", "dpop_required", "dpop_invalid", "dpop_replayed"];
    assert_eq!(told.map(count), [3, 2, 1, 1, 1, 1, 1], "{rows:?}");
    let limits = ["max_calls=1"];
    gateway.limited(&["files:mcp.completion.complete@mcp"], &limits).await;
    assert_eq!(gateway.completes(&["files"], &[]).await, "pass");
    assert_eq!(gateway.completes(&["files"], &[]).await, "limit_reached", "it is charged like any other");
    assert_ne!(gateway.authorization, plain);
}

#[tokio::test]
async fn a_message_for_several_servers_is_proven_once() {
    let mut gateway = Gateway::new().await;
    let pass = (Code::Unknown, "pass".to_owned());
    let denied = |code: &str| (Code::PermissionDenied, code.to_owned());
    gateway.bind().await;
    let proof = gateway.proof();
    let list =
        async |servers: &[&str], proof: &str| gateway.shows(servers, "tools/list", None, &[("dpop", proof)]).await;
    assert_eq!(list(&["files", "orders"], &proof).await, pass, "one proof is for one message");
    assert_eq!(list(&["files", "orders"], &proof).await, denied("dpop_replayed"));
    assert_eq!(list(&["files"], &proof).await, denied("dpop_replayed"));
    // One that is denied has spent its proof as well.
    let proof = gateway.proof();
    assert_eq!(list(&["files", "other"], &proof).await, denied("out_of_scope"));
    assert_eq!(list(&["files"], &proof).await, denied("dpop_replayed"));
}

#[tokio::test]
async fn a_message_for_several_servers_is_charged_for_all_or_for_none() {
    let mut gateway = Gateway::new().await;
    let pass = (Code::Unknown, "pass".to_owned());
    let denied = |code: &str| (Code::PermissionDenied, code.to_owned());
    // What was taken for the one is given back when another is denied, whichever comes first.
    gateway.limited(&["files:mcp.resources.list@mcp", "orders:read@**"], &["max_calls=1"]).await;
    for servers in [["files", "orders"], ["orders", "files"], ["files", "orders"]] {
        assert_eq!(gateway.verdict(&servers, "resources/list", None).await, denied("out_of_scope"), "{servers:?}");
    }
    assert_eq!(gateway.verdict(&["files"], "resources/list", None).await, pass);
    assert_eq!(gateway.verdict(&["files"], "resources/list", None).await, denied("limit_reached"));
    let rows = gateway.recorded("files:mcp.resources.list", 5).await;
    let expected =
        [("allow", "not_executed"), ("allow", "not_executed"), ("allow", "not_executed"), ("allow", ""), ("deny", "")];
    let told: Vec<_> = rows.iter().map(|[decision, _, outcome]| (decision.as_str(), outcome.as_str())).collect();
    assert_eq!(told, expected);
    assert_eq!(gateway.recorded("orders:mcp.resources.list", 3).await.len(), 3, "each is decided, and recorded");

    // There is room for one call of two: neither is made, and then one alone may be.
    gateway.limited(&["files:read@mcp", "orders:read@mcp"], &["max_calls=1"]).await;
    let read = || Some(json!({ "name": "read" }));
    assert_eq!(gateway.verdict(&["files", "orders"], "tools/call", read()).await, denied("limit_reached"));
    assert_eq!(gateway.verdict(&["orders"], "tools/call", read()).await, pass);
    // A ticket is for one call.
    let ticket = [("x-belay-ticket", "x")];
    let told = gateway.shows(&["files", "orders"], "tools/call", read(), &ticket).await;
    assert_eq!(told, denied("ticket_other_call"));
    assert_eq!(gateway.shows(&["files"], "tools/call", read(), &ticket).await, denied("ticket_malformed"));
}
