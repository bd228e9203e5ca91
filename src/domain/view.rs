//! The state as one request sees it: what is folded in, and over it what its batch has decided so far.

use std::collections::BTreeSet;

use super::agent::{Agent, AgentStatus, Join, Operator};
use super::approval::Approval;
use super::certificate::Certificate;
use super::cut::{Cut, Recorded, Target};
use super::digest::Digest;
use super::event::Origin;
use super::freeze::Freeze;
use super::grant::{Grant, GrantState, LiveToken, Status, Task};
use super::id::{
    ApprovalId, CertificateId, FreezeId, GrantId, InvocationId, JoinId, LeaseId, RevocationId, TaskId, TokenId,
};
use super::invocation::OpenCall;
use super::key::{self, Key, Phase, Purpose};
use super::lease::{Backend, Lease};
use super::name::Name;
use super::pep::Pep;
use super::state::{Delta, Remembered, RequestKey, State};
use super::status::StatusPlace;
use super::time::Timestamp;
use super::upstream::Upstream;
use super::{MAX_CHAIN, agent::Kind};

/// State under two layers: the batch's accepted requests, then this request's own events.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub(super) base: &'a State,
    batch: Option<&'a Delta>,
    own: Option<&'a Delta>,
    head: u64,
}

/// How a grant stands, and the stable word for why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its state.
    pub state: GrantState,
    /// Why it is not active: `grant_revoked`, `task_ended`, …; `active` if it is.
    pub reason: &'static str,
    /// The link of the chain that decided.
    pub link: GrantId,
}

