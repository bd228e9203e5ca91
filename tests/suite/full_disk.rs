//! A disk that fills up: revoking goes on by the room that was kept for it, all else is refused in words, and when
//! there is room again the broker finds it by itself.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use belay::domain::cut::Target;
use belay::domain::decide::{Caller, Revoke};
use belay::domain::digest::Digest;
use belay::domain::error::{Code, Error};
use belay::domain::grant::Grant;
use belay::domain::time::Span;
use belay::store::{Batch, Head, Store as _};

use crate::support::faulty::{Control, Faulty, RESERVE};
use crate::support::office::Office;
use crate::support::process::{Broker, belay, ran};
use crate::support::world::{Hands, World, store};
use crate::support::{block_on, may_use};

async fn world(directory: &Path, snapshot_every: u64) -> (World, Control, Caller) {
    let (store, control) = Faulty::over(Box::new(store(directory)));
    let world = World::over(store, Hands::new(), snapshot_every).await;
    let planner = world.agent("planner").await;
    (world, control, planner)
}

async fn revoke(world: &World, planner: &Caller, grant: &Grant) -> Result<(), Error> {
    let command = Revoke { target: Target::Grant(grant.id), reason: "testing".parse().unwrap(), dry_run: false };
    world.submit(planner, command).await.map(drop)
}

#[tokio::test]
async fn a_full_disk_does_not_stand_before_a_revoke() {
    let directory = tempfile::tempdir().unwrap();
    let (world, control, planner) = world(directory.path(), 1_000_000).await;
    let task = world.task(&planner).await;
    let mut grants = Vec::new();
    for _ in 0..=RESERVE {
        grants.push(world.grant(&planner, task.id, &["db:read@**"]).await.unwrap());
    }
    let first = grants.remove(0);
    let size = world.ledger.checkpoint().0;

    // It is the revoke that finds the disk full, and passes in the same turn.
    control.fill(true);
    revoke(&world, &planner, &first).await.unwrap();
    assert!(control.has_released());
    let refused = world.grant(&planner, task.id, &["db:read@**"]).await.unwrap_err();
    assert_eq!((refused.code, refused.reason), (Code::Unavailable, "disk_full"), "{refused}");
    assert_eq!(world.ledger.check_ready().unwrap_err(), refused);
    for grant in &grants[1..] {
        revoke(&world, &planner, grant).await.unwrap();
    }
    assert_eq!(world.ledger.checkpoint().0, size + RESERVE, "something else took the reserve");

    // The reserve is used up: that is said, and nothing is believed that is not on the disk.
    let last = &grants[0];
    assert_eq!(revoke(&world, &planner, last).await.unwrap_err().reason, "disk_full");
    assert_eq!(world.state(last.id), Some("active"));

    control.fill(false);
    world.hands.turn(Span::seconds(1));
    revoke(&world, &planner, last).await.unwrap();
    assert!(world.ledger.is_ready() && !control.has_released());
    world.grant(&planner, task.id, &["db:read@**"]).await.unwrap();
}

#[tokio::test]
async fn room_that_is_back_is_found_though_nobody_asks() {
    let directory = tempfile::tempdir().unwrap();
    let (world, control, planner) = world(directory.path(), 1_000_000).await;
    control.fill(true);
    let task = belay::domain::decide::StartTask {
        purpose: "testing".parse().unwrap(),
        subject: None,
        ttl: Span::minutes(5),
        envelope: None,
    };
    assert_eq!(world.submit(&planner, task).await.unwrap_err().reason, "disk_full");
    assert!(!world.ledger.is_ready());
    control.fill(false);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !world.ledger.is_ready() {
        assert!(Instant::now() < deadline, "there is room, and nobody looks for it");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!control.has_released(), "the next full disk finds no reserve");
}

