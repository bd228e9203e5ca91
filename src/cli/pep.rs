//! `belay pep`: enforcement points, whatever asks before acting.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connect::{Global, answer};
use super::enroll::{self, Enroll};
use super::output::{Answer, given, pairs, rows, sparse};
use super::{NO_REASON, lifetime};
use crate::client::{Refusal, leaf_of};
use crate::domain::agent::Kind;
use crate::wire::v1::peps_client::PepsClient;
use crate::wire::v1::{InviteRequest, InvitedPep, ListPepsRequest, Pep, RegisterPepRequest, RetirePepRequest};

/// What to do with enforcement points.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Register an enforcement point and print its join token: single use, ten minutes
    #[command(after_help = "Example:\n  belay pep register gateway --audience https://orders.example")]
    Register(Register),
    /// Print a new join token for an enforcement point
    #[command(after_help = "Example:\n  belay pep invite gateway")]
    Invite {
        /// The enforcement point
        name: String,
    },
    /// Turn a join token into an identity; the key is made here and never leaves
    #[command(after_help = "Example:\n  belay pep enroll --join-token @join.txt --out ./gateway")]
    Enroll(Enroll),
    /// Replace the identity by a new one, with a new key
    #[command(after_help = "Example:\n  belay pep renew --identity ./gateway")]
    Renew,
    /// List all enforcement points
    #[command(after_help = "Example:\n  belay pep list")]
    List,
    /// Retire an enforcement point for good: it may ask and follow nothing any more
    #[command(after_help = "Example:\n  belay pep retire gateway --reason 'replaced by gateway2'")]
    Retire {
        /// The enforcement point
        name: String,
        /// Why, for the audit
        #[arg(long, default_value = NO_REASON)]
        reason: String,
    },
}

/// An enforcement point to be.
#[derive(Debug, Args)]
pub struct Register {
    /// Its name: a-z, 0-9, `.`, `_` and `-`
    name: String,
    /// The audiences that it answers for
    #[arg(long, required = true, value_name = "AUDIENCE", num_args = 1..)]
    audience: Vec<String>,
    /// How old what it knows of cuts may be before it allows nothing, 2s to 10m [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    max_staleness: Option<i64>,
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        let peps = async || Ok::<_, Refusal>(PepsClient::new(global.channel().await?));
        match self {
            Self::Enroll(enroll) => enroll.run(global, Kind::Pep).await,
            Self::Renew => enroll::renew(global).await,
            Self::Register(register) => invited(global, answer(peps().await?.register(register.request()).await)?),
            Self::Invite { name } => invited(global, answer(peps().await?.invite(InviteRequest { name }).await)?),
            Self::List => list(global, &answer(peps().await?.list(ListPepsRequest {}).await)?.peps),
            Self::Retire { name, reason } => {
                let retired = answer(peps().await?.retire(RetirePepRequest { name, reason }).await)?;
                global.printer().print(&json!({ "pep": document(&retired) }), || list_table(&[retired]))
            }
        }
    }
}

impl Register {
    fn request(self) -> RegisterPepRequest {
        RegisterPepRequest {
            name: self.name,
            audiences: self.audience,
            max_staleness_ms: self.max_staleness.unwrap_or_default(),
        }
    }
}

/// The certificate (DER) in this PEM file, as an enforcement point asserts it; nothing if there is no file.
///
/// # Errors
/// It cannot be read, or holds something else.
pub fn presented(file: Option<PathBuf>) -> Result<Vec<u8>, Refusal> {
    Ok(file.map(|file| leaf_of(&file)).transpose()?.unwrap_or_default())
}

/// An enforcement point as a document.
pub fn document(pep: &Pep) -> Value {
    sparse(json!({
        "id": pep.id,
        "name": pep.name,
        "audiences": pep.audiences,
        "status": pep.status,
        "max_staleness_ms": pep.max_staleness_ms,
        "subscribers": pep.subscribers,
        "created_at": given(&pep.created_at),
    }))
}

fn invited(global: &Global, invited: InvitedPep) -> Answer {
    let pep = invited.pep.unwrap_or_default();
    let document = json!({
        "pep": document(&pep),
        "join_token": invited.join_token,
        "join_expires_at": invited.join_expires_at,
    });
    global.printer().print(&document, || {
        pairs([
            ("enforcement point", &pep.name),
            ("audiences", &pep.audiences.join(", ")),
            ("join token", &invited.join_token),
            ("valid until", &invited.join_expires_at),
            ("next", &format!("belay pep enroll --join-token - --out ./{}", pep.name)),
        ])
    })
}

fn list(global: &Global, peps: &[Pep]) -> Answer {
    let document = json!({ "peps": peps.iter().map(document).collect::<Vec<_>>() });
    global.printer().print(&document, || list_table(peps))
}

fn list_table(peps: &[Pep]) -> String {
    let row = |pep: &Pep| {
        let staleness = format!("{:#}", jiff::SignedDuration::from_millis(pep.max_staleness_ms));
        [pep.name.clone(), pep.status.clone(), staleness, pep.subscribers.to_string(), pep.audiences.join(", ")]
    };
    rows(["NAME", "STATUS", "STALENESS", "FOLLOWS", "AUDIENCES"], peps.iter().map(row))
}
