//! `belay catalog`: which tools and resources there are.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connect::{Global, answer};
use super::files;
use super::output::{Answer, Format, Outcome, given, note, pairs, sparse, visible};
use crate::client::Refusal;
use crate::wire::v1::catalogs_client::CatalogsClient;
use crate::wire::v1::{ApplyCatalogRequest, ApplyCatalogResponse, Catalog, ShowCatalogRequest};

/// Bytes of a catalog file, as the broker takes it.
const LARGEST: usize = 64 << 20;
/// Bytes of an answer with one in it.
const LARGEST_ANSWER: usize = LARGEST + (1 << 20);

/// What to do with the catalog.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Put another catalog in force, whole or not at all; what would change is shown first
    #[command(after_help = "Example:\n  belay catalog apply catalog.toml --dry-run")]
    Apply(Apply),
    /// Show the catalog in force
    #[command(after_help = "Example:\n  belay catalog show --text")]
    Show {
        /// Only its text, as it was applied
        #[arg(long)]
        text: bool,
    },
}

/// A catalog to be.
#[derive(Debug, Args)]
pub struct Apply {
    /// The catalog, as TOML
    file: PathBuf,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        match self {
            Self::Apply(apply) => apply.run(global).await,
            Self::Show { text } => show(global, text).await,
        }
    }
}

impl Apply {
    async fn run(self, global: &Global) -> Answer {
        let text = files::text(&self.file, LARGEST)?;
        let mut catalogs = CatalogsClient::new(global.channel().await?).max_decoding_message_size(LARGEST_ANSWER);
        let request = ApplyCatalogRequest { text, dry_run: true, over: None };
        let would = answer(catalogs.apply(request.clone()).await)?;
        // Programs find the changes in the document.
        if global.printer().format() == Format::Table {
            note(&difference(&would));
        }
        if self.dry_run {
            return print(global, &would, true);
        }
        if !self.yes && !agreed(&would)? {
            note("nothing is changed");
            return Ok(Outcome::Failed);
        }
        let request = ApplyCatalogRequest { dry_run: false, over: Some(would.over), ..request };
        print(global, &answer(catalogs.apply(request).await)?, false)
    }
}

/// Asks whoever sits there; nobody does where input or output is no terminal.
fn agreed(would: &ApplyCatalogResponse) -> Result<bool, Refusal> {
    let (mut said, mut err) = (String::new(), std::io::stderr());
    if would.changes.is_empty() || !std::io::stdin().is_terminal() || !err.is_terminal() {
        return Ok(true);
    }
    let asked = write!(err, "apply these changes? [y/N] ").and_then(|()| err.flush());
    asked
        .and_then(|()| std::io::stdin().read_line(&mut said))
        .map_err(|error| super::output::failed("stdin", format!("cannot ask: {error}; use --yes")))?;
    Ok(matches!(said.trim(), "y" | "Y" | "yes"))
}

fn difference(would: &ApplyCatalogResponse) -> String {
    let mut lines: Vec<String> = would.changes.iter().map(|change| visible(change)).collect();
    if would.unlisted > 0 {
        lines.push(format!("… and {} more changes", would.unlisted));
    }
    match lines.is_empty() {
        true => format!("nothing changes against version {}", would.over),
        false => format!("against version {}:\n  {}", would.over, lines.join("\n  ")),
    }
}

async fn show(global: &Global, text: bool) -> Answer {
    let mut catalogs = CatalogsClient::new(global.channel().await?).max_decoding_message_size(LARGEST_ANSWER);
    let wanted = text || !global.printer().is_for_people();
    let shown = answer(catalogs.show(ShowCatalogRequest { text: wanted }).await)?;
    if text {
        return global.printer().text(shown.text.strip_suffix('\n').unwrap_or(&shown.text));
    }
    let mut document = document(&shown);
    document["text"] = Value::String(shown.text.clone());
    global.printer().print(&json!({ "catalog": document }), || table(&shown))
}

fn print(global: &Global, applied: &ApplyCatalogResponse, dry_run: bool) -> Answer {
    let catalog = applied.catalog.clone().unwrap_or_default();
    let document = sparse(json!({
        "catalog": document(&catalog),
        "over": applied.over,
        "changes": applied.changes,
        "unlisted": (applied.unlisted > 0).then_some(applied.unlisted),
        "dry_run": dry_run.then_some(true),
    }));
    global.printer().print(&document, || table(&catalog))
}

fn document(catalog: &Catalog) -> Value {
    sparse(json!({
        "version": catalog.version,
        "digest": given(&catalog.digest),
        "tools": catalog.tools,
        "resources": catalog.resources,
        "edges": catalog.edges,
        "routes": catalog.routes,
    }))
}

fn table(catalog: &Catalog) -> String {
    let none = if catalog.version == 0 { "none has been applied: everything is unbounded" } else { "" };
    pairs([
        ("version", &catalog.version.to_string()),
        ("digest", &catalog.digest),
        ("tools", &catalog.tools.to_string()),
        ("resources", &catalog.resources.to_string()),
        ("edges", &catalog.edges.to_string()),
        ("routes", &catalog.routes.to_string()),
        ("note", none),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_says_against_what_and_how_much_is_not_listed() {
        let mut would = ApplyCatalogResponse { over: 3, ..ApplyCatalogResponse::default() };
        assert_eq!(difference(&would), "nothing changes against version 3");
        would.changes = vec!["added tool github: owner \u{1b}[2J".to_owned()];
        would.unlisted = 7;
        let said = difference(&would);
        assert_eq!(said, "against version 3:\n  added tool github: owner \\u{1b}[2J\n  … and 7 more changes");
    }
}
