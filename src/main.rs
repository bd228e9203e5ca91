//! The life of the process: crypto provider, command line, log, exit code.

use std::process::ExitCode;

use belay::cli::Cli;

fn main() -> ExitCode {
    // Named before anything asks for it: were a dependency to bring a second one, rustls could not choose.
    let installed = rustls::crypto::ring::default_provider().install_default();
    debug_assert!(installed.is_ok(), "nothing runs before this");
    match Cli::read(std::env::args_os()) {
        Ok(cli) => {
            cli.begin_log();
            cli.run()
        }
        Err(code) => code,
    }
}
