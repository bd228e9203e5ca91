//! The only place that builds concrete parts: store, ledger, broker, listeners, tasks.
//!
//! It wires what lies below it together and holds no rule of its own.

mod activity;
mod certificate;
pub mod clients;
mod config;
pub mod connection;
mod data;
mod doors;
mod file;
mod harden;
mod init;
mod keys;
pub mod listen;
mod log;
mod metrics;
mod names;
mod operator;
mod subject;
pub mod task;
pub mod tls;
mod upkeep;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use crate::ledger::SNAPSHOT_EVERY;
pub use config::{At, Checked, Config, SubjectIssuer, check};
pub use data::State;
pub use init::{Init, Made, init};
pub use log::{begin as begin_log, set as set_log};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::attest::subject::Issuers;
use crate::broker::{Broker, Foundation};
use crate::cedar::Set;
use crate::domain::error::{Code, Error};
use crate::edge;
use crate::effect::Settling;
use crate::effect::lease;
use crate::ledger::{Clock as _, Seeds, SystemClock};
use crate::measure::Exporter;
use crate::store::{Sqlite, Store as _};
use activity::Noticed;
use certificate::PageIdentity;
use listen::Listener;
use upkeep::Upkeep;

/// How long callers have to take the last answers once all are made: one that reads nothing holds up nobody.
const PARTING: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration.
    pub config: Config,
    /// For whom.
    pub mode: Mode,
}

