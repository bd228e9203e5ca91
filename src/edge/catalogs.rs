//! The catalog: shown, and applied whole or not at all.

use tonic::{Request, Response, Status};

use super::{Edge, open};
use crate::domain::applied::Applied;
use crate::domain::catalog::{Catalog, Change};
use crate::wire::v1::{self, catalogs_server::Catalogs};

/// Changes that are listed; the others are counted.
const LISTED: usize = 1000;

#[tonic::async_trait]
impl Catalogs for Edge {
    async fn apply(
        &self,
        request: Request<v1::ApplyCatalogRequest>,
    ) -> Result<Response<v1::ApplyCatalogResponse>, Status> {
        let (asked, body) = open(request)?;
        let v1::ApplyCatalogRequest { text, dry_run, over } = body;
        let applying = self.aside(move |broker| broker.read_catalog(text)).await??;
        let (against, changed) = (applying.over, applying.changes.len());
        let changes = applying.changes.iter().take(LISTED).map(Change::to_string).collect();
        let applied = self.0.apply_catalog(&asked, applying, over, dry_run).await?;
        Ok(Response::new(v1::ApplyCatalogResponse {
            catalog: Some(catalog(&applied, String::new())),
            changes,
            over: against,
            unlisted: changed.saturating_sub(LISTED) as u64,
        }))
    }

    async fn show(&self, request: Request<v1::ShowCatalogRequest>) -> Result<Response<v1::Catalog>, Status> {
        let (_, body) = open(request)?;
        let shown = self.aside(move |broker| broker.catalog(body.text)).await??;
        Ok(Response::new(shown.map_or_else(v1::Catalog::default, |shown| catalog(&shown.applied, shown.text))))
    }
}

fn catalog(applied: &Applied<Catalog>, text: String) -> v1::Catalog {
    let (tools, resources, edges, routes) = applied.body.as_ref().map_or((0, 0, 0, 0), |body| body.counts());
    v1::Catalog {
        version: applied.version,
        digest: applied.digest.to_string(),
        tools: tools as u64,
        resources: resources as u64,
        edges: edges as u64,
        routes: routes as u64,
        text,
    }
}
