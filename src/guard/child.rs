//! What is guarded: a process in a group of its own, with a clean environment, that does not outlive its guard.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio as Pipe};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};
use tokio::process::{Child as Process, ChildStdin, ChildStdout, Command};

use crate::client::Refusal;
use crate::domain::error::{Code, Error};

/// What every child gets of the environment, where it is set. No variable of ours ever.
const PLAIN: [&str; 8] = ["PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ", "USER"];
/// From asking it to end until it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(10);

/// A running child. Dropped, it is killed with all that it started in its group.
pub struct Child {
    process: Process,
    group: Option<Pid>,
    /// Where it has no group of its own.
    alone: Option<Pid>,
}

/// Where its stdin and stdout lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdio {
    /// To this process.
    Piped,
    /// Where this process's lead.
    Shared,
    /// The same, and that is a terminal: only who is in its foreground group may read it, so this has no group of its own,
    /// and what it starts is not ended with it.
    Terminal,
}

/// The environment of a child: the plain part of ours, and what is named.
///
/// # Errors
/// A name is one of Belay's own variables: those may hold what the child is not to have.
pub fn environment(named: &[String]) -> Result<Vec<(OsString, OsString)>, Refusal> {
    if let Some(ours) = named.iter().find(|name| name.starts_with("BELAY_") || name.is_empty() || name.contains('=')) {
        let why = "name a variable of this environment; those of Belay itself are not passed on";
        return Err(Error::malformed("env", ours, why).into());
    }
    let names = PLAIN.iter().copied().chain(named.iter().map(String::as_str));
    Ok(names.filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?))).collect())
}

impl Child {
    /// Starts it.
    ///
    /// # Errors
    /// There is no such program, or it cannot be started.
    pub fn start<V: AsRef<OsStr>>(
        words: &[OsString],
        environment: impl IntoIterator<Item = (OsString, V)>,
        stdio: Stdio,
    ) -> Result<Self, Refusal> {
        let (program, arguments) = words.split_first().ok_or_else(|| Error::missing("command"))?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(environment).kill_on_drop(true);
        if stdio != Stdio::Terminal {
            command.process_group(0);
        }
        if stdio == Stdio::Piped {
            command.stdin(Pipe::piped()).stdout(Pipe::piped());
        }
        let process = command.spawn().map_err(|error| {
            let message = format!("cannot start `{}`: {error}", program.to_string_lossy().escape_debug());
            Refusal::from(Error::new(Code::Invalid, "not_started", message).on("command"))
        })?;
        let id = process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let (group, alone) = if stdio == Stdio::Terminal { (None, id) } else { (id, None) };
        Ok(Self { process, group, alone })
    }

    /// Its two ends, if they are piped; once.
    pub fn pipes(&mut self) -> Option<(ChildStdin, ChildStdout)> {
        self.process.stdin.take().zip(self.process.stdout.take())
    }

    /// Waits for it: its exit code, 128 + the signal if one ended it.
    pub async fn wait(&mut self) -> i32 {
        let ended = self.process.wait().await;
        self.alone = None;
        ended.map_or(1, code)
    }

    /// Passes a signal on to all of its group.
    pub fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // It may be over by now.
            let _ = kill_process_group(group, signal);
        }
        if let Some(alone) = self.alone {
            let _ = kill_process(alone, signal);
        }
    }

    /// Asks it and all that it started to end, and kills what has not within two seconds.
    pub async fn end(&mut self) {
        self.signal(Signal::TERM);
        for _ in 0..GRACE.as_millis() / LOOK.as_millis() {
            let ended = matches!(self.process.try_wait(), Ok(Some(_)));
            if ended && self.group.is_none_or(|group| test_kill_process_group(group).is_err()) {
                (self.group, self.alone) = (None, None);
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
        self.signal(Signal::KILL);
        (self.group, self.alone) = (None, None);
        let _ = self.process.wait().await;
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// As shells give it.
fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}
