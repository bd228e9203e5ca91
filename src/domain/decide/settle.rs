//! What became of a revocation, recorded once nothing more will.

use super::ledger::broker_only;
use super::{Context, Decide, Decision};
use crate::domain::error::Error;
use crate::domain::event::{Body, CutCounts, Settled};
use crate::domain::id::RevocationId;

/// Records that all that a revocation ended is over everywhere.
#[derive(Debug)]
pub struct Settle {
    /// Which.
    pub id: RevocationId,
    /// What is refused, or gone, everywhere.
    pub enforced: CutCounts,
    /// What somebody could honour until it expired.
    pub expired: CutCounts,
}

impl Decide for Settle {
    type Answer = ();
    const VERB: &'static str = "revocation.settle";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<()>, Error> {
        broker_only(ctx)?;
        let known = ctx.view.revocation(&self.id).ok_or_else(|| Error::not_found("revocation", self.id))?;
        if known.settled.is_some() {
            return Ok(Decision::new(Vec::new(), ()));
        }
        let Self { id, enforced, expired } = *self;
        Ok(Decision::new(vec![Body::RevocationSettled(Settled { id, enforced, expired, at: ctx.now })], ()))
    }
}
