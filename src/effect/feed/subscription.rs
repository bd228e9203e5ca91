//! One subscription: what it is sent, in order, and what it has acknowledged.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{Hub, Whole, lock};
use crate::domain::error::{Code, Error};
use crate::domain::event::Origin;
use crate::domain::exposure::HOLD;
use crate::domain::feed::{LONGEST_NONCE, Message, Part, Said, Signal};
use crate::domain::name::Name;
use crate::domain::pep::DEFAULT_STALENESS;
use crate::domain::time::{Span, Timestamp};
use crate::measure::{self, Stopwatch};

/// How often something is said when there is nothing to say.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Who has not read for so long does not follow any more. There was something: a heartbeat at least.
const UNREAD: Duration = Duration::from_secs(10);
/// Signals in a part of the whole state.
const PART: usize = 500;
/// Acknowledgements remembered with their times.
const ACKS: usize = 64;

/// What the hub knows of a subscription.
pub(super) struct Follows {
    pub(super) pep: Name,
    read: Mutex<Stopwatch>,
    /// By the time since boot: nobody sets it.
    ended: Mutex<Option<Span>>,
    /// What was acknowledged, and when: both grow.
    acks: Mutex<VecDeque<(u64, Timestamp)>>,
}

impl Follows {
    pub(super) fn new(pep: Name) -> Self {
        Self { pep, read: Mutex::new(Stopwatch::start()), ended: Mutex::default(), acks: Mutex::default() }
    }

    pub(super) fn is_connected(&self) -> bool {
        lock(&self.ended).is_none() && lock(&self.read).elapsed() < UNREAD
    }

    pub(super) fn leave(&self, boot: Span) {
        *lock(&self.ended) = Some(boot);
    }

    /// Whether its verifier may still go by what it was told.
    pub(super) fn is_believed(&self, boot: Span, staleness: Span) -> bool {
        let longest = staleness.plus(HOLD);
        match *lock(&self.ended) {
            Some(ended) => boot < ended.plus(longest),
            None => lock(&self.read).elapsed() < UNREAD.max(Duration::from_millis(longest.as_millis().unsigned_abs())),
        }
    }

    pub(super) fn heard(&self, seq: u64) -> Option<Timestamp> {
        lock(&self.acks).iter().find(|(acked, _)| *acked >= seq).map(|(_, at)| *at)
    }
}

/// A subscription. It ends when it is dropped.
pub struct Subscription {
    hub: Arc<Hub>,
    follows: Arc<Follows>,
    id: u64,
    receiver: broadcast::Receiver<Arc<Message>>,
    position: watch::Receiver<u64>,
    tick: Interval,
    /// The whole state, and how much of it was sent.
    whole: Option<(Arc<Whole>, usize)>,
    /// What came before the subscription began.
    missed: VecDeque<Arc<Message>>,
    /// All up to this sequence was sent.
    sent: u64,
    /// The sequence of the last signal that was sent, or that whoever resumed knows.
    last: u64,
    /// A nonce, to be echoed once all up to the sequence was sent.
    nonce: Option<(Vec<u8>, u64)>,
}

impl Subscription {
    pub(super) fn new(
        hub: Arc<Hub>,
        follows: Arc<Follows>,
        id: u64,
        receiver: broadcast::Receiver<Arc<Message>>,
        whole: Option<Arc<Whole>>,
        missed: VecDeque<Arc<Message>>,
        sent: u64,
    ) -> Self {
        let mut tick = interval(HEARTBEAT);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first is due at once.
        tick.reset();
        let (whole, position) = (whole.map(|whole| (whole, 0)), hub.position.subscribe());
        Self { hub, follows, id, receiver, position, tick, whole, missed, sent, last: sent, nonce: None }
    }

