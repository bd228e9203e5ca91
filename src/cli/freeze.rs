//! `belay freeze` and `belay thaw`: what matches is void for as long as it lasts.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::NO_REASON;
use super::connect::{Global, answer};
use super::output::{Answer, given, pairs, rows, sparse};
use crate::domain::catalog::Sensitivity;
use crate::domain::error::Error;
use crate::wire::v1::freezes_client::FreezesClient;
use crate::wire::v1::{Freeze, FreezeRequest, ListFreezesRequest, ThawRequest};

/// What to freeze, or the freezes that last.
#[derive(Debug, Args)]
#[command(subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub struct Command {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The calls that it stops
    #[arg(long, required = true)]
    scope: Option<String>,
    /// Only those that touch something so sensitive; what the catalog does not name is the most sensitive
    #[arg(long = "where", value_name = "sensitivity>=LEVEL", value_parser = at_least)]
    least: Option<Sensitivity>,
    /// Why, for the audit and for whoever is stopped
    #[arg(long, required = true)]
    reason: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the freezes that last
    #[command(after_help = "Example:\n  belay freeze list")]
    List,
}

/// Which to lift.
#[derive(Debug, Args)]
pub struct Thaw {
    /// The freeze
    id: String,
    /// Why, for the audit
    #[arg(long, default_value = NO_REASON)]
    reason: String,
}

/// `sensitivity>=LEVEL`, and nothing else that could be meant.
fn at_least(text: &str) -> Result<Sensitivity, Error> {
    let bare: String = text.split_whitespace().collect();
    let wrong = || Error::malformed("where", text, "write sensitivity>=LEVEL");
    bare.strip_prefix("sensitivity>=").ok_or_else(wrong)?.parse()
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        let mut freezes = FreezesClient::new(global.channel().await?);
        if let Some(Verb::List) = self.verb {
            let lasting = answer(freezes.list(ListFreezesRequest {}).await)?.freezes;
            let all = json!({ "freezes": lasting.iter().map(document).collect::<Vec<_>>() });
            return global.printer().print(&all, || list(&lasting));
        }
        let (scope, reason) = (self.scope.unwrap_or_default(), self.reason.unwrap_or_default());
        let sensitivity = self.least.map_or_else(String::new, |least| least.to_string());
        shown(global, &answer(freezes.freeze(FreezeRequest { scope, sensitivity, reason }).await)?)
    }
}

impl Thaw {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        let mut freezes = FreezesClient::new(global.channel().await?);
        let Self { id, reason } = self;
        shown(global, &answer(freezes.thaw(ThawRequest { id, reason }).await)?)
    }
}

fn shown(global: &Global, freeze: &Freeze) -> Answer {
    global.printer().print(&json!({ "freeze": document(freeze) }), || {
        pairs([
            ("freeze", &freeze.id),
            ("scope", &freeze.scope),
            ("from", &freeze.sensitivity),
            ("reason", &freeze.reason),
            ("by", &freeze.by),
            ("at", &freeze.at),
            ("thawed", &freeze.thawed_at),
        ])
    })
}

fn document(freeze: &Freeze) -> Value {
    sparse(json!({
        "id": freeze.id,
        "scope": freeze.scope,
        "sensitivity": given(&freeze.sensitivity),
        "reason": freeze.reason,
        "by": freeze.by,
        "at": freeze.at,
        "thawed_at": given(&freeze.thawed_at),
    }))
}

fn list(lasting: &[Freeze]) -> String {
    let row = |freeze: &Freeze| {
        [&freeze.id, &freeze.scope, &freeze.sensitivity, &freeze.by, &freeze.at, &freeze.reason].map(Clone::clone)
    };
    rows(["FREEZE", "SCOPE", "FROM", "BY", "AT", "REASON"], lasting.iter().map(row))
}
