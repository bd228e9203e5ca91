//! Somebody else's proxy before a service of somebody's own: a broker that decides, an agent that calls, and what goes on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use belay::wire::v1;
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;

use super::calls::Acting;
use super::http::{self, Reply};
use super::process::Broker;

/// For whom the tokens are that the proxy sees.
pub const AUDIENCE: &str = "https://orders.example";

/// Two tools, and the routes to them.
pub const CATALOG: &str = r#"
[[tool]]
name = "orders"
owner = "team"
action = [
    { name = "read", risk = "read" }, { name = "refund", risk = "write" }, { name = "close", risk = "write" },
]
[[tool]]
name = "files"
owner = "team"
action = [{ name = "read", risk = "read" }, { name = "write", risk = "write" }, { name = "mcp.*", risk = "read" }]

[[route]]
host = "orders.example"
method = "GET"
path = "/orders/{id}"
call = "orders:read@orders/{id}"
[[route]]
host = "orders.example"
method = "POST"
path = "/orders/{id}/refund"
call = "orders:refund@orders/{id}"
body = "json"
[[route]]
host = "orders.example"
method = "POST"
path = "/orders/{id}/close"
call = "orders:close@orders/{id}"
[[route]]
host = "mcp.example"
method = "POST"
path = "/mcp"
mcp = "files"
"#;

/// What allows reading and small refunds, and `read` of the MCP server.
pub const USUAL: [&str; 3] =
    ["orders:read@orders/*", r#"orders:refund@orders/*{"args":{"amount":{"max":100}}}"#, "files:read@mcp"];

/// The broker, the proxy's identity, and an agent with a grant.
pub struct Front {
    pub broker: Broker,
    /// The enforcement point's identity, `front`.
    pub pep: PathBuf,
    /// The agent's, `ana`.
    pub agent: PathBuf,
    pub grant: String,
    pub token: String,
}

impl Front {
    /// Under a grant of these scopes.
    pub async fn new(scopes: &[&str]) -> Self {
        Self::over(Broker::start(), scopes).await
    }

    /// The same over a broker that runs.
    pub async fn over(broker: Broker, scopes: &[&str]) -> Self {
        let catalog = broker.home.join("catalog.toml");
        std::fs::write(&catalog, CATALOG).unwrap();
        broker.run(&["catalog", "apply", catalog.to_str().unwrap()]).ok();
        let pep = broker.pep("front", &[AUDIENCE]).await;
        let agent = broker.enroll_agent("ana").await;
        let ana = Acting::with(&broker, &agent).await;
        let task = ana.task().await;
        let scopes = scopes.iter().map(ToString::to_string).collect();
        let audience = AUDIENCE.to_owned();
        let request = v1::RequestGrantRequest { task, scopes, audience, token: true, ..Default::default() };
        let granted = ana.request(request).await.unwrap().into_inner();
        let (grant, token) = (granted.grant.unwrap().id, granted.token.unwrap().token);
        Self { broker, pep, agent, grant, token }
    }

    /// A grant that allows reading and small refunds, and the MCP server's `read`.
    pub async fn usual() -> Self {
        Self::new(&USUAL).await
    }

    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// The agent's TLS, which shows its certificate to whoever has this authority.
    pub fn client(&self, authority: &CertificateDer<'static>) -> Arc<ClientConfig> {
        http::client(std::slice::from_ref(authority), Some(&self.agent))
    }

    /// Asks the broker's HTTPS port as the proxy does, or as whoever's identity this is.
    pub async fn page(&self, identity: Option<&Path>, bytes: &str) -> Reply {
        let port = self.broker.http.rsplit(':').next().unwrap().parse().unwrap();
        let config = http::client(&[self.broker.authority().into()], identity);
        http::exchange(port, config, bytes).await.unwrap()
    }

    /// The agent's certificate as proxies pass it on.
    pub fn certificate(&self) -> String {
        let pem = std::fs::read_to_string(self.agent.join("cert.pem")).unwrap();
        pem.replace('\n', "%0A").replace(' ', "%20").replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
    }
}
