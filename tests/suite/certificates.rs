//! A certificate under a grant, by the command line and the interface: what it is good for, and what it is not.

use std::path::{Path, PathBuf};

use belay::client::Identity;
use belay::wire::v1;
use serde_json::Value;
use tonic::Code;

use crate::support::calls::{Acting, refused};
use crate::support::process::{Broker, Ran};

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not text: {value}")).to_owned()
}

/// A broker, an agent, its grant of `db:read@**`, and a certificate under that.
struct Held {
    broker: Broker,
    planner: PathBuf,
    grant: String,
    certificate: PathBuf,
    id: String,
}

impl Held {
    fn new() -> Self {
        let broker = Broker::start();
        let (planner, certificate) = (broker.agent("planner"), broker.home.join("deep/certificate"));
        let task = text(&broker.run_as(&planner, &["task", "start", "testing"]).ok()["task"]["id"]);
        let out = certificate.to_str().unwrap().to_owned();
        let request = ["grant", "request", "--task", &task, "--scope", "db:read@**", "--cert", &out];
        let granted = broker.run_as(&planner, &request).ok();
        let (grant, id) = (text(&granted["grant"]["id"]), text(&granted["certificate"]["id"]));
        Self { broker, planner, grant, certificate, id }
    }

    fn call(&self, identity: &Path, action: &str, token: &[&str]) -> Ran {
        let call = ["authorize", "--tool", "db", "--action", action, "--resource", "orders"];
        self.broker.run_as(identity, &[&call, token].concat())
    }
}

fn decided(ran: &Ran) -> (i32, String, Value) {
    let said: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    (ran.code, text(&said["reasons"][0]["code"]), said)
}

#[test]
fn a_certificate_is_a_credential_for_its_grants_calls_and_no_others() {
    let held = Held::new();
    let (code, reason, said) = decided(&held.call(&held.certificate, "read", &[]));
    assert_eq!((code, reason.as_str(), &said["possession"]), (0, "in_scope", &"proven".into()));
    assert_eq!(said["grant"], held.grant.as_str());
    let (code, reason, denied) = decided(&held.call(&held.certificate, "write", &[]));
    assert_eq!((code, reason.as_str()), (3, "out_of_scope"));

    // The audit names it, with the call and the holder.
    let recorded = || held.broker.run(&["audit", "list", "--kind", "invoked"]).ok()["events"].clone();
    assert!((0..100).any(|_| recorded().as_array().unwrap().len() == 2), "two calls were decided");
    for (event, (verdict, id)) in recorded().as_array().unwrap().iter().zip([(true, &said), (false, &denied)]) {
        let detail = &event["detail"];
        assert_eq!((&detail["credential"], &detail["allowed"]), (&held.id.as_str().into(), &verdict.into()), "{event}");
        assert_eq!((&event["actor"], &detail["id"]), (&"agent:planner".into(), &id["id"]), "{event}");
        assert_eq!((&event["grant"], &detail["proven"]), (&held.grant.as_str().into(), &true.into()), "{event}");
    }
    assert_eq!(held.broker.run(&["status"]).ok()["live"]["certificates"], 1);
    let why = held.broker.run(&["why", &held.id]).ok();
    assert_eq!((&why["kind"], &why["chain"][0]["id"]), (&"certificate".into(), &held.grant.as_str().into()), "{why}");
    let kinds: Vec<_> = why["events"].as_array().unwrap().iter().map(|event| text(&event["kind"])).collect();
    for kind in ["grant_issued", "certificate_recorded", "certificate_signed"] {
        assert!(kinds.iter().any(|found| found == kind), "{kind}: {kinds:?}");
    }
}

#[test]
fn one_call_is_made_under_one_credential() {
    let held = Held::new();
    let issue = ["token", "issue", "--grant", &held.grant];
    let token = text(&held.broker.run_as(&held.planner, &issue).ok()["token"]);
    let with = ["--token", token.as_str()];
    assert_eq!(decided(&held.call(&held.planner, "read", &with)).1, "in_scope");
    let (code, reason, _) = decided(&held.call(&held.certificate, "read", &with));
    assert_eq!((code, reason.as_str()), (3, "one_credential"));
    for identity in [&held.planner, &held.broker.home.join("operator")] {
        let (code, reason, _) = decided(&held.call(identity, "read", &[]));
        assert_eq!((code, reason.as_str()), (3, "no_credential"), "an identity is no credential");
    }
}

