//! What a verifier says offline is what the broker says, whatever happened.

use std::cell::Cell;
use std::time::{Duration, Instant};

use belay::domain::agent::AgentStatus;
use belay::domain::cut::Target;
use belay::domain::decide::{
    Caller, EndTask, IssueToken, RenewGrant, Revoke, SetAgentStatus, SetFreeze, SetGrantStatus, SetTaskStatus,
    StartTask, Thaw, presentable,
};
use belay::domain::digest::Digest;
use belay::domain::entropy::Entropy;
use belay::domain::feed::{Message, Part, Said, Signal, live, signal};
use belay::domain::grant::Status;
use belay::domain::id::{FreezeId, GrantId, TaskId, TokenId};
use belay::domain::key::Purpose;
use belay::domain::name::Audience;
use belay::domain::scope::Call;
use belay::domain::time::{Span, Timestamp};
use belay::verifier::{Answer, Verifier};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::support::block_on;
use crate::support::office::{Office, asked};
use crate::support::property;
use crate::support::world::{Hands, store};

const AGENTS: [&str; 4] = ["ana", "bob", "cat", "dan"];
const SUBJECTS: [Option<&str>; 3] = [None, Some("alice"), Some("carol")];

/// One step; its numbers choose among what there is by then.
#[derive(Clone, Debug)]
enum Step {
    Task { agent: u8, subject: u8 },
    Grant { task: u8, ttl: i64 },
    Delegate { grant: u8, to: u8 },
    Token { grant: u8 },
    Renew { grant: u8 },
    Grants { grant: u8, to: u8 },
    EndTask { task: u8 },
    Agent { agent: u8, to: u8 },
    Revoke { kind: u8, which: u8 },
    SuspendTask { task: u8, suspended: bool },
    Freeze { scope: u8 },
    Thaw { freeze: u8 },
    Taint,
    Turn { millis: i64 },
}

/// A chain of three with a token under each: what is cut has something below it.
fn begun() -> Vec<Step> {
    let mut steps = vec![Step::Task { agent: 0, subject: 1 }, Step::Grant { task: 0, ttl: 900_000 }];
    steps.extend((0..2).map(|grant| Step::Delegate { grant, to: grant + 1 }));
    steps.extend((0..3).map(|grant| Step::Token { grant }));
    steps
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let n = any::<u8>;
    let step = prop_oneof![
        3 => (n(), n()).prop_map(|(agent, subject)| Step::Task { agent, subject }),
        5 => (n(), 20_000..900_000_i64).prop_map(|(task, ttl)| Step::Grant { task, ttl }),
        12 => (n(), n()).prop_map(|(grant, to)| Step::Delegate { grant, to }),
        12 => n().prop_map(|grant| Step::Token { grant }),
        1 => n().prop_map(|grant| Step::Renew { grant }),
        3 => (n(), n()).prop_map(|(grant, to)| Step::Grants { grant, to }),
        1 => n().prop_map(|task| Step::EndTask { task }),
        2 => (n(), n()).prop_map(|(agent, to)| Step::Agent { agent, to }),
        3 => (n(), n()).prop_map(|(kind, which)| Step::Revoke { kind, which }),
        2 => (n(), any::<bool>()).prop_map(|(task, suspended)| Step::SuspendTask { task, suspended }),
        1 => n().prop_map(|scope| Step::Freeze { scope }),
        1 => n().prop_map(|freeze| Step::Thaw { freeze }),
        1 => Just(Step::Taint),
        2 => (100..200_000_i64).prop_map(|millis| Step::Turn { millis }),
    ];
    proptest::collection::vec(step, 10..50)
}

impl Office {
    /// What the broker says of a token over a connection of its holder.
    fn says(&self, holder: &Caller, token: &str) -> &'static str {
        let now = self.world.ledger.now();
        let shown = self.world.ledger.view(|view| presentable(&view, holder.presenter().unwrap(), now));
        match shown {
            Err(error) => error.reason,
            Ok(()) => self.broker.check(&asked(holder), token).refusal.map_or("valid", |(reason, _)| reason),
        }
    }
}

