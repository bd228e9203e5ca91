//! How long a call that is held goes on after the grant that it is under was revoked.

use std::time::{Duration, Instant};

use belay::client::Identity;
use belay::wire::v1;
use belay::wire::v1::decision_message::Said;

use crate::support::calls::Acting;
use crate::support::line::{Line, read};
use crate::support::process::Broker;

/// How long it may take on a quiet machine.
const BOUND: Duration = Duration::from_millis(250);
/// What recording one thing takes on a quiet machine of two cores, in code that is not optimised.
const QUIET: Duration = Duration::from_millis(40);
const ROUNDS: usize = 20;
/// Other calls that the same streams hold meanwhile.
const BESIDE: u64 = 50;
const THERE: &str = "https://orders.example";

/// A grant for the audience of the enforcement point, and its token.
async fn granted(ana: &Acting) -> (String, String) {
    let (task, scopes, audience) = (ana.task().await, vec!["db:read@**".to_owned()], THERE.to_owned());
    let request = v1::RequestGrantRequest { task, scopes, audience, token: true, ..Default::default() };
    let granted = ana.request(request).await.unwrap().into_inner();
    (granted.grant.unwrap().id, granted.token.unwrap().token)
}

/// The bound is 250 ms for each of 20 rounds, from before the revoke is asked for until the end is heard, at an enforcement
/// point and at the agent's own. It grows with the load, as [`crate::cut`] says it of a cut.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_held_is_ended_within_a_quarter_of_a_second_of_its_revoke() {
    let _alone = crate::ALONE.lock().await;
    let broker = Broker::start();
    let ana_at = broker.enroll_agent("ana").await;
    let ana = Acting::with(&broker, &ana_at).await;
    let certificate = Identity::load(&ana_at).unwrap().certificate().to_vec();
    let gate = broker.channel_as(&broker.pep("gate", &[THERE]).await).await.unwrap();
    let boss = Acting(broker.channel().await);
    for last in (0..crate::SERIES).map(|at| at + 1 == crate::SERIES) {
        let (mut at_gate, mut own) = (Line::open(&gate).await, Line::open(&ana.0).await);
        let (_, beside) = granted(&ana).await;
        for id in 0..BESIDE {
            own.decided(id, read(&beside, "beside", &[]), true).await;
            at_gate.decided(id, read(&beside, "beside", &certificate), true).await;
        }
        let (mut all, mut late) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let since = Instant::now();
            let (grant, token) = granted(&ana).await;
            // A task, a grant with its token: two things were recorded.
            let floor = since.elapsed() / 2;
            let id = 1000 + round as u64;
            assert_eq!(own.decided(id, read(&token, "a", &[]), true).await.decision, "allow");
            assert_eq!(at_gate.decided(id, read(&token, "a", &certificate), true).await.decision, "allow");
            let since = Instant::now();
            let ended = async |line: &mut Line| {
                assert!(matches!(line.hears(id).await, Said::Ended(_)));
                since.elapsed()
            };
            let (revoked, one, two) = tokio::join!(boss.revoke(&grant), ended(&mut own), ended(&mut at_gate));
            revoked.unwrap();
            let took = one.max(two);
            if took > BOUND.max(BOUND.mul_f64(floor.as_secs_f64() / QUIET.as_secs_f64())) {
                late.push(format!("round {round}: {took:.1?}, with a floor of {floor:.1?}"));
            }
            all.push(took);
        }
        all.sort_unstable();
        println!(
            "ended after a revoke: median {:.1?}, p99 of {ROUNDS} (the slowest) {:.1?}",
            all[ROUNDS / 2],
            all[ROUNDS - 1]
        );
        if late.is_empty() {
            return;
        }
        assert!(!last, "{late:#?}");
    }
}
