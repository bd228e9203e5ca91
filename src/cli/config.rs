//! `belay config`: looks at a configuration without running a broker with it.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

use super::connect::Global;
use super::output::{Answer, pairs};
use crate::server::{self, At, Checked, Config, State};

const SAMPLE: &str = include_str!("../../deploy/belay.toml");

/// What to do with a configuration.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check all that a start would, and say where the broker would listen
    #[command(after_help = "Example:\n  belay config check /etc/belay/belay.toml")]
    Check {
        /// The configuration
        file: PathBuf,
    },
    /// Print a sample that names and explains every key
    #[command(after_help = "Example:\n  belay config sample")]
    Sample,
}

impl Command {
    /// Does it.
    pub fn run(self, global: &Global) -> Answer {
        let printer = global.printer();
        match self {
            Self::Sample => printer.text(SAMPLE.trim_end()),
            Self::Check { file } => {
                let config = Config::load(&file)?;
                let checked = server::check(&config)?;
                printer.print(&document(&config, &checked)?, || table(&config, &checked))
            }
        }
    }
}

fn document(config: &Config, checked: &Checked) -> Result<Value, crate::client::Refusal> {
    let at = |at: At| json!({ "address": format!("https://{}", at.addr), "free": at.is_free });
    Ok(json!({
        "ok": true,
        "trust_domain": config.trust_domain.as_str(),
        "issuer": config.issuer()?.as_str(),
        "grpc": at(checked.grpc),
        "http": at(checked.http),
        "names": config.names,
        "data": { "path": config.data, "state": word(checked.data) },
    }))
}

fn table(config: &Config, checked: &Checked) -> String {
    let at = |at: At| format!("https://{}{}", at.addr, if at.is_free { "" } else { " (something listens there now)" });
    pairs([
        ("configuration", "ok"),
        ("trust domain", config.trust_domain.as_str()),
        ("gRPC", &at(checked.grpc)),
        ("HTTP", &at(checked.http)),
        ("data", &format!("{} ({})", config.data.display(), word(checked.data).replace('_', " "))),
    ])
}

fn word(state: State) -> &'static str {
    match state {
        State::Empty => "not_initialised",
        State::Keyless => "without_master_key",
        State::Unfinished => "init_unfinished",
        State::Made => "initialised",
    }
}
