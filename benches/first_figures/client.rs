//! The process that loads: both servers in turn, over connections that stay, as it is told on stdin.

use std::collections::HashSet;
use std::io::BufRead as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::transport::Channel;

use super::load::{Caller, request, run as load};
use super::{CONNECTIONS, IN_FLIGHT, Load, Window, tokens};
use belay::client::{Identity, client_config, connect};
use belay::format::bundle;
use belay::verifier::Keys;
use belay::wire::v1;

/// Whom to load, as whom, and what good tokens say.
#[derive(Debug, Serialize, Deserialize)]
pub struct Setup {
    pub broker: String,
    pub http: String,
    pub identity: PathBuf,
    pub floor: String,
    pub floor_identity: PathBuf,
    pub issuer: String,
    pub epoch: String,
}

/// Answers each line `LOAD MILLIS` with a window, until stdin ends.
pub fn run(setup: &Setup) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let identity = Identity::load(&setup.identity).unwrap();
    let callers = runtime.block_on(callers(setup, &identity));
    let jwks = runtime.block_on(get(&setup.http, "/.well-known/jwks.json", &identity));
    let verifier = Keys {
        issuer: setup.issuer.parse().unwrap(),
        epoch: setup.epoch.clone(),
        keys: bundle::keys_of(&jwks).unwrap(),
    };
    let mut seen = HashSet::new();
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let (what, millis): (Load, u64) = serde_json::from_str(&line.unwrap()).unwrap();
        let mut loaded = runtime.block_on(load(what, Duration::from_millis(millis), callers.clone()));
        loaded.micros.sort_unstable();
        let at = |part: f64| loaded.micros[((loaded.micros.len() - 1) as f64 * part) as usize];
        let window = Window {
            load: what,
            calls: loaded.micros.len(),
            seconds: loaded.seconds,
            p50_us: at(0.50),
            p99_us: at(0.99),
            verified: tokens::check(&verifier, identity.certificate(), &loaded.answered, &mut seen),
            unrecorded: loaded.unrecorded,
            cpu_us: 0.0,
        };
        println!("{}", serde_json::to_string(&window).unwrap());
    }
}

async fn callers(setup: &Setup, identity: &Identity) -> Vec<Caller> {
    let floor_identity = Identity::load(&setup.floor_identity).unwrap();
    let mut callers = Vec::new();
    let mut task = None;
    for _ in 0..CONNECTIONS {
        let broker = connect(&setup.broker, client_config(identity).unwrap()).await.unwrap();
        let floor = connect(&setup.floor, client_config(&floor_identity).unwrap()).await.unwrap();
        if task.is_none() {
            task = Some(start(&broker).await);
        }
        for _ in 0..IN_FLIGHT {
            let task = task.clone().unwrap();
            let first = request(&broker, &task).await;
            let (broker, floor) = (broker.clone(), floor.clone());
            callers.push(Caller { broker, floor, task, grant: first.grant, token: first.token });
        }
    }
    callers
}

async fn start(broker: &Channel) -> String {
    let asked = v1::StartTaskRequest { purpose: "measuring".into(), ..v1::StartTaskRequest::default() };
    v1::tasks_client::TasksClient::new(broker.clone()).start(asked).await.unwrap().into_inner().task.unwrap().id
}

/// The body of a page of the broker's HTTPS listener, under the CA of `identity`.
async fn get(at: &str, path: &str, identity: &Identity) -> String {
    let mut config = (*client_config(identity).unwrap()).clone();
    config.alpn_protocols.clear();
    let address = at.trim_start_matches("https://");
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = std::net::IpAddr::from([127, 0, 0, 1]).into();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.split_whitespace().nth(1) == Some("200"), "{head}");
    body.to_owned()
}
