//! The rules. Pure and synchronous: no clock, socket, file, table, random source, async or log.
//!
//! Time and entropy come in as values, so that every rule can be tested with plain values and
//! simulated by seed. The one door is [`decide::Decide`]: a command looks at a [`view::View`] and
//! answers with the events that would make it true, or with an [`error::Error`].

pub mod agent;
pub mod applied;
pub mod approval;
pub mod catalog;
pub mod certificate;
pub mod checkpoint;
pub mod confirmation;
#[cfg(feature = "broker")]
pub mod crl;
pub mod cut;
#[cfg(feature = "broker")]
pub mod decide;
pub mod digest;
#[cfg(feature = "broker")]
pub mod effect;
pub mod entropy;
pub mod error;
pub mod event;
pub mod exposure;
pub mod feed;
#[cfg(feature = "broker")]
pub mod fold;
pub mod freeze;
pub mod grant;
pub mod id;
pub mod invocation;
pub mod key;
pub mod lease;
pub mod limits;
pub mod name;
pub mod pep;
pub mod policy;
#[cfg(feature = "broker")]
pub mod prepared;
pub mod radius;
#[cfg(feature = "broker")]
pub mod reach;
pub mod reason;
#[cfg(feature = "broker")]
pub mod receipt;
pub mod scope;
#[cfg(feature = "broker")]
pub mod spent;
#[cfg(feature = "broker")]
pub mod state;
pub mod status;
pub mod time;
#[cfg(feature = "broker")]
pub mod tree;
pub mod upstream;
#[cfg(feature = "broker")]
pub mod view;

/// Grants on one chain, root included; a token lists them all.
pub const MAX_CHAIN: usize = 16;
/// Scopes on one grant.
pub const MAX_SCOPES: usize = 64;
/// Bytes of all scopes on one grant, as written.
pub const MAX_SCOPE_BYTES: usize = 8192;
/// Bytes of a token's claims: in base 64, with header and signature, a token then has at most 48 KiB.
pub const MAX_TOKEN: usize = 36_000;
/// Bytes of a certificate (DER): it is kept in one event, and presented in one handshake message.
pub const MAX_CERTIFICATE: usize = 48 * 1024;
/// Bytes of one recorded event: a leaf must fit a transparency-log tile entry (C2SP tlog-tiles).
pub const MAX_EVENT: usize = 65_535;
