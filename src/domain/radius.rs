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

/// What is new to a [`Union`], each resource once. Of reaches that outlive it: it knows them again by where they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct More {
    places: Places,
    figures: Figures,
    of: HashSet<usize>,
}

/// A set of resources, one bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Places(Vec<u64>);

impl Places {
    fn contains(&self, at: u32) -> bool {
        self.0.get(at as usize / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn insert(&mut self, at: u32) {
        let word = at as usize / 64;
        self.0.resize(self.0.len().max(word + 1), 0);
        self.0[word] |= 1 << (at % 64);
    }

    fn merge(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        self.0.iter_mut().zip(&other.0).for_each(|(ours, theirs)| *ours |= theirs);
    }
}

impl More {
    /// Nothing but that this reach is in it.
    pub fn of(reach: &Reach) -> Self {
        let figures = Figures { unbounded: reach.unbounded, ..Figures::default() };
        Self { places: Places::default(), figures, of: HashSet::from([reach.address()]) }
    }

    /// What is new, in order.
    pub fn resources(&self) -> impl Iterator<Item = u32> {
        (0..)
            .zip(&self.places.0)
            .flat_map(|(word, bits)| (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| 64 * word + bit))
    }

    /// How much is new.
    pub fn figures(&self) -> Figures {
        self.figures
    }

    /// Adds what was found to be new over this.
    pub fn merge(&mut self, later: &Self) {
        self.places.merge(&later.places);
        self.figures = self.figures.plus(later.figures);
        self.of.extend(&later.of);
    }

    fn holds(&self, reach: &Reach) -> bool {
        self.of.contains(&reach.address())
    }
}

impl Reach {
    /// Where it is: equal scopes share one reach, which then has to be looked at once.
    pub(super) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

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

    /// Both together; no resource is in both.
    pub fn plus(self, other: Self) -> Self {
        let by = std::array::from_fn(|at| self.by[at] + other.by[at]);
        Self { score: self.score + other.score, by, unbounded: self.unbounded | other.unbounded }
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

    /// What `reach` adds to this and to what was found before to be added. What lies beyond the catalog always counts
    /// as added: nobody can say that it was there before.
    pub fn more(&self, catalog: &Catalog, before: &[&More], reach: &Reach) -> More {
        let mut more = More::of(reach);
        if before.iter().any(|before| before.holds(reach)) {
            return more;
        }
        for at in &reach.resources {
            if !self.contains(*at) && !before.iter().any(|before| before.places.contains(*at)) {
                more.places.insert(*at);
                more.figures.add(catalog.sensitivity(*at));
            }
        }
        more
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
