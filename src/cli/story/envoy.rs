//! A throw-away Envoy for the story, configured as `deploy/envoy/belay.yaml` says, if the program is here.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use rustls::ClientConfig;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::client::{Identity, client_config};

const SAMPLE: &str = include_str!("../../../deploy/envoy/belay.yaml");
const READY: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(20);

/// A running Envoy in a directory of its own. Dropping it ends both.
pub struct Envoy {
    // Dropped in this order, after `drop` has ended the process: it writes to the directory.
    process: Child,
    home: TempDir,
    port: u16,
    client: Arc<ClientConfig>,
}

/// What came back.
pub struct Reply {
    /// Of HTTP.
    pub status: u16,
    /// What is answered.
    pub body: String,
}

/// Whether it is installed, and runs.
pub async fn is_here() -> bool {
    let mut asked = Command::new("envoy");
    asked.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    matches!(timeout(READY, asked.status()).await, Ok(Ok(status)) if status.success())
}

impl Envoy {
    /// Starts one before the service at a port of this machine. It asks the broker, at another, with the identity `own`;
    /// `client` is who will call. Waits until it has asked the broker something, and was answered.
    pub async fn start(own: &Path, client: &Path, broker: u16, service: u16) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("belay-envoy-").tempdir().context("cannot make a directory")?;
        let at = |name: &str| home.path().join(name);
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        std::fs::write(at("server.pem"), params.self_signed(&key)?.pem())?;
        std::fs::write(at("server.key"), key.serialize_pem())?;
        let config = configuration(home.path(), own, broker, service)?;
        std::fs::write(at("envoy.yaml"), config)?;
        let mut process = Command::new("envoy");
        process.arg("-c").arg(at("envoy.yaml")).arg("--admin-address-path").arg(at("admin"));
        process.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]).kill_on_drop(true);
        process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(at("envoy.log"))?);
        let client = caller(client, home.path())?;
        let process = process.spawn().context("cannot start envoy")?;
        let mut envoy = Self { process, home, port: 0, client };
        let ready = timeout(READY, envoy.answers()).await;
        let log = || std::fs::read_to_string(envoy.home.path().join("envoy.log")).unwrap_or_default();
        ready
            .unwrap_or_else(|_| bail!("it did not answer within {READY:?}"))
            .with_context(|| format!("envoy: {}", log()))?;
        Ok(envoy)
    }

    async fn answers(&mut self) -> Result<()> {
        while !self.listens().await.unwrap_or(false) || !self.asks().await.unwrap_or(false) {
            if let Some(status) = self.process.try_wait()? {
                bail!("it ended with {status}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Finds out where its listener is.
    async fn listens(&mut self) -> Result<bool> {
        let admin = std::fs::read_to_string(self.home.path().join("admin"))?;
        let told = exchange(TcpStream::connect(admin.trim()).await?, &request("GET /listeners", "envoy", None)).await?;
        let port =
            told.body.split_once("front::127.0.0.1:").and_then(|(_, rest)| rest.lines().next()?.trim().parse().ok());
        self.port = port.unwrap_or_default();
        Ok(self.port != 0)
    }

    /// A denial of its own has no code: it has not reached the broker yet.
    async fn asks(&self) -> Result<bool> {
        Ok(self.send("GET /", "belay", None).await?.code() == "no_credential")
    }

    /// Sends a request for this host as the agent does, and its token if it is given one.
    pub async fn send(&self, line: &str, host: &str, token: Option<&str>) -> Result<Reply> {
        let socket = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let stream = TlsConnector::from(Arc::clone(&self.client)).connect("localhost".try_into()?, socket);
        exchange(stream.await?, &request(line, host, token)).await
    }
}

impl Drop for Envoy {
    /// Ends it and waits for it, so that nothing writes to the directory while it is removed.
    fn drop(&mut self) {
        let _ = self.process.start_kill();
        for _ in 0..500 {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Reply {
    /// Why the broker refused it; empty if it is no refusal of the broker's.
    pub fn code(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// The file of `deploy` with other places in it, and the patience that a story needs on a busy machine.
fn configuration(home: &Path, own: &Path, broker: u16, service: u16) -> Result<String> {
    let quoted = |path: &Path, name: &str| json!(path.join(name)).to_string();
    let changes = [
        ("/etc/envoy/tls/server.pem", quoted(home, "server.pem")),
        ("/etc/envoy/tls/server.key", quoted(home, "server.key")),
        ("/etc/envoy/belay/ca.pem", quoted(own, "ca.pem")),
        ("/etc/envoy/belay/cert.pem", quoted(own, "cert.pem")),
        ("/etc/envoy/belay/key.pem", quoted(own, "key.pem")),
        ("address: 0.0.0.0, port_value: 8443", "address: 127.0.0.1, port_value: 0".to_owned()),
        ("address: 127.0.0.1, port_value: 8080", format!("address: 127.0.0.1, port_value: {service}")),
        ("address: belay.example.com, port_value: 7440", format!("address: 127.0.0.1, port_value: {broker}")),
        ("belay.example.com", "localhost".to_owned()),
        (" timeout: 0.5s", " timeout: 10s".to_owned()),
        (" timeout: 2s", " timeout: 10s".to_owned()),
        ("connect_timeout: 1s", "connect_timeout: 10s".to_owned()),
    ];
    let admin = "admin: { address: { socket_address: { address: 127.0.0.1, port_value: 0 } } }\n";
    let mut text = format!("{admin}{SAMPLE}");
    for (theirs, ours) in changes {
        ensure!(text.contains(theirs), "deploy/envoy/belay.yaml has no `{theirs}`");
        text = text.replace(theirs, &ours);
    }
    Ok(text)
}

/// The TLS of who has this identity, and believes the server whose certificate is in `home`.
fn caller(identity: &Path, home: &Path) -> Result<Arc<ClientConfig>> {
    let at = home.join("caller");
    std::fs::create_dir(&at)?;
    // A copy keeps the mode of the key.
    for name in ["cert.pem", "key.pem"] {
        std::fs::copy(identity.join(name), at.join(name))?;
    }
    std::fs::copy(home.join("server.pem"), at.join("ca.pem"))?;
    let identity = Identity::load(&at).map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut config = client_config(&identity).map_err(|error| anyhow::anyhow!("{error}"))?;
    Arc::make_mut(&mut config).alpn_protocols.clear();
    Ok(config)
}

fn request(line: &str, host: &str, token: Option<&str>) -> String {
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!("{line} HTTP/1.1\r\nhost: {host}\r\n{token}connection: close\r\n\r\n")
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, request: &str) -> Result<Reply> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // Some close without a goodbye.
    let _ = timeout(ANSWER, stream.read_to_end(&mut answer)).await.context("there is no answer")?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is cut off")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("the answer has no status")?;
    Ok(Reply { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_configuration_stays_where_it_was() {
        let text = configuration(Path::new("/h"), Path::new("/o"), 1, 2).unwrap();
        let lines = || text.lines().filter(|line| !line.trim_start().starts_with('#'));
        assert!(lines().all(|line| !line.contains("/etc/") && !line.contains("example.com")), "{text}");
        for place in ["\"/o/ca.pem\"", "\"/h/server.key\"", "port_value: 1 ", "port_value: 2 "] {
            assert!(text.contains(place), "{place}: {text}");
        }
    }
}
