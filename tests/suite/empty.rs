//! An empty set is nothing, an empty name is nobody, and what is not known is refused: nowhere does
//! leaving something out get more than naming it.

use std::path::Path;

use belay::client::{Identity, Refusal, client_config, connect};
use belay::domain::agent::{AgentStatus, Role};
use belay::domain::cut::Target;
use belay::domain::decide::{AddOperator, Caller, Delegate, IssueToken};
use belay::domain::digest::Digest;
use belay::domain::error::{Code, Error};
use belay::domain::grant::GrantState;
use belay::domain::id::{GrantId, TaskId, TokenId};
use belay::domain::name::{Audience, Line, Name, TrustDomain};
use belay::domain::scope::{Call, Scope, Scopes};
use belay::domain::time::Span;
use belay::wire::{DESCRIPTOR, v1};
use prost::Message as _;
use tonic::transport::Channel;
use tonic::{IntoRequest as _, Status};
use tonic_prost::ProstCodec;
use v1::decisions_client::DecisionsClient;
use v1::grants_client::GrantsClient;
use v1::revocations_client::RevocationsClient;
use v1::tokens_client::TokensClient;

use crate::support::process::Broker;
use crate::support::world::{Hands, World};

fn reads<T: std::str::FromStr<Err = Error>>(text: &str) -> Result<(), Error> {
    text.parse::<T>().map(drop)
}

/// Every kind of text that a request may hold, and one that is good.
type Read = fn(&str) -> Result<(), Error>;
const TEXTS: [(Read, &str); 13] = [
    (reads::<Scope>, "db:read@**"),
    (reads::<Target>, "agent:planner"),
    (reads::<GrantId>, "grt_01m826ztspf8fv6vxgstkferfd"),
    (reads::<TaskId>, "tsk_01m826ztsmftpv12p7sz9axtjn"),
    (reads::<TokenId>, "tok_01m826ztspf8fv6vxgstkferfd"),
    (reads::<Name>, "planner"),
    (reads::<Line>, "testing"),
    (reads::<Audience>, "https://tool.example"),
    (reads::<TrustDomain>, "example.org"),
    (reads::<Role>, "admin"),
    (reads::<AgentStatus>, "active"),
    (reads::<GrantState>, "active"),
    (reads::<Span>, "15m"),
];

async fn channel(broker: &Broker, identity: &Path) -> Channel {
    connect(&broker.addr, client_config(&Identity::load(identity).unwrap()).unwrap()).await.unwrap()
}

/// The kind, reason and field of a refusal.
fn said<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String, Option<String>) {
    let refusal = Refusal::from(answer.unwrap_err());
    (refusal.code, refusal.reason, refusal.field)
}

