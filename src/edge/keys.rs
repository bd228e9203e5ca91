//! Signing keys: listed, rotated, tainted.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tonic::{Request, Response, Status};

use super::convert::line;
use super::{Edge, open};
use crate::domain::digest::Digest;
use crate::domain::error::Error;
use crate::domain::key::{Key, Phase, Purpose};
use crate::wire::v1::{self, keys_server::Keys};

#[tonic::async_trait]
impl Keys for Edge {
    async fn list(&self, _: Request<v1::ListKeysRequest>) -> Result<Response<v1::ListKeysResponse>, Status> {
        let keys = self.0.keys().iter().map(|(key, phase)| self.key(key, *phase)).collect();
        Ok(Response::new(v1::ListKeysResponse { keys }))
    }

    async fn rotate(&self, request: Request<v1::RotateKeyRequest>) -> Result<Response<v1::RotateKeyResponse>, Status> {
        let (asked, body) = open(request)?;
        let purpose: Purpose = body.purpose.parse().map_err(|error: Error| error.on("purpose"))?;
        let made = self.0.rotate_key(&asked, purpose, body.at_once).await?;
        let key = self.known_key(&made.kid);
        Ok(Response::new(v1::RotateKeyResponse { key, authorities: self.0.authorities() }))
    }

    async fn taint(&self, request: Request<v1::TaintKeyRequest>) -> Result<Response<v1::TaintKeyResponse>, Status> {
        let (asked, body) = open(request)?;
        let reason = line(&body.reason, "reason")?;
        let tainted = self.0.taint_key(&asked, body.kid.clone(), reason).await?;
        let keys = self.0.keys();
        let successor = keys.iter().find(|(key, phase)| key.purpose == tainted.purpose && *phase == Phase::Used);
        Ok(Response::new(v1::TaintKeyResponse {
            key: self.known_key(&body.kid),
            successor: successor.map(|(key, phase)| self.key(key, *phase)),
            tokens: tainted.tokens,
            certificates: tainted.certificates,
            r#final: true,
            caller_shut_out: self.0.is_shut_out(&asked),
            authorities: self.0.authorities(),
        }))
    }
}

impl Edge {
    fn known_key(&self, kid: &str) -> Option<v1::Key> {
        self.0.keys().iter().find(|(key, _)| key.kid == kid).map(|(key, phase)| self.key(key, *phase))
    }

    fn key(&self, key: &Key, phase: Phase) -> v1::Key {
        let public = match key.purpose {
            Purpose::Token => STANDARD.encode(&key.public),
            Purpose::Log => self.0.verifier_key(key).map_or_else(String::new, |key| key.to_string()),
            Purpose::Authority | Purpose::Operator => String::new(),
        };
        v1::Key {
            kid: key.kid.clone(),
            purpose: key.purpose.to_string(),
            phase: phase.to_string(),
            created_at: key.created_at.to_string(),
            use_from: key.use_from.to_string(),
            ends_at: key.not_after.map_or_else(String::new, |end| end.to_string()),
            public,
            fingerprint: key.certificate.as_deref().map_or_else(String::new, |der| Digest::of(der).to_string()),
            tainted_at: key.tainted.map_or_else(String::new, |at| at.to_string()),
        }
    }
}
