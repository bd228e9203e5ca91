//! The real binary: a broker in a directory of its own, and command lines that ask it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// What ends by itself has ended by then, on a busy machine too.
const LONG: Duration = Duration::from_secs(30);

/// A broker process. It is killed by its process id when this is dropped.
pub struct Broker {
    child: Child,
    pub home: PathBuf,
    pub addr: String,
    pub http: String,
    _directory: Option<TempDir>,
}

/// What a command line came to.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Broker {
    /// A development broker in a new directory, on free ports.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut broker = Self::start_in(directory.path(), &[]);
        broker._directory = Some(directory);
        broker
    }

    /// A development broker over what is in `home`, with these variables set.
    pub fn start_in(home: &Path, env: &[(&str, &str)]) -> Self {
        Self::start_with(home, &[], env)
    }

    /// The same, with further arguments of `serve`.
    pub fn start_with(home: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Self {
        let arguments = [&["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"], arguments].concat();
        Self::ready(serve(home, &arguments, env), home)
    }

    /// A development broker over what is in `home`, at this address.
    pub fn start_at(home: &Path, grpc: &str) -> Self {
        Self::ready(serve(home, &["--grpc", grpc, "--http", "127.0.0.1:0"], &[]), home)
    }

    /// A broker of the configuration `belay.toml` in `home`, over what `belay init` made there, its operator's
    /// identity included.
    pub fn start_production(home: &Path) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(home.join("serve.log")).unwrap();
        let mut command = belay(home);
        command.args(["-o", "json", "serve", "--config"]).arg(home.join("belay.toml"));
        command.stdout(Stdio::piped()).stderr(log);
        Self::ready(command, home)
    }

    fn ready(mut command: Command, home: &Path) -> Self {
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no ready line but {line:?}"));
        let field = |name: &str| ready[name].as_str().unwrap().to_owned();
        Self { child, home: home.to_owned(), addr: field("grpc"), http: field("http"), _directory: None }
    }

    /// Runs a command line as the development operator.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.run_as(&self.home.join("operator"), arguments)
    }

    /// Runs a command line as whoever's identity is in `identity`.
    pub fn run_as(&self, identity: &Path, arguments: &[&str]) -> Ran {
        let mut command = belay(&self.home);
        command.arg("--addr").arg(&self.addr).arg("--identity").arg(identity).args(["-o", "json"]).args(arguments);
        ran(command)
    }

    /// Registers and enrolls an agent: the directory of its identity.
    pub fn agent(&self, name: &str) -> PathBuf {
        let registered = self.run(&["agent", "register", name, "--owner", "team", "--purpose", "testing"]).ok();
        let directory = self.home.join(name);
        let token = registered["join_token"].as_str().unwrap();
        let out = directory.to_str().unwrap();
        self.run(&["agent", "enroll", "--join-token", token, "--out", out]).ok();
        directory
    }

    /// This broker is the other one from now on, in the same home.
    pub fn replace(&mut self, mut other: Self) {
        other._directory = self._directory.take();
        *self = other;
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether it ends by itself, within some seconds.
    pub fn died(&mut self) -> bool {
        ends(&mut self.child, Duration::from_secs(5)).is_some()
    }

    /// Waits for it to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Ran {
    /// The answer, of a command that must have succeeded.
    pub fn ok(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("not one document: {self:?}"))
    }

    /// The error, of a command that must have ended with this code.
    pub fn err(&self, code: i32) -> Value {
        assert_eq!(self.code, code, "{self:?}");
        let error: Value = serde_json::from_str(&self.stderr).unwrap_or_else(|_| panic!("not one document: {self:?}"));
        error["error"].clone()
    }
}

/// The binary, with `BELAY_HOME` and nothing else of ours in its environment.
pub fn belay(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_belay"));
    for name in ["BELAY_ADDR", "BELAY_IDENTITY", "BELAY_OUTPUT", "BELAY_LOG", "BELAY_CRASH", "BELAY_PANIC"] {
        command.env_remove(name);
    }
    command.env("BELAY_HOME", home).stdin(Stdio::null());
    command
}

/// `belay serve --dev`, not yet started; its log goes to `serve.log` in `home`.
pub fn serve(home: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Command {
    let log = std::fs::File::options().create(true).append(true).open(home.join("serve.log")).unwrap();
    let mut command = belay(home);
    command.args(["-o", "json", "serve", "--dev"]).args(arguments).envs(env.iter().copied());
    command.stdout(Stdio::piped()).stderr(log);
    command
}

/// Runs a command to its end.
pub fn ran(mut command: Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The same for a command that may go on for ever, if what is tested is broken: it is killed after 30 s.
pub fn ran_in_time(mut command: Command) -> Ran {
    let (out, err) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
    command.stdout(out.reopen().unwrap()).stderr(err.reopen().unwrap());
    let mut child = command.spawn().unwrap();
    let ended = ends(&mut child, LONG);
    if ended.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let read = |file: &tempfile::NamedTempFile| std::fs::read_to_string(file.path()).unwrap();
    Ran { code: ended.and_then(|status| status.code()).unwrap_or(-1), stdout: read(&out), stderr: read(&err) }
}

/// Waits until a process has ended by itself, which takes it less than half a minute.
pub fn ended(mut child: Child) -> std::process::Output {
    if ends(&mut child, LONG).is_some() {
        return child.wait_with_output().unwrap();
    }
    child.kill().unwrap();
    panic!("it goes on: {:?}", child.wait_with_output().unwrap());
}

/// How a process ended by itself, if it did in this time.
fn ends(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    (0..within.as_millis() / 10).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        child.try_wait().unwrap()
    })
}