    /// The next message; waits for one, no longer than a heartbeat. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// It has not kept up, and ends: the message says where to go on.
    pub async fn next(&mut self) -> Result<Arc<Message>, Error> {
        loop {
            self.is_read()?;
            if let Some(message) = self.begun() {
                return Ok(message);
            }
            // Before the ring is looked at: what this says is in there already.
            let position = *self.position.borrow_and_update();
            match self.receiver.try_recv() {
                Ok(message) if message.seq <= self.sent => continue,
                Ok(message) => return Ok(self.said(message)),
                Err(TryRecvError::Lagged(_)) => return Err(self.behind("lagged")),
                Err(TryRecvError::Closed) => return Err(stopped()),
                Err(TryRecvError::Empty) => self.sent = self.sent.max(position),
            }
            if let Some((nonce, _)) = self.nonce.take_if(|(_, target)| *target <= self.sent)
                // Who may not allow does not vouch.
                && self.hub.ledger.check_ready().is_ok()
            {
                return Ok(self.message(Said::Echo(nonce)));
            }
            tokio::select! {
                message = self.receiver.recv() => match message {
                    Ok(message) if message.seq <= self.sent => {}
                    Ok(message) => return Ok(self.said(message)),
                    Err(RecvError::Lagged(_)) => return Err(self.behind("lagged")),
                    Err(RecvError::Closed) => return Err(stopped()),
                },
                _ = self.position.changed(), if self.nonce.is_some() => {}
                _ = self.tick.tick() => {
                    self.is_read()?;
                    return Ok(self.message(Said::Heartbeat));
                }
            }
        }
    }

    /// What has to be sent before anything new: the whole state, then what came since.
    fn begun(&mut self) -> Option<Arc<Message>> {
        if let Some((whole, from)) = self.whole.take() {
            let to = (from + PART).min(whole.signals.len());
            let (first, last) = (from == 0, to == whole.signals.len());
            let signals = whole.signals.get(from..to).unwrap_or_default().to_vec();
            let (seq, at) = (whole.seq, whole.at);
            if !last {
                self.whole = Some((whole, to));
            }
            let part = self.part(signals, first, last);
            return Some(Arc::new(Message { seq, prev: 0, at, said: Said::State(part) }));
        }
        let message = self.missed.pop_front()?;
        Some(self.said(message))
    }

    fn part(&self, signals: Vec<Signal>, first: bool, last: bool) -> Part {
        let pep = &self.follows.pep;
        let staleness = self.hub.ledger.view(|view| view.pep(pep).map_or(DEFAULT_STALENESS, |pep| pep.staleness));
        let Origin { issuer, epoch, .. } = self.hub.origin.clone();
        Part { issuer, epoch, staleness, signals, first, last }
    }

    fn said(&mut self, message: Arc<Message>) -> Arc<Message> {
        (self.sent, self.last) = (message.seq, message.seq);
        message
    }

    fn message(&self, said: Said) -> Arc<Message> {
        Arc::new(Message { seq: self.sent, prev: self.last, at: self.hub.ledger.now(), said })
    }

    /// A nonce came. It is echoed once all that was recorded by now has been sent; another one takes its place.
    ///
    /// # Errors
    /// It is too long.
    pub fn beat(&mut self, nonce: Vec<u8>) -> Result<(), Error> {
        if nonce.is_empty() || nonce.len() > LONGEST_NONCE {
            let given = format!("{} bytes", nonce.len());
            return Err(Error::malformed("nonce", &given, "use 1 to 64 bytes"));
        }
        self.nonce = Some((nonce, self.hub.ledger.view(|view| view.head())));
        Ok(())
    }

    /// All up to `seq` is in force there; of what was not sent nothing is believed.
    pub fn ack(&mut self, seq: u64) {
        let seq = seq.min(self.sent);
        // Before the lock: whoever holds the state may not have to wait for whoever waits for it.
        let now = self.hub.ledger.now();
        let mut acks = lock(&self.follows.acks);
        if acks.back().is_none_or(|(acked, _)| *acked < seq) {
            if acks.len() == ACKS {
                acks.pop_front();
            }
            acks.push_back((seq, now));
        }
    }

    /// Whose it is.
    pub fn pep(&self) -> &Name {
        &self.follows.pep
    }

    /// It is asked for more, so it was read.
    fn is_read(&self) -> Result<(), Error> {
        if !self.follows.is_connected() {
            return Err(self.behind("unread"));
        }
        *lock(&self.follows.read) = Stopwatch::start();
        Ok(())
    }

    fn behind(&self, why: &'static str) -> Error {
        measure::FEED_DROPPED.add(1, &[why]);
        let message = match self.whole {
            Some(_) => "this subscription did not keep up; subscribe again, with no sequence".to_owned(),
            None => format!("this subscription did not keep up; subscribe again behind sequence {}", self.sent),
        };
        Error::new(Code::Exhausted, "feed_lagged", message)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.leave(self.id);
    }
}

fn stopped() -> Error {
    Error::new(Code::Unavailable, "stopped", "the ledger has stopped")
}
