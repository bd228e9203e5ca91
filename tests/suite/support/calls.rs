//! Calls on the real binary without its command line: typed or as raw bytes, as anybody.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use belay::cli::output::exit;
use belay::client::{Identity, Refusal, client_config, connect, identity, joining_config};
use belay::domain::digest::Digest;
use belay::wire::v1;
use prost::bytes::{Buf as _, BufMut as _};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::process::Broker;

/// What a call comes to.
pub type Answer<T> = Result<Response<T>, Status>;

impl Broker {
    /// A connection that shows the identity in `directory`.
    pub async fn channel_as(&self, directory: &Path) -> Result<Channel, Refusal> {
        connect(&self.addr, client_config(&Identity::load(directory).unwrap()).unwrap()).await
    }

    /// A connection of the development operator.
    pub async fn channel(&self) -> Channel {
        self.channel_as(&self.home.join("operator")).await.unwrap()
    }

    /// A connection that shows no certificate.
    pub async fn channel_of_nobody(&self) -> Channel {
        connect(&self.addr, joining_config(Digest::of(&self.authority())).unwrap()).await.unwrap()
    }

    /// The certificate of the broker's CA (DER).
    pub fn authority(&self) -> Vec<u8> {
        Identity::load(&self.home.join("operator")).unwrap().authorities()[0].to_vec()
    }

    /// Adds and enrolls an operator: the directory of its identity.
    pub async fn operator(&self, name: &str, roles: &[&str]) -> PathBuf {
        let roles = roles.iter().map(ToString::to_string).collect();
        let mut operators = v1::operators_client::OperatorsClient::new(self.channel().await);
        let added = operators.add(v1::AddOperatorRequest { name: name.to_owned(), roles }).await.unwrap().into_inner();
        self.enrolled(name, &added.join_token).await
    }

    /// Registers and enrolls an agent without the command line: the directory of its identity.
    pub async fn enroll_agent(&self, name: &str) -> PathBuf {
        let token = self.registered(name).await;
        self.enrolled(name, &token).await
    }

    /// Registers an agent: its join token.
    pub async fn registered(&self, name: &str) -> String {
        let mut agents = v1::agents_client::AgentsClient::new(self.channel().await);
        agents.register(registration(name)).await.unwrap().into_inner().join_token
    }

    /// Registers and enrolls an enforcement point: the directory of its identity.
    pub async fn pep(&self, name: &str, audiences: &[&str]) -> PathBuf {
        let audiences = audiences.iter().map(ToString::to_string).collect();
        let request = v1::RegisterPepRequest { name: name.to_owned(), audiences, ..Default::default() };
        let mut peps = v1::peps_client::PepsClient::new(self.channel().await);
        let registered = peps.register(request).await.unwrap().into_inner();
        self.enrolled(name, &registered.join_token).await
    }

    async fn enrolled(&self, name: &str, join_token: &str) -> PathBuf {
        let (key, csr) = identity::request(None).unwrap();
        let enrolled = enroll(self.channel_of_nobody().await, join_token, csr).await.unwrap().into_inner();
        let directory = self.home.join(name);
        Identity::save(&directory, &enrolled.certificate, &key, &enrolled.authorities, false).unwrap();
        directory
    }

    /// A page over HTTPS, believing only the broker's CA: status line, headers, body.
    pub async fn page(&self, path: &str) -> (String, String, String) {
        let (status, headers, body) = self.file(path).await;
        (status, headers, String::from_utf8(body).unwrap())
    }

    /// The same for one whose body is not text.
    pub async fn file(&self, path: &str) -> (String, String, Vec<u8>) {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority().into()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let address = self.http.trim_start_matches("https://");
        let socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = "127.0.0.1".try_into().unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let body = answer.split_off(end + 4);
        let head = String::from_utf8(answer).unwrap();
        let (status, headers) = head.split_once("\r\n").unwrap();
        (status.to_owned(), headers.to_lowercase(), body)
    }

    /// How many events the log has.
    pub async fn log_size(&self, channel: &Channel) -> u64 {
        let mut status = v1::status_client::StatusClient::new(channel.clone());
        status.get(v1::GetStatusRequest {}).await.unwrap().into_inner().seq
    }
}

/// An agent to be registered, with nothing wrong about it.
pub fn registration(name: &str) -> v1::RegisterAgentRequest {
    let text = |text: &str| text.to_owned();
    v1::RegisterAgentRequest { name: text(name), owner: text("team"), purpose: text("testing"), ..Default::default() }
}

/// Turns a join token and a certificate request into an identity.
pub async fn enroll(channel: Channel, join_token: &str, csr: Vec<u8>) -> Answer<v1::EnrollResponse> {
    let request = v1::EnrollRequest { join_token: join_token.to_owned(), csr, ..Default::default() };
    v1::identity_client::IdentityClient::new(channel).enroll(request).await
}

/// What an agent does, over one connection.
#[derive(Clone)]
pub struct Acting(pub Channel);

impl Acting {
    /// As the agent whose identity is in `directory`.
    pub async fn with(broker: &Broker, directory: &Path) -> Self {
        Self(broker.channel_as(directory).await.unwrap())
    }

