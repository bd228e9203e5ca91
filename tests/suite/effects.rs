//! What a revocation answers: what died by it, whose it was, how far the cut is, and that the turn does not grow with it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use belay::domain::agent::{AgentStatus, Kind, Role};
use belay::domain::cut::Target;
use belay::domain::decide::{Caller, EndTask, Revoked, StartTask};
use belay::domain::effect::{Effect, EffectState, Heard, Nobody};
use belay::domain::entropy::Entropy;
use belay::domain::event::Body;
use belay::domain::exposure::HOLD;
use belay::domain::grant::Grant;
use belay::domain::lease::{LeaseStatus, Trouble};
use belay::domain::pep::Pep;
use belay::domain::time::{Span, Timestamp};
use belay::effect::{Page, Walked, walk};

use crate::support::aftermath::{Recorded, Said};
use crate::support::world::{Hands, World};

const ELSEWHERE: &str = "https://orders.example";

fn of(walked: &Walked, credential: impl std::fmt::Display) -> &Effect {
    let name = credential.to_string();
    walked.effects.iter().find(|effect| effect.ended.to_string() == name).unwrap()
}

#[tokio::test]
async fn a_token_is_awaited_where_an_enforcement_point_has_not_said_that_it_knows() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    let planner = world.agent("planner").await;
    let task = world.task(&planner).await.id;
    world.point("gate", ELSEWHERE, Span::seconds(5)).await;
    let ours = world.grant(&planner, task, &["db:read@**"]).await.unwrap();
    let theirs = world.for_audience(&planner, task, ELSEWHERE, &[]).await.unwrap();
    let nobodys = world.for_audience(&planner, task, "https://nobody.example", &[]).await.unwrap();
    let mut tokens = Vec::new();
    for grant in [&ours, &theirs, &nobodys] {
        tokens.push(world.new_token(&planner, grant).await);
    }
    let revoked = world.cut(Target::Task(task)).await;
    let (said, at) = (Said::default(), revoked.cut.at);

    let walked = world.walked(&revoked, &said);
    assert_eq!((walked.counts.tasks, walked.counts.total().grants, walked.counts.total().tokens), (1, 3, 3));
    let state = |walked: &Walked, index: usize| {
        let effect = of(walked, tokens[index].0);
        assert_eq!(effect.owner.as_ref().map(ToString::to_string), Some("owner-of-planner".to_owned()));
        (effect.state, effect.at)
    };
    assert_eq!(state(&walked, 0), (EffectState::Enforced, at));
    let deadline = at.plus(Span::seconds(5)).plus(HOLD);
    assert_eq!(state(&walked, 1), (EffectState::Pending, deadline));
    assert!(of(&walked, tokens[1].0).detail.contains("gate"), "the point that is awaited is named");
    assert_eq!(state(&walked, 2), (EffectState::Expires, tokens[2].1));
    assert!(!walked.terminal);

    // What it knew before does not do; what it says of this cut does.
    *said.0.lock().unwrap() = Some((revoked.cut.seq - 1, at));
    assert_eq!(state(&world.walked(&revoked, &said), 1).0, EffectState::Pending);
    let heard_at = at.plus(Span::millis(7));
    *said.0.lock().unwrap() = Some((revoked.cut.seq, heard_at));
    assert_eq!(state(&world.walked(&revoked, &said), 1), (EffectState::Enforced, heard_at));
    // Nobody hears anything, and its feed is too old to be believed.
    world.hands.turn(Span::seconds(5).plus(HOLD));
    assert_eq!(state(&world.walked(&revoked, &Nobody), 1), (EffectState::Enforced, deadline));
    assert!(!world.walked(&revoked, &Nobody).terminal, "one can still be honoured until it expires");
    world.hands.turn(Span::minutes(15));
    assert!(world.walked(&revoked, &Nobody).terminal);
}

/// Whoever is asked who has heard may have to wait for the state.
struct Waits(World, std::sync::atomic::AtomicUsize);

