//! What ends a certificate under a grant, and when: at the next call, on the connection that is open.

use belay::attest::{csr, mtls};
use belay::broker::{Asked, Issued, idempotency};
use belay::client::identity;
use belay::domain::agent::Kind;
use belay::domain::certificate::Certificate;
use belay::domain::cut::Target;
use belay::domain::decide::{
    Caller, CertificateAnswer, Delegate, IssueCertificate, KeepSigned, RenewGrant, RequestGrant, StartTask,
};
use belay::domain::entropy::Entropy;
use belay::domain::error::Code as ErrorCode;
use belay::domain::id::{CertificateId, GrantId};
use belay::domain::key::Purpose;
use belay::domain::scope::{Call, Scopes};
use belay::domain::time::Span;
use belay::format::x509::UnderGrant;
use belay::store::Sqlite;
use belay::wire::v1;
use tonic::Code;

use crate::support::block_on;
use crate::support::calls::{Acting, refused};
use crate::support::office::{Office, asked, at_once};
use crate::support::process::Broker;
use crate::support::world::NOW;

/// The certificate of a child, presented on a connection that stays open, and what stands above it.
struct Held {
    broker: Broker,
    holder: Acting,
    child: Acting,
    task: String,
    root: String,
    grant: String,
    id: String,
}

impl Held {
    async fn new() -> Self {
        let broker = Broker::start();
        let planner = Acting::with(&broker, &broker.enroll_agent("planner").await).await;
        let child = Acting::with(&broker, &broker.enroll_agent("coder").await).await;
        let task = planner.task().await;
        let scopes = vec!["db:read@**".to_owned()];
        let request = v1::RequestGrantRequest { task: task.clone(), scopes: scopes.clone(), ..Default::default() };
        let root = planner.request(request).await.unwrap().into_inner().grant.unwrap().id;
        let delegate = v1::DelegateRequest { parent: root.clone(), to: "coder".into(), scopes, ..Default::default() };
        let grant = planner.delegate(delegate).await.unwrap().into_inner().grant.unwrap().id;
        let directory = broker.home.join("certificate");
        let id = child.certified(&grant, &directory).await;
        let holder = Acting::with(&broker, &directory).await;
        assert_eq!(holder.decided("").await, "in_scope");
        Self { broker, holder, child, task, root, grant, id }
    }

    /// What is decided on the open connection. On a new one it is the same, unless it is over for good: then there is
    /// no new one.
    async fn decided(&self) -> String {
        let open = self.holder.decided("").await;
        match self.broker.channel_as(&self.broker.home.join("certificate")).await {
            Ok(new) => {
                assert_eq!(Acting(new).decided("").await, open);
                assert!(open == "in_scope" || open.ends_with("_suspended"), "{open} opens a connection");
            }
            Err(refusal) => {
                assert_eq!((refusal.reason.as_str(), refusal.code), ("tls_refused", ErrorCode::Unauthenticated));
                assert!(refusal.message.contains("it refused our certificate as revoked"), "{refusal}");
                assert!(open != "in_scope" && !open.ends_with("_suspended"), "{open} opens no connection");
            }
        }
        open
    }

    fn run(&self, arguments: &[&str]) {
        self.broker.run(arguments).ok();
    }
}

#[tokio::test]
async fn a_cut_of_whatever_is_above_ends_a_certificate_at_once() {
    for (target, reason) in [
        ("grant", "grant_revoked"),
        ("root", "grant_revoked"),
        ("task", "task_revoked"),
        ("agent:coder", "agent_revoked"),
        ("agent:planner", "agent_revoked"),
        ("owner:team", "owner_revoked"),
    ] {
        let held = Held::new().await;
        let target = match target {
            "grant" => held.grant.as_str(),
            "root" => held.root.as_str(),
            "task" => held.task.as_str(),
            name => name,
        };
        let dry = held.broker.run(&["revoke", target, "--reason", "testing", "--dry-run"]).ok();
        assert_eq!(held.decided().await, "in_scope", "a dry run cuts nothing");
        let cut = held.broker.run(&["revoke", target, "--reason", "testing"]).ok();
        let told = |answer: &serde_json::Value| {
            let effects = answer["effects"].as_array().unwrap().clone();
            let what =
                |effect: &serde_json::Value| ["credential", "kind", "state", "owner"].map(|key| effect[key].clone());
            (answer["cut"].clone(), effects.iter().map(what).collect::<Vec<_>>())
        };
        assert_eq!(told(&cut), told(&dry), "{target}: a dry run tells what will die, and whose it is");
        assert_eq!(cut["cut"]["certificates"], 1, "{cut}");
        let named = |effect: &serde_json::Value| effect["credential"] == held.id.as_str();
        let effect = cut["effects"].as_array().unwrap().iter().find(|effect| named(effect)).unwrap();
        // Others may accept it over TLS until they have the next revocation list.
        assert_eq!((&effect["kind"], &effect["state"]), (&"certificate".into(), &"pending".into()), "{effect}");
        assert_eq!(effect["owner"], "team", "{effect}");
        assert_eq!(held.decided().await, reason, "{target}");
        assert_eq!(held.broker.run(&["status"]).ok()["live"]["certificates"], 0, "{target}");
    }
}

