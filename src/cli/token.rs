//! `belay token`: issued for a grant, checked by the broker, or only read.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connect::{Global, answer};
use super::dpop;
use super::output::{Answer, Outcome, given, note, pairs, parsed, sparse};
use super::pep::presented;
use super::secret::Secret;
use super::weights;
use crate::client::Refusal;
use crate::domain::error::Error;
use crate::wire::v1::tokens_client::TokensClient;
use crate::wire::v1::{IssueTokenRequest, Token, VerifyTokenRequest, VerifyTokenResponse};

const PROOF: &str = "Example:
  belay token proof --dpop-key ./proof.pem --method GET --url https://orders.example/v1 --token @token.txt";

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Issue a token for a grant that one holds, as an agent
    #[command(after_help = "Example:\n  belay --identity ./coder token issue --grant grt_01m826b20gfdtagbpvxzh7napv")]
    Issue(Issue),
    /// Ask the broker whether a token is good now; exit 3 if it is not
    #[command(after_help = "Example:\n  belay token verify @token.txt")]
    Verify {
        /// The token, `@FILE`, or `-` for stdin
        #[arg(value_name = "TOKEN|@FILE|-")]
        token: Secret,
        /// The certificate that came with it, in PEM: only an enforcement point says so
        #[arg(long, value_name = "FILE")]
        presenter: Option<PathBuf>,
        #[command(flatten)]
        dpop: dpop::Shown,
    },
    /// Make a DPoP proof for one request with a token that is bound to a key, here
    #[command(after_help = PROOF)]
    Proof(dpop::Prove),
    /// Read a token here, without checking anything
    #[command(after_help = "Example:\n  belay token inspect @token.txt")]
    Inspect {
        /// The token, `@FILE`, or `-` for stdin
        #[arg(value_name = "TOKEN|@FILE|-")]
        token: Secret,
    },
}

/// A token to be.
#[derive(Debug, Args)]
pub struct Issue {
    /// The grant
    #[arg(long)]
    grant: String,
    /// For whom it is [default: as the grant's]
    #[arg(long)]
    audience: Option<String>,
    /// A retry with the same key is the same token
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Bind it to the key in this file, and not to the identity; the key is made if the file is not there
    #[arg(long, value_name = "FILE")]
    dpop_key: Option<PathBuf>,
    /// The issuer, where the broker is not called at the address that join tokens name
    #[arg(long, value_name = "URL", requires = "dpop_key")]
    issuer: Option<String>,
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        match self {
            Self::Issue(issue) => {
                let mut tokens = TokensClient::new(global.channel().await?);
                let token = answer(tokens.issue(issue.message(global)?).await)?;
                global.printer().print(&document(&token), || token.token.clone())
            }
            Self::Verify { token, presenter, dpop } => {
                if token == Secret::Stdin && dpop.is_stdin() {
                    return Err(Error::malformed("dpop", "-", "stdin is read once; take it from @FILE").into());
                }
                let token = token.read()?;
                let (presenter, dpop) = (presented(presenter)?, dpop.read()?);
                let mut tokens = TokensClient::new(global.channel().await?);
                verified(global, &answer(tokens.verify(VerifyTokenRequest { token, presenter, dpop }).await)?)
            }
            Self::Proof(prove) => prove.run(global),
            Self::Inspect { token } => inspected(global, &token.read()?),
        }
    }
}

impl Issue {
    fn message(self, global: &Global) -> Result<IssueTokenRequest, Refusal> {
        let dpop = dpop::bound_to(global, self.dpop_key, self.issuer)?;
        Ok(IssueTokenRequest {
            grant: self.grant,
            audience: self.audience.unwrap_or_default(),
            idempotency_key: self.idempotency_key.unwrap_or_default(),
            dpop,
        })
    }
}

/// A token as a document. It holds the secret.
pub fn document(token: &Token) -> Value {
    let exposure = weights::exposure(token.exposure.as_ref());
    sparse(json!({
        "token": token.token,
        "id": token.id,
        "expires_at": token.expires_at,
        "exposure": exposure,
        "dpop_nonce": given(&token.dpop_nonce),
    }))
}

fn verified(global: &Global, verdict: &VerifyTokenResponse) -> Answer {
    let document = verdict_document(verdict);
    let table = || match verdict.active {
        true => pretty(&document["claims"]),
        false => pairs([("active", "no"), ("reason", &verdict.reason), ("message", &verdict.message)]),
    };
    global.printer().print(&document, table)?;
    Ok(if verdict.active { Outcome::Done } else { Outcome::Denied })
}

fn verdict_document(verdict: &VerifyTokenResponse) -> Value {
    sparse(json!({
        "active": verdict.active,
        "claims": given(&verdict.claims).map(parsed),
        "reason": given(&verdict.reason).filter(|_| !verdict.active),
        "message": given(&verdict.message),
        "possession": given(&verdict.possession),
        "dpop_nonce": given(&verdict.dpop_nonce),
    }))
}

fn inspected(global: &Global, token: &str) -> Answer {
    let (header, claims) = unverified(token)?;
    note("warning: NOT VERIFIED: neither the signature, nor the times, nor revocation; anybody can write this");
    let document = json!({ "verified": false, "header": header, "claims": claims });
    global.printer().print(&document, || pretty(&document))
}

fn unverified(token: &str) -> Result<(Value, Value), Refusal> {
    // The value is left out of the error: it may be a good token with one character too many.
    let wrong = |why: &str| Refusal::from(Error::malformed("token", "…", why));
    let parts: Vec<_> = token.split('.').collect();
    let [header, claims, _] = parts.as_slice() else {
        return Err(wrong("expected three parts with dots between them"));
    };
    let part = |text: &str| -> Option<Value> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        serde_json::from_slice::<Value>(&bytes).ok().filter(Value::is_object)
    };
    part(header).zip(part(claims)).ok_or_else(|| wrong("its parts are not base64url of JSON objects"))
}

fn pretty(document: &Value) -> String {
    format!("{document:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_token_has_a_reason_and_a_good_one_claims() {
        let good =
            VerifyTokenResponse { active: true, claims: r#"{"sub":"x"}"#.into(), ..VerifyTokenResponse::default() };
        assert_eq!(verdict_document(&good), json!({ "active": true, "claims": { "sub": "x" } }));
        let bad = VerifyTokenResponse { reason: "grant_revoked".into(), ..VerifyTokenResponse::default() };
        assert_eq!(verdict_document(&bad), json!({ "active": false, "reason": "grant_revoked" }));
    }

    #[test]
    fn what_is_not_a_token_is_not_read_as_one_nor_repeated() {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let (header, claims) = unverified(&format!("{}.{}.x", part(r#"{"alg":"none"}"#), part(r#"{"a":1}"#))).unwrap();
        assert_eq!((header, claims), (json!({ "alg": "none" }), json!({ "a": 1 })));
        for wrong in ["", "secret", "secret.b", "secret.b.c.d", "!.!.!", &format!("{}.{}.x", part("[1]"), part("{}"))] {
            let refusal = unverified(wrong).unwrap_err();
            assert!(!refusal.message.contains("secret"), "{}", refusal.message);
        }
    }
}
