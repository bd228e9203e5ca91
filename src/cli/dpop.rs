//! DPoP on the command line: the key that tokens are bound to, proofs that are made, and proofs that somebody saw.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::connect::Global;
use super::output::Answer;
use super::secret::Secret;
use crate::client::{ProofKey, Refusal};
use crate::wire::v1::DpopProof;

/// A proof to be made.
#[derive(Debug, Args)]
pub struct Prove {
    /// The key that the token is bound to; it is made if the file is not there
    #[arg(long, value_name = "FILE")]
    dpop_key: PathBuf,
    /// The method of the request
    #[arg(long)]
    method: String,
    /// Its URL; query and fragment do not count
    #[arg(long)]
    url: String,
    /// The token that goes with it, `@FILE`, or `-` for stdin
    #[arg(long, value_name = "TOKEN|@FILE|-")]
    token: Option<Secret>,
    /// What the last answer asked to be repeated
    #[arg(long)]
    nonce: Option<String>,
}

impl Prove {
    /// Does it, without asking anybody.
    pub fn run(self, global: &Global) -> Answer {
        let token = self.token.map(Secret::read).transpose()?;
        let key = ProofKey::load_or_make(&self.dpop_key)?;
        let proof = key.prove(&self.method, &self.url, token.as_deref(), self.nonce.as_deref())?;
        global.printer().print(&json!({ "proof": proof }), || proof.clone())
    }
}

/// The proof that came with a token.
#[derive(Debug, Args)]
pub struct Shown {
    /// The DPoP proof that came with the token, `@FILE`, or `-` for stdin
    #[arg(long, value_name = "PROOF|@FILE|-")]
    dpop: Option<Secret>,
    /// The method of the request that it came with: only an enforcement point says so
    #[arg(long, value_name = "METHOD", requires = "dpop")]
    dpop_method: Option<String>,
    /// The URL of that request
    #[arg(long, value_name = "URL", requires = "dpop")]
    dpop_url: Option<String>,
}

impl Shown {
    /// As it is sent.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(self) -> Result<Option<DpopProof>, Refusal> {
        let (method, url) = (self.dpop_method.unwrap_or_default(), self.dpop_url.unwrap_or_default());
        self.dpop.map(|proof| Ok(DpopProof { proof: proof.read()?, method, url })).transpose()
    }

    /// Whether it comes from stdin.
    pub fn is_stdin(&self) -> bool {
        self.dpop == Some(Secret::Stdin)
    }
}

/// The proof by which the broker binds a token to the key in this file: for its issuer, or else the address that it is
/// called at.
///
/// # Errors
/// The key cannot be read or made.
pub fn bound_to(global: &Global, key: Option<PathBuf>, issuer: Option<String>) -> Result<Option<DpopProof>, Refusal> {
    let Some(key) = key else { return Ok(None) };
    let base = issuer.unwrap_or_else(|| global.addr_or_default());
    let url = format!("{}/belay.v1.Tokens/Issue", base.trim_end_matches('/'));
    let proof = ProofKey::load_or_make(&key)?.prove("POST", &url, None, None)?;
    Ok(Some(DpopProof { proof, ..Default::default() }))
}
