//! Clients that work against a real broker until it dies, and remember what they were told.

use std::sync::Mutex;

use belay::client::{self, Identity, identity};
use belay::wire::v1::certificates_client::CertificatesClient;
use belay::wire::v1::decisions_client::DecisionsClient;
use belay::wire::v1::grants_client::GrantsClient;
use belay::wire::v1::identity_client::IdentityClient;
use belay::wire::v1::revocations_client::RevocationsClient;
use belay::wire::v1::tasks_client::TasksClient;
use belay::wire::v1::tokens_client::TokensClient;
use belay::wire::v1::{
    AuthorizeRequest, DelegateRequest, IssueCertificateRequest, IssueTokenRequest, RenewIdentityRequest,
    RequestGrantRequest, RevokeRequest, ShowGrantRequest, StartTaskRequest, Token,
};
use tonic::Status;
use tonic::transport::Channel;

use super::process::Broker;

/// A small tree and what became of it, as its clients were told. What is not there was not answered.
#[derive(Clone, Debug, Default)]
pub struct Round {
    pub key: String,
    pub root: Option<String>,
    pub child: Option<String>,
    pub root_token: Option<Token>,
    pub child_token: Option<Token>,
    /// Both tokens were accepted.
    pub accepted: bool,
    /// A revoke was sent.
    pub cutting: bool,
    /// It was acknowledged.
    pub cut: bool,
    /// Both tokens were refused after that.
    pub refused: bool,
    /// A new identity certificate (DER).
    pub certificate: Option<Vec<u8>>,
    /// The key (PEM) of the child's certificate, made before it was asked for.
    pub bound_key: Option<String>,
    /// A certificate under the child (DER).
    pub bound: Option<Vec<u8>>,
}

/// How a round looks to one who asks later.
#[derive(Debug)]
pub struct Seen {
    pub root: Option<String>,
    pub child: Option<String>,
    pub root_token: bool,
    pub child_token: bool,
    /// Whether something new could still be made below the root.
    pub extended: bool,
    /// The grant that the root's request made, asked for again under its key.
    pub again: String,
    /// The child's certificate (DER), asked for again under its key.
    pub bound: Option<Vec<u8>>,
}

/// Two agents and an operator, connected.
pub struct Clients {
    planner: Channel,
    coder: Channel,
    operator: Channel,
    task: String,
}

impl Clients {
    /// Connects those who enrolled with `Broker::agent`; `task` is one that was started, else a new one.
    pub async fn connect(broker: &Broker, task: Option<&str>) -> Self {
        let channel = async |name: &str| {
            let identity = Identity::load(&broker.home.join(name)).unwrap();
            client::connect(&broker.addr, client::client_config(&identity).unwrap()).await.unwrap()
        };
        let (planner, coder, operator) = (channel("planner").await, channel("coder").await, channel("operator").await);
        let task = match task {
            Some(task) => task.to_owned(),
            None => {
                let start = StartTaskRequest { purpose: "testing".to_owned(), ..StartTaskRequest::default() };
                TasksClient::new(planner.clone()).start(start).await.unwrap().into_inner().task.unwrap().id
            }
        };
        Self { planner, coder, operator, task }
    }

    pub fn task(&self) -> &str {
        &self.task
    }

    /// Does rounds until there are `most` or the broker is gone; the error that told so.
    pub async fn work(&self, worker: &str, most: usize, rounds: &Mutex<Vec<Round>>) -> Option<Status> {
        for number in 0..most {
            let mut round = Round { key: format!("{worker}-{number}"), ..Round::default() };
            let outcome = self.round(&mut round, number).await;
            rounds.lock().unwrap().push(round);
            if let Err(status) = outcome {
                return Some(status);
            }
        }
        None
    }

    async fn round(&self, round: &mut Round, number: usize) -> Result<(), Status> {
        let (root, token) = self.request(&round.key).await?;
        (round.root, round.root_token) = (Some(root.clone()), token);
        let child = self.delegate(&root).await?;
        round.child = Some(child.clone());
        let issue = IssueTokenRequest { grant: child, ..IssueTokenRequest::default() };
        round.child_token = Some(TokensClient::new(self.coder.clone()).issue(issue).await?.into_inner());
        round.bound_key = Some(identity::request(None).unwrap().0.to_string());
        round.bound = Some(self.certify(round).await?);
        round.accepted = self.allows(round).await? == (true, true);
        if number.is_multiple_of(2) {
            round.cutting = true;
            let revoke = RevokeRequest { target: root, reason: "testing".to_owned(), dry_run: false };
            let answer = RevocationsClient::new(self.operator.clone()).revoke(revoke).await?.into_inner();
            round.cut = answer.r#final && answer.known;
            round.refused = self.allows(round).await? == (false, false);
        }
        let csr = identity::request(None).unwrap().1;
        let renewed = IdentityClient::new(self.planner.clone()).renew(RenewIdentityRequest { csr }).await?;
        round.certificate = Some(renewed.into_inner().certificate);
        Ok(())
    }

