//! Freezes: set, lifted, listed.

use tonic::{Request, Response, Status};

use super::convert::{given, line};
use super::{Edge, open};
use crate::domain::decide::{SetFreeze, Thaw};
use crate::domain::error::Error;
use crate::domain::freeze::Freeze;
use crate::wire::v1::{self, freezes_server::Freezes};

#[tonic::async_trait]
impl Freezes for Edge {
    async fn freeze(&self, request: Request<v1::FreezeRequest>) -> Result<Response<v1::Freeze>, Status> {
        let (asked, body) = open(request)?;
        let command = SetFreeze {
            scope: body.scope.parse().map_err(|error: Error| error.on("scope"))?,
            sensitivity: given(&body.sensitivity).map_err(|error| error.on("sensitivity"))?,
            reason: line(&body.reason, "reason")?,
        };
        Ok(Response::new(freeze(&self.0.submit(&asked, command).await?)))
    }

    async fn thaw(&self, request: Request<v1::ThawRequest>) -> Result<Response<v1::Freeze>, Status> {
        let (asked, body) = open(request)?;
        let id = body.id.parse().map_err(|error: Error| error.on("id"))?;
        let command = Thaw { id, reason: line(&body.reason, "reason")? };
        Ok(Response::new(freeze(&self.0.submit(&asked, command).await?)))
    }

    async fn list(
        &self,
        request: Request<v1::ListFreezesRequest>,
    ) -> Result<Response<v1::ListFreezesResponse>, Status> {
        open(request)?;
        let mut lasting: Vec<Freeze> = self.0.ledger().view(|view| view.freezes().cloned().collect());
        lasting.sort_by_key(|freeze| freeze.id);
        Ok(Response::new(v1::ListFreezesResponse { freezes: lasting.iter().map(freeze).collect() }))
    }
}

fn freeze(known: &Freeze) -> v1::Freeze {
    v1::Freeze {
        id: known.id.to_string(),
        scope: known.scope.to_string(),
        sensitivity: known.sensitivity.map_or_else(String::new, |least| least.to_string()),
        reason: known.reason.to_string(),
        by: known.by.to_string(),
        at: known.at.to_string(),
        thawed_at: known.thawed.map_or_else(String::new, |at| at.to_string()),
    }
}
