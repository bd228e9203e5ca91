//! The doors by which other people's proxies and clients ask, as they do: lines of [`super::hall::DOORS`].

use belay::wire::envoy::authorization_client::AuthorizationClient;
use belay::wire::envoy::check_response::HttpResponse;
use belay::wire::envoy::{AttributeContext, CheckRequest, HttpRequest, Peer, Request};
use belay::wire::ext_mcp::ext_mcp_client::ExtMcpClient;
use belay::wire::ext_mcp::mcp_request_result::Result as Told;
use belay::wire::ext_mcp::{McpHeader, McpRequest};
use serde_json::{Value, json};

use super::cases::{Case, Http, Mcp};
use super::hall::{Hall, Ruling};
use super::http::{self, Reply};

impl Hall {
    /// Envoy, with the body that it has buffered.
    pub fn envoy(&self, case: &Case) -> Option<Ruling> {
        let Http { method, host, path, body, state } = case.http.clone()?;
        let mut headers = vec![("authorization", self.bearer(case))];
        // What is shorter than was said was cut off, and what is not there at all was not looked at.
        let said = body.len() + usize::from(state == "truncated");
        let seen = if state == "withheld" { Vec::new() } else { body };
        if state != "withheld" || said > 0 {
            headers.push(("content-length", said.to_string()));
        }
        if !seen.is_empty() {
            let kind = if state == "not_json" { "text/plain" } else { "application/json" };
            headers.push(("content-type", kind.to_owned()));
            headers.push(("x-envoy-auth-partial-body", (state == "truncated").to_string()));
        }
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let http =
            HttpRequest { method, host, path, headers, scheme: "https".into(), raw_body: seen, ..Default::default() };
        let source = Peer { certificate: self.pem(), ..Default::default() };
        let attributes = AttributeContext { source: Some(source), request: Some(Request { http: Some(http) }) };
        let check = CheckRequest { attributes: Some(attributes) };
        let mut envoy = AuthorizationClient::new(self.gateway.clone());
        let answer = self.runtime.block_on(envoy.check(check)).unwrap().into_inner();
        let code = answer.status.unwrap().code;
        match answer.http_response.expect("neither yes nor no, which Envoy takes for a yes") {
            HttpResponse::OkResponse(_) => {
                assert_eq!(code, 0);
                Some(allowed())
            }
            HttpResponse::DeniedResponse(denied) => {
                assert_ne!(code, 0);
                Some(refused(&serde_json::from_str::<Value>(&denied.body).unwrap()["error"]))
            }
        }
    }

    /// nginx, Traefik or Caddy, who show no body: of what is decided by one they get no answer to compare.
    pub fn forward(&self, case: &Case) -> Option<Ruling> {
        let Http { method, host, path, .. } =
            case.http.clone().filter(|http| http.method == "GET" || http.state == "withheld")?;
        let (bearer, pem) = (self.bearer(case), self.pem());
        let headers = [
            ("host", "belay"),
            ("authorization", &bearer),
            ("x-client-cert", &pem),
            ("x-original-method", &method),
            ("x-original-host", &host),
            ("x-original-uri", &path),
        ];
        let reply = self.page(&http::request("GET /v1/authorize", &headers, ""));
        Some(if reply.status == 200 { allowed() } else { refused(&reply.json()["error"]) })
    }

    /// A client of AuthZEN, with one question.
    pub fn authzen(&self, case: &Case) -> Option<Ruling> {
        let question = self.question(case)?;
        Some(evaluated(&self.asked("evaluation", &question)))
    }

    /// The same among several questions: who asks stands beside them, and before it one that is denied.
    pub fn authzen_several(&self, case: &Case) -> Option<Ruling> {
        let mut question = self.question(case)?;
        let subject = question.as_object_mut().unwrap().remove("subject").unwrap();
        let none = json!({ "action": { "name": "x" }, "resource": { "type": "nothing", "id": "x" } });
        let answers = self.asked("evaluations", &json!({ "subject": subject, "evaluations": [none, question] }));
        Some(evaluated(&answers["evaluations"][1]))
    }

