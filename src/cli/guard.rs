//! `belay guard`: what stands between an agent and what it uses.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::connect::Global;
use super::output::{Answer, Outcome, failed, note};
use super::secret::Secret;
use super::{lifetime, wait};
use crate::client::Refusal;
use crate::domain::error::{Code, Error};
use crate::guard::hook::{self, Agent, Told, settings};
use crate::guard::{Authority, Ended, Source, mcp};

/// What to guard.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Guard an MCP server over stdio: run this in its place, with the server's command behind `--`
    #[command(
        after_help = "Example:\n  belay --identity ./coder guard mcp --tool files --grant grt_01m826b20gfdtagbpvxzh7napv -- npx -y @modelcontextprotocol/server-filesystem /srv/data"
    )]
    Mcp(Mcp),
    /// Decide one call of a coding agent: its JSON on stdin, the answer in its own form; whatever fails blocks
    #[command(
        after_help = "Example:\n  belay --identity ./coder guard hook claude --grant grt_01m826b20gfdtagbpvxzh7napv"
    )]
    Hook(Hook),
    /// Put the hook into the settings of a coding agent, beside all that is there
    #[command(
        after_help = "Example:\n  belay --identity ./coder guard init claude --dir ~/src/web --grant grt_01m826b20gfdtagbpvxzh7napv"
    )]
    Init(Init),
}

/// Which coding agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Claude Code.
    Claude,
    /// Codex.
    Codex,
}

/// A call of a coding agent.
#[derive(Debug, Args)]
pub struct Hook {
    /// Whose hook this is
    agent: Kind,
    #[command(flatten)]
    under: Under,
    /// The call was made: say what became of it
    #[arg(long)]
    post: bool,
}

/// Settings to write.
#[derive(Debug, Args)]
pub struct Init {
    /// Whose settings
    agent: Kind,
    /// The directory of the project
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// The grant under which calls are made
    #[arg(long, env = "BELAY_GRANT", hide_env_values = true)]
    grant: String,
}

/// An MCP server to guard.
#[derive(Debug, Args)]
pub struct Mcp {
    /// The server's name: the tool in scopes, as in `files:read_file@mcp`
    #[arg(long, value_name = "SERVER")]
    tool: String,
    #[command(flatten)]
    under: Under,
    /// Renew the grant, too, for as long as it may be
    #[arg(long, requires = "grant")]
    keep: bool,
    /// For how long a call waits for a human; 0s: it does not, and says how to go on
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = waiting)]
    wait: Duration,
    /// A variable of this environment that the server gets as well
    #[arg(long, value_name = "NAME")]
    env: Vec<String>,
    /// The server and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What calls are made under.
#[derive(Debug, Args)]
pub struct Under {
    /// The grant under which tokens are issued
    #[arg(long, env = "BELAY_GRANT", hide_env_values = true)]
    grant: Option<String>,
    /// A token, `@FILE` (read again as it changes), or `-` for stdin
    #[arg(long, value_name = "TOKEN|@FILE|-")]
    token: Option<Secret>,
    /// The same, of a file
    #[arg(long, env = "BELAY_TOKEN_FILE", value_name = "FILE", hide = true, hide_env_values = true)]
    token_file: Option<PathBuf>,
}

impl Command {
    /// Does it.
    pub fn run(self, global: &Global) -> Answer {
        match self {
            Self::Mcp(mcp) => wait(mcp.run(global)),
            Self::Hook(hook) => Ok(hook.run(global)),
            Self::Init(init) => init.run(global),
        }
    }
}

impl Mcp {
    async fn run(self, global: &Global) -> Answer {
        let options = mcp::Options {
            server: self.tool,
            words: self.command,
            environment: mcp::environment(&self.env)?,
            wait: self.wait,
        };
        let source = self.under.source()?;
        let authority = Authority::open(&global.addr_or_default(), &global.identity()?, source, self.keep).await?;
        match mcp::run(authority, options).await? {
            Ended::Stopped | Ended::Child(0) => Ok(Outcome::Done),
            Ended::Child(_) => Ok(Outcome::Failed),
            Ended::Cut { code, message } => Err(over(code, message)),
        }
    }
}

