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

/// What Envoy asks, `envoy.service.auth.v3`.
#[expect(missing_docs, clippy::allow_attributes_without_reason, clippy::missing_errors_doc, reason = "generated")]
pub mod envoy {
    tonic::include_proto!("envoy.service.auth.v3");
}

/// What agentgateway asks, `agentgateway.dev.ext_mcp`.
#[expect(missing_docs, clippy::allow_attributes_without_reason, clippy::missing_errors_doc, reason = "generated")]
pub mod ext_mcp {
    tonic::include_proto!("agentgateway.dev.ext_mcp");
}

#[expect(clippy::large_enum_variant, reason = "generated; there is one entry at a time")]
mod pb {
    tonic::include_proto!("belay.log.v1");
}

pub use codec::{Codec, read};
pub use log::{DecodeError, decode, encode};

/// The compiled descriptor of every service of our own.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

/// The compiled descriptor of every service that others speak.
pub const FOREIGN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/foreign.bin"));
