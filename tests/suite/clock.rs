//! `the_clock_may_step_back`: nothing expired comes back, and stepping forward expires nobody else. Each test sets
//! the wall clock and lets time pass, and asks what lives, what is refused, and how the log is dated.

use belay::domain::cut::Target;
use belay::domain::decide::{Caller, RequestGrant, Revoke};
use belay::domain::entropy::Entropy;
use belay::domain::error::Code;
use belay::domain::grant::Grant;
use belay::domain::id::GrantId;
use belay::domain::scope::Scopes;
use belay::domain::time::{Span, Timestamp};
use proptest::prelude::{Strategy, prop_oneof};
use proptest::test_runner::TestCaseResult;

use crate::support::office::Office;
use crate::support::process::Broker;
use crate::support::property::check;
use crate::support::world::{Hands, NOW, World, store};
use crate::support::{block_on, compile, needs};

const SECOND: i64 = 1000;
const HOUR: i64 = 3600 * SECOND;
const YEARS: i64 = 10 * 365 * 24 * HOUR;

/// A task, and grants of different lives below it.
struct Scene {
    world: World,
    planner: Caller,
    task: belay::domain::id::TaskId,
    _directory: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let world = World::open(directory.path(), Hands::new()).await;
        let planner = world.agent("planner").await;
        let task = world.task_of(&planner, Span::hours(24 * 7)).await.id;
        Self { world, planner, task, _directory: directory }
    }

    async fn ask(&self, ttl: Span) -> Result<Grant, belay::domain::error::Error> {
        let scopes = Scopes::parse(&["db:read@**"]).unwrap();
        let command = RequestGrant {
            task: self.task,
            scopes,
            audience: None,
            ttl,
            token: false,
            limits: Default::default(),
            narrow: false,
        };
        self.world.submit(&self.planner, command).await.map(|granted| granted.grant)
    }

    async fn grant(&self, ttl: Span) -> Grant {
        self.ask(ttl).await.unwrap()
    }

    /// That nothing is granted, for this reason, while a revoke passes.
    async fn only_revokes(&self, reason: &str) {
        let refused = self.ask(Span::minutes(1)).await.unwrap_err();
        assert_eq!((refused.code, refused.reason), (Code::Unavailable, reason), "{refused}");
        assert!(!self.world.ledger.is_ready());
        assert_eq!(self.world.ledger.check_ready().unwrap_err().reason, reason);
        let unknown = GrantId::mint(self.world.ledger.now(), &mut Entropy::from_seed(self.world.ledger.seed()));
        let reason = "testing".parse().unwrap();
        let command = Revoke { target: Target::Grant(unknown), reason, dry_run: false };
        self.world.submit(&Caller::Broker, command).await.unwrap();
    }

    async fn revoke(&self, grant: GrantId) {
        let command = Revoke { target: Target::Grant(grant), reason: "testing".parse().unwrap(), dry_run: false };
        self.world.submit(&self.planner, command).await.unwrap();
        assert_eq!(self.world.state(grant), Some("revoked"));
    }

    fn is_live(&self, grant: &Grant) -> bool {
        self.world.state(grant.id) == Some("active")
    }

    fn step(&self, millis: i64) {
        self.world.hands.step(millis);
    }

    fn pass(&self, millis: i64) {
        self.world.hands.turn(Span::millis(millis));
    }

    /// Looks, lets ten seconds pass, and looks again: what the clocks agree on is believed now.
    fn settle(&self) {
        self.world.ledger.now();
        self.pass(10 * SECOND);
        self.world.ledger.now();
    }

    /// How the last entry is dated.
    fn dated(&self) -> Timestamp {
        let head = self.world.ledger.checkpoint().0;
        self.world.ledger.entries(head - 1, 1).unwrap()[0].1.at
    }
}

fn after(millis: i64) -> Timestamp {
    Timestamp::from_millis(NOW + millis)
}

