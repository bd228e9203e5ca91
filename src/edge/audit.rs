//! The audit and the status: pages of the log, provenance, what is live.

use tonic::{Request, Response, Status};

use super::calls::joined;
use super::convert::{event, given, grant};
use super::{Edge, open, tail};
use crate::broker::{Asked, CallFilter, EventFilter, Live};
use crate::domain::error::Error;
use crate::domain::event::Body;
use crate::domain::grant::{Grant, GrantState};
use crate::domain::policy::Decided;
use crate::domain::time::Timestamp;
use crate::wire::v1::{self, audit_server::Audit, status_server};

/// The filter of a request: two messages have the same fields.
macro_rules! filter {
    ($body:expr) => {
        EventFilter {
            grant: given(&$body.grant)?,
            tree: given(&$body.tree)?,
            agent: given(&$body.agent)?,
            kind: kind($body.kind)?,
            actor: given(&$body.actor)?,
            since: if $body.since.is_empty() { None } else { Some(moment(&$body.since)?) },
        }
    };
}

#[tonic::async_trait]
impl Audit for Edge {
    type TailStream = tail::Events;

    async fn tail(&self, request: Request<v1::TailEventsRequest>) -> Result<Response<tail::Events>, Status> {
        let (asked, body) = open(request)?;
        let after = body.after;
        Ok(Response::new(self.tail(asked.caller, filter!(body), after)?))
    }

    async fn list(&self, request: Request<v1::ListEventsRequest>) -> Result<Response<v1::ListEventsResponse>, Status> {
        let (_, body) = open(request)?;
        let filter = filter!(body);
        let limit = page(body.limit)?;
        let (found, next) = self.aside(move |broker| broker.events(&filter, body.after, limit)).await??;
        Ok(Response::new(v1::ListEventsResponse { events: found.iter().map(event).collect(), next: next.unwrap_or(0) }))
    }

    async fn show(&self, request: Request<v1::ShowEventRequest>) -> Result<Response<v1::Event>, Status> {
        let (_, body) = open(request)?;
        Ok(Response::new(event(&self.0.event(body.seq)?)))
    }

    async fn calls(&self, request: Request<v1::ListCallsRequest>) -> Result<Response<v1::ListCallsResponse>, Status> {
        let (_, body) = open(request)?;
        let filter = CallFilter {
            grant: given(&body.grant)?,
            tree: given(&body.tree)?,
            agent: given(&body.agent)?,
            since: if body.since.is_empty() { None } else { Some(moment(&body.since)?) },
            outcome: given(&body.outcome)?,
        };
        let (limit, after) = (page(body.limit)?, body.after);
        let (found, next) = self.aside(move |broker| broker.calls(&filter, after, limit)).await??;
        Ok(Response::new(v1::ListCallsResponse { calls: found.iter().map(joined).collect(), next: next.unwrap_or(0) }))
    }

    async fn why(&self, request: Request<v1::WhyRequest>) -> Result<Response<v1::WhyResponse>, Status> {
        let (_, body) = open(request)?;
        let id = body.id.clone();
        let why = self.aside(move |broker| broker.why(&id)).await??;
        let chain: Vec<v1::Grant> = why.chain.iter().map(|link| self.link(link)).collect();
        let task = why.task.as_ref();
        let holder = why.chain.last().map(|link| &link.agent).or(task.map(|task| &task.agent));
        let subject = task.and_then(|task| task.subject.as_ref());
        Ok(Response::new(v1::WhyResponse {
            kind: why.kind.to_owned(),
            id: body.id.clone(),
            state: self.told_state(&body.id, chain.last()),
            purpose: task.map_or_else(String::new, |task| task.purpose.to_string()),
            agent: holder.map_or_else(String::new, ToString::to_string),
            subject: subject.map_or_else(String::new, ToString::to_string),
            chain,
            events: why.events.iter().map(event).collect(),
            policy: why.chain.last().map_or_else(String::new, |link| by(&link.decided)),
            invocation: why.call.as_ref().map(joined),
        }))
    }
}

impl Edge {
    /// How it stands: an approval of its own, as long as it is remembered; anything else as the last of its chain.
    fn told_state(&self, id: &str, last: Option<&v1::Grant>) -> String {
        let approval = id.parse().ok().and_then(|id| self.0.approval(&Asked::broker("why"), id).ok());
        let chain = || last.map_or_else(String::new, |link| link.state.clone());
        approval.map_or_else(chain, |shown| shown.state.to_string())
    }

    /// A grant as the log made it, with its state of today; one that has left memory is over.
    fn link(&self, known: &Grant) -> v1::Grant {
        let now = self.0.ledger().now();
        match self.0.ledger().view(|view| view.standing(known.id, now)) {
            Some(standing) => grant(known, standing.state, standing.reason),
            None => grant(known, GrantState::Expired, "grant_expired"),
        }
    }
}

/// On which policies a grant rests.
fn by(Decided { version, policies }: &Decided) -> String {
    match policies.is_empty() {
        true => format!("policy version {version}"),
        false => format!("policy version {version}: {}", policies.join(", ")),
    }
}

#[tonic::async_trait]
impl status_server::Status for Edge {
    async fn get(&self, _: Request<v1::GetStatusRequest>) -> Result<Response<v1::GetStatusResponse>, Status> {
        let ledger = self.0.ledger();
        let (size, root) = ledger.checkpoint();
        let (live, debt) = self.aside(|broker| (live(&broker.live()), debt(broker.debt()))).await?;
        Ok(Response::new(v1::GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: "1".to_owned(),
            trust_domain: self.0.origin().trust_domain.to_string(),
            ready: self.0.is_ready().is_ok(),
            authority_ends_at: self
                .0
                .endings()
                .iter()
                .map(|one| one.at)
                .min()
                .map_or_else(String::new, |at| at.to_string()),
            store: ledger.store_name().to_owned(),
            seq: size,
            freshness_ms: 0,
            live: Some(live),
            debt: Some(debt),
            checkpoint: Some(v1::Checkpoint { size, root: root.to_string() }),
        }))
    }
}

fn live(live: &Live) -> v1::Live {
    let Live { agents, tasks, grants, tokens, certificates, identities: _, leases } = *live;
    v1::Live { agents, tasks, grants, tokens, certificates, leases }
}

fn debt((open, left): (u64, u64)) -> v1::Debt {
    v1::Debt { open, left }
}

/// How many are wanted on a page.
fn page(limit: u32) -> Result<usize, Error> {
    match limit {
        0 => Ok(100),
        limit @ 1..=1000 => Ok(limit as usize),
        limit => Err(Error::malformed("limit", &limit.to_string(), "a page has at most 1000 events")),
    }
}

/// A word that no event bears would find nothing, and read as if nothing had happened.
fn kind(word: String) -> Result<Option<String>, Error> {
    match Body::KINDS.contains(&word.as_str()) {
        true => Ok(Some(word)),
        false if word.is_empty() => Ok(None),
        false => Err(Error::malformed(
            "kind",
            &word,
            "it is no kind of event; `belay audit list` shows them, such as grant_issued",
        )),
    }
}

fn moment(text: &str) -> Result<Timestamp, Error> {
    text.parse::<jiff::Timestamp>()
        .map(|time| Timestamp::from_millis(time.as_millisecond()))
        .map_err(|_| Error::malformed("since", text, "expected a moment such as 2026-11-22T17:00:00Z"))
}