impl Heard for Waits {
    fn heard(&self, _: &Pep, _: u64) -> Option<Timestamp> {
        let asked = self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let name = format!("waiting-{asked}");
        let turn =
            async { tokio::time::timeout(Duration::from_secs(10), self.0.operator(&name, &[Role::Auditor])).await };
        tokio::runtime::Handle::current().block_on(turn).expect("others go on meanwhile");
        None
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_heard_is_asked_once_and_not_while_the_state_is_held() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    let planner = world.agent("planner").await;
    let task = world.task(&planner).await.id;
    world.point("gate", ELSEWHERE, Span::seconds(5)).await;
    let grant = world.for_audience(&planner, task, ELSEWHERE, &[]).await.unwrap();
    for _ in 0..5 {
        world.new_token(&planner, &grant).await;
    }
    let revoked = world.cut(Target::Task(task)).await;
    let waits = Waits(world, std::sync::atomic::AtomicUsize::new(0));
    let walked = tokio::task::spawn_blocking(move || {
        let walked = walk(&waits.0.ledger, revoked.cut.clone(), &waits, Page::default());
        (walked, waits.1.into_inner())
    });
    let (walked, asked) = walked.await.unwrap();
    assert_eq!((walked.counts.pending.tokens, asked), (5, 1));
}

#[tokio::test]
async fn a_point_that_was_retired_is_awaited_until_its_verifiers_refuse() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    let planner = world.agent("planner").await;
    let task = world.task(&planner).await.id;
    world.point("old", ELSEWHERE, Span::seconds(60)).await;
    world.point("new", ELSEWHERE, Span::seconds(5)).await;
    let state = async |wait: Span| {
        world.hands.turn(wait);
        let grant = world.for_audience(&planner, task, ELSEWHERE, &[]).await.unwrap();
        let (token, _) = world.new_token(&planner, &grant).await;
        let revoked = world.cut(Target::Grant(grant.id)).await;
        world.hands.turn(Span::seconds(6));
        let walked = world.walked(&revoked, &Nobody);
        (of(&walked, token).state, of(&walked, token).at.since(world.ledger.now()))
    };
    assert_eq!(state(Span::millis(0)).await, (EffectState::Pending, Span::millis(54_500)));
    let (name, reason) = ("old".parse().unwrap(), "replaced".parse().unwrap());
    world.happens(Body::PepRetired { name, reason }).await;
    // What its verifiers knew when it was retired is believed for a minute and a half second, and no cut since reaches them.
    assert_eq!(state(Span::millis(0)).await, (EffectState::Pending, Span::millis(54_500)));
    assert_eq!(state(Span::seconds(10)).await, (EffectState::Pending, Span::millis(38_500)));
    assert_eq!(state(Span::millis(38_500)).await.0, EffectState::Enforced, "nobody goes by it any more");
}

#[tokio::test]
async fn an_identity_is_awaited_where_a_token_that_is_bound_to_it_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    let (planner, idle) = (world.agent("planner").await, world.agent("idle").await);
    let task = world.task(&planner).await.id;
    world.point("gate", ELSEWHERE, Span::seconds(5)).await;
    let grant = world.for_audience(&planner, task, ELSEWHERE, &[]).await.unwrap();
    world.new_token(&planner, &grant).await;
    let another = Caller::Agent(world.identity(Kind::Agent, "planner").await);
    let cut = async |caller: &Caller| {
        let id = caller.presenter().unwrap().certificate;
        let revoked = world.cut(Target::Certificate(id)).await;
        (revoked.cut.at, id, revoked)
    };
    for nobody in [&idle, &another] {
        let (_, id, revoked) = cut(nobody).await;
        assert_eq!(of(&world.walked(&revoked, &Nobody), id).state, EffectState::Enforced, "no token is bound to it");
    }
    let (at, id, revoked) = cut(&planner).await;
    let state = |heard: &dyn Heard| of(&world.walked(&revoked, heard), id).state;
    assert_eq!(of(&world.walked(&revoked, &Nobody), id).at, at.plus(Span::seconds(5)).plus(HOLD));
    assert_eq!(state(&Nobody), EffectState::Pending);
    assert_eq!(state(&Said(Mutex::new(Some((revoked.cut.seq, at))))), EffectState::Enforced);
    world.hands.turn(Span::seconds(5).plus(HOLD));
    assert_eq!(state(&Nobody), EffectState::Enforced);
}

