//! Secrets of tools' own APIs, which are never told again.

use tonic::{Request, Response, Status};

use super::convert::line;
use super::{Edge, open};
use crate::domain::decide::{AddUpstream, RemoveUpstream};
use crate::domain::digest::Digest;
use crate::domain::error::Error;
use crate::domain::name::Name;
use crate::domain::upstream;
use crate::wire::v1::{self, upstreams_server::Upstreams};

#[tonic::async_trait]
impl Upstreams for Edge {
    async fn add(&self, request: Request<v1::AddUpstreamRequest>) -> Result<Response<v1::Upstream>, Status> {
        let (asked, mut body) = open(request)?;
        let value = zeroize::Zeroizing::new(std::mem::take(&mut body.value));
        let command = AddUpstream {
            name: name(&body.name, "name")?,
            tool: name(&body.tool, "tool")?,
            host: body.host.parse().map_err(|error: Error| error.on("host"))?,
            header: body.header.parse().map_err(|error: Error| error.on("header"))?,
            sealed: Digest::of(&[]),
            replace: body.replace,
        };
        if value.is_empty() {
            return Err(Error::missing("value").into());
        }
        Ok(Response::new(told(&self.0.add_upstream(&asked, command, &value).await?)))
    }

    async fn list(
        &self,
        request: Request<v1::ListUpstreamsRequest>,
    ) -> Result<Response<v1::ListUpstreamsResponse>, Status> {
        open(request)?;
        let mut upstreams: Vec<_> = self.0.ledger().view(|view| view.upstreams().map(told).collect());
        upstreams.sort_by(|one: &v1::Upstream, other| one.name.cmp(&other.name));
        Ok(Response::new(v1::ListUpstreamsResponse { upstreams }))
    }

    async fn remove(&self, request: Request<v1::RemoveUpstreamRequest>) -> Result<Response<v1::Upstream>, Status> {
        let (asked, body) = open(request)?;
        let command = RemoveUpstream { name: name(&body.name, "name")?, reason: line(&body.reason, "reason")? };
        Ok(Response::new(told(&self.0.submit(&asked, command).await?)))
    }
}

fn name(text: &str, field: &'static str) -> Result<Name, Error> {
    text.parse().map_err(|error: Error| error.on(field))
}

/// A secret without itself.
fn told(known: &upstream::Upstream) -> v1::Upstream {
    v1::Upstream {
        name: known.name.to_string(),
        tool: known.tool.to_string(),
        host: known.host.to_string(),
        header: known.header.to_string(),
        status: if known.removed { "removed" } else { "active" }.to_owned(),
        created_at: known.created_at.to_string(),
    }
}
