//! The signature of a token is checked once. Whatever else makes it good is asked at every call.

use belay::broker::Authorized;
use belay::domain::agent::AgentStatus;
use belay::domain::cut::Target;
use belay::domain::decide::{Caller, Revoke};
use belay::domain::time::Span;

use crate::support::office::Office;
use crate::support::world::store;

fn code(authorized: &Authorized) -> &'static str {
    authorized.verdict.reasons[0].code
}

/// The text with another character at `at`.
fn altered(token: &str, at: usize) -> String {
    let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
    format!("{}{other}{}", &token[..at], &token[at + 1..])
}

#[tokio::test]
async fn a_token_that_was_good_is_asked_about_again_at_every_call() {
    let directory = tempfile::tempdir().unwrap();
    let office = Office::open(Box::new(store(directory.path())), directory.path()).await;
    let (planner, coder) = (office.world.agent("planner").await, office.world.agent("coder").await);
    let task = office.world.task(&planner).await;
    let grant = office.world.grant(&planner, task.id, &["db:read@orders/*"]).await.unwrap();
    let tokens = [office.token(&planner, grant.id).await, office.token(&planner, grant.id).await];
    let ask = |caller: &Caller, token: &str| code(&office.read(caller, token, "orders/1"));
    for token in &tokens {
        assert_eq!([ask(&planner, token), ask(&planner, token)], ["in_scope"; 2]);
        assert_eq!(ask(&coder, token), "possession");
        assert_eq!(code(&office.read(&planner, token, "customers/1")), "out_of_scope");
        // Any other text is another token, though all but one character of it was good.
        let parts: Vec<usize> = token.match_indices('.').map(|(at, _)| at).collect();
        for at in [5, parts[0] + 20, parts[1] + 20, token.len() - 20] {
            assert!(["signature", "token_malformed"].contains(&ask(&planner, &altered(token, at))), "{at}");
        }
    }

    office.world.set_agent("planner", AgentStatus::Suspended).await;
    assert_eq!(ask(&planner, &tokens[0]), "agent_suspended");
    office.world.set_agent("planner", AgentStatus::Active).await;
    let cut = Revoke { target: Target::Grant(grant.id), reason: "over".parse().unwrap(), dry_run: false };
    office.world.submit(&Caller::Broker, cut).await.unwrap();
    for token in &tokens {
        assert_eq!(ask(&planner, token), "grant_revoked");
    }

    let grant = office.world.grant(&planner, task.id, &["db:read@orders/*"]).await.unwrap();
    let token = office.token(&planner, grant.id).await;
    assert_eq!(ask(&planner, &token), "in_scope");
    office.world.hands.turn(Span::minutes(15));
    assert_eq!(ask(&planner, &token), "token_expired");
}
