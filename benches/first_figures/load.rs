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
    pub unrecorded: usize,
    pub answered: Vec<Answered>,
}

/// Loads a server for `length`. A call that is refused ends the measurement: a refusal is no throughput. Only a
/// denial because the decision could not be recorded in time is counted, apart: a slow disk brings it about.
pub async fn run(load: Load, length: Duration, callers: Vec<Caller>) -> Loaded {
    let start = Instant::now();
    let tasks: Vec<_> =
        callers.into_iter().map(|caller| tokio::spawn(ask_until(load, start + length, caller))).collect();
    let mut loaded = Loaded::default();
    for task in tasks {
        let own = task.await.unwrap();
        loaded.micros.extend(own.micros);
        loaded.answered.extend(own.answered);
        loaded.unrecorded += own.unrecorded;
    }
    // The last answers come after the window: the time that they took is counted like the calls.
    loaded.seconds = start.elapsed().as_secs_f64();
    loaded
}

async fn ask_until(load: Load, end: Instant, mut caller: Caller) -> Loaded {
    let mut loaded = Loaded::default();
    let mut begun = Instant::now();
    while begun < end {
        let answer = caller.ask(load).await;
        let now = Instant::now();
        let micros = (now - begun).as_micros() as u32;
        begun = now;
        match answer {
            Answer::Token(token) => loaded.answered.push(token),
            Answer::Done => {}
            Answer::Unrecorded => {
                loaded.unrecorded += 1;
                continue;
            }
        }
        loaded.micros.push(micros);
    }
    loaded
}

enum Answer {
    Token(Answered),
    Done,
    Unrecorded,
}

impl Caller {
    async fn ask(&mut self, load: Load) -> Answer {
        match load {
            Load::FloorIssue => {
                issue(&self.floor, &self.grant).await;
                Answer::Done
            }
            Load::Issue => Answer::Token(issue(&self.broker, &self.grant).await),
            Load::FloorAuthorize => self.authorize(&self.floor).await,
            Load::Authorize => self.authorize(&self.broker).await,
            Load::GrantAndToken => Answer::Token(request(&self.broker, &self.task).await),
        }
    }

    async fn authorize(&self, channel: &Channel) -> Answer {
        let call = v1::AuthorizeRequest {
            token: self.token.clone(),
            tool: "github".into(),
            action: "issues.read".into(),
            resource: "repo/acme/web".into(),
            ..v1::AuthorizeRequest::default()
        };
        let answer = DecisionsClient::new(channel.clone()).authorize(call).await.unwrap().into_inner();
        if answer.decision == "deny" && answer.reasons.iter().all(|reason| reason.code == "not_recorded") {
            return Answer::Unrecorded;
        }
        assert_eq!((answer.decision.as_str(), answer.possession.as_str()), ("allow", "proven"), "{answer:?}");
        Answer::Done
    }
}

async fn issue(channel: &Channel, grant: &str) -> Answered {
    let asked = v1::IssueTokenRequest { grant: grant.to_owned(), audience: String::new(), ..Default::default() };
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
