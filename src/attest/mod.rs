//! Evidence in, a verified identity out: a signed request, a client certificate, a token of a human's.
//!
//! Decides only what the evidence proves. Whether that party may act, and whether a certificate's chain
//! holds, are the domain's and TLS's questions.

pub mod csr;
mod der;
#[cfg(test)]
mod foreign;
pub mod mtls;
mod peer;
pub mod subject;

pub use peer::PeerCertificate;
