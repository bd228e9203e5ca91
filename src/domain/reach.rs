//! What live grants reach, counted as they come and go: no decision ever adds it all up.
//!
//! Of a task, everything that was ever granted counts until it ends, so that slicing a job into innocent pieces, one
//! after the other, does not help. Of an agent, an owner and a subject, a grant counts until five minutes after the
//! time that it was given for, also if it was given back or cut before.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::applied::Applied;
use super::catalog::Catalog;
use super::grant::{Grant, Status};
use super::id::{GrantId, TaskId};
use super::name::{Line, Name};
use super::policy::{Mode, Policies};
use super::radius::{Figures, Reach, Union, Unions};
use super::scope::{Scope, Scopes};
use super::view::View;

/// A grant that counts.
#[derive(Debug)]
struct Counted {
    reach: Arc<Reach>,
    figures: Figures,
    wholes: Vec<Whole>,
}

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Whole {
    /// All that was granted under a task.
    Task(TaskId),
    /// What an agent holds.
    Agent(Name),
    /// What agents of an owner hold.
    Owner(Line),
    /// What runs on behalf of a subject.
    Subject(Line),
}

/// The reach of each active grant, and their unions.
#[derive(Debug, Default)]
pub struct Reaches {
    grants: HashMap<GrantId, Counted>,
    unions: HashMap<Whole, Union>,
}

impl Reaches {
    /// Everything, counted anew.
    pub fn of<'a>(
        catalog: &Catalog,
        grants: impl Iterator<Item = &'a Grant>,
        granted: &HashMap<TaskId, BTreeSet<Scope>>,
    ) -> Self {
        let mut reaches = Self::default();
        for grant in grants.filter(|grant| counts(grant)) {
            reaches.put(catalog, grant, Arc::new(catalog.reach(&grant.scopes)));
        }
        for (task, scopes) in granted {
            let scopes: Vec<Scope> = scopes.iter().cloned().collect();
            reaches.unions.entry(Whole::Task(*task)).or_default().cover(catalog, &catalog.reach_of(&scopes));
        }
        reaches
    }

    /// Counts a grant that became active.
    pub fn put(&mut self, catalog: &Catalog, grant: &Grant, reach: Arc<Reach>) {
        if self.grants.contains_key(&grant.id) {
            return;
        }
        if grant.mode != Mode::Narrowed {
            self.unions.entry(Whole::Task(grant.task)).or_default().cover(catalog, &reach);
        }
        let wholes = wholes(grant);
        for whole in &wholes {
            self.unions.entry(whole.clone()).or_default().add(catalog, &reach);
        }
        let figures = catalog.figures(&reach);
        self.grants.insert(grant.id, Counted { reach, figures, wholes });
    }

    /// A grant has left memory.
    pub fn drop(&mut self, catalog: &Catalog, id: GrantId) {
        let Some(Counted { reach, wholes, .. }) = self.grants.remove(&id) else { return };
        for whole in wholes {
            if let Some(union) = self.unions.get_mut(&whole) {
                union.remove(catalog, &reach);
                if union.is_empty() {
                    self.unions.remove(&whole);
                }
            }
        }
    }

    /// A task has left memory.
    pub fn end_task(&mut self, task: TaskId) {
        self.unions.remove(&Whole::Task(task));
    }
}

/// Of a task, a narrowed grant adds nothing: what it lies within was counted.
fn wholes(grant: &Grant) -> Vec<Whole> {
    let mut wholes = vec![Whole::Agent(grant.agent.clone()), Whole::Owner(grant.owner.clone())];
    wholes.extend(grant.subject.clone().map(Whole::Subject));
    wholes
}

fn counts(grant: &Grant) -> bool {
    !matches!(grant.status, Status::Pending | Status::Denied)
}

