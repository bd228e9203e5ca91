//! Leases: issued with their secrets, listed without.

use prost::Message as _;
use tonic::{Request, Response, Status};

use super::convert::given;
use super::{Edge, open, weights};
use crate::broker::{Leased, idempotency};
use crate::domain::decide::{Caller, IssueLease, Wanted, wanted};
use crate::domain::error::Error;
use crate::domain::exposure::Exposure;
use crate::domain::id::GrantId;
use crate::domain::lease::{Lease, LeaseStatus};
use crate::domain::time::{Span, Timestamp};
use crate::domain::view::View;
use crate::wire::v1::{self, leases_server::Leases};

#[tonic::async_trait]
impl Leases for Edge {
    async fn issue(&self, request: Request<v1::IssueLeaseRequest>) -> Result<Response<v1::IssueLeaseResponse>, Status> {
        let (asked, mut body) = open(request)?;
        let key = std::mem::take(&mut body.idempotency_key);
        let once = idempotency::<IssueLease>(&key, &body.encode_to_vec())?;
        let command = IssueLease {
            grant: body.grant.parse().map_err(|error: Error| error.on("grant"))?,
            backend: body.backend.parse().map_err(|error: Error| error.on("backend"))?,
            role: body.role.parse().map_err(|error: Error| error.on("role"))?,
            ttl: (body.ttl_ms != 0).then(|| Span::lifetime(body.ttl_ms)).transpose()?,
            ticket: self.0.spends(&body.ticket).map_err(|error| error.on("ticket"))?,
        };
        let Leased { lease: kept, secret } = self.0.issue_lease(&asked, command, once).await?;
        let now = self.0.ledger().now();
        let secret = v1::LeaseSecret {
            username: secret.username.clone(),
            password: secret.password.to_string(),
            url: secret.url.to_string(),
        };
        let lease = self.0.ledger().view(|view| lease(&view, &kept, now));
        let exposure = Some(weights::exposure(&Exposure::of_lease()));
        Ok(Response::new(v1::IssueLeaseResponse { lease: Some(lease), secret: Some(secret), exposure }))
    }

    async fn list(&self, request: Request<v1::ListLeasesRequest>) -> Result<Response<v1::ListLeasesResponse>, Status> {
        let (asked, body) = open(request)?;
        let only: Option<GrantId> = given(&body.grant).map_err(|error| error.on("grant"))?;
        let leases = self.aside(move |broker| {
            let now = broker.ledger().now();
            broker.ledger().view(|view| {
                let own = |lease: &&Lease| match &asked.caller {
                    // What it holds, and what hangs below that.
                    Caller::Agent(presenter) => view.ancestry(lease.grant).any(|link| link.agent == presenter.name),
                    _ => true,
                };
                let meant = |lease: &&Lease| only.is_none_or(|grant| lease.grant == grant);
                let there = |lease: &&Lease| body.all || lease.status != LeaseStatus::Ended;
                let mut found: Vec<&Lease> = view.leases().filter(meant).filter(there).filter(own).collect();
                found.sort_by_key(|lease| lease.id);
                found.into_iter().map(|one| lease(&view, one, now)).collect()
            })
        });
        Ok(Response::new(v1::ListLeasesResponse { leases: leases.await? }))
    }
}

fn lease(view: &View<'_>, lease: &Lease, now: Timestamp) -> v1::Lease {
    let wanted = match wanted(view, lease, now) {
        Wanted::Live => "live",
        Wanted::Halted => "halted",
        Wanted::Gone => "gone",
    };
    v1::Lease {
        id: lease.id.to_string(),
        grant: lease.grant.to_string(),
        agent: lease.agent.to_string(),
        backend: lease.backend.to_string(),
        role: lease.role.to_string(),
        status: lease.status.to_string(),
        wanted: wanted.to_owned(),
        created_at: lease.created_at.to_string(),
        expires_at: lease.expires_at.to_string(),
        changed_at: lease.changed_at.to_string(),
        trouble: lease.trouble.as_ref().map_or_else(String::new, |trouble| trouble.reason.to_string()),
    }
}
