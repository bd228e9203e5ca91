//! Grants: requested, delegated, seen, renewed, halted, given back.

use prost::Message as _;
use tonic::{Request, Response, Status};

use super::convert::{audience, given, grant, lifetime, line};
use super::{Edge, open, weights};
use crate::broker::idempotency;
use crate::domain::decide::{Delegate, Granted, RenewGrant, RequestGrant, SetGrantStatus};
use crate::domain::error::Error;
use crate::domain::grant::Status as GrantStatus;
use crate::domain::limits::Limits;
use crate::domain::policy::Mode;
use crate::domain::scope::Scopes;
use crate::domain::time::DEFAULT_GRANT;
use crate::wire::v1::{self, grants_server::Grants};

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Grants for Edge {
    async fn request(&self, request: Request<v1::RequestGrantRequest>) -> Answer<v1::GrantResponse> {
        let (asked, mut body) = open(request)?;
        let key = std::mem::take(&mut body.idempotency_key);
        let key = idempotency::<RequestGrant>(&key, &body.encode_to_vec())?;
        let command = RequestGrant {
            task: body.task.parse().map_err(|error: Error| error.on("task"))?,
            scopes: Scopes::parse(&body.scopes)?,
            audience: audience(&body.audience)?,
            ttl: lifetime(body.ttl_ms, DEFAULT_GRANT)?,
            limits: Limits::parse(&body.limits)?,
            narrow: body.narrow,
            token: body.token,
        };
        self.granted(self.0.submit_once(&asked, command, key).await?)
    }

    async fn delegate(&self, request: Request<v1::DelegateRequest>) -> Answer<v1::GrantResponse> {
        let (asked, mut body) = open(request)?;
        let key = std::mem::take(&mut body.idempotency_key);
        let key = idempotency::<Delegate>(&key, &body.encode_to_vec())?;
        let command = Delegate {
            parent: body.parent.parse().map_err(|error: Error| error.on("parent"))?,
            to: body.to.parse().map_err(|error: Error| error.on("to"))?,
            scopes: Scopes::parse(&body.scopes)?,
            audience: audience(&body.audience)?,
            ttl: lifetime(body.ttl_ms, DEFAULT_GRANT)?,
            own: match given(&body.mode)? {
                None | Some(Mode::Narrowed) => false,
                Some(Mode::Own) => true,
                Some(Mode::Root) => {
                    return Err(Error::malformed("mode", &body.mode, "a delegation is narrowed or own").into());
                }
            },
            limits: Limits::parse(&body.limits)?,
            narrow: body.narrow,
        };
        self.granted(self.0.submit_once(&asked, command, key).await?)
    }

    async fn show(&self, request: Request<v1::ShowGrantRequest>) -> Answer<v1::ShowGrantResponse> {
        let (asked, body) = open(request)?;
        let id = body.id.parse()?;
        let found = match body.tree {
            true => self.aside(move |broker| broker.grant(&asked, id, true)).await??,
            false => self.0.grant(&asked, id, false)?,
        };
        let mut grants = found.iter().map(|(known, standing)| grant(known, standing.state, standing.reason));
        Ok(Response::new(v1::ShowGrantResponse { grant: grants.next(), descendants: grants.collect() }))
    }

    async fn list(&self, request: Request<v1::ListGrantsRequest>) -> Answer<v1::ListGrantsResponse> {
        let (asked, body) = open(request)?;
        let (agent, task, state) = (given(&body.agent)?, given(&body.task)?, given(&body.state)?);
        let found = self.aside(move |broker| broker.grants(&asked, agent.as_ref(), task, state)).await?;
        let grants = found.iter().map(|(known, standing)| grant(known, standing.state, standing.reason)).collect();
        Ok(Response::new(v1::ListGrantsResponse { grants }))
    }

    async fn renew(&self, request: Request<v1::RenewGrantRequest>) -> Answer<v1::GrantResponse> {
        let (asked, body) = open(request)?;
        let command = RenewGrant { id: body.id.parse()?, ttl: lifetime(body.ttl_ms, DEFAULT_GRANT)? };
        self.granted(self.0.submit(&asked, command).await?)
    }

    async fn complete(&self, request: Request<v1::ChangeGrantRequest>) -> Answer<v1::GrantResponse> {
        self.set_grant(request, GrantStatus::Completed).await
    }

    async fn suspend(&self, request: Request<v1::ChangeGrantRequest>) -> Answer<v1::GrantResponse> {
        self.set_grant(request, GrantStatus::Suspended).await
    }

    async fn resume(&self, request: Request<v1::ChangeGrantRequest>) -> Answer<v1::GrantResponse> {
        self.set_grant(request, GrantStatus::Active).await
    }
}

impl Edge {
    async fn set_grant(
        &self,
        request: Request<v1::ChangeGrantRequest>,
        status: GrantStatus,
    ) -> Answer<v1::GrantResponse> {
        let (asked, body) = open(request)?;
        let command = SetGrantStatus { id: body.id.parse()?, status, reason: line(&body.reason, "reason")? };
        let mut answer = self.granted(self.0.submit(&asked, command).await?)?;
        answer.get_mut().radius = None;
        Ok(answer)
    }

    fn granted(&self, granted: Granted) -> Answer<v1::GrantResponse> {
        let Granted { grant: known, state, token, weight, approval, narrowed } = granted;
        let token = token.map(|answer| self.0.sign_token(answer)).transpose()?;
        Ok(Response::new(v1::GrantResponse {
            grant: Some(grant(&known, state, "")),
            token: token.map(|token| self.token(&known.audience, token)),
            exposure_until: known.expires_at.to_string(),
            exposure: Some(weights::exposure(&self.exposure(&known.audience, known.expires_at))),
            radius: Some(weights::weight(&weight)),
            approval: approval.map(|approval| self.approval(&approval)),
            narrowed: narrowed.iter().map(weights::difference).collect(),
        }))
    }
}
