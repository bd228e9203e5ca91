//! Chains of delegation that hold one of everything: a token, a certificate, a lease with an open session. They are
//! checked by a real enforcement point, by a verifier that is offline, and in a real PostgreSQL.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use belay::client::Identity;
use belay::client::feed::{Feed, Offline};
use belay::domain::name::Audience;
use belay::domain::scope::Call;
use belay::verifier::Answer;
use belay::wire::v1;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};
use tonic::transport::Channel;

use super::calls::{Acting, Answer as Called};
use super::postgres::{Postgres, READER};
use super::process::Broker;

/// Whom all of it is for.
pub const ORDERS: &str = "https://orders.example";
/// What is to come has come by then, on a busy machine too.
pub const LONG: Duration = Duration::from_secs(30);

/// A broker with a backend `orders`, an enforcement point, and a verifier that follows the feed.
pub struct Estate {
    pub postgres: Postgres,
    pub broker: Broker,
    pub boss: Acting,
    pub gateway: Channel,
    pub offline: Offline,
    follow: JoinHandle<()>,
}

/// An agent, and the certificate of its identity.
#[derive(Clone)]
pub struct Agent {
    pub name: &'static str,
    pub acting: Acting,
    own: Vec<u8>,
}

/// A grant, and one of everything under it.
pub struct Held {
    pub agent: Agent,
    pub grant: String,
    pub token: (String, String),
    pub certificate: String,
    /// Where the certificate is kept, and its bytes.
    directory: PathBuf,
    under: Vec<u8>,
    /// A connection that shows the certificate, and stays open.
    pub holder: Acting,
    pub lease: String,
    pub username: String,
    pub session: Session,
}

/// An open session in the database.
pub struct Session {
    pub client: Arc<Client>,
    /// The process of the server that serves it.
    pub pid: i32,
    /// Ends when the server ends it, with when that was.
    pub over: JoinHandle<Instant>,
}

impl Estate {
    /// None where PostgreSQL is not installed, which is said.
    pub async fn open(test: &str) -> Option<Self> {
        let postgres = Postgres::start(test)?;
        let broker = Broker::start();
        let boss = Acting(broker.channel().await);
        let backend = v1::AddBackendRequest {
            name: "orders".to_owned(),
            kind: "postgres".to_owned(),
            url: postgres.broker_url(),
            roles: vec![READER.to_owned()],
            replace: false,
        };
        v1::backends_client::BackendsClient::new(boss.0.clone()).add(backend).await.unwrap();
        let identity = broker.pep("gateway", &[ORDERS]).await;
        let gateway = broker.channel_as(&identity).await.unwrap();
        let (offline, follow) =
            Feed { addr: broker.addr.clone(), identity, staleness: Duration::from_secs(5) }.follow();
        let follow = tokio::spawn(follow);
        tokio::time::timeout(LONG, offline.ready()).await.unwrap();
        Some(Self { postgres, broker, boss, gateway, offline, follow })
    }

    pub async fn agent(&self, name: &'static str) -> Agent {
        let directory = self.broker.enroll_agent(name).await;
        let own = Identity::load(&directory).unwrap().certificate().to_vec();
        Agent { name, acting: Acting::with(&self.broker, &directory).await, own }
    }

    /// A root grant of a task of its own, with one of everything.
    pub async fn root(&self, agent: &Agent) -> Held {
        let task = agent.acting.task().await;
        let audience = ORDERS.to_owned();
        let request = v1::RequestGrantRequest { task, scopes: scopes(), audience, ..Default::default() };
        let granted = agent.acting.request(request).await.unwrap().into_inner();
        self.held(agent, granted.grant.unwrap().id).await
    }

    /// A delegation of all of `parent`, with one of everything.
    pub async fn child(&self, parent: &Held, to: &Agent) -> Held {
        let delegated = parent.delegate(to, "").await.unwrap().into_inner();
        self.held(to, delegated.grant.unwrap().id).await
    }

    async fn held(&self, agent: &Agent, grant: String) -> Held {
        let token = issue(agent, &grant, "token").await.unwrap().into_inner();
        let directory = self.broker.home.join(&grant);
        let certificate = agent.acting.certified(&grant, &directory).await;
        let under = Identity::load(&directory).unwrap().certificate().to_vec();
        let holder = Acting::with(&self.broker, &directory).await;
        let leased = lease(agent, &grant, "lease").await.unwrap().into_inner();
        let (lease, secret) = (leased.lease.unwrap().id, leased.secret.unwrap());
        let session = Session::open(&secret.url).await;
        let (agent, token, username) = (agent.clone(), (token.id, token.token), secret.username);
        Held { agent, grant, token, certificate, directory, under, holder, lease, username, session }
    }

