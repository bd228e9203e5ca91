//! An enforcement point that has calls decided over streams.

use std::path::{Path, PathBuf};

use belay::attest::mtls;
use belay::client::Identity;
use belay::wire::v1;
use tonic::transport::Channel;

use super::calls::Acting;
use super::line::read;
use super::process::Broker;

pub const OURS: &str = "https://127.0.0.1";

/// A broker, an agent, and an enforcement point that sees its certificate.
pub struct Post {
    pub broker: Broker,
    pub ana: Acting,
    pub ana_at: PathBuf,
    pub gate: Channel,
    pub certificate: Vec<u8>,
}

impl Post {
    pub async fn new() -> Self {
        let broker = Broker::start();
        let ana_at = broker.enroll_agent("ana").await;
        let ana = Acting::with(&broker, &ana_at).await;
        let gate = broker.channel_as(&broker.pep("gate", &[OURS]).await).await.unwrap();
        let certificate = der(&ana_at);
        Self { broker, ana, ana_at, gate, certificate }
    }

    /// A grant of `db:read@**` with these limits, for so long, and its token.
    pub async fn granted(&self, ttl_ms: i64, limits: &[&str]) -> (String, String, String) {
        Self::granted_to(&self.ana, ttl_ms, limits).await
    }

    /// The same of another agent.
    pub async fn granted_to(who: &Acting, ttl_ms: i64, limits: &[&str]) -> (String, String, String) {
        let task = who.task().await;
        let request = v1::RequestGrantRequest {
            task: task.clone(),
            scopes: vec!["db:read@**".to_owned()],
            audience: OURS.to_owned(),
            ttl_ms,
            token: true,
            limits: limits.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        let granted = who.request(request).await.unwrap().into_inner();
        (task, granted.grant.unwrap().id, granted.token.unwrap().token)
    }

    /// Another agent, its token for `db:read@**`, and its certificate.
    pub async fn another(&self, name: &str) -> (Acting, String, Vec<u8>) {
        let at = self.broker.enroll_agent(name).await;
        let other = Acting::with(&self.broker, &at).await;
        let (_, _, token) = Self::granted_to(&other, 0, &[]).await;
        (other, token, der(&at))
    }

    /// A call by `ana`, whose certificate is seen with it.
    pub fn call(&self, token: &str, resource: &str) -> v1::AuthorizeRequest {
        read(token, resource, &self.certificate)
    }
}

/// The id by which a certificate is revoked.
pub fn id(certificate: &[u8]) -> String {
    mtls::present(certificate, &"belay.dev".parse().unwrap()).unwrap().1.certificate.to_string()
}

/// The certificate of an identity.
pub fn der(directory: &Path) -> Vec<u8> {
    Identity::load(directory).unwrap().certificate().to_vec()
}
