//! Random histories: each step is done to a ledger and to the model of it, and both must say the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use belay::domain::agent::{AgentStatus, Kind};
use belay::domain::cut::Target as Named;
use belay::domain::decide::{
    Attempt, Caller, Delegate, EndTask, Granted, IssueToken, RegisterAgent, RenewGrant, RequestGrant, Revoke,
    SetAgentStatus, SetGrantStatus, StartTask, TokenAnswer, judge,
};
use belay::domain::digest::Digest;
use belay::domain::error::Error;
use belay::domain::grant::Credential;
use belay::domain::grant::Status as GrantStatus;
use belay::domain::id::{GrantId, TaskId, TokenId};
use belay::domain::scope::{Call, Scopes};
use belay::domain::time::Span;
use belay::store::Sqlite;

use super::model::{self, Agent, Calls, Model, Status, Target};
use super::steps::{Step, Tally};
use super::world::{Hands, NOW, World};

/// A ledger, the model of it, and which of the one is which of the other.
pub struct Lockstep {
    directory: PathBuf,
    snapshot_every: u64,
    hands: Arc<Hands>,
    world: Option<World>,
    model: Model,
    agents: Vec<Caller>,
    tasks: Vec<TaskId>,
    grants: Vec<GrantId>,
    tokens: Vec<TokenId>,
    /// How each grant was asked for.
    asked: Vec<Asked>,
    patterns: Vec<(String, Calls)>,
    universe: Vec<Call>,
    tally: Tally,
}

struct Asked {
    by: usize,
    task: usize,
    parent: Option<usize>,
    to: usize,
    scopes: Vec<String>,
    ttl: i64,
    key: String,
}

const AGENTS: [(&str, &str, &[&str], i64); 4] = [
    ("anna", "red", &[], 0),
    ("bert", "red", &["a:*@**"], 0),
    ("carl", "blue", &[], 120_000),
    ("dora", "blue", &["a:x.*@p/**", "b:*@**"], 240_000),
];

/// The ledger's refusal, if it is one.
type Said = Option<&'static str>;

impl Lockstep {
    pub async fn begin(directory: &Path, snapshot_every: u64) -> Self {
        let patterns = model::patterns().into_iter().map(|text| (text.clone(), model::calls(&text)));
        let universe = model::universe().into_iter().map(|(t, a, r)| Call::parse(t, a, r).unwrap());
        let mut both = Self {
            directory: directory.to_owned(),
            snapshot_every,
            hands: Hands::new(),
            world: None,
            model: Model::new(NOW),
            agents: Vec::new(),
            tasks: Vec::new(),
            grants: Vec::new(),
            tokens: Vec::new(),
            asked: Vec::new(),
            patterns: patterns.collect(),
            universe: universe.collect(),
            tally: Tally::default(),
        };
        both.restart().await;
        for (name, owner, ceiling, max_ttl) in AGENTS {
            both.register(name, owner, ceiling, max_ttl).await;
        }
        both
    }

    async fn register(&mut self, name: &str, owner: &'static str, ceiling: &[&str], max_ttl: i64) {
        let max_ttl = (max_ttl > 0).then_some(max_ttl);
        let ceiling = (!ceiling.is_empty()).then_some(ceiling);
        let command = RegisterAgent {
            name: name.parse().unwrap(),
            owner: owner.parse().unwrap(),
            purpose: "testing".parse().unwrap(),
            ceiling: ceiling.map(|ceiling| Scopes::parse(ceiling).unwrap()),
            max_ttl: max_ttl.map(Span::millis),
            labels: Vec::new(),
            secret_hash: Digest::of(name.as_bytes()),
        };
        self.world().submit(&Caller::Broker, command).await.unwrap();
        let identity = self.world().identity(Kind::Agent, name).await;
        self.agents.push(Caller::Agent(identity));
        let ceiling = ceiling.map(|ceiling| ceiling.iter().flat_map(|text| model::calls(text)).collect());
        self.model.agents.push(Agent { owner, ceiling, max_ttl, status: Status::Active });
    }

    pub fn world(&self) -> &World {
        self.world.as_ref().unwrap()
    }

    /// Drops the ledger and opens it again from what is on the disk.
    async fn restart(&mut self) {
        drop(self.world.take());
        let store = Box::new(Sqlite::open(&self.directory).unwrap());
        self.world = Some(World::over(store, Arc::clone(&self.hands), self.snapshot_every).await);
    }

    /// Ends the ledger: how telling its history was.
    pub fn end(self) -> Tally {
        self.tally
    }