#[tokio::test]
async fn empty_means_nothing() {
    for (at, (read, good)) in TEXTS.iter().enumerate() {
        read(good).unwrap_or_else(|error| panic!("{good}: {error}"));
        assert_eq!(read("").unwrap_err().code, Code::Invalid, "the text of {good} ({at}), empty");
    }
    assert_eq!(Scopes::parse::<&str>(&[]).unwrap_err().reason, "missing");
    assert!(
        serde_json::from_str::<Scopes>("[]").is_err() && serde_json::from_str::<Scopes>(r#"["db:read@a"]"#).is_ok()
    );
    for (tool, action, resource) in [("", "read", "a"), ("db", "", "a"), ("db", "read", "")] {
        assert_eq!(Call::parse(tool, action, resource).unwrap_err().code, Code::Invalid);
    }

    let broker = Broker::start();
    let planner = channel(&broker, &broker.agent("planner")).await;
    let operator = channel(&broker, &broker.home.join("operator")).await;
    broker.agent("coder");
    let task = v1::StartTaskRequest { purpose: "testing".into(), ..Default::default() };
    let task =
        v1::tasks_client::TasksClient::new(planner.clone()).start(task).await.unwrap().into_inner().task.unwrap().id;
    let mut grants = GrantsClient::new(planner.clone());
    let root = v1::RequestGrantRequest { task, scopes: vec!["db:*@**".into()], token: true, ..Default::default() };
    let granted = grants.request(root.clone()).await.unwrap().into_inner();
    let (parent, token) = (granted.grant.unwrap().id, granted.token.unwrap().token);
    let missing = |field: &str| (Code::Invalid, "missing".to_owned(), Some(field.to_owned()));

    // No scope is none of the parent's, and not all of them.
    let child = v1::DelegateRequest { parent: parent.clone(), to: "coder".into(), ..Default::default() };
    assert_eq!(said(grants.delegate(child.clone()).await), missing("scope"));
    let blank = v1::DelegateRequest { scopes: vec![String::new()], ..child.clone() };
    assert_eq!(said(grants.delegate(blank).await), missing("scope"));
    assert_eq!(said(grants.request(v1::RequestGrantRequest { scopes: vec![], ..root }).await), missing("scope"));
    let whole = v1::DelegateRequest { scopes: vec!["db:read@**".into()], ..child };
    let nobody = v1::DelegateRequest { to: String::new(), ..whole.clone() };
    assert_eq!(said(grants.delegate(nobody).await), missing("to"));
    let rootless = v1::DelegateRequest { parent: String::new(), ..whole.clone() };
    let (code, _, field) = said(grants.delegate(rootless).await);
    assert_eq!((code, field.as_deref()), (Code::Invalid, Some("parent")));
    let child = grants.delegate(whole).await.unwrap().into_inner().grant.unwrap();

    // An empty target is not everything, nor is an empty name within one.
    let mut revocations = RevocationsClient::new(operator.clone());
    for target in ["", "agent:", "owner:", "subject:", "grt_", "*"] {
        let revoke = v1::RevokeRequest { target: target.into(), reason: "testing".into(), dry_run: false };
        assert_eq!(said(revocations.revoke(revoke).await).0, Code::Invalid, "{target}");
    }
    let shown = grants.show(v1::ShowGrantRequest { id: child.id, tree: false }).await.unwrap().into_inner();
    assert_eq!(shown.grant.unwrap().state, "active");

    // No token is nobody's authority; no resource is not every resource.
    let mut decisions = DecisionsClient::new(planner.clone());
    let call = v1::AuthorizeRequest {
        token,
        tool: "db".into(),
        action: "read".into(),
        resource: "orders".into(),
        ..Default::default()
    };
    let decision = decisions.authorize(call.clone()).await.unwrap().into_inner();
    assert_eq!(decision.decision, "allow", "{decision:?}");
    let bare = v1::AuthorizeRequest { token: String::new(), ..call.clone() };
    assert_eq!(decisions.authorize(bare).await.unwrap().into_inner().decision, "deny");
    let anywhere = v1::AuthorizeRequest { resource: String::new(), ..call };
    assert_eq!(said(decisions.authorize(anywhere).await).0, Code::Invalid);
    assert!(!TokensClient::new(planner).verify(v1::VerifyTokenRequest::default()).await.unwrap().into_inner().active);
}

#[tokio::test]
async fn what_is_not_known_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    let planner = world.agent("planner").await;
    let task = world.task(&planner).await;
    let root = world.grant(&planner, task.id, &["db:read@**"]).await.unwrap();
    let elsewhere: GrantId = "grt_01m826ztspf8fv6vxgstkferfd".parse().unwrap();
    let parent = world.delegate(&planner, elsewhere, "planner", &["db:read@a"]).await.unwrap_err();
    assert_eq!((parent.reason, parent.field), ("not_found", Some("parent")));
    let to = world.delegate(&planner, root.id, "nobody", &["db:read@a"]).await.unwrap_err();
    assert_eq!((to.reason, to.field), ("not_found", Some("to")));
    let tool = world.delegate(&planner, root.id, "planner", &["dbx:read@a"]).await.unwrap_err();
    assert_eq!((tool.reason, tool.field), ("scope_widened", Some("scope")));
    let constraint = world.delegate(&planner, root.id, "planner", &["db:read@a?limit<=5"]).await.unwrap_err();
    assert_eq!(constraint.reason, "constraint_unsupported");
    let other: Option<Audience> = Some("https://other.example".parse().unwrap());
    let issue = IssueToken { grant: root.id, audience: other.clone() };
    assert_eq!(world.submit(&planner, issue).await.unwrap_err().reason, "audience_widened");
    let command = Delegate {
        parent: root.id,
        to: "planner".parse().unwrap(),
        scopes: Scopes::parse(&["db:read@a"]).unwrap(),
        audience: other,
        ttl: Span::minutes(1),
        own: false,
        limits: Default::default(),
        narrow: false,
    };
    assert_eq!(world.submit(&planner, command).await.unwrap_err().reason, "audience_widened");
    let nobody = AddOperator { name: "olga".parse().unwrap(), roles: vec![], secret_hash: Digest::of(b"secret") };
    assert_eq!(world.submit(&Caller::Broker, nobody).await.unwrap_err().reason, "missing");
    world.delegate(&planner, root.id, "planner", &["db:read@a"]).await.unwrap();
}

