//! A broker at whose tills payments are decided: two agents, two enforcement points, grants with limits.

use std::sync::Arc;

use belay::broker::{Authorized, Presented, Wanted};
use belay::domain::agent::Kind;
use belay::domain::decide::{Caller, Delegate, ReportOutcome, Reported, RequestGrant};
use belay::domain::error::Error;
use belay::domain::grant::Grant;
use belay::domain::id::{GrantId, InvocationId};
use belay::domain::invocation::Outcome;
use belay::domain::limits::Limits;
use belay::domain::scope::{Args, Call, Scopes};
use belay::domain::time::Span;
use belay::store::{Sqlite, Store};

use super::office::{Office, asked};
use super::world::Hands;

/// The office, and whoever acts there.
pub struct Till {
    pub office: Office,
    pub ana: Caller,
    pub bob: Caller,
    /// The enforcement points.
    pub gate: Caller,
    pub other: Caller,
    directory: tempfile::TempDir,
}

impl Till {
    pub async fn open() -> Self {
        Self::with(1_000_000).await
    }

    /// With a snapshot every so many events.
    pub async fn with(snapshot_every: u64) -> Self {
        Self::over(|path| Box::new(Sqlite::open(path).unwrap()), snapshot_every).await
    }

    /// Over the store that is made for a directory.
    pub async fn over(store: impl FnOnce(&std::path::Path) -> Box<dyn Store>, snapshot_every: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let office = Office::at(store(directory.path()), directory.path(), Hands::new(), snapshot_every).await;
        let world = &office.world;
        let (ana, bob) = (world.agent("ana").await, world.agent("bob").await);
        let mut gates = Vec::new();
        for name in ["gate", "other"] {
            world.point(name, "https://example.org", Span::seconds(5)).await;
            gates.push(Caller::Pep(world.identity(Kind::Pep, name).await));
        }
        let [gate, other] = gates.try_into().unwrap();
        Self { office, ana, bob, gate, other, directory }
    }

    /// The same after a restart of the broker.
    pub async fn restarted(self, snapshot_every: u64) -> Self {
        let Self { office, ana, bob, gate, other, directory } = self;
        let hands = Arc::clone(&office.world.hands);
        drop(office);
        let store = Box::new(Sqlite::open(directory.path()).unwrap());
        let office = Office::at(store, directory.path(), hands, snapshot_every).await;
        Self { office, ana, bob, gate, other, directory }
    }

    /// A grant of ana's for everything of the bank, for two hours, with its token.
    pub async fn root(&self, limits: &[&str]) -> (Grant, String) {
        let task = self.office.world.task_of(&self.ana, Span::hours(4)).await.id;
        let command = RequestGrant {
            task,
            scopes: Scopes::parse(&["bank:*@**"]).unwrap(),
            audience: None,
            ttl: Span::hours(2),
            token: false,
            limits: Limits::parse(limits).unwrap(),
            narrow: false,
        };
        let grant = self.office.world.submit(&self.ana, command).await.unwrap().grant;
        let token = self.office.token(&self.ana, grant.id).await;
        (grant, token)
    }

    /// The same below it, of bob's.
    pub async fn below(&self, parent: GrantId, limits: &[&str]) -> (Grant, String) {
        let command = Delegate {
            parent,
            to: "bob".parse().unwrap(),
            scopes: Scopes::parse(&["bank:*@**"]).unwrap(),
            audience: None,
            ttl: Span::hours(1),
            own: false,
            limits: Limits::parse(limits).unwrap(),
            narrow: false,
        };
        let grant = self.office.world.submit(&self.ana, command).await.unwrap().grant;
        let token = self.office.token(&self.bob, grant.id).await;
        (grant, token)
    }

    /// What this enforcement point is told of a call by `holder`, whose certificate it saw.
    pub async fn at(
        &self,
        gate: &Caller,
        holder: &Caller,
        token: &str,
        wanted: Wanted<'_>,
    ) -> Result<Authorized, Error> {
        let mut shown = Presented::from(token);
        shown.presenter = holder.presenter().cloned();
        let gate = asked(gate);
        let decided = self.office.broker.authorize(&gate, shown, wanted);
        tokio::time::timeout(std::time::Duration::from_secs(20), decided).await.unwrap()
    }

    /// The same for ana at the first, where it is not refused.
    pub async fn ana(&self, token: &str, wanted: Wanted<'_>) -> Authorized {
        self.at(&self.gate, &self.ana, token, wanted).await.unwrap()
    }

    pub async fn report(&self, by: &Caller, id: InvocationId, outcome: Outcome) -> Result<Reported, Error> {
        self.office.world.submit(by, ReportOutcome { id, outcome, detail: None }).await
    }

    /// What was charged to a grant: calls, the sum of `amount`, different resources.
    pub fn spent(&self, grant: GrantId) -> (u64, String, usize) {
        self.office.world.ledger.view(|view| {
            let sum = view.sum_spent(grant, "amount").to_string();
            (view.calls_spent(grant), sum, view.resources_spent(grant))
        })
    }
}

/// A payment to a resource.
pub fn payment(to: &str, args: &str) -> Call {
    Call::parse("bank", "pay", to).unwrap().with_args(Args::parse(args).unwrap())
}

/// The same, only to be decided.
pub fn pay(to: &str, args: &str) -> Wanted<'static> {
    Wanted::from(payment(to, args))
}

/// Why: the first code.
pub fn code(authorized: &Authorized) -> &'static str {
    let verdict = &authorized.verdict;
    assert_eq!(verdict.allowed, verdict.reasons[0].code == "in_scope", "{verdict:?}");
    verdict.reasons[0].code
}
