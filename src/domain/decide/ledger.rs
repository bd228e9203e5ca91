//! What the broker records of itself: the beginning, its snapshots.

use super::{Caller, Context, Decide, Decision};
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::event::{Body, Origin};

/// With it and the longest name, an agent's SPIFFE ID is still a subject of at most 256 characters.
const LONGEST_DOMAIN: usize = 160;

/// Begins the log.
#[derive(Debug)]
pub struct Begin {
    /// Trust domain, issuer and epoch.
    pub origin: Origin,
}

/// Records that a snapshot was stored.
#[derive(Debug)]
pub struct MarkSnapshot {
    /// The state's sequence when it was taken.
    pub seq: u64,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// The fold that wrote it.
    pub version: u32,
}

impl Decide for Begin {
    type Answer = ();
    const VERB: &'static str = "ledger.begin";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<()>, Error> {
        broker_only(ctx)?;
        if ctx.view.origin().is_some() {
            return Err(Error::new(Code::Conflict, "begun", "the ledger has begun already"));
        }
        let domain = &self.origin.trust_domain;
        if domain.as_str().len() > LONGEST_DOMAIN {
            return Err(Error::malformed(
                "trust_domain",
                domain.as_str(),
                "at most 160 characters, so that an agent's id fits a line",
            ));
        }
        Ok(Decision::new(vec![Body::Origin(self.origin.clone())], ()))
    }
}

impl Decide for MarkSnapshot {
    type Answer = ();
    const VERB: &'static str = "ledger.snapshot";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<()>, Error> {
        broker_only(ctx)?;
        let event = Body::SnapshotTaken { seq: self.seq, digest: self.digest, version: self.version };
        Ok(Decision::new(vec![event], ()))
    }
}

pub(super) fn broker_only(ctx: &Context<'_>) -> Result<(), Error> {
    match ctx.caller {
        Caller::Broker => Ok(()),
        _ => Err(Error::denied("broker_only", "only the broker records this")),
    }
}
