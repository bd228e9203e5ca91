//! Generated protobuf, and its conversions to and from the domain.

mod codec;
pub mod feed;
mod log;
mod secret;

/// The broker's own interface, `belay.v1`.
#[expect(missing_docs, clippy::allow_attributes_without_reason, clippy::missing_errors_doc, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("belay.v1");
}

#[expect(clippy::large_enum_variant, reason = "generated; there is one entry at a time")]
mod pb {
    tonic::include_proto!("belay.log.v1");
}

pub use codec::{Codec, read};
pub use log::{DecodeError, decode, encode};

/// The compiled descriptor of every service here.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
