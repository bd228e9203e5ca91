//! The fold of all events, as far as it is still live.
//!
//! Only [`State::apply`] changes anything, and it cannot fail: what can fail is decided and folded
//! before, on values. What is over leaves memory by *batch* time, so that a replay collects the same.

mod tables;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

pub use tables::{Delta, Remembered, RequestKey, SnapshotMark, Tables};

use super::applied::Applied;
use super::approval::{APPROVAL_KEPT, ApprovalStatus};
use super::catalog::Catalog;
use super::certificate::Certificate;
use super::cut::Target;
use super::digest::Digest;
use super::grant::{Grant, LiveToken};
use super::id::{
    ApprovalId, CertificateId, FreezeId, GrantId, InvocationId, JoinId, LeaseId, RevocationId, TaskId, TokenId,
};
use super::lease::{Lease, LeaseStatus};
use super::name::Name;
use super::radius::Reach;
use super::reach::Reaches;
use super::spent::{Exercised, Spent};
use super::status::StatusPlace;
use super::time::{GRACE, Timestamp};
use super::tree::Tree;

/// The broker's whole memory.
#[derive(Debug, Default)]
pub struct State {
    pub(super) tables: Tables,
    pub(super) tree: Tree,
    pub(super) head: u64,
    pub(super) at: Timestamp,
    pub(super) roots: HashMap<TaskId, BTreeSet<GrantId>>,
    pub(super) held: HashMap<Name, BTreeSet<GrantId>>,
    pub(super) tokens_of: HashMap<GrantId, BTreeSet<TokenId>>,
    pub(super) certificates_of: HashMap<GrantId, BTreeSet<CertificateId>>,
    pub(super) leases_of: HashMap<GrantId, BTreeSet<LeaseId>>,
    pub(super) places: HashMap<u64, HashMap<u32, TokenId>>,
    pub(super) keyed: HashMap<Digest, BTreeSet<CertificateId>>,
    pub(super) reaches: Reaches,
    catalog: Arc<Catalog>,
    due: BTreeSet<(Timestamp, Due)>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Grant(GrantId),
    Token(TokenId),
    Task(TaskId),
    Join(JoinId),
    Certificate(CertificateId),
    Approval(ApprovalId),
    Remembered(RequestKey),
    Cut(Target),
    Freeze(FreezeId),
    Lease(LeaseId),
    Revocation(RevocationId),
    Call(InvocationId),
}

impl State {
    /// How many events are folded in: the sequence of the last.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// The time of the last batch.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// The records, apart from grants.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The catalog; before one is applied, an empty one.
    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The grants.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// How many records there are, grants included.
    pub fn records(&self) -> u64 {
        let Tables {
            origin: _,
            snapshot: _,
            keys,
            agents,
            operators,
            joins,
            certificates,
            tasks,
            grants,
            reaches: _,
            granted,
            approvals,
            catalog: _,
            policies: _,
            tokens,
            remembered,
            cuts,
            peps,
            freezes,
            backends,
            upstreams,
            leases,
            revocations,
            spent,
            calls,
            exercised,
        } = &self.tables;
        let people = keys.len() + agents.len() + operators.len() + joins.len() + certificates.len();
        let asked = approvals.len() + granted.values().map(BTreeSet::len).sum::<usize>();
        let work = asked + tasks.len() + grants.len() + self.tree.len() + tokens.len() + remembered.len() + cuts.len();
        let used = spent.len() + calls.len() + exercised.len();
        let cut = peps.len() + freezes.len() + backends.len() + upstreams.len() + leases.len() + revocations.len();
        (people + work + used + cut) as u64
    }

