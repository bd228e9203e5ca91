//! `belay guard`: what stands between an agent and what it uses.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::connect::Global;
use super::output::{Answer, Outcome};
use super::secret::Secret;
use super::{lifetime, wait};
use crate::client::Refusal;
use crate::domain::error::Error;
use crate::guard::{Authority, Ended, Source, mcp};

/// Of `belay guard mcp --help`.
const MCP: &str = "Examples:
  belay --identity ./coder guard mcp --tool files --grant grt_01m826b20gfdtagbpvxzh7napv \\
      -- npx -y @modelcontextprotocol/server-filesystem /srv/data
  belay --identity ./coder guard mcp --tool github --token @token.txt --env GITHUB_HOST -- github-mcp-server stdio";

/// What to guard.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Guard an MCP server over stdio: run this in its place, with the server's command behind `--`
    #[command(after_help = MCP)]
    Mcp(Mcp),
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
    #[arg(long, env = "BELAY_GRANT", hide_env_values = true, required_unless_present = "token")]
    grant: Option<String>,
    /// A token, `@FILE` (read again as it changes), or `-` for stdin
    #[arg(long, value_name = "TOKEN|@FILE|-", conflicts_with = "grant")]
    token: Option<Secret>,
}

impl Command {
    /// Does it.
    pub fn run(self, global: &Global) -> Answer {
        match self {
            Self::Mcp(mcp) => wait(mcp.run(global)),
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

impl Under {
    fn source(self) -> Result<Source, Refusal> {
        match (self.grant, self.token) {
            (_, Some(Secret::File(path))) => Ok(Source::File(path.into())),
            // The client's messages come on stdin.
            (_, Some(Secret::Stdin)) => {
                Err(Error::malformed("token", "-", "stdin is the MCP client's; take the token from @FILE").into())
            }
            (_, Some(token)) => Ok(Source::Token(token.read()?)),
            (Some(grant), None) => Ok(Source::Grant(grant)),
            (None, None) => Err(Error::missing("grant").into()),
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
