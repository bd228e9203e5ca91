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
use super::radius::{Figures, More, Reach, Union, Unions};
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
    known: HashMap<Scopes, Known>,
    unions: HashMap<Whole, Total>,
}

/// What scopes reach that some grant has: most grants have those of another.
#[derive(Debug)]
struct Known {
    reach: Arc<Reach>,
    figures: Figures,
    grants: usize,
}

/// A union, and how often each reach is in it: only the first that comes and the last that goes have to be walked.
/// Of a task, whose union outlives its grants, only the union.
#[derive(Clone, Debug, Default)]
struct Total {
    union: Union,
    members: HashMap<usize, usize>,
}

/// What a batch has made active: each grant, and what was new by it to each whole.
#[derive(Clone, Debug, Default)]
pub struct Fresh {
    grants: HashMap<GrantId, Arc<Reach>>,
    known: HashMap<Scopes, Arc<Reach>>,
    wholes: HashMap<Whole, More>,
}

impl Fresh {
    /// Adds what was found over this.
    pub(super) fn merge(&mut self, later: Self) {
        self.grants.extend(later.grants);
        self.known.extend(later.known);
        for (whole, more) in later.wholes {
            self.wholes.entry(whole).or_default().merge(&more);
        }
    }

    /// The grants, each with what it reaches.
    pub(super) fn into_grants(self) -> HashMap<GrantId, Arc<Reach>> {
        self.grants
    }
}

impl Total {
    fn add(&mut self, catalog: &Catalog, reach: &Reach) {
        let count = self.members.entry(reach.address()).or_default();
        *count += 1;
        if *count == 1 {
            self.union.add(catalog, reach);
        }
    }

