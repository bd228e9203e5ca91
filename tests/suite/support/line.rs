//! A stream of decisions, as an enforcement point has it.

use std::time::Duration;

use belay::wire::v1;
use belay::wire::v1::decision_message::Said;
use belay::wire::v1::decision_request::Said as Asks;
use belay::wire::v1::decisions_client::DecisionsClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// Longer than anything takes, on a busy machine too.
pub const LONG: Duration = Duration::from_secs(20);

/// An open stream, and whose certificate is seen at its other end.
pub struct Line {
    say: mpsc::Sender<v1::DecisionRequest>,
    hear: Streaming<v1::DecisionMessage>,
}

impl Line {
    pub async fn open(channel: &Channel) -> Self {
        Self::try_open(channel).await.unwrap()
    }

    pub async fn try_open(channel: &Channel) -> Result<Self, Status> {
        let (say, requests) = mpsc::channel(64);
        let mut decisions = DecisionsClient::new(channel.clone());
        let hear = decisions.stream(ReceiverStream::new(requests)).await?.into_inner();
        Ok(Self { say, hear })
    }

    /// Says something, without waiting for what comes of it.
    pub async fn says(&self, id: u64, said: Asks, hold: bool) {
        self.say.send(v1::DecisionRequest { id, said: Some(said), hold }).await.unwrap();
    }

    /// The next message, of this id.
    pub async fn hears(&mut self, id: u64) -> Said {
        let message = self.next().await.unwrap().expect("the stream ended");
        assert_eq!(message.id, id, "{message:?}");
        message.said.unwrap()
    }

    /// The next message, or how the stream ended.
    pub async fn next(&mut self) -> Result<Option<v1::DecisionMessage>, Status> {
        tokio::time::timeout(LONG, self.hear.message()).await.expect("nothing is said")
    }

    /// Whether nothing is said for a while.
    pub async fn is_silent(&mut self, millis: u64) -> bool {
        tokio::time::timeout(Duration::from_millis(millis), self.hear.message()).await.is_err()
    }

    /// What is decided of a call.
    pub async fn decided(&mut self, id: u64, call: v1::AuthorizeRequest, hold: bool) -> v1::AuthorizeResponse {
        self.says(id, Asks::Authorize(Box::new(call)), hold).await;
        match self.hears(id).await {
            Said::Decided(decided) => decided,
            other => panic!("{other:?}"),
        }
    }

    /// Why a call is not held.
    pub async fn not_held(&mut self, id: u64, call: v1::AuthorizeRequest) -> v1::Refusal {
        self.says(id, Asks::Authorize(Box::new(call)), true).await;
        match self.hears(id).await {
            Said::Refused(refused) => refused,
            other => panic!("{other:?}"),
        }
    }

    /// Says of a call that it is done: it is held no longer.
    pub async fn done(&mut self, id: u64, invocation: &str) {
        let [invocation, outcome] = [invocation, "done"].map(str::to_owned);
        self.says(id, Asks::Report(v1::ReportRequest { invocation, outcome, detail: String::new() }), false).await;
        let said = self.hears(id).await;
        assert!(matches!(said, Said::Reported(_)), "{said:?}");
    }

    /// The codes with which a held call is ended.
    pub async fn ended(&mut self, id: u64) -> String {
        match self.hears(id).await {
            Said::Ended(ended) => ended.reasons[0].code.clone(),
            other => panic!("{other:?}"),
        }
    }
}

/// `db:read` of a resource, by whose certificate this is.
pub fn read(token: &str, resource: &str, presenter: &[u8]) -> v1::AuthorizeRequest {
    let [token, tool, action, resource] = [token, "db", "read", resource].map(str::to_owned);
    v1::AuthorizeRequest { token, tool, action, resource, presenter: presenter.to_vec(), ..Default::default() }
}
