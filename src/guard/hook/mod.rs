//! Hooks of coding agents: one call, decided before the agent makes it, in the form that the agent reads.
//!
//! Whatever goes wrong here blocks the call. An agent takes a hook that crashes for one that has nothing to say, so nothing
//! may end this process but its own answer; what no hook can prevent (it is removed, or killed) is why tools that matter
//! hand out nothing without a call ticket.

mod call;
mod file;
pub mod settings;
mod state;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::access::issue;
use super::{Source, failed};
use crate::client::{Identity, Refusal, client_config, connect};
use crate::domain::error::Error;
use crate::wire::v1::decisions_client::DecisionsClient;
use crate::wire::v1::{AuthorizeRequest, ReportRequest};

/// Bytes of what an agent says of one call.
const LONGEST: u64 = 4 << 20;
/// A call that is not decided by then is blocked.
const ANSWER: Duration = Duration::from_secs(4);

/// Whose hook it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    /// Claude Code.
    Claude,
    /// Codex.
    Codex,
}

/// Who asks whom, under what.
#[derive(Debug)]
pub struct Options {
    /// Whose hook.
    pub agent: Agent,
    /// The broker.
    pub addr: String,
    /// The agent's identity.
    pub identity: PathBuf,
    /// What calls are made under.
    pub source: Source,
}

/// What the agent is told. All of it is known before any of it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// For its stdout; empty: nothing.
    pub out: String,
    /// For its stderr; empty: nothing.
    pub err: String,
    /// The exit code.
    pub code: u8,
}

/// What the agent says of a call.
#[derive(Default)]
struct Said {
    event: String,
    tool: String,
    id: String,
    cwd: String,
    /// Its JSON, in the agent's own words.
    input: String,
    /// It was made, and failed.
    failed: bool,
}

/// What is read of all that an agent says: each member once, and of its kind.
#[derive(Deserialize)]
struct Wire<'a> {
    hook_event_name: Option<String>,
    tool_name: Option<String>,
    tool_use_id: Option<String>,
    cwd: Option<String>,
    #[serde(borrow)]
    tool_input: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_response: Option<&'a RawValue>,
}

/// Decides the call that is described on `stdin`. It takes 4 s at most, and answers in any case.
pub fn before(stdin: impl Read + Send + 'static, options: Options) -> Told {
    let agent = options.agent;
    match aside(move || {
        let said = Said::read(stdin)?;
        if !matches!(said.event.as_str(), "" | "PreToolUse") {
            return Err(wrong("hook_event_name", "this is the hook of PreToolUse, before a call"));
        }
        let call = call::of(agent, &said)?;
        block_on(decide(&options, &said.id, call))
    }) {
        Ok(verdict) => verdict.told(agent),
        // Both agents take this, and no other exit code, for a refusal.
        Err(refusal) => Told { out: String::new(), err: format!("belay blocks this call: {refusal}"), code: 2 },
    }
}

/// Says what became of the call that is described on `stdin`. It was made: nothing is blocked any more.
pub fn after(stdin: impl Read + Send + 'static, options: Options) -> Told {
    let told = aside(move || {
        let said = Said::read(stdin)?;
        let Some(invocation) = state::taken(&options.identity, &said.id) else { return Ok(()) };
        let outcome = if said.failed { "failed" } else { "done" };
        block_on(report(&options, invocation, outcome))
    });
    let err = told.err().map_or_else(String::new, |refusal| format!("belay did not record the outcome: {refusal}"));
    Told { out: String::new(), code: u8::from(!err.is_empty()), err }
}

/// Runs it on a thread of its own, for as long as there is time: neither a panic nor a wait gets past here.
fn aside<T: Send + 'static>(run: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    let (sender, answer) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("hook".to_owned()).spawn(move || {
        // Nobody waits for what comes too late.
        let _ = sender.send(run());
    });
    thread.map_err(|error| failed("no_thread", format!("cannot start a thread: {error}")))?;
    match answer.recv_timeout(ANSWER) {
        Ok(answer) => answer,
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
            Err(super::unavailable("it was not decided within 4 s; try again"))
        }
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => Err(failed("panicked", "the hook failed; report this")),
    }
}

fn block_on<T>(run: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| failed("no_runtime", format!("cannot start: {error}")))?.block_on(run)
}

async fn decide(options: &Options, id: &str, call: AuthorizeRequest) -> Result<Verdict, Refusal> {
    let channel = dial(options).await?;
    let token = match &options.source {
        Source::Token(token) => token.clone(),
        Source::File(path) => super::access::read(path)?,
        Source::Grant(grant) => issue(&channel, grant).await?,
    };
    let answer = DecisionsClient::new(channel).authorize(AuthorizeRequest { token, ..call }).await?.into_inner();
    let reason = answer.reasons.into_iter().next().unwrap_or_default();
    let (decision, invocation) = (answer.decision, answer.id);
    if decision == "allow" {
        state::keep(&options.identity, id, &invocation)?;
    }
    Ok(Verdict { decision, why: format!("{} ({}); request {invocation}", reason.message, reason.code) })
}

async fn report(options: &Options, invocation: String, outcome: &str) -> Result<(), Refusal> {
    let (outcome, detail) = (outcome.to_owned(), String::new());
    let report = ReportRequest { invocation, outcome, detail };
    DecisionsClient::new(dial(options).await?).report(report).await?;
    Ok(())
}

async fn dial(Options { addr, identity, .. }: &Options) -> Result<tonic::transport::Channel, Refusal> {
    connect(addr, client_config(&Identity::load(identity)?)?).await
}

