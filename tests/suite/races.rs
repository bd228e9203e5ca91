//! A revoke among rivals, so often that every order of them comes: what was asked for after the answer is refused, and
//! nothing that was had before it lives on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use belay::domain::agent::{Kind, Role};
use belay::domain::cut::Target;
use belay::domain::decide::{Approve, Caller, Delegate, IssueToken, RenewGrant, Revoke, TokenAnswer, judge};
use belay::domain::digest::Digest;
use belay::domain::error::Error;
use belay::domain::grant::{Credential, Grant, GrantState};
use belay::domain::id::{ApprovalId, GrantId, TokenId};
use belay::domain::scope::Scopes;
use belay::domain::time::Span;

use crate::support::world::{Hands, World};

/// Pairs of a rival and a revoke; `BELAY_RACES` sets another number.
const RACES: usize = 10_000;
/// Grants that are cut in one wave, all at the same time.
const TREES: usize = 256;
/// Grants of a wave below which something waits for approval: no agent may have more waiting.
const WAITING: usize = 48;
/// Who races against the cut of one grant.
const RIVALS: usize = 4;

const CATALOG: &str = r#"
[[tool]]
name = "db"
owner = "data"
[[tool.action]]
name = "read"
risk = "read"
[[tool.action]]
name = "drop"
risk = "destructive"
[[resource]]
path = "db:**"
sensitivity = "internal"
"#;

/// What a rival wants below the grant that is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Delegate,
    Renew,
    Issue,
    Approve,
    Retry,
}

const VERBS: [Verb; 5] = [Verb::Delegate, Verb::Renew, Verb::Issue, Verb::Approve, Verb::Retry];

/// One attempt, in the order of a clock that every start and every answer moves.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    verb: Verb,
    from: u64,
    to: u64,
    succeeded: bool,
}

/// One grant that is cut, with what is below it and what was tried.
struct Raced {
    grant: GrantId,
    cut: (u64, u64),
    attempts: Vec<Attempt>,
    tokens: Vec<TokenId>,
}

/// The grant that is cut, the key under which it was had, and what waits below it.
struct Below {
    tree: Grant,
    key: String,
    waits: Option<(ApprovalId, Digest)>,
}

/// Who acts: identities last a day, and the clock moves on.
struct Cast {
    planner: Caller,
    coder: Caller,
    ana: Caller,
}

/// The same throws every time (Steele, Lea and Flood's SplitMix64): what differs is who is quicker.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

