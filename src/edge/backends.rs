//! The systems in which secrets are leased.

use tonic::{Request, Response, Status};

use super::convert::line;
use super::{Edge, open};
use crate::broker::CheckedBackend;
use crate::domain::decide::RemoveBackend;
use crate::domain::error::Error;
use crate::domain::lease::{self, BackendKind};
use crate::domain::name::Name;
use crate::wire::v1::{self, backends_server::Backends};

#[tonic::async_trait]
impl Backends for Edge {
    async fn add(&self, request: Request<v1::AddBackendRequest>) -> Result<Response<v1::Backend>, Status> {
        let (asked, mut body) = open(request)?;
        let url = zeroize::Zeroizing::new(std::mem::take(&mut body.url));
        let named = (name(&body.name)?, kind(&body.kind)?);
        let role = |role: &String| role.parse::<Name>().map_err(|error| error.on("role"));
        let roles = body.roles.iter().map(role).collect::<Result<Vec<_>, _>>()?;
        if url.is_empty() {
            return Err(Error::missing("url").into());
        }
        Ok(Response::new(checked(&self.0.add_backend(&asked, named, &url, roles, body.replace).await?)))
    }

    async fn check(&self, request: Request<v1::CheckBackendRequest>) -> Result<Response<v1::Backend>, Status> {
        let (_, body) = open(request)?;
        Ok(Response::new(checked(&self.0.check_backend(&name(&body.name)?).await?)))
    }

    async fn list(
        &self,
        request: Request<v1::ListBackendsRequest>,
    ) -> Result<Response<v1::ListBackendsResponse>, Status> {
        open(request)?;
        let mut backends: Vec<_> = self.0.ledger().view(|view| view.backends().map(backend).collect());
        backends.sort_by(|one: &v1::Backend, other| one.name.cmp(&other.name));
        Ok(Response::new(v1::ListBackendsResponse { backends }))
    }

    async fn remove(&self, request: Request<v1::RemoveBackendRequest>) -> Result<Response<v1::Backend>, Status> {
        let (asked, body) = open(request)?;
        let command = RemoveBackend { name: name(&body.name)?, reason: line(&body.reason, "reason")? };
        Ok(Response::new(backend(&self.0.submit(&asked, command).await?)))
    }
}

fn name(text: &str) -> Result<Name, Error> {
    text.parse().map_err(|error: Error| error.on("name"))
}

fn kind(text: &str) -> Result<BackendKind, Error> {
    text.parse().map_err(|error: Error| error.on("kind"))
}

fn checked(checked: &CheckedBackend) -> v1::Backend {
    let findings = checked.findings.clone();
    v1::Backend { ok: findings.is_empty(), findings, ..backend(&checked.backend) }
}

fn backend(known: &lease::Backend) -> v1::Backend {
    v1::Backend {
        name: known.name.to_string(),
        kind: known.kind.to_string(),
        roles: known.roles.iter().map(ToString::to_string).collect(),
        ok: false,
        findings: Vec::new(),
        status: if known.removed { "removed" } else { "active" }.to_owned(),
        created_at: known.created_at.to_string(),
    }
}
