//! What happens to a world that its own decisions would not make in a test, and what is told of a cut.

use std::sync::Mutex;

use belay::domain::agent::{Join, Kind};
use belay::domain::cut::Target;
use belay::domain::decide::{
    Caller, Context, Decide, Decision, IssueToken, RequestGrant, Revoke, Revoked, TokenAnswer,
};
use belay::domain::digest::Digest;
use belay::domain::effect::Heard;
use belay::domain::entropy::Entropy;
use belay::domain::error::Error;
use belay::domain::event::{Body, LeaseChange};
use belay::domain::grant::Grant;
use belay::domain::id::{JoinId, LeaseId, PepId, TaskId, TokenId};
use belay::domain::lease::{Lease, LeaseStatus, Trouble};
use belay::domain::limits::Limits;
use belay::domain::name::Name;
use belay::domain::pep::Pep;
use belay::domain::scope::Scopes;
use belay::domain::time::{Span, Timestamp};
use belay::effect::{Page, Walked, walk};

use super::world::World;

/// What another part of the broker records.
pub struct Recorded(pub Vec<Body>);

impl Decide for Recorded {
    type Answer = ();
    const VERB: &'static str = "test.recorded";

    fn decide(&self, _: &mut Context<'_>) -> Result<Decision<()>, Error> {
        Ok(Decision::new(self.0.clone(), ()))
    }
}

/// An enforcement point that has said up to where it knows.
#[derive(Default)]
pub struct Said(pub Mutex<Option<(u64, Timestamp)>>);

impl Heard for Said {
    fn heard(&self, _: &Pep, seq: u64) -> Option<Timestamp> {
        self.0.lock().unwrap().filter(|(known, _)| *known >= seq).map(|(_, at)| at)
    }
}

impl World {
    pub async fn happens(&self, body: Body) {
        self.submit(&Caller::Broker, Recorded(vec![body])).await.unwrap();
    }

    pub async fn point(&self, name: &str, audience: &str, staleness: Span) {
        let (now, mut entropy) = (self.ledger.now(), Entropy::from_seed(self.ledger.seed()));
        let name: Name = name.parse().unwrap();
        let audiences = vec![audience.parse().unwrap()];
        let id = PepId::mint(now, &mut entropy);
        let pep = Pep { id, name: name.clone(), audiences, staleness, retired: None, created_at: now };
        let (id, secret_hash, expires_at) =
            (JoinId::mint(now, &mut entropy), Digest::of(b"x"), now.plus(Span::minutes(10)));
        let join = Join { id, kind: Kind::Pep, name, secret_hash, expires_at, used: None };
        self.happens(Body::PepRegistered { pep, join }).await;
    }

    pub async fn lease(&self, grant: &Grant) -> Lease {
        let now = self.ledger.now();
        let lease = Lease {
            id: LeaseId::mint(now, &mut Entropy::from_seed(self.ledger.seed())),
            grant: grant.id,
            root: grant.root,
            agent: grant.agent.clone(),
            backend: "orders".parse().unwrap(),
            role: "reader".parse().unwrap(),
            created_at: now,
            expires_at: grant.expires_at,
            status: LeaseStatus::Planned,
            changed_at: now,
            kept: false,
            trouble: None,
        };
        self.happens(Body::LeaseIssued { lease: lease.clone() }).await;
        lease
    }

    pub async fn change(&self, lease: &Lease, status: LeaseStatus, trouble: Option<Trouble>) {
        let Lease { id, grant, root, agent, .. } = lease.clone();
        self.happens(Body::LeaseChanged(LeaseChange { id, grant, root, agent, status, trouble })).await;
    }

    pub async fn for_audience(
        &self,
        caller: &Caller,
        task: TaskId,
        audience: &str,
        limits: &[&str],
    ) -> Result<Grant, Error> {
        let command = RequestGrant {
            task,
            scopes: Scopes::parse(&["db:read@**"]).unwrap(),
            audience: Some(audience.parse().unwrap()),
            ttl: Span::minutes(15),
            token: false,
            limits: Limits::parse(limits).unwrap(),
            narrow: false,
        };
        self.submit(caller, command).await.map(|granted| granted.grant)
    }

    pub async fn new_token(&self, caller: &Caller, grant: &Grant) -> (TokenId, Timestamp) {
        match self.submit(caller, IssueToken { grant: grant.id, audience: None }).await.unwrap() {
            TokenAnswer::New(token) => (token.get().id, token.get().expires_at),
            TokenAnswer::Again(..) => panic!("it is new"),
        }
    }

    pub async fn cut(&self, target: Target) -> Revoked {
        let command = Revoke { target, reason: "testing".parse().unwrap(), dry_run: false };
        self.submit(&Caller::Broker, command).await.unwrap()
    }

    pub fn walked(&self, revoked: &Revoked, heard: &dyn Heard) -> Walked {
        walk(&self.ledger, revoked.cut.clone(), heard, Page::default())
    }
}