#[tokio::test]
async fn on_a_full_disk_calls_are_denied_and_written_down_later() {
    let directory = tempfile::tempdir().unwrap();
    let (faulty, control) = Faulty::over(Box::new(store(directory.path())));
    let office = Office::open(faulty, directory.path()).await;
    let planner = office.world.agent("planner").await;
    let task = office.world.task(&planner).await;
    let grant = office.world.grant(&planner, task.id, &["db:read@**"]).await.unwrap();
    let token = office.token(&planner, grant.id).await;
    control.fill(true);
    assert!(office.world.task_is_refused(&planner).await);
    let size = office.world.ledger.checkpoint().0;
    for _ in 0..20 {
        let denied = office.read(&planner, &token, "orders").verdict;
        assert!(!denied.allowed && denied.reasons[0].message.contains("the disk is full"), "{denied:?}");
    }
    // Were they written, they would take the room that a revoke needs.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(office.world.ledger.checkpoint().0, size);
    control.fill(false);
    let deadline = Instant::now() + Duration::from_secs(10);
    while office.world.ledger.checkpoint().0 < size + 20 {
        assert!(Instant::now() < deadline, "what was answered is not in the log");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(office.read(&planner, &token, "orders").verdict.allowed);
}

impl World {
    async fn task_is_refused(&self, caller: &Caller) -> bool {
        let (purpose, ttl) = ("testing".parse().unwrap(), Span::minutes(5));
        let command = belay::domain::decide::StartTask { purpose, subject: None, ttl, envelope: None };
        self.submit(caller, command).await.is_err_and(|error| error.reason == "disk_full")
    }
}

#[tokio::test]
async fn a_snapshot_that_fails_is_no_trouble_and_is_not_tried_at_every_turn() {
    let directory = tempfile::tempdir().unwrap();
    let (world, control, planner) = world(directory.path(), 5).await;
    control.no_room_for_blobs();
    let before = control.refused();
    for _ in 0..20 {
        world.task(&planner).await;
        assert!(world.ledger.is_ready());
    }
    assert_eq!(control.refused() - before, 1, "a snapshot that fails is built and tried at every turn");
    world.hands.turn(Span::minutes(5));
    for _ in 0..3 {
        world.task(&planner).await;
    }
    world.ledger.close();
    assert_eq!(control.refused() - before, 2);
}

/// A small file system of its own, for the broker's home.
struct Mount(PathBuf);

impl Mount {
    /// None where this process may not mount.
    fn new(directory: &Path, size: &str) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs"]).arg(directory);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then(|| Self(directory.to_owned()))
    }

    /// Takes all the room that there is: a file of zeros.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[test]
fn a_broker_whose_disk_fills_up_revokes_refuses_the_rest_and_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let mount = Mount::new(&home, "16m");
    let name = "a_broker_whose_disk_fills_up_revokes_refuses_the_rest_and_recovers";
    if !may_use(name, "mount", mount.is_some()) {
        return;
    }
    let mount = mount.unwrap();
    let mut broker = Broker::start_in(&home, &[]);
    let planner = broker.agent("planner");
    let start = broker.run_as(&planner, &["task", "start", "testing"]).ok();
    let task = start["task"]["id"].as_str().unwrap();
    let ask = || broker.run_as(&planner, &["grant", "request", "--task", task, "--scope", "db:read@**"]);
    let grants: Vec<String> = (0..4).map(|_| ask().ok()["grant"]["id"].as_str().unwrap().to_owned()).collect();
    mount.fill();
    let mut given = 0;
    // The write-ahead log has some pages of its own to fill first.
    let refused = loop {
        let asked = ask();
        if asked.code != 0 {
            break asked.err(7);
        }
        given += 1;
        assert!(given < 500, "a full disk takes whatever it is given");
    };
    assert_eq!(refused["detail"]["reason"], "disk_full", "{refused}");
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("ledger.db") && message.contains("free some space") && !message.contains('\n'),
        "{message}"
    );
    assert_eq!(broker.run(&["status"]).code, 1, "it is not ready");
    let (status, _, page) = block_on(broker.page("/readyz"));
    assert!(status.contains("503") && page.starts_with("disk_full: ") && page.contains("free some space"), "{page}");
    assert!(!page.contains("ledger.db"), "anybody is told where the data is: {page}");
    for grant in &grants[1..] {
        broker.run(&["revoke", grant, "--reason", "testing"]).ok();
        ask().err(7);
    }
    // What was revoked by the reserve is durable like everything else.
    broker.kill();
    mount.free();
    let broker = Broker::start_in(&home, &[]);
    for (index, grant) in grants.iter().enumerate() {
        let state = broker.run(&["grant", "show", grant]).ok()["grant"]["state"].clone();
        assert_eq!(state, if index == 0 { "active" } else { "revoked" });
    }
    let ask = || broker.run_as(&planner, &["grant", "request", "--task", task, "--scope", "db:read@**"]);
    mount.fill();
    while ask().code == 0 {}
    std::thread::sleep(Duration::from_millis(2500));
    mount.free();
    let deadline = Instant::now() + Duration::from_secs(20);
    while broker.run(&["status"]).code != 0 {
        assert!(Instant::now() < deadline, "there is room, and the broker is not ready");
        std::thread::sleep(Duration::from_millis(100));
    }
    ask().ok();
    let log = std::fs::read_to_string(home.join("serve.log")).unwrap();
    assert_eq!(log.matches("turns fail").count(), 2, "once each time: {log}");
}

