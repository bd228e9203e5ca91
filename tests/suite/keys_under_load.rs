//! Keys are rotated and tainted while agents work: nothing that is valid breaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use belay::attest::csr;
use belay::broker::{Asked, Issued};
use belay::client::identity;
use belay::domain::decide::{Caller, IssueToken, RegisterAgent};
use belay::domain::error::Error;
use belay::domain::key::{Phase, Purpose};

use crate::support::office::{Office, asked};
use crate::support::shop::{Shop, kid, presenter, presents, renewed};
use crate::turn_contract::register;

/// Four agents that never rest, three rotations and a taint of each purpose: what was accepted stays accepted unless
/// its key was tainted, and then it is refused for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_under_load_breaks_nothing_valid_and_revives_nothing_dead() {
    let directory = tempfile::tempdir().unwrap();
    let shop = Arc::new(Shop::open(directory.path()).await);
    let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (shop, stop, rounds) = (Arc::clone(&shop), Arc::clone(&stop), Arc::clone(&rounds));
            tokio::spawn(async move {
                let mut tokens = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    tokens.push(work(&shop).await);
                    rounds.fetch_add(1, Ordering::SeqCst);
                }
                tokens
            })
        })
        .collect();
    let some = async || {
        let until = rounds.load(Ordering::SeqCst) + 8;
        while rounds.load(Ordering::SeqCst) < until {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    let mut tainted = Vec::new();
    let told = async {
        for purpose in Purpose::ALL {
            for at_once in [true, false, true] {
                some().await;
                shop.rotate(purpose, at_once).await;
            }
            some().await;
            // The agents' authority is left alone here: they would all have to enroll again.
            if purpose == Purpose::Token {
                let kid = shop.office.world.signer(purpose);
                shop.taint(&kid).await.unwrap();
                tainted.push(kid);
            }
        }
        some().await;
        // The waiting one comes into its turn while they work.
        shop.turn(Purpose::Token.notice());
        shop.office.broker.refresh_keys().unwrap();
        some().await;
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), told).await.expect("the agents stand still");
    stop.store(true, Ordering::SeqCst);
    let mut signed_by = std::collections::BTreeSet::new();
    for worker in workers {
        for token in worker.await.unwrap() {
            let expected = if tainted.contains(&kid(&token)) { "key_unknown" } else { "" };
            assert_eq!(shop.says(&token), expected);
            signed_by.insert(kid(&token));
        }
    }
    assert!(signed_by.len() >= 4 && tainted.iter().all(|kid| signed_by.contains(kid)), "{signed_by:?}");
}

/// What an agent does: a new identity, a token, a call. Each must succeed; a taint of the very key that signs is the
/// one reason to ask again.
async fn work(shop: &Shop) -> String {
    let issued = renewed(&shop.office, &shop.agent).await.unwrap();
    assert_eq!(presents(&shop.office, &presenter(&shop.office, &issued)), "");
    loop {
        let command = IssueToken { grant: shop.grant.id, audience: None };
        let answer = shop.office.world.submit(&shop.agent, command).await.unwrap();
        match shop.office.broker.sign_token(answer) {
            Ok(signed) => {
                let said = shop.says_once(&signed.token);
                let dead = shop.phase(&kid(&signed.token)) == Phase::Tainted;
                assert!(said.is_empty() || dead, "{said}");
                return signed.token;
            }
            Err(error) => assert_eq!(error.reason, "key_tainted"),
        }
    }
}

/// Agents come and enroll while their authority is tainted and rotated under them: every enrolment ends with a
/// certificate, and a certificate is good exactly if nobody tainted its authority.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enrolments_go_on_through_taints_and_rotations_of_their_authority() {
    let directory = tempfile::tempdir().unwrap();
    let shop = Arc::new(Shop::open(directory.path()).await);
    let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let (shop, stop, rounds) = (Arc::clone(&shop), Arc::clone(&stop), Arc::clone(&rounds));
            tokio::spawn(async move {
                let mut issued = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let round = rounds.fetch_add(1, Ordering::SeqCst);
                    issued.push(enrolled(&shop.office, &format!("agent-{worker}-{round}")).await.unwrap());
                }
                issued
            })
        })
        .collect();
    let told = async {
        for _ in 0..4 {
            for tainted in [true, false] {
                let until = rounds.load(Ordering::SeqCst) + 8;
                while rounds.load(Ordering::SeqCst) < until {
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                }
                match tainted {
                    true => drop(shop.taint(&shop.office.world.signer(Purpose::Authority)).await.unwrap()),
                    false => drop(shop.rotate(Purpose::Authority, true).await),
                }
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), told).await.expect("the agents stand still");
    stop.store(true, Ordering::SeqCst);
    let (mut good, mut dead) = (0, 0);
    for worker in workers {
        for issued in worker.await.unwrap() {
            let tainted = shop.phase(&issued.identity.authority) == Phase::Tainted;
            let expected = if tainted { "key_tainted" } else { "" };
            assert_eq!(presents(&shop.office, &presenter(&shop.office, &issued)), expected);
            *(if tainted { &mut dead } else { &mut good }) += 1;
        }
    }
    assert!(good > 8 && dead > 8, "{good} and {dead}");
}

async fn enrolled(office: &Office, name: &str) -> Result<Issued, Error> {
    let secret = office.broker.join_secret();
    let command = RegisterAgent { secret_hash: secret.hash(), ..register(name) };
    let (_, join) = office.broker.submit(&Asked::broker("test"), command).await?;
    let (_, request) = identity::request(None).unwrap();
    let spki = csr::prove(&request).unwrap().spki;
    let token = office.broker.join_token(&join, secret).parse().unwrap();
    office.broker.enroll(&asked(&Caller::Stranger), &token, None, &spki, |_| Ok(())).await
}
