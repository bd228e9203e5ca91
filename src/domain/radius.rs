//! Blast radius: what a set of scopes reaches through the catalog, as numbers and with the way there.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::catalog::{Catalog, Risk, Sensitivity};

/// What a set of scopes reaches: resources of one catalog by their place in it, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The resources, each once, in order.
    pub resources: Vec<u32>,
    /// Whether some scope covers what is not in the catalog: then the rest is a lower bound.
    pub unbounded: bool,
    /// The worst that an action of the scopes can do.
    pub risk: Risk,
}

/// How much is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Figures {
    /// The sum of [`Sensitivity::weight`] over the resources.
    pub score: u64,
    /// How many of each sensitivity, public first.
    pub by: [u64; 4],
    /// Whether it reaches beyond the catalog.
    pub unbounded: bool,
}

/// What a grant comes to together with everything else of the same …
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unions {
    /// … task, since it began.
    pub task: Figures,
    /// … agent: what is live, and what was granted for a time that ended less than five minutes ago.
    pub agent: Figures,
    /// … owner, likewise.
    pub owner: Figures,
    /// … subject, likewise; of a task without one, nothing.
    pub subject: Figures,
}

/// A union of reaches from which each can be taken out again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Union {
    counts: HashMap<u32, u32>,
    figures: Figures,
    unbounded: u32,
}

impl Figures {
    /// Counts one more resource.
    pub fn add(&mut self, sensitivity: Sensitivity) {
        self.score += sensitivity.weight();
        self.by[sensitivity as usize] += 1;
    }

    fn remove(&mut self, sensitivity: Sensitivity) {
        self.score -= sensitivity.weight();
        self.by[sensitivity as usize] -= 1;
    }
}

impl Union {
    /// What is in it.
    pub fn figures(&self) -> Figures {
        self.figures
    }

    /// Whether some member reaches this resource.
    pub fn contains(&self, resource: u32) -> bool {
        self.counts.contains_key(&resource)
    }

    /// Takes a reach in.
    pub fn add(&mut self, catalog: &Catalog, reach: &Reach) {
        for at in &reach.resources {
            let count = self.counts.entry(*at).or_default();
            *count += 1;
            if *count == 1 {
                self.figures.add(catalog.sensitivity(*at));
            }
        }
        self.unbounded += u32::from(reach.unbounded);
        self.figures.unbounded = self.unbounded > 0;
    }

    /// Takes out a reach that was taken in.
    pub fn remove(&mut self, catalog: &Catalog, reach: &Reach) {
        for at in &reach.resources {
            let Some(count) = self.counts.get_mut(at) else { continue };
            *count -= 1;
            if *count == 0 {
                self.counts.remove(at);
                self.figures.remove(catalog.sensitivity(*at));
            }
        }
        self.unbounded = self.unbounded.saturating_sub(u32::from(reach.unbounded));
        self.figures.unbounded = self.unbounded > 0;
    }
}
