//! The log read by somebody who trusts nobody: every grant in it is held against what DESIGN says may be granted, and
//! what everything reaches is counted again from the first event.

use std::collections::{BTreeMap, BTreeSet};

use belay::cedar::Set;
use belay::domain::approval::Approval;
use belay::domain::cut::Target;
use belay::domain::digest::Digest;
use belay::domain::event::{Activation, Body, Entry};
use belay::domain::grant::{Grant, Status, Task};
use belay::domain::id::{ApprovalId, GrantId, TaskId};
use belay::domain::policy::Mode;
use belay::domain::radius::Figures;
use belay::domain::reach::Whole;
use belay::domain::scope::{Args, Call, Scopes};

use super::atlas::{self, AGENTS, HUMANS, MAPS, NEVER, Sum};

/// What is over counts, and is known, for so long.
const GRACE: i64 = 5 * 60_000;
const LONGEST_CHAIN: usize = 16;

struct Row {
    grant: Grant,
    activated: Option<i64>,
    humans: u8,
    /// No longer than this, says an approver.
    said: Option<i64>,
    cut: bool,
}

/// What the log comes to.
pub struct Book {
    /// When the last thing was recorded, and when the last before what is being read: what was decided saw only that.
    at: i64,
    before: i64,
    policy: usize,
    map: usize,
    policies: Vec<Digest>,
    maps: Vec<Digest>,
    tasks: BTreeMap<TaskId, Task>,
    grants: BTreeMap<GrantId, Row>,
    approvals: BTreeMap<ApprovalId, Approval>,
    cut_tasks: BTreeSet<TaskId>,
    universe: Vec<Call>,
    pub counts: BTreeMap<&'static str, u32>,
}

pub fn set(which: usize) -> Set {
    Set::load(&[("set.cedar".to_owned(), atlas::policy(which))]).unwrap()
}

impl Book {
    pub fn new() -> Self {
        let universe = atlas::universe().into_iter().map(|(tool, action, path, n, o)| {
            let members: Vec<String> =
                n.map(|n| format!("\"n\":{n}")).into_iter().chain(o.then(|| "\"o\":\"z\"".to_owned())).collect();
            let args = Args::parse(&format!("{{{}}}", members.join(","))).unwrap();
            Call::parse(tool, action, path).unwrap().with_args(args)
        });
        Self {
            at: 0,
            before: 0,
            policy: 0,
            map: 0,
            policies: (0..atlas::POLICIES).map(|which| Digest::of(&set(which).to_bytes())).collect(),
            maps: MAPS.iter().map(|map| Digest::of(map.toml().as_bytes())).collect(),
            tasks: BTreeMap::new(),
            grants: BTreeMap::new(),
            approvals: BTreeMap::new(),
            cut_tasks: BTreeSet::new(),
            universe: universe.collect(),
            counts: BTreeMap::new(),
        }
    }

