//! Catalogs and policies in the ledger: kept through crashes and restarts, taken where there are none, and done
//! without where they cannot be read.

use std::path::Path;
use std::sync::Arc;

use belay::broker::Readers;
use belay::cedar::Set;
use belay::domain::agent::{AgentStatus, Role};
use belay::domain::cut::Target;
use belay::domain::decide::{
    AddOperator, ApplyCatalog, ApplyPolicy, Begin, Caller, RemoveOperator, Revoke, SetAgentStatus,
};
use belay::domain::digest::Digest;
use belay::domain::event::Origin;
use belay::ledger::{Clock, Ledger, Request, Seeds};
use belay::store::crash::Point;
use belay::wire::v1::catalogs_client::CatalogsClient;
use belay::wire::v1::policies_client::PoliciesClient;
use belay::wire::v1::{ApplyCatalogRequest, ApplyPolicyRequest, PolicyFile, ShowCatalogRequest, ShowPolicyRequest};
use tonic::Status;

use crate::support::office::{Office, asked};
use crate::support::process::Broker;
use crate::support::world::{Hands, store};

fn catalog(number: u64) -> String {
    let resource = format!("[[resource]]\npath = \"github:repo/{number}\"\nsensitivity = \"public\"\n");
    format!("[[tool]]\nname = \"github\"\nowner = \"team\"\n{resource}")
}

fn policies(number: u64) -> Vec<PolicyFile> {
    let text = format!("@id(\"number-{number}\") permit (principal, action, resource);");
    vec![PolicyFile { name: "all.cedar".to_owned(), text }]
}

/// Applies one catalog and one policy set after the other, each numbered by the version that it becomes: the last
/// that were acknowledged, when the broker died.
async fn apply_until_it_dies(broker: &Broker) -> (u64, u64) {
    let channel = broker.channel().await;
    let (mut catalogs, mut sets) = (CatalogsClient::new(channel.clone()), PoliciesClient::new(channel));
    let mut told = (0, 1);
    for _ in 0..200 {
        let request = ApplyCatalogRequest { text: catalog(told.0 + 1), ..ApplyCatalogRequest::default() };
        match catalogs.apply(request).await {
            Ok(applied) => told.0 = applied.into_inner().catalog.unwrap().version,
            Err(error) => return lost(&error, told),
        }
        let request = ApplyPolicyRequest { files: policies(told.1 + 1), ..ApplyPolicyRequest::default() };
        match sets.apply(request).await {
            Ok(applied) => told.1 = applied.into_inner().version,
            Err(error) => return lost(&error, told),
        }
    }
    told
}

fn lost(error: &Status, told: (u64, u64)) -> (u64, u64) {
    assert!(std::error::Error::source(error).is_some() || error.code() == tonic::Code::Unavailable, "{error:?}");
    told
}

#[tokio::test]
async fn what_was_applied_survives_a_crash_at_every_write_point() {
    let deaths = [
        (Point::TurnTaken, 40),
        (Point::Appended, 40),
        (Point::Committed, 40),
        (Point::Committed, 41),
        (Point::Folded, 40),
        (Point::Folded, 41),
        (Point::SnapshotBuilt, 2),
    ];
    for (point, nth) in deaths {
        let directory = tempfile::tempdir().unwrap();
        let frequent = ["--snapshot-every", "15"];
        let death = format!("{}:{nth}", point.as_str());
        let mut broker = Broker::start_with(directory.path(), &frequent, &[("BELAY_CRASH", &death)]);
        let told = apply_until_it_dies(&broker).await;
        assert!(broker.died(), "{death} was not reached after {told:?}");
        assert!(told.0 > 5 && told.1 > 5, "{death}: too little was acknowledged: {told:?}");

        let broker = Broker::start_with(directory.path(), &frequent, &[]);
        let channel = broker.channel().await;
        let shown = CatalogsClient::new(channel.clone()).show(ShowCatalogRequest { text: true }).await;
        let shown = shown.unwrap().into_inner();
        assert!([told.0, told.0 + 1].contains(&shown.version), "{death}: {} after {told:?}", shown.version);
        assert_eq!((shown.text, shown.resources), (catalog(shown.version), 1), "{death}");
        let set = PoliciesClient::new(channel).show(ShowPolicyRequest {}).await.unwrap().into_inner();
        assert!([told.1, told.1 + 1].contains(&set.version), "{death}: {} after {told:?}", set.version);
        assert_eq!(set.files, policies(set.version), "{death}");
        broker.agent("coder");
        let explain = ["policy", "explain", "--agent", "coder", "--scope"];
        let scope = format!("github:read@repo/{}", shown.version);
        let explained = broker.run(&[&explain[..], &[&scope]].concat()).ok();
        assert_eq!(explained["policy"]["policies"][0], format!("number-{}", set.version), "{death}");
        assert_eq!(explained["radius"]["public"], 1, "{death}");
    }
}

