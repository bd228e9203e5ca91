//! The table. `docs/OPERATIONS.md` shows it, and a test holds both against what a running broker prints.

use super::{Kind, Metric};

/// Seconds of what is over in a moment: up to 10 s.
const SECONDS: &[f64] = &[0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Requests in a turn.
const REQUESTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];

macro_rules! table {
    ($($id:ident = $name:literal $kind:expr, [$($label:literal),*], $help:literal;)*) => {
        $(#[doc = $help] pub const $id: Metric =
            Metric { name: $name, kind: $kind, labels: &[$($label),*], help: $help };)*
        /// All of them.
        pub const METRICS: &[Metric] = &[$($id),*];
    };
}

table! {
    READY = "belay_ready" Kind::Gauge, [], "1 while decisions are made and recorded, else 0.";
    BUILD_INFO = "belay_build_info" Kind::Gauge, ["version"], "Always 1; the version is the label.";

    DECISIONS = "belay_decisions_total" Kind::Counter, ["decision", "reason"], "Tool calls decided.";
    DECISION_SECONDS = "belay_decision_seconds" Kind::Histogram(SECONDS), [], "Time to decide a tool call, without the way to the broker.";
    REVOKE_SECONDS = "belay_revoke_seconds" Kind::Histogram(SECONDS), [], "Time from a revoke's arrival until it was final.";
    REVOCATIONS = "belay_revocations_total" Kind::Counter, ["target"], "Revocations recorded, by what they name.";
    CUT = "belay_cut_total" Kind::Counter, ["kind"], "What was live and died by a revocation.";
    ISSUED = "belay_issued_total" Kind::Counter, ["kind"], "Grants, tokens and certificates issued.";
    EVENTS = "belay_events_total" Kind::Counter, ["event"], "Events recorded by this process.";

    LEASE_DEBT = "belay_lease_debt" Kind::Gauge, ["state"], "Leases that should be gone or halted and are not: open, somebody could still use them; left, nobody can, and a role remains.";
    LEASE_DEBT_SECONDS = "belay_lease_debt_seconds" Kind::Gauge, [], "For how long the oldest open one should have been gone or halted; 0 if there is none.";
    LEASE_ATTEMPTS = "belay_lease_attempts_total" Kind::Counter, ["action", "outcome"], "What was tried with leases in their backends.";
    LEASE_SECONDS = "belay_lease_seconds" Kind::Histogram(SECONDS), ["action"], "Time from when something was called for until the backend had done it.";

    RPCS = "belay_rpcs_total" Kind::Counter, ["rpc", "code"], "Requests answered, by gRPC code; of the pages that decide too, where a denial is OK.";
    RPC_SECONDS = "belay_rpc_seconds" Kind::Histogram(SECONDS), ["rpc"], "Time from a request's headers to the head of its answer.";
    RPCS_RUNNING = "belay_rpcs_running" Kind::Gauge, [], "Requests under way.";
    REFUSALS = "belay_refusals_total" Kind::Counter, ["reason"], "Requests that were refused or failed, by reason.";
    ACCESS_REFUSED = "belay_access_refused_total" Kind::Counter, ["reason"], "Requests that the access table did not let in.";

    SHED = "belay_shed_total" Kind::Counter, ["by", "limit"], "Requests and records turned away: over a quota, or with no room in a lane of the queue.";
    QUEUE_LENGTH = "belay_queue_length" Kind::Gauge, ["lane"], "Requests that wait for a turn.";
    QUEUE_LIMIT = "belay_queue_limit" Kind::Gauge, ["lane"], "How many may wait.";
    BATCH_REQUESTS = "belay_batch_requests" Kind::Histogram(REQUESTS), [], "Requests taken into one turn.";
    TURN_SECONDS = "belay_turn_seconds" Kind::Histogram(SECONDS), [], "Time of a turn: decide, append, commit, fold, answer.";
    COMMIT_SECONDS = "belay_commit_seconds" Kind::Histogram(SECONDS), [], "Time to make a batch durable.";
    TURNS_FAILED = "belay_turns_failed_total" Kind::Counter, ["stage"], "Turns that kept nothing.";
    RECORDS_RETURNED = "belay_records_returned_total" Kind::Counter, [], "Records of decided calls put back for the next turn.";

    LOG_ENTRIES = "belay_log_entries" Kind::Gauge, [], "Entries in the log.";
    SNAPSHOT_ENTRIES = "belay_snapshot_entries" Kind::Gauge, [], "Entries that the newest snapshot covers; a start replays the rest.";
    LAST_BATCH = "belay_last_batch_timestamp_seconds" Kind::Gauge, [], "The time of the last batch.";
    CLOCK_BEHIND = "belay_clock_behind_seconds" Kind::Gauge, [], "How far the clock is behind the log; beyond 2 only revoking works.";
    LIVE = "belay_live" Kind::Gauge, ["kind"], "What may be used now; counted at most every 10 s.";
    RECORDS = "belay_memory_records" Kind::Gauge, ["kind"], "Records in memory, those that were over lately included.";

    FEED_SUBSCRIBERS = "belay_feed_subscribers" Kind::Gauge, [], "Subscriptions to the feed that are being read.";
    FEED_BEGUN = "belay_feed_begun_total" Kind::Counter, ["how"], "Subscriptions begun, with the whole state or where they were.";
    FEED_DROPPED = "belay_feed_dropped_total" Kind::Counter, ["why"], "Subscriptions that did not keep up.";
    FEED_LAG = "belay_feed_lag_entries" Kind::Gauge, [], "Entries of the log that the feed has not looked at yet.";

    KEYS = "belay_keys" Kind::Gauge, ["purpose"], "Keys that are accepted, whether or not they sign now.";
    KEY_CREATED = "belay_key_created_timestamp_seconds" Kind::Gauge, ["purpose"], "When the key that signs was made.";
    AUTHORITY_END = "belay_authority_end_timestamp_seconds" Kind::Gauge, [], "When the first of the authorities that sign ends.";
    LISTENER_END = "belay_listener_certificate_end_timestamp_seconds" Kind::Gauge, [], "When the listeners' certificate ends; it is renewed at half of its life.";

    HANDSHAKES = "belay_tls_handshakes_total" Kind::Counter, ["listener", "outcome"], "TLS handshakes.";
    CONNECTIONS = "belay_connections" Kind::Gauge, ["listener"], "Open connections, their handshake done.";
    ACCEPTS_FAILED = "belay_accepts_failed_total" Kind::Counter, ["listener"], "Connections that the system did not hand over, for want of something.";
    RELOADS = "belay_configuration_reloads_total" Kind::Counter, ["outcome"], "Times that the configuration was read again; one that is refused changes nothing.";
    PANICS = "belay_panics_total" Kind::Counter, ["thread"], "Panics; each is a defect.";
    DATA_FREE_BYTES = "belay_data_free_bytes" Kind::Gauge, [], "Space left on the file system of the data directory.";

    PROCESS_START = "process_start_time_seconds" Kind::Gauge, [], "When the process began to serve.";
    PROCESS_CPU_SECONDS = "process_cpu_seconds_total" Kind::Counter, [], "Processor time used, whole seconds.";
    PROCESS_RESIDENT_BYTES = "process_resident_memory_bytes" Kind::Gauge, [], "Memory in use.";
    PROCESS_OPEN_FDS = "process_open_fds" Kind::Gauge, [], "Open file descriptors.";
    PROCESS_MAX_FDS = "process_max_fds" Kind::Gauge, [], "How many there may be.";
}
