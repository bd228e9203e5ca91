//! Slices: for each kind of question, the policies that can apply.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use cedar_policy::{PolicyId, PolicySet};

use super::fields::Fields;
use super::head::{Asked, Heads};

/// Policies that all slices may hold together, as copies, before all are dropped and made anew as they are asked for.
const MOST: usize = 1 << 16;

/// Some policies of a set, and what they read.
#[derive(Debug)]
pub struct Slice {
    pub policies: PolicySet,
    pub fields: Fields,
}

/// The slices that were asked for.
#[derive(Debug)]
pub struct Slices {
    made: RwLock<Made>,
    most: usize,
}

#[derive(Debug, Default)]
struct Made {
    slices: HashMap<Asked, Arc<Slice>>,
    /// Policies in all of them, and one for each.
    held: usize,
}

impl Default for Slices {
    fn default() -> Self {
        Self::holding(MOST)
    }
}

impl Slices {
    /// None yet, and never more than `most` policies in all of them.
    pub fn holding(most: usize) -> Self {
        Self { made: RwLock::default(), most }
    }

    /// The slice for a question, made if nobody asked one like it before.
    pub fn of(&self, heads: &Heads<'_>, asked: Asked) -> Arc<Slice> {
        if let Some(slice) = self.made.read().unwrap_or_else(PoisonError::into_inner).slices.get(&asked) {
            return Arc::clone(slice);
        }
        let slice = Arc::new(Slice::new(heads, &asked));
        let size = slice.policies.num_of_policies() + 1;
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        if made.held + size > self.most {
            *made = Made::default();
        }
        if made.slices.insert(asked, Arc::clone(&slice)).is_none() {
            made.held += size;
        }
        slice
    }

    /// How many there are.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.made.read().unwrap_or_else(PoisonError::into_inner).slices.len()
    }
}

impl Slice {
    fn new(heads: &Heads<'_>, asked: &Asked) -> Self {
        let mut slice = Self { policies: PolicySet::new(), fields: Fields::default() };
        for head in heads.heads.iter().filter(|head| head.may_match(asked)) {
            let policy = heads.whole.policy(&PolicyId::new(head.id())).expect("each head is of a policy of its set");
            slice.policies.add(policy.clone()).expect("ids are distinct in the whole set");
            slice.fields = slice.fields.with_head(head);
        }
        slice
    }
}
