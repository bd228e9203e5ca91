//! `belay run`: a command under a grant of its own.

use std::ffi::OsString;

use clap::Args;

use super::connect::Global;
use super::guard::over;
use super::lifetime;
use super::output::{Answer, Outcome};
use crate::guard::{Ended, hook, mcp, run};

/// Of `belay run --help`.
pub const EXAMPLE: &str = "Example:
  belay --identity ./coder run --task 'nightly report' --scope 'postgres:select@db/orders/*' -- ./report.sh

The command gets PATH, HOME, LANG and their like, BELAY_SOCKET, and what --env names. It ends with the command's own
exit code, or 3 if the grant was cut.";

/// A command to run.
#[derive(Debug, Args)]
pub struct Command {
    /// What is to be done
    #[arg(long, value_name = "PURPOSE")]
    task: String,
    /// What for: tool:action@resource
    #[arg(long, required = true, num_args = 1.., value_name = "SCOPE")]
    scope: Vec<String>,
    /// For how long at most [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    ttl: Option<i64>,
    /// For how long the grant lives when nobody renews it any more
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = lifetime)]
    beat: i64,
    /// A variable of this environment that the command gets as well
    #[arg(long, value_name = "NAME")]
    env: Vec<String>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        let options = run::Options {
            addr: global.addr_or_default(),
            identity: hook::identity(global.identity.as_deref())?,
            purpose: self.task,
            scopes: self.scope,
            ttl_ms: self.ttl.unwrap_or_default(),
            beat_ms: self.beat,
            words: self.command,
            environment: mcp::environment(&self.env)?,
        };
        match run::run(options).await? {
            Ended::Child(code) => Ok(Outcome::Code(u8::try_from(code).unwrap_or(1))),
            Ended::Stopped => Ok(Outcome::Code(143)),
            Ended::Cut { code, message } => Err(over(code, message)),
        }
    }
}
