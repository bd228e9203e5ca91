//! The only place that builds concrete parts: store, ledger, broker, listeners, tasks.
//!
//! It wires what lies below it together and holds no rule of its own.

mod config;
pub mod connection;
mod dev;
pub mod listen;
mod metrics;
mod names;
pub mod task;
pub mod tls;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use crate::ledger::SNAPSHOT_EVERY;
pub use config::Config;

use anyhow::Context as _;
use rustls_pki_types::CertificateDer;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::broker::{Broker, Foundation};
use crate::domain::error::{Code, Error};
use crate::edge;
use crate::ledger::{Seeds, SystemClock};
use crate::measure::Exporter;
use crate::store::Sqlite;
use listen::Listener;

/// How long requests under way may take to finish once the broker is told to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// How long callers have to take the last answers once all are made: one that reads nothing holds up nobody.
const PARTING: Duration = Duration::from_secs(1);
/// How long one request may take, its message included: a half-sent one does not stay for ever.
const REQUEST: Duration = Duration::from_secs(30);
/// How often identities are looked at, to renew them long before they end.
const UPKEEP: Duration = Duration::from_secs(600);

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration.
    pub config: Config,
    /// For a development broker: where its operator's identity is kept, as `operator/` in this directory.
    pub dev_home: Option<PathBuf>,
}

/// Where a broker that is ready can be reached.
#[derive(Clone, Debug)]
pub struct Ready {
    /// The gRPC listener.
    pub grpc: SocketAddr,
    /// The HTTPS listener.
    pub http: SocketAddr,
    /// The home directory of a development broker, else its data directory.
    pub home: PathBuf,
    /// The trust domain.
    pub trust_domain: String,
}

/// Runs a broker until a signal or a fault stops it, and drains it.
///
/// # Errors
/// A part could not be built, before any request was taken; or the ledger had to stop.
pub fn serve(options: Options, ready: impl FnOnce(&Ready) + Send) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let served = runtime.block_on(run(options, ready));
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

async fn run(options: Options, ready: impl FnOnce(&Ready) + Send) -> anyhow::Result<()> {
    let Options { config, dev_home } = options;
    let exporter = Exporter::install()?;
    metrics::watch_panics();
    // Taken before anybody can know that the broker is there: who was told that it is ready may stop it at once.
    let signals = Signals::take()?;
    let (grpc, http) = (listen::bind(config.grpc)?, listen::bind(config.http)?);
    let (grpc_at, http_at) = (grpc.local_addr()?, http.local_addr()?);
    let broker = Arc::new(open(&config, grpc_at).await?);
    if let Some(home) = &dev_home {
        dev::operator(&broker, home).await?;
    }
    let identity = names::server(&broker, &config, [grpc_at, http_at]).await?;
    let authorities: Vec<_> = broker.trust().0.into_iter().map(CertificateDer::from).collect();
    let stop = watch::Sender::new(false);
    let time = Arc::new(tls::LedgerTime(Arc::clone(broker.ledger())));
    let grpc = Listener::new(grpc, tls::grpc(Arc::clone(&identity), authorities, time)?)?.named("grpc");
    let http = Listener::new(http, tls::https(Arc::clone(&identity))?)?.named("https");
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let drain = edge::Drain::new(stop.subscribe());
    let routes = edge::routes(&broker, health_service, &drain);
    let grpc = tonic::transport::Server::builder()
        .max_concurrent_streams(256)
        .timeout(REQUEST)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .add_routes(routes)
        .serve_with_incoming_shutdown(grpc.accept_until(told(&stop)), told(&stop));
    let scrape = edge::Scrape::new(Arc::clone(&broker), exporter.clone(), config.data.clone());
    let http = axum::serve(http.accept_until(told(&stop)), edge::pages(scrape));
    let http = http.with_graceful_shutdown(told(&stop)).into_future();
    let mut listeners = JoinSet::new();
    listeners.spawn(async { grpc.await.map_err(|error| error.to_string()) });
    listeners.spawn(async { http.await.map_err(|error| error.to_string()) });
    let upkeep =
        task::spawn(upkeep(Arc::clone(&broker), config.clone(), dev_home.clone(), identity, [grpc_at, http_at]));
    let tidy = task::spawn(metrics::tidy(exporter));
    ready(&Ready {
        grpc: grpc_at,
        http: http_at,
        home: dev_home.unwrap_or(config.data),
        trust_domain: config.trust_domain.to_string(),
    });
    let fault = tokio::select! {
        fault = until_stopped(&broker, signals) => fault,
        Some(ended) = listeners.join_next() => {
            // One that ends before it is told to would leave a broker that nobody reaches.
            Some(Error::new(Code::Internal, "listener_ended", format!("a listener ended by itself: {ended:?}")))
        }
    };
    health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    stop.send_replace(true);
    upkeep.abort();
    tidy.abort();
    let finished = async { while listeners.join_next().await.is_some() {} };
    let settled = async {
        drain.settled().await;
        tokio::time::sleep(PARTING).await;
    };
    tokio::select! {
        () = finished => {}
        () = settled => tracing::info!("some connections were closed that their callers kept open"),
        () = tokio::time::sleep(DRAIN) => {
            tracing::warn!(seconds = DRAIN.as_secs(), "some requests did not finish in time");
        }
    }
    let ledger = Arc::clone(broker.ledger());
    tokio::task::spawn_blocking(move || ledger.close()).await.context("closing the ledger")?;
    fault.map_or(Ok(()), |error| Err(error.into()))
}

