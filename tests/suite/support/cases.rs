//! Calls that mean the same in each way that they can be said: by their parts, as a request, as a message.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

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

    /// The arguments.
    pub fn json(&self) -> String {
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
                // Parameters are texts, and none holds a zero, which ends a text to some servers.
                let text = |value: &Value| value.as_str().filter(|text| !text.contains('\0')).map(escaped);
                let pair = |(name, value): (&String, &Value)| Some(format!("{name}={}", text(value)?));
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