struct Scene {
    office: Office,
    agents: Vec<Caller>,
    tasks: Vec<(TaskId, usize)>,
    grants: Vec<(GrantId, usize)>,
    tokens: Vec<(TokenId, GrantId, String, usize)>,
    freezes: Vec<FreezeId>,
    taints: usize,
    _directory: tempfile::TempDir,
}

fn pick<T: Copy>(of: &[T], which: u8) -> Option<T> {
    of.get(usize::from(which) % of.len().max(1)).copied()
}

impl Scene {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let office = Office::at(Box::new(store(directory.path())), directory.path(), Hands::new(), 1_000_000).await;
        let mut agents = Vec::new();
        for name in AGENTS {
            agents.push(office.world.agent(name).await);
        }
        let (tasks, grants, tokens) = (Vec::new(), Vec::new(), Vec::new());
        Self { office, agents, tasks, grants, tokens, freezes: Vec::new(), taints: 0, _directory: directory }
    }

    /// Does a step, as far as it may be done.
    async fn take(&mut self, step: Step) {
        let world = &self.office.world;
        let boss = Caller::Broker;
        let reason = || "testing".parse().unwrap();
        match step {
            Step::Task { agent, subject } => {
                let agent = usize::from(agent) % AGENTS.len();
                let subject = pick(&SUBJECTS, subject).flatten().map(|subject| subject.parse().unwrap());
                let ttl = Span::hours(1);
                let command = StartTask { purpose: "testing".parse().unwrap(), subject, ttl, envelope: None };
                let started = world.submit(&self.agents[agent], command).await;
                self.tasks.extend(started.map(|started| (started.task.id, agent)));
            }
            Step::Grant { task, ttl } => {
                let Some((task, agent)) = pick(&self.tasks, task) else { return };
                let command = belay::domain::decide::RequestGrant {
                    task,
                    scopes: belay::domain::scope::Scopes::parse(&["db:read@**"]).unwrap(),
                    audience: None,
                    ttl: Span::millis(ttl),
                    token: false,
                    limits: Default::default(),
                    narrow: false,
                };
                let granted = world.submit(&self.agents[agent], command).await;
                self.grants.extend(granted.map(|granted| (granted.grant.id, agent)));
            }
            Step::Delegate { grant, to } => {
                let Some((grant, agent)) = pick(&self.grants, grant) else { return };
                let to = usize::from(to) % AGENTS.len();
                let granted = world.delegate(&self.agents[agent], grant, AGENTS[to], &["db:read@**"]).await;
                self.grants.extend(granted.map(|grant| (grant.id, to)));
            }
            Step::Token { grant } => {
                let Some((grant, agent)) = pick(&self.grants, grant) else { return };
                let issued = world.submit(&self.agents[agent], IssueToken { grant, audience: None }).await;
                if let Ok(answer) = issued {
                    let signed = self.office.broker.sign_token(answer).unwrap();
                    self.tokens.push((signed.id, grant, signed.token, agent));
                }
            }
            Step::Renew { grant } => {
                let Some((id, agent)) = pick(&self.grants, grant) else { return };
                let _ = world.submit(&self.agents[agent], RenewGrant { id, ttl: Span::minutes(20) }).await;
            }
            Step::Grants { grant, to } => {
                let Some((id, agent)) = pick(&self.grants, grant) else { return };
                let status = [Status::Suspended, Status::Active, Status::Suspended, Status::Active, Status::Completed];
                let status = pick(&status, to).unwrap();
                let by = if status == Status::Completed { &self.agents[agent] } else { &boss };
                let _ = world.submit(by, SetGrantStatus { id, status, reason: reason() }).await;
            }
            Step::EndTask { task } => {
                let Some((id, _)) = pick(&self.tasks, task) else { return };
                let _ = world.submit(&boss, EndTask { id, reason: reason() }).await;
            }
            Step::Agent { agent, to } => {
                let name = pick(&AGENTS, agent).unwrap().parse().unwrap();
                let status = match to % 16 {
                    0..=4 => AgentStatus::Suspended,
                    5..=14 => AgentStatus::Active,
                    _ => AgentStatus::Retired,
                };
                let _ = world.submit(&boss, SetAgentStatus { name, status, reason: reason() }).await;
            }
            Step::Revoke { kind, which } => {
                let target = match kind % 15 {
                    0 => Some(Target::Agent(pick(&AGENTS, which).unwrap().parse().unwrap())),
                    1 => Some(Target::Owner(format!("owner-of-{}", pick(&AGENTS, which).unwrap()).parse().unwrap())),
                    2 => Some(Target::Subject("alice".parse().unwrap())),
                    3 => pick(&self.tasks, which).map(|(task, _)| Target::Task(task)),
                    // The first ones have the most below them.
                    14 => {
                        let presenter = self.agents[usize::from(which) % AGENTS.len()].presenter();
                        presenter.map(|presenter| Target::Certificate(presenter.certificate))
                    }
                    4..=10 => pick(&self.grants, which % 4).map(|(grant, _)| Target::Grant(grant)),
                    _ => {
                        let ids: Vec<TokenId> = self.tokens.iter().map(|(id, ..)| *id).collect();
                        pick(&ids, which).map(Target::Token)
                    }
                };
                let Some(target) = target else { return };
                let _ = world.submit(&boss, Revoke { target, reason: reason(), dry_run: false }).await;
            }
            Step::SuspendTask { task, suspended } => {
                let Some((id, _)) = pick(&self.tasks, task) else { return };
                let _ = world.submit(&boss, SetTaskStatus { id, suspended, reason: reason() }).await;
            }
            Step::Freeze { scope } => {
                let scope =
                    pick(&["db:*@**", "db:read@a/**", "db:write@**", "db:*@b"], scope).unwrap().parse().unwrap();
                let command = SetFreeze { scope, sensitivity: None, reason: reason() };
                self.freezes.push(world.submit(&boss, command).await.unwrap().id);
            }
            Step::Thaw { freeze } => {
                let Some(id) = pick(&self.freezes, freeze) else { return };
                let _ = world.submit(&boss, Thaw { id, reason: reason() }).await;
            }
            Step::Taint => {
                self.taints += 1;
                let broker = &self.office.broker;
                let kid = broker.accepted_keys(&[Purpose::Token])[0].kid.clone();
                broker.taint_key(&asked(&boss), kid, reason()).await.unwrap();
            }
            Step::Turn { millis } => world.hands.turn(Span::millis(millis)),
        }
    }
}

