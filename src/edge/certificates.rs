//! Certificates under a grant, issued to its holder.

use std::fmt::Write as _;

use tonic::{Request, Response, Status};

use super::{Edge, open, weights};
use crate::attest::csr;
use crate::broker::{Issued, idempotency};
use crate::domain::decide::IssueCertificate;
use crate::domain::error::Error;
use crate::domain::exposure::Exposure;
use crate::domain::id::GrantId;
use crate::wire::v1::{self, certificates_server::Certificates};

#[tonic::async_trait]
impl Certificates for Edge {
    async fn issue(&self, request: Request<v1::IssueCertificateRequest>) -> Result<Response<v1::Certificate>, Status> {
        let (asked, body) = open(request)?;
        let grant: GrantId = body.grant.parse().map_err(|error: Error| error.on("grant"))?;
        let key = csr::prove(&body.csr)?;
        // A retry signs another request for the same key: the key is what is asked about, not the request's bytes.
        let asks = [grant.to_string().as_bytes(), &key.spki].concat();
        let once = idempotency::<IssueCertificate>(&body.idempotency_key, &asks)?;
        let issued = self.0.issue_certificate(&asked, grant, &key.spki, |id| key.may_have(id), once).await?;
        Ok(Response::new(self.certificate(issued)))
    }
}

impl Edge {
    fn certificate(&self, issued: Issued) -> v1::Certificate {
        let Issued { identity, der, spiffe_id } = issued;
        let mut serial = String::new();
        for byte in identity.id.uuid().as_bytes() {
            // Writing to a string does not fail.
            let _ = write!(serial, "{byte:02X}");
        }
        v1::Certificate {
            id: identity.id.to_string(),
            serial,
            spiffe_id,
            expires_at: identity.not_after.to_string(),
            certificate: der,
            authorities: self.0.authorities(),
            issuer: self.issuer(&identity.authority),
            exposure: Some(weights::exposure(&Exposure::of_certificate(identity.not_after))),
        }
    }

    /// The certificate (DER) of an authority.
    pub(super) fn issuer(&self, kid: &String) -> Vec<u8> {
        let known = self.0.ledger().view(|view| view.key(kid).and_then(|key| key.certificate.clone()));
        known.unwrap_or_default()
    }
}
