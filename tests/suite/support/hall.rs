//! One broker with many doors: a call is put through each of them, and each says what it decides.
//!
//! A door is a function of a [`Case`]. It says nothing of a case that it cannot ask about. To hold another door to the
//! same verdicts, write the function and add a line to [`DOORS`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use belay::client::Identity;
use belay::wire::v1;
use belay::wire::v1::decision_message::Said as Told;
use belay::wire::v1::decision_request::Said as Asks;
use belay::wire::v1::decisions_client::DecisionsClient;
use belay::wire::v1::policies_client::PoliciesClient;
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use super::calls::Acting;
use super::mission::apply;
use super::process::{Broker, Ran};

/// The decision, and the code of its reason.
pub type Ruling = (String, String);
/// Decides a case, if it can be asked about there.
pub type Door = fn(&Hall, &Case) -> Option<Ruling>;

/// Every door there is, by its name, and whether a process begins with each question.
pub const DOORS: &[(&str, bool, Door)] = &[
    ("Authorize, by its parts, of the agent", false, |hall, case| hall.asks(&hall.agent, hall.by_parts(case, b""))),
    ("Authorize, by its parts, of the gateway", false, |hall, case| {
        hall.asks(&hall.gateway, hall.by_parts(case, &hall.shown))
    }),
    ("Authorize, by its parts, of an operator", false, |hall, case| {
        hall.asks(&hall.operator, hall.by_parts(case, b""))
    }),
    ("Authorize, an HTTP request, of the agent", false, |hall, case| hall.asks(&hall.agent, hall.by_http(case, b""))),
    ("Authorize, an HTTP request, of the gateway", false, |hall, case| {
        hall.asks(&hall.gateway, hall.by_http(case, &hall.shown))
    }),
    ("Authorize, a message, of the agent", false, |hall, case| hall.asks(&hall.agent, hall.by_mcp(case, b""))),
    ("Authorize, a message, of the gateway", false, |hall, case| {
        hall.asks(&hall.gateway, hall.by_mcp(case, &hall.shown))
    }),
    ("Stream, by its parts", false, |hall, case| hall.streams(hall.by_parts(case, &hall.shown), false)),
    ("Stream, an HTTP request", false, |hall, case| hall.streams(hall.by_http(case, &hall.shown), false)),
    ("Stream, a message", false, |hall, case| hall.streams(hall.by_mcp(case, &hall.shown), false)),
    ("Stream, held", false, |hall, case| {
        let shown = &hall.shown;
        let asked = hall.by_parts(case, shown).or_else(|| hall.by_http(case, shown));
        hall.streams(asked.or_else(|| hall.by_mcp(case, shown)), true)
    }),
    ("Policies.Explain", false, |hall, case| hall.explains(case)),
    ("belay authorize", true, |hall, case| hall.command(case, &hall.coder, &["authorize", "--token"], "decision")),
    ("belay policy explain", true, |hall, case| {
        hall.command(case, &hall.broker.home.join("operator"), &["policy", "explain", "--grant"], "outcome")
    }),
];

/// What is asked, in each way that it can be said. All that are there mean the same.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// The name of the grant that it is made under.
    pub under: &'static str,
    pub parts: Option<Parts>,
    pub http: Option<Http>,
    pub mcp: Option<Mcp>,
}

/// A call.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    pub tool: String,
    pub action: String,
    pub resource: String,
    pub args: Map<String, Value>,
    pub destination: Option<String>,
}

/// An HTTP request over TLS.
#[derive(Clone, Debug, Default)]
pub struct Http {
    pub method: String,
    pub host: String,
    pub path: String,
    pub body: Vec<u8>,
    /// As in `HttpRequest.body_state`.
    pub state: &'static str,
}

/// A message of an MCP client.
#[derive(Clone, Debug, Default)]
pub struct Mcp {
    pub server: String,
    pub method: String,
    pub params: String,
}

impl Case {
    /// A call, and the request and the message that make it by the routes of [`CATALOG`], if there are any.
    pub fn of(under: &'static str, parts: Parts) -> Self {
        let (http, mcp) = (parts.request(), parts.message());
        Self { under, http, mcp, parts: Some(parts) }
    }

    pub fn of_http(under: &'static str, method: &str, url: &str, body: &str) -> Self {
        let (host, path) = url.split_at(url.find('/').unwrap());
        let [method, host, path] = [method, host, path].map(str::to_owned);
        Self { under, http: Some(Http { method, host, path, body: body.into(), state: "" }), ..Self::default() }
    }

    pub fn of_mcp(under: &'static str, server: &str, method: &str, params: &str) -> Self {
        let [server, method, params] = [server, method, params].map(str::to_owned);
        Self { under, mcp: Some(Mcp { server, method, params }), ..Self::default() }
    }