#[derive(Default, Debug)]
struct Tally {
    races: [usize; 5],
    first: [usize; 5],
    overlapped: [usize; 5],
    late: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_wins_against_a_revoke_that_was_answered() {
    let races = std::env::var("BELAY_RACES").map_or(RACES, |races| races.parse().unwrap());
    let since = Instant::now();
    let directory = tempfile::tempdir().unwrap();
    let world = Arc::new(World::open(directory.path(), Hands::new()).await);
    for name in ["planner", "coder", "tester"] {
        world.agent(name).await;
    }
    world.operator("ana", &[Role::Approver]).await;
    world.apply_catalog(CATALOG).await;
    let (mut tally, mut random, mut patience) = (Tally::default(), Dice(5), 48);
    for _ in 0..races.div_ceil(TREES * RIVALS) {
        let raced = wave(&world, &mut random, patience).await;
        // Who is quicker differs with the machine: the revokes wait as long as makes it a race here.
        let first = raced.iter().flat_map(|one| one.attempts.iter().filter(|tried| tried.succeeded)).count();
        let share = first * 100 / (TREES * RIVALS);
        patience = if share < 20 { patience * 2 } else { patience * 3 / 4 }.clamp(16, 4096);
        raced.iter().for_each(|one| tally.count(one));
        assert_dead(&world, &raced);
        // What was asked of humans is forgotten, so that the next wave may ask.
        world.hands.turn(Span::hours(3));
    }
    let [all, first, overlapped] = [tally.races, tally.first, tally.overlapped].map(|by| by.iter().sum::<usize>());
    println!(
        "{all} races in {:.1?}: {first} won by the rival, {overlapped} overlapped, {} late; {tally:?}",
        since.elapsed(),
        tally.late
    );
    assert!(all >= races);
    assert!(first * 10 >= all && overlapped * 10 >= all && tally.late * 10 >= all, "the races were none: {tally:?}");
    for (verb, first) in VERBS.iter().zip(tally.first) {
        assert!(first > 0, "{verb:?} never came first: {tally:?}");
    }
}

/// Grants, all cut at once, each among its rivals.
async fn wave(world: &Arc<World>, random: &mut Dice, patience: u64) -> Vec<Raced> {
    let cast = Cast {
        planner: Caller::Agent(world.identity(Kind::Agent, "planner").await),
        coder: Caller::Agent(world.identity(Kind::Agent, "coder").await),
        ana: Caller::Operator(world.identity(Kind::Operator, "ana").await),
    };
    let cast = Arc::new(cast);
    let task = world.task(&cast.planner).await;
    let root = world.grant(&cast.planner, task.id, &["db:read@**"]).await.unwrap();
    let (clock, mut racing) = (Arc::new(AtomicU64::new(1)), Vec::new());
    let keys: Vec<String> = (0..TREES).map(|at| format!("{}-{at}", task.id)).collect();
    let trees =
        keys.iter().map(|key| world.submit_once(&cast.planner, handed(root.id), Some((key.as_str(), &b"tree"[..]))));
    let trees = futures_util::future::join_all(trees).await;
    for (at, (tree, key)) in trees.into_iter().zip(keys.clone()).enumerate() {
        let tree = tree.unwrap().grant;
        let waits = if at < WAITING { Some(ask(world, &cast, tree.id).await) } else { None };
        // A revoke passes what waits: it begins a little later than most, or nobody else would ever be first.
        let mut delays: [u64; RIVALS + 1] = std::array::from_fn(|_| random.below(24));
        delays[RIVALS] = random.below(patience);
        let late = random.below(RIVALS as u64 + 1) as usize;
        let (world, cast, clock) = (Arc::clone(world), Arc::clone(&cast), Arc::clone(&clock));
        let below = Below { tree, key, waits };
        racing.push((world, cast, clock, below, delays, late));
    }
    let racing: Vec<_> = racing
        .into_iter()
        .map(|(world, cast, clock, below, delays, late)| {
            tokio::spawn(async move { race(&world, &cast, &clock, &below, delays, late).await })
        })
        .collect();
    let mut raced = Vec::new();
    for one in racing {
        raced.push(one.await.unwrap());
    }
    raced
}

/// Something below the grant that waits for a human.
async fn ask(world: &World, cast: &Cast, parent: GrantId) -> (ApprovalId, Digest) {
    let command = Delegate { own: true, scopes: Scopes::parse(&["db:drop@orders"]).unwrap(), ..delegation(parent) };
    let approval = world.submit(&cast.coder, command).await.unwrap().approval.unwrap();
    (approval.id, approval.digest)
}

/// The grant that is cut, as it is asked for.
fn handed(parent: GrantId) -> Delegate {
    Delegate {
        to: "coder".parse().unwrap(),
        scopes: Scopes::parse(&["db:read@**"]).unwrap(),
        ttl: Span::minutes(15),
        ..delegation(parent)
    }
}

fn delegation(parent: GrantId) -> Delegate {
    Delegate {
        parent,
        to: "tester".parse().unwrap(),
        scopes: Scopes::parse(&["db:read@orders"]).unwrap(),
        audience: None,
        ttl: Span::minutes(5),
        own: false,
        limits: Default::default(),
        narrow: false,
    }
}

/// The cut and its rivals, each begun after a delay of its own; the `late` one begins once the cut was answered.
async fn race(
    world: &World,
    cast: &Cast,
    clock: &AtomicU64,
    below: &Below,
    delays: [u64; RIVALS + 1],
    late: usize,
) -> Raced {
    let tree = &below.tree;
    let last = if below.waits.is_some() { Verb::Approve } else { Verb::Retry };
    let verbs = [Verb::Delegate, Verb::Renew, Verb::Issue, last];
    let answered = tokio::sync::Notify::new();
    let cut = async {
        pause(delays[RIVALS]).await;
        let from = clock.fetch_add(1, Ordering::SeqCst);
        let revoke = Revoke { target: Target::Grant(tree.id), reason: "testing".parse().unwrap(), dry_run: false };
        world.submit(&Caller::Broker, revoke).await.unwrap();
        let to = clock.fetch_add(1, Ordering::SeqCst);
        answered.notify_one();
        (from, to)
    };
    let rivals = verbs.into_iter().enumerate().map(|(at, verb)| {
        let answered = &answered;
        async move {
            if at == late {
                answered.notified().await;
            } else {
                pause(delays[at]).await;
            }
            let from = clock.fetch_add(1, Ordering::SeqCst);
            let outcome = attempt(world, cast, below, verb).await;
            let to = clock.fetch_add(1, Ordering::SeqCst);
            (Attempt { verb, from, to, succeeded: outcome.is_ok() }, outcome.ok().flatten())
        }
    });
    let (cut, tried) = tokio::join!(cut, futures_util::future::join_all(rivals));
    let tokens = tried.iter().filter_map(|(_, token)| *token).collect();
    Raced { grant: tree.id, cut, attempts: tried.into_iter().map(|(attempt, _)| attempt).collect(), tokens }
}

async fn pause(turns: u64) {
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}

/// What the rival does; the token that it got, if it wanted one.
async fn attempt(world: &World, cast: &Cast, below: &Below, verb: Verb) -> Result<Option<TokenId>, Error> {
    let tree = &below.tree;
    match verb {
        Verb::Delegate => world.submit(&cast.coder, delegation(tree.id)).await.map(|_| None),
        Verb::Renew => {
            let renew = RenewGrant { id: tree.id, ttl: Span::minutes(20) };
            world.submit(&cast.coder, renew).await.map(|_| None)
        }
        Verb::Issue => {
            let answer = world.submit(&cast.coder, IssueToken { grant: tree.id, audience: None }).await?;
            let TokenAnswer::New(token) = answer else { panic!("it is new") };
            Ok(Some(token.get().id))
        }
        Verb::Approve => {
            let (id, digest) = below.waits.unwrap();
            let approve = Approve { id, digest, reason: "testing".parse().unwrap(), scopes: None, ttl: None };
            world.submit(&cast.ana, approve).await.map(|_| None)
        }
        // What is had under a key is had once; asked for again it stands as it is by then, and says so.
        Verb::Retry => {
            let command = handed(tree.parent.unwrap());
            let again = world.submit_once(&cast.planner, command, Some((below.key.as_str(), b"tree"))).await?;
            assert_eq!(again.grant.id, tree.id);
            match again.state {
                GrantState::Active => Ok(None),
                state => Err(Error::denied("over", state.as_str())),
            }
        }
    }
}

impl Tally {
    /// One grant's history: whoever began after the answer got nothing.
    fn count(&mut self, raced: &Raced) {
        let (asked, answered) = raced.cut;
        for Attempt { verb, from, to, succeeded } in raced.attempts.iter().copied() {
            assert!(
                !(succeeded && from > answered),
                "{verb:?} of {} began after the answer, and succeeded",
                raced.grant
            );
            let kind = VERBS.iter().position(|one| *one == verb).unwrap();
            self.races[kind] += 1;
            self.first[kind] += usize::from(succeeded);
            self.overlapped[kind] += usize::from(from < answered && to > asked);
            self.late += usize::from(from > answered);
        }
    }
}

/// Nothing below a grant that was cut lives: no grant, and no token.
fn assert_dead(world: &World, raced: &[Raced]) {
    let now = world.ledger.now();
    world.ledger.view(|view| {
        for one in raced {
            for grant in view.descend(vec![one.grant], |_| true) {
                let standing = view.standing(grant.id, now).unwrap();
                assert!(standing.state.is_ended(), "{} below {} is {}", grant.id, one.grant, standing.state);
            }
            for token in &one.tokens {
                assert!(!judge(&view, now, Credential::Token(*token), None).allowed, "{token} lives");
            }
        }
    });
}
