//! What was done under a grant: what its limits have to know, and what of its authority was ever used.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::grant::Grant;
use super::id::GrantId;
use super::invocation::Named;
use super::limits::Charge;
use super::scope::{Call, Decimal};
use super::state::{Delta, Tables};
use super::view::View;

/// Different calls of one grant that are told apart.
pub const MOST_EXERCISED: usize = 64;

/// What was spent of the limits of one grant, by its holder and everybody below.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    calls: u64,
    sums: BTreeMap<String, Decimal>,
    /// SHA-256 of each resource, and how many calls named it: a delta holds those that changed.
    resources: BTreeMap<Digest, u64>,
}

/// The calls that were made under a grant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exercised {
    /// `tool:action@resource`, each once, the first [`MOST_EXERCISED`].
    pub calls: BTreeSet<String>,
    /// Whether there were others.
    pub more: bool,
}

impl Spent {
    /// What a later delta says: totals stand for themselves.
    pub(super) fn take(&mut self, later: Self) {
        self.calls = later.calls;
        self.sums.extend(later.sums);
        self.resources.extend(later.resources);
    }

    /// The same, in a state: what no call names any more is not kept.
    pub(super) fn settle(&mut self, later: Self) {
        let gone: Vec<Digest> = later.resources.iter().filter(|(_, calls)| **calls == 0).map(|(one, _)| *one).collect();
        self.take(later);
        for one in gone {
            self.resources.remove(&one);
        }
    }
}

impl Exercised {
    pub(super) fn take(&mut self, later: Self) {
        self.calls.extend(later.calls);
        self.more |= later.more;
    }
}

impl<'a> View<'a> {
    /// Whether calls under a grant have to be counted, by its own limits or those of an ancestor.
    pub fn counts_calls(&self, grant: GrantId) -> bool {
        self.counting(grant).next().is_some()
    }

    /// The grants of a chain whose limits count calls, from the grant up.
    pub(super) fn counting(&self, grant: GrantId) -> impl Iterator<Item = &'a Grant> + use<'a> {
        self.ancestry(grant).filter(|link| link.limits.count_calls())
    }

    /// Calls that were charged to a grant.
    pub fn calls_spent(&self, grant: GrantId) -> u64 {
        self.spent(grant).next().map_or(0, |spent| spent.calls)
    }

    /// What an argument came to in the calls that were charged to a grant.
    pub fn sum_spent(&self, grant: GrantId, argument: &str) -> Decimal {
        self.spent(grant).find_map(|spent| spent.sums.get(argument)).cloned().unwrap_or_else(Decimal::zero)
    }

    /// Different resources in the calls that were charged to a grant.
    pub fn resources_spent(&self, grant: GrantId) -> usize {
        let base = self.base.tables.spent.get(&grant).map(|spent| &spent.resources);
        let changed: BTreeSet<&Digest> = self
            .layers()
            .filter_map(|layer| layer.spent.get(&grant))
            .flat_map(|spent| spent.resources.keys())
            .collect();
        let before = changed.iter().filter(|one| base.is_some_and(|base| base.contains_key(**one))).count();
        let now = changed.iter().filter(|one| self.named(grant, one) > 0).count();
        base.map_or(0, BTreeMap::len) - before + now
    }

    /// Whether a call's resource was in an earlier call that was charged to a grant.
    pub(super) fn has_spent_on(&self, grant: GrantId, call: &Call) -> bool {
        self.named(grant, &resource(&call.tool, &call.resource)) > 0
    }

    /// How many calls that were charged to a grant named a resource.
    fn named(&self, grant: GrantId, resource: &Digest) -> u64 {
        self.spent(grant).find_map(|spent| spent.resources.get(resource)).copied().unwrap_or(0)
    }

    fn spent(&self, grant: GrantId) -> impl Iterator<Item = &'a Spent> + use<'a> {
        self.tables().filter_map(move |tables| tables.spent.get(&grant))
    }

    /// The calls that were allowed under a grant, by whom proved to hold its credential.
    pub fn exercised(&self, grant: GrantId) -> Exercised {
        let mut all = Exercised::default();
        let layers = self.tables().filter_map(|tables| tables.exercised.get(&grant));
        layers.for_each(|layer| all.take(layer.clone()));
        all
    }

    /// What a call that was allowed under a grant adds to what was exercised.
    pub(super) fn exercise(&self, grant: GrantId, call: &Call, delta: &mut Delta) {
        let layers = || self.tables().filter_map(|tables| tables.exercised.get(&grant));
        let call = call.to_string();
        if layers().any(|known| known.calls.contains(&call)) {
            return;
        }
        let known: usize = layers().map(|known| known.calls.len()).sum();
        if known < MOST_EXERCISED {
            delta.exercised.entry(grant).or_default().calls.insert(call);
        } else if !layers().any(|known| known.more) {
            delta.exercised.entry(grant).or_default().more = true;
        }
    }

    /// Charges a call to its chain; the argument whose amount is missing or does not add up, if one is.
    pub(super) fn spend(&self, grant: GrantId, call: &Call, charge: &Charge, delta: &mut Delta) -> Result<(), String> {
        for link in self.counting(grant) {
            let mut spent = Spent { calls: self.calls_spent(link.id) + 1, ..Spent::default() };
            for (name, _) in &link.limits.max_sum {
                let amount = charge.sums.iter().find(|(charged, _)| charged == name);
                let sum = amount.and_then(|(_, amount)| self.sum_spent(link.id, name).plus(amount));
                spent.sums.insert(name.clone(), sum.ok_or_else(|| name.clone())?);
            }
            if link.limits.max_distinct_resources.is_some() {
                let resource = resource(&call.tool, &call.resource);
                spent.resources.insert(resource, self.named(link.id, &resource) + 1);
            }
            delta.spent.insert(link.id, spent);
        }
        Ok(())
    }

    /// Gives back what a call took that was never made; the argument whose amount does not add up, if one is.
    pub(super) fn give_back(
        &self,
        grant: GrantId,
        call: &Named,
        charge: &Charge,
        delta: &mut Delta,
    ) -> Result<(), String> {
        for link in self.counting(grant) {
            let calls = self.calls_spent(link.id).saturating_sub(1);
            let mut spent = Spent { calls, ..Spent::default() };
            for (name, _) in &link.limits.max_sum {
                let amount = charge.sums.iter().find(|(charged, _)| charged == name);
                let sum = amount.and_then(|(_, amount)| self.sum_spent(link.id, name).minus(amount));
                spent.sums.insert(name.clone(), sum.ok_or_else(|| name.clone())?);
            }
            if link.limits.max_distinct_resources.is_some() {
                let resource = resource(&call.tool, &call.resource);
                spent.resources.insert(resource, self.named(link.id, &resource).saturating_sub(1));
            }
            delta.spent.insert(link.id, spent);
        }
        Ok(())
    }

    fn tables(&self) -> impl Iterator<Item = &'a Tables> + use<'a> {
        self.layers().chain(std::iter::once(&self.base.tables))
    }
}

/// A resource is one of its tool's: a path alone may be another tool's too.
fn resource(tool: &str, path: &str) -> Digest {
    Digest::of(format!("{tool}:{path}").as_bytes())
}
