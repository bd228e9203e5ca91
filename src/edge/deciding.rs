//! A stream of decisions. What was allowed to go on for long is looked at again whenever the log moves, and time goes by.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use tokio::sync::watch;
use tonic::{Status, Streaming};

use super::decisions::{decided, reason};
use super::{Edge, access};
use crate::broker::{Asked, Room, Wanted};
use crate::domain::decide::{Attempt, Presenter, Reason, Verdict, judge, presentable};
use crate::domain::error::{Code, Error};
use crate::domain::grant::Credential;
use crate::domain::id::InvocationId;
use crate::domain::scope::Call;
use crate::domain::time::{Span, Timestamp};
use crate::domain::view::View;
use crate::measure::Stopwatch;
use crate::wire::v1;
use crate::wire::v1::decision_message::Said;
use crate::wire::v1::decision_request::Said as Asks;

/// The call, as the access table has it.
const RPC: &str = "/belay.v1.Decisions/Stream";
/// How often what is held is looked at, though the log does not move: grants end by themselves.
const LOOK: Duration = Duration::from_millis(200);
/// Calls that one stream holds. What a caller holds in all of its streams is the broker's to say.
const MOST_HELD: usize = 1024;
/// Calls that are judged under one hold on the state.
const STEP: usize = 64;

/// The answer of `Decisions.Stream`.
pub type Messages = Pin<Box<dyn Stream<Item = Result<v1::DecisionMessage, Status>> + Send>>;

/// One stream.
pub(super) struct Deciding {
    edge: Edge,
    asked: Asked,
    /// None once no more is asked: what is held is still looked after.
    requests: Option<Streaming<v1::DecisionRequest>>,
    size: watch::Receiver<u64>,
    held: BTreeMap<u64, Held>,
    ended: VecDeque<v1::DecisionMessage>,
    /// How far the log was when what is held was looked at.
    seen: u64,
    /// Since when it was not looked at as a whole, and for how long that may be.
    whole: Stopwatch,
    pause: Duration,
    _room: Room,
}

/// A call that goes on.
struct Held {
    invocation: InvocationId,
    credential: Credential,
    /// The certificate that an enforcement point saw with it. Of who asks for itself the access table is asked.
    presenter: Option<Presenter>,
    call: Call,
    _room: Room,
}

impl Held {
    /// What it would be told now, in the order in which a new call is: what it was shown with comes first.
    fn judged(&self, view: &View<'_>, now: Timestamp, whole: bool) -> Verdict {
        let shown = self.presenter.as_ref().map_or(Ok(()), |presenter| presentable(view, presenter, now));
        let Err(error) = shown else {
            let asked = (whole || view.frozen(&self.call).is_some()).then(|| Attempt::of(&self.call, true));
            return judge(view, now, self.credential, asked);
        };
        let reasons = vec![Reason { code: error.reason, message: error.message }];
        Verdict { allowed: false, reasons, ..judge(view, now, self.credential, None) }
    }
}

impl Deciding {
    /// Answers what is asked, in order, until no more is asked and nothing is held.
    pub(super) fn begin(edge: Edge, asked: Asked, requests: Streaming<v1::DecisionRequest>, room: Room) -> Messages {
        let size = edge.0.ledger().size();
        let (requests, held, ended) = (Some(requests), BTreeMap::new(), VecDeque::new());
        let (whole, pause, _room) = (Stopwatch::start(), LOOK, room);
        let deciding = Self { edge, asked, requests, size, held, ended, seen: 0, whole, pause, _room };
        Box::pin(stream::try_unfold(deciding, Self::next))
    }

    async fn next(mut self) -> Result<Option<(v1::DecisionMessage, Self)>, Status> {
        loop {
            if let Some(message) = self.ended.pop_front() {
                return Ok(Some((message, self)));
            }
            if !self.edge.0.ledger().is_alive() {
                return Err(Error::new(Code::Unavailable, "stopped", "the ledger has stopped").into());
            }
            access::admitted(&self.edge.0, RPC, &self.asked.caller)?;
            self.look();
            if !self.ended.is_empty() {
                continue;
            }
            let moved = tokio::time::timeout(LOOK, self.size.changed());
            let Some(requests) = &mut self.requests else {
                if self.held.is_empty() {
                    return Ok(None);
                }
                // Whether the log moved or the time is up: it looks again.
                let _ = moved.await;
                continue;
            };
            tokio::select! {
                request = requests.message() => match request? {
                    Some(request) => {
                        let message = self.answer(request).await;
                        return Ok(Some((message, self)));
                    }
                    None => self.requests = None,
                },
                _ = moved => {}
            }
        }
    }

