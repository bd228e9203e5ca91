//! Blast radius: what a set of scopes reaches through the catalog, as numbers and with the way there.

use std::collections::{HashMap, HashSet};

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

/// How a resource is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// `tool:path`, as the catalog has it.
    pub resource: String,
    /// How sensitive it is.
    pub sensitivity: Sensitivity,
    /// How many edges lead there; 0: a scope touches it.
    pub hops: u32,
    /// These edges, `from -> to`, in order.
    pub via: Vec<String>,
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

/// A union of reaches from which each can be taken out again. All of them are of one catalog: under another, the same
/// places mean other resources, so a union is made anew from its members when the catalog changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Union {
    counts: HashMap<u32, u32>,
    figures: Figures,
    unbounded: u32,
}

impl Reach {
    /// Whether it reaches this resource.
    pub fn contains(&self, resource: u32) -> bool {
        self.resources.binary_search(&resource).is_ok()
    }
}

impl Figures {
    /// Counts one more resource.
    pub fn add(&mut self, sensitivity: Sensitivity) {
        self.score += sensitivity.weight();
        self.by[sensitivity as usize] += 1;
    }

    /// Whether it is more than was shown, in all or of any sensitivity.
    pub fn exceeds(&self, shown: &Self) -> bool {
        let more = self.by.iter().zip(&shown.by).any(|(now, shown)| now > shown);
        more || self.score > shown.score || (self.unbounded && !shown.unbounded)
    }

    fn remove(&mut self, sensitivity: Sensitivity) {
        self.score -= sensitivity.weight();
        self.by[sensitivity as usize] -= 1;
    }
}

impl Union {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.unbounded == 0
    }

    /// Takes a reach in for good: what is in it already is not counted again.
    pub fn cover(&mut self, catalog: &Catalog, reach: &Reach) {
        for at in &reach.resources {
            if self.counts.insert(*at, 1).is_none() {
                self.figures.add(catalog.sensitivity(*at));
            }
        }
        self.unbounded |= u32::from(reach.unbounded);
        self.figures.unbounded = self.unbounded > 0;
    }

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

    /// What it would come to with these as well.
    pub fn with(&self, catalog: &Catalog, extra: &[&Reach]) -> Figures {
        let mut figures = self.figures;
        let mut seen = HashSet::new();
        for at in extra.iter().flat_map(|reach| &reach.resources) {
            if !self.contains(*at) && seen.insert(*at) {
                figures.add(catalog.sensitivity(*at));
            }
        }
        figures.unbounded |= extra.iter().any(|reach| reach.unbounded);
        figures
    }

    /// What `reach` adds to this and these. What lies beyond the catalog always counts as added: nobody can say that
    /// it was there before.
    pub fn adds(&self, catalog: &Catalog, extra: &[&Reach], reach: &Reach) -> Figures {
        let mut figures = Figures { unbounded: reach.unbounded, ..Figures::default() };
        for at in self.added(extra, reach) {
            figures.add(catalog.sensitivity(at));
        }
        figures
    }

    /// Which resources that is, in order.
    pub fn added(&self, extra: &[&Reach], reach: &Reach) -> impl Iterator<Item = u32> {
        let before = |at: &u32| self.contains(*at) || extra.iter().any(|reach| reach.contains(*at));
        reach.resources.iter().copied().filter(move |at| !before(at))
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
