//! Tokens issued and checked.

use prost::Message as _;
use tonic::{Request, Response, Status};

use super::convert::audience;
use super::dpop::VERIFY;
use super::{Edge, open, weights};
use crate::attest::mtls;
use crate::broker::{Asked, Presented, SignedToken, idempotency};
use crate::domain::MAX_CERTIFICATE;
use crate::domain::decide::{Caller, IssueKeyToken, IssueToken, Presenter};
use crate::domain::error::Error;
use crate::domain::exposure::Exposure;
use crate::domain::name::Audience;
use crate::domain::time::Timestamp;
use crate::wire::v1::{self, tokens_server::Tokens};

#[tonic::async_trait]
impl Tokens for Edge {
    async fn issue(&self, request: Request<v1::IssueTokenRequest>) -> Result<Response<v1::Token>, Status> {
        let (asked, mut body) = open(request)?;
        let key = std::mem::take(&mut body.idempotency_key);
        let bound_to = self.bound_to(&asked, &mut body)?;
        let key = idempotency::<IssueToken>(&key, &body.encode_to_vec())?;
        let grant = body.grant.parse().map_err(|error: Error| error.on("grant"))?;
        let command = IssueToken { grant, audience: audience(&body.audience)? };
        let answer = match bound_to {
            Some(bound_to) => self.0.submit_once(&asked, IssueKeyToken { issue: command, key: bound_to }, key).await?,
            None => self.0.submit_once(&asked, command, key).await?,
        };
        let signed = self.0.sign_token(answer)?;
        let issuer = &self.0.origin().issuer;
        let audience = self.0.ledger().view(|view| view.grant(grant).map(|grant| grant.audience.clone()));
        let token = self.token(audience.as_ref().unwrap_or(issuer), signed);
        let dpop_nonce = bound_to.map(|_| self.0.dpop_nonce()).unwrap_or_default();
        Ok(Response::new(v1::Token { dpop_nonce, ..token }))
    }

    async fn verify(
        &self,
        request: Request<v1::VerifyTokenRequest>,
    ) -> Result<Response<v1::VerifyTokenResponse>, Status> {
        let (asked, body) = open(request)?;
        let presenter = self.asserted(&asked, &body.presenter)?;
        let proof = self.proof(&asked, body.dpop.as_ref(), VERIFY)?;
        let checked = self.0.check(&asked, Presented { token: &body.token, presenter, proof });
        let active = checked.refusal.is_none();
        let (reason, message) = checked.refusal.unwrap_or_default();
        Ok(Response::new(v1::VerifyTokenResponse {
            active,
            reason: reason.to_owned(),
            message,
            claims: checked.claims.map_or_else(String::new, |claims| claims.json.to_string()),
            possession: possession(checked.proven),
            dpop_nonce: checked.nonce.unwrap_or_default(),
        }))
    }
}

impl Edge {
    /// The certificate that an enforcement point says it saw; none if it says none.
    pub(super) fn asserted(&self, asked: &Asked, presenter: &[u8]) -> Result<Option<Presenter>, Error> {
        if presenter.is_empty() {
            return Ok(None);
        }
        if !matches!(asked.caller, Caller::Pep(_)) {
            let message = "only an enforcement point says whose certificate it saw; leave the presenter out";
            return Err(Error::denied("presenter_asserted", message).on("presenter"));
        }
        let wrong = |why: &str| Error::malformed("presenter", "…", why);
        if presenter.len() > MAX_CERTIFICATE {
            return Err(wrong("it is longer than any certificate of this broker"));
        }
        let (_, presenter) =
            mtls::present(presenter, &self.0.origin().trust_domain).map_err(|error| wrong(&error.message))?;
        Ok(Some(presenter))
    }
}

impl Edge {
    /// A token, with how long it could still work after a cut.
    pub(super) fn token(&self, audience: &Audience, signed: SignedToken) -> v1::Token {
        let exposure = self.exposure(audience, signed.expires_at);
        v1::Token {
            id: signed.id.to_string(),
            token: signed.token,
            expires_at: signed.expires_at.to_string(),
            exposure: Some(weights::exposure(&exposure)),
            dpop_nonce: String::new(),
        }
    }

    /// How long tokens for this audience could still work after a cut.
    pub(super) fn exposure(&self, audience: &Audience, expires_at: Timestamp) -> Exposure {
        self.0.ledger().view(|view| Exposure::of_token(&view, audience, expires_at))
    }
}

pub(super) fn possession(proven: bool) -> String {
    if proven { "proven" } else { "unproven" }.to_owned()
}