#[tokio::test]
async fn the_clock_may_step_back_and_forth_by_a_second_and_nobody_is_refused() {
    for step in [-SECOND, SECOND] {
        let scene = Scene::new().await;
        let (short, long) = (scene.grant(Span::seconds(60)).await, scene.grant(Span::seconds(65)).await);
        scene.pass(60 * SECOND);
        assert_eq!((scene.is_live(&short), scene.is_live(&long)), (false, true));
        scene.step(step);
        assert!(scene.world.ledger.is_ready());
        assert_eq!((scene.is_live(&short), scene.is_live(&long)), (false, true), "{step}");
        let next = scene.grant(Span::seconds(60)).await;
        assert_eq!(scene.dated(), after(60 * SECOND + step.max(0)));
        assert_eq!(next.expires_at, after(120 * SECOND + step.max(0)));
    }
}

#[tokio::test]
async fn the_clock_may_step_back_by_an_hour_and_nothing_expired_comes_back() {
    let scene = Scene::new().await;
    let (short, long) = (scene.grant(Span::minutes(1)).await, scene.grant(Span::minutes(15)).await);
    scene.pass(2 * 60 * SECOND);
    assert_eq!((scene.is_live(&short), scene.is_live(&long)), (false, true));
    scene.step(-HOUR);
    scene.only_revokes("clock_jumped").await;
    // Time goes on meanwhile, by the boot clock.
    scene.pass(5 * SECOND);
    assert!(scene.is_live(&long));
    scene.revoke(long.id).await;
    assert_eq!(scene.dated(), after(125 * SECOND));

    scene.pass(5 * SECOND);
    // Believed: the log is ahead of the clock now, and nothing is granted until it has caught up.
    scene.only_revokes("clock_behind").await;
    assert!(!scene.is_live(&short));
    scene.pass(HOUR - 7 * SECOND);
    assert!(scene.world.ledger.is_ready());
    assert!(!scene.is_live(&short));
    scene.grant(Span::minutes(1)).await;
}

#[tokio::test]
async fn the_clock_may_step_back_though_nothing_was_logged_since() {
    let scene = Scene::new().await;
    let short = scene.grant(Span::minutes(1)).await;
    scene.pass(2 * 60 * SECOND);
    assert!(!scene.is_live(&short), "somebody was told so, and the log does not know it");
    scene.step(-90 * SECOND);
    scene.settle();
    assert!(!scene.is_live(&short), "what was told to be over has come back");
    scene.only_revokes("clock_behind").await;
}

#[tokio::test]
async fn the_clock_may_step_back_stepping_forward_an_hour_expires_nobody_until_it_is_believed() {
    let scene = Scene::new().await;
    let (due, lives) = (scene.grant(Span::minutes(30)).await, scene.grant(Span::minutes(90)).await);
    scene.step(HOUR);
    scene.only_revokes("clock_jumped").await;
    assert!(scene.is_live(&due) && scene.is_live(&lives));
    scene.pass(9_999);
    scene.only_revokes("clock_jumped").await;
    assert!(scene.is_live(&due) && scene.is_live(&lives));
    assert!(scene.dated() < after(10 * SECOND), "the log is dated by a clock that is not believed");

    scene.pass(1);
    assert!(scene.world.ledger.is_ready());
    assert_eq!((scene.is_live(&due), scene.is_live(&lives)), (false, true), "what was due is over, and nobody else");
    scene.grant(Span::minutes(1)).await;
    assert_eq!(scene.dated(), after(HOUR + 10 * SECOND));
}

#[tokio::test]
async fn the_clock_may_step_back_from_ten_years_ahead_which_are_never_believed() {
    let scene = Scene::new().await;
    let grant = scene.grant(Span::minutes(15)).await;
    for step in [YEARS, -2 * YEARS] {
        scene.step(step);
        for _ in 0..6 {
            scene.pass(60 * SECOND);
            scene.only_revokes("clock_jumped").await;
            assert!(scene.is_live(&grant));
        }
    }
    let why = scene.world.ledger.check_ready().unwrap_err().message;
    assert!(why.contains("back by 87600h") && why.contains("restart the broker"), "{why}");
    // Somebody set it right.
    scene.step(YEARS);
    scene.only_revokes("clock_jumped").await;
    scene.settle();
    assert!(scene.world.ledger.is_ready() && scene.is_live(&grant));
    scene.pass(3 * 60 * SECOND);
    assert!(!scene.is_live(&grant), "its fifteen minutes are over");
    scene.grant(Span::minutes(1)).await;
    assert_eq!(scene.dated(), after(15 * 60 * SECOND + 10 * SECOND));
}

