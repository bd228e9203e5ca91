//! Random histories of agents that ask for more and humans who let them, each read by a [`Book`].

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use belay::domain::agent::{AgentStatus, Kind, Role};
use belay::domain::cut::Target;
use belay::domain::decide::{
    Approve, Caller, Delegate, Deny, Granted, IssueToken, RegisterAgent, RenewGrant, RequestGrant, Revoke,
    SetGrantStatus, StartTask,
};
use belay::domain::digest::Digest;
use belay::domain::error::Error;
use belay::domain::grant::{GrantState, Status};
use belay::domain::id::{ApprovalId, GrantId, TaskId};
use belay::domain::limits::Limits;
use belay::domain::scope::Scopes;
use belay::domain::time::Span;
use belay::store::Sqlite;

use super::atlas::{self, AGENTS, HUMANS, MAPS, PIECES, SUBJECTS};
use super::book::{Book, set, sum};
use super::world::{Hands, NOW, World};

/// One step: numbers that choose among what there is by then.
pub type Step = [u8; 8];

pub struct Elevated {
    directory: PathBuf,
    snapshot_every: u64,
    hands: Arc<Hands>,
    world: Option<World>,
    agents: Vec<Caller>,
    humans: Vec<Caller>,
    tasks: Vec<(TaskId, usize)>,
    /// What was asked for beforehand.
    envelopes: HashMap<TaskId, Vec<usize>>,
    grants: Vec<(GrantId, usize)>,
    read: u64,
    pub book: Book,
}

impl Elevated {
    pub async fn begin(directory: &Path, snapshot_every: u64) -> Self {
        let mut all = Self {
            directory: directory.to_owned(),
            snapshot_every,
            hands: Hands::new(),
            world: None,
            agents: Vec::new(),
            humans: Vec::new(),
            tasks: Vec::new(),
            envelopes: HashMap::new(),
            grants: Vec::new(),
            read: 0,
            book: Book::new(),
        };
        all.restart().await;
        for (name, owner, ceiling, seconds) in AGENTS {
            let command = RegisterAgent {
                name: name.parse().unwrap(),
                owner: owner.parse().unwrap(),
                purpose: "testing".parse().unwrap(),
                ceiling: (!ceiling.is_empty()).then(|| scopes(ceiling)),
                max_ttl: (seconds > 0).then(|| Span::seconds(seconds)),
                labels: Vec::new(),
                secret_hash: Digest::of(name.as_bytes()),
            };
            all.world().submit(&Caller::Broker, command).await.unwrap();
            let identity = all.world().identity(Kind::Agent, name).await;
            all.agents.push(Caller::Agent(identity));
        }
        for name in HUMANS {
            let human = all.world().operator(name, &[Role::Approver]).await;
            all.humans.push(human);
        }
        all.world().apply_catalog(&MAPS[0].toml()).await;
        all.world().apply_policies(set(0)).await;
        all.look().await;
        all
    }

    pub fn world(&self) -> &World {
        self.world.as_ref().unwrap()
    }

    async fn restart(&mut self) {
        drop(self.world.take());
        let store = Box::new(Sqlite::open(&self.directory).unwrap());
        self.world = Some(World::over(store, Arc::clone(&self.hands), self.snapshot_every).await);
    }

    /// Closes the ledger; what was read of it stays.
    pub fn close(mut self) -> Self {
        self.world = None;
        self
    }

    /// What this ledger says of every whole is what the book says.
    pub fn agrees(&self, world: &World) {
        world.ledger.view(|view| {
            for whole in self.book.wholes() {
                assert_eq!(sum(view.figures(&whole)), self.book.figures(&whole), "{whole:?}");
            }
        });
    }

    /// Reads what was recorded, and counts again.
    async fn look(&mut self) {
        // Changes nothing, and is answered after a snapshot that was due.
        self.world().set_agent(AGENTS[0].0, AgentStatus::Active).await;
        for (seq, entry, _) in self.world().ledger.entries(self.read, u32::MAX).unwrap() {
            self.book.read(&entry);
            self.read = seq;
        }
        self.agrees(self.world());
    }

    fn tally(&mut self, what: &'static str) {
        *self.book.counts.entry(what).or_default() += 1;
    }

    pub async fn step(&mut self, step: &Step) {
        match step[0] {
            0..16 => self.task(step).await,
            16..70 => self.request(step).await,
            70..130 => self.delegate(step).await,
            130..172 => self.decide(step).await,
            172..196 => self.change(step).await,
            196..202 => self.cut(step).await,
            202..226 => self.turn(step),
            226..236 => self.restart().await,
            236..242 => {
                let map = &MAPS[usize::from(step[1]) % MAPS.len()];
                self.world().apply_catalog(&map.toml()).await;
            }
            242..248 => self.world().apply_policies(set(usize::from(step[1]) % atlas::POLICIES)).await,
            _ => self.request(step).await,
        }
        self.look().await;
    }