    /// agentgateway, with a message for one server.
    pub fn ext_mcp(&self, case: &Case) -> Option<Ruling> {
        let Mcp { server, method, params } = self.message(case)?;
        let header = |key: &str, value: &str| McpHeader { key: key.to_owned(), value: value.as_bytes().to_vec() };
        let bearer = self.bearer(case);
        let certificate = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(self.pem())) };
        let context = prost_types::Struct { fields: [("certificate".to_owned(), certificate)].into() };
        let message = McpRequest {
            service_names: vec![server],
            method,
            metadata_context: Some(context),
            mcp_request: (!params.is_empty()).then(|| params.into_bytes()),
            headers: [(":method", "POST"), (":path", "/mcp"), ("authorization", &bearer)]
                .map(|(key, value)| header(key, value))
                .to_vec(),
        };
        let mut gateway = ExtMcpClient::new(self.gateway.clone());
        let answer = self.runtime.block_on(gateway.check_request(message)).unwrap().into_inner();
        Some(match answer.result.expect("an answer without a result") {
            Told::Pass(_) => allowed(),
            Told::Error(error) => refused(&serde_json::from_slice(&error.mcp_error.unwrap()).unwrap()),
            Told::Mutated(_) => panic!("nothing is rewritten"),
        })
    }

    fn bearer(&self, case: &Case) -> String {
        format!("Bearer {}", self.token(case))
    }

    /// The agent's certificate, as proxies pass it on.
    fn pem(&self) -> String {
        let pem = std::fs::read_to_string(self.coder.join("cert.pem")).unwrap();
        let escapes = [("%", "%25"), ("\n", "%0A"), (" ", "%20"), ("+", "%2B"), ("/", "%2F"), ("=", "%3D")];
        escapes.iter().fold(pem, |pem, (from, to)| pem.replace(from, to))
    }

    fn question(&self, case: &Case) -> Option<Value> {
        let parts = case.parts.as_ref()?;
        let mut context = serde_json::Map::new();
        if !parts.args.is_empty() {
            context.insert("args".to_owned(), parts.args.clone().into());
        }
        if let Some(destination) = &parts.destination {
            context.insert("destination".to_owned(), destination.clone().into());
        }
        let properties = json!({ "token": self.token(case), "certificate": self.pem() });
        Some(json!({
            "subject": { "type": "agent", "id": "", "properties": properties },
            "action": { "name": parts.action },
            "resource": { "type": parts.tool, "id": parts.resource },
            "context": context,
        }))
    }

    fn asked(&self, page: &str, question: &Value) -> Value {
        let headers = [("content-type", "application/json"), ("host", "belay")];
        let reply = self.page(&http::request(&format!("POST /access/v1/{page}"), &headers, &question.to_string()));
        match reply.status {
            200 => reply.json(),
            // As an answer that decides nothing, to be asked again.
            429 => json!({ "decision": false, "context": { "reasons": [reply.json()["error"]] } }),
            _ => panic!("{question}: {reply:?}"),
        }
    }

    /// What the HTTPS port answers the enforcement point.
    fn page(&self, bytes: &str) -> Reply {
        let port = self.broker.http.rsplit(':').next().unwrap().parse().unwrap();
        let config = http::client(&[self.broker.authority().into()], Some(&self.pep));
        self.runtime.block_on(http::exchange(port, config, bytes)).unwrap()
    }
}

fn allowed() -> Ruling {
    ("allow".to_owned(), "in_scope".to_owned())
}

/// A refusal that says how to ask is a step up.
fn refused(error: &Value) -> Ruling {
    let decision = if error["ask"].is_null() { "deny" } else { "step_up" };
    (decision.to_owned(), error["code"].as_str().unwrap_or_else(|| panic!("{error}")).to_owned())
}

fn evaluated(answer: &Value) -> Ruling {
    let decision = match (answer["decision"].as_bool(), &answer["context"]["reason"]) {
        (Some(true), _) => "allow",
        (_, Value::String(reason)) if reason == "approval_required" => "step_up",
        _ => "deny",
    };
    let code = answer["context"]["reasons"][0]["code"].as_str().unwrap_or_else(|| panic!("{answer}"));
    (decision.to_owned(), code.to_owned())
}