#[test]
fn a_certificate_comes_with_its_key_and_ca_and_is_told_by_its_serial() {
    let held = Held::new();
    let out = held.broker.home.join("second");
    let issue = ["cert", "issue", "--grant", &held.grant, "--out", out.to_str().unwrap()];
    let issued = held.broker.run_as(&held.planner, &issue).ok();
    assert_eq!(issued["spiffe_id"], "spiffe://belay.dev/agent/planner");
    let identity = Identity::load(&out).unwrap();
    let (_, read) = x509_parser::parse_x509_certificate(identity.certificate()).unwrap();
    let serial: String = read.raw_serial().iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(issued["serial"], serial.as_str());
    let until = text(&issued["expires_at"]).parse::<jiff::Timestamp>().unwrap().as_second();
    assert_eq!(read.validity().not_after.timestamp(), until);
    for name in ["cert.pem", "key.pem", "ca.pem"] {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(out.join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    let elsewhere = held.broker.home.join("elsewhere");
    // What is there is not written over, and nothing is asked for in vain.
    let operator = held.broker.run(&["status"]).ok()["seq"].clone();
    for arguments in [&issue[..], &["grant", "request", "--task", "tsk_x", "--scope", "a:b@c", "--cert", issue[5]]] {
        assert_eq!(held.broker.run_as(&held.planner, arguments).err(1)["detail"]["reason"], "identity_exists");
    }
    assert_eq!(held.broker.run(&["status"]).ok()["seq"], operator);
    assert_eq!(
        held.broker.run(&["cert", "issue", "--grant", &held.grant, "--out", elsewhere.to_str().unwrap()]).err(3)["detail"]
            ["reason"],
        "agents_only"
    );
}

#[test]
fn a_retry_with_the_same_key_is_the_same_certificate() {
    let held = Held::new();
    let out = held.broker.home.join("again");
    let issue = |out: &Path| {
        let issue = ["cert", "issue", "--grant", &held.grant, "--idempotency-key", "k"];
        held.broker.run_as(&held.planner, &[&issue[..], &["--out", out.to_str().unwrap()]].concat())
    };
    let first = issue(&out).ok();
    let before = Identity::load(&out).unwrap().certificate().to_vec();
    // The answer is lost, the key is not.
    std::fs::remove_file(out.join("cert.pem")).unwrap();
    assert_eq!(issue(&out).ok(), first);
    assert_eq!(Identity::load(&out).unwrap().certificate(), before);
    let other = issue(&held.broker.home.join("elsewhere")).err(1);
    assert_eq!(other["detail"]["reason"], "idempotency_conflict", "another key is another request: {other}");
    // Once it is over, the key of the past gives nothing back.
    held.broker.run(&["revoke", first["id"].as_str().unwrap(), "--reason", "testing"]).ok();
    std::fs::remove_file(out.join("cert.pem")).unwrap();
    assert_eq!(issue(&out).err(3)["detail"]["reason"], "certificate_over");
}

#[tokio::test]
async fn a_certificate_of_the_longest_chain_is_issued_kept_and_presented() {
    let broker = Broker::start();
    let name = "n".repeat(63);
    let owner = "\u{10348}".repeat(256);
    let [purpose, agent] = ["testing".to_owned(), name.clone()];
    let registration = v1::RegisterAgentRequest { name: agent, owner: owner.clone(), purpose, ..Default::default() };
    let mut agents = v1::agents_client::AgentsClient::new(broker.channel().await);
    let invited = agents.register(registration).await.unwrap().into_inner();
    let directory = broker.home.join("heavy");
    let out = directory.to_str().unwrap();
    broker.run(&["agent", "enroll", "--join-token", &invited.join_token, "--out", out]).ok();
    let heavy = Acting::with(&broker, &directory).await;
    let (mut grant, ..) = heavy.granted().await;
    for _ in 1..16 {
        let scopes = vec!["db:read@**".to_owned()];
        let request = v1::DelegateRequest { parent: grant, to: name.clone(), scopes, ..Default::default() };
        grant = heavy.delegate(request).await.unwrap().into_inner().grant.unwrap().id;
    }
    let certificate = broker.home.join("certificate");
    heavy.certified(&grant, &certificate).await;
    assert!(Identity::load(&certificate).unwrap().certificate().len() > 16 * 1024);
    let holder = Acting::with(&broker, &certificate).await;
    assert_eq!(holder.decided("").await, "in_scope");
}

#[tokio::test]
async fn a_certificate_is_issued_only_to_the_holder_of_the_grant_and_for_its_own_name() {
    let broker = Broker::start();
    let ana = Acting::with(&broker, &broker.enroll_agent("ana").await).await;
    let bob = Acting::with(&broker, &broker.enroll_agent("bob").await).await;
    let (grant, ..) = ana.granted().await;
    let csr = |uri: Option<&str>| belay::client::identity::request(uri).unwrap().1;
    for unknown in [&grant[..], "grt_01m826b20gfdtagbpvxzh7napv"] {
        let refusal = refused("bob", bob.certify(unknown, csr(None), "").await, Code::NotFound, "not_found", 5);
        assert_eq!(refusal.field.as_deref(), Some("grant"));
    }
    let other = csr(Some("spiffe://belay.dev/agent/bob"));
    refused("bob's name", ana.certify(&grant, other, "").await, Code::InvalidArgument, "csr_asks", 2);
    refused("no request", ana.certify(&grant, vec![], "").await, Code::InvalidArgument, "csr_malformed", 2);
    refused("no grant", ana.certify("", csr(None), "").await, Code::InvalidArgument, "missing", 2);
    let own = csr(Some("spiffe://belay.dev/agent/ana"));
    assert_eq!(ana.certify(&grant, own, "").await.unwrap().into_inner().spiffe_id, "spiffe://belay.dev/agent/ana");
    broker.run(&["revoke", &grant, "--reason", "testing"]).ok();
    refused("below a cut", ana.certify(&grant, csr(None), "").await, Code::PermissionDenied, "grant_revoked", 3);
}
