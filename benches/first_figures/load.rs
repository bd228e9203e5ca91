//! A closed loop: each caller asks again as soon as it is answered, until the window is over.

use std::time::{Duration, Instant};

use tonic::transport::Channel;

use super::Load;
use super::tokens::Answered;
use belay::wire::v1;
use v1::decisions_client::DecisionsClient;
use v1::grants_client::GrantsClient;
use v1::tokens_client::TokensClient;

pub const SCOPE: &str = "github:issues.*@repo/acme/*";

/// One of those that ask at the same time, with a grant and a token of its own.
#[derive(Clone)]
pub struct Caller {
    pub broker: Channel,
    pub floor: Channel,
    pub task: String,
    pub grant: String,
    pub token: String,
}

/// What all callers came to.
#[derive(Default)]
pub struct Loaded {
    pub micros: Vec<u32>,
    pub seconds: f64,
    pub answered: Vec<Answered>,
}

/// Loads a server for `length`. A call that is refused ends the measurement: a refusal is no throughput.
pub async fn run(load: Load, length: Duration, callers: Vec<Caller>) -> Loaded {
    let start = Instant::now();
    let tasks: Vec<_> =
        callers.into_iter().map(|caller| tokio::spawn(ask_until(load, start + length, caller))).collect();
    let mut loaded = Loaded::default();
    for task in tasks {
        let (micros, answered) = task.await.unwrap();
        loaded.micros.extend(micros);
        loaded.answered.extend(answered);
    }
    // The last answers come after the window: the time that they took is counted like the calls.
    loaded.seconds = start.elapsed().as_secs_f64();
    loaded
}

async fn ask_until(load: Load, end: Instant, mut caller: Caller) -> (Vec<u32>, Vec<Answered>) {
    let (mut micros, mut answered) = (Vec::new(), Vec::new());
    let mut begun = Instant::now();
    while begun < end {
        answered.extend(caller.ask(load).await);
        let now = Instant::now();
        micros.push((now - begun).as_micros() as u32);
        begun = now;
    }
    (micros, answered)
}

impl Caller {
    async fn ask(&mut self, load: Load) -> Option<Answered> {
        match load {
            Load::FloorIssue => {
                issue(&self.floor, &self.grant).await;
                None
            }
            Load::Issue => Some(issue(&self.broker, &self.grant).await),
            Load::FloorAuthorize => {
                self.authorize(&self.floor).await;
                None
            }
            Load::Authorize => {
                self.authorize(&self.broker).await;
                None
            }
            Load::GrantAndToken => Some(request(&self.broker, &self.task).await),
        }
    }

    async fn authorize(&self, channel: &Channel) {
        let call = v1::AuthorizeRequest {
            token: self.token.clone(),
            tool: "github".into(),
            action: "issues.read".into(),
            resource: "repo/acme/web".into(),
        };
        let answer = DecisionsClient::new(channel.clone()).authorize(call).await.unwrap().into_inner();
        assert_eq!((answer.decision.as_str(), answer.possession.as_str()), ("allow", "proven"), "{answer:?}");
    }
}

async fn issue(channel: &Channel, grant: &str) -> Answered {
    let asked =
        v1::IssueTokenRequest { grant: grant.to_owned(), audience: String::new(), idempotency_key: String::new() };
    let token = TokensClient::new(channel.clone()).issue(asked).await.unwrap().into_inner();
    Answered { id: token.id, token: token.token, grant: grant.to_owned() }
}

/// A root grant of `task`, and a token under it.
pub async fn request(channel: &Channel, task: &str) -> Answered {
    let asked = v1::RequestGrantRequest {
        task: task.to_owned(),
        scopes: vec![SCOPE.to_owned()],
        token: true,
        ..v1::RequestGrantRequest::default()
    };
    let answer = GrantsClient::new(channel.clone()).request(asked).await.unwrap().into_inner();
    let (grant, token) = (answer.grant.unwrap(), answer.token.unwrap());
    Answered { id: token.id, token: token.token, grant: grant.id }
}
