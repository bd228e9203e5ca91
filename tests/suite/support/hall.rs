//! One broker with many doors: a call is put through each of them, and each says what it decides.
//!
//! A door is a function of a [`Case`]. It says nothing of a case that it cannot ask about. To hold another door to the
//! same verdicts, write the function and add a line to [`DOORS`].

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use belay::client::Identity;
use belay::wire::v1;
use belay::wire::v1::decision_message::Said as Told;
use belay::wire::v1::decision_request::Said as Asks;
use belay::wire::v1::decisions_client::DecisionsClient;
use belay::wire::v1::policies_client::PoliciesClient;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tonic::Code;
use tonic::transport::Channel;

use super::calls::Acting;
use super::cases::{CATALOG, Case, Http, Mcp, Parts};
use super::mission::apply;
use super::process::{Broker, Ran, belay};
use super::sentry::Sentries;

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
    ("Envoy", false, |hall, case| hall.envoy(case)),
    ("forward auth", false, |hall, case| hall.forward(case)),
    ("AuthZEN", false, |hall, case| hall.authzen(case)),
    ("AuthZEN, of several", false, |hall, case| hall.authzen_several(case)),
    ("agentgateway", false, |hall, case| hall.ext_mcp(case)),
    ("belay guard mcp", false, |hall, case| hall.guard(case)),
    ("Policies.Explain", false, |hall, case| hall.explains(case)),
    ("belay authorize", true, |hall, case| hall.command(case, &hall.coder, &["authorize", "--token"], "decision")),
    ("belay guard hook claude", true, |hall, case| hall.hook(case)),
    ("belay policy explain", true, |hall, case| {
        hall.command(case, &hall.broker.home.join("operator"), &["policy", "explain", "--grant"], "outcome")
    }),
];

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
    /// Where that of the enforcement point is.
    pub pep: PathBuf,
    /// The certificate of the agent.
    pub shown: Vec<u8>,
    /// Ids and tokens of the grants, by their names.
    pub grants: BTreeMap<&'static str, (String, String)>,
    agent: Channel,
    pub gateway: Channel,
    operator: Channel,
    /// Guards of MCP servers, as far as a case came to them.
    pub sentries: Sentries,
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
        let (pep, gateway, operator) = runtime.block_on(async {
            let pep = broker.pep("gateway", &[&audience]).await;
            let gateway = broker.channel_as(&pep).await.unwrap();
            (pep, gateway, broker.channel().await)
        });
        let shown = Identity::load(&coder).unwrap().certificate().to_vec();
        let sentries = Sentries::default();
        let hall = Self { broker, runtime, coder, pep, shown, grants, agent, gateway, operator, sentries };
        hall.broker.run(&["freeze", "--scope", "files:write@frozen/**", "--reason", "code freeze"]).ok();
        // No call leaves less to the doors behind the first: what costs anything is over each limit of these by now.
        for (under, call, args, destination) in [
            ("spent", "files:read@a/b", "", ""),
            ("summed", "bank:pay@accounts/1", r#"{"amount":100}"#, "https://bank.example"),
        ] {
            let last = Case::of(under, Parts::new(call, args, destination));
            assert_eq!(hall.asks(&hall.agent, hall.by_parts(&last, b"")).unwrap().0, "allow");
        }
        hall.broker.run(&["revoke", &hall.grants["cut"].0, "--reason", "testing"]).ok();
        hall.broker.run(&["grant", "suspend", &hall.grants["halted"].0]).ok();
        hall
    }

    /// What each door says, by its name.
    pub fn rulings(&self, case: &Case, processes: bool) -> Vec<(&'static str, Ruling)> {
        let open = DOORS.iter().filter(|(_, is_process, _)| processes || !is_process);
        open.filter_map(|(name, _, door)| Some((*name, self.ruling(case, *door)?))).collect()
    }

    /// What this door says, as soon as the agent may ask again: a test asks faster than its quota allows.
    fn ruling(&self, case: &Case, door: Door) -> Option<Ruling> {
        loop {
            match door(self, case)? {
                (_, code) if code == "quota_exceeded" => std::thread::sleep(std::time::Duration::from_millis(20)),
                ruling => return Some(ruling),
            }
        }
    }

    /// The token of the grant that it is made under.
    pub fn token(&self, case: &Case) -> String {
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
    pub fn message(&self, case: &Case) -> Option<Mcp> {
        let goes = case.parts.as_ref().is_some_and(|parts| parts.destination.is_some());
        case.mcp.clone().filter(|_| !goes)
    }

    fn by_mcp(&self, case: &Case, presenter: &[u8]) -> Option<v1::AuthorizeRequest> {
        let Mcp { server, method, params } = self.message(case)?;
        let mcp = v1::McpRequest { server, method, params, ..Default::default() };
        let (token, presenter) = (self.token(case), presenter.to_vec());
        Some(v1::AuthorizeRequest { token, presenter, mcp: Some(mcp), ..Default::default() })
    }

    fn asks(&self, channel: &Channel, request: Option<v1::AuthorizeRequest>) -> Option<Ruling> {
        let request = request?;
        let mut decisions = DecisionsClient::new(channel.clone());
        let decided = self.runtime.block_on(decisions.authorize(request.clone()));
        match decided {
            Ok(decided) => Some(ruling(&request, decided.into_inner())),
            Err(status) if status.code() == Code::ResourceExhausted => Some(again()),
            Err(status) => panic!("{request:?}: {status}"),
        }
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
            (7, Some(Told::Refused(refusal))) if refusal.code == Code::ResourceExhausted as u32 => Some(again()),
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

impl Hall {
    /// The hook of a coding agent, before it calls a tool of a server.
    fn hook(&self, case: &Case) -> Option<Ruling> {
        let Mcp { server, params, .. } = self.message(case).filter(|message| message.method == "tools/call")?;
        let params: Value = serde_json::from_str(&params).ok()?;
        let known = params.as_object()?.keys().all(|name| ["name", "arguments", "_meta"].contains(&name.as_str()));
        let (name, input) = (params["name"].as_str().filter(|_| known)?, &params["arguments"]);
        if !input.is_object() && !input.is_null() {
            return None;
        }
        let said = json!({
            "hook_event_name": "PreToolUse", "tool_use_id": "toolu_1", "tool_name": format!("mcp__{server}__{name}"),
            "tool_input": input, "cwd": "/",
        });
        let mut command = belay(&self.broker.home);
        command.args(["--addr", &self.broker.addr, "--identity"]).arg(&self.coder);
        command.args(["guard", "hook", "claude", "--token", &self.token(case)]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(said.to_string().as_bytes()).unwrap();
        let answer = child.wait_with_output().unwrap();
        let told: Value = serde_json::from_slice(&answer.stdout).unwrap_or_else(|_| panic!("{said}: {answer:?}"));
        let told = &told["hookSpecificOutput"];
        let decision = match told["permissionDecision"].as_str() {
            Some("ask") => "step_up",
            Some(other) => other,
            None => panic!("{told}"),
        };
        let why = told["permissionDecisionReason"].as_str().unwrap();
        let (code, _) = why.rsplit_once(" (").unwrap().1.split_once("); request inv_").unwrap();
        Some((decision.to_owned(), code.to_owned()))
    }
}

/// What is decided by nobody: it is to be asked again.
fn again() -> Ruling {
    ("deny".to_owned(), "quota_exceeded".to_owned())
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