/// A verifier that was told all this, and is fresh.
struct Told {
    verifier: Verifier,
    upto: u64,
    last: u64,
}

impl Told {
    fn whole(office: &Office, seq: u64, signals: Vec<Signal>) -> Self {
        let origin = office.broker.origin().clone();
        let (issuer, epoch) = (origin.issuer, origin.epoch);
        let part = Part { issuer, epoch, staleness: Span::minutes(1), signals, first: true, last: true };
        let mut told = Self { verifier: Verifier::new(Duration::from_secs(60)), upto: seq, last: seq };
        told.say(seq, seq, Timestamp::from_millis(0), Said::State(part));
        told
    }

    fn say(&mut self, seq: u64, prev: u64, at: Timestamp, said: Said) {
        self.verifier.apply(Message { seq, prev, at, said }).unwrap();
    }

    /// The log, as the feed says it.
    fn follow(&mut self, office: &Office) {
        let ledger = &office.world.ledger;
        for (seq, entry, _) in ledger.entries(self.upto, 10_000).unwrap() {
            if let Some(signal) = ledger.view(|view| signal(&view, seq, &entry)) {
                self.say(seq, self.last, entry.at, Said::Signal(signal));
                self.last = seq;
            }
            self.upto = seq;
        }
        self.say(self.upto, self.last, ledger.now(), Said::Heartbeat);
    }

