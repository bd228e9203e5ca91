//! Enforcement points: registered, invited, listed, retired.

use tonic::{Request, Response, Status};

use super::convert::line;
use super::{Edge, open};
use crate::domain::agent::Kind;
use crate::domain::decide::{Invite, RegisterPep, RetirePep};
use crate::domain::error::Error;
use crate::domain::name::Name;
use crate::domain::pep::{DEFAULT_STALENESS, Pep};
use crate::domain::time::Span;
use crate::wire::v1::{self, peps_server::Peps};

#[tonic::async_trait]
impl Peps for Edge {
    async fn register(&self, request: Request<v1::RegisterPepRequest>) -> Result<Response<v1::InvitedPep>, Status> {
        let (asked, body) = open(request)?;
        let secret = self.0.join_secret();
        let audiences = body.audiences.iter().map(|audience| audience.parse()).collect::<Result<_, Error>>()?;
        let staleness = match body.max_staleness_ms {
            0 => DEFAULT_STALENESS,
            millis => Span::millis(millis),
        };
        let command = RegisterPep { name: body.name.parse()?, audiences, staleness, secret_hash: secret.hash() };
        let (registered, join) = self.0.submit(&asked, command).await?;
        Ok(Response::new(v1::InvitedPep {
            pep: Some(self.document(&registered)),
            join_expires_at: join.expires_at.to_string(),
            join_token: self.0.join_token(&join, secret),
        }))
    }

    async fn invite(&self, request: Request<v1::InviteRequest>) -> Result<Response<v1::InvitedPep>, Status> {
        let (asked, body) = open(request)?;
        let (name, secret) = (body.name.parse::<Name>()?, self.0.join_secret());
        let command = Invite { kind: Kind::Pep, name: name.clone(), secret_hash: secret.hash() };
        let join = self.0.submit(&asked, command).await?;
        Ok(Response::new(v1::InvitedPep {
            pep: Some(self.pep(&name)?),
            join_expires_at: join.expires_at.to_string(),
            join_token: self.0.join_token(&join, secret),
        }))
    }

    async fn list(&self, _: Request<v1::ListPepsRequest>) -> Result<Response<v1::ListPepsResponse>, Status> {
        let known: Vec<Pep> = self.0.ledger().view(|view| view.peps().cloned().collect());
        let mut peps: Vec<v1::Pep> = known.iter().map(|pep| self.document(pep)).collect();
        peps.sort_by(|one, two| one.name.cmp(&two.name));
        Ok(Response::new(v1::ListPepsResponse { peps }))
    }

    async fn retire(&self, request: Request<v1::RetirePepRequest>) -> Result<Response<v1::Pep>, Status> {
        let (asked, body) = open(request)?;
        let command = RetirePep { name: body.name.parse()?, reason: line(&body.reason, "reason")? };
        let retired = self.0.submit(&asked, command).await?;
        Ok(Response::new(self.document(&retired)))
    }
}

impl Edge {
    /// An enforcement point by its name, as it goes over the wire.
    pub(super) fn pep(&self, name: &Name) -> Result<v1::Pep, Error> {
        let found = self.0.ledger().view(|view| view.pep(name).cloned());
        found.map(|pep| self.document(&pep)).ok_or_else(|| Error::not_found("enforcement point", name))
    }

    fn document(&self, pep: &Pep) -> v1::Pep {
        v1::Pep {
            id: pep.id.to_string(),
            name: pep.name.to_string(),
            audiences: pep.audiences.iter().map(ToString::to_string).collect(),
            status: if pep.retired.is_some() { "retired" } else { "active" }.to_owned(),
            max_staleness_ms: pep.staleness.as_millis(),
            created_at: pep.created_at.to_string(),
            subscribers: u32::try_from(self.0.feed().subscribers_of(&pep.name)).unwrap_or(u32::MAX),
        }
    }
}
