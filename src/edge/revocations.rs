//! Targets revoked, and what came of it.

use tonic::{Request, Response, Status};

use super::convert::line;
use super::{Edge, metrics, open};
use crate::broker::Revocation;
use crate::domain::decide::Revoke;
use crate::domain::effect::Effect;
use crate::domain::error::Error;
use crate::domain::event::CutCounts;
use crate::effect::{LISTED, Page};
use crate::measure::Stopwatch;
use crate::wire::v1::{self, revocations_server::Revocations};

#[tonic::async_trait]
impl Revocations for Edge {
    async fn revoke(&self, request: Request<v1::RevokeRequest>) -> Result<Response<v1::RevokeResponse>, Status> {
        let (asked, body) = open(request)?;
        let command =
            Revoke { target: body.target.parse()?, reason: line(&body.reason, "reason")?, dry_run: body.dry_run };
        let since = Stopwatch::start();
        let revoked = self.0.revoke(&asked, command).await?;
        if !body.dry_run {
            metrics::revoked(since);
        }
        let told = self.0.told(revoked, body.dry_run).await?;
        if told.made && !told.again {
            metrics::died(&told.came.counts);
        }
        Ok(Response::new(response(&told)))
    }

    async fn show(&self, request: Request<v1::ShowRevocationRequest>) -> Result<Response<v1::RevokeResponse>, Status> {
        let (asked, body) = open(request)?;
        let after = match body.page_token.as_str() {
            "" => None,
            token => Some(token.parse().map_err(|error: Error| error.on("page_token"))?),
        };
        let most = usize::try_from(body.page_size).unwrap_or(LISTED);
        let page = Page { after, most: Some(most).filter(|most| *most > 0) };
        let id = body.id.parse().map_err(|error: Error| error.on("id"))?;
        Ok(Response::new(response(&self.0.revocation(&asked, id, page).await?)))
    }

    async fn receipt(
        &self,
        request: Request<v1::RevocationReceiptRequest>,
    ) -> Result<Response<v1::RevocationReceipt>, Status> {
        let (asked, body) = open(request)?;
        let id = body.id.parse().map_err(|error: Error| error.on("id"))?;
        Ok(Response::new(v1::RevocationReceipt { receipt: self.0.receipt(&asked, id).await? }))
    }
}

fn response(told: &Revocation) -> v1::RevokeResponse {
    let Revocation { record, made, came, .. } = told;
    let (revocation, counts) = (&record.revocation, &came.counts);
    v1::RevokeResponse {
        id: if *made { revocation.id.to_string() } else { String::new() },
        target: revocation.target.to_string(),
        at: record.at.to_string(),
        reason: revocation.reason.to_string(),
        by: record.by.to_string(),
        r#final: *made,
        known: revocation.known,
        cut: Some(cut(counts.total())),
        effects: came.effects.iter().map(effect).collect(),
        states: Some(v1::Counted {
            enforced: Some(cut(counts.enforced)),
            pending: Some(cut(counts.pending)),
            failed: Some(cut(counts.failed)),
            expires: Some(cut(counts.expires)),
        }),
        next_page: came.next.map_or_else(String::new, |ended| ended.to_string()),
        terminal: *made && came.terminal,
        settled_at: record.settled.as_ref().map_or_else(String::new, |settled| settled.at.to_string()),
        seq: if *made { record.seq } else { 0 },
        tasks: counts.tasks,
    }
}

fn cut(counts: CutCounts) -> v1::Cut {
    let CutCounts { grants, tokens, certificates, leases } = counts;
    v1::Cut { grants, tokens, certificates, leases }
}

fn effect(effect: &Effect) -> v1::Effect {
    v1::Effect {
        credential: effect.ended.to_string(),
        kind: effect.ended.kind().to_owned(),
        state: effect.state.to_string(),
        at: effect.at.to_string(),
        detail: effect.detail.to_string(),
        holder: effect.holder.to_string(),
        owner: effect.owner.as_ref().map_or_else(String::new, ToString::to_string),
        grant: effect.grant.map_or_else(String::new, |grant| grant.to_string()),
    }
}
