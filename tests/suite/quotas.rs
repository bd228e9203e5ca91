//! Quotas, on the real broker: who asks too much is told when to come back, and nobody else notices.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use belay::cedar::Set;
use belay::client::Refusal;
use belay::wire::v1;
use belay::wire::v1::decisions_client::DecisionsClient;
use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::support::calls::Acting;
use crate::support::process::Broker;
use crate::support::production::Place;

const LOG: &str = "log = 'warn,belay::server=info'\n";

/// A production broker with these quotas, whose policies let agents have what they ask for.
struct Rig {
    place: Place,
    broker: Broker,
}

impl Rig {
    fn with(quotas: &str) -> Self {
        let place = Place::initialised("");
        place.configure(&format!("{LOG}[quotas]\n{quotas}"));
        let broker = Broker::start_production(place.home());
        let policies = place.at("policies");
        std::fs::create_dir(&policies).unwrap();
        for (name, text) in Set::dev().unwrap().files() {
            std::fs::write(policies.join(name), text).unwrap();
        }
        broker.run(&["policy", "apply", policies.to_str().unwrap()]).ok();
        Self { place, broker }
    }

    async fn agent(&self, name: &str) -> (PathBuf, Acting) {
        let directory = self.broker.enroll_agent(name).await;
        let acting = Acting::with(&self.broker, &directory).await;
        (directory, acting)
    }

    /// Puts other quotas in force.
    fn reload(&self, quotas: &str) {
        let said = || {
            let log = std::fs::read_to_string(self.place.at("serve.log")).unwrap();
            log.matches("the configuration was read again").count()
        };
        let before = said();
        self.place.configure(&format!("{LOG}[quotas]\n{quotas}"));
        kill_process(Pid::from_raw(self.broker.pid().cast_signed()).unwrap(), Signal::HUP).unwrap();
        assert!((0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            said() > before
        }));
    }

    async fn shed(&self, by: &str, limit: &str) -> u32 {
        // A page is up to a second old.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let (_, _, page) = self.broker.page("/metrics").await;
        let series = format!("belay_shed_total{{by=\"{by}\",limit=\"{limit}\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&series));
        line.unwrap_or_else(|| panic!("no {series}in {page}")).parse().unwrap()
    }
}

/// Asks for `db:read@orders` under this token, as whoever the certificate is of where one is said.
async fn ask(channel: &Channel, token: &str, presenter: &[u8]) -> Result<String, Status> {
    let [token, tool, action, resource] = [token, "db", "read", "orders"].map(str::to_owned);
    let request =
        v1::AuthorizeRequest { token, tool, action, resource, presenter: presenter.to_vec(), ..Default::default() };
    DecisionsClient::new(channel.clone()).authorize(request).await.map(|answer| answer.into_inner().decision)
}

/// What one is told who is over a quota: how long to wait.
fn pause(status: Status, whose: &str) -> Duration {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let refusal = Refusal::from(status);
    assert_eq!(refusal.reason, "quota_exceeded");
    assert!(refusal.message.contains(whose), "{refusal}");
    refusal.retry_after.filter(|pause| !pause.is_zero()).unwrap_or_else(|| panic!("no pause: {refusal:?}"))
}

