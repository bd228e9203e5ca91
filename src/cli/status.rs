//! `belay status`: how the broker is, what is live, and the log's size and root.

use serde_json::{Value, json};

use super::connect::{Global, answer};
use super::output::{Answer, Outcome, pairs};
use crate::wire::v1::status_client::StatusClient;
use crate::wire::v1::{GetStatusRequest, GetStatusResponse};

/// Prints it. A broker that is not ready is exit 1.
pub async fn run(global: &Global) -> Answer {
    let mut status = StatusClient::new(global.channel().await?);
    let status = answer(status.get(GetStatusRequest {}).await)?;
    global.printer().print(&document(&status), || table(&status))?;
    Ok(if status.ready { Outcome::Done } else { Outcome::Failed })
}

fn document(status: &GetStatusResponse) -> Value {
    let live = status.live.unwrap_or_default();
    let checkpoint = status.checkpoint.clone().unwrap_or_default();
    let debt = status.debt.unwrap_or_default();
    json!({
        "version": status.version,
        "node": status.node,
        "trust_domain": status.trust_domain,
        "ready": status.ready,
        "store": status.store,
        "seq": status.seq,
        "freshness_ms": status.freshness_ms,
        "live": {
            "agents": live.agents,
            "tasks": live.tasks,
            "grants": live.grants,
            "tokens": live.tokens,
            "certificates": live.certificates,
            "leases": live.leases,
        },
        "debt": { "open": debt.open, "left": debt.left },
        "checkpoint": { "size": checkpoint.size, "root": checkpoint.root },
        "authority_ends_at": status.authority_ends_at,
    })
}

fn table(status: &GetStatusResponse) -> String {
    let live = status.live.unwrap_or_default();
    let checkpoint = status.checkpoint.clone().unwrap_or_default();
    let counts = format!(
        "agents {}, tasks {}, grants {}, tokens {}, certificates {}, leases {}",
        live.agents, live.tasks, live.grants, live.tokens, live.certificates, live.leases
    );
    let debt = status.debt.unwrap_or_default();
    let owed = match debt.open + debt.left {
        0 => String::new(),
        _ => format!("{} that somebody could still use, {} that nobody can", debt.open, debt.left),
    };
    pairs([
        ("trust domain", &status.trust_domain),
        ("ready", if status.ready { "yes" } else { "no" }),
        ("version", &status.version),
        ("store", &status.store),
        ("live", &counts),
        ("leases not ended yet", &owed),
        ("authority ends", &status.authority_ends_at),
        ("log size", &checkpoint.size.to_string()),
        ("log root", &checkpoint.root),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v1::Live;

    #[test]
    fn a_status_has_the_keys_that_scripts_read() {
        let document = document(&GetStatusResponse::default());
        for key in
            ["version", "node", "trust_domain", "ready", "store", "seq", "freshness_ms", "live", "debt", "checkpoint"]
        {
            assert!(document.get(key).is_some(), "{key}");
        }
        for key in ["agents", "tasks", "grants", "tokens", "certificates", "leases"] {
            assert!(document["live"].get(key).is_some(), "{key}");
        }
    }

    #[test]
    fn a_reader_is_told_of_every_kind_that_can_be_live() {
        let live = Live { agents: 1, tasks: 2, grants: 3, tokens: 4, certificates: 5, leases: 6 };
        let table = table(&GetStatusResponse { live: Some(live), ..GetStatusResponse::default() });
        assert!(table.contains("agents 1, tasks 2, grants 3, tokens 4, certificates 5, leases 6"), "{table}");
    }
}