#[tokio::test]
async fn a_certificate_of_a_cut_grant_is_denied() {
    let held = Held::new().await;
    held.run(&["revoke", &held.grant, "--reason", "testing"]);
    assert_eq!(held.holder.decided("").await, "grant_revoked");
}

#[tokio::test]
async fn a_revoked_certificate_ends_alone_and_authenticates_nobody() {
    let held = Held::new().await;
    let cut = held.broker.run(&["revoke", &held.id, "--reason", "testing"]).ok();
    assert_eq!((&cut["cut"]["certificates"], &cut["cut"]["grants"]), (&1.into(), &0.into()), "{cut}");
    let call =
        v1::AuthorizeRequest { tool: "db".into(), action: "read".into(), resource: "x".into(), ..Default::default() };
    let answer = v1::decisions_client::DecisionsClient::new(held.holder.0.clone()).authorize(call).await;
    refused("a revoked certificate", answer, Code::Unauthenticated, "certificate_revoked", 6);
    let new = held.broker.channel_as(&held.broker.home.join("certificate")).await.unwrap_err();
    assert_eq!(new.reason, "tls_refused", "{new}");
    // Its grant lives on.
    let other = held.broker.home.join("other");
    held.child.certified(&held.grant, &other).await;
    assert_eq!(Acting::with(&held.broker, &other).await.decided("").await, "in_scope");
}

#[tokio::test]
async fn an_agent_gives_back_its_own_certificate_and_sees_no_other() {
    let held = Held::new().await;
    let other = Acting::with(&held.broker, &held.broker.enroll_agent("other").await).await;
    refused("another's", other.revoke(&held.id).await, Code::NotFound, "not_found", 5);
    refused("its holder", held.holder.revoke(&held.id).await, Code::PermissionDenied, "identities_only", 3);
    assert_eq!(held.decided().await, "in_scope");
    let cut = held.child.revoke(&held.id).await.unwrap().into_inner().cut.unwrap();
    assert_eq!((cut.grants, cut.certificates), (0, 1));
}

#[tokio::test]
async fn what_is_halted_halts_a_certificate_and_what_is_given_back_ends_it() {
    let held = Held::new().await;
    for (halt, resume, reason) in [
        (["grant", "suspend", &held.root], ["grant", "resume", &held.root], "grant_suspended"),
        (["agent", "suspend", "coder"], ["agent", "resume", "coder"], "agent_suspended"),
        (["agent", "suspend", "planner"], ["agent", "resume", "planner"], "agent_suspended"),
    ] {
        held.run(&halt);
        assert_eq!(held.decided().await, reason, "{halt:?}");
        held.run(&resume);
        assert_eq!(held.decided().await, "in_scope", "{resume:?}");
    }
    held.broker.run(&["task", "end", &held.task]).ok();
    assert_eq!(held.decided().await, "task_ended");
}

#[tokio::test]
async fn an_identity_that_is_revoked_takes_no_certificate_with_it() {
    let held = Held::new().await;
    // What was granted is cut by the agent's name: the identity only asked for it.
    let events = held.broker.run(&["audit", "list", "--kind", "certificate_recorded", "--agent", "coder"]).ok();
    let identity = events["events"][0]["detail"]["certificate"]["id"].as_str().unwrap().to_owned();
    assert_ne!(identity, held.id);
    held.run(&["revoke", &identity, "--reason", "testing"]);
    refused("the identity", held.child.issue(&held.grant).await, Code::Unauthenticated, "certificate_revoked", 6);
    assert_eq!(held.decided().await, "in_scope");
    held.run(&["agent", "retire", "coder"]);
    assert_eq!(held.decided().await, "agent_retired");
}

/// A broker in this process, an agent with a grant of 15 minutes, and the agent as its caller.
async fn office(directory: &std::path::Path) -> (Office, Caller, GrantId) {
    let office = Office::open(Box::new(Sqlite::open(directory).unwrap()), directory).await;
    let ana = office.world.agent("ana").await;
    let start = StartTask { purpose: "testing".parse().unwrap(), subject: None, ttl: Span::hours(100), envelope: None };
    let task = office.world.submit(&ana, start).await.unwrap().task.id;
    let scopes = Scopes::parse(&["db:read@**"]).unwrap();
    let request = RequestGrant {
        task,
        scopes,
        audience: None,
        ttl: Span::minutes(15),
        token: false,
        limits: Default::default(),
        narrow: false,
    };
    let grant = office.world.submit(&ana, request).await.unwrap().grant.id;
    (office, ana, grant)
}

