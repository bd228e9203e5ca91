//! A tree over patterns in order, by which those that meet a pattern are found without looking at the others.

use std::collections::HashMap;
use std::ops::Range;

use crate::domain::scope::{Path, Segment};

/// The places of patterns in a sorted list, by tool and segment.
#[derive(Debug, Default)]
pub(super) struct Index {
    tools: HashMap<String, u32>,
    nodes: Vec<Node>,
    /// The children of each node that are names, sorted by name.
    children: Vec<u32>,
}

/// All patterns that begin alike: a run of the list.
#[derive(Debug)]
struct Node {
    name: String,
    run: Range<u32>,
    /// Whether the first of the run ends here.
    ends: bool,
    /// Whether the last of the run goes on with `**`.
    rest: bool,
    one: Option<u32>,
    names: Range<u32>,
}

/// A place in a list. Every list is far below the limit: `Catalog::build` sees to it.
pub(super) fn place(at: usize) -> u32 {
    u32::try_from(at).expect("the limits of a catalog are below 2^32")
}

fn slots(run: &Range<u32>) -> Range<usize> {
    run.start as usize..run.end as usize
}

impl Index {
    /// Of a list that is sorted by tool and path and holds nothing twice.
    pub(super) fn of(keys: &[(&str, &Path)]) -> Self {
        let mut index = Self::default();
        let mut first = 0;
        while let Some((tool, _)) = keys.get(first) {
            let end = first + keys[first..].partition_point(|(other, _)| other == tool);
            let root = index.grow(keys, first..end, 0, "");
            index.tools.insert((*tool).to_owned(), root);
            first = end;
        }
        index
    }

    fn grow(&mut self, keys: &[(&str, &Path)], run: Range<usize>, depth: usize, name: &str) -> u32 {
        let segments = |at: usize| keys[at].1.segments();
        let ends = segments(run.start).len() == depth;
        let (mut rest, mut one, mut names) = (false, None, Vec::new());
        let mut at = run.start + usize::from(ends);
        while at < run.end {
            let segment = &segments(at)[depth];
            let same = at + keys[at..run.end].partition_point(|(_, path)| path.segments()[depth] == *segment);
            match segment {
                Segment::Rest => rest = true,
                Segment::One => one = Some(self.grow(keys, at..same, depth + 1, "")),
                Segment::Name(name) => names.push(self.grow(keys, at..same, depth + 1, name)),
            }
            at = same;
        }
        let first = place(self.children.len());
        self.children.extend(names);
        let names = first..place(self.children.len());
        let run = place(run.start)..place(run.end);
        self.nodes.push(Node { name: name.to_owned(), run, ends, rest, one, names });
        place(self.nodes.len() - 1)
    }

    /// Tells the runs of the list whose patterns mean something that this pattern means too, each place once.
    pub(super) fn meeting(&self, tool: &str, path: &Path, mut hit: impl FnMut(Range<usize>)) {
        if let Some(root) = self.tools.get(tool) {
            self.meet(*root, path.segments(), &mut hit);
        }
    }

    fn meet(&self, node: u32, path: &[Segment], hit: &mut impl FnMut(Range<usize>)) {
        let node = &self.nodes[node as usize];
        let run = slots(&node.run);
        match path {
            [] if node.ends => hit(run.start..run.start + 1),
            [] => {}
            // `**` means one segment or more: all but the pattern that ends here.
            [Segment::Rest, ..] => hit(run.start + usize::from(node.ends)..run.end),
            [first, path @ ..] => {
                if node.rest {
                    hit(run.end - 1..run.end);
                }
                let below = match first {
                    Segment::Name(name) => self.child(node, name),
                    _ => &self.children[slots(&node.names)],
                };
                for child in below.iter().chain(&node.one) {
                    self.meet(*child, path, hit);
                }
            }
        }
    }

    /// Whether one pattern of the list means everything that this one means.
    pub(super) fn covers(&self, tool: &str, path: &Path) -> bool {
        self.tools.get(tool).is_some_and(|root| self.cover(*root, path.segments()))
    }

    fn cover(&self, node: u32, path: &[Segment]) -> bool {
        let node = &self.nodes[node as usize];
        let [first, path @ ..] = path else { return node.ends };
        let below = match first {
            Segment::Name(name) => self.child(node, name),
            _ => &[],
        };
        let one = node.one.iter().filter(|_| *first != Segment::Rest);
        node.rest || below.iter().chain(one).any(|child| self.cover(*child, path))
    }

    fn child(&self, node: &Node, name: &str) -> &[u32] {
        let children = &self.children[slots(&node.names)];
        match children.binary_search_by(|child| self.nodes[*child as usize].name.as_str().cmp(name)) {
            Ok(at) => &children[at..=at],
            Err(_) => &[],
        }
    }
}
