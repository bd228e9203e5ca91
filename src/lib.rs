//! **Belay**, a short-lived credential broker for AI agents.
//!
//! An agent proves who it is, names the task and the authority it needs, and receives a token that is good
//! for that task alone. Grants form trees as agents delegate to agents; one revoke ends a whole tree, and
//! once it has returned, it is over. `docs/ARCHITECTURE.md` walks through a request and a revoke.
//!
//! A service that only wants to check tokens builds with `--no-default-features --features verifier` and
//! reads [`verifier`].
//!
//! # The map
//! Order is dependency order: a module uses only what [`EDGES`] allows, and a test reads every `use`.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, clippy::cast_possible_truncation, reason = "a test makes its own world")
)]

#[cfg(feature = "broker")]
pub mod attest;
#[cfg(feature = "broker")]
pub mod broker;
#[cfg(feature = "broker")]
pub mod cedar;
#[cfg(feature = "broker")]
pub mod cli;
#[cfg(feature = "broker")]
pub mod client;
pub mod domain;
#[cfg(feature = "broker")]
pub mod edge;
#[cfg(feature = "broker")]
pub mod effect;
pub mod format;
#[cfg(feature = "broker")]
pub mod guard;
#[cfg(feature = "broker")]
pub mod ledger;
#[cfg(feature = "broker")]
pub mod measure;
pub mod merkle;
#[cfg(feature = "broker")]
pub mod server;
#[cfg(feature = "broker")]
pub mod sign;
#[cfg(feature = "broker")]
pub mod store;
pub mod verifier;
#[cfg(feature = "broker")]
pub mod wire;

/// Who may use whom. What is not here is not allowed; every module may use `domain`.
pub const EDGES: &[(&str, &[&str])] = &[
    // start: crypto provider, tracing, command line, exit code
    ("main", &["cli"]),
    // one file per noun: ordinary clients of the gRPC interface
    ("cli", &["server", "guard", "client", "wire", "format", "cedar"]),
    // stands between an agent and what it uses: MCP servers over stdio, hooks of coding agents, commands
    ("guard", &["client", "wire", "format"]),
    // the only place that builds concrete parts: listeners, TLS, tasks, drain
    ("server", &["edge", "broker", "effect", "cedar", "ledger", "store", "client", "attest", "measure"]),
    // gRPC and HTTPS: translate, nothing else
    ("edge", &["broker", "effect", "attest", "wire", "format", "measure"]),
    // use cases: prepare, submit, sign; no rules of their own
    ("broker", &["effect", "ledger", "sign", "verifier", "format", "store", "merkle", "cedar"]),
    // follows the log: feed, status lists, CRLs, leases; submits outcomes
    ("effect", &["ledger", "sign", "format", "measure"]),
    // turn, view, snapshot; events are stored as the protobuf that `wire` makes of them
    ("ledger", &["store", "merkle", "wire", "measure"]),
    // policies: load, validate, decide; the contract is in `domain::policy`
    ("cedar", &[]),
    // the names of what is measured; labels are words of the source
    ("measure", &[]),
    // the log's home: one contract, one test suite
    ("store", &["merkle"]),
    // connect, identity, refusals, the feed
    ("client", &["wire", "verifier", "format"]),
    // offline check of a credential
    ("verifier", &["format"]),
    // evidence to verified identity: join token, certificate request, mTLS
    ("attest", &["format"]),
    // key ring: signs what was recorded; sealed at rest
    ("sign", &["format"]),
    // JWT, X.509, SPIFFE IDs, join tokens: build and parse, no keys
    ("format", &[]),
    // generated protobuf and its conversions
    ("wire", &[]),
    // RFC 6962 trees and proofs
    ("merkle", &[]),
    // pure rules
    ("domain", &[]),
];
