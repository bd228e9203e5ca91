//! A ledger with a catalog of hosts, and policies that let so much be reached and no more without humans.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use belay::cedar::Set;
use belay::domain::agent::{Kind, Role};
use belay::domain::approval::Approval;
use belay::domain::decide::{
    Approve, Caller, Delegate, Granted, RegisterAgent, RequestGrant, SetGrantStatus, StartTask, Voted,
};
use belay::domain::digest::Digest;
use belay::domain::error::Error;
use belay::domain::grant::{GrantState, Status};
use belay::domain::id::{GrantId, TaskId};
use belay::domain::radius::Figures;
use belay::domain::reach::Whole;
use belay::domain::scope::Scopes;
use belay::domain::time::Span;

use super::world::{Hands, World};

/// What one host adds to a score: it is internal.
pub const HOST: u64 = 4;

pub struct Town {
    pub world: World,
}

/// Hosts `host/0` … of the tool `ssh`, each by itself.
pub fn hosts(many: usize) -> String {
    let mut text = "[[tool]]\nname = 'ssh'\nowner = 'ops'\n\
        [[tool.action]]\nname = '*'\nrisk = 'write'\n"
        .to_owned();
    for at in 0..many {
        write!(text, "[[resource]]\npath = 'ssh:host/{at}'\nsensitivity = 'internal'\n").unwrap();
    }
    text
}

/// Policies that ask for `needed` humans once a union is beyond so many hosts; `whole` is one of task, agent, owner, subject.
pub fn at_most(whole: &str, hosts: u64, needed: u8) -> Set {
    let most = hosts * HOST;
    let text = format!(
        "@id(\"agents\") permit (principal is Agent, action, resource is Tool);\n\
         @id(\"approvers\") permit (principal in Role::\"approver\", action == Action::\"approve\", resource is Tool);\n\
         @id(\"wide\") forbid (principal, action in [Action::\"request\", Action::\"delegate\"], resource)\n\
         when {{ context.unions.{whole}.score > {most} && context.approvals < {needed} }};"
    );
    Set::load(&[("set.cedar".to_owned(), text)]).unwrap()
}

impl Town {
    /// A ledger with these policies and so many hosts.
    pub async fn found(directory: &Path, policies: Set, many: usize) -> Arc<Self> {
        let world = World::open(directory, Hands::new()).await;
        world.apply_catalog(&hosts(many)).await;
        world.apply_policies(policies).await;
        Arc::new(Self { world })
    }

    pub async fn agent(&self, name: &str, owner: &str) -> Caller {
        let command = RegisterAgent {
            name: name.parse().unwrap(),
            owner: owner.parse().unwrap(),
            purpose: "testing".parse().unwrap(),
            ceiling: None,
            max_ttl: None,
            labels: Vec::new(),
            secret_hash: Digest::of(name.as_bytes()),
        };
        self.world.submit(&Caller::Broker, command).await.unwrap();
        Caller::Agent(self.world.identity(Kind::Agent, name).await)
    }

    /// `worker-0` … of one owner.
    pub async fn workers(&self, many: usize) -> Vec<Caller> {
        let mut workers = Vec::new();
        for at in 0..many {
            workers.push(self.agent(&format!("worker-{at}"), "crew").await);
        }
        workers
    }

    pub async fn approver(&self, name: &str) -> Caller {
        self.world.operator(name, &[Role::Approver]).await
    }

    /// A task of six hours.
    pub async fn task(&self, agent: &Caller, subject: Option<&str>) -> TaskId {
        let command = StartTask {
            purpose: "testing".parse().unwrap(),
            subject: subject.map(|subject| subject.parse().unwrap()),
            ttl: Span::hours(6),
            envelope: None,
        };
        self.world.submit(agent, command).await.unwrap().task.id
    }

    /// A root grant of fifteen minutes for these hosts.
    pub async fn request(&self, agent: &Caller, task: TaskId, hosts: &[usize]) -> Result<Granted, Error> {
        let command = RequestGrant {
            task,
            scopes: scopes(hosts),
            audience: None,
            ttl: Span::minutes(15),
            limits: Default::default(),
            narrow: false,
            token: false,
        };
        self.world.submit(agent, command).await
    }

    /// Hands hosts on for fifteen minutes, within the parent or as the other's own.
    pub async fn delegate(
        &self,
        agent: &Caller,
        parent: GrantId,
        to: &str,
        hosts: &[usize],
        own: bool,
    ) -> Result<Granted, Error> {
        let command = Delegate {
            parent,
            to: to.parse().unwrap(),
            scopes: scopes(hosts),
            audience: None,
            ttl: Span::minutes(15),
            own,
            limits: Default::default(),
            narrow: false,
        };
        self.world.submit(agent, command).await
    }

    pub async fn complete(&self, agent: &Caller, id: GrantId) {
        let command = SetGrantStatus { id, status: Status::Completed, reason: "done".parse().unwrap() };
        self.world.submit(agent, command).await.unwrap();
    }

    pub async fn approve(&self, by: &Caller, approval: &Approval) -> Result<Voted, Error> {
        let command = Approve {
            id: approval.id,
            digest: approval.digest,
            reason: "testing".parse().unwrap(),
            scopes: None,
            ttl: None,
        };
        self.world.submit(by, command).await
    }

    pub fn figures(&self, whole: &Whole) -> Figures {
        self.world.ledger.view(|view| view.figures(whole))
    }
}

/// To run anything on these hosts.
pub fn scopes(hosts: &[usize]) -> Scopes {
    Scopes::parse(&hosts.iter().map(|at| format!("ssh:run@host/{at}")).collect::<Vec<_>>()).unwrap()
}

/// Whether it waits for humans; else it is active.
pub fn waits(granted: &Granted) -> bool {
    assert!(matches!(granted.state, GrantState::Active | GrantState::Pending), "{granted:?}");
    granted.state == GrantState::Pending
}
