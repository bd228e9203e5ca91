//! No grant outlives or outscopes what is above it, however trees are grown and renewed.

use std::cell::Cell;

use belay::domain::decide::{Caller, Delegate, IssueToken, RenewGrant, RequestGrant, TokenAnswer};
use belay::domain::error::Error;
use belay::domain::grant::{Grant, Token};
use belay::domain::id::GrantId;
use belay::domain::scope::{Call, Scopes};
use belay::domain::time::Span;
use belay::domain::view::View;
use proptest::option;
use proptest::prelude::*;

use crate::support::model;
use crate::support::property::check;
use crate::support::world::{Hands, World};

/// Name, ceiling, longest life in seconds.
type Bounds = (&'static str, Option<&'static [&'static str]>, Option<i64>);
const AGENTS: [Bounds; 4] = [
    ("planner", None, None),
    ("coder", Some(&["a:x.*@p/**", "b:*@p/*"]), None),
    ("tester", None, Some(100)),
    ("helper", Some(&["a:*@**"]), Some(250)),
];

#[derive(Clone, Debug)]
enum Step {
    /// One pattern, or all that the parent has.
    Delegate {
        from: u8,
        to: u8,
        scope: Option<u8>,
        ttl: i64,
    },
    Renew {
        which: u8,
        ttl: i64,
    },
    Token {
        which: u8,
    },
    Turn {
        millis: i64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (number, ttl) = (any::<u8>, || 500..700_000_i64);
    let step = prop_oneof![
        6 => (number(), number(), option::weighted(0.7, number()), ttl())
            .prop_map(|(from, to, scope, ttl)| Step::Delegate { from, to, scope, ttl }),
        4 => (number(), ttl()).prop_map(|(which, ttl)| Step::Renew { which, ttl }),
        2 => number().prop_map(|which| Step::Token { which }),
        2 => (1..40_000_i64).prop_map(|millis| Step::Turn { millis }),
    ];
    proptest::collection::vec(step, 10..50)
}

struct Grove {
    world: World,
    agents: Vec<Caller>,
    grants: Vec<(GrantId, usize)>,
    tokens: Vec<Token>,
    patterns: Vec<String>,
    universe: Vec<Call>,
    _directory: tempfile::TempDir,
}

impl Grove {
    /// A task of ten minutes less 137 ms, and a root that allows everything.
    async fn plant() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let world = World::open(directory.path(), Hands::new()).await;
        let mut agents = Vec::new();
        for (name, ceiling, max_ttl) in AGENTS {
            agents.push(world.agent_within(name, ceiling, max_ttl.map(Span::seconds)).await);
        }
        let task = world.task_of(&agents[0], Span::millis(599_863)).await;
        let scopes = Scopes::parse(&["a:*@**", "b:*@**"]).unwrap();
        let command = RequestGrant {
            task: task.id,
            scopes,
            audience: None,
            ttl: Span::minutes(4),
            token: false,
            limits: Default::default(),
            narrow: false,
        };
        let root = world.submit(&agents[0], command).await.unwrap().grant;
        let universe = model::universe().iter().map(|(t, a, r)| Call::parse(t, a, r).unwrap()).collect();
        let (tokens, patterns) = (Vec::new(), model::patterns());
        Self { world, agents, grants: vec![(root.id, 0)], tokens, patterns, universe, _directory: directory }
    }

    /// Often the newest, so that trees grow deep.
    fn pick(&self, number: u8) -> (GrantId, usize) {
        let newest = self.grants.len() - 1;
        if number < 80 { self.grants[newest] } else { self.grants[usize::from(number) % (newest + 1)] }
    }

    async fn step(&mut self, step: &Step) -> Result<(), Error> {
        match *step {
            Step::Delegate { from, to, scope, ttl } => {
                let ((parent, holder), to) = (self.pick(from), usize::from(to) % AGENTS.len());
                let all = self.world.ledger.view(|view| view.grant(parent).map(|grant| grant.scopes.clone()));
                let scopes = match (scope, all) {
                    (None, Some(all)) => all,
                    (scope, _) => {
                        Scopes::parse(&[&self.patterns[usize::from(scope.unwrap_or(0)) % self.patterns.len()]])?
                    }
                };
                let to_name = AGENTS[to].0.parse()?;
                let command = Delegate {
                    parent,
                    to: to_name,
                    scopes,
                    audience: None,
                    ttl: Span::millis(ttl),
                    own: false,
                    limits: Default::default(),
                    narrow: false,
                };
                let granted = self.world.submit(&self.agents[holder], command).await?;
                self.grants.push((granted.grant.id, to));
            }
            Step::Renew { which, ttl } => {
                let (id, holder) = self.pick(which);
                self.world.submit(&self.agents[holder], RenewGrant { id, ttl: Span::millis(ttl) }).await?;
            }
            Step::Token { which } => {
                let (grant, holder) = self.pick(which);
                let issued = self.world.submit(&self.agents[holder], IssueToken { grant, audience: None }).await?;
                if let TokenAnswer::New(token) = issued {
                    self.tokens.push(token.into_inner());
                }
            }
            Step::Turn { millis } => self.world.hands.turn(Span::millis(millis)),
        }
        Ok(())
    }

    /// Every grant against each of its ancestors, its task and its holder; every token against its chain.
    fn check(&self) {
        self.world.ledger.view(|view| {
            view.grants().for_each(|grant| self.is_bounded(&view, grant));
            for token in &self.tokens {
                let Some(grant) = view.grant(token.grant) else { continue };
                assert!(token.expires_at <= grant.expires_at && token.scopes == grant.scopes, "{token:?}");
            }
        });
    }

    fn is_bounded(&self, view: &View<'_>, grant: &Grant) {
        let task = view.task(&grant.task).unwrap();
        assert!(grant.expires_at <= grant.renewable_until && grant.renewable_until <= task.expires_at, "{grant:?}");
        for ancestor in view.ancestry(grant.id) {
            assert!(grant.expires_at <= ancestor.expires_at, "{grant:?} outlives {ancestor:?}");
            assert!(grant.renewable_until <= ancestor.renewable_until, "{grant:?} would outlive {ancestor:?}");
            assert!(self.allowed(&grant.scopes, &ancestor.scopes), "{grant:?} outscopes {ancestor:?}");
        }
        let holder = view.agent(&grant.agent).unwrap();
        let longest = holder.max_ttl.map(|max| grant.created_at.plus(max));
        assert!(
            longest.is_none_or(|longest| grant.renewable_until <= longest),
            "{grant:?} outlives its holder's bound"
        );
        let ceiling = holder.ceiling.as_ref();
        assert!(ceiling.is_none_or(|ceiling| self.allowed(&grant.scopes, ceiling)), "{grant:?} is beyond its ceiling");
    }

    /// Call by call, so that `covers` is not its own judge.
    fn allowed(&self, child: &Scopes, parent: &Scopes) -> bool {
        self.universe.iter().all(|call| parent.allow(call) || !child.allow(call))
    }
}

#[test]
fn a_child_never_outlives_or_outscopes_any_ancestor() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (done, refused, deepest) = (Cell::new(0), Cell::new(0), Cell::new(0));
    check(20, &steps(), |steps| {
        runtime.block_on(async {
            let mut grove = Grove::plant().await;
            for step in &steps {
                let count = if grove.step(step).await.is_ok() { &done } else { &refused };
                count.set(count.get() + 1);
                grove.check();
            }
            let depth = grove.world.ledger.view(|view| view.grants().map(|grant| grant.depth).max());
            deepest.set(deepest.get().max(depth.unwrap_or(0)));
        });
        Ok(())
    });
    let (done, refused, deepest) = (done.into_inner(), refused.into_inner(), deepest.into_inner());
    assert!(done > 100 && refused > 50 && deepest >= 3, "{done} done, {refused} refused, {deepest} deep");
}

#[tokio::test]
async fn what_would_widen_is_refused_by_its_field() {
    let grove = Grove::plant().await;
    let (world, planner, root) = (&grove.world, &grove.agents[0], grove.grants[0].0);
    let tester = world.delegate(planner, root, "tester", &["a:x@p/q", "a:x@p/n"]).await.unwrap();
    let mut said = Vec::new();
    for scopes in [&["a:x@p/*"][..], &["a:x@p/q", "a:x.y@p/q"], &["b:x@p/q"], &["a:*@p/q"], &["a:x@p/q/n"], &["a:x@**"]]
    {
        let error = world.delegate(&grove.agents[2], tester.id, "planner", scopes).await.unwrap_err();
        said.push((error.reason, error.field));
        assert!(scopes.iter().any(|scope| error.message.contains(scope)), "{error}");
    }
    assert!(said.iter().all(|said| *said == ("scope_widened", Some("scope"))), "{said:?}");
    let within = world.delegate(&grove.agents[2], tester.id, "planner", &["a:x@p/n"]).await.unwrap();
    assert_eq!(within.scopes, Scopes::parse(&["a:x@p/n"]).unwrap());

    // Three hops: what the middle gave up, the bottom does not get back from the top's abundance.
    let back = world.delegate(planner, within.id, "helper", &["a:x@p/q"]).await.unwrap_err();
    assert_eq!(back.reason, "scope_widened");
}

#[tokio::test]
async fn a_ceiling_and_a_longest_life_bind_whoever_delegates() {
    let grove = Grove::plant().await;
    let (world, planner, root) = (&grove.world, &grove.agents[0], grove.grants[0].0);
    let beyond = world.delegate(planner, root, "coder", &["a:x@p/q"]).await.unwrap_err();
    assert_eq!((beyond.reason, beyond.field), ("beyond_ceiling", Some("scope")));
    world.delegate(planner, root, "coder", &["a:x.y@p/q"]).await.unwrap();
    let own = world.task(&grove.agents[1]).await;
    assert_eq!(world.grant(&grove.agents[1], own.id, &["b:x@n"]).await.unwrap_err().reason, "beyond_ceiling");

    let short = world.delegate(planner, root, "tester", &["a:x@p"]).await.unwrap();
    let end = world.ledger.now().plus(Span::seconds(100));
    assert_eq!((short.expires_at, short.renewable_until), (end, end));
    world.hands.turn(Span::seconds(99));
    let renewed = world.submit(&grove.agents[2], RenewGrant { id: short.id, ttl: Span::minutes(3) }).await.unwrap();
    assert_eq!(renewed.grant.expires_at, end, "renewals are included in the longest life");
}

#[tokio::test]
async fn a_child_is_renewed_up_to_its_parent_and_then_with_it() {
    let grove = Grove::plant().await;
    let (world, planner, root) = (&grove.world, &grove.agents[0], grove.grants[0].0);
    let child = world.delegate(planner, root, "planner", &["a:*@**"]).await.unwrap();
    let grandchild = world.delegate(planner, child.id, "planner", &["a:*@**"]).await.unwrap();
    let renew = |id| world.submit(planner, RenewGrant { id, ttl: Span::hours(1) });
    let first_end = child.expires_at;
    assert_eq!(renew(grandchild.id).await.unwrap().grant.expires_at, first_end);
    let task_end = renew(root).await.unwrap().grant.expires_at;
    assert!(task_end > first_end);
    assert_eq!(renew(grandchild.id).await.unwrap().grant.expires_at, first_end, "its parent was not renewed");
    assert_eq!(renew(child.id).await.unwrap().grant.expires_at, task_end);
    assert_eq!(renew(grandchild.id).await.unwrap().grant.expires_at, task_end);
    let shorter = RenewGrant { id: root, ttl: Span::seconds(1) };
    assert_eq!(world.submit(planner, shorter).await.unwrap().grant.expires_at, task_end, "a renewal never shortens");
}
