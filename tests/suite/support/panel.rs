//! Agents who need humans, and the humans: under the shipped policies, over a small catalog.

use std::path::Path;
use std::sync::Arc;

use belay::cedar::Set;
use belay::domain::agent::Role;
use belay::domain::approval::{Approval, ApprovalState, PROMPTS_PER_HOUR, PROMPTS_PER_REQUESTER};
use belay::domain::decide::{
    Approve, Caller, Delegate, Deny, Granted, RequestGrant, StartTask, Started, Voted, state_of,
};
use belay::domain::error::Error;
use belay::domain::grant::Task;
use belay::domain::id::{ApprovalId, GrantId, TaskId};
use belay::domain::scope::Scopes;
use belay::domain::time::Span;

use super::world::{Hands, World};

/// Destroying orders needs one human; owning secrets needs two.
pub const CATALOG: &str = r#"
[[tool]]
name = "db"
owner = "team-db"
[[tool.action]]
name = "read"
risk = "read"
[[tool.action]]
name = "drop"
risk = "destructive"
[[tool.action]]
name = "own"
risk = "admin"

[[resource]]
path = "db:orders/a"
sensitivity = "internal"
[[resource]]
path = "db:orders/b"
sensitivity = "internal"
[[resource]]
path = "db:orders/c"
sensitivity = "internal"
[[resource]]
path = "db:secrets/a"
sensitivity = "restricted"
[[resource]]
path = "db:secrets/b"
sensitivity = "restricted"
[[resource]]
path = "db:vault/*"
sensitivity = "restricted"
"#;

/// One human approves it.
pub const ONE: &[&str] = &["db:drop@orders/a"];
/// Two have to.
pub const TWO: &[&str] = &["db:own@secrets/a"];

/// A ledger with two agents, of whom `ana` has a task of six hours, and three approvers.
pub struct Panel {
    pub world: World,
    pub ana: Caller,
    pub bob: Caller,
    pub bea: Caller,
    pub carl: Caller,
    pub dan: Caller,
    pub task: Task,
}

impl Panel {
    pub async fn open(directory: &Path) -> Self {
        Self::over(World::open(directory, Hands::new()).await).await
    }

    pub async fn over(world: World) -> Self {
        world.apply_policies(Set::production().unwrap()).await;
        world.apply_catalog(CATALOG).await;
        let [ana, bob] = [world.agent("ana").await, world.agent("bob").await];
        let approver = [Role::Approver];
        let bea = world.operator("bea", &approver).await;
        let carl = world.operator("carl", &approver).await;
        let dan = world.operator("dan", &approver).await;
        let task = world.task_of(&ana, Span::hours(6)).await;
        Self { world, ana, bob, bea, carl, dan, task }
    }

    /// The same after a restart: all that it knows is in the directory.
    pub async fn restarted(self, directory: &Path) -> Self {
        let Self { world, ana, bob, bea, carl, dan, task } = self;
        let hands = Arc::clone(&world.hands);
        drop(world);
        Self { world: World::open(directory, hands).await, ana, bob, bea, carl, dan, task }
    }

    /// Asks for a root grant of fifteen minutes under the task.
    pub async fn ask(&self, scopes: &[&str]) -> Granted {
        self.world.submit(&self.ana, request(self.task.id, scopes)).await.unwrap()
    }

    /// The same, where it has to wait: its approval.
    pub async fn wait(&self, scopes: &[&str]) -> Approval {
        self.ask(scopes).await.approval.expect("it waits for nobody")
    }

    /// Other agents ask until nobody may be asked any more in this hour: what each asked for.
    pub async fn crowd(&self) -> Vec<Approval> {
        let mut asked = Vec::new();
        for n in 0..PROMPTS_PER_HOUR / PROMPTS_PER_REQUESTER {
            let agent = self.world.agent(&format!("crowd-{n}")).await;
            let task = self.world.task_of(&agent, Span::hours(6)).await;
            for _ in 0..PROMPTS_PER_REQUESTER {
                asked.extend(self.world.submit(&agent, request(task.id, ONE)).await.unwrap().approval);
            }
        }
        asked
    }

    /// Delegates from a grant of `ana`'s to `bob`.
    pub async fn delegate(&self, parent: GrantId, scopes: &[&str], own: bool) -> Result<Granted, Error> {
        let command = Delegate {
            parent,
            to: "bob".parse().unwrap(),
            scopes: Scopes::parse(scopes).unwrap(),
            audience: None,
            ttl: Span::minutes(15),
            own,
            limits: Default::default(),
            narrow: false,
        };
        self.world.submit(&self.ana, command).await
    }

    /// Approves all of what this shows.
    pub async fn approve(&self, who: &Caller, approval: &Approval) -> Result<Voted, Error> {
        self.world.submit(who, approve(approval)).await
    }

    pub async fn deny(&self, who: &Caller, id: ApprovalId) -> Result<Voted, Error> {
        self.world.submit(who, Deny { id, reason: "testing".parse().unwrap() }).await
    }

    /// Starts a task of two hours of `ana`'s with an envelope.
    pub async fn envelope(&self, scopes: &[&str], ttl: Span) -> Started {
        let envelope = Some((Scopes::parse(scopes).unwrap(), ttl));
        let purpose = "tidy up".parse().unwrap();
        let command = StartTask { purpose, subject: None, ttl: Span::hours(2), envelope };
        self.world.submit(&self.ana, command).await.unwrap()
    }

    /// How an approval stands.
    pub fn state(&self, id: ApprovalId) -> ApprovalState {
        let now = self.world.ledger.now();
        self.world.ledger.view(|view| state_of(&view, view.approval(&id).unwrap(), now))
    }

    /// An approval as the ledger has it.
    pub fn known(&self, id: ApprovalId) -> Approval {
        self.world.ledger.view(|view| view.approval(&id).cloned()).unwrap()
    }

    /// The state of the grant that an approval is for.
    pub fn grant_state(&self, approval: &Approval) -> &'static str {
        self.world.state(approval.grant.unwrap()).unwrap()
    }

    /// Holds if approving this is refused, for this reason, and nothing comes of it.
    pub async fn refuses(&self, who: &Caller, approval: &Approval, reason: &str) {
        let before = approval.grant.and_then(|grant| self.world.state(grant));
        let error = self.approve(who, approval).await.expect_err(reason);
        assert_eq!(error.reason, reason, "{error}");
        let after = approval.grant.and_then(|grant| self.world.state(grant));
        assert_eq!((before, after != Some("active")), (after, true), "{error}");
    }
}

/// A request for a root grant of fifteen minutes.
pub fn request(task: TaskId, scopes: &[&str]) -> RequestGrant {
    RequestGrant {
        task,
        scopes: Scopes::parse(scopes).unwrap(),
        audience: None,
        ttl: Span::minutes(15),
        limits: Default::default(),
        narrow: false,
        token: false,
    }
}

/// Approves all of what this shows.
pub fn approve(approval: &Approval) -> Approve {
    Approve {
        id: approval.id,
        digest: approval.digest,
        reason: "as announced".parse().unwrap(),
        scopes: None,
        ttl: None,
    }
}
