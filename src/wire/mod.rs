//! Generated protobuf, and its conversions to and from the domain.

mod log;

/// The broker's own interface, `belay.v1`.
#[expect(clippy::all, clippy::pedantic, missing_docs, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("belay.v1");
}

#[expect(clippy::all, clippy::pedantic, missing_docs, reason = "generated")]
mod pb {
    tonic::include_proto!("belay.log.v1");
}

pub use log::{DecodeError, decode, encode};

/// The compiled descriptor of every service here.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
