//! A mission on the real binary: agents who hand on to one another, the enforcement point in front of their tools, and
//! the people who watch.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use belay::client::Identity;
use belay::wire::v1;
use belay::wire::v1::decisions_client::DecisionsClient;
use serde_json::Value;
use tonic::transport::Channel;

use super::calls::{Acting, Answer};
use super::process::Broker;

/// For whom the tokens of a mission are.
pub const AUDIENCE: &str = "https://tools.example";

/// A broker and an enforcement point.
pub struct Mission {
    pub broker: Broker,
    pub gateway: Channel,
}

/// An agent.
pub struct Member {
    pub name: &'static str,
    pub identity: PathBuf,
    pub acting: Acting,
    /// Its certificate (DER), as the enforcement point sees it.
    pub shown: Vec<u8>,
}

/// A grant of a member's, and a token under it.
#[derive(Clone, Debug)]
pub struct Held {
    pub grant: String,
    pub task: String,
    pub token: String,
}

/// A call that is asked about: its parts, and what goes with it.
#[derive(Clone, Copy, Default)]
pub struct Ask<'a> {
    pub call: &'a str,
    pub args: &'a str,
    pub destination: &'a str,
    pub key: &'a str,
    pub ticket: bool,
    pub redeem: &'a str,
}

impl Mission {
    pub async fn open() -> Self {
        let broker = Broker::start();
        let gateway = broker.pep("gateway", &[AUDIENCE]).await;
        let gateway = broker.channel_as(&gateway).await.unwrap();
        Self { broker, gateway }
    }

    /// The same over this catalog, and with these policies beside those of a development broker.
    pub async fn over(catalog: &str, policy: &str) -> Self {
        let mission = Self::open().await;
        mission.apply(catalog, policy);
        mission
    }

    pub fn apply(&self, catalog: &str, policy: &str) {
        apply(&self.broker, catalog, policy);
    }

    pub async fn member(&self, name: &'static str) -> Member {
        let identity = self.broker.enroll_agent(name).await;
        let acting = Acting::with(&self.broker, &identity).await;
        let shown = Identity::load(&identity).unwrap().certificate().to_vec();
        Member { name, identity, acting, shown }
    }

    /// What the enforcement point is answered about a call that comes with this token and this certificate.
    pub async fn asks(&self, shown: &[u8], token: &str, ask: Ask<'_>) -> v1::AuthorizeResponse {
        let decided = self.try_asks(shown, token, ask).await.unwrap().into_inner();
        assert_eq!(decided.decision == "allow", code(&decided) == "in_scope", "{decided:?}");
        decided
    }

    pub async fn try_asks(&self, shown: &[u8], token: &str, ask: Ask<'_>) -> Answer<v1::AuthorizeResponse> {
        DecisionsClient::new(self.gateway.clone()).authorize(request(shown, token, ask)).await
    }

    /// The code of a call: `in_scope` if it is allowed.
    pub async fn said(&self, member: &Member, held: &Held, call: &str, args: &str) -> String {
        let decided = self.asks(&member.shown, &held.token, Ask { call, args, ..Ask::default() }).await;
        code(&decided).to_owned()
    }

    /// What the enforcement point reports of a call: whether what it took was given back.
    pub async fn report(&self, invocation: &str, outcome: &str, detail: &str) -> Answer<v1::ReportResponse> {
        report(&self.gateway, invocation, outcome, detail).await
    }

    /// Events of this kind, as the audit lists them.
    pub fn audit(&self, kind: &str) -> Vec<Value> {
        let listed = self.broker.run(&["audit", "list", "--kind", kind]).ok();
        listed["events"].as_array().unwrap().clone()
    }

    /// The same, once there is one that `holds`: what was decided from memory is written within 50 ms.
    pub fn audited(&self, kind: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let since = Instant::now();
        loop {
            let events = self.audit(kind);
            if let Some(event) = events.iter().find(|event| holds(event)) {
                return event.clone();
            }
            assert!(since.elapsed() < Duration::from_secs(20), "{events:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Member {
    /// A root grant under a task of its own, with a token.
    pub async fn root(&self, scopes: &[&str], limits: &[&str]) -> Held {
        let task = self.acting.task().await;
        let request = v1::RequestGrantRequest {
            task: task.clone(),
            scopes: owned(scopes),
            limits: owned(limits),
            audience: AUDIENCE.to_owned(),
            token: true,
            ..Default::default()
        };
        let granted = self.acting.request(request).await.unwrap().into_inner();
        Held { grant: granted.grant.unwrap().id, task, token: granted.token.unwrap().token }
    }

    /// Hands part of it on; who receives it has a token under it.
    pub async fn hands_on(&self, held: &Held, to: &Self, scopes: &[&str]) -> Held {
        let delegate = v1::DelegateRequest {
            parent: held.grant.clone(),
            to: to.name.to_owned(),
            scopes: owned(scopes),
            ..Default::default()
        };
        let grant = self.acting.delegate(delegate).await.unwrap().into_inner().grant.unwrap().id;
        let token = to.acting.issue(&grant).await.unwrap().into_inner().token;
        Held { grant, task: held.task.clone(), token }
    }
}

/// Puts a catalog in force, and this policy beside those of a development broker.
pub fn apply(broker: &Broker, catalog: &str, policy: &str) {
    let (file, policies) = (broker.home.join("catalog.toml"), broker.home.join("policies"));
    std::fs::write(&file, catalog).unwrap();
    broker.run(&["catalog", "apply", file.to_str().unwrap()]).ok();
    if policy.is_empty() {
        return;
    }
    std::fs::create_dir_all(&policies).unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/policies");
    for (name, text) in [("agents", "dev/agents.cedar"), ("operators", "operators.cedar")] {
        std::fs::copy(shipped.join(text), policies.join(format!("{name}.cedar"))).unwrap();
    }
    std::fs::write(policies.join("more.cedar"), policy).unwrap();
    broker.run(&["policy", "apply", policies.to_str().unwrap()]).ok();
}

/// A question about a call.
pub fn request(shown: &[u8], token: &str, ask: Ask<'_>) -> v1::AuthorizeRequest {
    let (tool, rest) = ask.call.split_once(':').unwrap();
    let (action, resource) = rest.split_once('@').unwrap();
    let [token, tool, action, resource] = [token, tool, action, resource].map(str::to_owned);
    let [args, destination, idempotency_key, redeem] =
        [ask.args, ask.destination, ask.key, ask.redeem].map(str::to_owned);
    let (presenter, ticket) = (shown.to_vec(), ask.ticket);
    v1::AuthorizeRequest {
        token,
        tool,
        action,
        resource,
        args,
        destination,
        idempotency_key,
        presenter,
        ticket,
        redeem,
        ..Default::default()
    }
}

/// What somebody reports of a call.
pub async fn report(channel: &Channel, invocation: &str, outcome: &str, detail: &str) -> Answer<v1::ReportResponse> {
    let [invocation, outcome, detail] = [invocation, outcome, detail].map(str::to_owned);
    DecisionsClient::new(channel.clone()).report(v1::ReportRequest { invocation, outcome, detail }).await
}

/// The code of the reason.
pub fn code(decided: &v1::AuthorizeResponse) -> &str {
    &decided.reasons[0].code
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}