impl Hook {
    /// It answers in any case, and every failure is an answer that blocks.
    fn run(self, global: &Global) -> Outcome {
        let identity = hook::identity(global.identity.as_deref());
        let options = identity.and_then(|identity| {
            let source = self.under.source()?;
            Ok(hook::Options { agent: self.agent.into(), addr: global.addr_or_default(), identity, source })
        });
        let told = match (options, self.post) {
            (Ok(options), false) => hook::before(std::io::stdin(), options),
            (Ok(options), true) => hook::after(std::io::stdin(), options),
            (Err(refusal), post) => {
                let err = format!("belay blocks this call: {refusal}");
                Told { out: String::new(), err, code: if post { 1 } else { 2 } }
            }
        };
        let written = told.out.is_empty() || global.printer().text(&told.out).is_ok();
        if !told.err.is_empty() {
            note(&told.err);
        }
        match written {
            true => Outcome::Code(told.code),
            false => {
                note("belay blocks this call: the answer cannot be written");
                Outcome::Code(2)
            }
        }
    }
}

impl Init {
    fn run(self, global: &Global) -> Answer {
        let identity = hook::identity(global.identity.as_deref())?;
        // The agent runs it from wherever it is.
        let identity = std::fs::canonicalize(&identity).map_err(|error| {
            Error::malformed("identity", &identity.to_string_lossy(), &format!("cannot find it: {error}"))
        })?;
        crate::client::Identity::load(&identity)?;
        let belay = std::env::current_exe()
            .map_err(|error| failed("no_program", format!("cannot find this program's own file: {error}")))?;
        let (agent, addr) = (Agent::from(self.agent), global.addr_or_default());
        let hook = settings::Hook { agent, belay: &belay, addr: &addr, identity: &identity, grant: &self.grant };
        let changed = settings::install(&hook, &self.dir)?;
        let file = settings::file(agent, &self.dir).display().to_string();
        let document = json!({ "file": file, "changed": changed, "grant": self.grant });
        global.printer().print(&document, || {
            let what = if changed { "every tool is decided now, by the hook in" } else { "nothing to change in" };
            let (kind, dir) = (self.agent.to_possible_value(), self.dir.display());
            let kind = kind.as_ref().map_or("claude", clap::builder::PossibleValue::get_name);
            format!("{what} {file}\nprove it with: belay doctor {kind} --dir {dir}")
        })
    }
}

impl From<Kind> for Agent {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Claude => Self::Claude,
            Kind::Codex => Self::Codex,
        }
    }
}

impl Under {
    fn source(self) -> Result<Source, Refusal> {
        match (self.token, self.grant, self.token_file) {
            (Some(Secret::File(path)), _, _) => Ok(Source::File(path.into())),
            // The messages come on stdin.
            (Some(Secret::Stdin), _, _) => {
                Err(Error::malformed("token", "-", "stdin has the messages; take the token from @FILE").into())
            }
            (Some(token), _, _) => Ok(Source::Token(token.read()?)),
            (None, Some(grant), _) if !grant.is_empty() => Ok(Source::Grant(grant)),
            (None, _, Some(file)) if !file.as_os_str().is_empty() => Ok(Source::File(file)),
            (None, _, _) => {
                let why = "no grant is named: give --grant or --token, or set BELAY_GRANT or BELAY_TOKEN_FILE";
                Err(Error::new(Code::Invalid, "no_grant", why).on("grant").into())
            }
        }
    }
}

/// What was guarded was ended, for its authority is over.
pub fn over(code: String, message: String) -> Refusal {
    Refusal { reason: code, ..Error::denied("over", message).into() }
}

/// A time to wait; none of it is one.
fn waiting(text: &str) -> Result<Duration, Error> {
    if matches!(text, "0" | "0s") {
        return Ok(Duration::ZERO);
    }
    lifetime(text).map(|millis| Duration::from_millis(millis.unsigned_abs()))
}