    async fn answer(&mut self, request: v1::DecisionRequest) -> v1::DecisionMessage {
        let v1::DecisionRequest { id, said, hold } = request;
        let answer = self.take(id, said, hold).await;
        let said = answer.unwrap_or_else(|error| {
            let why = Reason { code: error.reason, message: error.message.clone() };
            let retry_after_ms = error.retry_after.map_or(0, Span::as_millis);
            let code = Status::from(error).code() as u32;
            Said::Refused(v1::Refusal { code, reason: Some(reason(why)), retry_after_ms })
        });
        v1::DecisionMessage { id, said: Some(said) }
    }

    /// Each message counts as a request does: a stream is no way around a quota.
    async fn take(&mut self, id: u64, said: Option<Asks>, hold: bool) -> Result<Said, Error> {
        let _counted = self.edge.0.enter(&self.asked.caller)?;
        match said {
            Some(Asks::Authorize(body)) if hold => self.hold(id, &body).await,
            Some(Asks::Authorize(body)) => {
                self.edge.decide(&self.asked, &body).await.map(|made| Said::Decided(decided(made)))
            }
            Some(Asks::Report(body)) => self.report(&body).await,
            None => Err(Error::missing("said")),
        }
    }

    async fn hold(&mut self, id: u64, body: &v1::AuthorizeRequest) -> Result<Said, Error> {
        if self.held.contains_key(&id) {
            return Err(Error::malformed("id", &id.to_string(), "a call is held under it; take another"));
        }
        if self.held.len() >= MOST_HELD {
            let message = format!("this stream holds {MOST_HELD} calls; report some, or open another");
            return Err(Error::new(Code::Exhausted, "too_many_held", message));
        }
        let mut made = self.edge.decide_for(&self.asked, body, |wanted| Wanted { hold: true, ..wanted }).await?;
        let allowed = made.verdict.allowed && made.proven;
        let goes_on = (allowed, made.credential, made.call.clone(), made.room.take());
        if let (true, Some(credential), Some(call), Some(_room)) = goes_on {
            let (invocation, presenter) = (made.id, made.presenter.take());
            self.held.insert(id, Held { invocation, credential, presenter, call, _room });
        }
        Ok(Said::Decided(decided(made)))
    }

    async fn report(&mut self, body: &v1::ReportRequest) -> Result<Said, Error> {
        let told = self.edge.reported(&self.asked, body).await?;
        self.held.retain(|_, held| held.invocation.to_string() != told.invocation);
        Ok(Said::Reported(told))
    }

    /// Ends what would not be allowed any more. Whenever the log has moved, it is asked whether grants, credentials and
    /// freezes let it go on, which takes next to nothing; policies, catalog and destinations are asked from time to time.
    fn look(&mut self) {
        let size = *self.size.borrow_and_update();
        let whole = self.whole.elapsed() >= self.pause;
        if size == self.seen && !whole {
            return;
        }
        let since = Stopwatch::start();
        let ids: Vec<u64> = self.held.keys().copied().collect();
        let over: Vec<_> = ids.chunks(STEP).flat_map(|step| self.over(step, whole)).collect();
        self.seen = size;
        if whole {
            // However many are held, most of the time is for what is asked.
            (self.pause, self.whole) = (LOOK.max(since.elapsed() * 4), Stopwatch::start());
        }
        for (id, verdict) in over {
            let Some(held) = self.held.remove(&id) else { continue };
            let ended = v1::CallEnded {
                invocation: held.invocation.to_string(),
                grant: verdict.grant.map_or_else(String::new, |grant| grant.to_string()),
                reasons: verdict.reasons.into_iter().map(reason).collect(),
            };
            self.ended.push_back(v1::DecisionMessage { id, said: Some(Said::Ended(ended)) });
        }
    }

    /// Which of these would not be allowed now, and why. What it took of its limits it has.
    fn over(&self, ids: &[u64], whole: bool) -> Vec<(u64, Verdict)> {
        let ledger = self.edge.0.ledger();
        let now = ledger.now();
        let spent = |code: &str| matches!(code, "limit_reached" | "limit_argument");
        ledger.view(|view| {
            let held = ids.iter().filter_map(|id| Some((*id, self.held.get(id)?)));
            let judged = held.map(|(id, held)| (id, held.judged(&view, now, whole)));
            judged.filter(|(_, it)| !it.allowed && !it.reasons.iter().all(|one| spent(one.code))).collect()
        })
    }
}
