//! `belay upstream`: secrets of tools' own APIs, which enforcement points put into calls that are allowed.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::NO_REASON;
use super::connect::{Global, answer};
use super::output::{Answer, given, pairs, rows, sparse};
use super::secret::Secret;
use crate::client::Refusal;
use crate::domain::error::Error;
use crate::wire::v1::upstreams_client::UpstreamsClient;
use crate::wire::v1::{AddUpstreamRequest, ListUpstreamsRequest, RemoveUpstreamRequest, Upstream};

/// What to do with upstream secrets.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Have the broker hold a secret, sealed; it is never shown again
    #[command(
        after_help = "Example:\n  belay upstream add github --tool github --host api.github.com --header authorization --prefix 'Bearer ' --value @github.token"
    )]
    Add(Add),
    /// List upstream secrets, without their values
    #[command(after_help = "Example:\n  belay upstream list")]
    List,
    /// Remove one: no call gets it from now on
    #[command(after_help = "Example:\n  belay upstream remove github --reason 'rotated'")]
    Remove {
        /// The upstream secret
        name: String,
        /// Why, for the audit
        #[arg(long, default_value = NO_REASON)]
        reason: String,
    },
}

/// An upstream secret to be.
#[derive(Debug, Args)]
pub struct Add {
    /// Its name
    name: String,
    /// The tool whose calls it goes with, as in scopes
    #[arg(long)]
    tool: String,
    /// Where it goes: a host, with a port if that is not 80 or 443
    #[arg(long)]
    host: String,
    /// The header that it goes in
    #[arg(long)]
    header: String,
    /// The secret: `@FILE`, or `-` for stdin
    #[arg(long, value_name = "@FILE|-")]
    value: Secret,
    /// What stands before it in the header, as in 'Bearer '
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// Replace one of that name
    #[arg(long)]
    replace: bool,
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        let upstreams = async || Ok::<_, Refusal>(UpstreamsClient::new(global.channel().await?));
        match self {
            Self::Add(add) => {
                let request = add.request()?;
                print(global, &answer(upstreams().await?.add(request).await)?)
            }
            Self::List => list(global, &answer(upstreams().await?.list(ListUpstreamsRequest {}).await)?.upstreams),
            Self::Remove { name, reason } => {
                print(global, &answer(upstreams().await?.remove(RemoveUpstreamRequest { name, reason }).await)?)
            }
        }
    }
}

impl Add {
    fn request(self) -> Result<AddUpstreamRequest, Refusal> {
        let Self { name, tool, host, header, value, prefix, replace } = self;
        if matches!(value, Secret::Value(_)) {
            return Err(
                Error::malformed("value", "…", "a secret on a command line is seen by others; use @FILE or -").into()
            );
        }
        let value = zeroize::Zeroizing::new(value.read()?);
        Ok(AddUpstreamRequest { name, tool, host, header, value: format!("{prefix}{}", *value), replace })
    }
}

fn print(global: &Global, upstream: &Upstream) -> Answer {
    global.printer().print(&json!({ "upstream": document(upstream) }), || table(upstream))
}

fn document(upstream: &Upstream) -> Value {
    sparse(json!({
        "name": upstream.name,
        "tool": upstream.tool,
        "host": upstream.host,
        "header": upstream.header,
        "status": given(&upstream.status),
        "created_at": given(&upstream.created_at),
    }))
}

fn table(upstream: &Upstream) -> String {
    let Upstream { name, tool, host, header, status, created_at: _ } = upstream;
    pairs([("upstream", name), ("tool", tool), ("host", host), ("header", header), ("status", status)])
}

fn list(global: &Global, upstreams: &[Upstream]) -> Answer {
    let document = json!({ "upstreams": upstreams.iter().map(document).collect::<Vec<_>>() });
    let row = |one: &Upstream| [&one.name, &one.tool, &one.host, &one.header, &one.status].map(Clone::clone);
    let heading = ["NAME", "TOOL", "HOST", "HEADER", "STATUS"];
    global.printer().print(&document, || rows(heading, upstreams.iter().map(row)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_secret_has_the_keys_that_scripts_read_and_no_value() {
        let document = document(&Upstream { name: "github".to_owned(), ..Upstream::default() });
        for key in ["name", "tool", "host", "header"] {
            assert!(document.get(key).is_some(), "{key}");
        }
        assert!(document.get("value").is_none());
    }
}