macro_rules! lookup {
    ($($(#[$doc:meta])* $name:ident: $table:ident[$key:ty] -> $record:ty;)*) => {$(
        $(#[$doc])*
        pub fn $name(&self, key: &$key) -> Option<&'a $record> {
            self.layers().find_map(|layer| layer.$table.get(key)).or_else(|| self.base.tables.$table.get(key))
        }
    )*};
}

impl<'a> View<'a> {
    /// The state alone.
    pub fn of(base: &'a State) -> Self {
        Self { base, batch: None, own: None, head: base.head }
    }

    /// The state under a batch's delta and a request's own; `head` counts the events of both.
    pub fn over(base: &'a State, batch: &'a Delta, own: &'a Delta, head: u64) -> Self {
        Self { base, batch: Some(batch), own: Some(own), head }
    }

    pub(super) fn layers(&self) -> impl Iterator<Item = &'a Delta> + use<'a> {
        self.own.into_iter().chain(self.batch)
    }

    lookup! {
        /// A signing key.
        key: keys[String] -> Key;
        /// An agent.
        agent: agents[Name] -> Agent;
        /// An operator, removed or not.
        operator: operators[Name] -> Operator;
        /// A join token, used or not.
        join: joins[JoinId] -> Join;
        /// A certificate, valid or not.
        certificate: certificates[CertificateId] -> Certificate;
        /// A task.
        task: tasks[TaskId] -> Task;
        /// A token.
        token: tokens[TokenId] -> LiveToken;
        /// What an idempotency key has made.
        remembered: remembered[RequestKey] -> Remembered;
        /// An approval.
        approval: approvals[ApprovalId] -> Approval;
        /// A cut.
        cut: cuts[Target] -> Cut;
        /// A revocation.
        revocation: revocations[RevocationId] -> Recorded;
        /// An enforcement point, retired or not.
        pep: peps[Name] -> Pep;
        /// A freeze, lifted or not.
        freeze: freezes[FreezeId] -> Freeze;
        /// A system to lease secrets in, removed or not.
        backend: backends[Name] -> Backend;
        /// A secret of a tool's API, removed or not.
        upstream: upstreams[Name] -> Upstream;
        /// A leased secret, over or not.
        lease: leases[LeaseId] -> Lease;
        /// A call of which more is to be known.
        call: calls[InvocationId] -> OpenCall;
    }

    /// The log's beginning; none before the first event.
    pub fn origin(&self) -> Option<&'a Origin> {
        self.layers().find_map(|layer| layer.origin.as_ref()).or(self.base.tables.origin.as_ref())
    }

    /// The sequence of the last event that is seen.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// A grant, in whatever state.
    pub fn grant(&self, id: GrantId) -> Option<&'a Grant> {
        self.layers().find_map(|layer| layer.grants.get(&id)).or_else(|| self.base.tree.get(id))
    }

    /// The chain of a grant, from itself to its root, as far as it is in memory.
    pub fn ancestry(&self, id: GrantId) -> impl Iterator<Item = &'a Grant> + use<'a> {
        let view = *self;
        let mut next = view.grant(id);
        std::iter::from_fn(move || {
            let grant = next?;
            next = grant.parent.and_then(|parent| view.grant(parent));
            Some(grant)
        })
        .take(MAX_CHAIN)
    }

    /// How a grant stands at `now`: the worst of its chain. None if it is not in memory.
    pub fn standing(&self, id: GrantId, now: Timestamp) -> Option<Standing> {
        let mut worst = Standing { state: GrantState::Active, reason: "active", link: id };
        let mut reached_root = false;
        for grant in self.ancestry(id) {
            let (state, reason) = self.link(grant, now);
            if severity(state) > severity(worst.state) {
                worst = Standing { state, reason, link: grant.id };
            }
            reached_root = grant.parent.is_none();
        }
        self.grant(id)?;
        if !reached_root && severity(worst.state) < severity(GrantState::Expired) {
            worst = Standing { state: GrantState::Expired, reason: "grant_expired", link: id };
        }
        Some(worst)
    }

    fn link(&self, grant: &Grant, now: Timestamp) -> (GrantState, &'static str) {
        if self.cut(&Target::Grant(grant.id)).is_some() {
            return (GrantState::Revoked, "grant_revoked");
        }
        if self.cut(&Target::Task(grant.task)).is_some() {
            return (GrantState::Revoked, "task_revoked");
        }
        if let Some(reason) = self.named_cut(grant) {
            return (GrantState::Revoked, reason);
        }
        if self.task(&grant.task).is_some_and(|task| self.is_subject_cut(task)) {
            return (GrantState::Revoked, "subject_revoked");
        }
        let agent = self.agent(&grant.agent).map(|agent| agent.status);
        if !matches!(agent, Some(AgentStatus::Active | AgentStatus::Suspended)) {
            return (GrantState::Revoked, "agent_retired");
        }
        if grant.status == Status::Denied {
            return (GrantState::Denied, "approval_denied");
        }
        // What was given back is not made to look expired by its task's end.
        if grant.status == Status::Completed {
            return (GrantState::Completed, "grant_completed");
        }
        match self.task(&grant.task) {
            Some(task) if task.ended.is_some() => return (GrantState::Completed, "task_ended"),
            Some(task) if now < task.expires_at => {}
            _ => return (GrantState::Expired, "task_expired"),
        }
        if now >= grant.expires_at {
            return (GrantState::Expired, "grant_expired");
        }
        if grant.status == Status::Pending {
            return (GrantState::Pending, "awaits_approval");
        }
        if grant.status == Status::Suspended {
            return (GrantState::Suspended, "grant_suspended");
        }
        if self.task(&grant.task).is_some_and(|task| task.suspended) {
            return (GrantState::Suspended, "task_suspended");
        }
        if agent == Some(AgentStatus::Suspended) {
            return (GrantState::Suspended, "agent_suspended");
        }
        (GrantState::Active, "active")
    }

    /// Names are seldom cut: the keys are built only when some cut is remembered at all.
    fn named_cut(&self, grant: &Grant) -> Option<&'static str> {
        if self.base.tables.cuts.is_empty() && self.layers().all(|layer| layer.cuts.is_empty()) {
            return None;
        }
        let hits = |target: Target| self.cut(&target).is_some_and(|cut| grant.seq <= cut.seq);
        if hits(Target::Agent(grant.agent.clone())) {
            return Some("agent_revoked");
        }
        if hits(Target::Owner(grant.owner.clone())) {
            return Some("owner_revoked");
        }
        grant.subject.clone().is_some_and(|subject| hits(Target::Subject(subject))).then_some("subject_revoked")
    }

    /// Whether a name that a task bears was cut at this moment or later. What humans were asked for by then, for the
    /// task itself, is over: it has no sequence, as a grant has.
    pub fn is_cut_since(&self, task: &Task, asked_at: Timestamp) -> bool {
        let owner = self.agent(&task.agent).map(|agent| Target::Owner(agent.owner.clone()));
        let subject = task.subject.clone().map(Target::Subject);
        let targets = [Some(Target::Agent(task.agent.clone())), owner, subject];
        targets.into_iter().flatten().filter_map(|target| self.cut(&target)).any(|cut| asked_at <= cut.id.time())
    }

    /// Whether all that runs on behalf of a task's subject was cut since the task began. It began on that word, which
    /// somebody has to give anew.
    pub fn is_subject_cut(&self, task: &Task) -> bool {
        let subject = task.subject.clone().map(Target::Subject);
        subject.and_then(|subject| self.cut(&subject)).is_some_and(|cut| task.created_at <= cut.id.time())
    }

    /// The direct delegations of a grant.
    pub fn children(&self, id: GrantId) -> Vec<&'a Grant> {
        let base = self.base.tree.children(id).map(|grant| self.grant(grant.id).unwrap_or(grant));
        let fresh = self.fresh().filter(|grant| grant.parent == Some(id));
        base.chain(fresh).collect()
    }

    /// These grants and all below them, each once, pruned where `keep` says no.
    pub fn descend(&self, from: Vec<GrantId>, keep: impl Fn(&Grant) -> bool) -> Vec<&'a Grant> {
        let mut queue = from;
        let mut seen = std::collections::HashSet::new();
        let mut found = Vec::new();
        while let Some(id) = queue.pop() {
            let Some(grant) = self.grant(id).filter(|grant| keep(grant)) else { continue };
            if seen.insert(id) {
                found.push(grant);
                queue.extend(self.children(id).iter().map(|child| child.id));
            }
        }
        found
    }

    /// The root grants of a task.
    pub fn roots(&self, task: TaskId) -> Vec<GrantId> {
        let base = self.base.roots.get(&task).into_iter().flatten().copied();
        base.chain(self.fresh().filter(|grant| grant.task == task && grant.parent.is_none()).map(|grant| grant.id))
            .collect()
    }

    /// The grants that an agent holds.
    pub fn held(&self, agent: &Name) -> Vec<GrantId> {
        let base = self.base.held.get(agent).into_iter().flatten().copied();
        base.chain(self.fresh().filter(|grant| grant.agent == *agent).map(|grant| grant.id)).collect()
    }

    /// The tokens issued under a grant.
    pub fn tokens_of(&self, grant: GrantId) -> Vec<&'a LiveToken> {
        let base = self.base.tokens_of.get(&grant).into_iter().flatten().filter_map(|id| self.token(id));
        let fresh = self.layers().flat_map(|layer| layer.tokens.values()).filter(move |token| token.grant == grant);
        base.chain(fresh).collect()
    }

    /// The certificates issued under a grant.
    pub fn certificates_of(&self, grant: GrantId) -> Vec<&'a Certificate> {
        self.certificates_by(self.base.certificates_of.get(&grant), |one| one.grant == Some(grant))
    }

    /// The certificates for a public key, by its hash, whoever's they are.
    pub fn certificates_for(&self, key: &Digest) -> Vec<&'a Certificate> {
        self.certificates_by(self.base.keyed.get(key), |one| one.key_hash == *key)
    }

    fn certificates_by(
        &self,
        base: Option<&'a BTreeSet<CertificateId>>,
        wanted: impl Fn(&Certificate) -> bool,
    ) -> Vec<&'a Certificate> {
        let mut found: Vec<&Certificate> = base.into_iter().flatten().filter_map(|id| self.certificate(id)).collect();
        let fresh = self.layers().flat_map(|layer| layer.certificates.values());
        let fresh = fresh.filter(|one| wanted(one) && !self.base.tables.certificates.contains_key(&one.id));
        // One that this request changes is in both layers.
        for one in fresh {
            if found.iter().all(|other| other.id != one.id) {
                found.push(one);
            }
        }
        found
    }

    /// The leases under a grant.
    pub fn leases_of(&self, grant: GrantId) -> Vec<&'a Lease> {
        let base = self.base.leases_of.get(&grant);
        let known = base.into_iter().flatten().filter_map(|id| self.lease(id));
        let fresh: BTreeSet<LeaseId> = self.layers().flat_map(|layer| layer.leases.keys().copied()).collect();
        let fresh = fresh.into_iter().filter(|id| base.is_none_or(|base| !base.contains(id)));
        known.chain(fresh.filter_map(|id| self.lease(&id)).filter(|lease| lease.grant == grant)).collect()
    }

    /// Every lease of the base state, over or not.
    pub fn leases(&self) -> impl Iterator<Item = &'a Lease> + use<'a> {
        self.base.tables.leases.values()
    }

    /// Every system to lease secrets in, removed or not; one that this batch changed may come twice.
    pub fn backends(&self) -> impl Iterator<Item = &'a Backend> + use<'a> {
        let (view, fresh) = (*self, self.layers().flat_map(|layer| layer.backends.keys()));
        self.base.tables.backends.keys().chain(fresh).filter_map(move |name| view.backend(name))
    }

    /// Every enforcement point, retired or not; one that this batch changed may come twice.
    pub fn peps(&self) -> impl Iterator<Item = &'a Pep> + use<'a> {
        let (view, fresh) = (*self, self.layers().flat_map(|layer| layer.peps.keys()));
        self.base.tables.peps.keys().chain(fresh).filter_map(move |name| view.pep(name))
    }

    /// Every freeze that lasts; one that this batch changed may come twice.
    pub fn freezes(&self) -> impl Iterator<Item = &'a Freeze> + use<'a> {
        let (view, fresh) = (*self, self.layers().flat_map(|layer| layer.freezes.keys()));
        let all = self.base.tables.freezes.keys().chain(fresh).filter_map(move |id| view.freeze(id));
        all.filter(|freeze| freeze.thawed.is_none())
    }

    /// Every revocation of the base state.
    pub fn revocations(&self) -> impl Iterator<Item = &'a Recorded> + use<'a> {
        self.base.tables.revocations.values()
    }

    /// Every cut of the base state.
    pub fn cuts(&self) -> impl Iterator<Item = (&'a Target, &'a Cut)> + use<'a> {
        self.base.tables.cuts.iter()
    }

    /// The tokens of the base state that have a place in a status list, with that place.
    pub fn places(&self, list: u64) -> impl Iterator<Item = (u32, TokenId)> + use<'a> {
        self.base.places.get(&list).into_iter().flatten().map(|(index, id)| (*index, *id))
    }

    /// Whether a place in a status list is somebody's.
    pub fn is_taken(&self, place: StatusPlace) -> bool {
        let base = self.base.places.get(&place.list).is_some_and(|places| places.contains_key(&place.index));
        base || self.layers().any(|layer| layer.tokens.values().any(|token| token.status == Some(place)))
    }

    /// How many places of a status list are taken in the base state.
    pub fn taken(&self, list: u64) -> usize {
        self.base.places.get(&list).map_or(0, |places| places.len())
    }

    /// Grants that only the layers know. One that is in both layers has its parent's and task's links once.
    fn fresh(&self) -> impl Iterator<Item = &'a Grant> + use<'a> {
        let (base, own) = (self.base, self.own);
        let mine = own.into_iter().flat_map(|layer| layer.grants.values());
        let batch = self.batch.into_iter().flat_map(|layer| layer.grants.values());
        let batch = batch.filter(move |grant| own.is_none_or(|own| !own.grants.contains_key(&grant.id)));
        mine.chain(batch).filter(move |grant| base.tree.get(grant.id).is_none())
    }

    /// The SPIFFE ID of a party of this trust domain.
    pub fn spiffe_id(&self, kind: Kind, name: &Name) -> String {
        let domain = self.origin().map_or("", |origin| origin.trust_domain.as_str());
        format!("spiffe://{domain}/{kind}/{name}")
    }

    /// Every agent; one that this batch changed may come twice.
    pub fn agents(&self) -> impl Iterator<Item = &'a Agent> + use<'a> {
        let view = *self;
        self.base
            .tables
            .agents
            .keys()
            .chain(self.layers().flat_map(|layer| layer.agents.keys()))
            .filter_map(move |name| view.agent(name))
    }

    /// Every operator, removed or not; one that this batch changed may come twice.
    pub fn operators(&self) -> impl Iterator<Item = &'a Operator> + use<'a> {
        let view = *self;
        let fresh = self.layers().flat_map(|layer| layer.operators.keys());
        self.base.tables.operators.keys().chain(fresh).filter_map(move |name| view.operator(name))
    }

    /// Every token of the base state, whatever its standing.
    pub fn tokens(&self) -> impl Iterator<Item = &'a LiveToken> + use<'a> {
        self.base.tables.tokens.values()
    }

    /// Every certificate of the base state, whatever its standing.
    pub fn certificates(&self) -> impl Iterator<Item = &'a Certificate> + use<'a> {
        self.base.tables.certificates.values()
    }

    /// The identity certificate of a party that ends last.
    pub fn newest_identity(&self, kind: Kind, name: &Name) -> Option<&'a Certificate> {
        let known = self.base.tables.certificates.values();
        let known = known.filter(|one| one.grant.is_none() && one.kind == kind && one.name == *name);
        known.max_by_key(|one| one.not_after)
    }

    /// Every task; one that this batch changed may come twice.
    pub fn tasks(&self) -> impl Iterator<Item = &'a Task> + use<'a> {
        let view = *self;
        self.base
            .tables
            .tasks
            .keys()
            .chain(self.layers().flat_map(|layer| layer.tasks.keys()))
            .filter_map(move |id| view.task(id))
    }

    /// Every approval, decided or not.
    pub fn approvals(&self) -> impl Iterator<Item = &'a Approval> + use<'a> {
        let (view, base) = (*self, self.base);
        let fresh: BTreeSet<ApprovalId> = self.layers().flat_map(|layer| layer.approvals.keys().copied()).collect();
        let fresh = fresh.into_iter().filter(move |id| !base.tables.approvals.contains_key(id));
        base.tables.approvals.keys().copied().chain(fresh).filter_map(move |id| view.approval(&id))
    }

    /// The approval that a grant waits for, or waited for, while it is remembered.
    pub fn approval_of(&self, grant: GrantId) -> Option<&'a Approval> {
        self.approvals().find(|approval| approval.grant == Some(grant))
    }

    /// Every grant of the base state, whatever its standing.
    pub fn grants(&self) -> impl Iterator<Item = &'a Grant> + use<'a> {
        self.base.tree.iter()
    }

    /// How a task stands.
    pub fn task_state(&self, task: &Task, now: Timestamp) -> GrantState {
        if self.cut(&Target::Task(task.id)).is_some() || self.is_subject_cut(task) {
            GrantState::Revoked
        } else if task.ended.is_some() {
            GrantState::Completed
        } else if now >= task.expires_at {
            GrantState::Expired
        } else if task.suspended {
            GrantState::Suspended
        } else {
            GrantState::Active
        }
    }

    /// Every key; one that this batch changed may come twice.
    pub fn keys(&self) -> impl Iterator<Item = &'a Key> + use<'a> {
        let (view, base) = (*self, self.base);
        let fresh = self.layers().flat_map(|layer| layer.keys.keys());
        let fresh = fresh.filter(move |kid| !base.tables.keys.contains_key(*kid));
        base.tables.keys.keys().chain(fresh).filter_map(move |kid| view.key(kid))
    }

    /// The phase of a key.
    pub fn phase(&self, key: &Key, now: Timestamp) -> Phase {
        key.phase(self.keys(), now)
    }

    /// The key that signs for a purpose.
    pub fn signer(&self, purpose: Purpose, now: Timestamp) -> Option<&'a Key> {
        key::signer(self.keys(), purpose, now)
    }

    /// The authority that signs a certificate of this kind of party now: for the broker's own listeners, the one by
    /// which it is known.
    pub fn authority(&self, kind: Kind, now: Timestamp) -> Option<&'a Key> {
        match kind {
            Kind::Server => {
                let keys: Vec<&Key> = self.keys().collect();
                key::face(keys.into_iter(), now)
            }
            Kind::Agent | Kind::Operator | Kind::Pep => self.signer(Purpose::of(kind), now),
        }
    }

    /// Whether everything under a key is refused.
    pub fn is_tainted(&self, kid: &String) -> bool {
        self.key(kid).is_none_or(|key| key.tainted.is_some())
    }
}

fn severity(state: GrantState) -> u8 {
    match state {
        GrantState::Active => 0,
        GrantState::Pending => 1,
        GrantState::Suspended => 2,
        GrantState::Expired => 3,
        GrantState::Completed => 4,
        GrantState::Denied => 5,
        GrantState::Revoked => 6,
    }
}