    fn refresh(&mut self) {
        self.verifier.beat(b"n".to_vec(), Duration::ZERO);
        self.say(self.upto, self.last, Timestamp::from_millis(0), Said::Echo(b"n".to_vec()));
    }

    /// The freeze that stops a call by a token that is good.
    fn stops(&mut self, office: &Office, token: &str, holder: &Caller, call: &Call) -> Option<&'static str> {
        let audience: Audience = office.broker.origin().issuer.clone();
        let thumbprint: Digest = holder.presenter().unwrap().thumbprint;
        let now = office.world.ledger.now();
        match self.verifier.check(token, &audience, Some(&thumbprint), now, Duration::ZERO) {
            Answer::Valid(claims) => self.verifier.allows(&claims, call).err().map(|error| error.reason),
            _ => None,
        }
    }

    fn says(&mut self, office: &Office, token: &str, holder: &Caller) -> &'static str {
        self.refresh();
        let audience: Audience = office.broker.origin().issuer.clone();
        let thumbprint: Digest = holder.presenter().unwrap().thumbprint;
        let now = office.world.ledger.now();
        match self.verifier.check(token, &audience, Some(&thumbprint), now, Duration::ZERO) {
            Answer::Valid(_) => "valid",
            Answer::Invalid(error) => error.reason,
            Answer::Unavailable(error) => panic!("{error}"),
        }
    }
}

/// Both ways to be told come to the same, and to what the broker says: when it denies, nobody says valid; when it allows,
/// everybody does.
#[test]
fn an_offline_verifier_agrees_with_the_broker() {
    let (valid, over, above) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let (suspended, unbound, frozen, other_words) = (Cell::new(0), Cell::new(0), Cell::new(0), Cell::new(0));
    let more = |count: &Cell<u64>| count.set(count.get() + 1);
    let holds = |history| {
        block_on(async {
            let mut scene = Scene::new().await;
            let mut follower = Told::whole(&scene.office, 0, Vec::new());
            for step in begun().into_iter().chain(history) {
                let shown = format!("{step:?}");
                scene.take(step).await;
                follower.follow(&scene.office);
                let (head, now) = (scene.office.world.ledger.checkpoint().0, scene.office.world.ledger.now());
                let signals = scene.office.world.ledger.view(|view| live(&view, now));
                let mut newcomer = Told::whole(&scene.office, head, signals);
                for (id, grant, token, holder) in &scene.tokens {
                    let holder = &scene.agents[*holder];
                    let broker = scene.office.says(holder, token);
                    let (one, other) =
                        (follower.says(&scene.office, token, holder), newcomer.says(&scene.office, token, holder));
                    let agree = [one, other].iter().all(|said| (*said == "valid") == (broker == "valid"));
                    if !agree {
                        return Err(TestCaseError::fail(format!("{shown}: {id}: {broker}, {one}, {other}")));
                    }
                    more(if broker == "valid" { &valid } else { &over });
                    more(match broker {
                        "task_suspended" => &suspended,
                        "certificate_revoked" => &unbound,
                        _ => &other_words,
                    });
                    for call in ["a/b", "b", "c"].map(|resource| Call::parse("db", "read", resource).unwrap()) {
                        let stopped =
                            scene.office.world.ledger.view(|view| {
                                view.freezes().any(|freeze| freeze.scope.allows(&call)).then_some("frozen")
                            });
                        let stopped = stopped.filter(|_| broker == "valid");
                        for told in [&mut follower, &mut newcomer] {
                            let said = told.stops(&scene.office, token, holder, &call);
                            if said != stopped {
                                return Err(TestCaseError::fail(format!(
                                    "{shown}: {id}: {call}: {stopped:?}, {said:?}"
                                )));
                            }
                        }
                        more(if stopped.is_some() { &frozen } else { &other_words });
                    }
                    let own = scene.office.world.ledger.view(|view| view.cut(&Target::Grant(*grant)).is_some());
                    if broker == "grant_revoked" && !own {
                        more(&above);
                    }
                }
            }
            Ok(())
        })
    };
    // Until everything that there is to agree about came up: histories are drawn by lot.
    let rare = || [suspended.get(), unbound.get(), frozen.get()].contains(&0);
    for _ in 0..5 {
        property::check(40, &steps(), holds);
        if !rare() {
            break;
        }
    }
    let (valid, over, above) = (valid.get(), over.get(), above.get());
    println!("{valid} were good, {over} were not, {above} by a cut above");
    let (suspended, unbound, frozen) = (suspended.get(), unbound.get(), frozen.get());
    println!("{suspended} by a suspended task, {unbound} by a cut identity; {frozen} calls were frozen");
    assert!(suspended > 0 && unbound > 0 && frozen > 0);
    assert!(valid > 100 && over > 100 && above > 20, "{valid} were good, {over} were not, {above} by a cut above");
}