#[tokio::test]
async fn a_lease_is_awaited_until_it_is_gone_from_its_target() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    let planner = world.agent("planner").await;
    let task = world.task(&planner).await.id;
    let grant = world.grant(&planner, task, &["db:read@**"]).await.unwrap();
    let lease = world.lease(&grant).await;
    world.change(&lease, LeaseStatus::Made, None).await;
    let revoked = world.cut(Target::Grant(grant.id)).await;
    let state = || {
        let walked = world.walked(&revoked, &Nobody);
        (of(&walked, lease.id).state, walked.terminal)
    };
    assert_eq!(state(), (EffectState::Pending, false));
    let trouble = |failed| Some(Trouble { reason: "cannot connect".parse().unwrap(), failed });
    world.change(&lease, LeaseStatus::Made, trouble(false)).await;
    assert!(of(&world.walked(&revoked, &Nobody), lease.id).detail.contains("cannot connect"));
    world.change(&lease, LeaseStatus::Made, trouble(true)).await;
    assert_eq!(state(), (EffectState::Failed, false));
    // Its grant and its task are over for long, and it is still there: it is still told of.
    world.hands.turn(Span::hours(30));
    world.operator("ana", &[Role::Auditor]).await;
    assert_eq!(state(), (EffectState::Failed, false));
    world.change(&lease, LeaseStatus::Ended, None).await;
    assert_eq!(state(), (EffectState::Enforced, true));
    world.hands.turn(Span::hours(1));
    world.operator("bob", &[Role::Auditor]).await;
    assert!(world.ledger.view(|view| view.grant(grant.id).is_none()), "then nothing is left of either");
}

/// Whatever becomes of its task and its holder afterwards, a revocation tells the same again, and so does a second one.
#[tokio::test]
async fn who_cuts_again_is_told_the_same_again() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    let planner = world.agent("planner").await;
    world.agent("coder").await;
    let task = world.task(&planner).await.id;
    let root = world.grant(&planner, task, &["db:read@**"]).await.unwrap();
    let child = world.delegate(&planner, root.id, "coder", &["db:read@a"]).await.unwrap();
    world.new_token(&planner, &root).await;
    // What was over before died by something else.
    let before = world.delegate(&planner, root.id, "coder", &["db:read@b"]).await.unwrap();
    world.cut(Target::Grant(before.id)).await;
    let first = world.cut(Target::Grant(root.id)).await;
    let told = |revoked: &Revoked| {
        let walked = world.walked(revoked, &Nobody);
        walked.effects.iter().map(|effect| effect.ended).collect::<Vec<_>>()
    };
    let died = told(&first);
    assert_eq!(died.len(), 3, "{died:?}");
    assert!(died.iter().all(|ended| ended.to_string() != before.id.to_string()));
    let size = world.ledger.checkpoint().0;
    let repeated = world.cut(Target::Grant(root.id)).await;
    assert_eq!(world.ledger.checkpoint().0, size, "nothing is recorded again, however often");
    assert_eq!((first.again, repeated.again), (false, true));
    assert_eq!(told(&repeated), died);

    world.submit(&planner, EndTask { id: task, reason: "over".parse().unwrap() }).await.unwrap();
    world.set_agent("coder", AgentStatus::Retired).await;
    assert_eq!(told(&first), died, "what ended afterwards had died by then");
    let second = world.cut(Target::Grant(root.id)).await;
    assert!(second.again && second.revocation.known);
    assert_eq!((second.revocation.id, told(&second)), (first.revocation.id, died), "an id is cut once, for good");
    let below = world.cut(Target::Grant(child.id)).await;
    assert!(told(&below).is_empty(), "it died by the cut above it");
}

#[tokio::test]
async fn a_subject_that_is_cut_ends_the_tasks_that_began_on_its_word() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    let planner = world.agent("planner").await;
    let start = |subject: &str| StartTask {
        purpose: "testing".parse().unwrap(),
        subject: Some(subject.parse().unwrap()),
        ttl: Span::hours(1),
        envelope: None,
    };
    let mut tasks = Vec::new();
    for subject in ["bob", "bob", "eve"] {
        tasks.push(world.submit(&planner, start(subject)).await.unwrap().task.id);
    }
    let grant = world.grant(&planner, tasks[0], &["db:read@**"]).await.unwrap();
    let revoked = world.cut(Target::Subject("bob".parse().unwrap())).await;
    let counts = world.died(&revoked);
    assert_eq!((counts.tasks, counts.total().grants), (2, 1));
    assert_eq!(world.state(grant.id), Some("revoked"));
    for task in &tasks[..2] {
        let refused = world.grant(&planner, *task, &["db:read@**"]).await.unwrap_err();
        assert_eq!((refused.reason, refused.field), ("subject_revoked", Some("task")));
    }
    world.grant(&planner, tasks[2], &["db:read@**"]).await.unwrap();
    // On that word given anew, work goes on.
    world.hands.turn(Span::millis(1));
    let anew = world.submit(&planner, start("bob")).await.unwrap().task.id;
    world.grant(&planner, anew, &["db:read@**"]).await.unwrap();
    assert_eq!(world.died(&revoked).tasks, 2);
}

