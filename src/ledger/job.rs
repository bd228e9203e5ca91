//! One request on its way through the turn: decided, folded with its batch, answered when durable.

use tokio::sync::oneshot;

use super::queue::Lane;
use crate::domain::decide::{Caller, Context, Decide};
use crate::domain::digest::Digest;
use crate::domain::entropy::Entropy;
use crate::domain::error::{Code, Error};
use crate::domain::event::{Actor, Body, Entry, Idempotency};
use crate::domain::time::Timestamp;
use crate::domain::view::View;

/// A command with everything that its decision needs, apart from the state and the time.
pub struct Request<D> {
    /// What is asked.
    pub command: D,
    /// Who asks.
    pub caller: Caller,
    /// The request's id, for the log and the audit.
    pub request_id: String,
    /// The caller's own name for the request.
    pub idempotency: Option<Idempotency>,
    /// Secret random bytes for this request alone.
    pub seed: [u8; 32],
    /// Larger bodies that go with its events.
    pub blobs: Vec<(Digest, Vec<u8>)>,
}

/// Where a request waits.
pub(super) struct Place {
    pub lane: Lane,
    /// Who waits with it: the agent that it is about, if that is known, else whoever asks.
    pub party: Actor,
    /// Whether it takes only the half of its lane that is not kept for others.
    pub ordinary: bool,
}

/// A request of any verb.
pub(super) trait Job: Send {
    /// The entries it wants, or none if it is refused. Called again only after a turn that kept nothing.
    fn decide(&mut self, view: View<'_>, now: Timestamp) -> Vec<Entry>;
    /// Its larger bodies.
    fn blobs(&self) -> Vec<(Digest, Vec<u8>)>;
    /// Where it waits.
    fn place(&self) -> &Place;
    /// Whether it only records what was answered already, and so must not be lost.
    fn is_record(&self) -> bool {
        self.place().lane == Lane::Record
    }
    /// Whether it may pass while the clock is not believed: what ends or halts something, what was answered already,
    /// and what the broker does for itself. Were the certificate of its listeners not renewed, no revoke would reach it.
    fn needs_no_clock(&self) -> bool;
    /// Whether it may take the room that is kept on a full disk: what ends or halts something, and what the broker
    /// does for itself.
    fn needs_no_room(&self) -> bool;
    /// Refuses it, whatever was decided.
    fn refuse(&mut self, error: Error);
    /// Answers: the batch that it saw is durable.
    fn settle(self: Box<Self>);
}

pub(super) struct Pending<D: Decide> {
    place: Place,
    request: Request<D>,
    outcome: Result<D::Answer, Error>,
    reply: oneshot::Sender<Result<D::Answer, Error>>,
}

impl<D: Decide> Pending<D> {
    pub(super) fn new(place: Place, request: Request<D>) -> (Self, oneshot::Receiver<Result<D::Answer, Error>>) {
        let (reply, answer) = oneshot::channel();
        let undecided = Error::new(Code::Internal, "undecided", "the request was not decided; report this");
        (Self { place, request, outcome: Err(undecided), reply }, answer)
    }
}

impl<D: Decide> Job for Pending<D> {
    fn decide(&mut self, view: View<'_>, now: Timestamp) -> Vec<Entry> {
        let request = &self.request;
        let mut entropy = Entropy::from_seed(request.seed);
        let mut context = Context {
            view,
            now,
            caller: &request.caller,
            entropy: &mut entropy,
            idempotency: request.idempotency.as_ref(),
        };
        let entry = |body: Body| Entry {
            at: now,
            actor: request.caller.actor(),
            request_id: request.request_id.clone(),
            idempotency: request.idempotency.clone(),
            body,
        };
        match request.command.decide(&mut context) {
            Ok(decision) => {
                self.outcome = Ok(decision.answer);
                decision.events.into_iter().map(entry).collect()
            }
            Err(refusal) => {
                self.outcome = Err(refusal);
                Vec::new()
            }
        }
    }

    fn blobs(&self) -> Vec<(Digest, Vec<u8>)> {
        self.request.blobs.clone()
    }

    fn place(&self) -> &Place {
        &self.place
    }

    fn needs_no_clock(&self) -> bool {
        self.is_record() || self.request.command.is_urgent() || self.request.caller == Caller::Broker
    }

    fn needs_no_room(&self) -> bool {
        !self.is_record() && self.needs_no_clock()
    }

    fn refuse(&mut self, error: Error) {
        self.outcome = Err(error);
    }

    fn settle(self: Box<Self>) {
        // Whoever asked may be gone: the decision stands all the same.
        let _ = self.reply.send(self.outcome);
    }
}
