//! The session itself, held at the broker for as long as it lasts: when its grant is cut, it is over at once.

use std::sync::Arc;
use std::time::Duration;

use super::super::ended::{Meaning, meaning, of};
use super::super::line::{Hold, Over};
use super::super::unavailable;
use super::Session;
use crate::client::Refusal;
use crate::domain::error::Error;
use crate::guard::{Access, Ended};
use crate::wire::v1::{AuthorizeRequest, AuthorizeResponse, McpRequest, Reason};

/// Between two looks at an authority that is halted, or a broker that is away.
const PAUSE: Duration = Duration::from_millis(250);
/// For how long a new token is waited for.
const RENEWED: Duration = Duration::from_secs(3);

impl Session {
    /// Whether a session may be held under this grant: how it ended where it ended before it began.
    ///
    /// # Errors
    /// It may not, or the broker does not say.
    pub(super) async fn may_begin(&self) -> Result<Option<Ended>, Refusal> {
        let verdict = self.line.authorize(self.asking("ping", "", "", "")).await?;
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
    pub(super) async fn watch(self: Arc<Self>) -> Ended {
        loop {
            let access = self.authority.access();
            match self.line.hold(self.asking("ping", "", "", "")).await {
                Ok((verdict, hold)) if verdict.decision == "allow" => {
                    if let Some(ended) = self.held(&access, &verdict, hold).await {
                        return ended;
                    }
                }
                Ok((verdict, _)) => {
                    let Reason { code, message } = reason(&verdict);
                    match meaning(&code) {
                        Meaning::Over => return Ended::Cut { code, message },
                        Meaning::Token => self.renewed(&access).await,
                        _ => {}
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Err(refusal) if of(&refusal) == Meaning::Over => {
                    return Ended::Cut { code: refusal.reason, message: refusal.message };
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
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

    /// Waits a while for a token after this one.
    pub(super) async fn renewed(&self, spent: &Access) {
        self.authority.renew(spent);
        let mut changes = self.authority.changes();
        let _ = tokio::time::timeout(RENEWED, changes.wait_for(|now| now.tokens != spent.tokens)).await;
    }

    /// The question whether a message may be passed on. The broker maps it to a call, by the routes of its catalog.
    pub(super) fn asking(&self, method: &str, params: &str, schema: &str, key: &str) -> AuthorizeRequest {
        let [server, method, params, schema_digest] = [&self.server, method, params, schema].map(str::to_owned);
        AuthorizeRequest {
            token: self.authority.access().token.clone(),
            idempotency_key: key.to_owned(),
            mcp: Some(McpRequest { server, method, params, schema_digest }),
            ..AuthorizeRequest::default()
        }
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
