//! `belay cert`: a certificate under a grant, for a key that is made here and stays here.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::connect::{Global, answer};
use super::enroll::{self, key_in};
use super::output::{Answer, pairs, sparse};
use super::weights;
use crate::client::identity::request_with;
use crate::client::{Identity, Refusal};
use crate::wire::v1::certificates_client::CertificatesClient;
use crate::wire::v1::{Certificate, IssueCertificateRequest};

/// What to do with certificates.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Issue a certificate for a grant that one holds, as an agent
    #[command(
        after_help = "Example:\n  belay --identity ./coder cert issue --grant grt_01m826b20gfdtagbpvxzh7napv --out ./cert"
    )]
    Issue(Issue),
}

/// A certificate to be.
#[derive(Debug, Args)]
pub struct Issue {
    /// The grant
    #[arg(long)]
    grant: String,
    /// Where cert.pem, key.pem and ca.pem are written
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A retry with the same key, and what it left in DIR, is the same certificate
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        let Self::Issue(Issue { grant, out, idempotency_key }) = self;
        // A directory that will not do is told before anything is asked for.
        key_in(&out)?;
        let issued = issue(global.channel().await?, grant, &out, idempotency_key.unwrap_or_default()).await?;
        global.printer().print(&document(&issued), || table(&issued, &out))
    }
}

/// Has a certificate issued for the key in `dir`, which is made if there is none, and writes it there.
///
/// # Errors
/// There is a certificate already, the broker refuses, or what it sends is not for our key.
pub async fn issue(channel: Channel, grant: String, dir: &Path, once: String) -> Result<Certificate, Refusal> {
    let key = key_in(dir)?;
    let csr = request_with(&key, None)?;
    let message = IssueCertificateRequest { grant, csr: csr.clone(), idempotency_key: once };
    let issued = answer(CertificatesClient::new(channel).issue(message).await)?;
    enroll::check(&issued.certificate, &issued.issuer, &issued.authorities, &csr)?;
    Identity::save(dir, &issued.certificate, &key, &issued.authorities, true)?;
    Ok(issued)
}

/// A certificate as a document.
pub fn document(issued: &Certificate) -> Value {
    sparse(json!({
        "id": issued.id,
        "serial": issued.serial,
        "spiffe_id": issued.spiffe_id,
        "expires_at": issued.expires_at,
        "exposure": weights::exposure(issued.exposure.as_ref()),
    }))
}

/// A certificate for a reader.
pub fn table(issued: &Certificate, dir: &Path) -> String {
    pairs([
        ("certificate", &issued.id),
        ("spiffe id", &issued.spiffe_id),
        ("in", &dir.display().to_string()),
        ("until", &issued.expires_at),
    ])
}
