//! From what a coding agent says of a tool to a call.
//!
//! A tool of an MCP server is the same call as through every other door: the broker maps it. A tool of the agent's own is
//! `claude:bash@shell` or `codex:apply_patch@patch`, with its input as arguments.

use serde_json::{Value, json};

use super::Agent;
use crate::client::Refusal;
use crate::domain::error::Error;
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

/// The call that a tool with this input is, of all that the agent says.
///
/// # Errors
/// It cannot be said which: the name could be read in two ways, or what it touches cannot be named.
pub(super) fn of(agent: Agent, tool: &str, said: &Value) -> Result<AuthorizeRequest, Refusal> {
    let wrong = |why: &str| Refusal::from(Error::malformed("tool_name", tool, why));
    let input = match &said["tool_input"] {
        Value::Null => json!({}),
        input @ Value::Object(_) => input.clone(),
        _ => return Err(Error::malformed("tool_input", "…", "expected an object").into()),
    };
    if let Some(name) = tool.strip_prefix("mcp__") {
        return match name.split("__").collect::<Vec<_>>()[..] {
            [server, name] if !server.is_empty() && !name.is_empty() => {
                let params = json!({ "name": name, "arguments": input }).to_string();
                let [server, method] = [server, "tools/call"].map(str::to_owned);
                let mcp = Some(McpRequest { server, method, params, schema_digest: String::new() });
                Ok(AuthorizeRequest { mcp, ..AuthorizeRequest::default() })
            }
            _ => Err(wrong("expected mcp__SERVER__TOOL, neither with `__` in its own name")),
        };
    }
    let action = tool.to_ascii_lowercase();
    if !action.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
        return Err(wrong("a tool's name has letters, digits, `_` and `-`"));
    }
    let (resource, destination) = match touches(agent, &action) {
        Touches::Thing(thing) => (thing.to_owned(), String::new()),
        Touches::File(member) => (file(&input, member, &said["cwd"])?, String::new()),
        Touches::Web(member) => ("web".to_owned(), input[member].as_str().unwrap_or_default().to_owned()),
    };
    let tool = if agent == Agent::Claude { "claude" } else { "codex" }.to_owned();
    Ok(AuthorizeRequest { tool, action, resource, args: input.to_string(), destination, ..AuthorizeRequest::default() })
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

/// `file/` and the parts of an absolute path. What a part of a resource cannot hold is written as `=` and two
/// hexadecimal digits, so that no two files have one name. Links are not followed.
fn file(input: &Value, member: &str, cwd: &Value) -> Result<String, Refusal> {
    let cwd = cwd.as_str().unwrap_or_default();
    let path = match &input[member] {
        Value::Null => cwd.to_owned(),
        Value::String(path) if path.starts_with('/') => path.clone(),
        Value::String(path) => format!("{}/{}", cwd.trim_end_matches('/'), path.trim_start_matches("./")),
        _ => return Err(Error::malformed("tool_input", "…", "a path is a string").into()),
    };
    let wrong = |why: &str| Refusal::from(Error::malformed("path", &path, why));
    let Some(rest) = path.strip_prefix('/') else { return Err(wrong("expected an absolute path, or a cwd")) };
    let parts = rest.trim_end_matches('/').split('/').map(|part| match part {
        "." | ".." => Err(wrong("name the file itself, without `.` and `..`")),
        "" if !rest.trim_end_matches('/').is_empty() => Err(wrong("a part of it is empty")),
        part => Ok(escaped(part)),
    });
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    Ok(format!("file/{}", parts.join("/")).trim_end_matches('/').to_owned())
}

fn escaped(part: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-:@+,".contains(&byte);
    part.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("={byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(tool: &str, input: Value) -> Result<AuthorizeRequest, Refusal> {
        of(Agent::Claude, tool, &json!({ "tool_input": input, "cwd": "/srv/web" }))
    }

    fn call(tool: &str, input: Value) -> String {
        let AuthorizeRequest { tool, action, resource, destination, .. } = said(tool, input).unwrap();
        format!("{tool}:{action}@{resource} {destination}").trim_end().to_owned()
    }

    #[test]
    fn a_tool_of_the_agents_own_is_a_call() {
        assert_eq!(call("Bash", json!({ "command": "ls" })), "claude:bash@shell");
        assert_eq!(call("Read", json!({ "file_path": "/etc/passwd" })), "claude:read@file/etc/passwd");
        assert_eq!(call("Edit", json!({ "file_path": "src/a b=.rs" })), "claude:edit@file/srv/web/src/a=20b=3D.rs");
        assert_eq!(call("Grep", json!({ "pattern": "x" })), "claude:grep@file/srv/web");
        assert_eq!(call("Glob", json!({ "path": "/" })), "claude:glob@file");
        assert_eq!(
            call("WebFetch", json!({ "url": "https://a.example/b" })),
            "claude:webfetch@web https://a.example/b"
        );
        assert_eq!(call("Task", json!({})), "claude:task@local");
        let patch = of(Agent::Codex, "apply_patch", &json!({ "tool_input": { "command": "x" } })).unwrap();
        assert_eq!((patch.tool.as_str(), patch.resource.as_str()), ("codex", "patch"));
    }

    #[test]
    fn what_could_be_another_file_is_refused() {
        for path in ["/srv/../etc/passwd", "../x", "/a//b", "a/./b"] {
            assert!(said("Read", json!({ "file_path": path })).is_err(), "{path}");
        }
        assert!(said("Read", json!({ "file_path": 7 })).is_err());
        assert!(said("Read", json!("x")).is_err());
    }

    #[test]
    fn a_tool_of_a_server_is_the_brokers_to_map() {
        let mcp = said("mcp__github__create_issue", json!({ "title": "x" })).unwrap().mcp.unwrap();
        assert_eq!((mcp.server.as_str(), mcp.method.as_str()), ("github", "tools/call"));
        let params: Value = serde_json::from_str(&mcp.params).unwrap();
        assert_eq!(params, json!({ "name": "create_issue", "arguments": { "title": "x" } }));
        for tool in ["mcp__", "mcp__a", "mcp__a__", "mcp____b", "mcp__a__b__c", "a b", "bash;x", "é"] {
            assert!(said(tool, json!({})).is_err(), "{tool}");
        }
    }
}