#[tokio::test]
async fn the_clock_may_step_back_but_a_suspend_of_six_hours_is_no_jump() {
    let scene = Scene::new().await;
    let (over, lives) = (scene.grant(Span::hours(6)).await, scene.grant(Span::hours(7)).await);
    scene.pass(6 * HOUR);
    assert!(scene.world.ledger.is_ready());
    assert_eq!((scene.is_live(&over), scene.is_live(&lives)), (false, true));
    scene.grant(Span::minutes(1)).await;
    assert_eq!(scene.dated(), after(6 * HOUR));
}

#[tokio::test]
async fn the_clock_may_step_back_and_forth_within_ten_seconds() {
    let scene = Scene::new().await;
    let grant = scene.grant(Span::minutes(2)).await;
    for _ in 0..6 {
        for step in [HOUR, -HOUR] {
            scene.step(step);
            scene.pass(6 * SECOND);
            // Each step begins the ten seconds anew.
            scene.only_revokes("clock_jumped").await;
            assert!(scene.is_live(&grant));
        }
    }
    scene.settle();
    assert!(scene.world.ledger.is_ready() && scene.is_live(&grant));
    scene.grant(Span::minutes(1)).await;
    assert_eq!(scene.dated(), after(82 * SECOND));
    scene.pass(38 * SECOND);
    assert!(!scene.is_live(&grant));
}

#[tokio::test]
async fn the_clock_may_step_back_in_many_small_steps_which_are_a_jump_together() {
    for step in [-900, 900] {
        let scene = Scene::new().await;
        let mut steps = 0;
        while scene.world.ledger.is_ready() {
            scene.pass(SECOND);
            scene.step(step);
            steps += 1;
            assert!(steps < 10, "the clock goes wrong by {step} ms each second, and nobody minds");
        }
        scene.only_revokes("clock_jumped").await;
        // A clock that is slewed, by half a per cent, is followed however far it has to go.
        let scene = Scene::new().await;
        for _ in 0..600 {
            scene.pass(10 * SECOND);
            scene.step(step / 18);
            assert!(scene.world.ledger.is_ready());
        }
        assert_eq!(scene.world.ledger.now(), after(6000 * SECOND + 600 * (step / 18)));
    }
}

#[tokio::test]
async fn the_clock_may_step_back_a_little_now_and_then_however_often_it_is_looked_at() {
    let scene = Scene::new().await;
    for step in [1500, 1500, -1500, -1500, -1500] {
        scene.step(step);
        for _ in 0..20_000 {
            scene.pass(1);
            assert!(scene.world.ledger.is_ready(), "{:?}", scene.world.ledger.check_ready());
        }
    }
}

#[tokio::test]
async fn the_clock_may_step_back_and_calls_are_denied_until_it_is_believed() {
    let directory = tempfile::tempdir().unwrap();
    let office = Office::open(Box::new(store(directory.path())), directory.path()).await;
    let planner = office.world.agent("planner").await;
    let task = office.world.task(&planner).await;
    let grant = office.world.grant(&planner, task.id, &["db:read@**"]).await.unwrap();
    let token = office.token(&planner, grant.id).await;
    let allowed = || office.read(&planner, &token, "orders").verdict.allowed;
    assert!(allowed());
    for step in [HOUR, -HOUR, YEARS, -YEARS] {
        office.world.hands.step(step);
        let denied = office.read(&planner, &token, "orders").verdict;
        assert!(!denied.allowed && denied.reasons[0].message.contains("the clock jumped"), "{denied:?}");
        office.world.hands.step(-step);
        assert!(!allowed(), "it went back, and ten seconds are not over");
        office.world.hands.turn(Span::seconds(10));
        assert!(allowed());
    }
}