    /// Drops what was over by `at`, then takes in what a batch of events, dated `at`, folded to.
    pub fn apply(&mut self, delta: Delta, head: u64, at: Timestamp) {
        self.collect(at);
        self.head = head;
        self.at = self.at.max(at);
        let Delta {
            origin,
            snapshot,
            keys,
            agents,
            operators,
            joins,
            certificates,
            tasks,
            grants,
            reaches,
            granted,
            approvals,
            catalog,
            policies,
            tokens,
            remembered,
            cuts,
            peps,
            freezes,
            backends,
            upstreams,
            leases,
            revocations,
            spent,
            calls,
            exercised,
        } = delta;
        self.tables.origin = origin.or(self.tables.origin.take());
        self.tables.snapshot = snapshot.or(self.tables.snapshot.take());
        self.tables.keys.extend(keys);
        self.tables.agents.extend(agents);
        self.tables.operators.extend(operators);
        self.schedule(joins.values().map(|join| (join.expires_at.plus(GRACE), Due::Join(join.id))));
        self.tables.joins.extend(joins);
        self.put_certificates(certificates);
        self.schedule(tasks.values().map(|task| (task.expires_at.plus(GRACE), Due::Task(task.id))));
        self.tables.tasks.extend(tasks);
        self.put_grants(grants);
        for (task, scopes) in granted {
            self.tables.granted.entry(task).or_default().extend(scopes);
        }
        let ends = approvals.values().map(|one| (one.expires_at.plus(APPROVAL_KEPT), Due::Approval(one.id)));
        self.due.extend(ends);
        self.tables.approvals.extend(approvals);
        self.tables.policies = policies.or(self.tables.policies.take());
        match catalog {
            Some(catalog) => self.recount(catalog),
            None => self.count(reaches.into_grants()),
        }
        self.put_tokens(tokens);
        self.schedule(remembered.iter().map(|(key, made)| (made.until, Due::Remembered(key.clone()))));
        self.tables.remembered.extend(remembered);
        self.schedule(cuts.iter().map(|(target, cut)| (cut.until, Due::Cut(target.clone()))));
        self.tables.cuts.extend(cuts);
        // One that is not settled is kept until it is.
        let settled = revocations.values().filter_map(|one| Some((one.settled.as_ref()?.at, &one.revocation)));
        self.due.extend(settled.map(|(at, one)| (one.until.max(at.plus(GRACE)), Due::Revocation(one.id))));
        self.tables.revocations.extend(revocations);
        self.tables.peps.extend(peps);
        let lifted = freezes.values().filter_map(|one| Some((one.thawed?.plus(GRACE), Due::Freeze(one.id))));
        self.due.extend(lifted);
        self.tables.freezes.extend(freezes);
        self.tables.backends.extend(backends);
        self.tables.upstreams.extend(upstreams);
        self.put_leases(leases);
        self.put_used(spent, exercised);
        self.schedule(calls.values().map(|call| (call.until, Due::Call(call.id))));
        self.tables.calls.extend(calls);
    }

    /// The state of a snapshot: a fresh one that takes everything in at once.
    pub fn restore(&mut self, delta: Delta, head: u64, at: Timestamp) {
        let catalog = delta.catalog.is_some();
        self.apply(delta, head, at);
        if !catalog {
            self.reaches = self.counted();
        }
    }

    fn put_grants(&mut self, grants: HashMap<GrantId, Grant>) {
        let mut grants: Vec<Grant> = grants.into_values().collect();
        // A parent may come in the same batch as its child, and has to be linked first.
        grants.sort_by_key(|grant| grant.depth);
        for grant in grants {
            self.due.insert((grant.expires_at.plus(GRACE), Due::Grant(grant.id)));
            if self.tree.get(grant.id).is_none() {
                self.held.entry(grant.agent.clone()).or_default().insert(grant.id);
                if grant.parent.is_none() {
                    self.roots.entry(grant.task).or_default().insert(grant.id);
                }
            }
            self.tree.put(grant);
        }
    }

    /// Counts what grants that became active reach.
    fn count(&mut self, reaches: HashMap<GrantId, Arc<Reach>>) {
        for (id, reach) in reaches {
            if let Some(grant) = self.tree.get(id) {
                self.reaches.put(&self.catalog, grant, reach);
            }
        }
    }

    /// Counts everything again by another catalog.
    fn recount(&mut self, catalog: Applied<Catalog>) {
        if let Some(body) = &catalog.body {
            self.catalog = Arc::clone(body);
        }
        self.reaches = self.counted();
        self.tables.catalog = Some(catalog);
    }

    /// What everything reaches by the catalog: of what was given back while it waited for approval, which is remembered
    /// for longer than that, nothing.
    fn counted(&self) -> Reaches {
        let undecided = self.tables.approvals.values().filter(|one| one.status != ApprovalStatus::Approved);
        let never: HashSet<GrantId> = undecided.filter_map(|one| one.grant).collect();
        let grants = self.tree.iter().filter(|grant| !never.contains(&grant.id));
        Reaches::of(&self.catalog, grants, &self.tables.granted)
    }

    /// What was done under a grant is kept for as long as the grant. A call may be recorded when its grant is gone.
    fn put_used(&mut self, spent: HashMap<GrantId, Spent>, exercised: HashMap<GrantId, Exercised>) {
        for (grant, spent) in spent.into_iter().filter(|(grant, _)| self.tree.get(*grant).is_some()) {
            self.tables.spent.entry(grant).or_default().settle(spent);
        }
        for (grant, exercised) in exercised.into_iter().filter(|(grant, _)| self.tree.get(*grant).is_some()) {
            self.tables.exercised.entry(grant).or_default().take(exercised);
        }
    }

    fn put_tokens(&mut self, tokens: HashMap<TokenId, LiveToken>) {
        for (id, token) in tokens {
            self.due.insert((token.expires_at.plus(GRACE), Due::Token(id)));
            if let Some(StatusPlace { list, index }) = token.status {
                self.places.entry(list).or_default().insert(index, id);
            }
            let (grant, known) = (token.grant, self.tables.tokens.insert(id, token).is_some());
            if !known {
                self.tokens_of.entry(grant).or_default().insert(id);
            }
        }
    }

    /// A lease is remembered until it is gone from its target, however long its time is over.
    fn put_leases(&mut self, leases: HashMap<LeaseId, Lease>) {
        for (id, lease) in leases {
            if lease.status == LeaseStatus::Ended {
                self.due.insert((lease.expires_at.max(lease.changed_at).plus(GRACE), Due::Lease(id)));
            }
            self.leases_of.entry(lease.grant).or_default().insert(id);
            self.tables.leases.insert(id, lease);
        }
    }

