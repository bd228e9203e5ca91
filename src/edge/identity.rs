//! Enrolment, and agents: registered, invited, seen, halted.

use tonic::{Request, Response, Status};

use super::convert::{agent, line, operator};
use super::{Edge, open};
use crate::attest::csr;
use crate::broker::Issued;
use crate::domain::agent::{AgentStatus, Kind};
use crate::domain::decide::{Invite, RegisterAgent, SetAgentStatus};
use crate::domain::error::Error;
use crate::domain::name::{Line, Name};
use crate::domain::scope::Scopes;
use crate::domain::time::Span;
use crate::wire::v1::{self, agents_server::Agents, identity_server::Identity};

#[tonic::async_trait]
impl Identity for Edge {
    async fn enroll(&self, request: Request<v1::EnrollRequest>) -> Result<Response<v1::EnrollResponse>, Status> {
        let (asked, body) = open(request)?;
        let token = body.join_token.parse()?;
        let wanted = match body.kind.as_str() {
            "" => None,
            "agent" => Some(Kind::Agent),
            "operator" => Some(Kind::Operator),
            "pep" => Some(Kind::Pep),
            kind => return Err(Error::malformed("kind", kind, "expected agent, operator or pep").into()),
        };
        let key = csr::prove(&body.csr)?;
        let issued = self.0.enroll(&asked, &token, wanted, &key.spki, |id| key.may_have(id)).await?;
        Ok(Response::new(self.enrolled(issued)))
    }

    async fn renew(&self, request: Request<v1::RenewIdentityRequest>) -> Result<Response<v1::EnrollResponse>, Status> {
        let (asked, body) = open(request)?;
        let key = csr::prove(&body.csr)?;
        let issued = self.0.renew(&asked, &key.spki, |id| key.may_have(id)).await?;
        Ok(Response::new(self.enrolled(issued)))
    }
}

#[tonic::async_trait]
impl Agents for Edge {
    async fn register(&self, request: Request<v1::RegisterAgentRequest>) -> Result<Response<v1::InvitedAgent>, Status> {
        let (asked, body) = open(request)?;
        let secret = self.0.join_secret();
        let command = RegisterAgent {
            name: body.name.parse()?,
            owner: line(&body.owner, "owner")?,
            purpose: line(&body.purpose, "purpose")?,
            ceiling: if body.ceiling.is_empty() {
                None
            } else {
                Some(Scopes::parse(&body.ceiling).map_err(|error| error.on("ceiling"))?)
            },
            max_ttl: if body.max_ttl_ms == 0 {
                None
            } else {
                Some(Span::lifetime(body.max_ttl_ms).map_err(|error| error.on("max_ttl"))?)
            },
            labels: labels(&body.labels)?,
            secret_hash: secret.hash(),
        };
        let (registered, join) = self.0.submit(&asked, command).await?;
        Ok(Response::new(v1::InvitedAgent {
            agent: Some(agent(&registered, &self.0.origin().trust_domain)),
            join_expires_at: join.expires_at.to_string(),
            join_token: self.0.join_token(&join, secret),
        }))
    }

    async fn invite(&self, request: Request<v1::InviteRequest>) -> Result<Response<v1::InvitedAgent>, Status> {
        let (asked, body) = open(request)?;
        let (name, secret) = (body.name.parse::<Name>()?, self.0.join_secret());
        let command = Invite { kind: Kind::Agent, name: name.clone(), secret_hash: secret.hash() };
        let join = self.0.submit(&asked, command).await?;
        Ok(Response::new(v1::InvitedAgent {
            agent: Some(self.agent(&name)?),
            join_expires_at: join.expires_at.to_string(),
            join_token: self.0.join_token(&join, secret),
        }))
    }

    async fn list(&self, _: Request<v1::ListAgentsRequest>) -> Result<Response<v1::ListAgentsResponse>, Status> {
        let domain = &self.0.origin().trust_domain;
        let mut agents: Vec<v1::Agent> =
            self.0.ledger().view(|view| view.agents().map(|known| agent(known, domain)).collect());
        agents.sort_by(|one, two| one.name.cmp(&two.name));
        Ok(Response::new(v1::ListAgentsResponse { agents }))
    }

    async fn show(&self, request: Request<v1::ShowAgentRequest>) -> Result<Response<v1::Agent>, Status> {
        let (_, body) = open(request)?;
        Ok(Response::new(self.agent(&body.name.parse()?)?))
    }

    async fn suspend(&self, request: Request<v1::ChangeAgentRequest>) -> Result<Response<v1::Agent>, Status> {
        self.set_agent(request, AgentStatus::Suspended).await
    }

    async fn resume(&self, request: Request<v1::ChangeAgentRequest>) -> Result<Response<v1::Agent>, Status> {
        self.set_agent(request, AgentStatus::Active).await
    }

    async fn retire(&self, request: Request<v1::ChangeAgentRequest>) -> Result<Response<v1::Agent>, Status> {
        self.set_agent(request, AgentStatus::Retired).await
    }
}

impl Edge {
    async fn set_agent(
        &self,
        request: Request<v1::ChangeAgentRequest>,
        status: AgentStatus,
    ) -> Result<Response<v1::Agent>, Status> {
        let (asked, body) = open(request)?;
        let command = SetAgentStatus { name: body.name.parse()?, status, reason: line(&body.reason, "reason")? };
        let changed = self.0.submit(&asked, command).await?;
        Ok(Response::new(agent(&changed, &self.0.origin().trust_domain)))
    }

    fn agent(&self, name: &Name) -> Result<v1::Agent, Error> {
        let domain = &self.0.origin().trust_domain;
        let found = self.0.ledger().view(|view| view.agent(name).map(|known| agent(known, domain)));
        found.ok_or_else(|| Error::not_found("agent", name))
    }

    fn enrolled(&self, issued: Issued) -> v1::EnrollResponse {
        let Issued { identity, der, spiffe_id } = issued;
        let operator = self.0.ledger().view(|view| view.operator(&identity.name).map(operator));
        let authorities = self.0.authorities();
        v1::EnrollResponse {
            certificate: der,
            authority: self.0.authority(),
            authorities,
            issuer: self.issuer(&identity.authority),
            spiffe_id,
            kind: identity.kind.to_string(),
            name: identity.name.to_string(),
            expires_at: identity.not_after.to_string(),
            agent: if identity.kind == Kind::Agent { self.agent(&identity.name).ok() } else { None },
            operator: operator.filter(|_| identity.kind == Kind::Operator),
            pep: if identity.kind == Kind::Pep { self.pep(&identity.name).ok() } else { None },
        }
    }
}

fn labels(labels: &[v1::Label]) -> Result<Vec<(Name, Line)>, Error> {
    if labels.len() > 32 {
        return Err(Error::malformed("label", &labels.len().to_string(), "an agent has at most 32 labels"));
    }
    let mut parsed = Vec::new();
    for label in labels {
        parsed.push((label.key.parse::<Name>().map_err(|error| error.on("label"))?, line(&label.value, "label")?));
    }
    parsed.sort();
    match parsed.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(Error::malformed("label", pair[0].0.as_str(), "it is given twice")),
        None => Ok(parsed),
    }
}
