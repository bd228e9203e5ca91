//! Operators: added, invited, listed, removed.

use tonic::{Request, Response, Status};

use super::convert::{line, operator};
use super::{Edge, open};
use crate::domain::agent::Kind;
use crate::domain::decide::{AddOperator, Invite, RemoveOperator};
use crate::domain::error::Error;
use crate::domain::name::Name;
use crate::wire::v1::{self, operators_server::Operators};

#[tonic::async_trait]
impl Operators for Edge {
    async fn add(&self, request: Request<v1::AddOperatorRequest>) -> Result<Response<v1::InvitedOperator>, Status> {
        let (asked, body) = open(request)?;
        let secret = self.0.join_secret();
        let roles = body.roles.iter().map(|role| role.parse()).collect::<Result<_, Error>>()?;
        let command = AddOperator { name: body.name.parse()?, roles, secret_hash: secret.hash() };
        let (added, join) = self.0.submit(&asked, command).await?;
        Ok(Response::new(v1::InvitedOperator {
            operator: Some(operator(&added)),
            join_expires_at: join.expires_at.to_string(),
            join_token: self.0.join_token(&join, secret),
        }))
    }

    async fn invite(&self, request: Request<v1::InviteRequest>) -> Result<Response<v1::InvitedOperator>, Status> {
        let (asked, body) = open(request)?;
        let (name, secret) = (body.name.parse::<Name>()?, self.0.join_secret());
        let command = Invite { kind: Kind::Operator, name: name.clone(), secret_hash: secret.hash() };
        let join = self.0.submit(&asked, command).await?;
        Ok(Response::new(v1::InvitedOperator {
            operator: self.0.ledger().view(|view| view.operator(&name).map(operator)),
            join_expires_at: join.expires_at.to_string(),
            join_token: self.0.join_token(&join, secret),
        }))
    }

    async fn list(&self, _: Request<v1::ListOperatorsRequest>) -> Result<Response<v1::ListOperatorsResponse>, Status> {
        let mut operators: Vec<v1::Operator> = self.0.ledger().view(|view| view.operators().map(operator).collect());
        operators.sort_by(|one, two| one.name.cmp(&two.name));
        Ok(Response::new(v1::ListOperatorsResponse { operators }))
    }

    async fn remove(&self, request: Request<v1::RemoveOperatorRequest>) -> Result<Response<v1::Operator>, Status> {
        let (asked, body) = open(request)?;
        let command = RemoveOperator { name: body.name.parse()?, reason: line(&body.reason, "reason")? };
        Ok(Response::new(operator(&self.0.submit(&asked, command).await?)))
    }
}