/// A request of a newer client: a field that may well be a limit.
#[derive(Clone, PartialEq, prost::Message)]
struct Newer {
    #[prost(string, tag = "99")]
    limit: String,
}

/// Any answer; its fields do not matter.
#[derive(Clone, PartialEq, prost::Message)]
struct Whatever {}

async fn call(channel: &Channel, rpc: &str, request: Newer) -> Result<(), Refusal> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let codec = ProstCodec::<Newer, Whatever>::default();
    let answer = grpc.server_streaming(request.into_request(), rpc.parse().unwrap(), codec).await;
    let mut answers = answer.map_err(Refusal::from)?.into_inner();
    // Of what both sides stream, the first request is read when the answer has begun.
    match ["/Subscribe", "/Stream"].iter().any(|streams| rpc.ends_with(streams)) {
        true => answers.message().await.map(drop).map_err(Refusal::from),
        false => Ok(()),
    }
}

/// protobuf skips what it does not know. Here that is refused, by every RPC: what was skipped may be a limit.
#[tokio::test]
async fn a_request_with_an_unknown_field_is_refused_by_every_rpc() {
    let broker = Broker::start();
    let agent = channel(&broker, &broker.agent("planner")).await;
    let operator = channel(&broker, &broker.home.join("operator")).await;
    let gateway = channel(&broker, &broker.pep("gateway", &["https://orders.example"]).await).await;
    let files = prost_types::FileDescriptorSet::decode(DESCRIPTOR).unwrap();
    let services = files.file.iter().flat_map(|file| file.service.iter().map(|service| (file.package(), service)));
    let mut rpcs = 0;
    for (package, service) in services {
        for method in &service.method {
            let rpc = format!("/{package}.{}/{}", service.name(), method.name());
            assert!(method.input_type().ends_with("Request"), "{rpc}: requests are told by their names");
            let mut asked = Vec::new();
            for channel in [&operator, &agent, &gateway] {
                let unknown = call(channel, &rpc, Newer { limit: "max_calls=1".into() }).await.unwrap_err();
                let known = call(channel, &rpc, Newer::default()).await.map_err(|refusal| refusal.reason);
                asked.push((unknown.reason, known));
            }
            let heard = |(unknown, known): &(String, Result<(), String>)| {
                unknown == "unknown_field" && *known != Err("unknown_field".to_owned())
            };
            assert!(asked.iter().any(heard), "{rpc}: {asked:?}");
            rpcs += 1;
        }
    }
    assert!(rpcs >= 32, "only {rpcs} RPCs");
}