    /// Starts a task of an hour: its id.
    pub async fn task(&self) -> String {
        let request = v1::StartTaskRequest { purpose: "testing".to_owned(), ..Default::default() };
        v1::tasks_client::TasksClient::new(self.0.clone()).start(request).await.unwrap().into_inner().task.unwrap().id
    }

    pub async fn request(&self, request: v1::RequestGrantRequest) -> Answer<v1::GrantResponse> {
        v1::grants_client::GrantsClient::new(self.0.clone()).request(request).await
    }

    pub async fn delegate(&self, request: v1::DelegateRequest) -> Answer<v1::GrantResponse> {
        v1::grants_client::GrantsClient::new(self.0.clone()).delegate(request).await
    }

    /// A root grant of `db:read@**` with a token: the grant's id, the token's id, the token.
    pub async fn granted(&self) -> (String, String, String) {
        let task = self.task().await;
        let scopes = vec!["db:read@**".to_owned()];
        let request = v1::RequestGrantRequest { task, scopes, token: true, ..Default::default() };
        let granted = self.request(request).await.unwrap().into_inner();
        let token = granted.token.unwrap();
        (granted.grant.unwrap().id, token.id, token.token)
    }

    pub async fn issue(&self, grant: &str) -> Answer<v1::Token> {
        let request = v1::IssueTokenRequest { grant: grant.to_owned(), ..Default::default() };
        v1::tokens_client::TokensClient::new(self.0.clone()).issue(request).await
    }

    /// Asks for a certificate under a grant.
    pub async fn certify(&self, grant: &str, csr: Vec<u8>, once: &str) -> Answer<v1::Certificate> {
        let request = v1::IssueCertificateRequest { grant: grant.into(), csr, idempotency_key: once.into() };
        v1::certificates_client::CertificatesClient::new(self.0.clone()).issue(request).await
    }

    /// A certificate under a grant for a new key, saved to `directory`: its id.
    pub async fn certified(&self, grant: &str, directory: &Path) -> String {
        let (key, csr) = identity::request(None).unwrap();
        let issued = self.certify(grant, csr, "").await.unwrap().into_inner();
        Identity::save(directory, &issued.certificate, &key, &issued.authorities, false).unwrap();
        issued.id
    }

    /// What a check of a token says: empty if it is active, else why not.
    pub async fn verify(&self, token: &str) -> String {
        let request = v1::VerifyTokenRequest { token: token.to_owned(), presenter: Vec::new(), ..Default::default() };
        v1::tokens_client::TokensClient::new(self.0.clone()).verify(request).await.unwrap().into_inner().reason
    }

    /// The code of the decision on `db:read@orders`: `in_scope` if it is allowed.
    pub async fn decided(&self, token: &str) -> String {
        let [token, tool, action, resource] = [token, "db", "read", "orders"].map(str::to_owned);
        let request = v1::AuthorizeRequest { token, tool, action, resource, ..Default::default() };
        let mut decisions = v1::decisions_client::DecisionsClient::new(self.0.clone());
        let decided = decisions.authorize(request).await.unwrap().into_inner();
        assert_eq!(decided.decision == "allow", decided.reasons[0].code == "in_scope", "{decided:?}");
        decided.reasons[0].code.clone()
    }

    pub async fn revoke(&self, target: &str) -> Answer<v1::RevokeResponse> {
        let request = v1::RevokeRequest { target: target.to_owned(), reason: "testing".to_owned(), dry_run: false };
        v1::revocations_client::RevocationsClient::new(self.0.clone()).revoke(request).await
    }
}

/// Holds if a call was refused with this gRPC code and reason, in one line that begins in lower case and
/// that the command line turns into this exit code.
pub fn refused<T: Debug>(what: impl Debug, answer: Answer<T>, code: Code, reason: &str, exits: u8) -> Refusal {
    let status = answer.map(Response::into_inner).expect_err(&format!("{what:?} was accepted"));
    assert_eq!(status.code(), code, "{what:?}: {status}");
    let message = status.message().to_owned();
    assert!(is_clear(&message), "{what:?}: {message:?}");
    let refusal = Refusal::from(status);
    assert_eq!((refusal.reason.as_str(), exit(refusal.code)), (reason, exits), "{what:?}: {refusal}");
    refusal
}

/// Whether a message is one line for a reader: not empty, not a sentence with a capital, not cut off.
pub fn is_clear(message: &str) -> bool {
    let first = message.chars().next();
    first.is_some_and(|c| !c.is_uppercase()) && !message.contains(char::is_control) && message.len() < 600
}

/// Calls `rpc` with these bytes as its message, and waits for the first message of the answer.
pub async fn raw(channel: &Channel, rpc: &str, body: Vec<u8>) -> Result<Vec<u8>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let answer = grpc.server_streaming(Request::new(body), rpc.parse().unwrap(), Bytes).await?;
    answer.into_inner().message().await.map(Option::unwrap_or_default)
}

/// Messages as the bytes that they are.
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(input.copy_to_bytes(input.remaining()).to_vec()))
    }
}