fn key() -> Vec<u8> {
    csr::prove(&identity::request(None).unwrap().1).unwrap().spki
}

async fn certificate(office: &Office, ana: &Caller, grant: GrantId) -> Issued {
    office.broker.issue_certificate(&asked(ana), grant, &key(), |_| Ok(()), None).await.unwrap()
}

fn decided(office: &Office, der: &[u8]) -> String {
    let (_, presenter) = mtls::present(der, &office.broker.origin().trust_domain).unwrap();
    let call = Call::parse("db", "read", "orders").unwrap();
    let authorized = at_once(office.broker.authorize(&asked(&Caller::Holder(presenter)), "", call));
    authorized.unwrap().verdict.reasons[0].code.to_owned()
}

#[test]
fn a_certificate_never_outlives_its_grant_and_is_not_renewed_with_it() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let (office, ana, grant) = office(directory.path()).await;
        office.world.hands.turn(Span::millis(400));
        let first = certificate(&office, &ana, grant).await;
        let end = |grant| office.world.ledger.view(|view| view.grant(grant).unwrap().expires_at);
        let last_second = |der: &[u8]| {
            let (_, read) = x509_parser::parse_x509_certificate(der).unwrap();
            (read.validity().not_before.timestamp() * 1000, read.validity().not_after.timestamp() * 1000 + 999)
        };
        let (from, to) = last_second(&first.der);
        assert!(to < end(grant).millis() && to >= end(grant).millis() - 2000, "{to} {}", end(grant));
        assert_eq!(from, NOW - 60_000, "backdated a minute, for clocks that are behind");

        office.world.hands.turn(Span::minutes(5));
        let renew = RenewGrant { id: grant, ttl: Span::minutes(15) };
        office.world.submit(&ana, renew).await.unwrap();
        let second = certificate(&office, &ana, grant).await;
        assert!(second.identity.not_after > first.identity.not_after);
        assert_eq!(
            (decided(&office, &first.der), decided(&office, &second.der)),
            ("in_scope".into(), "in_scope".into())
        );
        office.world.hands.turn(first.identity.not_after.since(office.world.ledger.now()));
        assert_eq!(decided(&office, &first.der), "certificate_expired", "it ends when it said");
        assert_eq!(decided(&office, &second.der), "in_scope");
        office.world.hands.turn(end(grant).since(office.world.ledger.now()));
        assert_eq!(decided(&office, &second.der), "certificate_expired");

        // Of a grant beyond a day, a day.
        let scopes = Scopes::parse(&["db:read@**"]).unwrap();
        let task = office.world.ledger.view(|view| view.tasks().next().unwrap().id);
        let long = RequestGrant {
            task,
            scopes,
            audience: None,
            ttl: Span::hours(30),
            token: false,
            limits: Default::default(),
            narrow: false,
        };
        let long = office.world.submit(&ana, long).await.unwrap().grant;
        let now = office.world.ledger.now();
        assert!(long.expires_at > now.plus(Span::hours(24)));
        let third = certificate(&office, &ana, long.id).await.identity.not_after;
        assert!(third <= now.plus(Span::hours(24)) && third > now.plus(Span::hours(23)), "{third}");
    });
}

#[test]
fn a_certificate_of_a_tainted_authority_is_denied_and_not_handed_out_again() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let (office, ana, grant) = office(directory.path()).await;
        let spki = key();
        let issue = async |ana: &Caller| {
            let once = idempotency::<IssueCertificate>("k", &spki).unwrap();
            office.broker.issue_certificate(&asked(ana), grant, &spki, |_| Ok(()), once).await
        };
        let issued = issue(&ana).await.unwrap();
        assert_eq!(issue(&ana).await.unwrap().der, issued.der);
        assert_eq!(decided(&office, &issued.der), "in_scope");
        let boss = Asked::broker("test");
        let kid = office.broker.accepted_keys(&[Purpose::Authority])[0].kid.clone();
        office.broker.taint_key(&boss, kid, "testing".parse().unwrap()).await.unwrap();
        assert_eq!(decided(&office, &issued.der), "key_tainted");
        assert_eq!(issue(&ana).await.unwrap_err().reason, "key_tainted", "its identity is of the same authority");
        let ana = Caller::Agent(office.world.identity(Kind::Agent, "ana").await);
        assert_eq!(issue(&ana).await.unwrap_err().reason, "certificate_over");
        let fresh = certificate(&office, &ana, grant).await;
        assert_eq!(decided(&office, &fresh.der), "in_scope", "the next authority signs");
    });
}