    /// What the verifier that is offline says of a token: `valid`, or why not.
    pub fn offline(&self, held: &Held) -> &'static str {
        let audience: Audience = ORDERS.parse().unwrap();
        match self.offline.check(&held.token.1, &audience, Some(&held.agent.own)) {
            Answer::Valid(claims) => {
                let call = Call::parse("db", "read", "orders").unwrap();
                self.offline.allows(&claims, &call).map_or_else(|error| error.reason, |()| "valid")
            }
            Answer::Invalid(error) => error.reason,
            Answer::Unavailable(error) => panic!("it has no answer: {error}"),
        }
    }

    /// What the enforcement point is told when the agent comes with its token: `active`, or why not.
    pub async fn introspected(&self, held: &Held) -> String {
        let request = v1::VerifyTokenRequest {
            token: held.token.1.clone(),
            presenter: held.agent.own.clone(),
            ..Default::default()
        };
        let mut tokens = v1::tokens_client::TokensClient::new(self.gateway.clone());
        let told = tokens.verify(request).await.unwrap().into_inner();
        if told.active { "active".to_owned() } else { told.reason }
    }

    /// What is decided when the enforcement point asks: of the token that the agent shows, and of the certificate.
    pub async fn decided(&self, held: &Held) -> [String; 2] {
        let token = self.asked(&held.token.1, &held.agent.own).await;
        [token, self.asked("", &held.under).await]
    }

    async fn asked(&self, token: &str, presenter: &[u8]) -> String {
        let [token, tool, action, resource] = [token, "db", "read", "orders"].map(str::to_owned);
        let request =
            v1::AuthorizeRequest { token, tool, action, resource, presenter: presenter.to_vec(), ..Default::default() };
        let mut decisions = v1::decisions_client::DecisionsClient::new(self.gateway.clone());
        let decided = decisions.authorize(request).await.unwrap().into_inner();
        assert_eq!(decided.decision == "allow", decided.reasons[0].code == "in_scope", "{decided:?}");
        decided.reasons[0].code.clone()
    }

    /// Whether a new connection that shows the certificate comes about, and if not, why.
    pub async fn handshake(&self, held: &Held) -> Result<(), String> {
        self.broker.channel_as(&held.directory).await.map(drop).map_err(|refusal| refusal.reason)
    }
}

impl Drop for Estate {
    fn drop(&mut self) {
        self.follow.abort();
    }
}

impl Held {
    pub async fn delegate(&self, to: &Agent, once: &str) -> Called<v1::GrantResponse> {
        let request = v1::DelegateRequest {
            parent: self.grant.clone(),
            to: to.name.to_owned(),
            scopes: scopes(),
            audience: ORDERS.to_owned(),
            idempotency_key: if once.is_empty() { String::new() } else { key(once, &self.grant) },
            ..Default::default()
        };
        self.agent.acting.delegate(request).await
    }

    /// Its token once more, by its own key if that is `token`; a new one by another.
    pub async fn issue(&self, once: &str) -> Called<v1::Token> {
        issue(&self.agent, &self.grant, once).await
    }

    pub async fn lease(&self, once: &str) -> Called<v1::IssueLeaseResponse> {
        lease(&self.agent, &self.grant, once).await
    }

    pub async fn renew(&self) -> Called<v1::GrantResponse> {
        let request = v1::RenewGrantRequest { id: self.grant.clone(), ttl_ms: 0 };
        v1::grants_client::GrantsClient::new(self.agent.acting.0.clone()).renew(request).await
    }
}

impl Session {
    pub async fn open(url: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        let over = tokio::spawn(async move {
            let _ = connection.await;
            Instant::now()
        });
        let pid = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        Self { client: Arc::new(client), pid, over }
    }

    /// Whether the process that served it from the beginning still does.
    pub async fn answers(&self) -> bool {
        let asked = self.client.query_one("SELECT pg_backend_pid(), count(*) FROM orders", &[]).await;
        asked.is_ok_and(|row| (row.get::<_, i32>(0), row.get::<_, i64>(1)) == (self.pid, 2))
    }

    pub fn is_over(&self) -> bool {
        self.over.is_finished()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.over.abort();
    }
}

/// Until it is so, asked again and again; when it was, since `since`.
pub async fn until(what: &str, since: Instant, mut is_so: impl AsyncFnMut() -> bool) -> Duration {
    while !is_so().await {
        assert!(since.elapsed() < LONG, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    since.elapsed()
}

/// A session of who administers the server.
pub async fn administrator(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// What is left of roles and sessions by these names.
pub async fn left(admin: &Client, query: &str, of: &[&Held]) -> i64 {
    let names: Vec<&str> = of.iter().map(|held| held.username.as_str()).collect();
    admin.query_one(query, &[&names]).await.unwrap().get(0)
}

pub const ROLES: &str = "SELECT count(*) FROM pg_roles WHERE rolname = ANY($1)";
pub const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE usename = ANY($1)";

async fn issue(agent: &Agent, grant: &str, once: &str) -> Called<v1::Token> {
    let request =
        v1::IssueTokenRequest { grant: grant.to_owned(), idempotency_key: key(once, grant), ..Default::default() };
    v1::tokens_client::TokensClient::new(agent.acting.0.clone()).issue(request).await
}

async fn lease(agent: &Agent, grant: &str, once: &str) -> Called<v1::IssueLeaseResponse> {
    let request = v1::IssueLeaseRequest {
        grant: grant.to_owned(),
        backend: "orders".to_owned(),
        role: READER.to_owned(),
        idempotency_key: key(once, grant),
        ..Default::default()
    };
    v1::leases_client::LeasesClient::new(agent.acting.0.clone()).issue(request).await
}

/// One agent asks the same under several grants: a key is good for one.
fn key(once: &str, grant: &str) -> String {
    format!("{once}-{grant}")
}

fn scopes() -> Vec<String> {
    vec!["db:read@**".to_owned(), format!("orders:lease@{READER}")]
}