    fn remove(&mut self, catalog: &Catalog, reach: &Reach) {
        let Some(count) = self.members.get_mut(&reach.address()) else { return };
        *count -= 1;
        if *count == 0 {
            self.members.remove(&reach.address());
            self.union.remove(catalog, reach);
        }
    }
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
            let known = reaches.known.get(&grant.scopes).map(|known| Arc::clone(&known.reach));
            reaches.count(catalog, grant, known.unwrap_or_else(|| Arc::new(catalog.reach(&grant.scopes))));
        }
        let mut same: HashMap<&BTreeSet<Scope>, Total> = HashMap::new();
        for (task, scopes) in granted {
            let total = same.entry(scopes).or_insert_with(|| {
                let mut total = Total::default();
                let scopes: Vec<Scope> = scopes.iter().cloned().collect();
                total.union.cover(catalog, &catalog.reach_of(&scopes));
                total
            });
            reaches.unions.insert(Whole::Task(*task), total.clone());
        }
        reaches
    }

    /// Counts a grant that became active.
    pub fn put(&mut self, catalog: &Catalog, grant: &Grant, reach: Arc<Reach>) {
        if self.grants.contains_key(&grant.id) {
            return;
        }
        if grant.mode != Mode::Narrowed {
            self.unions.entry(Whole::Task(grant.task)).or_default().union.cover(catalog, &reach);
        }
        self.count(catalog, grant, reach);
    }

    /// The same, but for its task.
    fn count(&mut self, catalog: &Catalog, grant: &Grant, reach: Arc<Reach>) {
        let known = self.known.entry(grant.scopes.clone()).or_insert_with(|| {
            let figures = catalog.figures(&reach);
            Known { reach, figures, grants: 0 }
        });
        known.grants += 1;
        let (reach, figures, wholes) = (Arc::clone(&known.reach), known.figures, wholes(grant));
        for whole in &wholes {
            self.unions.entry(whole.clone()).or_default().add(catalog, &reach);
        }
        self.grants.insert(grant.id, Counted { reach, figures, wholes });
    }

    /// A grant of these scopes has left memory.
    pub fn drop(&mut self, catalog: &Catalog, id: GrantId, scopes: &Scopes) {
        let Some(Counted { reach, wholes, .. }) = self.grants.remove(&id) else { return };
        for whole in wholes {
            if let Some(total) = self.unions.get_mut(&whole) {
                total.remove(catalog, &reach);
                if total.union.is_empty() && total.members.is_empty() {
                    self.unions.remove(&whole);
                }
            }
        }
        if let Some(known) = self.known.get_mut(scopes) {
            known.grants -= 1;
            if known.grants == 0 {
                self.known.remove(scopes);
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

    /// The version of that catalog, by which everything is counted; 0 before one is applied.
    pub fn catalog_version(&self) -> u64 {
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

    /// What these scopes reach; of equal ones that count already, the same.
    pub fn reach(&self, scopes: &Scopes) -> Arc<Reach> {
        let fresh = self.layers().find_map(|layer| layer.reaches.known.get(scopes));
        let known = fresh.or_else(|| self.base.reaches.known.get(scopes).map(|known| &known.reach));
        known.cloned().unwrap_or_else(|| Arc::new(self.catalog().reach(scopes)))
    }

    /// What becomes of everything that is counted as this grant becomes active.
    pub(super) fn made_active(&self, grant: &Grant) -> Fresh {
        let reach = self.reach(&grant.scopes);
        let task = (grant.mode != Mode::Narrowed).then_some(Whole::Task(grant.task));
        let wholes = wholes(grant).into_iter().chain(task).map(|whole| {
            let more = self.more(&whole, &reach);
            (whole, more)
        });
        Fresh {
            wholes: wholes.collect(),
            known: HashMap::from([(grant.scopes.clone(), Arc::clone(&reach))]),
            grants: HashMap::from([(grant.id, reach)]),
        }
    }

    /// What an active grant reaches; none if it is not active or not in memory.
    pub fn reach_of(&self, id: GrantId) -> Option<Arc<Reach>> {
        let fresh = self.layers().find_map(|layer| layer.reaches.grants.get(&id));
        fresh.or_else(|| self.base.reaches.grants.get(&id).map(|counted| &counted.reach)).cloned()
    }

    /// How much that is, without adding it up again.
    pub fn radius_of(&self, id: GrantId) -> Option<Figures> {
        let fresh = self.layers().find_map(|layer| layer.reaches.grants.get(&id));
        let counted = || self.base.reaches.grants.get(&id).map(|counted| counted.figures);
        fresh.map(|reach| self.catalog().figures(reach)).or_else(counted)
    }

    /// What these would add to a whole, and what it would come to.
    pub fn with(&self, whole: &Whole, reach: &Reach) -> (Figures, Figures) {
        let adds = self.more(whole, reach).figures();
        (adds, self.figures(whole).plus(adds))
    }

    /// The names of what these would add to a whole, by tool and path.
    pub fn added(&self, whole: &Whole, reach: &Reach) -> Vec<String> {
        let catalog = self.catalog();
        self.more(whole, reach).resources().map(|at| catalog.name(at)).collect()
    }

    /// What a whole comes to now.
    pub fn figures(&self, whole: &Whole) -> Figures {
        let total = self.base.reaches.unions.get(whole);
        let before = total.map(|total| total.union.figures()).unwrap_or_default();
        self.fresh_in(whole).fold(before, |figures, more| figures.plus(more.figures()))
    }

    /// What of these is new to a whole. No more is looked at than this reach, however much was granted before it.
    fn more(&self, whole: &Whole, reach: &Reach) -> More {
        let fresh: Vec<&More> = self.fresh_in(whole).collect();
        match self.base.reaches.unions.get(whole) {
            Some(total) if total.members.contains_key(&reach.address()) => More::of(reach),
            Some(total) => total.union.more(self.catalog(), &fresh, reach),
            None => Union::default().more(self.catalog(), &fresh, reach),
        }
    }

    /// What this batch has added to a whole.
    fn fresh_in<'w>(&self, whole: &'w Whole) -> impl Iterator<Item = &'a More> + use<'a, 'w> {
        self.layers().filter_map(|layer| layer.reaches.wholes.get(whole))
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalog::{Draft, DraftResource, DraftTool, Sensitivity};
    use crate::domain::entropy::Entropy;
    use crate::domain::policy::Decided;
    use crate::domain::time::Timestamp;

    const MANY: usize = 1000;

    fn grant(entropy: &mut Entropy, scope: &str) -> Grant {
        let (id, end) = (GrantId::mint(Timestamp::default(), entropy), Timestamp::default());
        Grant {
            id,
            parent: None,
            root: id,
            task: TaskId::mint(end, entropy),
            agent: "agent".parse().unwrap(),
            owner: "owner".parse().unwrap(),
            subject: None,
            scopes: Scopes::parse(&[scope]).unwrap(),
            audience: "tool".parse().unwrap(),
            mode: Mode::Root,
            limits: Default::default(),
            approvals: 0,
            decided: Decided::default(),
            depth: 0,
            seq: 1,
            created_at: end,
            expires_at: end,
            renewable_until: end,
            status: Status::Active,
        }
    }

    #[test]
    fn grants_of_equal_scopes_share_one_reach_until_the_last_has_gone() {
        let tool = DraftTool {
            name: "a".to_owned(),
            owner: "team".to_owned(),
            destinations: Vec::new(),
            ticket: false,
            action: Vec::new(),
        };
        let resource = |at| DraftResource { path: format!("a:r/{at}"), sensitivity: Sensitivity::Internal };
        let resource = (0..MANY).map(resource).collect();
        let catalog = Catalog::build(Draft { tool: vec![tool], resource, ..Draft::default() }).unwrap();
        let mut entropy = Entropy::from_seed([7; 32]);
        let grants: Vec<Grant> =
            (0..MANY).map(|at| grant(&mut entropy, if at % 2 == 0 { "a:go@r/**" } else { "a:go@r/1" })).collect();
        let mut reaches = Reaches::of(&catalog, grants.iter(), &HashMap::new());
        assert_eq!(reaches.known.len(), 2, "a closure for each set of scopes, not for each grant");
        let wide = Arc::clone(&reaches.grants[&grants[0].id].reach);
        assert!(grants.iter().step_by(2).all(|grant| Arc::ptr_eq(&wide, &reaches.grants[&grant.id].reach)));
        let owner = Whole::Owner("owner".parse().unwrap());
        assert_eq!(reaches.unions[&owner].union.figures(), catalog.figures(&wide));
        for grant in grants.iter().step_by(2) {
            assert!(reaches.unions[&owner].union.contains(0));
            reaches.drop(&catalog, grant.id, &grant.scopes);
        }
        assert_eq!(reaches.unions[&owner].union.figures(), catalog.figures(&catalog.reach(&grants[1].scopes)));
        for grant in grants.iter().skip(1).step_by(2) {
            reaches.drop(&catalog, grant.id, &grant.scopes);
        }
        assert!(reaches.known.is_empty() && reaches.unions.is_empty());
    }
}
