//! The settings of a coding agent: the hook put there beside all that is there, and found again.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::super::failed;
use super::Agent;
use crate::client::Refusal;
use crate::domain::error::Error;

/// Seconds that an agent gives the hook; it answers within four.
const TIMEOUT: u64 = 30;
/// The least that the agent has to give it.
const LEAST: u64 = 10;
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

/// The hook that an agent runs before every tool.
#[derive(Debug)]
pub struct Found {
    /// The program.
    pub belay: PathBuf,
    /// All of the command.
    pub command: String,
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
/// The settings are no JSON object of the known shape, keep every hook from running, or cannot be written.
pub fn install(hook: &Hook<'_>, dir: &Path) -> Result<bool, Refusal> {
    let file = file(hook.agent, dir);
    if let Some(off) = switched_off(hook.agent, dir)? {
        let why = "its `disableAllHooks` keeps every hook from running; take it away first";
        return Err(Error::malformed("settings", &off.to_string_lossy(), why).into());
    }
    let before = read(&file)?;
    let mut after = before.clone();
    let wrong =
        || Refusal::from(Error::malformed("settings", &file.to_string_lossy(), "its `hooks` are not as expected"));
    let hooks = after.as_object_mut().ok_or_else(wrong)?.entry("hooks").or_insert_with(|| json!({}));
    for event in EVENTS {
        let groups = hooks.as_object_mut().ok_or_else(wrong)?.entry(event).or_insert_with(|| json!([]));
        let groups = groups.as_array_mut().ok_or_else(wrong)?;
        for group in groups.iter_mut() {
            let handlers = group.as_object_mut().ok_or_else(wrong)?.get_mut("hooks");
            if let Some(handlers) = handlers.and_then(Value::as_array_mut) {
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

/// The hook that runs before every tool, if it is there as [`install`] writes it, and nothing switches hooks off.
///
/// # Errors
/// The settings are not JSON.
pub fn installed(agent: Agent, dir: &Path) -> Result<Option<Found>, Refusal> {
    let settings = read(&file(agent, dir))?;
    if switched_off(agent, dir)?.is_some() {
        return Ok(None);
    }
    let groups = settings["hooks"][EVENTS[0]].as_array().cloned().unwrap_or_default();
    let all = groups.iter().filter(|group| matches!(group["matcher"].as_str(), None | Some("" | "*" | ".*")));
    let mut handlers = all.flat_map(|group| group["hooks"].as_array().cloned().unwrap_or_default());
    Ok(handlers.find_map(|handler| found(agent, &handler)))
}

/// The settings that keep an agent from running any hook: of the project, of its user there, or of its user everywhere.
fn switched_off(agent: Agent, dir: &Path) -> Result<Option<PathBuf>, Refusal> {
    if agent == Agent::Codex {
        return Ok(None);
    }
    let home = std::env::var_os("HOME").map(|home| file(agent, Path::new(&home)));
    for file in [file(agent, dir), dir.join(".claude/settings.local.json")].into_iter().chain(home) {
        if read(&file)?["disableAllHooks"] == true {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// A handler that blocks: what else it might say (that it runs aside, for some calls, or for too short a time) could
/// undo that, so nothing else may stand there.
fn found(agent: Agent, handler: &Value) -> Option<Found> {
    let members = handler.as_object()?;
    let known = members.keys().all(|name| matches!(name.as_str(), "type" | "command" | "timeout"));
    let long = handler.get("timeout").is_none_or(|timeout| timeout.as_u64().is_some_and(|time| time >= LEAST));
    let (command, words) = (handler["command"].as_str()?, words(handler["command"].as_str()?)?);
    match &words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [belay, "--addr", _, "--identity", _, "guard", "hook", name, "--grant", _]
            if known && long && handler["type"] == "command" && *name == word(agent) =>
        {
            Some(Found { belay: PathBuf::from(belay), command: command.to_owned() })
        }
        _ => None,
    }
}

fn word(agent: Agent) -> &'static str {
    if agent == Agent::Claude { "claude" } else { "codex" }
}

impl Hook<'_> {
    fn command(&self, event: &str) -> String {
        let agent = word(self.agent);
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

/// The words that were [`quoted`]; none if a shell could make anything else of it.
fn words(command: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut within) = (Vec::new(), String::new(), false);
    let mut chars = command.chars();
    while let Some(char) = chars.next() {
        match (char, within) {
            ('\'', _) => within = !within,
            ('\\', false) => word.push(chars.next()?),
            (' ', false) => words.push(std::mem::take(&mut word)),
            _ => word.push(char),
        }
    }
    words.push(word);
    let again: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    (again.join(" ") == command).then_some(words)
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
        assert!(installed(hook.agent, dir.path()).unwrap().is_none());
        assert!(install(&hook, dir.path()).unwrap());
        assert!(!install(&hook, dir.path()).unwrap(), "the same again");
        hook.grant = "grt_2";
        assert!(install(&hook, dir.path()).unwrap());
        let settings = read(&path).unwrap();
        assert_eq!(settings["hooks"]["PreToolUse"][0], theirs);
        assert_eq!(settings["hooks"]["PreToolUse"].as_array().unwrap().len(), 2);
        assert_eq!((&settings["model"], &settings["hooks"]["Stop"]), (&json!("x"), &json!([])));
        let found = installed(hook.agent, dir.path()).unwrap().unwrap();
        let command = "'/opt/my belay' --addr https://127.0.0.1:1 --identity /i guard hook claude --grant grt_2";
        assert_eq!((found.command.as_str(), found.belay.as_path()), (command, hook.belay));
        for wrong in [json!({ "hooks": [] }), json!({ "hooks": { "PreToolUse": ["x"] } }), json!(["hooks"])] {
            write(&path, &wrong).unwrap();
            assert!(install(&hook, dir.path()).is_err(), "{wrong}");
            assert_eq!(read(&path).unwrap(), wrong, "what is not understood is left alone");
        }
    }

    /// Whoever may write the settings writes what looks like the hook, and is none.
    #[test]
    fn a_hook_is_one_only_as_it_was_put_there() {
        let dir = tempfile::tempdir().unwrap();
        let hook = Hook {
            agent: Agent::Claude,
            belay: Path::new("/opt/it's belay"),
            addr: "https://127.0.0.1:1",
            identity: Path::new("/i"),
            grant: "grt_1",
        };
        let path = file(hook.agent, dir.path());
        let good = json!({ "type": "command", "command": hook.command(EVENTS[0]), "timeout": 30 });
        let with = |name: &str, value: Value| {
            let mut handler = good.clone();
            handler[name] = value;
            handler
        };
        let finds = |handler: &Value, off: Value| {
            let settings = json!({ "hooks": { "PreToolUse": [{ "hooks": [handler] }] }, "disableAllHooks": off });
            write(&path, &settings).unwrap();
            installed(hook.agent, dir.path()).unwrap()
        };
        assert_eq!(finds(&good, json!(false)).unwrap().belay, hook.belay);
        assert!(finds(&good, json!(true)).is_none());
        assert!(install(&hook, dir.path()).is_err(), "it would do nothing");
        let command = hook.command(EVENTS[0]);
        for wrong in [
            with("type", json!("prompt")),
            with("timeout", json!(1)),
            with("timeout", json!(0.5)),
            with("async", json!(true)),
            with("if", json!("Bash(git *)")),
            with("command", json!(format!("{command}; true"))),
            with("command", json!(format!("{command} || true"))),
            with("command", json!(format!("{command}\ntrue"))),
            with("command", json!(format!("true # {command}"))),
            with("command", json!(command.replace("grt_1", "$(true)"))),
            with("command", json!(command.replace("/i ", "\"/i\" "))),
            with("command", json!(hook.command(EVENTS[1]))),
            with("command", json!(command.replace("hook claude", "hook codex"))),
        ] {
            assert!(finds(&wrong, Value::Null).is_none(), "{wrong}");
        }
        assert!(finds(&good, Value::Null).is_some());
        let theirs = dir.path().join(".claude/settings.local.json");
        write(&theirs, &json!({ "disableAllHooks": true })).unwrap();
        assert!(installed(hook.agent, dir.path()).unwrap().is_none() && install(&hook, dir.path()).is_err());
    }
}