struct Verdict {
    decision: String,
    why: String,
}

impl Verdict {
    /// In the agent's own form. Codex takes an allow and an ask for failures, and goes on: it hears of refusals alone.
    fn told(&self, agent: Agent) -> Told {
        let Self { decision, why } = self;
        let (decision, why) = match (decision.as_str(), agent) {
            ("allow", Agent::Codex) => return Told { out: String::new(), err: String::new(), code: 0 },
            ("allow", Agent::Claude) => ("allow", format!("belay allows it: {why}")),
            ("step_up", Agent::Claude) => ("ask", format!("belay does not allow it without a human: {why}")),
            ("step_up", Agent::Codex) => ("deny", format!("belay does not allow it without a human: {why}")),
            _ => ("deny", format!("belay denies it: {why}")),
        };
        let said = json!({ "hookEventName": "PreToolUse", "permissionDecision": decision,
            "permissionDecisionReason": why });
        Told { out: json!({ "hookSpecificOutput": said }).to_string(), err: String::new(), code: 0 }
    }
}

impl Said {
    fn read(stdin: impl Read) -> Result<Self, Refusal> {
        let wrong = |why: &str| wrong("stdin", why);
        let mut text = String::new();
        let read = stdin.take(LONGEST + 1).read_to_string(&mut text).map_err(|_| wrong("it cannot be read as text"))?;
        if u64::try_from(read).is_ok_and(|read| read > LONGEST) {
            return Err(wrong("it has more than 4 MiB"));
        }
        // A list is no object with the members in some order.
        if text.trim_start().starts_with('[') {
            return Err(wrong("expected an object with tool_name and tool_input"));
        }
        let wire: Wire<'_> = serde_json::from_str(&text).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => wrong(&format!("expected what a hook says: {error}")),
            _ => wrong("expected the JSON of a hook"),
        })?;
        let response: Value =
            wire.tool_response.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        let said = Self {
            event: wire.hook_event_name.unwrap_or_default(),
            tool: wire.tool_name.unwrap_or_default(),
            id: wire.tool_use_id.unwrap_or_default(),
            cwd: wire.cwd.unwrap_or_default(),
            input: wire.tool_input.map_or("{}", RawValue::get).to_owned(),
            failed: ["is_error", "isError"].iter().any(|name| response[name] == true),
        };
        if said.tool.is_empty() {
            return Err(wrong("it names no tool: tool_name is empty or not there"));
        }
        Ok(said)
    }
}

/// What cannot be shown is refused by its name.
fn wrong(field: &'static str, why: &str) -> Refusal {
    Error::malformed(field, "…", why).into()
}

/// Where the identity is that a hook goes by: it has no default, for an operator's would be one.
///
/// # Errors
/// None is named.
pub fn identity(named: Option<&Path>) -> Result<PathBuf, Refusal> {
    let named = named.filter(|dir| !dir.as_os_str().is_empty());
    named.map(Path::to_owned).ok_or_else(|| {
        let why = "no identity is named: set BELAY_IDENTITY, or run `belay guard init` for a hook";
        Refusal::from(Error::new(crate::domain::error::Code::Invalid, "no_identity", why).on("identity"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(decision: &str, agent: Agent) -> Told {
        Verdict { decision: decision.to_owned(), why: "why".to_owned() }.told(agent)
    }

    fn decision(told: &Told) -> String {
        let said: Value = serde_json::from_str(&told.out).unwrap();
        said["hookSpecificOutput"]["permissionDecision"].as_str().unwrap().to_owned()
    }

    #[test]
    fn each_agent_is_answered_in_its_own_form() {
        let claude = ["allow", "step_up", "deny", "", "Allow"].map(|word| decision(&told(word, Agent::Claude)));
        assert_eq!(claude, ["allow", "ask", "deny", "deny", "deny"]);
        let codex = ["step_up", "deny", "", "Allow"].map(|word| decision(&told(word, Agent::Codex)));
        assert_eq!(codex, ["deny", "deny", "deny", "deny"]);
        assert_eq!(told("allow", Agent::Codex), Told { out: String::new(), err: String::new(), code: 0 });
    }

    #[test]
    fn a_panic_is_a_refusal() {
        let refusal = aside(|| -> Result<(), Refusal> { panic!("told to") }).unwrap_err();
        assert_eq!(refusal.reason, "panicked");
    }

    #[test]
    fn what_is_no_call_is_refused() {
        for text in [
            "",
            "{",
            "[]",
            r#"["PreToolUse","Read","t","/srv",{},{}]"#,
            "{}",
            r#"{"tool_name":""}"#,
            r#"{"tool_name":7}"#,
            r#"{"tool_name":"Read","tool_name":"Bash"}"#,
            r#"{"tool_name":"Read","tool\u005fname":"Bash"}"#,
            r#"{"tool_name":"Read","tool_input":{},"tool_input":{}}"#,
            r#"{"tool_name":"Read","tool_use_id":"a","tool_use_id":"b"}"#,
            r#"{"tool_name":"Read","cwd":"/a","cwd":"/b"}"#,
            r#"{"tool_name":"Read","hook_event_name":"a","hook_event_name":"b"}"#,
        ] {
            assert!(Said::read(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Said::read(&br#"{"tool_name":"Read","more":1,"tool_input":null}"#[..]).is_ok());
        assert!(Said::read(std::io::repeat(b' ')).is_err());
    }
}