#[tokio::test]
async fn behind_the_log_only_what_ends_or_halts_passes() {
    let directory = tempfile::tempdir().unwrap();
    let (planner, task, grant) = {
        let world = World::open(directory.path(), Hands::new()).await;
        let planner = world.agent("planner").await;
        let task = world.task(&planner).await;
        let grant = world.grant(&planner, task.id, &["db:read@**"]).await.unwrap();
        // One batch in the future, and a start with the clock set right: the log stays there.
        world.hands.turn(Span::minutes(10));
        world.agent("coder").await;
        (planner, task, grant)
    };
    let world = World::open(directory.path(), Hands::new()).await;
    assert!(!world.ledger.is_ready());
    let refused = world.grant(&planner, task.id, &["db:read@**"]).await.unwrap_err();
    assert_eq!((refused.code, refused.reason), (Code::Unavailable, "clock_behind"));
    assert!(refused.message.contains("10m behind the log"), "{refused}");
    let command = Revoke { target: Target::Grant(grant.id), reason: "testing".parse().unwrap(), dry_run: false };
    let revoked = world.submit(&planner, command).await.unwrap();
    assert_eq!(world.died(&revoked).total().grants, 1);
    assert_eq!(world.state(grant.id), Some("revoked"));

    // A second is what two clocks may differ by.
    world.hands.turn(Span::minutes(10).less(Span::seconds(1)));
    assert!(world.ledger.is_ready());
    world.grant(&planner, task.id, &["db:read@**"]).await.unwrap();
}

/// What may happen to clocks, and be asked of a broker.
#[derive(Clone, Debug)]
enum Move {
    Step(i64),
    Pass(i64),
    Grant(i64),
    Revoke(usize),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let step = prop_oneof![
        3 => -1_900..1_900_i64,
        3 => -120 * SECOND..120 * SECOND,
        2 => -30 * HOUR..30 * HOUR,
        1 => -YEARS..YEARS,
    ];
    let pass = prop_oneof![3 => 0..4 * SECOND, 3 => 10 * SECOND..15 * SECOND, 2 => 0..HOUR];
    let one = prop_oneof![
        2 => step.prop_map(Move::Step),
        4 => pass.prop_map(Move::Pass),
        3 => (SECOND..HOUR).prop_map(Move::Grant),
        1 => (0..20_usize).prop_map(Move::Revoke),
    ];
    proptest::collection::vec(one, 1..60)
}

/// A grant, and what was last seen of it.
struct Held {
    grant: Grant,
    over: bool,
    /// What was left of it when the clock was last believed, and time since then.
    left: i64,
}

/// What a run of the property met, so that it cannot pass by meeting nothing.
#[derive(Debug, Default)]
struct Met {
    jumped: u32,
    behind: u32,
    lived_on: u32,
    expired: u32,
}

#[test]
fn the_clock_may_step_back_in_any_way_and_nothing_expired_comes_back() {
    let met = std::cell::RefCell::new(Met::default());
    check(60, &moves(), |moves| block_on(walk(&moves, &mut met.borrow_mut())));
    let met = met.into_inner();
    assert!(met.jumped > 50 && met.behind > 20 && met.lived_on > 20 && met.expired > 20, "{met:?}");
}