/// For whom a broker runs.
#[derive(Clone, Debug)]
pub enum Mode {
    /// For trying out: it makes what it needs, its operator's identity as `operator/` in this directory.
    Dev {
        /// The home directory.
        home: PathBuf,
    },
    /// For use: over what `belay init` made; SIGHUP reads the file again.
    Production {
        /// The configuration's file.
        file: PathBuf,
    },
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

impl Ready {
    fn of(config: &Config, mode: &Mode, [grpc, http]: [SocketAddr; 2]) -> Self {
        let home = match mode {
            Mode::Dev { home } => home.clone(),
            Mode::Production { .. } => config.data.clone(),
        };
        Self { grpc, http, home, trust_domain: config.trust_domain.to_string() }
    }
}

/// Runs a broker until a signal or a fault stops it, and drains it.
///
/// # Errors
/// A part could not be built, before any request was taken; or the ledger had to stop.
pub fn serve(options: Options, ready: impl FnOnce(&Ready) + Send) -> anyhow::Result<()> {
    harden::hide_memory();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let served = runtime.block_on(run(options, ready));
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

async fn run(options: Options, ready: impl FnOnce(&Ready) + Send) -> anyhow::Result<()> {
    let Options { config, mode } = options;
    let exporter = Exporter::install()?;
    metrics::watch_panics();
    metrics::begin_reloads();
    // Taken before anybody can know that the broker is there: who was told that it is ready may stop it at once.
    let signals = Signals::take()?;
    let hangup = look_first(&config, &mode)?;
    let (grpc, http) = (listen::bind("grpc", config.grpc)?, listen::bind("http", config.http)?);
    let at = [grpc.local_addr()?, http.local_addr()?];
    let broker = Arc::new(begin(&config, &mode, at[0]).await?);
    if let Mode::Production { .. } = mode {
        broker.quotas().set(Some(config.quotas));
    }
    let certificate = names::issue(&broker, &config.names, at).await?;
    let until = certificate.until;
    let identity = tls::ServerIdentity::new(certificate.chain, certificate.key)?;
    let pages = PageIdentity::new(Arc::clone(&identity), certificate::given(&config, broker.ledger().wall())?);
    let issuers = Arc::new(Issuers::new(subject::issuers(&config)?));
    let roots = Arc::clone(&broker);
    let doors = doors::Doors::new(Arc::clone(&broker));
    let admitting = Arc::clone(&doors);
    let clients = clients::Clients::following(move || roots.roots(), move |leaf| admitting.admits(leaf))?;
    let stop = watch::Sender::new(false);
    let time = Arc::new(tls::LedgerTime(Arc::clone(broker.ledger())));
    let http = Listener::new(
        http,
        tls::https(
            Arc::<PageIdentity>::clone(&pages),
            Arc::<clients::Clients>::clone(&clients),
            Arc::<tls::LedgerTime>::clone(&time),
        )?,
    )?
    .named("https")
    .behind(Arc::clone(&doors));
    let grpc = Listener::new(grpc, tls::grpc_for(Arc::clone(&identity), clients, time)?)?
        .named("grpc")
        .behind(Arc::clone(&doors));
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let drain = edge::Drain::new(stop.subscribe());
    let routes = edge::routes(&broker, &issuers, health_service, &drain);
    let grpc = tonic::transport::Server::builder()
        .max_concurrent_streams(256)
        .timeout(config.request_timeout)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .layer(Noticed)
        .add_routes(routes)
        .serve_with_incoming_shutdown(grpc.accept_until(told(&stop)), told(&stop));
    let scrape = edge::Scrape::new(Arc::clone(&broker), exporter.clone(), config.data.clone());
    let pages_service = edge::pages(scrape, &issuers).layer(Noticed);
    let pages_service = pages_service.into_make_service_with_connect_info::<connection::Info>();
    let http = axum::serve(http.accept_until(told(&stop)), pages_service);
    let http = http.with_graceful_shutdown(told(&stop)).into_future();
    let mut listeners = JoinSet::new();
    listeners.spawn(async { grpc.await.map_err(|error| error.to_string()) });
    listeners.spawn(async { http.await.map_err(|error| error.to_string()) });
    let told_ready = Ready::of(&config, &mode, at);
    let (config, running) = watch::channel(config);
    let (identity, health_told) = ((identity, until), health.clone());
    let kept = Arc::clone(&broker);
    let upkeep = Upkeep { broker: kept, mode, config, identity, pages, issuers, at, hangup, health: health_told };
    let upkeep = task::spawn(upkeep.run());
    let leases = task::spawn(lease::tend(Arc::clone(broker.ledger()), Arc::clone(broker.targets())));
    let feed = task::spawn(Arc::clone(broker.feed()).run());
    let tidy = task::spawn(metrics::tidy(exporter));
    let settling = task::spawn(Settling::of(broker.cuts()).run());
    let doors = task::spawn(doors.run());
    ready(&told_ready);
    let fault = tokio::select! {
        fault = until_stopped(&broker, signals) => fault,
        Some(ended) = listeners.join_next() => {
            // One that ends before it is told to would leave a broker that nobody reaches.
            Some(Error::new(Code::Internal, "listener_ended", format!("a listener ended by itself: {ended:?}")))
        }
    };
    upkeep.abort();
    health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    stop.send_replace(true);
    tidy.abort();
    leases.abort();
    settling.abort();
    doors.abort();
    feed.abort();
    let patience = running.borrow().drain;
    finish(listeners, &drain, patience).await;
    let ledger = Arc::clone(broker.ledger());
    tokio::task::spawn_blocking(move || ledger.close()).await.context("closing the ledger")?;
    fault.map_or(Ok(()), |error| Err(error.into()))
}

/// Waits for the listeners to end, for no longer than their callers may take.
async fn finish(mut listeners: JoinSet<Result<(), String>>, drain: &edge::Drain, patience: Duration) {
    let finished = async { while listeners.join_next().await.is_some() {} };
    let settled = async {
        drain.settled().await;
        tokio::time::sleep(PARTING).await;
    };
    tokio::select! {
        () = finished => {}
        () = settled => tracing::info!("some connections were closed that their callers kept open"),
        () = tokio::time::sleep(patience) => {
            tracing::warn!(seconds = patience.as_secs(), "some requests did not finish in time");
        }
    }
}

/// What would stop a production broker is told before it listens anywhere; it then takes SIGHUP, which would
/// otherwise end it.
fn look_first(config: &Config, mode: &Mode) -> anyhow::Result<Option<Signal>> {
    let Mode::Production { .. } = mode else { return Ok(None) };
    data::made(&config.data)?;
    certificate::given(config, SystemClock.read().wall)?;
    subject::issuers(config)?;
    Ok(Some(signal(SignalKind::hangup()).context("receiving signals")?))
}

async fn begin(config: &Config, mode: &Mode, grpc: SocketAddr) -> anyhow::Result<Broker> {
    match mode {
        Mode::Dev { home } => {
            data::make(&config.data)?;
            let broker = open(config, store(&config.data)?, grpc, Set::dev).await?;
            operator::development(&broker, home).await?;
            Ok(broker)
        }
        Mode::Production { .. } => match is_empty(store(&config.data)?)? {
            (_, true) => Err(data::not_made(&config.data).into()),
            (store, false) => open(config, store, grpc, Set::production).await,
        },
    }
}

fn store(data: &Path) -> Result<Sqlite, Error> {
    Sqlite::open(data).map_err(|error| Error::new(Code::Unavailable, "store", error.to_string()))
}

/// Whether the log of a store has not begun.
fn is_empty(mut store: Sqlite) -> Result<(Sqlite, bool), Error> {
    let head = store.begin().map_err(|error| Error::new(Code::Unavailable, "store", error.to_string()))?;
    store.rollback();
    Ok((store, head.size == 0))
}

async fn open(
    config: &Config,
    store: Sqlite,
    grpc: SocketAddr,
    policies: fn() -> Result<Set, Error>,
) -> anyhow::Result<Broker> {
    let foundation = Foundation {
        store: Box::new(store),
        clock: Arc::new(SystemClock),
        seeds: Seeds::system(),
        snapshot_every: config.snapshot_every,
        trust_domain: config.trust_domain.clone(),
        issuer: config.issuer()?,
        address: names::address(&config.names, grpc),
        policies,
    };
    let broker = Broker::open(foundation, &config.data).await?;
    let (begun, issuer) = (&broker.origin().issuer, config.issuer()?);
    if *begun != issuer {
        let message =
            format!("the ledger was begun with the issuer `{begun}`, not `{issuer}`; verifiers know the first");
        return Err(Error::new(Code::Invalid, "issuer", message).on("issuer").into());
    }
    Ok(broker)
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

fn told(stop: &watch::Sender<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut stop = stop.subscribe();
    async move {
        // A sender that is gone means the same: nobody waits for this broker any more.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}
