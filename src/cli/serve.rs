//! `belay serve`: runs a broker until it is told to stop, and says once when it is ready.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::connect::{Global, home};
use super::output::{Answer, Outcome, failed, note};
use crate::client::Refusal;
use crate::domain::error::Error;
use crate::server::{self, Config, Mode, Options, Ready, SNAPSHOT_EVERY};

/// The trust domain of every development broker.
const DEV_DOMAIN: &str = "belay.dev";

/// How to run it.
#[derive(Debug, Args)]
pub struct Command {
    /// For trying out: a generated CA, an operator identity in BELAY_HOME, a permissive policy
    #[arg(long, required_unless_present = "config")]
    dev: bool,
    /// For use: over the data directory that `belay init` made; SIGHUP reads the file again
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dev", "data", "grpc", "http", "snapshot_every"])]
    config: Option<PathBuf>,
    /// Where the log, the state and the sealed keys are [default: BELAY_HOME/dev]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where gRPC listens; port 0 picks one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7440")]
    grpc: SocketAddr,
    /// Where health, keys and the trust bundle are served over HTTPS; port 0 picks one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7441")]
    http: SocketAddr,
    /// Events between snapshots: a start replays no more than that, or than there are live records
    #[arg(long, value_name = "N", default_value_t = SNAPSHOT_EVERY, value_parser = clap::value_parser!(u64).range(1..))]
    snapshot_every: u64,
}

impl Command {
    /// Runs it; returns when it has drained.
    pub fn run(self, global: &Global) -> Answer {
        let printer = global.printer();
        let options = match &self.config {
            Some(file) => production(file)?,
            None => self.development()?,
        };
        let ready = move |ready: &Ready| {
            // A reader that went away does not stop the broker.
            if let Err(refusal) = printer.print(&document(ready), || table(ready)) {
                printer.fail(&refusal);
            }
        };
        server::serve(options, ready).map(|()| Outcome::Done).map_err(refusal)
    }

    fn development(self) -> Result<Options, Refusal> {
        note("warning: --dev is NOT FOR PRODUCTION: any registered agent may ask for any scope");
        let home = home()?;
        let data = self.data.unwrap_or_else(|| home.join("dev"));
        let (grpc, http, snapshot_every) = (self.grpc, self.http, self.snapshot_every);
        let config = Config { grpc, http, snapshot_every, ..Config::new(DEV_DOMAIN.parse()?, data) };
        Ok(Options { config, mode: Mode::Dev { home } })
    }
}

fn production(file: &Path) -> Result<Options, Refusal> {
    let config = Config::load(file)?;
    // A later reload finds it, whatever becomes of the working directory.
    let absolute = std::path::absolute(file);
    let file = absolute.map_err(|error| failed("no_directory", format!("there is no working directory: {error}")))?;
    server::set_log(&config.log);
    Ok(Options { config, mode: Mode::Production { file } })
}

/// The domain's own error where there is one, with its exit code.
pub(super) fn refusal(error: anyhow::Error) -> Refusal {
    match error.downcast::<Error>() {
        Ok(error) => error.into(),
        Err(error) => failed("serve_failed", format!("{error:#}")),
    }
}

fn document(ready: &Ready) -> Value {
    json!({
        "ready": true,
        "grpc": format!("https://{}", ready.grpc),
        "http": format!("https://{}", ready.http),
        "home": ready.home,
        "trust_domain": ready.trust_domain,
    })
}

fn table(ready: &Ready) -> String {
    format!("ready: gRPC https://{}, HTTP https://{}, home {}", ready.grpc, ready.http, ready.home.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::error::Code;

    #[test]
    fn the_ready_line_has_the_keys_that_scripts_read() {
        let addr: SocketAddr = "127.0.0.1:7440".parse().unwrap();
        let ready = Ready { grpc: addr, http: addr, home: "/h".into(), trust_domain: "belay.dev".into() };
        let expected = json!({
            "ready": true,
            "grpc": "https://127.0.0.1:7440",
            "http": "https://127.0.0.1:7440",
            "home": "/h",
            "trust_domain": "belay.dev",
        });
        assert_eq!(document(&ready), expected);
    }

    #[test]
    fn a_domain_error_keeps_its_exit_code() {
        let error = anyhow::Error::new(Error::new(Code::Invalid, "loose_key_mode", "chmod 600 it"));
        assert_eq!(refusal(error).code, Code::Invalid);
        assert_eq!(refusal(anyhow::anyhow!("port in use")).code, Code::Internal);
    }
}
