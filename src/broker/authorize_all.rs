//! One message that makes several calls: all of them are made, or none.

use futures_util::future::join_all;

use super::presenter::Presented;
use super::wanted::{Wanted, What};
use super::{Asked, Authorized, Broker};
use crate::domain::decide::{Reason, ReportOutcome};
use crate::domain::error::Error;
use crate::domain::id::InvocationId;
use crate::domain::invocation::Outcome;
use crate::domain::name::Line;

/// What the report of a call says that was allowed, while another of its message was not.
const UNMADE: &str = "another call of the same message was denied";

impl Broker {
    /// Decides every call of one message, in order, under what was shown with it: a proof of possession is looked at once.
    /// Unless all are allowed none is made, and whoever asks is taken to report so: those that were allowed are recorded as
    /// never made, and what they took of limits is given back. That is believed of enforcement points alone.
    ///
    /// A ticket is for one call: with several, it has all of them denied, and is not spent.
    ///
    /// # Errors
    /// As [`Broker::authorize`]; what was allowed by then is given back likewise.
    pub async fn authorize_all(
        &self,
        asked: &Asked,
        shown: Presented<'_>,
        wanted: Vec<Wanted<'_>>,
    ) -> Result<Vec<Authorized>, Error> {
        let wanted = without_ticket(wanted);
        let door = self.door(asked, &shown, &wanted)?;
        let mut decided = Vec::with_capacity(wanted.len());
        let mut failed = None;
        for one in wanted {
            match self.decided_at(&door, asked, one).await {
                Ok(authorized) => decided.push(authorized),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if failed.is_some() || decided.iter().any(|one| !one.verdict.allowed) {
            let allowed = decided.iter().filter(|one| one.verdict.allowed && one.proven);
            join_all(allowed.map(|one| self.unmade(asked, one.id))).await;
        }
        failed.map_or(Ok(decided), Err)
    }

    async fn unmade(&self, asked: &Asked, id: InvocationId) {
        let detail = UNMADE.parse::<Line>().ok();
        let report = ReportOutcome { id, outcome: Outcome::NotExecuted, detail };
        // What cannot be given back stays spent; the message is denied all the same.
        if let Err(error) = self.submit(asked, report).await {
            tracing::warn!(invocation = %id, %error, "what a call took is not given back");
        }
    }
}

fn without_ticket(wanted: Vec<Wanted<'_>>) -> Vec<Wanted<'_>> {
    if wanted.len() < 2 || wanted.iter().all(|one| one.redeem.is_empty()) {
        return wanted;
    }
    let message = "a ticket is for one call, and this message makes several; send it without".to_owned();
    let reason = Reason { code: "ticket_other_call", message };
    let refused = |one| Wanted { what: What::Refused(reason.clone()), redeem: "", ..one };
    wanted.into_iter().map(refused).collect()
}
