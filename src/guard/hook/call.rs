//! From what a coding agent says of a tool to a call.
//!
//! A tool of an MCP server is the same call as through every other door: the broker maps it. A tool of the agent's own is
//! `claude:bash@shell` or `codex:apply_patch@patch`, with its input as arguments.

use serde_json::Value as Json;

use super::{Agent, Said, file, wrong};
use crate::client::Refusal;
use crate::domain::error::Error;
use crate::domain::scope::{Args, Value, twin};
use crate::wire::v1::{AuthorizeRequest, McpRequest};

/// What a tool touches.
enum Touches {
    /// What it touches is this.
    Thing(&'static str),
    /// The file that this member of its input names; without it, where the agent is.
    File(&'static str),
    /// The URL that this member names is where it goes.
    Web(&'static str),
}

/// The call that the agent says. Its input goes on in its own words; what it touches is read from the same.
///
/// # Errors
/// It cannot be said which: the name or the input could be read in two ways, or what it touches cannot be named.
pub(super) fn of(agent: Agent, said: &Said) -> Result<AuthorizeRequest, Refusal> {
    let name = |why: &str| Refusal::from(Error::malformed("tool_name", &said.tool, why));
    if !said.input.starts_with('{') {
        return Err(wrong("tool_input", "expected an object"));
    }
    if let Some(tool) = said.tool.strip_prefix("mcp__") {
        return match tool.split("__").collect::<Vec<_>>()[..] {
            [server, tool] if !server.is_empty() && !tool.is_empty() => Ok(message(server, tool, &said.input)),
            _ => Err(name("expected mcp__SERVER__TOOL, neither with `__` in its own name")),
        };
    }
    let action = said.tool.to_ascii_lowercase();
    if !action.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
        return Err(name("a tool's name has letters, digits, `_` and `-`"));
    }
    let args = Args::parse(&said.input)?;
    if let Some(twin) = twin(args.iter().map(|(name, _)| name)) {
        return Err(wrong("tool_input", &format!("`{}` is given in two spellings", twin.escape_debug())));
    }
    if agent == Agent::Claude && action == "glob" {
        file::pattern_below(&args, "pattern")?;
    }
    let (resource, destination) = match touches(agent, &action) {
        Touches::Thing(thing) => (thing.to_owned(), String::new()),
        Touches::File(member) => (file::resource(&args, member, &said.cwd)?, String::new()),
        Touches::Web(member) => match args.get(member) {
            Some(Value::Text(url)) => ("web".to_owned(), url.clone()),
            _ => return Err(wrong("tool_input", "a URL is a string")),
        },
    };
    let tool = if agent == Agent::Claude { "claude" } else { "codex" }.to_owned();
    let args = said.input.clone();
    Ok(AuthorizeRequest { tool, action, resource, args, destination, ..AuthorizeRequest::default() })
}

/// A tool of an MCP server: the broker reads what it is called with.
fn message(server: &str, tool: &str, input: &str) -> AuthorizeRequest {
    let params = format!(r#"{{"name":{},"arguments":{input}}}"#, Json::from(tool));
    let [server, method] = [server, "tools/call"].map(str::to_owned);
    let mcp = Some(McpRequest { server, method, params, schema_digest: String::new() });
    AuthorizeRequest { mcp, ..AuthorizeRequest::default() }
}

fn touches(agent: Agent, action: &str) -> Touches {
    match (agent, action) {
        (Agent::Claude, "bash" | "bashoutput" | "killshell" | "killbash") => Touches::Thing("shell"),
        (Agent::Claude, "read" | "write" | "edit" | "multiedit") => Touches::File("file_path"),
        (Agent::Claude, "notebookedit" | "notebookread") => Touches::File("notebook_path"),
        (Agent::Claude, "glob" | "grep" | "ls") => Touches::File("path"),
        (Agent::Claude, "webfetch") => Touches::Web("url"),
        (Agent::Claude, "websearch") => Touches::Thing("web"),
        (Agent::Codex, "bash" | "shell" | "local_shell" | "exec_command" | "unified_exec" | "write_stdin") => {
            Touches::Thing("shell")
        }
        (Agent::Codex, "apply_patch") => Touches::Thing("patch"),
        (Agent::Codex, "web_search") => Touches::Thing("web"),
        // What is not known touches whatever it does.
        _ => Touches::Thing("local"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(tool: &str, input: impl ToString) -> Result<AuthorizeRequest, Refusal> {
        let cwd = "/srv/web".to_owned();
        let said = Said { tool: tool.to_owned(), cwd, input: input.to_string(), ..Said::default() };
        of(Agent::Claude, &said)
    }

    fn call(tool: &str, input: Json) -> String {
        let AuthorizeRequest { tool, action, resource, destination, .. } = said(tool, input).unwrap();
        format!("{tool}:{action}@{resource} {destination}").trim_end().to_owned()
    }

    #[test]
    fn a_tool_of_the_agents_own_is_a_call() {
        assert_eq!(call("Bash", json!({ "command": "ls" })), "claude:bash@shell");
        assert_eq!(call("Read", json!({ "file_path": "/etc/passwd" })), "claude:read@file/etc/passwd");
        assert_eq!(call("Edit", json!({ "file_path": "src/a b=.rs" })), "claude:edit@file/srv/web/src/a=20b=3D.rs");
        assert_eq!(call("Grep", json!({ "pattern": "/x" })), "claude:grep@file/srv/web");
        assert_eq!(call("Glob", json!({ "path": "/", "pattern": "**/*.{rs,toml}" })), "claude:glob@file");
        assert_eq!(
            call("WebFetch", json!({ "url": "https://a.example/b" })),
            "claude:webfetch@web https://a.example/b"
        );
        assert_eq!(call("Task", json!({})), "claude:task@local");
        let said = Said { tool: "apply_patch".to_owned(), input: r#"{"command":"x"}"#.to_owned(), ..Said::default() };
        let patch = of(Agent::Codex, &said).unwrap();
        assert_eq!((patch.tool.as_str(), patch.resource.as_str()), ("codex", "patch"));
    }

    #[test]
    fn what_could_be_another_file_is_refused() {
        for path in ["/srv/../etc/passwd", "../x", "/a//b", "a/./b", "~/x", "~", "~root/x", " /etc/passwd", "a\n", "\0"]
        {
            assert!(said("Read", json!({ "file_path": path })).is_err(), "{path:?}");
        }
        for pattern in ["/etc/*", "~/*", "../*", "a/../../*", "{..,a}/*", " /etc/*", "{/etc,/x}/*"] {
            assert!(said("Glob", json!({ "pattern": pattern })).is_err(), "{pattern:?}");
        }
        assert!(said("Read", json!({ "file_path": 7 })).is_err());
        assert!(said("WebFetch", json!({ "url": ["https://a.example"] })).is_err());
        assert!(said("Read", json!("x")).is_err());
    }

    /// Of two members with one name one reader takes the first, and another the last.
    #[test]
    fn what_is_said_is_said_once_and_goes_on_in_its_own_words() {
        let exact = r#"{ "n":1.0000000000000000001, "command":"l\u0073" }"#;
        assert_eq!(said("Bash", exact).unwrap().args, exact);
        for input in [
            r#"{"file_path":"/srv/a","file_path":"/etc/passwd"}"#,
            r#"{"file_path":"/srv/a","file\u005fpath":"/etc/passwd"}"#,
            r#"{"file_path":"/srv/a","File_Path":"/etc/passwd"}"#,
            r#"{"file_path":"/srv/a","edits":[{"x":1,"x":2}]}"#,
            r#"{"file_path":"/srv/a","limit":1e400}"#,
        ] {
            assert!(said("Read", input).is_err(), "{input}");
        }
    }

    #[test]
    fn a_tool_of_a_server_is_the_brokers_to_map() {
        let input = r#"{"title":"x","n":9007199254740993.0,"n":2}"#;
        let mcp = said("mcp__github__create_issue", input).unwrap().mcp.unwrap();
        assert_eq!((mcp.server.as_str(), mcp.method.as_str()), ("github", "tools/call"));
        assert_eq!(mcp.params, format!(r#"{{"name":"create_issue","arguments":{input}}}"#));
        for tool in ["mcp__", "mcp__a", "mcp__a__", "mcp____b", "mcp__a__b__c", "a b", "bash;x", "é"] {
            assert!(said(tool, json!({})).is_err(), "{tool}");
        }
    }
}
