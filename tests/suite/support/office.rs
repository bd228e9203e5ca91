//! A whole broker in this process: its tokens are really signed and really checked, its clock has hands.

use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use belay::broker::{Asked, Authorized, Broker, Foundation};
use belay::domain::decide::{Caller, IssueToken};
use belay::domain::id::GrantId;
use belay::domain::scope::Call;
use belay::ledger::{Clock, Seeds};
use belay::store::Store;

use super::world::{Hands, World};

/// A broker, and its ledger as a world.
pub struct Office {
    pub broker: Broker,
    pub world: World,
}

impl Office {
    /// A broker over `store`, which is in `directory` beside the master key.
    pub async fn open(store: Box<dyn Store>, directory: &Path) -> Self {
        Self::at(store, directory, Hands::new(), 1_000_000).await
    }

    /// The same, by a clock that the test has, with a snapshot every so many events.
    pub async fn at(store: Box<dyn Store>, directory: &Path, hands: Arc<Hands>, snapshot_every: u64) -> Self {
        let foundation = Foundation {
            store,
            clock: Arc::clone(&hands) as Arc<dyn Clock>,
            seeds: Seeds::system(),
            snapshot_every,
            trust_domain: "example.org".parse().unwrap(),
            issuer: "https://example.org".parse().unwrap(),
            address: "https://127.0.0.1:1".to_owned(),
            policies: belay::cedar::Set::dev,
        };
        let broker = Broker::open(foundation, directory).await.unwrap();
        let ledger = Arc::clone(broker.ledger());
        Self { broker, world: World { ledger, hands } }
    }

    /// A token under a grant of this agent's.
    pub async fn token(&self, agent: &Caller, grant: GrantId) -> String {
        let answer = self.world.submit(agent, IssueToken { grant, audience: None }).await.unwrap();
        self.broker.sign_token(answer).unwrap().token
    }

    /// Asks whether the presenter of this token may read `resource` of the tool `db`.
    pub fn read(&self, agent: &Caller, token: &str, resource: &str) -> Authorized {
        let call = Call::parse("db", "read", resource).unwrap();
        at_once(self.broker.authorize(&asked(agent), token, call)).unwrap()
    }
}

/// What is answered from memory: nothing waits where no limit counts.
pub fn at_once<T>(answer: impl Future<Output = T>) -> T {
    match std::pin::pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("it waits for a turn"),
    }
}

/// A call by this caller.
pub fn asked(caller: &Caller) -> Asked {
    Asked { caller: caller.clone(), request_id: "test".to_owned() }
}