async fn walk(moves: &[Move], met: &mut Met) -> TestCaseResult {
    let scene = Scene::new().await;
    let mut held: Vec<Held> = Vec::new();
    let (mut dated, mut believed_at, mut since) = (scene.dated(), scene.world.ledger.now(), 0);
    for step in moves {
        match *step {
            Move::Step(millis) => scene.step(millis),
            Move::Pass(millis) => {
                scene.pass(millis);
                since += millis;
            }
            Move::Grant(ttl) => {
                let ready = scene.world.ledger.is_ready();
                let granted = scene.ask(Span::millis(ttl)).await;
                // A task is over only by a time that is believed.
                let task = granted.as_ref().is_err_and(|error| error.code != Code::Unavailable);
                assert!(granted.is_ok() == ready || task, "{granted:?}");
                held.extend(granted.map(|grant| Held { grant, over: false, left: ttl }));
            }
            Move::Revoke(index) => {
                if let Some(held) = held.get_mut(index).filter(|held| !held.over) {
                    let state = scene.world.state(held.grant.id);
                    if state == Some("active") {
                        scene.revoke(held.grant.id).await;
                        held.over = true;
                    }
                }
            }
        }
        let reason = scene.world.ledger.check_ready().err().map(|error| error.reason);
        let now = scene.world.ledger.now();
        let jumped = reason == Some("clock_jumped");
        for held in &mut held {
            let live = scene.is_live(&held.grant);
            assert!(!(live && held.over), "{} has come back after {step:?}", held.grant.id);
            if jumped && !held.over && since < held.left - 2 * SECOND {
                assert!(live, "{} expired by a clock that is not believed, by {step:?}", held.grant.id);
                met.lived_on += 1;
            }
            met.expired += u32::from(!live && !held.over);
            held.over = !live;
            if !jumped {
                held.left = held.grant.expires_at.since(now).as_millis();
            }
        }
        met.jumped += u32::from(jumped);
        met.behind += u32::from(reason == Some("clock_behind"));
        assert!(scene.dated() >= dated, "the log is dated back by {step:?}");
        dated = scene.dated();
        if jumped {
            assert!(now <= believed_at.plus(Span::millis(since + 2 * SECOND)), "time ran ahead by {step:?}");
        } else {
            (believed_at, since) = (now, 0);
        }
    }
    Ok(())
}

#[test]
fn the_clock_may_step_back_under_the_real_binary() {
    let found = std::process::Command::new("cc").arg("--version").output().is_ok();
    if !needs("the_clock_may_step_back_under_the_real_binary", "cc", found) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (library, hands) = (directory.path().join("stepclock.so"), directory.path().join("step"));
    compile("stepclock.c", &library);
    let set = |millis: i64| std::fs::write(&hands, millis.to_string()).unwrap();
    set(0);
    let env = [("LD_PRELOAD", library.to_str().unwrap()), ("STEPCLOCK", hands.to_str().unwrap())];
    let broker = Broker::start_in(directory.path(), &env);
    let planner = broker.agent("planner");
    let task = broker.run_as(&planner, &["task", "start", "testing"]).ok();
    let task = task["task"]["id"].as_str().unwrap();
    let request = ["grant", "request", "--task", task, "--scope", "db:read@**"];
    let ask = || broker.run_as(&planner, &request);
    let granted = ask().ok();
    let grant = granted["grant"]["id"].as_str().unwrap();
    let token = broker.run_as(&planner, &["token", "issue", "--grant", grant]).ok();
    let token = token["token"].as_str().unwrap();
    let call = ["authorize", "--token", token, "--tool", "db", "--action", "read", "--resource", "orders"];
    assert_eq!(broker.run_as(&planner, &call).code, 0);

    // By ten years, every certificate is over or not yet valid: who knows the time gets through all the same.
    for step in [HOUR, -HOUR, YEARS, -YEARS] {
        set(step);
        let refused = ask().err(7);
        assert_eq!(refused["detail"]["reason"], "clock_jumped", "{refused}");
        assert_eq!(broker.run_as(&planner, &call).code, 3, "a call was allowed by {step}");
        assert_eq!(broker.run(&["status"]).code, 1, "it is not ready");
    }
    broker.run(&["revoke", grant, "--reason", "testing"]).ok();
    set(0);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while broker.run(&["status"]).code == 1 {
        assert!(std::time::Instant::now() < deadline, "the clock is right, and not believed");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    ask().ok();
    assert_eq!(broker.run(&["grant", "show", grant]).ok()["grant"]["state"], "revoked");
    let log = std::fs::read_to_string(broker.home.join("serve.log")).unwrap();
    let told =
        (log.matches("\"message\":\"the clock jumped").count(), log.matches("the clock is believed again").count());
    assert_eq!(told, (1, 1), "{log}");
}
