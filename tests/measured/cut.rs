//! How long one revoke takes until it is over everywhere.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::support::estate::{Agent, Estate, Held, LONG, ROLES, SESSIONS, administrator, left, until};

/// How long it may take on a quiet machine.
const BOUND: Duration = Duration::from_millis(250);
/// What [`floor`] takes on a quiet machine of two cores: most of it goes into passwords, in code that is not optimised.
const QUIET: Duration = Duration::from_millis(160);
const ROUNDS: usize = 20;

/// What the machine takes now for no more than this: to come into the database three times at once, to write twice
/// there, and to have the broker record one thing.
async fn floor(estate: &Estate, agent: &Agent) -> Duration {
    let since = Instant::now();
    let connect = || {
        let url = estate.postgres.admin_url();
        tokio::spawn(async move { administrator(&url).await })
    };
    let (admin, second, third) = tokio::join!(connect(), connect(), connect());
    let [admin, _, _] = [admin, second, third].map(Result::unwrap);
    admin.query_one("SELECT 1", &[]).await.unwrap();
    admin.batch_execute("CREATE ROLE floor").await.unwrap();
    admin.batch_execute("DROP ROLE floor").await.unwrap();
    agent.acting.task().await;
    since.elapsed()
}

/// What was measured in each round.
const LINES: [&str; 6] =
    ["answered", "refused at authorize", "refused offline", "refused at the handshake", "sessions gone", "roles gone"];

/// When the last of these was over: asked in turn from below, so that asking costs the machine little.
async fn in_turn(what: &str, since: Instant, all: &[&Held], over: impl AsyncFn(&Held) -> bool) -> Duration {
    for held in all.iter().rev() {
        until(what, since, async || over(held).await).await;
    }
    since.elapsed()
}

async fn round(estate: &Estate, admin: &Client, chain: &mut [Held; 3]) -> [Duration; 6] {
    let since = Instant::now();
    let all: Vec<&Held> = chain.iter().collect();
    let (answered, refused, offline, handshake, roles) = tokio::join!(
        async {
            let revoked = estate.boss.revoke(&all[0].grant).await.unwrap().into_inner();
            (since.elapsed(), revoked)
        },
        in_turn(LINES[1], since, &all, async |held| held.agent.acting.decided(&held.token.1).await == "grant_revoked"),
        in_turn(LINES[2], since, &all, async |held| estate.offline(held) == "grant_revoked"),
        in_turn(LINES[3], since, &all, async |held| {
            estate.handshake(held).await.is_err_and(|why| why == "tls_refused")
        }),
        until(LINES[5], since, async || left(admin, ROLES, &all).await == 0),
    );
    let died = answered.1.cut.unwrap();
    assert_eq!((died.grants, died.tokens, died.certificates, died.leases), (3, 3, 3, 3));
    assert_eq!(left(admin, SESSIONS, &all).await, 0);
    let mut sessions = Duration::ZERO;
    for held in chain {
        let ended = tokio::time::timeout(LONG, &mut held.session.over).await.expect("a session goes on").unwrap();
        sessions = sessions.max(ended.saturating_duration_since(since));
    }
    [answered.0, refused, offline, handshake, sessions, roles]
}

/// The bound is 250 ms for each of 20 rounds, the first included. It grows with the load: where [`floor`], measured
/// around the same round, took longer than on a quiet machine, the round may take longer by as much in proportion. Both
/// are printed.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_is_over_everywhere_within_a_quarter_of_a_second() {
    let test = "a_cut_is_over_everywhere_within_a_quarter_of_a_second";
    let _alone = crate::ALONE.lock().await;
    let Some(estate) = Estate::open(test).await else { return };
    let agents = [estate.agent("planner").await, estate.agent("ana").await, estate.agent("bob").await];
    let (admin, beside) = (administrator(&estate.postgres.admin_url()).await, estate.root(&agents[0]).await);
    for last in (0..crate::SERIES).map(|at| at + 1 == crate::SERIES) {
        let late = series(&estate, &admin, &agents).await;
        assert!(beside.session.answers().await && estate.offline(&beside) == "valid", "another task's was ended");
        if late.is_empty() {
            return;
        }
        assert!(!last, "{late:#?}");
    }
}

/// Twenty rounds: what took longer than it may.
async fn series(estate: &Estate, admin: &Client, [planner, ana, bob]: &[Agent; 3]) -> Vec<String> {
    let (mut lines, mut floors) = ([const { Vec::new() }; 6], Vec::new());
    let mut late = Vec::new();
    for number in 0..ROUNDS {
        let root = estate.root(planner).await;
        let second = estate.child(&root, ana).await;
        let third = estate.child(&second, bob).await;
        let mut chain = [root, second, third];
        for held in &chain {
            assert_eq!((estate.offline(held), held.session.answers().await), ("valid", true));
            assert_eq!(held.agent.acting.decided(&held.token.1).await, "in_scope");
            assert_eq!(estate.handshake(held).await, Ok(()));
        }
        let before = floor(estate, planner).await;
        let took = round(estate, admin, &mut chain).await;
        let floor = before.max(floor(estate, planner).await);
        let bound = BOUND.max(BOUND.mul_f64(floor.as_secs_f64() / QUIET.as_secs_f64()));
        for (line, took) in took.into_iter().enumerate() {
            lines[line].push(took);
            if took > bound {
                late.push(format!("round {number}: {} after {took:.1?}, with a floor of {floor:.1?}", LINES[line]));
            }
        }
        floors.push(floor);
    }
    for (name, took) in LINES.iter().zip(&mut lines) {
        print(name, took);
    }
    print("the floor", &mut floors);
    late
}

fn print(name: &str, took: &mut [Duration]) {
    took.sort_unstable();
    let (median, slowest) = (took[took.len() / 2], took[took.len() - 1]);
    println!("{name}: median {median:.1?}, p99 of {ROUNDS} (the slowest) {slowest:.1?}, max {slowest:.1?}");
}
