//! A chain has at most sixteen links, and a token under it names them all.

use belay::domain::MAX_CHAIN;
use belay::domain::error::Code;
use serde_json::Value;

use crate::support::office::{Office, asked};
use crate::support::world::store;

#[tokio::test]
async fn sixteen_links_are_a_chain_and_seventeen_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = Box::new(store(directory.path()));
    let office = Office::open(store, directory.path()).await;
    let world = &office.world;
    // Four agents take turns: `agent-0` starts, and `agent-3` holds the sixteenth link.
    let mut agents = Vec::new();
    for number in 0..4 {
        agents.push(world.agent(&format!("agent-{number}")).await);
    }
    let name = |link: usize| format!("agent-{}", link % 4);
    let task = world.task(&agents[0]).await;
    let mut chain = vec![world.grant(&agents[0], task.id, &["db:read@**"]).await.unwrap()];
    for link in 1..MAX_CHAIN {
        let holder = &agents[(link - 1) % 4];
        let grant = world.delegate(holder, chain[link - 1].id, &name(link), &["db:read@**"]).await.unwrap();
        assert_eq!(usize::from(grant.depth), link);
        chain.push(grant);
    }
    let holder = &agents[(MAX_CHAIN - 1) % 4];
    let leaf = chain.last().unwrap();
    let error = world.delegate(holder, leaf.id, &name(MAX_CHAIN), &["db:read@**"]).await.unwrap_err();
    assert_eq!((error.code, error.reason, error.field), (Code::Denied, "depth_limit", Some("parent")));
    // The holder of the link above may still delegate to somebody beside it.
    let beside = &agents[(MAX_CHAIN - 2) % 4];
    world.delegate(beside, chain[MAX_CHAIN - 2].id, &name(MAX_CHAIN), &["db:read@**"]).await.unwrap();

    let token = office.token(holder, leaf.id).await;
    let checked = office.broker.check(&asked(holder), &token);
    assert_eq!(checked.refusal, None);
    let claims = checked.claims.unwrap();
    let links: Vec<_> = claims.chain.iter().map(|link| (link.grant, link.agent.to_string())).collect();
    let expected: Vec<_> = chain.iter().enumerate().map(|(at, grant)| (grant.id, name(at))).collect();
    assert_eq!((links.len(), &links), (MAX_CHAIN, &expected));

    // RFC 8693: the outermost actor is the holder, and within it each earlier one, back to the root's own, which acts
    // in its own name.
    let mut act = &claims.json["act"];
    for link in (1..MAX_CHAIN).rev() {
        assert_eq!(act["sub"], format!("spiffe://example.org/agent/{}", name(link)), "{act}");
        act = &act["act"];
    }
    assert_eq!(act, &Value::Null);
    assert_eq!(claims.json["client_id"], format!("spiffe://example.org/agent/{}", name(MAX_CHAIN - 1)));
    assert_eq!(claims.json["sub"], "spiffe://example.org/agent/agent-0");

    // It may be used, and the cut of its root, sixteen links above, ends it.
    assert!(office.read(holder, &token, "a").verdict.allowed);
    let target = belay::domain::cut::Target::Grant(chain[0].id);
    let revoke = belay::domain::decide::Revoke { target, reason: "stop".parse().unwrap(), dry_run: false };
    let revoked = world.submit(&agents[0], revoke).await.unwrap();
    let cut = world.died(&revoked).total();
    assert_eq!((cut.grants, cut.tokens), (MAX_CHAIN as u64 + 1, 1));
    let refused = office.read(holder, &token, "a").verdict;
    assert_eq!((refused.allowed, refused.reasons[0].code), (false, "grant_revoked"));
}
