//! Approvals: listed, followed, decided. Whoever follows them reads at its own pace, and nothing waits for it.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tonic::{Request, Response, Status};

use super::convert::line;
use super::{Edge, access, open, weights};
use crate::broker::{Asked, Mark, Shown, is_waiting};
use crate::domain::decide::{Approve, Caller, Deny};
use crate::domain::error::{Code, Error};
use crate::domain::id::ApprovalId;
use crate::domain::name::Name;
use crate::domain::scope::Scopes;
use crate::domain::time::Span;
use crate::wire::v1::{self, approvals_server::Approvals};

/// How often one that has nothing to tell looks: a queued approval's time comes without an event.
const LOOK: Duration = Duration::from_secs(1);
/// No more often than this, however fast the log grows.
const PAUSE: Duration = Duration::from_millis(50);
/// The call, as the access table has it.
const RPC: &str = "/belay.v1.Approvals/Watch";

type Told = Pin<Box<dyn Stream<Item = Result<v1::Approval, Status>> + Send>>;

#[tonic::async_trait]
impl Approvals for Edge {
    type WatchStream = Told;

    async fn list(
        &self,
        request: Request<v1::ListApprovalsRequest>,
    ) -> Result<Response<v1::ListApprovalsResponse>, Status> {
        let (asked, body) = open(request)?;
        let found = self.aside(move |broker| broker.approvals(&asked, body.all)).await?;
        Ok(Response::new(v1::ListApprovalsResponse { approvals: found.iter().map(weights::approval).collect() }))
    }

    async fn show(&self, request: Request<v1::ShowApprovalRequest>) -> Result<Response<v1::Approval>, Status> {
        let (asked, body) = open(request)?;
        Ok(Response::new(weights::approval(&self.0.approval(&asked, body.id.parse()?)?)))
    }

    async fn watch(&self, request: Request<v1::WatchApprovalsRequest>) -> Result<Response<Told>, Status> {
        let (asked, _) = open(request)?;
        Ok(Response::new(self.told(asked)?))
    }

    async fn approve(&self, request: Request<v1::ApproveRequest>) -> Result<Response<v1::Approval>, Status> {
        let (asked, body) = open(request)?;
        let id = body.id.parse()?;
        if body.digest.is_empty() {
            return Err(Error::missing("digest").into());
        }
        let command = Approve {
            id,
            digest: body.digest.parse()?,
            reason: line(&body.reason, "reason")?,
            scopes: if body.scopes.is_empty() { None } else { Some(Scopes::parse(&body.scopes)?) },
            ttl: if body.ttl_ms == 0 { None } else { Some(Span::lifetime(body.ttl_ms)?) },
        };
        let voted = self.0.submit(&asked, command).await?;
        let shown = Shown { approval: voted.approval, state: voted.state, missing: voted.missing };
        Ok(Response::new(weights::approval(&shown)))
    }

    async fn deny(&self, request: Request<v1::DenyRequest>) -> Result<Response<v1::Approval>, Status> {
        let (asked, body) = open(request)?;
        let command = Deny { id: body.id.parse()?, reason: line(&body.reason, "reason")? };
        let voted = self.0.submit(&asked, command).await?;
        let shown = Shown { approval: voted.approval, state: voted.state, missing: voted.missing };
        Ok(Response::new(weights::approval(&shown)))
    }
}

/// One operator who follows what it is asked.
struct Watch {
    edge: Edge,
    asked: Asked,
    operator: Name,
    size: watch::Receiver<u64>,
    /// What was told, or is about to be, by what a change of it is seen.
    told: HashMap<ApprovalId, Mark>,
    /// What is to be told, each as it stands when its turn comes.
    next: VecDeque<ApprovalId>,
    /// Whether what was decided before it began has been passed over.
    begun: bool,
    _place: OwnedSemaphorePermit,
}

impl Edge {
    fn told(&self, asked: Asked) -> Result<Told, Error> {
        let Caller::Operator(presenter) = &asked.caller else {
            return Err(Error::denied("operators_only", "this needs an operator's identity"));
        };
        let operator = presenter.name.clone();
        let place = Arc::clone(&self.2).try_acquire_owned().map_err(|_| {
            Error::new(Code::Exhausted, "too_many_tails", "too many follow the log already; end one or try again later")
        })?;
        let (edge, size) = (self.clone(), self.0.ledger().size());
        let (told, next) = (HashMap::new(), VecDeque::new());
        let mut watch = Watch { edge, asked, operator, size, told, next, begun: false, _place: place };
        // From the call on, not from when its answer is first read.
        watch.look();
        Ok(Box::pin(stream::try_unfold(watch, Watch::next)))
    }
}

impl Watch {
    /// The next approval. Whether the caller may still see it is asked each time.
    async fn next(mut self) -> Result<Option<(v1::Approval, Self)>, Status> {
        loop {
            access::admitted(&self.edge.0, RPC, &self.asked.caller)?;
            if let Some(id) = self.next.pop_front() {
                // One that has left memory meanwhile was over long before.
                let Ok(shown) = self.edge.0.approval(&self.asked, id) else { continue };
                self.told.insert(id, (shown.state, shown.approval.given.len(), shown.missing));
                return Ok(Some((weights::approval(&shown), self)));
            }
            self.size.mark_unchanged();
            self.look();
            if !self.next.is_empty() {
                continue;
            }
            if !self.edge.0.ledger().is_alive() {
                return Err(Error::new(Code::Unavailable, "stopped", "the ledger has stopped").into());
            }
            // Whether the log moved or the time is up: it looks again.
            let _ = tokio::time::timeout(LOOK, self.size.changed()).await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Finds what has changed. What was over before it began is not told.
    fn look(&mut self) {
        let now = self.edge.0.asked_of(&self.operator);
        let changed = |(id, mark): &&(ApprovalId, Mark)| match self.told.get(id) {
            Some(told) => told != mark,
            None => self.begun || is_waiting(mark.0),
        };
        self.next.extend(now.iter().filter(changed).map(|(id, _)| *id));
        self.told = now.into_iter().collect();
        self.begun = true;
    }
}
