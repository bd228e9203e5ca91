//! The settings of a coding agent: the hook put there beside all that is there, and found again.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::super::failed;
use super::Agent;
use crate::client::Refusal;
use crate::domain::error::Error;

/// Seconds that an agent gives the hook; it answers within four.
const TIMEOUT: u64 = 30;
/// Before a call, and after it.
const EVENTS: [&str; 2] = ["PreToolUse", "PostToolUse"];

/// What the command of a hook has to say.
#[derive(Debug)]
pub struct Hook<'a> {
    /// Whose.
    pub agent: Agent,
    /// The program.
    pub belay: &'a Path,
    /// The broker.
    pub addr: &'a str,
    /// The agent's identity.
    pub identity: &'a Path,
    /// The grant.
    pub grant: &'a str,
}

/// Where an agent has its settings, in the directory of a project.
pub fn file(agent: Agent, dir: &Path) -> PathBuf {
    match agent {
        Agent::Claude => dir.join(".claude/settings.json"),
        Agent::Codex => dir.join(".codex/hooks.json"),
    }
}

/// Puts the hook into the settings, before and after every tool; whether anything changed. A hook of Belay's that is
/// there is replaced, all else is left as it is.
///
/// # Errors
/// The settings are no JSON object of the known shape, or cannot be written.
pub fn install(hook: &Hook<'_>, dir: &Path) -> Result<bool, Refusal> {
    let file = file(hook.agent, dir);
    let before = read(&file)?;
    let mut after = before.clone();
    let wrong =
        || Refusal::from(Error::malformed("settings", &file.to_string_lossy(), "its `hooks` are not as expected"));
    let hooks = after.as_object_mut().ok_or_else(wrong)?.entry("hooks").or_insert_with(|| json!({}));
    for event in EVENTS {
        let groups = hooks.as_object_mut().ok_or_else(wrong)?.entry(event).or_insert_with(|| json!([]));
        let groups = groups.as_array_mut().ok_or_else(wrong)?;
        for group in groups.iter_mut() {
            if let Some(handlers) = group["hooks"].as_array_mut() {
                handlers.retain(|handler| !is_ours(handler));
            }
        }
        groups.retain(|group| group["hooks"].as_array().is_none_or(|handlers| !handlers.is_empty()));
        let handler = json!({ "type": "command", "command": hook.command(event), "timeout": TIMEOUT });
        groups.push(json!({ "matcher": "*", "hooks": [handler] }));
    }
    if after == before {
        return Ok(false);
    }
    write(&file, &after)?;
    Ok(true)
}

/// The command that runs before every tool, if there is one of Belay's.
///
/// # Errors
/// The settings are not JSON.
pub fn installed(agent: Agent, dir: &Path) -> Result<Option<String>, Refusal> {
    let settings = read(&file(agent, dir))?;
    if settings["disableAllHooks"] == true {
        return Ok(None);
    }
    let groups = settings["hooks"][EVENTS[0]].as_array().cloned().unwrap_or_default();
    let all = groups.iter().filter(|group| matches!(group["matcher"].as_str(), None | Some("" | "*" | ".*")));
    let mut handlers = all.flat_map(|group| group["hooks"].as_array().cloned().unwrap_or_default());
    Ok(handlers.find(is_ours).and_then(|handler| handler["command"].as_str().map(str::to_owned)))
}

impl Hook<'_> {
    fn command(&self, event: &str) -> String {
        let agent = if self.agent == Agent::Claude { "claude" } else { "codex" };
        let after = if event == EVENTS[1] { " --post" } else { "" };
        let [belay, identity] = [self.belay, self.identity].map(|path| quoted(&path.to_string_lossy()));
        let [addr, grant] = [self.addr, self.grant].map(quoted);
        format!("{belay} --addr {addr} --identity {identity} guard hook {agent} --grant {grant}{after}")
    }
}

/// As a shell reads it as one word.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:@".contains(&byte);
    match !word.is_empty() && word.bytes().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

fn is_ours(handler: &Value) -> bool {
    handler["command"].as_str().is_some_and(|command| command.contains(" guard hook "))
}

fn read(file: &Path) -> Result<Value, Refusal> {
    let wrong = |why: &str| Refusal::from(Error::malformed("settings", &file.to_string_lossy(), why));
    match std::fs::read_to_string(file) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| wrong(&format!("it is not JSON: {error}"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Object(Map::new())),
        Err(error) => Err(wrong(&format!("cannot read it: {error}"))),
    }
}

/// Whole, or not at all.
fn write(file: &Path, settings: &Value) -> Result<(), Refusal> {
    use std::io::Write as _;
    let wrong = |error: std::io::Error| failed("not_written", format!("cannot write {}: {error}", file.display()));
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(wrong)?;
    let mut new = tempfile::NamedTempFile::new_in(folder).map_err(wrong)?;
    writeln!(new, "{settings:#}").map_err(wrong)?;
    new.persist(file).map_err(|error| wrong(error.error)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_hooks_stay_and_a_second_time_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut hook = Hook {
            agent: Agent::Claude,
            belay: Path::new("/opt/my belay"),
            addr: "https://127.0.0.1:1",
            identity: Path::new("/i"),
            grant: "grt_1",
        };
        let path = file(hook.agent, dir.path());
        let theirs = json!({ "matcher": "Bash", "hooks": [{ "type": "command", "command": "lint" }] });
        write(&path, &json!({ "model": "x", "hooks": { "PreToolUse": [theirs], "Stop": [] } })).unwrap();
        assert_eq!(installed(hook.agent, dir.path()).unwrap(), None);
        assert!(install(&hook, dir.path()).unwrap());
        assert!(!install(&hook, dir.path()).unwrap(), "the same again");
        hook.grant = "grt_2";
        assert!(install(&hook, dir.path()).unwrap());
        let settings = read(&path).unwrap();
        assert_eq!(settings["hooks"]["PreToolUse"][0], theirs);
        assert_eq!(settings["hooks"]["PreToolUse"].as_array().unwrap().len(), 2);
        assert_eq!((&settings["model"], &settings["hooks"]["Stop"]), (&json!("x"), &json!([])));
        let command = installed(hook.agent, dir.path()).unwrap().unwrap();
        assert_eq!(command, "'/opt/my belay' --addr https://127.0.0.1:1 --identity /i guard hook claude --grant grt_2");
        write(&path, &json!({ "hooks": [] })).unwrap();
        assert!(install(&hook, dir.path()).is_err());
        assert_eq!(read(&path).unwrap(), json!({ "hooks": [] }), "what is not understood is left alone");
    }
}
