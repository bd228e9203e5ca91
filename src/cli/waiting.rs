//! A wish that may have to wait for humans: asked for under a name of its own, so that it can be taken up again.

use std::time::Duration;

use serde_json::Value;
use tonic::transport::Channel;

use super::connect::answer;
use super::output::{Printer, note};
use super::progress::Progress;
use crate::client::{Refusal, made_up_key};
use crate::domain::error::Code;
use crate::wire::v1::approvals_client::ApprovalsClient;
use crate::wire::v1::grants_client::GrantsClient;
use crate::wire::v1::{Approval, DelegateRequest, GrantResponse, RequestGrantRequest, ShowApprovalRequest};

/// Looks at first so often, and then ever less.
const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(2);

/// A grant to be.
pub enum Wish {
    /// A root.
    Root(RequestGrantRequest),
    /// A delegation.
    Part(DelegateRequest),
}

impl Wish {
    /// The name that its caller gave it; empty if none.
    pub fn key(&self) -> &str {
        match self {
            Self::Root(request) => &request.idempotency_key,
            Self::Part(request) => &request.idempotency_key,
        }
    }
}

/// A wish, for how long to wait, and the name that was made up for it.
pub struct Waiting {
    wish: Wish,
    wait: Option<Duration>,
    made_up: Option<String>,
}

impl Waiting {
    /// Waits for so many milliseconds, if humans have to be asked.
    pub fn new(mut wish: Wish, wait: Option<i64>) -> Self {
        let key = match &mut wish {
            Wish::Root(request) => &mut request.idempotency_key,
            Wish::Part(request) => &mut request.idempotency_key,
        };
        let made_up = (wait.is_some() && key.is_empty()).then(made_up_key);
        if let Some(made_up) = &made_up {
            key.clone_from(made_up);
        }
        Self { wish, wait: wait.map(|millis| Duration::from_millis(millis.unsigned_abs())), made_up }
    }

    /// The name under which it goes on, if it still waits and nobody else knows that name.
    pub fn name(&self, granted: &GrantResponse) -> Value {
        self.made_up.as_deref().filter(|_| is_pending(granted)).map_or(Value::Null, Value::from)
    }

    /// What it comes to, now or once humans have decided; what still waits when the time is over is pending.
    pub async fn obtain(&self, printer: &Printer, channel: &Channel) -> Result<GrantResponse, Refusal> {
        let asked = self.ask(channel).await?;
        let (Some(wait), Some(approval), true) = (self.wait, &asked.approval, is_pending(&asked)) else {
            return Ok(asked);
        };
        if printer.is_for_people() {
            note(&format!("waiting for {}: {}", approval.id, approval.message));
        }
        match tokio::time::timeout(wait, self.decided(printer, channel, &approval.id)).await {
            Ok(decided) => decided,
            Err(_) => Ok(self.ask(channel).await.unwrap_or(asked)),
        }
    }

    async fn ask(&self, channel: &Channel) -> Result<GrantResponse, Refusal> {
        let mut grants = GrantsClient::new(channel.clone());
        match &self.wish {
            Wish::Root(request) => answer(grants.request(request.clone()).await),
            Wish::Part(request) => answer(grants.delegate(request.clone()).await),
        }
    }

    /// Looks until it is decided, then asks for the grant again. A broker that is away for a while is waited for too.
    async fn decided(&self, printer: &Printer, channel: &Channel, id: &str) -> Result<GrantResponse, Refusal> {
        let (progress, mut pause) = (Progress::of(printer), FIRST);
        let mut approvals = ApprovalsClient::new(channel.clone());
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST);
            let outcome = match answer(approvals.show(ShowApprovalRequest { id: id.to_owned() }).await) {
                Ok(approval) if waits(&approval) => {
                    progress.say(format!("{id}: {}", approval.message));
                    continue;
                }
                // One that nobody remembers any more was over long before.
                Ok(_) => self.ask(channel).await,
                Err(refusal) if refusal.code == Code::NotFound => self.ask(channel).await,
                Err(refusal) => Err(refusal),
            };
            match outcome {
                Err(refusal) if refusal.code == Code::Unavailable => {
                    progress.say(format!("{id}: {}", refusal.message));
                }
                outcome => return outcome,
            }
        }
    }
}

fn waits(approval: &Approval) -> bool {
    matches!(approval.state.as_str(), "pending" | "queued")
}

/// Whether it waits for humans.
pub fn is_pending(granted: &GrantResponse) -> bool {
    granted.grant.as_ref().is_some_and(|grant| grant.state == "pending")
}