    /// The calls that a grant's scopes allow.
    pub fn calls(&self, scopes: &Scopes) -> BTreeSet<usize> {
        let allowed = self.universe.iter().enumerate().filter(|(_, call)| scopes.allow(call));
        allowed.map(|(at, _)| at).collect()
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Reads one entry, and holds it against all before.
    pub fn read(&mut self, entry: &Entry) {
        // These come behind another of the same turn.
        let goes_on = matches!(
            entry.body,
            Body::ApprovalRequested { .. }
                | Body::GrantActivated(_)
                | Body::EnvelopeOpened { .. }
                | Body::TokenIssued { .. }
        );
        if !goes_on {
            self.before = self.at;
        }
        self.at = self.at.max(entry.at.millis());
        match &entry.body {
            Body::PolicyApplied(applied) => {
                self.policy = self.policies.iter().position(|digest| *digest == applied.digest).unwrap_or(0);
                self.count("policies");
            }
            Body::CatalogApplied(applied) => {
                self.map = self.maps.iter().position(|digest| *digest == applied.digest).unwrap();
                self.count("catalogs");
            }
            Body::TaskStarted { task } => drop(self.tasks.insert(task.id, task.clone())),
            Body::TaskEnded { id, .. } => self.tasks.get_mut(id).unwrap().ended = Some(0),
            Body::GrantIssued { grant } => self.issued(grant),
            Body::GrantActivated(activation) => self.activated(activation),
            Body::GrantRenewed { id, expires_at, .. } => self.renewed(*id, expires_at.millis()),
            Body::GrantStatusChanged { id, status, .. } => {
                self.grants.get_mut(id).unwrap().grant.status = *status;
                self.count(if *status == Status::Completed { "completed" } else { "halted or resumed" });
            }
            Body::ApprovalRequested { approval } => self.requested(approval),
            Body::ApprovalGiven { id, vote, .. } => self.given(*id, vote),
            Body::ApprovalDenied { id, grant, .. } => {
                let denied = grant.and_then(|grant| self.grants.get_mut(&grant));
                denied.into_iter().for_each(|row| row.grant.status = Status::Denied);
                self.approvals.remove(id);
                self.count("denied");
            }
            Body::EnvelopeOpened { task, envelope, .. } => {
                let votes = u8::try_from(self.approvals[&envelope.approval].given.len()).unwrap();
                assert!(votes >= self.approvals[&envelope.approval].needed && envelope.approvals == votes);
                let task = self.tasks.get_mut(task).unwrap();
                assert!(envelope.expires_at <= task.expires_at);
                task.envelope = Some(envelope.clone());
                self.count("envelopes opened");
            }
            Body::TokenIssued { token } => {
                assert!(self.is_live(token.grant), "a token under what is not live: {token:?}");
                self.count("tokens");
            }
            Body::Revoked(revocation) => {
                match &revocation.target {
                    Target::Grant(id) => self.grants.get_mut(id).into_iter().for_each(|row| row.cut = true),
                    Target::Task(id) => drop(self.cut_tasks.insert(*id)),
                    other => panic!("{other}"),
                }
                self.count("revoked");
            }
            _ => {}
        }
    }

    fn chain(&self, id: GrantId) -> Vec<GrantId> {
        std::iter::successors(Some(id), |link| self.grants[link].grant.parent).collect()
    }

    /// Whether it may be used at the time of the last entry, apart from suspended agents.
    fn is_live(&self, id: GrantId) -> bool {
        self.chain(id).iter().all(|link| {
            let row = &self.grants[link];
            let task = &self.tasks[&row.grant.task];
            let open = task.ended.is_none() && !self.cut_tasks.contains(&task.id) && self.at < task.expires_at.millis();
            !row.cut && row.grant.status == Status::Active && self.at < row.grant.expires_at.millis() && open
        })
    }

    fn is_known(&self, id: GrantId, at: i64) -> bool {
        let children = self.grants.values().filter(|row| row.grant.parent == Some(id));
        self.grants[&id].grant.expires_at.millis() + GRACE > at
            || children.into_iter().any(|row| self.is_known(row.grant.id, at))
    }

    /// What a whole reached when the last thing but what is being read was recorded (`at`), with these as well.
    fn reach(&self, whole: &Whole, at: i64, more: Option<&Scopes>) -> (BTreeSet<usize>, bool) {
        let mut scopes: Vec<(String, String, String)> = Vec::new();
        for row in self.grants.values().filter(|row| row.activated.is_some()) {
            let grant = &row.grant;
            let belongs = match whole {
                Whole::Task(task) => grant.task == *task && self.tasks[task].expires_at.millis() + GRACE > at,
                Whole::Agent(name) => grant.agent == *name && self.is_known(grant.id, at),
                Whole::Owner(owner) => grant.owner == *owner && self.is_known(grant.id, at),
                Whole::Subject(subject) => grant.subject.as_ref() == Some(subject) && self.is_known(grant.id, at),
            };
            if belongs {
                scopes.extend(plain(&grant.scopes));
            }
        }
        scopes.extend(more.into_iter().flat_map(plain));
        MAPS[self.map].reach(&scopes)
    }

    /// What a whole comes to by now.
    pub fn figures(&self, whole: &Whole) -> Sum {
        MAPS[self.map].figures(&self.reach(whole, self.at, None))
    }

    /// Everything of which there are unions.
    pub fn wholes(&self) -> Vec<Whole> {
        let mut wholes: Vec<Whole> = self.tasks.keys().map(|task| Whole::Task(*task)).collect();
        wholes.extend(AGENTS.iter().map(|(name, ..)| Whole::Agent(name.parse().unwrap())));
        wholes.extend(["red", "blue"].map(|owner| Whole::Owner(owner.parse().unwrap())));
        wholes.extend(["alice", "bob"].map(|subject| Whole::Subject(subject.parse().unwrap())));
        wholes
    }

    /// Task, agent, owner and subject, with these scopes, as the decision of this entry saw them.
    fn unions(&self, grant: &Grant, scopes: &Scopes) -> [Sum; 4] {
        let sum = |whole: &Whole| MAPS[self.map].figures(&self.reach(whole, self.before, Some(scopes)));
        let subject = grant.subject.clone().map(|subject| sum(&Whole::Subject(subject)));
        [
            sum(&Whole::Task(grant.task)),
            sum(&Whole::Agent(grant.agent.clone())),
            sum(&Whole::Owner(grant.owner.clone())),
            subject.unwrap_or_default(),
        ]
    }

    fn needs(&self, scopes: &Scopes, unions: [u64; 4]) -> u8 {
        let actions: Vec<String> = scopes.iter().map(|scope| scope.action().to_string()).collect();
        atlas::needed(self.policy, &actions, unions)
    }

    /// Humans who stand behind what it lies within.
    fn carried(&self, grant: &Grant) -> u8 {
        let parent = grant.parent.filter(|_| grant.mode == Mode::Narrowed);
        parent.map_or(0, |parent| self.grants[&parent].humans)
    }

    fn issued(&mut self, grant: &Grant) {
        if let Some(parent) = grant.parent {
            assert!(self.is_live(parent), "below what is not live: {grant:?}");
            assert_eq!((self.grants[&parent].grant.task, self.grants[&parent].grant.root), (grant.task, grant.root));
        }
        let (needs, carried) =
            (self.needs(&grant.scopes, self.unions(grant, &grant.scopes).map(|sum| sum.0)), self.carried(grant));
        let row = |humans, activated| Row { grant: grant.clone(), activated, humans, said: None, cut: false };
        if grant.status == Status::Pending {
            assert!(
                needs > carried && needs != NEVER,
                "asked though {needs} are needed and {carried} approved: {grant:?}"
            );
            self.grants.insert(grant.id, row(carried, None));
            return self.count("pending");
        }
        let envelope = self.tasks[&grant.task].envelope.as_ref().filter(|open| {
            let within = self.calls(&grant.scopes).is_subset(&self.calls(&open.scopes));
            let shown = sum(open.radius);
            let alone = self.alone(&grant.scopes);
            let holds = alone.0 <= shown.0 && (0..4).all(|at| alone.1[at] <= shown.1[at]) && (shown.2 || !alone.2);
            grant.mode != Mode::Narrowed && self.at < open.expires_at.millis() && within && holds
        });
        let mut humans = carried;
        if needs > carried {
            let open = envelope.unwrap_or_else(|| panic!("{needs} are needed, {carried} approved: {grant:?}"));
            assert!(open.approvals >= needs && grant.expires_at <= open.expires_at, "{needs}: {grant:?} in {open:?}");
            humans = open.approvals;
            self.count("within an envelope");
        }
        assert_eq!(grant.approvals, humans, "{grant:?}");
        let row = row(humans, Some(self.at));
        self.grants.insert(grant.id, row);
        self.is_within(grant.id);
        self.count(match grant.mode {
            Mode::Root => "active roots",
            Mode::Narrowed => "active within",
            Mode::Own => "active own",
        });
    }

    fn requested(&mut self, approval: &Approval) {
        let unions = match approval.grant {
            Some(grant) => {
                let grant = &self.grants[&grant].grant;
                let unions = self.unions(grant, &grant.scopes);
                assert_eq!(approval.needed, self.needs(&grant.scopes, unions.map(|sum| sum.0)), "{approval:?}");
                Some((Whole::Task(grant.task), grant.scopes.clone(), unions))
            }
            None => None,
        };
        if let Some((task, scopes, unions)) = unions {
            let shown = &approval.unions;
            let shown = [shown.task, shown.agent, shown.owner, shown.subject].map(sum);
            assert_eq!(shown, unions, "{approval:?}");
            assert_eq!(sum(approval.adds), self.adds(&task, &scopes), "{approval:?}");
        }
        self.approvals.insert(approval.id, approval.clone());
    }

    /// What these scopes come to by themselves.
    fn alone(&self, scopes: &Scopes) -> Sum {
        MAPS[self.map].figures(&MAPS[self.map].reach(&plain(scopes).collect::<Vec<_>>()))
    }

    fn adds(&self, task: &Whole, scopes: &Scopes) -> Sum {
        let before = self.reach(task, self.before, None).0;
        let (alone, unbounded) = MAPS[self.map].reach(&plain(scopes).collect::<Vec<_>>());
        MAPS[self.map].figures(&(alone.difference(&before).copied().collect(), unbounded))
    }

    fn given(&mut self, id: ApprovalId, vote: &belay::domain::approval::Vote) {
        let approval = self.approvals.get_mut(&id).unwrap();
        let parties = approval.chain.iter().chain([&approval.holder, &approval.requester]);
        assert!(parties.into_iter().all(|party| *party != vote.by), "by a party: {approval:?} {vote:?}");
        assert!(approval.subject.as_ref().is_none_or(|subject| subject.as_str() != vote.by.as_str()), "{vote:?}");
        assert!(approval.given.iter().all(|other| other.by != vote.by), "twice: {vote:?}");
        assert!(HUMANS.contains(&vote.by.as_str()) && self.at < approval.expires_at.millis());
        approval.given.push(vote.clone());
        self.count("given");
    }

    fn activated(&mut self, activation: &Activation) {
        let approval = self.approvals[&activation.approval].clone();
        let votes = u8::try_from(approval.given.len()).unwrap();
        assert!(votes >= approval.needed, "{approval:?}");
        let asked = &self.grants[&activation.id].grant;
        assert_eq!(asked.status, Status::Pending);
        let mut grant = asked.clone();
        let allowed = self.calls(&activation.scopes);
        assert!(allowed.is_subset(&self.calls(&asked.scopes)), "wider than asked: {activation:?}");
        for scopes in approval.given.iter().filter_map(|vote| vote.scopes.as_ref()) {
            assert!(allowed.is_subset(&self.calls(scopes)), "wider than approved: {activation:?}");
        }
        let carried = self.carried(&grant);
        // What others of the same owner did meanwhile changes nothing.
        let [task, agent, _, subject] = self.unions(&grant, &activation.scopes).map(|sum| sum.0);
        let needs = self.needs(&activation.scopes, [task, agent, approval.unions.owner.score, subject]);
        let humans = votes.max(carried);
        assert!(humans >= needs && activation.approvals == humans, "{needs} are needed: {activation:?} {approval:?}");
        let (adds, most) = (self.adds(&Whole::Task(grant.task), &activation.scopes), sum(approval.adds));
        assert!(adds.0 <= most.0 && (0..4).all(|at| adds.1[at] <= most.1[at]), "{adds:?} and {most:?} was shown");
        if let Some(parent) = grant.parent {
            assert!(self.is_live(parent), "below what is not live: {activation:?}");
        }
        grant.status = Status::Active;
        (grant.scopes, grant.expires_at) = (activation.scopes.clone(), activation.expires_at);
        let said = approval.given.iter().filter_map(|vote| vote.ttl).min().map(|ttl| self.at + ttl.as_millis());
        let narrowed = activation.scopes != approval.scopes;
        let row = Row { grant, activated: Some(self.at), humans, said, cut: false };
        let was_cut = self.grants.insert(activation.id, row).unwrap().cut;
        assert!(!was_cut, "what was cut became active: {activation:?}");
        self.is_within(activation.id);
        self.count(if votes > 1 { "approved by two" } else { "approved by one" });
        if narrowed {
            self.count("approved in part");
        }
    }

    fn renewed(&mut self, id: GrantId, expires: i64) {
        let grant = self.grants[&id].grant.clone();
        assert!(self.is_live(id) && expires > grant.expires_at.millis(), "{grant:?}");
        // It adds nothing: what others came to hold meanwhile is not held against it.
        let needs = self.needs(&grant.scopes, [self.alone(&grant.scopes).0; 4]);
        assert!(self.grants[&id].humans >= needs, "{needs} would be needed: {grant:?}");
        self.grants.get_mut(&id).unwrap().grant.expires_at = belay::domain::time::Timestamp::from_millis(expires);
        self.is_within(id);
        self.count("renewed");
    }

    /// Within every ancestor up to the nearest link that is its holder's own, within its holder's ceiling, and over no
    /// later than anything above, its task, and what agent, limits and approvers allow.
    fn is_within(&self, id: GrantId) {
        let row = &self.grants[&id];
        let (grant, allowed) = (&row.grant, self.calls(&row.grant.scopes));
        let chain = self.chain(id);
        for link in &chain {
            let above = &self.grants[link].grant;
            assert!(allowed.is_subset(&self.calls(&above.scopes)), "{grant:?} is beyond {above:?}");
            if above.mode != Mode::Narrowed {
                break;
            }
        }
        let holder = AGENTS.iter().find(|(name, ..)| *name == grant.agent.as_str()).unwrap();
        assert!(holder.2.is_empty() || allowed.is_subset(&atlas::calls(holder.2)), "beyond its ceiling: {grant:?}");

        let expires = grant.expires_at.millis();
        assert!(grant.expires_at <= self.tasks[&grant.task].expires_at, "{grant:?}");
        let activated = row.activated.unwrap();
        assert!(holder.3 == 0 || expires <= activated + holder.3 * 1000, "longer than its holder may: {grant:?}");
        assert!(row.said.is_none_or(|most| expires <= most), "longer than approved: {grant:?}");
        for link in &chain {
            let above = &self.grants[link];
            assert!(grant.expires_at <= above.grant.expires_at, "{grant:?} outlives {:?}", above.grant);
            let limits = &above.grant.limits;
            let exposure = limits.max_exposure.map(|most| above.activated.unwrap() + most.as_millis());
            assert!(exposure.is_none_or(|most| expires <= most), "longer than {:?}: {grant:?}", above.grant);
            let most = limits.max_depth.filter(|_| *link != id).map_or(LONGEST_CHAIN, usize::from);
            assert!(chain.len() <= most, "too deep: {grant:?}");
        }
    }
}

fn plain(scopes: &Scopes) -> impl Iterator<Item = (String, String, String)> {
    scopes.iter().map(|one| (one.tool().to_owned(), one.action().to_string(), one.resource().to_string()))
}

/// As the ledger has it.
pub fn sum(figures: Figures) -> Sum {
    (figures.score, figures.by, figures.unbounded)
}
