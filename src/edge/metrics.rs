//! What the edge measures: requests, refusals, decisions; and the page that shows all measurements.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use tokio::sync::Mutex;
use tonic::{Code, Status};

use crate::broker::{Authorized, Broker, Live};
use crate::domain::effect::Counts;
use crate::domain::event::CutCounts;
use crate::domain::key::Purpose;
use crate::measure::{self, Exporter, Held, Stopwatch};

/// For how long one reading serves whoever asks.
const FRESH: Duration = Duration::from_secs(1);
/// For how long what is live is not counted again.
const COUNTED: Duration = Duration::from_secs(10);

/// A request under way. Dropped without an answer, it panicked.
pub(super) struct Rpc {
    rpc: &'static str,
    code: Code,
    since: Stopwatch,
    _running: Held,
}

impl Rpc {
    /// Begins. `rpc` is the row of the access table, if there is one.
    pub(super) fn begin(rpc: Option<&'static str>) -> Self {
        let rpc = rpc.map_or("unknown", |rpc| rpc.trim_start_matches('/'));
        Self { rpc, code: Code::Internal, since: Stopwatch::start(), _running: measure::RPCS_RUNNING.hold(&[]) }
    }

    /// The head of the answer is there: an error stands in it, and only a success may fail later.
    pub(super) fn answered(&mut self, response: &Response) {
        self.code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
    }

    /// The same of a page: what it [says](Told) that it came to, or what its status says. A decision is an answer, whatever
    /// it is and however a proxy has to be told.
    pub(super) fn shown(&mut self, response: &Response) {
        let told = response.extensions().get::<Told>().map(|told| told.0);
        self.code = told.unwrap_or_else(|| match response.status() {
            status if status.is_success() => Code::Ok,
            StatusCode::UNAUTHORIZED => Code::Unauthenticated,
            StatusCode::FORBIDDEN => Code::PermissionDenied,
            StatusCode::METHOD_NOT_ALLOWED => Code::Unimplemented,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE => Code::ResourceExhausted,
            StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
            status if status.is_client_error() => Code::InvalidArgument,
            _ => Code::Internal,
        });
    }
}

/// What the answer of a page came to, beside it, where its status does not say.
#[derive(Clone, Copy)]
pub(super) struct Told(pub Code);

impl Drop for Rpc {
    fn drop(&mut self) {
        measure::RPCS.add(1, &[self.rpc, word(self.code)]);
        self.since.record(&measure::RPC_SECONDS, &[self.rpc]);
    }
}

fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The access table did not let a request in.
pub(super) fn not_admitted(reason: &'static str) {
    measure::ACCESS_REFUSED.add(1, &[reason]);
}

/// A request is answered with an error.
pub(super) fn refused(reason: &'static str) {
    measure::REFUSALS.add(1, &[reason]);
}

/// A call was decided.
pub(super) fn decided(authorized: &Authorized, since: Stopwatch) {
    since.record(&measure::DECISION_SECONDS, &[]);
    let decision = authorized.verdict.decision();
    let reason = authorized.verdict.reasons.first().map_or("none", |reason| reason.code);
    measure::DECISIONS.add(1, &[decision, reason]);
}

/// A revocation is final.
pub(super) fn revoked(since: Stopwatch) {
    since.record(&measure::REVOKE_SECONDS, &[]);
}

/// So much died by one.
pub(super) fn died(counts: &Counts) {
    let CutCounts { grants, tokens, certificates, leases } = counts.total();
    for (kind, died) in [("grant", grants), ("token", tokens), ("certificate", certificates), ("lease", leases)] {
        measure::CUT.add(died, &[kind]);
    }
}

/// The page of measurements. One reading is made at a time, and serves all who ask within a second.
pub struct Scrape {
    broker: Arc<Broker>,
    exporter: Exporter,
    data: PathBuf,
    last: Mutex<Reading>,
}

#[derive(Default)]
struct Reading {
    text: Option<(Stopwatch, Arc<str>)>,
    counted: Option<Stopwatch>,
}

impl Scrape {
    /// Of a broker whose log is below `data`.
    pub fn new(broker: Arc<Broker>, exporter: Exporter, data: PathBuf) -> Self {
        measure::PROCESS_START.set(broker.ledger().wall().seconds(), &[]);
        measure::BUILD_INFO.set(1, &[env!("CARGO_PKG_VERSION")]);
        [measure::RPCS_RUNNING, measure::DECISION_SECONDS, measure::REVOKE_SECONDS].iter().for_each(|m| m.begin(&[]));
        ["snapshot", "resumed"].iter().for_each(|how| measure::FEED_BEGUN.begin(&[how]));
        ["lagged", "unread"].iter().for_each(|why| measure::FEED_DROPPED.begin(&[why]));
        [["allow", "in_scope"], ["deny", "out_of_scope"], ["deny", "not_recorded"]]
            .iter()
            .for_each(|l| measure::DECISIONS.begin(l));
        Self { broker, exporter, data, last: Mutex::default() }
    }

    /// Whose measurements these are.
    pub(super) fn broker(&self) -> &Broker {
        &self.broker
    }

    pub(super) fn shared(&self) -> Arc<Broker> {
        Arc::clone(&self.broker)
    }

    /// The text, at most a second old.
    pub(super) async fn read(&self) -> Arc<str> {
        let mut last = self.last.lock().await;
        if let Some((read, text)) = &last.text
            && read.elapsed() < FRESH
        {
            return Arc::clone(text);
        }
        if last.counted.is_none_or(|counted| counted.elapsed() >= COUNTED) {
            let broker = Arc::clone(&self.broker);
            // If the count fails, the old numbers stay; the panic is counted and logged.
            if let Ok(live) = tokio::task::spawn_blocking(move || broker.live()).await {
                show(&live);
                last.counted = Some(Stopwatch::start());
            }
        }
        self.broker.ledger().observe();
        self.broker.feed().observe();
        self.broker.quotas().shed().iter().for_each(|(whose, limit, n)| measure::SHED.advance_to(*n, &[whose, limit]));
        keys(&self.broker);
        measure::observe_process(&self.data);
        let text: Arc<str> = self.exporter.render().into();
        last.text = Some((Stopwatch::start(), Arc::clone(&text)));
        text
    }
}

fn show(live: &Live) {
    let Live { agents, tasks, grants, tokens, certificates, identities, leases } = *live;
    let kinds = [
        ("agent", agents),
        ("task", tasks),
        ("grant", grants),
        ("token", tokens),
        ("certificate", certificates),
        ("identity", identities),
        ("lease", leases),
    ];
    for (kind, count) in kinds {
        measure::LIVE.set(count, &[kind]);
    }
}

/// The first of each purpose is the one that signs.
fn keys(broker: &Broker) {
    let mut ends = Vec::new();
    for purpose in Purpose::ALL {
        let keys = broker.accepted_keys(&[purpose]);
        measure::KEYS.set(keys.len(), &[purpose.as_str()]);
        if let Some(used) = keys.first() {
            measure::KEY_CREATED.set(used.created_at.seconds(), &[purpose.as_str()]);
            ends.extend(used.not_after);
        }
    }
    if let Some(first) = ends.into_iter().min() {
        measure::AUTHORITY_END.set(first.seconds(), &[]);
    }
}