#[test]
fn a_certificate_says_what_a_token_says_and_never_looks_newer_than_its_grant() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let (office, ana, root) = office(directory.path()).await;
        let bob = office.world.agent("bob").await;
        let to = "bob".parse().unwrap();
        let (scopes, ttl) = (Scopes::parse(&["db:read@a"]).unwrap(), Span::minutes(5));
        let delegate = Delegate {
            parent: root,
            to,
            scopes,
            audience: None,
            ttl,
            own: false,
            limits: Default::default(),
            narrow: false,
        };
        let child = office.world.submit(&ana, delegate).await.unwrap().grant;
        office.world.agent("carol").await; // The head moves on.
        let issued = certificate(&office, &bob, child.id).await;
        let (_, read) = x509_parser::parse_x509_certificate(&issued.der).unwrap();
        let said = UnderGrant::of(&read).unwrap().unwrap();
        let token = office.token(&bob, child.id).await;
        let claims = office.broker.check(&asked(&bob), &token).claims.unwrap();
        assert_eq!(said.claims.chain, claims.chain);
        assert_eq!(said.claims.chain.iter().map(|link| link.grant).collect::<Vec<_>>(), [root, child.id]);
        assert_eq!((&said.claims.epoch, said.claims.task), (&claims.epoch, claims.task));
        assert_eq!((said.aud, said.claims.grant), (claims.audience, child.id));
        // A cut of a name ends what came up to it: a later sequence would survive a cut between.
        assert_eq!(said.claims.seq, child.seq);
        assert!(said.claims.seq < claims.seq);
    });
}

#[test]
fn a_certificate_that_was_built_wrong_is_not_recorded() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let (office, ana, grant) = office(directory.path()).await;
        let bob = office.world.agent("bob").await;
        let good = Certificate { der: None, id: id(&office), ..certificate(&office, &ana, grant).await.identity };
        let expires_at = office.world.ledger.view(|view| view.grant(grant).unwrap().expires_at);
        let submit = async |caller: &Caller, new: Certificate| {
            let new = Certificate { id: id(&office), ..new };
            office.world.submit(caller, IssueCertificate { new }).await.map(|_| ())
        };
        let late = Certificate { not_after: expires_at.plus(Span::millis(1)), ..good.clone() };
        assert_eq!(submit(&ana, late).await.unwrap_err().reason, "outlives_grant");
        let over = Certificate { not_after: office.world.ledger.now(), ..good.clone() };
        assert_eq!(submit(&ana, over).await.unwrap_err().reason, "too_short");
        for wrong in [
            Certificate { grant: None, ..good.clone() },
            Certificate { name: "bob".parse().unwrap(), ..good.clone() },
            Certificate { kind: Kind::Operator, ..good.clone() },
        ] {
            assert_eq!(submit(&ana, wrong).await.unwrap_err().reason, "certificate_mismatch");
        }
        let other = Certificate { authority: "other".to_owned(), ..good.clone() };
        assert_eq!(submit(&ana, other).await.unwrap_err().reason, "authority_changed");
        assert_eq!(submit(&bob, good.clone()).await.unwrap_err().reason, "not_found");
        let Caller::Agent(presenter) = ana.clone() else { unreachable!() };
        let holder = Caller::Holder(presenter);
        assert_eq!(submit(&holder, good.clone()).await.unwrap_err().reason, "agents_only");
        submit(&ana, good).await.unwrap();
    });
}

#[test]
fn a_serial_that_was_never_signed_is_given_up_for_a_new_one() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let (office, ana, grant) = office(directory.path()).await;
        let made = certificate(&office, &ana, grant).await.identity;
        let issue = async || {
            let new = Certificate { der: None, id: id(&office), ..made.clone() };
            let answer = office.world.submit_once(&ana, IssueCertificate { new }, Some(("k", b"body"))).await;
            match answer.unwrap() {
                CertificateAnswer::Sign(recorded) => recorded.get().id,
                CertificateAnswer::Again(known) => panic!("{} was never signed", known.id),
            }
        };
        // Recorded, and the process is gone before it signs.
        let (first, second) = (issue().await, issue().await);
        assert_ne!(first, second);
        let cut = |id| office.world.ledger.view(|view| view.cut(&Target::Certificate(id)).is_some());
        assert!(cut(first) && !cut(second));
        let keep = async |id| office.world.submit(&Caller::Broker, KeepSigned { id, der: vec![0x30] }).await;
        assert_eq!(keep(first).await.unwrap_err().reason, "revoked_before_issue");
        keep(second).await.unwrap();
        assert_eq!(keep(second).await.unwrap_err().reason, "signed_twice");
    });
}

fn id(office: &Office) -> CertificateId {
    CertificateId::mint(office.world.ledger.now(), &mut Entropy::from_seed(office.world.ledger.seed()))
}
