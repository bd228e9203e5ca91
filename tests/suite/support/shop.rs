//! A broker whose keys are turned while an agent works.

use std::path::Path;
use std::sync::Arc;

use belay::attest::{csr, mtls};
use belay::broker::{Asked, Issued};
use belay::client::identity;
use belay::domain::agent::{Kind, Role};
use belay::domain::decide::{Caller, Presenter, RequestGrant, Tainted, presentable};
use belay::domain::error::Error;
use belay::domain::grant::Grant;
use belay::domain::key::{Key, Phase, Purpose};
use belay::domain::scope::Scopes;
use belay::domain::time::Span;
use belay::format::jwt;
use belay::store::Sqlite;

use super::office::{Office, asked};
use super::world::Hands;

/// A broker with an admin and an agent that holds a grant of twelve hours.
pub struct Shop {
    pub office: Office,
    pub admin: Asked,
    pub agent: Caller,
    pub grant: Grant,
}

impl Shop {
    pub async fn open(directory: &Path) -> Self {
        let office = open(directory, &Hands::new(), 1_000_000).await;
        let admin = asked(&office.world.operator("ada", &[Role::Admin]).await);
        let agent = office.world.agent("ana").await;
        let task = office.world.task_of(&agent, Span::hours(100)).await;
        let scopes = Scopes::parse(&["db:read@**"]).unwrap();
        let ttl = Span::hours(12);
        let request = RequestGrant {
            task: task.id,
            scopes,
            audience: None,
            ttl,
            token: false,
            limits: Default::default(),
            narrow: false,
        };
        let grant = office.world.submit(&agent, request).await.unwrap().grant;
        Self { office, admin, agent, grant }
    }

    /// The same, after a restart of the broker over the same directory.
    pub async fn restarted(self, directory: &Path) -> Self {
        let Self { office, admin, agent, grant } = self;
        let hands = Arc::clone(&office.world.hands);
        drop(office);
        Self { office: open(directory, &hands, 1_000_000).await, admin, agent, grant }
    }

    pub async fn token(&self) -> String {
        self.office.token(&self.agent, self.grant.id).await
    }

    /// Why the token is refused; empty if it is accepted.
    pub fn says(&self, token: &str) -> &'static str {
        let checked = self.office.broker.check(&asked(&self.agent), token);
        let read = self.office.read(&self.agent, token, "orders");
        let refusal = checked.refusal.map_or("", |(reason, _)| reason);
        assert_eq!(refusal.is_empty(), read.verdict.allowed, "{refusal} and {read:?}");
        refusal
    }

    pub async fn rotate(&self, purpose: Purpose, at_once: bool) -> Key {
        self.office.broker.rotate_key(&self.admin().await, purpose, at_once).await.unwrap()
    }

    /// The admin, with an identity that is not over.
    pub async fn admin(&self) -> Asked {
        asked(&Caller::Operator(self.office.world.identity(Kind::Operator, "ada").await))
    }

    pub async fn taint(&self, kid: &str) -> Result<Tainted, Error> {
        self.office.broker.taint_key(&self.admin().await, kid.to_owned(), "testing".parse().unwrap()).await
    }

    pub fn turn(&self, span: Span) {
        self.office.world.hands.turn(span);
    }

    pub fn phase(&self, kid: &str) -> Phase {
        self.office.broker.keys().into_iter().find(|(key, _)| key.kid == kid).unwrap().1
    }

    /// As [`Shop::says`], where a taint may come between two questions.
    pub fn says_once(&self, token: &str) -> &'static str {
        self.office.broker.check(&asked(&self.agent), token).refusal.map_or("", |(reason, _)| reason)
    }
}

/// A broker over this directory, with hands that are turned.
pub async fn open(directory: &Path, hands: &Arc<Hands>, snapshot_every: u64) -> Office {
    Office::at(Box::new(Sqlite::open(directory).unwrap()), directory, Arc::clone(hands), snapshot_every).await
}

pub fn kid(token: &str) -> String {
    jwt::parse(token).unwrap().kid().to_owned()
}

/// A real identity for the holder of this one, with a key of its own.
pub async fn renewed(office: &Office, caller: &Caller) -> Result<Issued, Error> {
    let (_, request) = identity::request(None).unwrap();
    let spki = csr::prove(&request).unwrap().spki;
    office.broker.renew(&asked(caller), &spki, |_| Ok(())).await
}

pub fn presenter(office: &Office, issued: &Issued) -> Presenter {
    mtls::present(&issued.der, &office.broker.origin().trust_domain).unwrap().1
}

/// Why a certificate is refused; empty if it is accepted.
pub fn presents(office: &Office, presenter: &Presenter) -> &'static str {
    let now = office.world.ledger.now();
    office.world.ledger.view(|view| presentable(&view, presenter, now).map_or_else(|error| error.reason, |()| ""))
}
