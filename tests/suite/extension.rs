//! Once a tree is cut nothing below it can be issued, renewed, delegated or had again: not after, not in a race.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use belay::domain::agent::AgentStatus;
use belay::domain::cut::Target;
use belay::domain::decide::{
    Caller, Delegate, EndTask, Granted, IssueToken, RenewGrant, RequestGrant, Revoke, SetAgentStatus, SetGrantStatus,
    StartTask, TokenAnswer, judge,
};
use belay::domain::error::Error;
use belay::domain::grant::Credential;
use belay::domain::grant::Status;
use belay::domain::id::{GrantId, TaskId, TokenId};
use belay::domain::scope::Scopes;
use belay::domain::time::{Span, Timestamp};
use tokio::sync::Notify;

use crate::support::world::{Hands, World};

/// A tree of three: planner's root, coder's child, tester's grandchild.
struct Tree {
    world: World,
    agents: BTreeMap<&'static str, Caller>,
    task: TaskId,
    chain: [(GrantId, &'static str); 3],
    _directory: tempfile::TempDir,
}

impl Tree {
    async fn grow() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let world = World::open(directory.path(), Hands::new()).await;
        let mut agents = BTreeMap::new();
        for name in ["planner", "coder", "tester"] {
            agents.insert(name, world.agent(name).await);
        }
        let start = StartTask {
            purpose: "testing".parse().unwrap(),
            subject: Some("alice".parse().unwrap()),
            ttl: Span::hours(1),
            envelope: None,
        };
        let task = world.submit(&agents["planner"], start).await.unwrap().task.id;
        let mut tree = Self { world, agents, task, chain: [(none(), "planner"); 3], _directory: directory };
        let root = tree.request("root").await.unwrap().grant.id;
        tree.chain = [(root, "planner"); 3];
        tree.chain[1] = (tree.delegate(0, "coder", "child").await.unwrap().grant.id, "coder");
        tree.chain[2] = (tree.delegate(1, "tester", "grandchild").await.unwrap().grant.id, "tester");
        tree
    }

    async fn request(&self, key: &str) -> Result<Granted, Error> {
        let (scopes, ttl) = (Scopes::parse(&["db:*@**"])?, Span::minutes(15));
        let command = RequestGrant {
            task: self.task,
            scopes,
            audience: None,
            ttl,
            token: true,
            limits: Default::default(),
            narrow: false,
        };
        self.world.submit_once(&self.agents["planner"], command, Some((key, b"request"))).await
    }

    async fn delegate(&self, link: usize, to: &str, key: &str) -> Result<Granted, Error> {
        let (parent, by) = self.chain[link];
        let (scopes, ttl) = (Scopes::parse(&["db:*@**"])?, Span::minutes(10));
        let command = Delegate {
            parent,
            to: to.parse()?,
            scopes,
            audience: None,
            ttl,
            own: false,
            limits: Default::default(),
            narrow: false,
        };
        self.world.submit_once(&self.agents[by], command, Some((key, b"delegate"))).await
    }

    async fn renew(&self, link: usize, minutes: i64) -> Result<Granted, Error> {
        let (id, by) = self.chain[link];
        self.world.submit(&self.agents[by], RenewGrant { id, ttl: Span::minutes(minutes) }).await
    }

    async fn token(&self, link: usize, key: &str) -> Result<TokenId, Error> {
        let (grant, by) = self.chain[link];
        let issue = IssueToken { grant, audience: None };
        match self.world.submit_once(&self.agents[by], issue, Some((key, b"token"))).await? {
            TokenAnswer::New(token) => Ok(token.get().id),
            TokenAnswer::Again(id, _) => Ok(id),
        }
    }

    async fn revoke(&self, target: &Target) {
        let command = Revoke { target: target.clone(), reason: "testing".parse().unwrap(), dry_run: false };
        self.world.submit(&Caller::Broker, command).await.unwrap();
    }

    fn is_allowed(&self, token: TokenId) -> bool {
        let now = self.world.ledger.now();
        self.world.ledger.view(|view| judge(&view, now, Credential::Token(token), None).allowed)
    }

    /// Everything in the tree of the root, and how long it would run.
    fn extent(&self) -> BTreeMap<GrantId, (Timestamp, &'static str, usize)> {
        let now = self.world.ledger.now();
        self.world.ledger.view(|view| {
            let all = view.descend(vec![self.chain[0].0], |_| true).into_iter();
            let state = |id| view.standing(id, now).unwrap().state.as_str();
            all.map(|grant| (grant.id, (grant.expires_at, state(grant.id), view.tokens_of(grant.id).len()))).collect()
        })
    }
}

/// A grant that is nowhere.
fn none() -> GrantId {
    GrantId::mint(Timestamp::from_millis(1), &mut belay::domain::entropy::Entropy::from_seed([0; 32]))
}

fn kinds(tree: &Tree) -> [Target; 5] {
    [
        Target::Grant(tree.chain[0].0),
        Target::Task(tree.task),
        Target::Agent("planner".parse().unwrap()),
        Target::Owner("owner-of-planner".parse().unwrap()),
        Target::Subject("alice".parse().unwrap()),
    ]
}

/// Many at once ask for more of one tree, the revoke comes among them: what was had before it dies, what comes
/// after it is refused, and at the moment of its answer the tree has its last extent.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_revoked_tree_cannot_be_extended() {
    let (mut before, mut after) = (0, 0);
    for round in 0..10 {
        let tree = Arc::new(Tree::grow().await);
        let target = kinds(&tree)[round % 5].clone();
        let task_is_cut = matches!(target, Target::Task(_));
        let (had, refused, enough) =
            (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
        let mut racing = tokio::task::JoinSet::new();
        for racer in 0..24 {
            let (tree, had, refused, enough) = (tree.clone(), had.clone(), refused.clone(), enough.clone());
            racing.spawn(async move {
                let (mut tokens, mut roots) = (Vec::new(), Vec::new());
                for turn in 0..200_u8 {
                    let key = format!("{racer}-{turn}");
                    let link = usize::from(turn % 3);
                    let said = match racer % 5 {
                        0 => tree.delegate(link, "tester", &key).await.map(drop),
                        1 => tree.renew(link, 15 + i64::from(turn)).await.map(drop),
                        2 => tree.token(link, &key).await.map(|token| tokens.push(token)),
                        // Roots of the same task: a cut of the task ends those too.
                        3 if task_is_cut => tree.request(&key).await.map(|granted| roots.push(granted.grant.id)),
                        // One request, again and again.
                        _ => tree.token(link, "again").await.map(|token| tokens.push(token)),
                    };
                    if said.is_err() {
                        refused.fetch_add(1, Ordering::SeqCst);
                        break;
                    }
                    if had.fetch_add(1, Ordering::SeqCst) == 40 {
                        enough.notify_one();
                    }
                }
                (tokens, roots)
            });
        }
        tokio::time::timeout(Duration::from_secs(60), enough.notified()).await.unwrap();
        tree.revoke(&target).await;
        let last = tree.extent();
        // The racers may all have ended before the answer: what begins after it is asked for here.
        for link in 0..3 {
            let late = format!("late-{link}");
            assert!(tree.delegate(link, "tester", &late).await.is_err(), "{target}: delegated below link {link}");
            assert!(tree.renew(link, 500).await.is_err(), "{target}: renewed link {link}");
            assert!(tree.token(link, &late).await.is_err(), "{target}: a token under link {link}");
        }
        let (tokens, roots): (Vec<_>, Vec<_>) = racing.join_all().await.into_iter().unzip();

        assert_eq!(tree.extent(), last, "{target}: extended after the revoke had returned");
        assert!(last.values().all(|(_, state, _)| *state == "revoked"), "{target}: {last:?}");
        assert!(tokens.iter().flatten().all(|token| !tree.is_allowed(*token)), "{target}: a token lives");
        assert!(
            roots.iter().flatten().all(|root| tree.world.state(*root) == Some("revoked")),
            "{target}: a root lives"
        );
        before += had.load(Ordering::SeqCst);
        after += refused.load(Ordering::SeqCst);
    }
    assert!(before > 400 && after > 100, "the race was none: {before} before the cut, {after} refused after it");
}

/// What each verb says below a cut of each kind.
#[tokio::test]
async fn below_a_cut_every_verb_is_refused() {
    for kind in 0..5 {
        let tree = Tree::grow().await;
        let token = tree.token(2, "token").await.unwrap();
        tree.renew(0, 20).await.unwrap();
        assert!(tree.is_allowed(token));
        let (target, reason) = (kinds(&tree)[kind].clone(), ["grant", "task", "agent", "owner", "subject"][kind]);
        let reason = format!("{reason}_revoked");
        tree.revoke(&target).await;
        assert_ruined(&tree, token, &reason).await;

        // A grant's cut, or a name's, is no cut of the future: a new root may be had, and it is live. A task that began on
        // the word of a subject who was cut is over with it.
        let anew = tree.request("anew").await;
        match target {
            Target::Task(_) => assert_eq!(anew.unwrap_err().reason, "task_revoked"),
            Target::Subject(_) => assert_eq!(anew.unwrap_err().reason, "subject_revoked"),
            _ => assert_eq!(tree.world.state(anew.unwrap().grant.id), Some("active"), "{target}"),
        }
    }
}

/// The other ends of a tree: as final as a cut.
#[tokio::test]
async fn below_a_retired_agent_or_an_ended_task_every_verb_is_refused() {
    for retired in [true, false] {
        let tree = Tree::grow().await;
        let token = tree.token(2, "token").await.unwrap();
        if retired {
            tree.world.set_agent("coder", AgentStatus::Retired).await;
            assert_eq!(tree.world.state(tree.chain[0].0), Some("active"), "nothing above it dies");
            let back = SetAgentStatus {
                name: "coder".parse().unwrap(),
                status: AgentStatus::Active,
                reason: "testing".parse().unwrap(),
            };
            assert_eq!(tree.world.submit(&Caller::Broker, back).await.unwrap_err().reason, "agent_retired");
        } else {
            let end = EndTask { id: tree.task, reason: "testing".parse().unwrap() };
            tree.world.submit(&tree.agents["planner"], end).await.unwrap();
            assert_eq!(tree.request("anew").await.unwrap_err().reason, "task_ended");
        }
        let reason = if retired { "agent_retired" } else { "task_ended" };
        assert!(!tree.is_allowed(token));
        assert_eq!(tree.delegate(2, "planner", "late").await.unwrap_err().reason, reason);
        assert_eq!(tree.renew(2, 30).await.unwrap_err().reason, reason);
        assert_eq!(tree.token(2, "token").await.unwrap_err().reason, reason);
        assert!(tree.delegate(1, "tester", "late").await.is_err());
    }
}

/// Delegating, renewing, issuing, retrying and resuming, at every link.
async fn assert_ruined(tree: &Tree, token: TokenId, reason: &str) {
    let extent = tree.extent();
    assert!(!tree.is_allowed(token));
    for link in 0..3 {
        let id = tree.chain[link].0;
        assert_eq!(tree.world.state(id), Some("revoked"));
        assert_eq!(tree.delegate(link, "tester", "late").await.unwrap_err().reason, reason);
        assert_eq!(tree.renew(link, 30).await.unwrap_err().reason, reason);
        assert_eq!(tree.token(link, "late").await.unwrap_err().reason, reason);
        for status in [Status::Active, Status::Suspended] {
            let change = SetGrantStatus { id, status, reason: "testing".parse().unwrap() };
            assert_eq!(tree.world.submit(&Caller::Broker, change).await.unwrap_err().reason, "grant_ended");
        }
    }
    // A key gives what it gave: the same grant, dead, and never its token again.
    assert_eq!(tree.token(2, "token").await.unwrap_err().reason, reason);
    for again in [tree.request("root").await, tree.delegate(0, "coder", "child").await] {
        let again = again.unwrap();
        assert!(tree.chain.iter().any(|(id, _)| *id == again.grant.id));
        assert!(again.state.as_str() == "revoked" && again.token.is_none(), "{again:?}");
    }
    assert_eq!(tree.extent(), extent, "{reason}");
}
