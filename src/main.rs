//! The life of the process: crypto provider, command line, log, exit code.

use std::io::IsTerminal;
use std::process::ExitCode;

use belay::cli::Cli;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

fn main() -> ExitCode {
    // Named before anything asks for it: were a dependency to bring a second one, rustls could not choose.
    let installed = rustls::crypto::ring::default_provider().install_default();
    debug_assert!(installed.is_ok(), "nothing runs before this");
    match Cli::read(std::env::args_os()) {
        Ok(cli) => {
            log(cli.serves());
            cli.run()
        }
        Err(code) => code,
    }
}

/// Logs go to stderr: lines for a terminal, JSON for whatever collects a broker's. `BELAY_LOG` is a level, or
/// levels by module: `info`, `warn,belay::ledger=debug`.
fn log(serves: bool) {
    let default = if serves { LevelFilter::INFO } else { LevelFilter::WARN };
    let asked = std::env::var("BELAY_LOG").ok().and_then(|levels| levels.parse::<Targets>().ok());
    let levels = asked.unwrap_or_else(|| Targets::new().with_default(default));
    let terminal = std::io::stderr().is_terminal();
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colour);
    let log = tracing_subscriber::registry().with(levels);
    if serves && !terminal { log.with(lines.json()).init() } else { log.with(lines).init() }
}
