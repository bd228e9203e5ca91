//! Follows the feed for a service: a [`Verifier`] that is kept up to date, and refuses when it is not.
//!
//! The connection is made again for as long as the service runs. The identity is read anew each time, so that one that
//! was renewed meanwhile (`belay pep renew`) is taken up; a stream ends when the certificate that it began with does.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{Identity, Refusal, client_config, connect, made_up_key};
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::name::Audience;
use crate::domain::scope::Call;
use crate::domain::time::Timestamp;
use crate::format::dpop::Received;
use crate::format::jwt::Claims;
use crate::verifier::{Answer, Shown, Verifier};
use crate::wire::feed::read;
use crate::wire::v1::feed_client::FeedClient;
use crate::wire::v1::feed_request::Said;
use crate::wire::v1::{FeedAck, FeedBeat, FeedHello, FeedMessage, FeedRequest};

/// Waits between attempts: from …
const FIRST: Duration = Duration::from_millis(100);
/// … to this, each up to twice the one before.
const LONGEST: Duration = Duration::from_secs(5);
/// A feed says something every second. One that says nothing for so long is not there.
const SILENCE: Duration = Duration::from_secs(5);
/// What waits to be sent: beats and acknowledgements.
const QUEUE: usize = 64;
/// Nonces are sent no more often than this, however fresh what is known has to be.
const BUSIEST: Duration = Duration::from_millis(50);

const UNHEARD: &str = "the broker does not take what is said to it";

/// A verifier that follows the feed. Cheap to share.
#[derive(Clone)]
pub struct Offline(Arc<Shared>);

struct Shared {
    verifier: RwLock<Verifier>,
    /// Why the feed is not followed now, if it is not.
    trouble: watch::Sender<Option<Refusal>>,
    /// How often something came.
    heard: watch::Sender<u64>,
}

/// Where the feed is, and who follows it.
#[derive(Clone, Debug)]
pub struct Feed {
    /// The broker, `https://HOST:PORT`.
    pub addr: String,
    /// The directory of the enforcement point's identity.
    pub identity: PathBuf,
    /// How old what is known may be; the bound that the enforcement point was registered with holds as well.
    pub staleness: Duration,
}

impl Feed {
    /// The verifier, and what keeps it up to date for as long as it is polled: spawn it.
    pub fn follow(self) -> (Offline, impl Future<Output = ()> + Send) {
        let shared = Shared {
            verifier: RwLock::new(Verifier::new(self.staleness)),
            trouble: watch::Sender::new(None),
            heard: watch::Sender::new(0),
        };
        let offline = Offline(Arc::new(shared));
        (offline.clone(), self.run(offline))
    }

    async fn run(self, offline: Offline) {
        let mut pause = FIRST;
        loop {
            let before = *offline.0.heard.borrow();
            if let Err(refusal) = self.session(&offline).await {
                offline.0.trouble.send_replace(Some(refusal));
            }
            let heard = *offline.0.heard.borrow() != before;
            pause = if heard { FIRST } else { (pause * 2).min(LONGEST) };
            tokio::time::sleep(jitter(pause)).await;
        }
    }

    /// One connection, to its end.
    async fn session(&self, offline: &Offline) -> Result<(), Refusal> {
        let channel = connect(&self.addr, client_config(&Identity::load(&self.identity)?)?).await?;
        let (requests, sent) = mpsc::channel(QUEUE);
        offline.write().reconnected();
        let hello = FeedRequest { said: Some(Said::Hello(offline.hello())) };
        requests.try_send(hello).map_err(|_| lost(UNHEARD))?;
        let answer = FeedClient::new(channel).subscribe(ReceiverStream::new(sent)).await?;
        offline.0.trouble.send_replace(None);
        let mut messages: Streaming<FeedMessage> = answer.into_inner();
        let mut acked = None;
        let mut pace = self::pace(offline);
        let mut beat = ticking(pace);
        let silence = tokio::time::sleep(SILENCE);
        tokio::pin!(silence);
        loop {
            tokio::select! {
                message = messages.message() => {
                    let message = message?.ok_or_else(|| lost("the broker ended the feed"))?;
                    offline.take(message)?;
                    silence.set(tokio::time::sleep(SILENCE));
                    // How old what is known may be is known with the first state.
                    if pace != self::pace(offline) {
                        pace = self::pace(offline);
                        beat = ticking(pace);
                    }
                }
                // One for all that came by then: many signals at once need no more room than one.
                permit = requests.reserve(), if offline.position() != acked => {
                    acked = offline.position();
                    let said = acked.map(|seq| Said::Ack(FeedAck { seq }));
                    permit.map_err(|_| lost(UNHEARD))?.send(FeedRequest { said });
                }
                _ = beat.tick() => {
                    // A broker that reads nothing is not waited for: what is known gets older.
                    if let Ok(room) = requests.try_reserve() {
                        let nonce = made_up_key().into_bytes();
                        offline.write().beat(nonce.clone(), boot_time());
                        room.send(FeedRequest { said: Some(Said::Beat(FeedBeat { nonce })) });
                    }
                }
                () = &mut silence => return Err(lost("the broker says nothing any more")),
            }
        }
    }
}