impl<'a> View<'a> {
    /// The catalog; before one is applied, an empty one. One that this batch has applied counts from the next on: what
    /// everything else reaches is known by the one before.
    pub fn catalog(&self) -> &'a Catalog {
        self.base.catalog()
    }

    /// The version of the catalog that was applied last; 0 if none was.
    pub fn catalog_version(&self) -> u64 {
        self.applied_catalog().map_or(0, |applied| applied.version)
    }

    /// The version of the catalog that counts.
    pub fn counted_catalog(&self) -> u64 {
        self.base.tables.catalog.as_ref().map_or(0, |applied| applied.version)
    }

    /// The catalog that was applied last, as its event names it.
    pub fn applied_catalog(&self) -> Option<&'a Applied<Catalog>> {
        self.layers().find_map(|layer| layer.catalog.as_ref()).or(self.base.tables.catalog.as_ref())
    }

    /// The policies that were applied last.
    pub fn applied_policies(&self) -> Option<&'a Applied<dyn Policies>> {
        self.layers().find_map(|layer| layer.policies.as_ref()).or(self.base.tables.policies.as_ref())
    }

    /// The policies, and their version.
    pub fn policies(&self) -> (Option<&'a Arc<dyn Policies>>, u64) {
        self.applied_policies().map_or((None, 0), |applied| (applied.body.as_ref(), applied.version))
    }

    /// Whether exactly this was granted under a task before.
    pub fn was_granted(&self, task: TaskId, scope: &Scope) -> bool {
        let within =
            |granted: &HashMap<TaskId, BTreeSet<Scope>>| granted.get(&task).is_some_and(|all| all.contains(scope));
        self.layers().any(|layer| within(&layer.granted)) || within(&self.base.tables.granted)
    }

    /// All that was ever granted under a task, sorted.
    pub fn granted(&self, task: TaskId) -> Vec<Scope> {
        let fresh = self.layers().filter_map(|layer| layer.granted.get(&task));
        let all: BTreeSet<&Scope> = fresh.chain(self.base.tables.granted.get(&task)).flatten().collect();
        all.into_iter().cloned().collect()
    }

    /// How many different scopes were granted under a task.
    pub fn granted_count(&self, task: TaskId) -> usize {
        let fresh = self.layers().filter_map(|layer| layer.granted.get(&task)).map(BTreeSet::len).sum::<usize>();
        fresh + self.base.tables.granted.get(&task).map_or(0, BTreeSet::len)
    }

    /// What these scopes reach.
    pub fn reach(&self, scopes: &Scopes) -> Arc<Reach> {
        Arc::new(self.catalog().reach(scopes))
    }

    /// What a grant reaches; the same as its parent's, if its scopes are.
    pub(super) fn reach_of_scopes(&self, grant: &Grant) -> Arc<Reach> {
        let parent = grant.parent.and_then(|parent| self.grant(parent)).filter(|parent| parent.scopes == grant.scopes);
        parent.and_then(|parent| self.reach_of(parent.id)).unwrap_or_else(|| self.reach(&grant.scopes))
    }

    /// What an active grant reaches; none if it is not active or not in memory.
    pub fn reach_of(&self, id: GrantId) -> Option<Arc<Reach>> {
        let fresh = self.layers().find_map(|layer| layer.reaches.get(&id));
        fresh.or_else(|| self.base.reaches.grants.get(&id).map(|counted| &counted.reach)).cloned()
    }

    /// How much that is, without adding it up again.
    pub fn radius_of(&self, id: GrantId) -> Option<Figures> {
        let fresh = self.layers().find_map(|layer| layer.reaches.get(&id));
        let counted = || self.base.reaches.grants.get(&id).map(|counted| counted.figures);
        fresh.map(|reach| self.catalog().figures(reach)).or_else(counted)
    }

    /// What these would add to a whole, and what it would come to.
    pub fn with(&self, whole: &Whole, reach: &Reach) -> (Figures, Figures) {
        let catalog = self.catalog();
        let fresh = self.fresh_reaches(whole);
        let fresh: Vec<&Reach> = fresh.iter().map(|reach| &***reach).collect();
        let empty = Union::default();
        let union = self.base.reaches.unions.get(whole).unwrap_or(&empty);
        let adds = union.adds(catalog, &fresh, reach);
        let mut all = fresh;
        all.push(reach);
        (adds, union.with(catalog, &all))
    }

    /// The names of what these would add to a whole, by tool and path.
    pub fn added(&self, whole: &Whole, reach: &Reach) -> Vec<String> {
        let catalog = self.catalog();
        let fresh = self.fresh_reaches(whole);
        let fresh: Vec<&Reach> = fresh.iter().map(|reach| &***reach).collect();
        let empty = Union::default();
        let union = self.base.reaches.unions.get(whole).unwrap_or(&empty);
        union.added(&fresh, reach).map(|at| catalog.name(at)).collect()
    }

    /// What a whole comes to now.
    pub fn figures(&self, whole: &Whole) -> Figures {
        let union = self.base.reaches.unions.get(whole);
        match self.layers().all(|layer| layer.reaches.is_empty()) {
            true => union.map(Union::figures).unwrap_or_default(),
            false => self.with(whole, &Reach::default()).1,
        }
    }

    /// What a grant of these parties comes to with everything else, this reach included; and what it adds to its task.
    pub fn unions(
        &self,
        task: TaskId,
        agent: &Name,
        owner: &Line,
        subject: Option<&Line>,
        reach: &Reach,
    ) -> (Figures, Unions) {
        let (adds, task) = self.with(&Whole::Task(task), reach);
        let unions = Unions {
            task,
            agent: self.with(&Whole::Agent(agent.clone()), reach).1,
            owner: self.with(&Whole::Owner(owner.clone()), reach).1,
            subject: subject
                .map_or_else(Figures::default, |subject| self.with(&Whole::Subject(subject.clone()), reach).1),
        };
        (adds, unions)
    }

    /// Of what this batch has made active, what belongs to a whole.
    fn fresh_reaches(&self, whole: &Whole) -> Vec<&'a Arc<Reach>> {
        let belongs = |id: &GrantId| {
            let Some(grant) = self.grant(*id) else { return false };
            match whole {
                Whole::Task(task) => grant.task == *task && grant.mode != Mode::Narrowed,
                Whole::Agent(name) => grant.agent == *name,
                Whole::Owner(owner) => grant.owner == *owner,
                Whole::Subject(subject) => grant.subject.as_ref() == Some(subject),
            }
        };
        self.layers().flat_map(|layer| &layer.reaches).filter(|(id, _)| belongs(id)).map(|(_, reach)| reach).collect()
    }
}