#[tokio::test]
async fn a_ledger_of_before_there_were_policies_takes_the_default() {
    let directory = tempfile::tempdir().unwrap();
    let hands = Hands::new();
    let clock = Arc::clone(&hands) as Arc<dyn Clock>;
    let seeds = Seeds::fixed([3; 32]);
    let ledger = Ledger::open(Box::new(store(directory.path())), clock, seeds, 1_000_000, Arc::new(Readers)).unwrap();
    let origin = Origin {
        trust_domain: "example.org".parse().unwrap(),
        issuer: "https://example.org".parse().unwrap(),
        epoch: "epoch".to_owned(),
    };
    let (request_id, seed) = ("test".to_owned(), ledger.seed());
    let begin = Request {
        command: Begin { origin },
        caller: Caller::Broker,
        request_id,
        idempotency: None,
        seed,
        blobs: vec![],
    };
    ledger.submit(begin).await.unwrap();
    assert!(ledger.view(|view| view.applied_policies().is_none()));
    ledger.close();
    drop(ledger);

    for _ in 0..2 {
        let office = open(directory.path(), &hands).await;
        let (applied, files) = office.broker.policies().unwrap().unwrap();
        assert_eq!((applied.version, &files[..]), (1, Set::dev().unwrap().files()));
    }
}

async fn open(directory: &Path, hands: &Arc<Hands>) -> Office {
    Office::at(Box::new(store(directory)), directory, Arc::clone(hands), 10).await
}

#[tokio::test]
async fn policies_that_cannot_be_read_deny_all_but_a_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let hands = Hands::new();
    let office = open(directory.path(), &hands).await;
    let world = &office.world;
    let admin = world.operator("ada", &[Role::Admin]).await;
    let approver = world.operator("bea", &[Role::Approver]).await;
    let glass = world.operator("glass", &[Role::BreakGlass]).await;
    let coder = world.agent("coder").await;
    let task = world.task(&coder).await;
    let grant = world.grant(&coder, task.id, &["db:read@orders"]).await.unwrap();
    let other = world.grant(&coder, task.id, &["db:read@orders"]).await.unwrap();
    // A set as another version might have taken it: it reads what this one's schema does not have.
    let files = [("future.cedar", "permit (principal, action, resource) when { context.moon == \"full\" };")];
    let bytes = serde_json::to_vec(&files).unwrap();
    let digest = Digest::of(&bytes);
    let command = ApplyPolicy { policies: Arc::new(Set::dev().unwrap()), digest, over: None, force: true };
    let (request_id, seed) = ("test".to_owned(), world.ledger.seed());
    let caller = Caller::Broker;
    let blobs = vec![(digest, bytes)];
    world.ledger.submit(Request { command, caller, request_id, idempotency: None, seed, blobs }).await.unwrap();
    drop(office);

    let office = open(directory.path(), &hands).await;
    let world = &office.world;
    let revoke = || Revoke { target: Target::Grant(grant.id), reason: "testing".parse().unwrap(), dry_run: false };
    let add = || AddOperator { name: "eve".parse().unwrap(), roles: vec![Role::Admin], secret_hash: digest };
    let refusals = [
        world.grant(&coder, task.id, &["db:read@orders"]).await.map(drop),
        world.submit(&admin, add()).await.map(drop),
        world.submit(&approver, revoke()).await.map(drop),
    ];
    for refusal in refusals {
        let message = refusal.unwrap_err().message;
        assert!(message.contains("the policies in force cannot be read"), "{message}");
    }
    // Nothing that is broken stands before a revoke.
    let set = |status| SetAgentStatus { name: "coder".parse().unwrap(), status, reason: "testing".parse().unwrap() };
    world.submit(&admin, set(AgentStatus::Suspended)).await.unwrap();
    world.submit(&admin, set(AgentStatus::Active)).await.unwrap();
    world.submit(&admin, revoke()).await.unwrap();
    assert_eq!(world.state(grant.id), Some("revoked"));
    let cut = Revoke { target: Target::Grant(other.id), reason: "testing".parse().unwrap(), dry_run: false };
    world.submit(&glass, cut).await.unwrap();

    let (shown, text) = office.broker.policies().unwrap().unwrap();
    assert_eq!((shown.version, text.len()), (2, 1), "what is in force can be looked at");
    let refused = office.broker.apply_policies(&asked(&glass), Set::dev().unwrap(), None, false, false).await;
    assert!(refused.is_err(), "breaking the glass applies nothing");
    let applied = office.broker.apply_policies(&asked(&admin), Set::dev().unwrap(), None, false, false).await.unwrap();
    assert_eq!(applied.version, 3);
    world.grant(&coder, task.id, &["db:read@orders"]).await.unwrap();
    world.submit(&admin, add()).await.unwrap();
}

