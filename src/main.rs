//! The life of the process: crypto provider, command line, log, exit code.

use std::io::IsTerminal;
use std::process::ExitCode;

use belay::cli::Cli;
use tracing_subscriber::EnvFilter;

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

/// Logs go to stderr: lines for a terminal, JSON for whatever collects a broker's.
fn log(serves: bool) {
    let default = if serves { "info" } else { "warn" };
    let filter = EnvFilter::try_from_env("BELAY_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let terminal = std::io::stderr().is_terminal();
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    if serves && !terminal { log.json().init() } else { log.init() }
}
