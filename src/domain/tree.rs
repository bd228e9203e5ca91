//! The grants that are live, as an arena of linked siblings with small indices.
//!
//! Parents never change, so a slot is linked once. A slot is freed only when it has no children.
//! A slot number is never handed out: callers know grants by id, so a reused slot cannot be mistaken.

use std::collections::HashMap;

use super::grant::Grant;
use super::id::GrantId;

const NONE: u32 = u32::MAX;

/// All grants in memory.
#[derive(Debug, Default)]
pub struct Tree {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    index: HashMap<GrantId, u32>,
}

#[derive(Debug)]
struct Slot {
    grant: Grant,
    parent: u32,
    first_child: u32,
    next: u32,
    previous: u32,
}

impl Tree {
    /// The grant with this id.
    pub fn get(&self, id: GrantId) -> Option<&Grant> {
        self.index.get(&id).map(|at| &self.slot(*at).grant)
    }

    /// The direct delegations of a grant, newest first.
    pub fn children(&self, id: GrantId) -> impl Iterator<Item = &Grant> {
        let mut at = self.index.get(&id).map_or(NONE, |at| self.slot(*at).first_child);
        std::iter::from_fn(move || {
            let slot = (at != NONE).then(|| self.slot(at))?;
            at = slot.next;
            Some(&slot.grant)
        })
    }

    /// All grants, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.slots.iter().flatten().map(|slot| &slot.grant)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Puts a grant in, or replaces the one with its id. A new one is linked below its parent if that is here.
    pub fn put(&mut self, grant: Grant) {
        if let Some(at) = self.index.get(&grant.id).copied() {
            self.slot_mut(at).grant = grant;
            return;
        }
        let id = grant.id;
        let parent = grant.parent.and_then(|parent| self.index.get(&parent).copied()).unwrap_or(NONE);
        let next = if parent == NONE { NONE } else { self.slot(parent).first_child };
        let slot = Slot { grant, parent, first_child: NONE, next, previous: NONE };
        let at = self.place(slot);
        if next != NONE {
            self.slot_mut(next).previous = at;
        }
        if parent != NONE {
            self.slot_mut(parent).first_child = at;
        }
        self.index.insert(id, at);
    }

    /// Takes a childless grant out. One with children stays: false.
    pub fn remove(&mut self, id: GrantId) -> bool {
        let Some(at) = self.index.get(&id).copied() else { return true };
        if self.slot(at).first_child != NONE {
            return false;
        }
        let (parent, next, previous) = (self.slot(at).parent, self.slot(at).next, self.slot(at).previous);
        if next != NONE {
            self.slot_mut(next).previous = previous;
        }
        if previous != NONE {
            self.slot_mut(previous).next = next;
        } else if parent != NONE {
            self.slot_mut(parent).first_child = next;
        }
        self.slots[at as usize] = None;
        self.free.push(at);
        self.index.remove(&id);
        true
    }

    fn place(&mut self, slot: Slot) -> u32 {
        if let Some(at) = self.free.pop() {
            self.slots[at as usize] = Some(slot);
            return at;
        }
        self.slots.push(Some(slot));
        u32::try_from(self.slots.len() - 1).expect("four thousand million grants do not fit in memory")
    }

    fn slot(&self, at: u32) -> &Slot {
        self.slots[at as usize].as_ref().expect("a linked slot is taken")
    }

    fn slot_mut(&mut self, at: u32) -> &mut Slot {
        self.slots[at as usize].as_mut().expect("a linked slot is taken")
    }
}