/// The time of one look at a token whose signature was seen, and of the first look.
fn timed(told: &mut Told, office: &Office, token: &str, holder: &Caller) -> (Duration, Duration) {
    const LOOKS: u32 = 2000;
    told.refresh();
    let audience = office.broker.origin().issuer.clone();
    let thumbprint = holder.presenter().unwrap().thumbprint;
    let now = office.world.ledger.now();
    let look = || {
        let answer = told.verifier.check(token, &audience, Some(&thumbprint), now, Duration::ZERO);
        assert!(matches!(answer, Answer::Valid(_)), "{answer:?}");
    };
    let since = Instant::now();
    look();
    let first = since.elapsed();
    let rounds: Vec<Duration> = (0..9)
        .map(|_| {
            let since = Instant::now();
            (0..LOOKS).for_each(|_| look());
            since.elapsed() / LOOKS
        })
        .collect();
    (first, rounds.into_iter().min().unwrap())
}

/// A handful of looks, however deep the chain, and however much is cut elsewhere.
#[test]
fn a_deep_chain_is_checked_in_the_time_of_a_shallow_one() {
    block_on(async {
        let scene = Scene::new().await;
        let (office, ana) = (&scene.office, &scene.agents[0]);
        let task = office.world.task(ana).await;
        let root = office.world.grant(ana, task.id, &["db:read@**"]).await.unwrap();
        let mut deepest = root.id;
        for _ in 1..belay::domain::MAX_CHAIN {
            deepest = office.world.delegate(ana, deepest, "ana", &["db:read@**"]).await.unwrap().id;
        }
        let (shallow, deep) = (office.token(ana, root.id).await, office.token(ana, deepest).await);
        let mut told = Told::whole(office, 0, Vec::new());
        told.follow(office);
        let (now, mut entropy) = (office.world.ledger.now(), Entropy::from_seed([9; 32]));
        for _ in 0..20_000 {
            let target = Target::Grant(GrantId::mint(now, &mut entropy));
            told.upto += 1;
            let cut = Signal::Cut { target, seq: told.upto, until: now.plus(Span::hours(24)), thumbprint: None };
            told.say(told.upto, told.last, now, Said::Signal(cut));
            told.last = told.upto;
        }
        let ((first, one), (first_deep, sixteen)) =
            (timed(&mut told, office, &shallow, ana), timed(&mut told, office, &deep, ana));
        println!("depth 1: {one:.1?}, first {first:.1?}; depth 16: {sixteen:.1?}, first {first_deep:.1?}; 20,000 cuts");
        assert!(sixteen < one * 8, "{one:.1?} and {sixteen:.1?}");
        assert!(sixteen < Duration::from_micros(500), "{sixteen:.1?}");
    });
}