    fn put_certificates(&mut self, certificates: HashMap<CertificateId, Certificate>) {
        for (id, certificate) in certificates {
            self.due.insert((certificate.not_after.plus(GRACE), Due::Certificate(id)));
            let (grant, key) = (certificate.grant, certificate.key_hash);
            if self.tables.certificates.insert(id, certificate).is_some() {
                continue;
            }
            self.keyed.entry(key).or_default().insert(id);
            if let Some(grant) = grant {
                self.certificates_of.entry(grant).or_default().insert(id);
            }
        }
    }

    fn schedule(&mut self, due: impl Iterator<Item = (Timestamp, Due)>) {
        self.due.extend(due);
    }

    fn collect(&mut self, at: Timestamp) {
        let mut grants = Vec::new();
        while self.due.first().is_some_and(|(due_at, _)| *due_at <= at) {
            match self.due.pop_first() {
                Some((_, Due::Grant(id))) => grants.extend(self.tree.get(id).map(|grant| (grant.depth, id))),
                Some((_, due)) => self.drop_record(&due, at),
                None => {}
            }
        }
        // Active children end no later than their parents: deepest first.
        grants.sort_unstable_by_key(|(depth, _)| std::cmp::Reverse(*depth));
        grants.into_iter().for_each(|(_, id)| self.drop_grant(id, at));
    }

    /// A record whose end was moved since is due again, later: only what is over by `at` goes.
    fn drop_record(&mut self, due: &Due, at: Timestamp) {
        let tables = &mut self.tables;
        match due {
            Due::Grant(_) => {}
            Due::Token(id) => self.drop_token(*id),
            Due::Task(id) => {
                tables.tasks.remove(id);
                tables.granted.remove(id);
                self.reaches.end_task(*id);
            }
            Due::Approval(id) => drop(tables.approvals.remove(id)),
            Due::Join(id) => drop(tables.joins.remove(id)),
            Due::Certificate(id) => self.drop_certificate(*id),
            Due::Remembered(key) => {
                if tables.remembered.get(key).is_some_and(|made| made.until <= at) {
                    tables.remembered.remove(key);
                }
            }
            Due::Freeze(id) => drop(tables.freezes.remove(id)),
            Due::Revocation(id) => drop(tables.revocations.remove(id)),
            Due::Call(id) => {
                if tables.calls.get(id).is_some_and(|call| call.until <= at) {
                    tables.calls.remove(id);
                }
            }
            Due::Lease(id) => {
                if let Some(lease) = tables.leases.remove(id) {
                    unlink(&mut self.leases_of, &lease.grant, *id);
                    self.drop_grant(lease.grant, at);
                }
            }
            Due::Cut(target) => {
                if tables.cuts.get(target).is_some_and(|cut| cut.until <= at) {
                    tables.cuts.remove(target);
                }
            }
        }
    }

    fn drop_token(&mut self, id: TokenId) {
        let Some(token) = self.tables.tokens.remove(&id) else { return };
        unlink(&mut self.tokens_of, &token.grant, id);
        let Some(StatusPlace { list, index }) = token.status else { return };
        if let Some(places) = self.places.get_mut(&list) {
            places.remove(&index);
            if places.is_empty() {
                self.places.remove(&list);
            }
        }
    }

    fn drop_certificate(&mut self, id: CertificateId) {
        let Some(certificate) = self.tables.certificates.remove(&id) else { return };
        unlink(&mut self.keyed, &certificate.key_hash, id);
        if let Some(grant) = certificate.grant {
            unlink(&mut self.certificates_of, &grant, id);
        }
    }

    fn drop_grant(&mut self, id: GrantId, at: Timestamp) {
        let Some(grant) = self.tree.get(id).filter(|grant| grant.expires_at.plus(GRACE) <= at) else { return };
        let (agent, task, parent, scopes) = (grant.agent.clone(), grant.task, grant.parent, grant.scopes.clone());
        // What lies in another system still belongs to somebody, however long its time is over.
        if self.leases_of.contains_key(&id) || !self.tree.remove(id) {
            return;
        }
        self.reaches.drop(&self.catalog, id, &scopes);
        self.tables.spent.remove(&id);
        self.tables.exercised.remove(&id);
        unlink(&mut self.held, &agent, id);
        match parent {
            // A child that waits for approval may outlast its parent, which then stays until it has gone.
            Some(parent) => self.drop_grant(parent, at),
            None => unlink(&mut self.roots, &task, id),
        }
    }
}

/// Takes `id` out of what hangs on `key`; an empty set goes too.
fn unlink<K: Eq + std::hash::Hash, V: Ord>(index: &mut HashMap<K, BTreeSet<V>>, key: &K, id: V) {
    let Some(ids) = index.get_mut(key) else { return };
    ids.remove(&id);
    if ids.is_empty() {
        index.remove(key);
    }
}