    async fn request(&self, key: &str) -> Result<(String, Option<Token>), Status> {
        let request = RequestGrantRequest {
            task: self.task.clone(),
            scopes: vec!["db:read@**".to_owned()],
            token: true,
            idempotency_key: key.to_owned(),
            ..RequestGrantRequest::default()
        };
        let answer = GrantsClient::new(self.planner.clone()).request(request).await?.into_inner();
        Ok((answer.grant.unwrap().id, answer.token))
    }

    async fn delegate(&self, parent: &str) -> Result<String, Status> {
        let request = DelegateRequest {
            parent: parent.to_owned(),
            to: "coder".to_owned(),
            scopes: vec!["db:read@orders".to_owned()],
            ..DelegateRequest::default()
        };
        let answer = GrantsClient::new(self.planner.clone()).delegate(request).await?;
        Ok(answer.into_inner().grant.unwrap().id)
    }

    /// A certificate under the child, for the round's key and under its name.
    async fn certify(&self, round: &Round) -> Result<Vec<u8>, Status> {
        let missing = || Status::not_found("there is no child, or no key for it");
        let (grant, key) = round.child.clone().zip(round.bound_key.as_ref()).ok_or_else(missing)?;
        let csr = identity::request_with(key, None).unwrap();
        let request = IssueCertificateRequest { grant, csr, idempotency_key: round.key.clone() };
        let issued = CertificatesClient::new(self.coder.clone()).issue(request).await?;
        Ok(issued.into_inner().certificate)
    }

    /// Whether the tokens of the root and of the child are accepted, each from its holder.
    async fn allows(&self, round: &Round) -> Result<(bool, bool), Status> {
        let mut allowed = [false; 2];
        let each = [(&self.planner, &round.root_token), (&self.coder, &round.child_token)];
        for (allowed, (channel, token)) in allowed.iter_mut().zip(each) {
            let Some(token) = token else { continue };
            let call = AuthorizeRequest {
                token: token.token.clone(),
                tool: "db".to_owned(),
                action: "read".to_owned(),
                resource: "orders".to_owned(),
                ..Default::default()
            };
            let answer = DecisionsClient::new(channel.clone()).authorize(call).await?.into_inner();
            *allowed = answer.decision == "allow";
        }
        Ok(allowed.into())
    }

    async fn state(&self, grant: Option<&String>) -> Option<String> {
        let show = ShowGrantRequest { id: grant?.clone(), tree: false };
        let answer = GrantsClient::new(self.operator.clone()).show(show).await.ok()?;
        Some(answer.into_inner().grant?.state)
    }

    /// Looks at what became of a round.
    pub async fn look(&self, round: &Round) -> Seen {
        let (root_token, child_token) = self.allows(round).await.unwrap();
        let root = self.state(round.root.as_ref()).await;
        let again = self.request(&round.key).await.unwrap().0;
        Seen {
            child: self.state(round.child.as_ref()).await,
            extended: self.delegate(&again).await.is_ok(),
            bound: self.certify(round).await.ok(),
            root,
            root_token,
            child_token,
            again,
        }
    }
}

/// Holds what was told against what is seen after the broker came back.
pub fn check(context: &str, round: &Round, seen: &Seen) {
    let context = format!("{context}, round {}: told {round:?}, seen {seen:?}", round.key);
    let state = seen.root.as_deref();
    let fits = match (&round.root, round.cut, round.cutting) {
        (None, _, _) => true,
        (Some(_), true, _) => state == Some("revoked"),
        (Some(_), false, true) => matches!(state, Some("active" | "revoked")),
        (Some(_), false, false) => state == Some("active"),
    };
    assert!(fits, "the state of an acknowledged grant: {context}");
    let Some(root) = &round.root else { return };
    assert_eq!(&seen.again, root, "the same request made another grant: {context}");
    assert!(round.child.is_none() || seen.child == seen.root, "a delegation stands otherwise than its root: {context}");
    let live = state == Some("active");
    assert_eq!(seen.root_token, live && round.root_token.is_some(), "the root's token: {context}");
    assert_eq!(seen.child_token, live && round.child_token.is_some(), "the delegate's token: {context}");
    let known = round.bound.is_none() || seen.bound == round.bound;
    assert!(!live || round.bound_key.is_none() || (seen.bound.is_some() && known), "the certificate: {context}");
    assert!(live || seen.bound.is_none(), "a certificate was handed out below a cut: {context}");
    assert_eq!(seen.extended, live, "what was cut was extended, or what is live was not: {context}");
}

/// That the history was worth anything: trees that live on, and trees that were cut after they had been used.
pub fn is_telling(rounds: &[Round]) -> bool {
    let lives = rounds.iter().any(|round| round.accepted && !round.cutting);
    lives && rounds.iter().any(|round| round.accepted && round.cut && round.refused)
}
