//! The closure: from what scopes touch, over edges, to all that can be reached from there.
//!
//! A scope opens an edge if they have a call in common. What lies at the end of an edge is reached whole: whoever has
//! it is taken to be able to do anything with it, so it opens every edge that begins there, whatever its action.

use super::Catalog;
use super::index::place;
use crate::domain::radius::{Figures, Reach, Way};
use crate::domain::scope::{Scope, Scopes};

/// Edges that are listed of one way.
const MAX_VIA: usize = 64;

impl Catalog {
    /// All that these scopes reach, never less. What they reach beyond the catalog cannot be counted, and is only said.
    pub fn reach(&self, scopes: &Scopes) -> Reach {
        self.reach_of(scopes.as_slice())
    }

    /// The same of any number of scopes.
    pub fn reach_of(&self, scopes: &[Scope]) -> Reach {
        let mut reached = vec![false; self.resources.len()];
        let mut reach = Reach::default();
        for scope in scopes {
            let (risk, known) = self.risk(scope.tool(), scope.action());
            reach.risk = reach.risk.max(risk);
            reach.unbounded |= !known || !self.index.covers(scope.tool(), scope.resource());
            self.index.meeting(scope.tool(), scope.resource(), |run| reached[run].fill(true));
        }
        let walk = self.graph.walk(scopes);
        for end in &walk.order {
            for at in self.graph.touched(*end) {
                reached[*at as usize] = true;
            }
        }
        let places = reached.iter().enumerate().filter(|(_, reached)| **reached);
        reach.resources = places.map(|(at, _)| place(at)).collect();
        reach
    }

    /// How each of these is reached, by the fewest edges: the `most` that matter, by sensitivity, then the nearest.
    /// Of a way only the first 64 edges are listed; `hops` counts them all.
    pub fn ways(&self, scopes: &Scopes, most: usize) -> Vec<Way> {
        self.ways_of(scopes.as_slice(), most)
    }

    /// The same of any number of scopes.
    pub fn ways_of(&self, scopes: &[Scope], most: usize) -> Vec<Way> {
        // How many hops, and the end that touches it.
        let mut found: Vec<Option<(u32, Option<u32>)>> = vec![None; self.resources.len()];
        for scope in scopes.iter() {
            self.index.meeting(scope.tool(), scope.resource(), |run| found[run].fill(Some((0, None))));
        }
        let walk = self.graph.walk(scopes);
        for end in &walk.order {
            for at in self.graph.touched(*end) {
                found[*at as usize].get_or_insert((walk.hops(*end), Some(*end)));
            }
        }
        let places = self.resources.iter().zip(found).filter_map(|(resource, found)| Some((resource, found?)));
        let mut ways: Vec<(Way, Option<u32>)> = places
            .map(|(resource, (hops, end))| {
                let (resource, sensitivity) = (resource.to_string(), resource.sensitivity);
                (Way { resource, sensitivity, hops, via: Vec::new() }, end)
            })
            .collect();
        ways.sort_unstable_by(|(one, _), (two, _)| {
            two.sensitivity.cmp(&one.sensitivity).then((one.hops, &one.resource).cmp(&(two.hops, &two.resource)))
        });
        ways.truncate(most);
        let via = |end: u32| {
            let mut edges: Vec<usize> = walk.back(end).collect();
            edges.reverse();
            edges.truncate(MAX_VIA);
            edges.into_iter().map(|edge| self.edges[edge].to_string()).collect()
        };
        ways.into_iter().map(|(way, end)| Way { via: end.map(via).unwrap_or_default(), ..way }).collect()
    }

    /// How much that is.
    pub fn figures(&self, reach: &Reach) -> Figures {
        let mut figures = Figures { unbounded: reach.unbounded, ..Figures::default() };
        reach.resources.iter().for_each(|at| figures.add(self.sensitivity(*at)));
        figures
    }
}