    /// The same, of a body of which no more is known.
    pub fn with_body(mut self, state: &'static str) -> Self {
        if let Some(http) = &mut self.http {
            http.state = state;
        }
        self
    }
}

impl Parts {
    /// `tool:action@resource`.
    pub fn new(call: &str, args: &str, destination: &str) -> Self {
        let (tool, rest) = call.split_once(':').unwrap();
        let (action, resource) = rest.split_once('@').unwrap();
        let args = if args.is_empty() { Map::new() } else { serde_json::from_str(args).unwrap() };
        let destination = (!destination.is_empty()).then(|| destination.to_owned());
        Self { tool: tool.into(), action: action.into(), resource: resource.into(), args, destination }
    }

    fn json(&self) -> String {
        Value::Object(self.args.clone()).to_string()
    }

    fn request(&self) -> Option<Http> {
        let host = self.destination.as_deref()?.strip_prefix("https://")?;
        let (method, path, body) = match (host, self.tool.as_str(), self.action.as_str()) {
            ("mcp.example", tool @ ("files" | "bank"), _) => {
                let Mcp { method, params, .. } = self.message()?;
                let mut message = json!({ "jsonrpc": "2.0", "id": 1, "method": method });
                if !params.is_empty() {
                    message["params"] = serde_json::from_str(&params).unwrap();
                }
                ("POST", format!("/{tool}"), message.to_string())
            }
            ("files.example", "files", "read") => {
                let pair = |(name, value): (&String, &Value)| Some(format!("{name}={}", escaped(value.as_str()?)));
                let query = self.args.iter().map(pair).collect::<Option<Vec<_>>>()?.join("&");
                let mark = if query.is_empty() { "" } else { "?" };
                ("GET", format!("/read/{}{mark}{query}", self.resource), String::new())
            }
            ("files.example", "files", action @ ("write" | "wipe")) => {
                ("POST", format!("/{action}/{}", self.resource), self.json())
            }
            ("bank.example", "bank", "pay") => {
                let account = self.resource.strip_prefix("accounts/").filter(|account| !account.contains('/'))?;
                ("POST", format!("/pay/{account}"), self.json())
            }
            _ => return None,
        };
        Some(Http { method: method.into(), host: host.into(), path, body: body.into(), state: "complete" })
    }

    fn message(&self) -> Option<Mcp> {
        let goes = self.destination.is_some() && self.destination.as_deref() != Some("https://mcp.example");
        if goes {
            return None;
        }
        let place = (self.args.get("folder").and_then(Value::as_str), self.args.get("name").and_then(Value::as_str));
        let tool = |name: &str| {
            ("tools/call".to_owned(), json!({ "name": name, "arguments": self.args, "_meta": { "n": 1 } }).to_string())
        };
        let (method, params) = match (self.tool.as_str(), self.action.as_str(), place) {
            ("files", "read", (Some(folder), Some(name))) if self.resource == format!("{folder}/{name}") => {
                tool("read_file")
            }
            _ if self.resource != "mcp" => return None,
            (_, action, _) => match action.strip_prefix("mcp.") {
                None => tool(action),
                Some(method) => {
                    (method.replace('.', "/"), if self.args.is_empty() { String::new() } else { self.json() })
                }
            },
        };
        Some(Mcp { server: self.tool.clone(), method, params })
    }
}

/// Every byte as `%XX`.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "%{byte:02x}");
        out
    })
}

/// What the calls of a hall are about. `box` has no route, and `gone` is not in it.
pub const CATALOG: &str = r#"
[[tool]]
name = "files"
owner = "team"
[[tool.action]]
name = "read"
risk = "read"
[[tool.action]]
name = "write"
risk = "write"
[[tool.action]]
name = "wipe"
risk = "destructive"
[[tool.action]]
name = "mcp.*"
risk = "read"

[[tool]]
name = "bank"
owner = "team"
destinations = ["https://bank.example", "https://mcp.example"]
[[tool.action]]
name = "pay"
risk = "write"
[[tool.action]]
name = "mcp.*"
risk = "read"

[[tool]]
name = "box"
owner = "team"
[[tool.action]]
name = "open"
risk = "read"

[[resource]]
path = "files:**"
sensitivity = "internal"
[[resource]]
path = "bank:**"
sensitivity = "confidential"
[[resource]]
path = "box:**"
sensitivity = "public"

[[route]]
host = "files.example"
method = "GET"
path = "/read/{path...}"
call = "files:read@{path...}"
[[route]]
host = "files.example"
method = "POST"
path = "/write/{path...}"
call = "files:write@{path...}"
body = "json"
[[route]]
host = "files.example"
method = "POST"
path = "/wipe/{path...}"
call = "files:wipe@{path...}"
body = "json"
[[route]]
host = "bank.example"
method = "POST"
path = "/pay/{account}"
call = "bank:pay@accounts/{account}"
body = "json"
[[route]]
host = "mcp.example"
method = "POST"
path = "/files"
mcp = "files"
[[route]]
host = "mcp.example"
method = "POST"
path = "/bank"
mcp = "bank"
[[route]]
mcp = "files"
tool = "read_file"
call = "files:read@{folder}/{name}"
"#;

