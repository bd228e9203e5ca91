//! The blast radius of a target: counted at one moment, worked out while nobody waits.

use super::{Asked, Broker};
use crate::domain::cut::Target;
use crate::domain::decide::{Extent, Survey};
use crate::domain::error::Error;
use crate::domain::radius::{Figures, Union, Way};
use crate::domain::scope::Scopes;

/// Resources that are listed.
const LISTED: usize = 1000;

/// What a target reaches, and what is live under it.
pub struct Surveyed {
    /// What is known of it.
    pub extent: Extent,
    /// How much it reaches.
    pub figures: Figures,
    /// What, the most sensitive first, a thousand at most.
    pub ways: Vec<Way>,
    /// Resources beyond the thousand.
    pub unlisted: u64,
    /// What more scopes would add, and come to.
    pub more: Option<(Figures, Figures)>,
}

impl Broker {
    /// The radius of a target. Not for a thread that others wait for.
    ///
    /// # Errors
    /// There is no such target, or not for this caller.
    pub fn radius(&self, asked: &Asked, target: Target, more: Option<&Scopes>) -> Result<Surveyed, Error> {
        let extent = self.peek(asked, &Survey { target, more: more.cloned() })?;
        let Extent { scopes, catalog, .. } = &extent;
        let reach = catalog.reach_of(scopes);
        let ways = catalog.ways_of(scopes, LISTED);
        let of_grant = || {
            let more = catalog.reach(more?);
            let mut union = Union::default();
            union.cover(catalog, &reach);
            let adds = union.more(catalog, &[], &more).figures();
            Some((adds, union.figures().plus(adds)))
        };
        Ok(Surveyed {
            more: extent.more.or_else(of_grant),
            figures: extent.whole.unwrap_or_else(|| catalog.figures(&reach)),
            unlisted: reach.resources.len().saturating_sub(ways.len()) as u64,
            ways,
            extent,
        })
    }
}