#[test]
fn a_batch_that_does_not_fit_leaves_the_room_to_those_that_do() {
    let directory = tempfile::tempdir().unwrap();
    let mount = Mount::new(directory.path(), "9m");
    if !may_use("a_batch_that_does_not_fit_leaves_the_room_to_those_that_do", "mount", mount.is_some()) {
        return;
    }
    let mut sqlite = store(directory.path());
    let head = sqlite.begin().unwrap();
    let batch = |size, blobs| Batch {
        id: [size as u8; 16],
        after: size - 1,
        entries: vec![vec![7; 100]],
        blobs,
        forget: None,
        head: Head { size, ..head },
    };
    let blob = vec![7; 8 << 20];
    let large = batch(1, vec![(Digest::of(&blob), blob)]);
    let kept = sqlite.append(&large).is_ok() && sqlite.commit().is_ok();
    sqlite.rollback();
    assert!(!kept && sqlite.is_full());
    // Its pages filled the write-ahead log, which never shrinks by itself.
    assert!(sqlite.retake_reserve() && !sqlite.is_full());
    assert_eq!(std::fs::metadata(directory.path().join("reserve")).unwrap().len(), 4 << 20);
    for size in 1..20 {
        assert_eq!(sqlite.begin().unwrap().size, size - 1);
        sqlite.append(&batch(size, Vec::new())).unwrap();
        sqlite.commit().unwrap();
    }
    drop(sqlite);
    drop(mount);
}

#[test]
fn a_start_on_a_full_disk_says_which_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let mount = Mount::new(home, "9m");
    if !may_use("a_start_on_a_full_disk_says_which_and_what_to_do", "mount", mount.is_some()) {
        return;
    }
    let (mount, data) = (mount.unwrap(), home.join("dev"));
    let refused = || {
        let mut command = belay(home);
        command.args(["-o", "json", "serve", "--dev", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        let ended = ran(command);
        assert_eq!((ended.code, ended.stdout.as_str()), (7, ""), "{ended:?}");
        let last = ended.stderr.lines().last().unwrap();
        assert!(last.contains(data.to_str().unwrap()) && last.contains("its disk is full; free some space"), "{last}");
    };
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).unwrap();
    mount.fill();
    refused();
    mount.free();
    let mut broker = Broker::start_in(home, &[]);
    let planner = broker.agent("planner");
    let task = broker.run_as(&planner, &["task", "start", "testing"]).ok()["task"]["id"].as_str().unwrap().to_owned();
    // It crashed, and its reserve is there: it begins, in order to revoke.
    broker.kill();
    mount.fill();
    let mut broker = Broker::start_in(home, &[]);
    broker.run(&["revoke", &task, "--reason", "testing"]).ok();
    broker.kill();
    // The reserve is used up.
    refused();
    mount.free();
    let broker = Broker::start_in(home, &[]);
    broker.run_as(&planner, &["task", "start", "testing"]).ok();
}
