//! Defects that others had, each by the number that it has in the table of `docs/TESTING.md`.

use std::collections::BTreeSet;

use belay::cedar::Set;
use belay::domain::MAX_CHAIN;
use belay::domain::agent::AgentStatus;
use belay::domain::cut::Target;
use belay::domain::decide::{Caller, Delegate, IssueToken, RequestGrant, Revoke, SetGrantStatus, TokenAnswer, judge};
use belay::domain::entropy::Entropy;
use belay::domain::error::Code;
use belay::domain::grant::{Credential, Grant, Status};
use belay::domain::id::{GrantId, TokenId};
use belay::domain::scope::{Call, Scopes};
use belay::domain::time::Span;

use crate::support::office::{Office, asked};
use crate::support::world::{Hands, World, store};

/// Throws that are the same every time.
struct Dice(Entropy);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        let at = belay::domain::time::Timestamp::from_millis(1);
        let bytes = GrantId::mint(at, &mut self.0).uuid().into_bytes();
        usize::from(u16::from_be_bytes([bytes[14], bytes[15]])) % sides
    }
}

async fn revoke(world: &World, target: Target) {
    let command = Revoke { target, reason: "testing".parse().unwrap(), dry_run: false };
    world.submit(&Caller::Broker, command).await.unwrap();
}

async fn token(world: &World, holder: &Caller, grant: GrantId) -> Option<TokenId> {
    match world.submit(holder, IssueToken { grant, audience: None }).await.ok()? {
        TokenAnswer::New(token) => Some(token.get().id),
        TokenAnswer::Again(..) => None,
    }
}

/// A tree that grew at random, with tokens, over time, while some of it ended or was halted.
struct Grown {
    world: World,
    grants: Vec<(Grant, Option<usize>)>,
    tokens: Vec<(TokenId, usize)>,
    _directory: tempfile::TempDir,
}

async fn grow(seed: u8) -> (Grown, Dice) {
    let directory = tempfile::tempdir().unwrap();
    let (world, mut dice) = (World::open(directory.path(), Hands::new()).await, Dice(Entropy::from_seed([seed; 32])));
    let mut agents = Vec::new();
    for number in 0..4 {
        agents.push(world.agent(&format!("agent-{number}")).await);
    }
    let task = world.task(&agents[0]).await;
    let root = world.grant(&agents[0], task.id, &["db:read@**"]).await.unwrap();
    let mut grown = Grown { world, grants: vec![(root, None)], tokens: Vec::new(), _directory: directory };
    for _ in 0..40 {
        let at = dice.below(grown.grants.len());
        let (parent, holder) = (grown.grants[at].0.clone(), dice.below(4));
        let by = &agents[parent.agent.as_str().trim_start_matches("agent-").parse::<usize>().unwrap()];
        match dice.below(12) {
            0..7 => {
                let command = Delegate {
                    parent: parent.id,
                    to: format!("agent-{holder}").parse().unwrap(),
                    scopes: Scopes::parse(&["db:read@**"]).unwrap(),
                    audience: None,
                    ttl: Span::minutes(1 + dice.below(14) as i64),
                    own: dice.below(3) == 0,
                    limits: Default::default(),
                    narrow: false,
                };
                let granted = grown.world.submit(by, command).await;
                grown.grants.extend(granted.ok().map(|granted| (granted.grant, Some(at))));
            }
            7..10 => grown.tokens.extend(token(&grown.world, by, parent.id).await.map(|token| (token, at))),
            10 if at > 0 => {
                let status = if dice.below(2) == 0 { Status::Suspended } else { Status::Completed };
                let caller = if status == Status::Completed { by } else { &Caller::Broker };
                let change = SetGrantStatus { id: parent.id, status, reason: "testing".parse().unwrap() };
                let _ = grown.world.submit(caller, change).await;
            }
            // Some expire, and some of those are forgotten.
            _ => grown.world.hands.turn(Span::seconds(dice.below(90) as i64)),
        }
    }
    (grown, dice)
}

impl Grown {
    fn is_below(&self, mut at: usize, top: usize) -> bool {
        while at != top {
            let Some(above) = self.grants[at].1 else { return false };
            at = above;
        }
        true
    }

    fn assert_dead_below(&self, top: usize) {
        let now = self.world.ledger.now();
        self.world.ledger.view(|view| {
            for at in (0..self.grants.len()).filter(|at| self.is_below(*at, top)) {
                let standing = view.standing(self.grants[at].0.id, now);
                assert!(standing.is_none_or(|standing| standing.state.is_ended()), "{at} lives below {top}");
            }
            for (id, at) in self.tokens.iter().filter(|(_, at)| self.is_below(*at, top)) {
                assert!(!judge(&view, now, Credential::Token(*id), None).allowed, "{id} of {at} lives below {top}");
            }
        });
    }
}

/// R1: an expired, completed, halted or forgotten link between stopped the cascade.
#[tokio::test]
async fn r1_a_dead_link_between_does_not_stop_a_cut() {
    let mut deepest = 0;
    for seed in 0..24 {
        let (grown, mut dice) = grow(seed).await;
        deepest = deepest.max(grown.grants.iter().map(|(grant, _)| grant.depth).max().unwrap());
        let top = dice.below(grown.grants.len());
        revoke(&grown.world, Target::Grant(grown.grants[top].0.id)).await;
        grown.assert_dead_below(top);
        // What is resumed since, or outlives a collection, stays dead too.
        grown.world.set_agent("agent-1", AgentStatus::Suspended).await;
        grown.world.hands.turn(Span::minutes(6));
        grown.world.set_agent("agent-1", AgentStatus::Active).await;
        grown.assert_dead_below(top);
    }
    assert!(deepest >= 4, "the trees were none: {deepest}");
}

