//! Blast radius, of what is there and of what might be.

use tonic::{Request, Response, Status};

use super::weights::figures;
use super::{Edge, open};
use crate::broker::Surveyed;
use crate::domain::cut::Target;
use crate::domain::decide::Extent;
use crate::domain::event::CutCounts;
use crate::domain::radius::Way;
use crate::domain::scope::Scopes;
use crate::wire::v1::{self, radius_server::Radius};

#[tonic::async_trait]
impl Radius for Edge {
    async fn get(&self, request: Request<v1::RadiusRequest>) -> Result<Response<v1::RadiusResponse>, Status> {
        let (asked, body) = open(request)?;
        let target: Target = body.target.parse()?;
        let more = if body.if_scopes.is_empty() { None } else { Some(Scopes::parse(&body.if_scopes)?) };
        let surveyed = self.aside(move |broker| broker.radius(&asked, target, more.as_ref())).await??;
        Ok(Response::new(response(&surveyed)))
    }
}

fn response(surveyed: &Surveyed) -> v1::RadiusResponse {
    let Extent { target, live, descendants, until, exercised, unions, .. } = &surveyed.extent;
    let CutCounts { grants, tokens, certificates, leases } = *live;
    let [task, agent, owner, subject] = unions.map(|union| union.as_ref().map(figures));
    v1::RadiusResponse {
        target: target.to_string(),
        figures: Some(figures(&surveyed.figures)),
        reaches: surveyed.ways.iter().map(reached).collect(),
        unreported: surveyed.unlisted,
        live: Some(v1::Cut { grants, tokens, certificates, leases }),
        descendants: *descendants,
        exposure_until: until.map_or_else(String::new, |at| at.to_string()),
        exercised: exercised.0.iter().cloned().collect(),
        more_exercised: exercised.1,
        task,
        agent,
        owner,
        subject,
        adds: surveyed.more.as_ref().map(|(adds, _)| figures(adds)),
        comes_to: surveyed.more.as_ref().map(|(_, comes_to)| figures(comes_to)),
    }
}

fn reached(way: &Way) -> v1::Reached {
    v1::Reached {
        resource: way.resource.clone(),
        sensitivity: way.sensitivity.to_string(),
        hops: way.hops,
        via: way.via.clone(),
    }
}
