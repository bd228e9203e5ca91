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

/// Resolves when this process is asked to stop.
async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
}
