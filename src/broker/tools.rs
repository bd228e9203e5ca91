//! What of an MCP server's tools is within reach of a credential: what a list of them is cut down to.

use super::presenter::Presented;
use super::{Asked, Broker};
use crate::domain::decide::{Verdict, is_within_reach, judge};
use crate::domain::error::{Code, Error};

/// Tools in one question.
const MOST: usize = 4096;

impl Broker {
    /// Of each of these tools (its name, and the digest of its input schema, empty if that is not known) whether some
    /// call of it could be allowed under the credential that was shown. Nothing is decided or recorded.
    ///
    /// # Errors
    /// The credential is none, not for who asks, or not live; there are more than 4096 tools.
    pub fn tools_within(
        &self,
        asked: &Asked,
        shown: &Presented<'_>,
        server: &str,
        tools: &[(&str, &str)],
    ) -> Result<Vec<bool>, Error> {
        if tools.len() > MOST {
            let message = format!("{} tools are too many at once; ask about {MOST} at most", tools.len());
            return Err(Error::new(Code::Invalid, "malformed", message).on("tools"));
        }
        let now = self.ledger.now();
        let credential = self.presented(asked, shown, now)?;
        self.ledger.view(|view| {
            let Verdict { allowed, grant, reasons, .. } = judge(&view, now, credential, None);
            let Some(grant) = grant.and_then(|grant| view.grant(grant)).filter(|_| allowed) else {
                let reason = reasons.into_iter().next();
                let (code, message) = reason.map_or(("denied", String::new()), |one| (one.code, one.message));
                return Err(Error::denied(code, message));
            };
            let within = |(name, schema): &(&str, &str)| {
                let reach = view.catalog().tool_reach(server, name);
                let schema = Some(*schema).filter(|schema| !schema.is_empty());
                reach.is_some_and(|calls| is_within_reach(&view, grant, &calls, schema))
            };
            Ok(tools.iter().map(within).collect())
        })
    }
}