#[tokio::test]
async fn a_catalog_that_cannot_be_read_is_an_empty_one() {
    let directory = tempfile::tempdir().unwrap();
    let hands = Hands::new();
    let office = open(directory.path(), &hands).await;
    let world = &office.world;
    let coder = world.agent("coder").await;
    let task = world.task(&coder).await;
    // As another version might have taken it.
    let bytes = b"[[moon]]\nphase = \"full\"\n".to_vec();
    let digest = Digest::of(&bytes);
    let command = ApplyCatalog { catalog: Arc::default(), digest, over: None };
    let (request_id, seed) = ("test".to_owned(), world.ledger.seed());
    let (caller, blobs) = (Caller::Broker, vec![(digest, bytes)]);
    world.ledger.submit(Request { command, caller, request_id, idempotency: None, seed, blobs }).await.unwrap();
    drop(office);

    let office = open(directory.path(), &hands).await;
    let world = &office.world;
    assert_eq!(office.broker.catalog(false).unwrap().unwrap().applied.version, 1);
    let grant = world.grant(&coder, task.id, &["db:read@orders"]).await.unwrap();
    assert!(world.ledger.view(|view| view.radius_of(grant.id)).unwrap().unbounded);
    world.apply_catalog("[[tool]]\nname = \"db\"\nowner = \"o\"\n").await;
    assert_eq!(world.ledger.view(|view| view.catalog_version()), 2);
}

#[tokio::test]
async fn somebody_who_has_enrolled_can_always_apply_policies() {
    let directory = tempfile::tempdir().unwrap();
    let office = open(directory.path(), &Hands::new()).await;
    let world = &office.world;
    let admin = world.operator("ada", &[Role::Admin]).await;
    // Who was invited and never came is nobody.
    let invite = |name: &str, role| AddOperator {
        name: name.parse().unwrap(),
        roles: vec![role],
        secret_hash: Digest::of(name.as_bytes()),
    };
    world.submit(&Caller::Broker, invite("bea", Role::Auditor)).await.unwrap();
    let by = |role: &str, action: &str| {
        format!("permit (principal in Role::\"{role}\", action == Action::\"{action}\", resource is Area);\n")
    };
    let set = |text: String| Set::load(&[("set.cedar".to_owned(), text)]).unwrap();
    let auditors = || set(by("auditor", "administer"));
    let refused = office.broker.apply_policies(&asked(&admin), auditors(), None, false, false).await.unwrap_err();
    assert_eq!(refused.reason, "locks_out");
    // Here two look after operators, and one of them after policies.
    let carl = world.operator("carl", &[Role::Responder]).await;
    let operators =
        "permit (principal in Role::\"responder\", action == Action::\"administer\", resource == Area::\"operators\");";
    let both = set(by("admin", "administer") + operators);
    office.broker.apply_policies(&asked(&admin), both, None, false, false).await.unwrap();
    let remove = || RemoveOperator { name: "ada".parse().unwrap(), reason: "testing".parse().unwrap() };
    assert_eq!(world.submit(&carl, remove()).await.unwrap_err().reason, "locks_out");
    world.operator("dan", &[Role::Admin]).await;
    world.submit(&carl, remove()).await.unwrap();
}