    fn turn(&self, step: &Step) {
        let seconds = match step[1] % 8 {
            0..4 => i64::from(step[2] % 10),
            4..7 => i64::from(step[2]),
            _ => i64::from(step[2]) * 20,
        };
        // Certificates of a day outlast the longest history.
        if self.hands_at() + seconds * 1000 < NOW + 20 * 3_600_000 {
            self.hands.turn(Span::millis(seconds * 1000 + i64::from(step[3])));
        }
    }

    fn hands_at(&self) -> i64 {
        self.world().ledger.now().millis()
    }

    async fn task(&mut self, step: &Step) {
        let agent = usize::from(step[1]) % AGENTS.len();
        let subject = SUBJECTS[usize::from(step[2]) % SUBJECTS.len()];
        let beforehand = step[3].is_multiple_of(2).then(|| pick(step, 5));
        let envelope = beforehand.as_ref().map(|pieces| (scopes(pieces), Span::minutes(20)));
        let command = StartTask {
            purpose: "testing".parse().unwrap(),
            subject: subject.map(|subject| subject.parse().unwrap()),
            ttl: Span::seconds(900 + i64::from(step[4]) * 60),
            envelope,
        };
        match self.world().submit(&self.agents[agent], command).await {
            Ok(started) => {
                self.tasks.push((started.task.id, agent));
                beforehand.into_iter().for_each(|pieces| drop(self.envelopes.insert(started.task.id, pieces)));
            }
            Err(error) => self.refused(&error),
        }
    }

    async fn request(&mut self, step: &Step) {
        let Some((task, agent)) = recent(&self.tasks, step[1]) else { return };
        let beforehand = self.envelopes.get(&task).filter(|_| !step[5].is_multiple_of(3));
        let asked = beforehand.map_or_else(|| pick(step, 3), |pieces| vec![pieces[0]]);
        let command = RequestGrant {
            task,
            scopes: scopes(&asked),
            // Whoever takes it cannot be told of a cut: an exposure is met by living no longer.
            audience: Some("https://elsewhere.example".parse().unwrap()),
            ttl: Span::seconds(30 + i64::from(step[6]) * 8),
            limits: limits(step[7]),
            narrow: step[7].is_multiple_of(4),
            token: step[7].is_multiple_of(3),
        };
        let granted = self.world().submit(&self.agents[agent], command).await;
        self.granted(granted, agent, &asked);
    }

    async fn delegate(&mut self, step: &Step) {
        let Some((parent, by)) = self.choose(step[1]) else { return };
        let to = usize::from(step[2]) % AGENTS.len();
        let allowed = self.world().ledger.view(|view| view.grant(parent).map(|grant| self.book.calls(&grant.scopes)));
        // Mostly something that may be had, if there is anything.
        let ceiling = |calls: &BTreeSet<usize>| AGENTS[to].2.is_empty() || calls.is_subset(&atlas::calls(AGENTS[to].2));
        let fits = |at: &usize| {
            let calls = atlas::calls(&[*at]);
            allowed.as_ref().is_some_and(|allowed| calls.is_subset(allowed)) && ceiling(&calls)
        };
        let fitting: Vec<usize> = (0..PIECES.len()).filter(fits).collect();
        let asked = match usize::from(step[3]).checked_rem(fitting.len()) {
            Some(at) if !step[4].is_multiple_of(3) => vec![fitting[at]],
            _ => pick(step, 3),
        };
        let command = Delegate {
            parent,
            to: AGENTS[to].0.parse().unwrap(),
            scopes: scopes(&asked),
            audience: None,
            ttl: Span::seconds(30 + i64::from(step[6]) * 8),
            own: step[7] % 3 == 1,
            limits: limits(step[7]),
            narrow: step[7].is_multiple_of(2),
        };
        let granted = self.world().submit(&self.agents[by], command).await;
        self.granted(granted, to, &asked);
    }

    fn granted(&mut self, granted: Result<Granted, Error>, holder: usize, asked: &[usize]) {
        match granted {
            Ok(granted) => {
                let (allowed, wished) = (self.book.calls(&granted.grant.scopes), atlas::calls(asked));
                assert!(allowed.is_subset(&wished), "more than was asked for: {granted:?}");
                if !granted.narrowed.is_empty() {
                    self.tally("narrowed");
                }
                self.grants.push((granted.grant.id, holder));
            }
            Err(error) => self.refused(&error),
        }
    }

    fn refused(&mut self, error: &Error) {
        self.tally(error.reason);
    }