/// Asks until it is refused: how long to wait.
async fn exhaust(channel: &Channel, token: &str, presenter: &[u8], whose: &str) -> Duration {
    let mut told = None;
    for _ in 0..100 {
        let mut together = tokio::task::JoinSet::new();
        for _ in 0..32 {
            let (channel, token, presenter) = (channel.clone(), token.to_owned(), presenter.to_vec());
            together.spawn(async move { ask(&channel, &token, &presenter).await });
        }
        let Some(refused) = together.join_all().await.into_iter().filter_map(Result::err).last() else { continue };
        // It may have been passed by another since: the last word is that of one that asks alone.
        match (ask(channel, token, presenter).await, told) {
            (Err(status), _) => return pause(status, whose),
            // There is room again as fast as one can ask.
            (Ok(_), Some(told)) => return told,
            (Ok(_), None) => told = Some(pause(refused, whose)),
        }
    }
    panic!("nobody is over a quota");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_one_agent_is_shed_and_keeps_neither_another_nor_a_revoke() {
    const RATE: u32 = 40;
    let rig = Rig::with(&format!("agent_rate = {RATE}\n"));
    let ((_, ana), (_, bob)) = (rig.agent("ana").await, rig.agent("bob").await);
    let (grant, _, hers) = ana.granted().await;
    let (_, _, his) = bob.granted().await;
    let twenty = async || {
        let since = Instant::now();
        for _ in 0..20 {
            assert_eq!(ask(&bob.0, &his, &[]).await.unwrap(), "allow");
        }
        since.elapsed()
    };
    let alone = twenty().await;

    let (stop, passed, refused) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    let since = Instant::now();
    let flood = async {
        let one = async || {
            while !stop.load(Ordering::SeqCst) {
                match ask(&ana.0, &hers, &[]).await {
                    // Also a denial: in the end she has no grant.
                    Ok(_) => passed.fetch_add(1, Ordering::SeqCst),
                    Err(status) => {
                        pause(status, "agent `ana` is over its quota of 40 requests a second");
                        refused.fetch_add(1, Ordering::SeqCst)
                    }
                };
            }
        };
        let all: Vec<_> = (0..32).map(|_| Box::pin(one())).collect();
        futures_join(all).await;
    };
    let others = async {
        while refused.load(Ordering::SeqCst) < 200 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let beside = twenty().await;
        // What is hers to end she ends, however much she has asked.
        ana.revoke(&grant).await.unwrap();
        assert!(refused.load(Ordering::SeqCst) > 200, "the flood went on");
        stop.store(true, Ordering::SeqCst);
        beside
    };
    let both = async { tokio::join!(others, flood) };
    let (beside, ()) = tokio::time::timeout(Duration::from_secs(120), both).await.expect("the flood is not shed");
    let most = u64::from(RATE) * 2 + u64::from(RATE) * (since.elapsed().as_secs() + 1);
    let (passed, refused) = (passed.into_inner(), refused.into_inner());
    println!("{passed} passed, {refused} were shed; twenty of another took {alone:?} alone, {beside:?} beside");
    assert!(u64::from(passed) <= most, "{passed} passed, {most} may");
    // All twenty were let in; beside 32 that never pause, on a busy machine, they take their time.
    assert!(beside < alone * 50 + Duration::from_secs(20), "{alone:?} alone, {beside:?} beside");
    assert_eq!(rig.shed("agent", "rate").await, refused);

    // The flood is over: who waits as long as it was told is let in.
    tokio::time::sleep(exhaust(&ana.0, &hers, &[], "agent `ana`").await).await;
    if let Err(status) = ask(&ana.0, &hers, &[]).await {
        // What was told may be of before another passed; now nobody else asks.
        tokio::time::sleep(pause(status, "agent `ana`")).await;
        ask(&ana.0, &hers, &[]).await.unwrap();
    }
}

/// All of them, to their end.
async fn futures_join<F: Future<Output = ()>>(all: Vec<std::pin::Pin<Box<F>>>) {
    let mut all = all;
    std::future::poll_fn(|context| {
        all.retain_mut(|one| one.as_mut().poll(context).is_pending());
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

fn certificate(directory: &Path) -> Vec<u8> {
    belay::client::leaf_of(&directory.join("cert.pem")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_an_enforcement_point_each_agent_has_its_own_quota_and_what_is_shed_is_not_recorded() {
    let rig = Rig::with("agent_rate = 20\n");
    let ((her_place, ana), (his_place, bob)) = (rig.agent("ana").await, rig.agent("bob").await);
    let (hers, his) = (ana.granted().await.2, bob.granted().await.2);
    let pep = rig.broker.pep("gate", &["https://test.example"]).await;
    let pep = rig.broker.channel_as(&pep).await.unwrap();
    let (her_certificate, his_certificate) = (certificate(&her_place), certificate(&his_place));
    assert_eq!(ask(&pep, &hers, &her_certificate).await.unwrap(), "allow");

    exhaust(&pep, &hers, &her_certificate, "agent `ana` is over its quota of 20 requests a second").await;
    for _ in 0..10 {
        assert_eq!(ask(&pep, &his, &his_certificate).await.unwrap(), "allow", "another agent, the same point");
    }
    let shed = rig.shed("agent", "rate").await;
    let recorded = rig.broker.run(&["audit", "list", "--kind", "invoked", "--limit", "1000"]).ok();
    let recorded = recorded["events"].as_array().unwrap().len();
    assert!(shed > 0);
    // What she was let ask once is 40, and the ten of his.
    assert!(recorded >= 40, "{recorded} recorded, {shed} shed");
    let answered = {
        let (_, _, page) = rig.broker.page("/metrics").await;
        let series = "belay_rpcs_total{rpc=\"belay.v1.Decisions/Authorize\",code=\"OK\"} ";
        page.lines().find_map(|line| line.strip_prefix(series)).unwrap().parse::<usize>().unwrap()
    };
    assert_eq!(recorded, answered, "{shed} were shed");
    // It is one quota, whoever asks for her.
    exhaust(&pep, &hers, &her_certificate, "agent `ana`").await;
    let spent = rig.shed("enforcement_point", "rate").await;
    assert_eq!(spent, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_quota_stands_before_what_ends_something() {
    let rig = Rig::with("agent_rate = 1\nagent_under_way = 1\n");
    let (_, ana) = rig.agent("ana").await;
    exhaust(&ana.0, "garbage", &[], "agent `ana`").await;
    let mut together = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let ana = ana.clone();
        // Nobody has it: an agent is told that there is none.
        together.spawn(async move { ana.revoke("grt_01h455vb4pex5vsknk084sn02q").await.map(drop) });
    }
    let codes: Vec<Code> = together.join_all().await.into_iter().map(|answer| answer.unwrap_err().code()).collect();
    assert_eq!(codes, [Code::NotFound; 32]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_says_when_to_come_back_and_a_reload_changes_the_quotas() {
    let rig = Rig::with("agent_rate = 1\nowner_rate = 2\n");
    let (directory, ana) = rig.agent("ana").await;
    let token = loop {
        let task = v1::StartTaskRequest { purpose: "testing".to_owned(), ..Default::default() };
        let started = v1::tasks_client::TasksClient::new(ana.0.clone()).start(task).await;
        match started {
            Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(status) => {
                pause(status, "agent `ana` is over its quota of 1 requests a second");
                break "garbage".to_owned();
            }
        }
    };
    let mut shed = None;
    for _ in 0..60 {
        exhaust(&ana.0, &token, &[], "agent `ana`").await;
        let ran = rig.broker.run_as(&directory, &["task", "list"]);
        // A second later one is let in again: on a slow machine this may be it.
        if ran.code != 0 {
            shed = Some(ran.err(7));
            break;
        }
    }
    let detail = &shed.expect("it is let in each time")["detail"];
    assert_eq!(detail["reason"], "quota_exceeded");
    assert!(detail["retry_after_ms"].as_u64().is_some_and(|pause| (1..=2000).contains(&pause)), "{detail}");
    // An operator has no quota.
    for _ in 0..5 {
        rig.broker.run(&["agent", "list"]).ok();
    }

    rig.reload("agent_rate = 1000000\nowner_rate = 1000000\nagent_under_way = 1\n");
    for _ in 0..50 {
        assert_eq!(ask(&ana.0, &token, &[]).await.unwrap(), "deny");
    }
    exhaust(&ana.0, &token, &[], "1 requests of agent `ana` are under way").await;
    assert!(rig.shed("agent", "under_way").await > 0);
    for _ in 0..50 {
        assert_eq!(ask(&ana.0, &token, &[]).await.unwrap(), "deny", "what is over is not under way");
    }
}
