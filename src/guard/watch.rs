//! An authority held at the broker for as long as it is used: when its grant is cut, that is known at once.
//!
//! What is held is a session with the tool, which whoever may call anything of it may hold, and which calls nothing.

use std::time::Duration;

use super::ended::{Ended, Meaning, meaning, of};
use super::line::{Hold, Line, Over};
use super::{Access, Authority, unavailable};
use crate::client::Refusal;
use crate::domain::error::Error;
use crate::wire::v1::{AuthorizeRequest, AuthorizeResponse, McpRequest, Reason};

/// Between two looks at a broker that is away, …
const AWAY: Duration = Duration::from_millis(250);
/// … and at an authority that is halted: each is in the log.
const HALTED: Duration = Duration::from_secs(1);
/// For how long a new token is waited for.
const RENEWED: Duration = Duration::from_secs(3);

/// One session.
pub(super) struct Watch<'a> {
    /// What it is held under.
    pub authority: &'a Authority,
    /// To the broker.
    pub line: &'a Line,
    /// The tool, as scopes name it.
    pub tool: &'a str,
}

impl Watch<'_> {
    /// Whether a session may be held under this grant: how it ended where it ended before it began.
    ///
    /// # Errors
    /// It may not, or the broker does not say.
    pub async fn may_begin(&self) -> Result<Option<Ended>, Refusal> {
        let verdict = self.line.authorize(self.asking()).await?;
        if verdict.decision == "allow" {
            self.line.report(&verdict.id, "done", "").await;
            return Ok(None);
        }
        let Reason { code, message } = reason(&verdict);
        match meaning(&code) {
            Meaning::Over | Meaning::Token => Ok(Some(Ended::Cut { code, message })),
            _ => Err(Refusal { reason: code, ..Error::denied("denied", message).into() }),
        }
    }

    /// Holds it until it is over.
    pub async fn watch(&self) -> Ended {
        loop {
            let access = self.authority.access();
            match self.line.hold(self.asking()).await {
                Ok((verdict, hold)) if verdict.decision == "allow" => {
                    if let Some(ended) = self.held(&access, &verdict, hold).await {
                        return ended;
                    }
                }
                Ok((verdict, _)) => {
                    let Reason { code, message } = reason(&verdict);
                    match meaning(&code) {
                        Meaning::Over => return Ended::Cut { code, message },
                        Meaning::Token => renewed(self.authority, &access).await,
                        _ => tokio::time::sleep(HALTED).await,
                    }
                }
                Err(refusal) if of(&refusal) == Meaning::Over => {
                    return Ended::Cut { code: refusal.reason, message: refusal.message };
                }
                Err(_) => tokio::time::sleep(AWAY).await,
            }
        }
    }

    /// Until it is over, or has to be held anew.
    async fn held(&self, access: &Access, verdict: &AuthorizeResponse, mut hold: Hold) -> Option<Ended> {
        let mut changes = self.authority.changes();
        let over = tokio::select! {
            over = hold.over() => over,
            _ = changes.wait_for(|now| now.tokens != access.tokens) => {
                self.line.report(&verdict.id, "done", "").await;
                return None;
            }
        };
        let Over::Ended(ended) = over else { return None };
        let Reason { code, message } = ended.reasons.into_iter().next().unwrap_or_default();
        (meaning(&code) == Meaning::Over).then_some(Ended::Cut { code, message })
    }

    fn asking(&self) -> AuthorizeRequest {
        asking(self.authority, self.tool, "ping", "")
    }
}

/// Waits a while for a token after this one.
pub(super) async fn renewed(authority: &Authority, spent: &Access) {
    authority.renew(spent);
    let mut changes = authority.changes();
    let _ = tokio::time::timeout(RENEWED, changes.wait_for(|now| now.tokens != spent.tokens)).await;
}

/// The question whether a message of an MCP client may be passed on. The broker maps it to a call, by the routes of its
/// catalog.
pub(super) fn asking(authority: &Authority, server: &str, method: &str, params: &str) -> AuthorizeRequest {
    let [server, method, params] = [server, method, params].map(str::to_owned);
    AuthorizeRequest {
        token: authority.access().token.clone(),
        mcp: Some(McpRequest { server, method, params, schema_digest: String::new() }),
        ..AuthorizeRequest::default()
    }
}

/// The first reason of a verdict.
pub(super) fn reason(verdict: &AuthorizeResponse) -> Reason {
    let none = || {
        let Refusal { reason: code, message, .. } = unavailable("the broker gave no reason");
        Reason { code, message }
    };
    verdict.reasons.first().cloned().unwrap_or_else(none)
}
