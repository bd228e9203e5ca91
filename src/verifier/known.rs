//! What is cut, halted and frozen, by the keys that a token carries: each question is one look.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use crate::domain::cut::Target;
use crate::domain::digest::Digest;
use crate::domain::error::Error;
use crate::domain::feed::{Halted, Signal};
use crate::domain::id::{FreezeId, GrantId, TaskId, TokenId};
use crate::domain::name::{Line, Name};
use crate::domain::scope::{Call, Scope};
use crate::domain::time::{GRACE, LONGEST_TASK, Span, Timestamp};
use crate::format::jwt::Claims;

/// How often what matters to nothing any more is forgotten.
const TIDY: Span = Span::minutes(1);

/// The live set.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) keys: Vec<(String, Vec<u8>)>,
    tainted: HashSet<String>,
    tokens: HashMap<TokenId, Timestamp>,
    /// By their digests: tokens are bound to them.
    certificates: HashMap<Digest, Timestamp>,
    grants: Parties<GrantId>,
    tasks: Parties<TaskId>,
    agents: Names<Name>,
    owners: Names<Line>,
    subjects: Names<Line>,
    halted: HashMap<Name, Halted>,
    freezes: HashMap<FreezeId, Scope>,
    tidied: Timestamp,
}

/// Ids that are cut for good, until when that is of interest; and those that are halted.
#[derive(Debug)]
struct Parties<T> {
    cut: HashMap<T, Timestamp>,
    halted: HashMap<T, Halted>,
}

/// Names, cut up to a sequence.
#[derive(Debug)]
struct Names<T>(HashMap<T, (u64, Timestamp)>);

/// Why a token is not good.
pub(super) struct Refused {
    pub(super) error: Error,
    /// Whether it may be good again.
    pub(super) for_now: bool,
}

impl Known {
    /// Takes one thing more.
    pub(super) fn take(&mut self, signal: Signal) {
        match signal {
            Signal::Cut { target, seq, until, thumbprint } => {
                self.certificates.extend(thumbprint.map(|thumbprint| (thumbprint, until)));
                self.cut(target, seq, until);
            }
            Signal::Halt { key, why } => self.halt(key, why),
            Signal::Resume { key } => self.resume(&key),
            Signal::Frozen { id, scope } => drop(self.freezes.insert(id, scope)),
            Signal::Thawed { id } => drop(self.freezes.remove(&id)),
            Signal::Key { kid, point } => {
                if !self.keys.iter().any(|(known, _)| *known == kid) {
                    self.keys.push((kid, point));
                }
            }
            Signal::Tainted { kid } => {
                self.keys.retain(|(known, _)| *known != kid);
                self.tainted.insert(kid);
            }
        }
    }

    fn cut(&mut self, target: Target, seq: u64, until: Timestamp) {
        match target {
            Target::Grant(id) => drop(self.grants.cut.insert(id, until)),
            Target::Task(id) => drop(self.tasks.cut.insert(id, until)),
            Target::Token(id) => drop(self.tokens.insert(id, until)),
            Target::Agent(name) => self.agents.put(name, seq, until),
            Target::Owner(owner) => self.owners.put(owner, seq, until),
            Target::Subject(subject) => self.subjects.put(subject, seq, until),
            // No token carries their ids.
            Target::Certificate(_) | Target::Lease(_) => {}
        }
    }

    fn halt(&mut self, key: Target, why: Halted) {
        match key {
            Target::Grant(id) => drop(self.grants.halted.insert(id, why)),
            Target::Task(id) => drop(self.tasks.halted.insert(id, why)),
            Target::Agent(name) => drop(self.halted.insert(name, why)),
            _ => {}
        }
    }

    /// Only what was suspended comes back.
    fn resume(&mut self, key: &Target) {
        match key {
            Target::Grant(id) => self.grants.resume(id),
            Target::Task(id) => self.tasks.resume(id),
            Target::Agent(name) if self.halted.get(name) == Some(&Halted::Suspended) => {
                self.halted.remove(name);
            }
            _ => {}
        }
    }

    /// Forgets what matters to nothing any more, now and then.
    pub(super) fn tidy(&mut self, now: Timestamp) {
        if now.since(self.tidied) < TIDY {
            return;
        }
        self.tidied = now;
        self.tokens.retain(|_, until| *until > now);
        self.certificates.retain(|_, until| *until > now);
        self.grants.tidy(now, GrantId::time);
        self.tasks.tidy(now, TaskId::time);
        self.agents.0.retain(|_, (_, until)| *until > now);
        self.owners.0.retain(|_, (_, until)| *until > now);
        self.subjects.0.retain(|_, (_, until)| *until > now);
    }

    pub(super) fn is_tainted(&self, kid: &str) -> bool {
        self.tainted.contains(kid)
    }

