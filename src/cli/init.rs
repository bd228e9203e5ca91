//! `belay init`: what a broker has to have before it can be run.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::connect::{Global, home};
use super::operator::Role;
use super::output::{Answer, pairs};
use super::serve::refusal;
use crate::domain::agent;
use crate::domain::error::Error;
use crate::domain::name::Name;
use crate::server::{self, Config, Init, Made};

/// What to make.
#[derive(Debug, Args)]
pub struct Command {
    /// The configuration that the broker will run with
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The first operator
    #[arg(long, value_name = "NAME", default_value = "admin")]
    operator: Name,
    /// What it may do; give it several times for several roles [default: all four]
    #[arg(long, value_delimiter = ',', value_name = "ROLE")]
    role: Vec<Role>,
    /// Where its identity is written [default: BELAY_HOME/operator]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Instead: give an operator of a broker that is stopped a new identity, adding it if there is none of that name
    #[arg(long, value_name = "NAME", conflicts_with = "operator")]
    recover: Option<Name>,
}

impl Command {
    /// Makes it.
    pub fn run(self, global: &Global) -> Answer {
        let config = Config::load(&self.config)?;
        let out = match self.out {
            Some(out) => out,
            None => home()?.join("operator"),
        };
        let roles: Result<Vec<agent::Role>, Error> = self.role.iter().map(|role| role.word().parse()).collect();
        let recover = self.recover.is_some();
        let init = Init { config, operator: self.recover.unwrap_or(self.operator), roles: roles?, out, recover };
        let made = server::init(&init).map_err(refusal)?;
        global.printer().print(&document(&init, &made), || table(&init, &made, &self.config))
    }
}

fn document(init: &Init, made: &Made) -> Value {
    let roles: Vec<_> = made.operator.roles.iter().map(ToString::to_string).collect();
    json!({
        "trust_domain": init.config.trust_domain.as_str(),
        "data": init.config.data,
        "operator": { "name": made.operator.name.as_str(), "roles": roles, "status": "active" },
        "identity": init.out,
        "expires_at": made.until.to_string(),
    })
}

fn table(init: &Init, made: &Made, file: &Path) -> String {
    pairs([
        ("data", &init.config.data.display().to_string()),
        ("operator", made.operator.name.as_str()),
        ("identity", &init.out.display().to_string()),
        ("until", &made.until.to_string()),
        ("next", &format!("belay serve --config {}", file.display())),
    ])
}