/// R3: a cut was found at the root of a chain alone. R5: a walk stopped at a depth that chains could pass.
#[tokio::test]
async fn r3_a_cut_at_any_depth_ends_what_is_below_it_and_nothing_above() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    let agents = [world.agent("agent-0").await, world.agent("agent-1").await];
    for depth in 0..MAX_CHAIN {
        let task = world.task(&agents[0]).await;
        let mut chain = vec![world.grant(&agents[0], task.id, &["db:read@**"]).await.unwrap()];
        for link in 1..MAX_CHAIN {
            let to = format!("agent-{}", link % 2);
            chain
                .push(world.delegate(&agents[(link - 1) % 2], chain[link - 1].id, &to, &["db:read@**"]).await.unwrap());
        }
        let mut tokens = Vec::new();
        for (link, grant) in chain.iter().enumerate() {
            tokens.push(token(&world, &agents[link % 2], grant.id).await.unwrap());
        }
        let past = &agents[(MAX_CHAIN - 1) % 2];
        let refused = world.delegate(past, chain[MAX_CHAIN - 1].id, "agent-0", &["db:read@**"]).await.unwrap_err();
        assert_eq!(refused.reason, "depth_limit", "no chain is deeper than what is walked");
        revoke(&world, Target::Grant(chain[depth].id)).await;
        let now = world.ledger.now();
        let allowed = |id: &TokenId| world.ledger.view(|view| judge(&view, now, Credential::Token(*id), None).allowed);
        let alive: Vec<bool> = tokens.iter().map(allowed).collect();
        let expected: Vec<bool> = (0..MAX_CHAIN).map(|link| link < depth).collect();
        assert_eq!(alive, expected, "cut at {depth}");
    }
}

/// R16: a tool that nobody listed was not recorded, and only warned about.
#[tokio::test]
async fn r16_a_tool_outside_the_catalog_is_a_class_of_its_own_and_denied_in_production() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    let planner = world.agent("planner").await;
    world.apply_catalog("[[tool]]\nname = \"db\"\nowner = \"data\"\n[[tool.action]]\nname = \"read\"\nrisk = \"read\"\n[[resource]]\npath = \"db:**\"\nsensitivity = \"public\"\n").await;
    let task = world.task(&planner).await.id;
    let wish = |scope: &str| RequestGrant {
        task,
        scopes: Scopes::parse(&[scope]).unwrap(),
        audience: None,
        ttl: Span::minutes(5),
        token: false,
        limits: Default::default(),
        narrow: false,
    };
    let known = world.submit(&planner, wish("db:read@a")).await.unwrap();
    let unknown = world.submit(&planner, wish("shadow:run@a")).await.unwrap();
    assert_eq!(
        (known.weight.radius.unbounded, unknown.weight.radius.unbounded),
        (false, true),
        "it is counted as such"
    );
    world.apply_policies(Set::production().unwrap()).await;
    let refused = world.submit(&planner, wish("shadow:run@b")).await.unwrap_err();
    assert_eq!((refused.code, refused.reason), (Code::Denied, "policy_denied"), "{refused}");
    // What was granted before is denied call by call.
    let call = Call::parse("shadow", "run", "a").unwrap();
    let now = world.ledger.now();
    let attempt = belay::domain::decide::Attempt::of(&call, true);
    let verdict = world.ledger.view(|view| belay::domain::decide::judge_call(&view, now, &unknown.grant, attempt));
    assert_eq!((verdict.allowed, verdict.reasons[0].code), (false, "policy_denied"));
}

/// R20: a token worked in other hands for some minutes, and again after it was used up.
#[tokio::test]
async fn r20_a_stolen_token_is_worth_nothing_at_once_and_a_revoked_one_never_again() {
    let directory = tempfile::tempdir().unwrap();
    let office = Office::open(Box::new(store(directory.path())), directory.path()).await;
    let world = &office.world;
    let (coder, thief) = (world.agent("coder").await, world.agent("thief").await);
    let task = world.task(&coder).await;
    let grant = world.grant(&coder, task.id, &["db:read@**"]).await.unwrap();
    let text = office.token(&coder, grant.id).await;
    // Checked for its holder a moment ago: what is remembered of it does not help whoever holds another key.
    for _ in 0..2 {
        assert!(office.read(&coder, &text, "a").verdict.allowed);
        let stolen = office.read(&thief, &text, "a").verdict;
        assert!(!stolen.allowed, "{stolen:?}");
        let checked = office.broker.check(&asked(&thief), &text);
        assert!(checked.refusal.is_some(), "{checked:?}");
    }
    let id = world.ledger.view(|view| view.tokens_of(grant.id)[0].id);
    revoke(world, Target::Token(id)).await;
    let mut said = BTreeSet::new();
    for _ in 0..3 {
        let verdict = office.read(&coder, &text, "a").verdict;
        assert!(!verdict.allowed);
        said.insert(verdict.reasons[0].code);
        assert!(office.broker.check(&asked(&coder), &text).refusal.is_some());
        world.hands.turn(Span::minutes(3));
    }
    assert_eq!(said.len(), 1, "{said:?}");
    // Another one of the same grant is as good as the first was.
    let other = office.token(&coder, grant.id).await;
    assert!(office.read(&coder, &other, "a").verdict.allowed);
}