    /// Why what this token says does not hold, if it does not. What is for good is found first.
    pub(super) fn refuses(&self, claims: &Claims) -> Option<Refused> {
        let over = self.cut_of(claims).or_else(|| self.ended_of(claims));
        let over = over.map(|(reason, what)| Refused { error: refused(claims, reason, &what), for_now: false });
        over.or_else(|| {
            let (reason, what) = self.suspended_of(claims)?;
            Some(Refused { error: refused(claims, reason, &what), for_now: true })
        })
    }

    fn cut_of(&self, claims: &Claims) -> Option<(&'static str, String)> {
        if self.is_tainted(&claims.kid) {
            return Some(("key_tainted", format!("its key `{}` is not trusted any more", claims.kid)));
        }
        if self.tokens.contains_key(&claims.id) {
            return Some(("token_revoked", "it was revoked".to_owned()));
        }
        if claims.confirmation.certificate().is_some_and(|bound| self.certificates.contains_key(bound)) {
            return Some(("certificate_revoked", "the certificate that it is bound to was revoked".to_owned()));
        }
        if self.tasks.cut.contains_key(&claims.task) {
            return Some(("task_revoked", format!("task `{}` was revoked", claims.task)));
        }
        claims.chain.iter().find_map(|link| {
            let revoked = |reason, what: String| Some((reason, format!("{what} was revoked")));
            if self.grants.cut.contains_key(&link.grant) {
                return revoked("grant_revoked", format!("grant `{}`", link.grant));
            }
            if self.agents.hits(&link.agent, claims.seq) {
                return revoked("agent_revoked", format!("what agent `{}` held", link.agent));
            }
            if self.owners.hits(&link.owner, claims.seq) {
                return revoked("owner_revoked", format!("what agents of `{}` held", link.owner));
            }
            let subject = link.subject.as_ref().filter(|subject| self.subjects.hits(*subject, claims.seq))?;
            revoked("subject_revoked", format!("what ran on behalf of `{subject}`"))
        })
    }

    fn ended_of(&self, claims: &Claims) -> Option<(&'static str, String)> {
        let is_over = |why: Option<&Halted>| why.is_some_and(|why| *why != Halted::Suspended);
        if let Some(link) = claims.chain.iter().find(|link| is_over(self.halted.get(&link.agent))) {
            return Some(("agent_retired", format!("agent `{}` was retired", link.agent)));
        }
        if let Some(link) = claims.chain.iter().find(|link| is_over(self.grants.halted.get(&link.grant))) {
            return Some(("grant_completed", format!("grant `{}` was given back", link.grant)));
        }
        is_over(self.tasks.halted.get(&claims.task))
            .then(|| ("task_ended", format!("task `{}` was ended", claims.task)))
    }

    fn suspended_of(&self, claims: &Claims) -> Option<(&'static str, String)> {
        if let Some(link) = claims.chain.iter().find(|link| self.grants.halted.contains_key(&link.grant)) {
            return Some(("grant_suspended", format!("grant `{}` is suspended", link.grant)));
        }
        if self.tasks.halted.contains_key(&claims.task) {
            return Some(("task_suspended", format!("task `{}` is suspended", claims.task)));
        }
        let link = claims.chain.iter().find(|link| self.halted.contains_key(&link.agent))?;
        Some(("agent_suspended", format!("agent `{}` is suspended", link.agent)))
    }

    /// The freeze that stops a call, if one does.
    pub(super) fn freeze_of(&self, call: &Call) -> Option<FreezeId> {
        self.freezes.iter().find(|(_, scope)| scope.allows(call)).map(|(id, _)| *id)
    }
}

fn refused(claims: &Claims, reason: &'static str, what: &str) -> Error {
    Error::denied(reason, format!("token `{}` is not good: {what}", claims.id))
}

impl<T> Default for Parties<T> {
    fn default() -> Self {
        Self { cut: HashMap::new(), halted: HashMap::new() }
    }
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Eq + Hash + Copy> Parties<T> {
    fn resume(&mut self, id: &T) {
        if self.halted.get(id) == Some(&Halted::Suspended) {
            self.halted.remove(id);
        }
    }

    /// What an id names is over a longest task after the moment in it.
    fn tidy(&mut self, now: Timestamp, made: impl Fn(T) -> Timestamp) {
        self.cut.retain(|_, until| *until > now);
        self.halted.retain(|id, _| made(*id).plus(LONGEST_TASK).plus(GRACE) > now);
    }
}

impl<T: Eq + Hash> Names<T> {
    /// A later cut reaches further.
    fn put(&mut self, name: T, seq: u64, until: Timestamp) {
        let cut = self.0.entry(name).or_insert((seq, until));
        *cut = (cut.0.max(seq), cut.1.max(until));
    }

    fn hits<Q: Eq + Hash + ?Sized>(&self, name: &Q, seq: u64) -> bool
    where
        T: Borrow<Q>,
    {
        self.0.get(name).is_some_and(|(upto, _)| seq <= *upto)
    }
}
