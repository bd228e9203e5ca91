//! `belay backend`: the systems in which secrets are leased.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::NO_REASON;
use super::connect::{Global, answer};
use super::output::{Answer, Outcome, given, pairs, rows, sparse};
use super::secret::Secret;
use crate::client::Refusal;
use crate::wire::v1::backends_client::BackendsClient;
use crate::wire::v1::{AddBackendRequest, Backend, CheckBackendRequest, ListBackendsRequest, RemoveBackendRequest};

/// What to do with backends.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add a system, once it is proven that all can be done there that a lease and its end take
    #[command(
        after_help = "Example:\n  belay backend add orders --kind postgres --url @orders.url --role app.read --role app.write"
    )]
    Add(Add),
    /// Prove it once more; exit 1 if something cannot be done
    #[command(after_help = "Example:\n  belay backend check orders")]
    Check {
        /// The backend
        name: String,
    },
    /// List all backends
    #[command(after_help = "Example:\n  belay backend list")]
    List,
    /// Remove a backend: nothing new is leased in it, and what is leased is ended
    #[command(after_help = "Example:\n  belay backend remove orders --reason 'moved'")]
    Remove {
        /// The backend
        name: String,
        /// Why, for the audit
        #[arg(long, default_value = NO_REASON)]
        reason: String,
    },
}

/// A backend to be.
#[derive(Debug, Args)]
pub struct Add {
    /// Its name, which is the tool in scopes: NAME:lease@ROLE
    name: String,
    /// What it is
    #[arg(long)]
    kind: Kind,
    /// How it is reached, and as whom: `@FILE`, or `-` for stdin
    #[arg(long, value_name = "@FILE|-")]
    url: Secret,
    /// A role that may be leased from; give it several times for several roles
    #[arg(long, required = true, value_delimiter = ',', value_name = "ROLE")]
    role: Vec<String>,
    /// Replace the address and the roles of one of that name
    #[arg(long)]
    replace: bool,
}

/// What a backend is.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Kind {
    /// A PostgreSQL server: a lease is a role that may log in
    Postgres,
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        let backends = async || Ok::<_, Refusal>(BackendsClient::new(global.channel().await?));
        match self {
            Self::Add(add) => {
                let request = add.request()?;
                print(global, &answer(backends().await?.add(request).await)?)
            }
            Self::Check { name } => {
                print(global, &answer(backends().await?.check(CheckBackendRequest { name }).await)?)
            }
            Self::List => list(global, &answer(backends().await?.list(ListBackendsRequest {}).await)?.backends),
            Self::Remove { name, reason } => {
                let removed = answer(backends().await?.remove(RemoveBackendRequest { name, reason }).await)?;
                global.printer().print(&json!({ "backend": document(&removed) }), || table(&removed))
            }
        }
    }
}

impl Add {
    fn request(self) -> Result<AddBackendRequest, Refusal> {
        let Self { name, kind: Kind::Postgres, url, role, replace } = self;
        Ok(AddBackendRequest { name, kind: "postgres".to_owned(), url: url.read()?, roles: role, replace })
    }
}

fn print(global: &Global, checked: &Backend) -> Answer {
    let mut document = document(checked);
    document["ok"] = checked.ok.into();
    document["findings"] = json!(checked.findings);
    global.printer().print(&json!({ "backend": document }), || table(checked))?;
    Ok(if checked.ok { Outcome::Done } else { Outcome::Failed })
}

fn document(backend: &Backend) -> Value {
    sparse(json!({
        "name": backend.name,
        "kind": backend.kind,
        "roles": backend.roles,
        "status": given(&backend.status),
        "created_at": given(&backend.created_at),
    }))
}

fn table(backend: &Backend) -> String {
    pairs([
        ("backend", &backend.name),
        ("kind", &backend.kind),
        ("roles", &backend.roles.join(", ")),
        ("status", &backend.status),
        ("findings", &backend.findings.join("\n")),
    ])
}

fn list(global: &Global, backends: &[Backend]) -> Answer {
    let document = json!({ "backends": backends.iter().map(document).collect::<Vec<_>>() });
    let row = |one: &Backend| [one.name.clone(), one.kind.clone(), one.status.clone(), one.roles.join(", ")];
    global.printer().print(&document, || rows(["NAME", "KIND", "STATUS", "ROLES"], backends.iter().map(row)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_has_the_keys_that_scripts_read() {
        let document = document(&Backend { name: "orders".to_owned(), ..Backend::default() });
        for key in ["name", "kind", "roles"] {
            assert!(document.get(key).is_some(), "{key}");
        }
    }
}