/// No large payment, whatever a scope says.
const POLICY: &str = r#"
@id("no-large-payment")
forbid (principal, action == Action::"invoke", resource == Tool::"bank")
when { context.numbers.hasTag("amount") && context.numbers.getTag("amount").greaterThan(decimal("5000.0")) };
"#;

/// The grants of a hall: name, scopes, limits.
pub const GRANTS: &[(&str, &[&str], &[&str])] = &[
    ("wide", &["files:*@**", "bank:*@**", "box:open@**", "gone:do@**"], &[]),
    (
        "narrow",
        &[
            "files:read@a/*",
            r#"bank:pay@accounts/*{"args":{"amount":{"max":50},"to":{"suffix":"@acme.com"}},"closed":true}"#,
        ],
        &[],
    ),
    ("ample", &["files:*@**", "bank:pay@**"], &["max_calls=1000000", "max_distinct_resources=5000"]),
    ("spent", &["files:*@**", "bank:pay@**"], &["max_calls=1"]),
    ("summed", &["bank:pay@**"], &["max_sum(amount)=100"]),
    ("cut", &["files:*@**"], &[]),
    ("halted", &["files:*@**"], &[]),
];

/// A broker, an agent with its grants, an enforcement point and an operator.
pub struct Hall {
    pub broker: Broker,
    pub runtime: Runtime,
    /// Where the identity of the agent is.
    pub coder: PathBuf,
    /// The certificate of the agent.
    pub shown: Vec<u8>,
    /// Ids and tokens of the grants, by their names.
    pub grants: BTreeMap<&'static str, (String, String)>,
    agent: Channel,
    gateway: Channel,
    operator: Channel,
}

