//! What of an MCP server's tools is within reach of a credential: what a list of them is cut down to.

use super::presenter::Presented;
use super::{Asked, Broker};
use crate::domain::decide::{Verdict, is_within_reach, judge};
use crate::domain::error::{Code, Error};
use crate::domain::grant::Credential;
use crate::domain::time::Timestamp;

/// Tools in one question.
const MOST: usize = 4096;

/// A tool as an MCP server lists it.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// The server.
    pub server: &'a str,
    /// The tool's name there.
    pub name: &'a str,
    /// `sha256:…` of its input schema; empty if that is not known.
    pub schema: &'a str,
}

impl Broker {
    /// Of each of these tools whether some call of it could be allowed under the credential that was shown. Nothing is
    /// decided or recorded.
    ///
    /// # Errors
    /// The credential is none, not for who asks, or not live; there are more than 4096 tools.
    pub fn tools_within(&self, asked: &Asked, shown: &Presented<'_>, tools: &[Listed<'_>]) -> Result<Vec<bool>, Error> {
        let now = self.ledger.now();
        let credential = self.presented(asked, shown, None, now)?;
        self.within(credential, tools, now)
    }

    /// The same for the answer to a request that was decided when it was made, with the proof that it brought: none is
    /// asked for again. Nothing may be done by this: what is done is decided when it is done.
    ///
    /// # Errors
    /// As [`Broker::tools_within`].
    pub fn tools_answered(
        &self,
        asked: &Asked,
        shown: &Presented<'_>,
        tools: &[Listed<'_>],
    ) -> Result<Vec<bool>, Error> {
        let now = self.ledger.now();
        let credential = if shown.token.is_empty() {
            self.seen(asked, shown, now)?
        } else {
            let claims = self.keys.current().verifier.read(shown.token)?;
            self.is_for(asked, &claims.audience)?;
            Credential::Token(claims.id)
        };
        self.within(credential, tools, now)
    }

    fn within(&self, credential: Credential, tools: &[Listed<'_>], now: Timestamp) -> Result<Vec<bool>, Error> {
        if tools.len() > MOST {
            let message = format!("{} tools are too many at once; ask about {MOST} at most", tools.len());
            return Err(Error::new(Code::Invalid, "malformed", message).on("tools"));
        }
        self.ledger.view(|view| {
            let Verdict { allowed, grant, reasons, .. } = judge(&view, now, credential, None);
            let Some(grant) = grant.and_then(|grant| view.grant(grant)).filter(|_| allowed) else {
                let reason = reasons.into_iter().next();
                let (code, message) = reason.map_or(("denied", String::new()), |one| (one.code, one.message));
                return Err(Error::denied(code, message));
            };
            let within = |tool: &Listed<'_>| {
                let reach = view.catalog().tool_reach(tool.server, tool.name);
                let schema = Some(tool.schema).filter(|schema| !schema.is_empty());
                reach.is_some_and(|calls| is_within_reach(&view, grant, &calls, schema))
            };
            Ok(tools.iter().map(within).collect())
        })
    }
}