    async fn decide(&mut self, step: &Step) {
        let now = self.world().ledger.now();
        let mut open: Vec<(ApprovalId, Digest)> = self.world().ledger.view(|view| {
            let open = view.approvals().filter(|one| now < one.expires_at && one.denied.is_none());
            open.map(|one| (one.id, one.digest)).collect()
        });
        open.sort();
        let Some((id, digest)) = recent(&open, step[1]) else { return };
        let by = &self.humans[usize::from(step[2]) % self.humans.len()];
        let reason = "testing".parse().unwrap();
        let refused = if step[3] < 20 {
            self.world().submit(by, Deny { id, reason }).await.err()
        } else {
            // Less than was asked for, as far as the pool has it; or whatever.
            let asked = self.world().ledger.view(|view| self.book.calls(&view.approval(&id).unwrap().scopes));
            let within = |at: &usize| atlas::calls(&[*at]).is_subset(&asked);
            let less: Vec<usize> = (0..PIECES.len()).filter(within).collect();
            let scopes = match step[4] % 6 {
                0 => Some(scopes(&pick(step, 5))),
                1 | 2 => usize::from(step[5]).checked_rem(less.len()).map(|at| scopes(&[less[at]])),
                _ => None,
            };
            let ttl = step[7].is_multiple_of(3).then(|| Span::seconds(20 + i64::from(step[7])));
            self.world().submit(by, Approve { id, digest, reason, scopes, ttl }).await.err()
        };
        if let Some(error) = refused {
            self.refused(&error);
        }
    }

    /// Renews, gives back, halts, resumes, or takes a token.
    async fn change(&mut self, step: &Step) {
        let Some((id, by)) = self.choose(step[1]) else { return };
        let (by, reason) = (&self.agents[by], "testing".parse().unwrap());
        let set = |status| SetGrantStatus { id, status, reason };
        let refused = match step[2] % 8 {
            0..3 => {
                let ttl = Span::seconds(60 + i64::from(step[3]) * 10);
                self.world().submit(by, RenewGrant { id, ttl }).await.err()
            }
            3..5 => self.world().submit(by, set(Status::Completed)).await.err(),
            5 => self.world().submit(&Caller::Broker, set(Status::Suspended)).await.err(),
            6 => self.world().submit(&Caller::Broker, set(Status::Active)).await.err(),
            _ => {
                let now = self.world().ledger.now();
                let stands = self.world().ledger.view(|view| view.standing(id, now).map(|standing| standing.state));
                let issued = self.world().submit(by, IssueToken { grant: id, audience: None }).await;
                assert!(issued.is_err() || stands == Some(GrantState::Active), "a token under what is {stands:?}");
                issued.err()
            }
        };
        if let Some(error) = refused {
            self.refused(&error);
        }
    }

    /// Mostly a grant that is live, if there is one.
    fn choose(&self, number: u8) -> Option<(GrantId, usize)> {
        let now = self.world().ledger.now();
        let live: Vec<(GrantId, usize)> = self.world().ledger.view(|view| {
            let live = |id| view.standing(id, now).is_some_and(|standing| standing.state == GrantState::Active);
            self.grants.iter().filter(|(id, _)| live(*id)).copied().collect()
        });
        recent(&live, number).filter(|_| !number.is_multiple_of(8)).or_else(|| recent(&self.grants, number))
    }

    async fn cut(&mut self, step: &Step) {
        let task =
            recent(&self.tasks, step[1]).map(|(task, _)| Target::Task(task)).filter(|_| step[2].is_multiple_of(16));
        let grant = recent(&self.grants, step[1]).map(|(grant, _)| Target::Grant(grant));
        let Some(target) = task.or(grant) else { return };
        let command = Revoke { target, reason: "testing".parse().unwrap(), dry_run: false };
        self.world().submit(&Caller::Broker, command).await.unwrap();
    }
}

/// One or two of the pool: the step's numbers from `at` on say which.
fn pick(step: &Step, at: usize) -> Vec<usize> {
    let one = usize::from(step[at]) % PIECES.len();
    let two = usize::from(step[at + 1]) % (3 * PIECES.len());
    if two < PIECES.len() && two != one { vec![one, two] } else { vec![one] }
}

fn scopes(pieces: &[usize]) -> Scopes {
    Scopes::parse(&pieces.iter().map(|at| atlas::text(&PIECES[*at])).collect::<Vec<_>>()).unwrap()
}

fn limits(number: u8) -> Limits {
    let limits: &[&str] = match number % 9 {
        0 => &["max_depth=2"],
        1 => &["max_exposure=400000"],
        2 => &["max_depth=4", "max_exposure=900000"],
        _ => &[],
    };
    Limits::parse(limits).unwrap()
}

/// Mostly one of the last few: what is over has little left to say.
fn recent<T: Copy>(all: &[T], number: u8) -> Option<T> {
    let number = usize::from(number);
    let few = if number.is_multiple_of(5) { all } else { &all[all.len().saturating_sub(6)..] };
    few.get(number.checked_rem(few.len())?).copied()
}