impl Hall {
    /// All is there: the grants are from before the catalog, which would ask humans about them.
    pub fn open() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let broker = Broker::start();
        let (coder, agent) = runtime.block_on(async {
            let coder = broker.enroll_agent("coder").await;
            let agent = broker.channel_as(&coder).await.unwrap();
            (coder, agent)
        });
        let mut grants = BTreeMap::new();
        let mut audience = String::new();
        for (name, scopes, limits) in GRANTS {
            let granted = runtime.block_on(granted(&agent, scopes, limits));
            audience.clone_from(&granted.0.audience);
            grants.insert(*name, (granted.0.id, granted.1));
        }
        apply(&broker, CATALOG, POLICY);
        let (gateway, operator) = runtime.block_on(async {
            let pep = broker.pep("gateway", &[&audience]).await;
            let gateway = broker.channel_as(&pep).await.unwrap();
            (gateway, broker.channel().await)
        });
        let shown = Identity::load(&coder).unwrap().certificate().to_vec();
        let hall = Self { broker, runtime, coder, shown, grants, agent, gateway, operator };
        hall.broker.run(&["freeze", "--scope", "files:write@frozen/**", "--reason", "code freeze"]).ok();
        let last = Case::of("spent", Parts::new("files:read@a/b", "", ""));
        assert_eq!(hall.asks(&hall.agent, hall.by_parts(&last, b"")).unwrap().0, "allow");
        hall.broker.run(&["revoke", &hall.grants["cut"].0, "--reason", "testing"]).ok();
        hall.broker.run(&["grant", "suspend", &hall.grants["halted"].0]).ok();
        hall
    }

    /// What each door says, by its name.
    pub fn rulings(&self, case: &Case, processes: bool) -> Vec<(&'static str, Ruling)> {
        let open = DOORS.iter().filter(|(_, is_process, _)| processes || !is_process);
        open.filter_map(|(name, _, door)| Some((*name, door(self, case)?))).collect()
    }

    fn token(&self, case: &Case) -> String {
        self.grants[case.under].1.clone()
    }

    fn by_parts(&self, case: &Case, presenter: &[u8]) -> Option<v1::AuthorizeRequest> {
        let parts = case.parts.as_ref()?;
        Some(v1::AuthorizeRequest {
            token: self.token(case),
            tool: parts.tool.clone(),
            action: parts.action.clone(),
            resource: parts.resource.clone(),
            args: if parts.args.is_empty() { String::new() } else { parts.json() },
            destination: parts.destination.clone().unwrap_or_default(),
            presenter: presenter.to_vec(),
            ..Default::default()
        })
    }

    fn by_http(&self, case: &Case, presenter: &[u8]) -> Option<v1::AuthorizeRequest> {
        let Http { method, host, path, body, state } = case.http.clone()?;
        let http = v1::HttpRequest { method, host, path, body, body_state: state.to_owned(), scheme: String::new() };
        let (token, presenter) = (self.token(case), presenter.to_vec());
        Some(v1::AuthorizeRequest { token, presenter, http: Some(http), ..Default::default() })
    }

    /// Who sends a message without HTTP names no destination.
    fn by_mcp(&self, case: &Case, presenter: &[u8]) -> Option<v1::AuthorizeRequest> {
        let goes = case.parts.as_ref().is_some_and(|parts| parts.destination.is_some());
        let Mcp { server, method, params } = case.mcp.clone().filter(|_| !goes)?;
        let mcp = v1::McpRequest { server, method, params, ..Default::default() };
        let (token, presenter) = (self.token(case), presenter.to_vec());
        Some(v1::AuthorizeRequest { token, presenter, mcp: Some(mcp), ..Default::default() })
    }

    fn asks(&self, channel: &Channel, request: Option<v1::AuthorizeRequest>) -> Option<Ruling> {
        let request = request?;
        let mut decisions = DecisionsClient::new(channel.clone());
        let decided = self.runtime.block_on(decisions.authorize(request.clone()));
        Some(ruling(&request, decided.unwrap_or_else(|status| panic!("{request:?}: {status}")).into_inner()))
    }

    fn streams(&self, request: Option<v1::AuthorizeRequest>, hold: bool) -> Option<Ruling> {
        let request = request?;
        let asked = v1::DecisionRequest { id: 7, said: Some(Asks::Authorize(Box::new(request.clone()))), hold };
        let mut decisions = DecisionsClient::new(self.gateway.clone());
        let first = self.runtime.block_on(async {
            let asked = tokio_stream::once(asked);
            decisions.stream(asked).await.unwrap().into_inner().message().await.unwrap().unwrap()
        });
        match (first.id, first.said) {
            (7, Some(Told::Decided(decided))) => Some(ruling(&request, decided)),
            other => panic!("{request:?}: {other:?}"),
        }
    }

    fn explains(&self, case: &Case) -> Option<Ruling> {
        let v1::AuthorizeRequest { tool, action, resource, args, destination, .. } = self.by_parts(case, b"")?;
        let grant = self.grants[case.under].0.clone();
        let request = v1::ExplainRequest { grant, tool, action, resource, args, destination, ..Default::default() };
        let explained =
            self.runtime.block_on(PoliciesClient::new(self.operator.clone()).explain(request)).unwrap().into_inner();
        Some((explained.outcome, explained.reasons[0].code.clone()))
    }

    /// By a command line that takes the token, or the grant, behind these words.
    fn command(&self, case: &Case, identity: &Path, words: &[&str], decision: &str) -> Option<Ruling> {
        let asked = self.by_parts(case, b"")?;
        let (grant, token) = &self.grants[case.under];
        let of = if words.contains(&"--grant") { grant } else { token };
        let mut arguments = [words, &[of, "--tool", &asked.tool]].concat();
        arguments.extend(["--action", &asked.action, "--resource", &asked.resource]);
        for (flag, value) in [("--args", &asked.args), ("--destination", &asked.destination)] {
            if !value.is_empty() {
                arguments.extend([flag, value]);
            }
        }
        let Ran { code, stdout, stderr } = self.broker.run_as(identity, &arguments);
        let said: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{arguments:?}: {stderr}"));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let exits = match said[decision].as_str() {
            Some("allow") => 0,
            Some("step_up") => 4,
            _ => 3,
        };
        assert_eq!(code, exits, "{arguments:?}: {stdout}");
        Some((text(&said[decision]), text(&said["reasons"][0]["code"])))
    }
}

/// What was decided; of exactly the call that was asked about by its parts.
fn ruling(asked: &v1::AuthorizeRequest, decided: v1::AuthorizeResponse) -> Ruling {
    let said = format!("{}:{}@{}", asked.tool, asked.action, asked.resource);
    assert!(asked.tool.is_empty() || decided.call == said, "{asked:?}: {decided:?}");
    let [reason] = decided.reasons.as_slice() else { panic!("{decided:?}") };
    (decided.decision, reason.code.clone())
}

/// A root grant with a token, under a task of its own.
async fn granted(agent: &Channel, scopes: &[&str], limits: &[&str]) -> (v1::Grant, String) {
    let agent = Acting(agent.clone());
    let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    let request = v1::RequestGrantRequest {
        task: agent.task().await,
        scopes: owned(scopes),
        limits: owned(limits),
        token: true,
        ..Default::default()
    };
    let granted = agent.request(request).await.unwrap().into_inner();
    (granted.grant.unwrap(), granted.token.unwrap().token)
}