    /// Does a step to both, and holds what they answer against each other.
    pub async fn step(&mut self, step: &Step) {
        let said = match step {
            Step::Turn { millis } => {
                self.settle().await;
                // Idempotency keys, certificates and the model's memory all outlast the longest history.
                if self.model.now + millis < NOW + 50 * 60_000 {
                    self.hands.turn(Span::millis(*millis));
                    self.model.now += millis;
                }
                Some((None, true))
            }
            Step::Restart => {
                self.restart().await;
                Some((None, true))
            }
            Step::Task { agent, subject, ttl } => Some(self.task(*agent, *subject, *ttl).await),
            Step::Request { .. } | Step::Delegate { .. } => self.ask(step).await,
            Step::Retry { grant } => self.retry(*grant).await,
            Step::Renew { .. } | Step::Token { .. } | Step::Halt { .. } | Step::Complete { .. } => {
                self.grant_step(step).await
            }
            Step::EndTask { foreign, task } => self.end_task(*foreign, *task).await,
            Step::Agent { agent, to } => Some(self.set_agent(*agent, *to).await),
            Step::Revoke { kind, which, by } => self.revoke(*kind, *which, *by).await,
        };
        if let Some((refused, accepted)) = said {
            assert_eq!(refused.is_none(), accepted, "{step:?}: the ledger said {refused:?}");
            let name: String = format!("{step:?}").chars().take_while(char::is_ascii_alphabetic).collect();
            self.tally.steps.entry(name).or_default()[usize::from(!accepted)] += 1;
        }
        self.compare();
    }

    /// A snapshot that is due is taken after the answer: waits for it, so that it is dated before the clock turns.
    pub async fn settle(&self) {
        let name = AGENTS[0].0.parse().unwrap();
        let status = to_ledger(self.model.agents[0].status);
        let command = SetAgentStatus { name, status, reason: "nothing".parse().unwrap() };
        self.world().submit(&Caller::Broker, command).await.unwrap();
    }

    async fn task(&mut self, agent: u8, subject: u8, ttl: i64) -> (Said, bool) {
        let agent = pick(agent, self.agents.len()).unwrap();
        let subject = [None, Some("alice"), Some("bob")][usize::from(subject % 3)];
        let command = StartTask {
            purpose: "testing".parse().unwrap(),
            subject: subject.map(|subject| subject.parse().unwrap()),
            ttl: Span::millis(ttl),
            envelope: None,
        };
        let started = self.world().submit(&self.agents[agent], command).await;
        let refused = started.map(|task| self.tasks.push(task.task.id)).err();
        (said(refused), self.model.start_task(agent, subject, ttl))
    }

    async fn ask(&mut self, step: &Step) -> Option<(Said, bool)> {
        let key = format!("key-{}", self.asked.len());
        let asked = match step {
            Step::Request { agent, task, scopes, ttl } => {
                let task = pick(*task, self.tasks.len())?;
                let own = pick(*agent, 8)? > 0;
                let by = if own { self.model.tasks[task].agent } else { pick(*agent, self.agents.len())? };
                let scopes = scopes.iter().map(|at| self.patterns[usize::from(*at) % self.patterns.len()].0.clone());
                Asked { by, task, parent: None, to: by, scopes: scopes.collect(), ttl: *ttl, key }
            }
            Step::Delegate { foreign, parent, to, within, scopes, ttl } => {
                let parent = self.choose(*parent)?;
                let to = pick(*to, self.agents.len())?;
                let (allows, ceiling) = (&self.model.grants[parent].allows, &self.model.agents[to].ceiling);
                let fits = |(_, calls): &&(String, Calls)| {
                    calls.is_subset(allows) && ceiling.as_ref().is_none_or(|ceiling| calls.is_subset(ceiling))
                };
                let any = !*within || !self.patterns.iter().any(|pattern| fits(&pattern));
                let fitting = self.patterns.iter().filter(|pattern| any || fits(pattern));
                let fitting: Vec<&String> = fitting.map(|(text, _)| text).collect();
                let chosen = scopes.iter().map(|at| fitting[usize::from(*at) % fitting.len()].clone());
                let by = self.holder(parent, *foreign);
                let task = self.model.grants[parent].task;
                Asked { by, task, parent: Some(parent), to, scopes: chosen.collect(), ttl: *ttl, key }
            }
            _ => unreachable!(),
        };
        let granted = self.put(&asked).await;
        let accepted = match asked.parent {
            None => self.model.request(asked.by, asked.task, &asked.scopes, asked.ttl),
            Some(parent) => self.model.delegate(asked.by, parent, asked.to, &asked.scopes, asked.ttl),
        };
        let refused = granted.map(|granted| self.grants.push(granted.grant.id)).err();
        if refused.is_none() {
            self.asked.push(asked);
        }
        Some((said(refused), accepted))
    }