impl Offline {
    /// What is to be said of a token that came with this certificate (DER), if one was proven: see [`Verifier::check`].
    pub fn check(&self, token: &str, audience: &Audience, certificate: Option<&[u8]>) -> Answer {
        let presented = certificate.map(Digest::of);
        self.read().check(token, audience, presented.as_ref(), wall_time(), boot_time())
    }

    /// The same of a token that came with a DPoP proof, in this request. A proof is good once.
    pub fn check_proof(&self, token: &str, audience: &Audience, came: Received<'_>) -> Answer {
        self.read().check(token, audience, Shown::Proof(came), wall_time(), boot_time())
    }

    /// Whether it allows a call: see [`Verifier::allows`].
    ///
    /// # Errors
    /// `out_of_scope`, `frozen`.
    pub fn allows(&self, claims: &Claims, call: &Call) -> Result<(), Error> {
        self.read().allows(claims, call)
    }

    /// Whether what is known is new enough to say yes.
    pub fn is_ready(&self) -> bool {
        !self.read().is_stale(boot_time())
    }

    /// Resolves when what is known is new enough to say yes.
    pub async fn ready(&self) {
        let mut heard = self.0.heard.subscribe();
        while !self.is_ready() {
            // The sender is ours: waiting cannot fail.
            let _ = heard.changed().await;
        }
    }

    /// How old what is known is; none if nothing is.
    pub fn age(&self) -> Option<Duration> {
        self.read().age(boot_time())
    }

    /// All up to this sequence is in force here.
    pub fn position(&self) -> Option<u64> {
        self.read().position().map(|(seq, _)| seq)
    }

    /// Why the feed is not followed now, if it is not.
    pub fn trouble(&self) -> Option<Refusal> {
        self.0.trouble.borrow().clone()
    }

    fn hello(&self) -> FeedHello {
        let verifier = self.read();
        let position = verifier.position();
        FeedHello { after: position.map(|(seq, _)| seq), epoch: position.map_or("", |(_, epoch)| epoch).to_owned() }
    }

    fn take(&self, message: FeedMessage) -> Result<(), Refusal> {
        let message = read(message)?;
        let taken = self.write().apply(message);
        self.0.heard.send_modify(|heard| *heard = heard.wrapping_add(1));
        taken.map_err(|gap| Refusal::new(Code::Unavailable, "feed_gap", gap.to_string()))
    }

    fn read(&self) -> RwLockReadGuard<'_, Verifier> {
        self.0.verifier.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Verifier> {
        self.0.verifier.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often a nonce is sent: what it says is new for a while before it has to be.
fn pace(offline: &Offline) -> Duration {
    (offline.read().staleness() / 4).max(BUSIEST)
}

fn ticking(pace: Duration) -> Interval {
    let mut beat = interval(pace);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat
}

fn lost(why: &str) -> Refusal {
    Refusal::new(Code::Unavailable, "connection_lost", why)
}

/// Half of it to all of it, so that those who lost a broker together do not come back together.
fn jitter(pause: Duration) -> Duration {
    let part = u32::from(made_up_key().bytes().fold(0_u8, u8::wrapping_add));
    pause / 2 + pause / 512 * part
}

/// Time that nobody sets, and that goes on while the machine sleeps.
fn boot_time() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[expect(clippy::disallowed_methods, reason = "a client is a process of its own: nobody hands it the time")]
pub(super) fn wall_time() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
