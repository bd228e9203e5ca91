//! Where edges lead, worked out once for all of them: an edge leads to others whose beginning its end meets.

use std::ops::Range;

use super::index::{Index, place};
use super::{Edge, LINKS};
use crate::domain::error::Error;
use crate::domain::scope::{Action, Path, Scope};

/// The edges by where they begin and where they end. Beginnings and ends that many edges share are kept once.
#[derive(Debug, Default)]
pub(super) struct Graph {
    /// Finds beginnings, whatever their action.
    beginnings: Index,
    /// The first edge of each beginning, and the number of edges; edges are sorted by beginning.
    firsts: Vec<u32>,
    /// The end of each edge.
    ends: Vec<u32>,
    /// The action of each edge, as a place among `actions`.
    action_of: Vec<u32>,
    actions: Vec<Action>,
    /// What begins where an end lies.
    onward: Links,
    /// Which resources an end touches.
    touched: Links,
}

/// For each of some places, places of another list.
#[derive(Debug, Default)]
struct Links {
    firsts: Vec<u32>,
    all: Vec<u32>,
}

impl Links {
    fn of(&self, at: u32) -> &[u32] {
        &self.all[self.firsts[at as usize] as usize..self.firsts[at as usize + 1] as usize]
    }
}

/// What was reached over edges, nearest first.
pub(super) struct Walk {
    /// The ends.
    pub(super) order: Vec<u32>,
    /// How each end was reached first.
    steps: Vec<Option<Step>>,
}

#[derive(Clone, Copy)]
struct Step {
    edge: u32,
    before: Option<u32>,
    hops: u32,
}

impl Graph {
    /// Of edges, sorted by where they begin, and an index of the resources.
    ///
    /// # Errors
    /// Wildcards make for too many links.
    pub(super) fn of(edges: &[Edge], resources: &Index) -> Result<Self, Error> {
        let mut keys: Vec<(&str, &Path)> = Vec::new();
        let mut firsts = Vec::new();
        for (at, edge) in edges.iter().enumerate() {
            let key = (edge.from.tool(), edge.from.resource());
            if keys.last() != Some(&key) {
                keys.push(key);
                firsts.push(place(at));
            }
        }
        firsts.push(place(edges.len()));
        let beginnings = Index::of(&keys);
        let mut actions: Vec<&Action> = edges.iter().map(|edge| edge.from.action()).collect();
        actions.sort_unstable();
        actions.dedup();
        let mut to: Vec<(&str, &Path)> = edges.iter().map(|edge| (edge.tool.as_str(), &edge.to)).collect();
        to.sort_unstable();
        to.dedup();
        let among = |found: Result<usize, usize>| place(found.unwrap_or_else(|at| at));
        let end = |edge: &Edge| among(to.binary_search(&(edge.tool.as_str(), &edge.to)));
        let ends = edges.iter().map(end).collect();
        let action_of = edges.iter().map(|edge| among(actions.binary_search(&edge.from.action()))).collect();
        let onward = links(&to, &beginnings)?;
        let touched = links(&to, resources)?;
        let actions = actions.into_iter().cloned().collect();
        Ok(Self { beginnings, firsts, ends, action_of, actions, onward, touched })
    }

    /// Goes every way that the scopes open, nearest first.
    pub(super) fn walk(&self, scopes: &[Scope]) -> Walk {
        let mut walk = Walk { order: Vec::new(), steps: vec![None; self.onward.firsts.len().saturating_sub(1)] };
        // Beginnings all of whose edges were gone.
        let mut gone = vec![false; self.firsts.len()];
        for scope in scopes {
            let mut meets = vec![None; self.actions.len()];
            let mut opens = |edge: usize| {
                let action = self.action_of[edge] as usize;
                *meets[action].get_or_insert_with(|| scope.action().meet(&self.actions[action]).is_some())
            };
            self.beginnings.meeting(scope.tool(), scope.resource(), |run| {
                for at in run {
                    if gone[at] {
                        continue;
                    }
                    gone[at] = true;
                    for edge in self.edges(at) {
                        if opens(edge) {
                            walk.take(self.ends[edge], edge, None);
                        } else {
                            gone[at] = false;
                        }
                    }
                }
            });
        }
        let mut next = 0;
        while let Some(end) = walk.order.get(next).copied() {
            next += 1;
            for at in self.onward.of(end) {
                let at = *at as usize;
                if !std::mem::replace(&mut gone[at], true) {
                    self.edges(at).for_each(|edge| walk.take(self.ends[edge], edge, Some(end)));
                }
            }
        }
        walk
    }

    /// The resources that an end touches.
    pub(super) fn touched(&self, end: u32) -> &[u32] {
        self.touched.of(end)
    }

    fn edges(&self, beginning: usize) -> Range<usize> {
        self.firsts[beginning] as usize..self.firsts[beginning + 1] as usize
    }
}

/// What of an index each pattern meets.
fn links(patterns: &[(&str, &Path)], index: &Index) -> Result<Links, Error> {
    let mut links = Links { firsts: vec![0], all: Vec::new() };
    for (tool, path) in patterns {
        index.meeting(tool, path, |run| {
            // One more than may be is enough to refuse it.
            let room = (LINKS + 1).saturating_sub(links.all.len());
            links.all.extend(run.take(room).map(place));
        });
        if links.all.len() > LINKS {
            let why = "the wildcards of edges and resources meet in more than 20000000 pairs; name what is meant";
            return Err(Error::malformed("edge", &format!("… -> {tool}:{path}"), why));
        }
        links.firsts.push(place(links.all.len()));
    }
    Ok(links)
}

impl Walk {
    fn take(&mut self, end: u32, edge: usize, before: Option<u32>) {
        if self.steps[end as usize].is_none() {
            let hops = 1 + before.map_or(0, |before| self.hops(before));
            self.steps[end as usize] = Some(Step { edge: place(edge), before, hops });
            self.order.push(end);
        }
    }

    /// How many edges led to an end.
    pub(super) fn hops(&self, end: u32) -> u32 {
        self.steps[end as usize].map_or(0, |step| step.hops)
    }

    /// The edges that led to an end, last first.
    pub(super) fn back(&self, end: u32) -> impl Iterator<Item = usize> {
        let step = |end: u32| self.steps[end as usize];
        std::iter::successors(step(end), move |last| last.before.and_then(step)).map(|step| step.edge as usize)
    }
}