async fn open(config: &Config, grpc: SocketAddr) -> anyhow::Result<Broker> {
    make_private(&config.data)?;
    let store =
        Sqlite::open(&config.data).map_err(|error| Error::new(Code::Unavailable, "store", error.to_string()))?;
    let foundation = Foundation {
        store: Box::new(store),
        clock: Arc::new(SystemClock),
        seeds: Seeds::system(),
        snapshot_every: config.snapshot_every,
        trust_domain: config.trust_domain.clone(),
        issuer: config.issuer()?,
        address: names::address(config, grpc),
    };
    Ok(Broker::open(foundation, &config.data).await?)
}

/// The data directory: made for its owner alone. What is in it has mode 0600; nobody else may put files there.
fn make_private(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    let failed = |error: std::io::Error| {
        Error::new(Code::Invalid, "data", format!("data directory {}: {error}", path.display()))
    };
    make_durably(path).map_err(failed)?;
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o022 != 0 {
        let message = format!(
            "data directory {0} has mode {1:o}; others could put files there: chmod 700 {0}",
            path.display(),
            mode & 0o777
        );
        return Err(Error::new(Code::Invalid, "data_mode", message));
    }
    Ok(())
}

/// A directory that is not on disk takes all that is in it along when the power fails.
fn make_durably(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_durably(parent)?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    std::fs::File::open(parent)?.sync_all()
}

/// What tells the broker to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn take() -> anyhow::Result<Self> {
        let take = |kind| signal(kind).context("receiving signals");
        Ok(Self { terminate: take(SignalKind::terminate())?, interrupt: take(SignalKind::interrupt())? })
    }
}

/// Resolves when the broker is told to stop; holds the fault if it stopped by itself.
async fn until_stopped(broker: &Broker, mut signals: Signals) -> Option<Error> {
    tokio::select! {
        _ = signals.terminate.recv() => None,
        _ = signals.interrupt.recv() => None,
        () = broker.ledger().stopped() => Some(Error::new(Code::Unavailable, "stopped", "the ledger has stopped; see the log before this line")),
    }
}

async fn upkeep(
    broker: Arc<Broker>,
    config: Config,
    dev_home: Option<PathBuf>,
    identity: Arc<tls::ServerIdentity>,
    at: [SocketAddr; 2],
) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        let round = round(Arc::clone(&broker), config.clone(), dev_home.clone(), Arc::clone(&identity), at);
        // A panic ends this round, not those to come.
        if task::spawn(round).await.is_err() {
            tracing::error!("the upkeep broke off; it goes on in {} s", UPKEEP.as_secs());
        }
    }
}

async fn round(
    broker: Arc<Broker>,
    config: Config,
    dev_home: Option<PathBuf>,
    identity: Arc<tls::ServerIdentity>,
    at: [SocketAddr; 2],
) {
    if let Err(error) = names::renew_server(&broker, &config, &identity, at).await {
        tracing::error!(%error, "the listeners' certificate was not renewed");
    }
    if let Some(home) = &dev_home
        && let Err(error) = dev::operator(&broker, home).await
    {
        tracing::error!(%error, "the development operator's certificate was not renewed");
    }
}

fn told(stop: &watch::Sender<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut stop = stop.subscribe();
    async move {
        // A sender that is gone means the same: nobody waits for this broker any more.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}