    /// Puts a request to the ledger, under its key.
    async fn put(&self, asked: &Asked) -> Result<Granted, Error> {
        let (caller, ttl) = (&self.agents[asked.by], Span::millis(asked.ttl));
        let (scopes, once) = (Scopes::parse(&asked.scopes)?, Some((asked.key.as_str(), b"body".as_slice())));
        match asked.parent {
            None => {
                let task = self.tasks[asked.task];
                let command = RequestGrant {
                    task,
                    scopes,
                    audience: None,
                    ttl,
                    token: false,
                    limits: Default::default(),
                    narrow: false,
                };
                self.world().submit_once(caller, command, once).await
            }
            Some(parent) => {
                let (parent, to) = (self.grants[parent], AGENTS[asked.to].0.parse()?);
                let command = Delegate {
                    parent,
                    to,
                    scopes,
                    audience: None,
                    ttl,
                    own: false,
                    limits: Default::default(),
                    narrow: false,
                };
                self.world().submit_once(caller, command, once).await
            }
        }
    }

    /// The same request again: the same grant, as it stands by now.
    async fn retry(&mut self, grant: u8) -> Option<(Said, bool)> {
        let at = pick(grant, self.grants.len())?;
        let again = self.put(&self.asked[at]).await;
        let by = self.asked[at].by;
        let accepted = self.model.agents[by].status == Status::Active && self.model.knows_grant(at);
        if let Ok(granted) = &again {
            assert_eq!(granted.grant.id, self.grants[at]);
            assert_eq!(Some(granted.state.as_str()), self.model.state(at));
        }
        Some((said(again.err()), accepted))
    }

    async fn grant_step(&mut self, step: &Step) -> Option<(Said, bool)> {
        let chosen = match step {
            Step::Renew { grant, .. } | Step::Token { grant, .. } => grant,
            Step::Halt { grant, .. } | Step::Complete { grant, .. } => grant,
            _ => unreachable!(),
        };
        let at = self.choose(*chosen)?;
        let id = self.grants[at];
        let reason = || "testing".parse().unwrap();
        Some(match step {
            Step::Renew { foreign, ttl, .. } => {
                let by = self.holder(at, *foreign);
                let command = RenewGrant { id, ttl: Span::millis(*ttl) };
                let renewed = self.world().submit(&self.agents[by], command).await;
                (said(renewed.err()), self.model.renew(by, at, *ttl))
            }
            Step::Token { foreign, .. } => {
                let by = self.holder(at, *foreign);
                let issued = self.world().submit(&self.agents[by], IssueToken { grant: id, audience: None }).await;
                let refused = issued.map(|answer| self.tokens.push(new_token(&answer))).err();
                (said(refused), self.model.token(by, at))
            }
            Step::Halt { go_on, .. } => {
                let (status, theirs) = match go_on {
                    true => (Status::Active, GrantStatus::Active),
                    false => (Status::Suspended, GrantStatus::Suspended),
                };
                let command = SetGrantStatus { id, status: theirs, reason: reason() };
                let halted = self.world().submit(&Caller::Broker, command).await;
                (said(halted.err()), self.model.halt(at, status))
            }
            Step::Complete { foreign, .. } => {
                let by = self.holder(at, *foreign);
                let command = SetGrantStatus { id, status: GrantStatus::Completed, reason: reason() };
                let completed = self.world().submit(&self.agents[by], command).await;
                (said(completed.err()), self.model.complete(by, at))
            }
            _ => unreachable!(),
        })
    }

    async fn end_task(&mut self, foreign: bool, task: u8) -> Option<(Said, bool)> {
        let at = pick(task, self.tasks.len())?;
        let by = (self.model.tasks[at].agent + usize::from(foreign)) % self.agents.len();
        let command = EndTask { id: self.tasks[at], reason: "testing".parse().unwrap() };
        let ended = self.world().submit(&self.agents[by], command).await;
        Some((said(ended.err()), self.model.end_task(by, at)))
    }

    async fn set_agent(&mut self, agent: u8, to: u8) -> (Said, bool) {
        let at = pick(agent, self.agents.len()).unwrap();
        // Retiring is for good: seldom, or nothing is left to happen.
        let status = match to {
            0..8 => Status::Over,
            8..80 => Status::Suspended,
            _ => Status::Active,
        };
        let name = AGENTS[at].0.parse().unwrap();
        let command = SetAgentStatus { name, status: to_ledger(status), reason: "testing".parse().unwrap() };
        let changed = self.world().submit(&Caller::Broker, command).await;
        (said(changed.err()), self.model.set_agent(at, status))
    }

