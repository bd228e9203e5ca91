//! `belay revocation`: what came of a revocation, and a receipt of it.

use std::time::Duration;

use clap::Subcommand;
use serde_json::json;
use tonic::transport::Channel;

use super::connect::{Global, answer};
use super::lifetime;
use super::output::{Answer, Outcome, pairs};
use super::revoke::{awaited, document, effects, still_awaited};
use crate::client::Refusal;
use crate::wire::v1::revocations_client::RevocationsClient;
use crate::wire::v1::{RevocationReceiptRequest, RevokeResponse, ShowRevocationRequest};

/// What to do with a revocation.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what came of it by now: how much in which state, and a page of effects
    #[command(after_help = "Example:\n  belay revocation show rev_01m826b1x1ec8vm5xb46v44k2n --wait 30s")]
    Show {
        /// The revocation
        id: String,
        /// Wait until nothing more is to come of it, for so long at most; what is still awaited then is exit 7
        #[arg(long, value_name = "DURATION", value_parser = lifetime, conflicts_with = "page")]
        wait: Option<i64>,
        /// The page of effects behind this one, as the page before it names it
        #[arg(long, value_name = "TOKEN")]
        page: Option<String>,
        /// Effects on a page [default: 1000]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: Option<u32>,
    },
    /// Print a receipt: who revoked what, when, and what came of it, signed by the broker
    #[command(after_help = "Example:\n  belay revocation receipt rev_01m826b1x1ec8vm5xb46v44k2n --field receipt")]
    Receipt {
        /// The revocation
        id: String,
    },
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        let mut revocations = RevocationsClient::new(global.channel().await?);
        match self {
            Self::Show { id, wait, page, limit } => {
                let (page_token, page_size) = (page.unwrap_or_default(), limit.unwrap_or_default());
                let request = ShowRevocationRequest { id, page_token, page_size };
                let shown = answer(revocations.show(request).await)?;
                let shown = match wait {
                    Some(wait) => within(&mut revocations, shown, wait).await?,
                    None => shown,
                };
                global.printer().print(&document(&shown), || table(&shown))?;
                let open = wait.and_then(|_| still_awaited(std::slice::from_ref(&shown)));
                open.map_or(Ok(Outcome::Done), Err)
            }
            Self::Receipt { id } => {
                let receipt = answer(revocations.receipt(RevocationReceiptRequest { id }).await)?.receipt;
                global.printer().print(&json!({ "receipt": receipt }), || receipt.clone())
            }
        }
    }
}

/// Once nothing more is to come of it, or as it is when the time is over.
async fn within(
    revocations: &mut RevocationsClient<Channel>,
    shown: RevokeResponse,
    wait: i64,
) -> Result<RevokeResponse, Refusal> {
    let wait = Duration::from_millis(wait.unsigned_abs());
    let id = shown.id.clone();
    match tokio::time::timeout(wait, awaited(revocations, shown)).await {
        Ok(over) => over,
        Err(_) => answer(revocations.show(ShowRevocationRequest { id, ..ShowRevocationRequest::default() }).await),
    }
}

fn table(shown: &RevokeResponse) -> String {
    let states = shown.states.unwrap_or_default();
    let counted = |cut: Option<crate::wire::v1::Cut>| {
        let cut = cut.unwrap_or_default();
        format!(
            "grants {}, tokens {}, certificates {}, leases {}",
            cut.grants, cut.tokens, cut.certificates, cut.leases
        )
    };
    let [enforced, pending, failed, expires] =
        [states.enforced, states.pending, states.failed, states.expires].map(counted);
    let head = pairs([
        ("revocation", &shown.id),
        ("target", &shown.target),
        ("by", &shown.by),
        ("at", &shown.at),
        ("reason", &shown.reason),
        ("enforced", &enforced),
        ("pending", &pending),
        ("failed", &failed),
        ("expires", &expires),
        ("settled", &shown.settled_at),
    ]);
    match effects(shown.effects.iter()) {
        None => head,
        Some(lines) => format!("{head}\n\n{lines}"),
    }
}
