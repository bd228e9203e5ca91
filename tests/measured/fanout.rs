//! A cut goes to a thousand as fast as a bare broadcast does, and those who never read hold up nobody.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use belay::attest::subject::Issuers;
use belay::broker::{Asked, Broker, Foundation, OwnIdentity};
use belay::client::{Identity, client_config, connect};
use belay::domain::agent::Kind;
use belay::domain::decide::{RegisterPep, Revoke};
use belay::domain::digest::Digest;
use belay::domain::pep::DEFAULT_STALENESS;
use belay::edge::{Drain, routes};
use belay::ledger::{Seeds, SystemClock};
use belay::server::connection::Info;
use belay::server::listen::{Listener, bind};
use belay::server::tls::{self, ServerIdentity};
use belay::wire::v1::feed_client::FeedClient;
use belay::wire::v1::feed_message::Said;
use belay::wire::v1::feed_request::Said as Asks;
use belay::wire::v1::feed_signal::Kind as Signals;
use belay::wire::v1::{FeedCut, FeedHello, FeedMessage, FeedRequest, FeedSignal};
use hyper_util::rt::TokioIo;
use rcgen::{KeyPair, PublicKeyData as _};
use rustls::time_provider::DefaultTimeProvider;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::bare::Bare;
use crate::support::world::{store, unseen};

const READERS: usize = 900;
const STUCK: usize = 100;
/// Streams on a connection.
const SHARED: usize = 150;
const ROUNDS: usize = 9;

/// A broker in this process, as the bare server is.
async fn serve(directory: &Path) -> (Arc<Broker>, String, watch::Sender<bool>) {
    let listener = bind("grpc", ([127, 0, 0, 1], 0).into()).unwrap();
    let foundation = Foundation {
        store: Box::new(store(directory)),
        clock: Arc::new(SystemClock),
        seeds: Seeds::system(),
        snapshot_every: 1_000_000,
        trust_domain: "example.org".parse().unwrap(),
        issuer: "https://example.org".parse().unwrap(),
        address: "https://127.0.0.1:1".to_owned(),
        policies: belay::cedar::Set::dev,
    };
    let broker = Arc::new(Broker::open(foundation, directory).await.unwrap());
    let (chain, key, _) = identity(&broker, Kind::Server, &["127.0.0.1"]).await;
    let roots: Vec<CertificateDer<'static>> = broker.roots().1.into_iter().map(Into::into).collect();
    let config = tls::grpc(ServerIdentity::new(chain, key).unwrap(), roots, Arc::new(DefaultTimeProvider)).unwrap();
    let listener = Listener::new(listener, config).unwrap();
    let addr = format!("https://{}", listener.local_addr());
    let (_, health) = tonic_health::server::health_reporter();
    let (stop, stopped) = watch::channel(false);
    let drain = Drain::new(stopped);
    let routes = routes(&broker, &Arc::new(Issuers::new(Vec::new())), health, &drain);
    // As the broker's own server does it.
    let named = |mut request: http::Request<tonic::body::Body>| {
        if let Some(Info { peer, .. }) = request.extensions_mut().remove::<Info>() {
            request.extensions_mut().insert(peer);
        }
        request
    };
    let server = tonic::transport::Server::builder()
        .max_concurrent_streams(256)
        .layer(tower::util::MapRequestLayer::new(named))
        .add_routes(routes)
        .serve_with_incoming(listener.accept_until(std::future::pending()));
    tokio::spawn(server);
    tokio::spawn(Arc::clone(broker.feed()).run());
    (broker, addr, stop)
}

/// A certificate with its authority, its key, and the key in PEM.
async fn identity(
    broker: &Broker,
    kind: Kind,
    names: &[&str],
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, String) {
    let key = KeyPair::generate().unwrap();
    let spki = key.subject_public_key_info();
    let names = names.iter().map(ToString::to_string).collect();
    let own = OwnIdentity { kind, name: "gateway".parse().unwrap(), spki, names, why: "test" };
    let issued = broker.own_identity(own).await.unwrap();
    let chain = vec![issued.der.into(), broker.authority().into()];
    (chain, PrivateKeyDer::Pkcs8(key.serialize_der().into()), key.serialize_pem())
}

/// An enforcement point of this broker: its identity is in `directory`.
async fn enroll(broker: &Broker, directory: &Path) {
    let command = RegisterPep {
        name: "gateway".parse().unwrap(),
        audiences: vec!["https://example.org".parse().unwrap()],
        staleness: DEFAULT_STALENESS,
        secret_hash: Digest::of(b"x"),
    };
    broker.submit(&Asked::broker("test"), command).await.unwrap();
    let (chain, _, key) = identity(broker, Kind::Pep, &[]).await;
    Identity::save(directory, &chain[0], &key, &[broker.authority()], false).unwrap();
}

/// A connection over which a stream holds no more than some bytes, until they are read.
async fn narrow(addr: &str, directory: &Path) -> Channel {
    let tls = client_config(&Identity::load(directory).unwrap()).unwrap();
    let at = addr.trim_start_matches("https://").to_owned();
    let connector = tower::service_fn(move |_: http::Uri| {
        let (tls, at) = (Arc::clone(&tls), at.clone());
        Box::pin(async move {
            let socket = TcpStream::connect(at).await?;
            let name = ServerName::try_from("127.0.0.1").unwrap();
            tokio_rustls::TlsConnector::from(tls).connect(name, socket).await.map(TokioIo::new)
        })
    });
    let endpoint = Endpoint::from_shared(addr.to_owned()).unwrap().initial_stream_window_size(64);
    Channel::connect(connector, endpoint).await.unwrap()
}

