//! A real nginx with `auth_request`, in a directory of its own, behind a socket there.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::CertificateDer;
use tokio::net::UnixStream;

use super::front::Front;
use super::http::{self, Reply};
use super::{there, within};

/// What a test says that it needs.
pub const NEEDED: &str = "nginx, as Debian's package brings it";

/// An nginx process. It is killed by its process id when this is dropped.
pub struct Nginx {
    process: Child,
    directory: tempfile::TempDir,
    /// Whom its clients believe.
    pub own: CertificateDer<'static>,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where nginx is, if it is anywhere.
pub fn nginx() -> Option<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/ci/nginx/usr/sbin/nginx");
    let places = [PathBuf::from("nginx"), PathBuf::from("/usr/sbin/nginx"), ours];
    places.into_iter().find(|program| there(program.to_str().unwrap(), &["-v"]))
}

impl Nginx {
    /// One before the service at this port, which asks the broker by `deploy/nginx/belay.conf`.
    pub async fn start(program: &Path, front: &Front, service: u16) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(at("server.pem"), own.pem()).unwrap();
        std::fs::write(at("server.key"), key.serialize_pem()).unwrap();
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/nginx/belay.conf");
        let sample = std::fs::read_to_string(sample).unwrap();
        let broker = front.broker.http.trim_start_matches("https://").replace("127.0.0.1", "localhost");
        let server = sample
            .replace("listen 443 ssl;", &format!("listen unix:{} ssl;", at("front")))
            .replace("belay.example.com:7441", &broker)
            .replace("belay.example.com", "localhost")
            .replace("/etc/nginx/tls/server.pem", &at("server.pem"))
            .replace("/etc/nginx/tls/server.key", &at("server.key"))
            .replace("/etc/nginx/belay", &front.pep.display().to_string())
            .replace("127.0.0.1:8080", &format!("127.0.0.1:{service}"));
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {};\n", at(name)))
            .concat();
        let whole = format!(
            "daemon off; master_process off; pid {}; error_log {} warn;\nevents {{}}\nhttp {{\naccess_log off;\n\
             {temporary}{server}}}\n",
            at("pid"),
            at("error.log")
        );
        std::fs::write(at("nginx.conf"), whole).unwrap();
        let log = std::fs::File::create(at("stderr.log")).unwrap();
        let process = Command::new(program)
            .args(["-c", &at("nginx.conf"), "-p", &at(""), "-e", &at("error.log")])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let nginx = Self { process, own: own.der().clone(), directory };
        within("nginx", async || match UnixStream::connect(nginx.directory.path().join("front")).await {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{error}: {}", nginx.log())),
        })
        .await;
        nginx
    }

    fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
        read("stderr.log") + &read("error.log")
    }

    /// What it answers to these bytes of a client with this identity.
    pub async fn send(&self, identity: Option<&Path>, bytes: &str) -> Reply {
        let config = http::client(std::slice::from_ref(&self.own), identity);
        let socket = UnixStream::connect(self.directory.path().join("front")).await.unwrap();
        let mut stream = http::over(socket, config).await.unwrap();
        http::send(&mut stream, bytes).await.unwrap_or_else(|error| panic!("{error}: {}", self.log()))
    }
}
