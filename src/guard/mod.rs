//! The guard: stands between an agent and what it uses, and asks the broker before every call.
//!
//! It holds no rule of its own. What the broker does not allow, for whatever reason (it says no, cannot be reached, or
//! does not understand the question), is not done; what was allowed is ended when the grant is cut.

mod access;
mod child;
mod ended;
pub mod hook;
mod line;
pub mod mcp;
pub mod run;
mod socket;
mod watch;

use crate::client::Refusal;
use crate::domain::error::{Code, Error};

pub use access::{Access, Authority, Source};
pub use ended::Ended;

/// What happened here, and not at the broker.
fn failed(reason: &'static str, message: impl Into<String>) -> Refusal {
    Error::new(Code::Internal, reason, message).into()
}

/// What cannot be asked now.
fn unavailable(message: impl Into<String>) -> Refusal {
    Error::new(Code::Unavailable, "unavailable", message).into()
}

/// Resolves when this process is asked to stop, or its terminal goes away: nothing that it guards outlives it then.
async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::quit()];
    let hangup = (!hangup_is_ignored()).then(SignalKind::hangup);
    let mut asked = tokio::task::JoinSet::new();
    for kind in kinds.into_iter().chain(hangup) {
        if let Ok(mut asks) = signal(kind) {
            asked.spawn(async move { asks.recv().await });
        }
    }
    if asked.join_next().await.is_none() {
        std::future::pending().await
    }
}

/// As under `nohup`: whoever started this wants it to go on.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