    async fn revoke(&mut self, kind: u8, which: u8, by: Option<u8>) -> Option<(Said, bool)> {
        let agent = pick(which, self.agents.len())?;
        let (target, named) = match kind % 10 {
            0..4 => pick(which, self.grants.len()).map(|at| (Target::Grant(at), Named::Grant(self.grants[at])))?,
            4..6 => pick(which, self.tokens.len()).map(|at| (Target::Token(at), Named::Token(self.tokens[at])))?,
            6 => pick(which, self.tasks.len()).map(|at| (Target::Task(at), Named::Task(self.tasks[at])))?,
            7 => (Target::Agent(agent), Named::Agent(AGENTS[agent].0.parse().unwrap())),
            8 => (Target::Owner(AGENTS[agent].1), Named::Owner(AGENTS[agent].1.parse().unwrap())),
            _ => (Target::Subject("alice"), Named::Subject("alice".parse().unwrap())),
        };
        let by = by.and_then(|by| pick(by, self.agents.len()));
        let caller = by.map_or(&Caller::Broker, |by| &self.agents[by]);
        let revoke = |dry_run| Revoke { target: named.clone(), reason: "testing".parse().unwrap(), dry_run };
        let world = self.world();
        let foretold = world.submit(caller, revoke(true)).await.map(|foretold| world.died(&foretold));
        let revoked = world.submit(caller, revoke(false)).await;
        let expected = self.model.revoke(by, target);
        if let (Ok(revoked), Ok(foretold), Some(expected)) = (&revoked, &foretold, expected) {
            let died = self.world().died(revoked);
            let cut = died.total();
            // Who cuts again is told the same again, and the model tells of what died now.
            if !revoked.again {
                assert_eq!(revoked.revocation.known, expected.0, "{target:?} by {by:?}");
                assert_eq!((cut.grants, cut.tokens), (expected.1, expected.2), "{target:?} by {by:?}");
            }
            assert_eq!(*foretold, died, "{target:?}: a dry run tells what will die");
        }
        Some((said(revoked.err()), expected.is_some()))
    }

    /// Every grant and every token, as the ledger has it and as the model has it.
    fn compare(&mut self) {
        let world = self.world.as_ref().unwrap();
        let now = world.ledger.now();
        world.ledger.view(|view| {
            for (at, id) in self.grants.iter().enumerate() {
                let expected = self.model.state(at);
                let standing = view.standing(*id, now).map(|standing| standing.state.as_str());
                assert_eq!(standing, expected, "grant {at}: {:?}", self.model.grants[at]);
                self.tally.deepest = self.tally.deepest.max(self.model.chain(at).len());
                *self.tally.states.entry(expected.unwrap_or("expired")).or_default() += 1;
                let Some(grant) = view.grant(*id) else { continue };
                let ends = (grant.expires_at.millis(), grant.renewable_until.millis());
                let theirs = &self.model.grants[at];
                assert_eq!(ends, (theirs.expires, theirs.renewable_until), "grant {at}");
            }
            for (at, id) in self.tokens.iter().enumerate() {
                let good = self.model.good_for(at);
                self.tally.allowed += good.len();
                assert_eq!(judge(&view, now, Credential::Token(*id), None).allowed, !good.is_empty(), "token {at}");
                // Of a dead token one call is as good as all.
                let asked = if good.is_empty() { 1 } else { self.universe.len() };
                for (call_at, call) in self.universe.iter().enumerate().take(asked) {
                    let allowed = judge(&view, now, Credential::Token(*id), Some(Attempt::of(call, true))).allowed;
                    assert_eq!(allowed, good.contains(&call_at), "token {at}: {call}");
                }
            }
        });
    }

    /// Mostly a grant that is live, if there is one: what is over has little left to say.
    fn choose(&self, number: u8) -> Option<usize> {
        let live: Vec<usize> = (0..self.grants.len()).filter(|at| self.model.state(*at) == Some("active")).collect();
        match pick(number, live.len()) {
            Some(at) if !number.is_multiple_of(5) => Some(live[at]),
            _ => pick(number, self.grants.len()),
        }
    }

    fn holder(&self, grant: usize, foreign: bool) -> usize {
        (self.model.grants[grant].agent + usize::from(foreign)) % self.agents.len()
    }
}

fn pick(number: u8, of: usize) -> Option<usize> {
    usize::from(number).checked_rem(of)
}

fn said(refused: Option<Error>) -> Said {
    refused.map(|error| error.reason)
}

fn new_token(answer: &TokenAnswer) -> TokenId {
    match answer {
        TokenAnswer::New(token) => token.get().id,
        TokenAnswer::Again(id, _) => *id,
    }
}

fn to_ledger(status: Status) -> AgentStatus {
    match status {
        Status::Active => AgentStatus::Active,
        Status::Suspended => AgentStatus::Suspended,
        Status::Over => AgentStatus::Retired,
    }
}
