//! `belay lease`: secrets in real systems, under a grant.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connect::{Global, answer};
use super::lifetime;
use super::output::{Answer, given, pairs, rows, sparse};
use super::secret::Secret;
use super::weights;
use crate::client::Refusal;
use crate::wire::v1::leases_client::LeasesClient;
use crate::wire::v1::{IssueLeaseRequest, IssueLeaseResponse, Lease, ListLeasesRequest};

/// What to do with leases.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lease a role of a backend, as an agent; the password is shown once and kept nowhere
    #[command(
        after_help = "Example:\n  belay --identity ./coder lease issue --grant grt_01m826b20gfdtagbpvxzh7napv --backend orders --role app.read"
    )]
    Issue(Issue),
    /// List leases, with how each is in its backend and how it should be
    #[command(after_help = "Example:\n  belay lease list -o json")]
    List {
        /// Only those under this grant
        #[arg(long)]
        grant: Option<String>,
        /// Those that are gone, too, as far as they are remembered
        #[arg(long)]
        all: bool,
    },
}

/// A lease to be.
#[derive(Debug, Args)]
pub struct Issue {
    /// The grant; its scopes have to allow BACKEND:lease@ROLE
    #[arg(long)]
    grant: String,
    /// The backend
    #[arg(long)]
    backend: String,
    /// The role that it is made from
    #[arg(long)]
    role: String,
    /// For how long at most, as in 15m [default: as long as the grant]
    #[arg(long, value_parser = lifetime)]
    ttl: Option<i64>,
    /// A retry with the same key ends the lease before it, and is a new one
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// The ticket of the call `BACKEND:lease@ROLE`, `@FILE`, or `-` for stdin: where the catalog asks for one
    #[arg(long, value_name = "TICKET|@FILE|-")]
    ticket: Option<Secret>,
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        let leases = async || Ok::<_, Refusal>(LeasesClient::new(global.channel().await?));
        match self {
            Self::Issue(issue) => {
                let issued = answer(leases().await?.issue(issue.request()?).await)?;
                global.printer().print(&issued_document(&issued), || table(&issued))
            }
            Self::List { grant, all } => {
                let request = ListLeasesRequest { grant: grant.unwrap_or_default(), all };
                list(global, &answer(leases().await?.list(request).await)?.leases)
            }
        }
    }
}

impl Issue {
    fn request(self) -> Result<IssueLeaseRequest, Refusal> {
        let Self { grant, backend, role, ttl, idempotency_key, ticket } = self;
        let ticket = ticket.map(Secret::read).transpose()?.unwrap_or_default();
        let (ttl_ms, idempotency_key) = (ttl.unwrap_or(0), idempotency_key.unwrap_or_default());
        Ok(IssueLeaseRequest { grant, backend, role, ttl_ms, idempotency_key, ticket })
    }
}

/// A lease and its secret as a document.
fn issued_document(issued: &IssueLeaseResponse) -> Value {
    let (lease, secret) = (issued.lease.clone().unwrap_or_default(), issued.secret.clone().unwrap_or_default());
    json!({
        "lease": {
            "id": lease.id,
            "grant": lease.grant,
            "backend": lease.backend,
            "role": lease.role,
            "expires_at": lease.expires_at,
        },
        "secret": { "username": secret.username, "password": secret.password, "url": secret.url },
        "exposure": weights::exposure(issued.exposure.as_ref()),
    })
}

/// A lease as a document: never its secret.
fn document(lease: &Lease) -> Value {
    sparse(json!({
        "id": lease.id,
        "grant": lease.grant,
        "agent": lease.agent,
        "backend": lease.backend,
        "role": lease.role,
        "status": lease.status,
        "wanted": lease.wanted,
        "created_at": lease.created_at,
        "expires_at": lease.expires_at,
        "changed_at": lease.changed_at,
        "trouble": given(&lease.trouble),
    }))
}

fn table(issued: &IssueLeaseResponse) -> String {
    let (lease, secret) = (issued.lease.clone().unwrap_or_default(), issued.secret.clone().unwrap_or_default());
    pairs([("lease", &lease.id), ("until", &lease.expires_at), ("url", &secret.url)])
}

fn list(global: &Global, leases: &[Lease]) -> Answer {
    let document = json!({ "leases": leases.iter().map(document).collect::<Vec<_>>() });
    let row = |one: &Lease| {
        let place = format!("{}@{}", one.backend, one.role);
        [
            one.id.clone(),
            one.agent.clone(),
            place,
            one.status.clone(),
            one.wanted.clone(),
            one.expires_at.clone(),
            one.trouble.clone(),
        ]
    };
    let heading = ["LEASE", "AGENT", "AT", "IS", "SHOULD BE", "UNTIL", "TROUBLE"];
    global.printer().print(&document, || rows(heading, leases.iter().map(row)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_has_the_keys_that_scripts_read() {
        let document = issued_document(&IssueLeaseResponse::default());
        for key in ["id", "backend", "expires_at"] {
            assert!(document["lease"].get(key).is_some(), "{key}");
        }
        for key in ["username", "password", "url"] {
            assert!(document["secret"].get(key).is_some(), "{key}");
        }
    }
}