async fn subscribe(channel: &Channel) -> Streaming<FeedMessage> {
    let hello = FeedRequest { said: Some(Asks::Hello(FeedHello::default())) };
    // What is said ends never, as a verifier's beats do.
    let requests = tokio_stream::StreamExt::chain(tokio_stream::once(hello), tokio_stream::pending());
    FeedClient::new(channel.clone()).subscribe(requests).await.unwrap().into_inner()
}

/// Those who listen: whatever cut any of them hears is told by its target.
struct Audience {
    heard: mpsc::UnboundedReceiver<String>,
    /// Ready when each has begun.
    begun: usize,
    _stuck: Vec<Streaming<FeedMessage>>,
}

impl Audience {
    async fn of(addr: &str, directory: &Path) -> Self {
        let (tell, heard) = mpsc::unbounded_channel();
        let mut begun = 0;
        for _ in 0..READERS / SHARED {
            let tls = client_config(&Identity::load(directory).unwrap()).unwrap();
            let channel = connect(addr, tls).await.unwrap();
            for _ in 0..SHARED {
                let (mut stream, tell) = (subscribe(&channel).await, tell.clone());
                begun += 1;
                tokio::spawn(async move {
                    while let Some(message) = stream.message().await.unwrap() {
                        if let Some(Said::Signal(FeedSignal { kind: Some(Signals::Cut(cut)) })) = message.said {
                            let _ = tell.send(cut.target);
                        }
                    }
                });
            }
        }
        let mut stuck = Vec::new();
        for _ in 0..STUCK / 50 {
            let channel = narrow(addr, directory).await;
            for _ in 0..50 {
                stuck.push(subscribe(&channel).await);
            }
        }
        Self { heard, begun, _stuck: stuck }
    }

    /// Waits until all who read have heard of this target; how long the last took since.
    async fn all(&mut self, target: &str, since: Instant) -> Duration {
        let mut left = self.begun;
        while left > 0 {
            let heard = tokio::time::timeout(Duration::from_secs(60), self.heard.recv()).await.unwrap().unwrap();
            if heard == target {
                left -= 1;
            }
        }
        since.elapsed()
    }
}

async fn revoke(broker: &Broker, target: &str) -> Duration {
    let since = Instant::now();
    let command = Revoke { target: target.parse().unwrap(), reason: "testing".parse().unwrap(), dry_run: false };
    broker.submit(&Asked::broker("test"), command).await.unwrap();
    since.elapsed()
}

fn bare_cut(target: &str, seq: u64) -> FeedMessage {
    let until = "2026-11-30T17:00:00.000Z".to_owned();
    let cut = FeedCut { target: target.to_owned(), seq, until: until.clone(), thumbprint: Vec::new() };
    let said = Some(Said::Signal(FeedSignal { kind: Some(Signals::Cut(cut)) }));
    FeedMessage { seq, prev_seq: seq - 1, at: until, said }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Invariant 12, and what a cut costs to say.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_have_a_cut_as_fast_as_a_bare_broadcast_brings_it() {
    let _alone = crate::ALONE.lock().await;
    let (home, ours, theirs) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (broker, addr, _stop) = serve(home.path()).await;
    enroll(&broker, ours.path()).await;
    let mut alone = Vec::new();
    for round in 0..ROUNDS {
        alone.push(revoke(&broker, &unseen(&format!("alone-{round}"), broker.ledger().now())).await);
    }
    let bare = Bare::start(theirs.path());
    let mut at_ours = Audience::of(&addr, ours.path()).await;
    let mut at_bare = Audience::of(&bare.addr, theirs.path()).await;
    assert_eq!((at_ours.begun, at_bare.begun), (READERS, READERS));
    for last in (0..crate::SERIES).map(|at| at + 1 == crate::SERIES) {
        let times = series(&broker, &bare, &mut at_ours, &mut at_bare).await;
        let of = |what: &str| median(times[what].clone());
        let (bare, ours, acknowledged, alone) = (of("bare"), of("ours"), of("acknowledged"), median(alone.clone()));
        println!(
            "{READERS} had a cut {ours:.1?} after the revoke was asked for, {STUCK} not reading; a bare broadcast took \
             {bare:.1?}; acknowledged after {acknowledged:.1?}, with nobody there after {alone:.1?}"
        );
        let told = ours.saturating_sub(alone) <= bare.mul_f64(1.5);
        let undelayed = acknowledged <= alone * 3 + Duration::from_millis(20);
        if told && undelayed {
            return;
        }
        assert!(!last, "{times:.1?}, {alone:.1?} alone");
    }
}

/// A cut for a bare broadcast and one for the broker, in turns: neither has the quieter minutes for itself.
async fn series(
    broker: &Broker,
    bare: &Bare,
    at_ours: &mut Audience,
    at_bare: &mut Audience,
) -> BTreeMap<&'static str, Vec<Duration>> {
    let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for round in 0..=ROUNDS {
        let now = broker.ledger().now();
        let target = unseen(&format!("round-{round}-{}", now.millis()), now);
        let since = Instant::now();
        bare.sender.send(bare_cut(&target, 1000)).unwrap();
        let bare_took = at_bare.all(&target, since).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let since = Instant::now();
        let acknowledged = revoke(broker, &target).await;
        let took = at_ours.all(&target, since).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        // The first one warms up.
        if round > 0 {
            times.entry("bare").or_default().push(bare_took);
            times.entry("ours").or_default().push(took);
            times.entry("acknowledged").or_default().push(acknowledged);
        }
    }
    times
}