#[tokio::test]
async fn effects_are_told_in_pages_each_once() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    let planner = world.agent("planner").await;
    world.agent("coder").await;
    let task = world.task(&planner).await.id;
    let root = world.grant(&planner, task, &["db:read@**"]).await.unwrap();
    for _ in 0..40 {
        let child = world.delegate(&planner, root.id, "coder", &["db:read@a"]).await.unwrap();
        world.lease(&child).await;
    }
    world.new_token(&planner, &root).await;
    let revoked = world.cut(Target::Agent("planner".parse().unwrap())).await;
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let walked = walk(&world.ledger, revoked.cut.clone(), &Nobody, Page { after, most: Some(7) });
        assert_eq!(walked.counts.sum(), 82, "the counts are whole on every page");
        assert!(walked.effects.len() <= 7);
        seen.extend(walked.effects.iter().map(|effect| effect.ended));
        after = walked.effects.last().map(|effect| effect.ended);
        if !walked.more {
            break;
        }
    }
    assert_eq!(seen.len(), 82);
    assert!(seen.is_sorted() && seen.windows(2).all(|two| two[0] != two[1]));
    assert_eq!(seen[0].kind(), "lease", "what is likely to be awaited comes first");
}

/// However much dies by it, the turn of a revoke is as short, and turns go on while it is counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_turn_of_a_revoke_does_not_grow_with_what_dies() {
    const MANY: usize = 20_000;
    let many = std::env::var("BELAY_DESCENDANTS").map_or(MANY, |many| many.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let world = std::sync::Arc::new(World::open(directory.path(), Hands::new()).await);
    let planner = world.agent("planner").await;
    world.agent("coder").await;
    let task = world.task(&planner).await.id;
    let small = world.grant(&planner, task, &["db:read@**"]).await.unwrap();
    let large = world.grant(&planner, task, &["db:read@**"]).await.unwrap();
    // Recorded as they would be, without asking the policies so often.
    let one = world.delegate(&planner, large.id, "coder", &["db:read@a"]).await.unwrap();
    let mut entropy = Entropy::from_seed([9; 32]);
    for _ in 0..many / 1000 {
        let now = world.ledger.now();
        let child = |_| Grant { id: belay::domain::id::GrantId::mint(now, &mut entropy), ..one.clone() };
        let grants: Vec<_> = (0..1000).map(child).map(|grant| Body::GrantIssued { grant }).collect();
        world.submit(&Caller::Broker, Recorded(grants)).await.unwrap();
    }
    let mut took = Vec::new();
    for target in [small.id, large.id] {
        let since = Instant::now();
        let revoked = world.cut(Target::Grant(target)).await;
        took.push((since.elapsed(), revoked));
    }
    let (walking, at) = (std::sync::Arc::clone(&world), took[1].1.cut.clone());
    let since = Instant::now();
    let walk = tokio::task::spawn_blocking(move || walk(&walking.ledger, at, &Nobody, Page::default()));
    let mut turns = 0;
    while !walk.is_finished() {
        world.operator(&format!("o-{turns}"), &[Role::Auditor]).await;
        turns += 1;
    }
    let walked = walk.await.unwrap();
    println!(
        "a revoke of 1 in {:?}, of {many} in {:?}; these found in {:?}, {turns} others served meanwhile",
        took[0].0,
        took[1].0,
        since.elapsed()
    );
    assert_eq!(walked.counts.total().grants as usize, many + 2);
    assert_eq!((walked.effects.len(), walked.more), (1000, true));
    assert!(took[1].0 < took[0].0.max(Duration::from_millis(20)) * 5, "{took:?}");
    assert!(turns > 0, "turns go on while it is counted");
}
