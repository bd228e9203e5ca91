//! The verifier: what it was told, how old that is, and what it answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::keys::{Bounds, Keys};
use super::known::Known;
use super::proofs::Proofs;
use super::seen::Seen;
use crate::domain::confirmation::Confirmation;
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::feed::{Message, Part, Said};
use crate::domain::name::Audience;
use crate::domain::scope::Call;
use crate::domain::time::{Span, Timestamp};
use crate::format::dpop::{AHEAD, Proof, Received, Target};
use crate::format::jwt::Claims;

/// Tokens remembered in each half, with all that they say.
const SEEN: usize = 2048;
/// Nonces that may be under way: the oldest is given up for another.
const UNDER_WAY: usize = 64;

/// What a verifier says of a token. Only the first lets anything through.
#[derive(Debug)]
pub enum Answer {
    /// It is good, as far as was known at most the declared staleness ago.
    Valid(Arc<Claims>),
    /// It is not, and asking again will not help, but for what is suspended.
    Invalid(Error),
    /// It cannot be said: too little is known, or too old. Refuse, or ask the broker.
    Unavailable(Error),
}

/// What came with a token.
#[derive(Clone, Copy, Debug)]
pub enum Shown<'a> {
    /// Nothing: no token is good so.
    Nothing,
    /// SHA-256 of the certificate that the presenter proved to hold.
    Certificate(&'a Digest),
    /// A DPoP proof (RFC 9449), with the request that both came with. It is good once.
    Proof(Received<'a>),
}

impl<'a> From<Option<&'a Digest>> for Shown<'a> {
    fn from(certificate: Option<&'a Digest>) -> Self {
        certificate.map_or(Self::Nothing, Self::Certificate)
    }
}

/// A message was missed: what is known stays, and ages. Follow the feed anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the feed goes on behind {said}, and only what came up to {known} is known; subscribe again")]
pub struct Gap {
    /// All up to this sequence is known.
    pub known: u64,
    /// What the message followed.
    pub said: u64,
}

/// Checks tokens offline, by what the feed of an enforcement point says.
///
/// Monotonic times are since any one moment, the same for all calls, by a clock that nobody sets and that goes on while
/// the machine sleeps.
///
/// ```
/// use std::time::Duration;
/// use belay::domain::{digest::Digest, scope::Call, time::Timestamp};
/// use belay::verifier::{Answer, Verifier};
///
/// # fn serve(verifier: &Verifier, token: &str, peer: &[u8], now: Timestamp, since_start: Duration) -> bool {
/// let us = "https://orders.example".parse().unwrap();
/// // The certificate that the caller proved over TLS: a stolen token comes with another one.
/// match verifier.check(token, &us, Some(&Digest::of(peer)), now, since_start) {
///     Answer::Valid(claims) => {
///         let call = Call::parse("postgres", "select", "db/orders").unwrap();
///         verifier.allows(&claims, &call).is_ok()
///     }
///     Answer::Invalid(_) | Answer::Unavailable(_) => false,
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Verifier {
    /// The bound that the service declares.
    declared: Duration,
    /// The lesser of that and the one that the enforcement point was registered with.
    staleness: Duration,
    keys: Option<Keys>,
    known: Known,
    /// All up to this sequence is known; none before the first whole state.
    upto: Option<u64>,
    /// A state that is still arriving.
    arriving: Option<(Part, Known)>,
    missed: bool,
    under_way: VecDeque<(Vec<u8>, Duration)>,
    /// When the last nonce that was echoed had been sent.
    fresh: Option<Duration>,
    seen: Seen<Claims>,
    /// When the first nonce was sent: proofs of before may have been shown to another process.
    began: Option<Duration>,
    proofs: Proofs,
}

impl Verifier {
    /// One that knows nothing yet. What it knows may be as old as `staleness`, or as the enforcement point was
    /// registered with, whichever is less; beyond that it refuses.
    pub fn new(staleness: Duration) -> Self {
        Self {
            declared: staleness,
            staleness,
            keys: None,
            known: Known::default(),
            upto: None,
            arriving: None,
            missed: false,
            under_way: VecDeque::new(),
            fresh: None,
            seen: Seen::new(SEEN),
            began: None,
            proofs: Proofs::default(),
        }
    }

    /// Whether the token is good: signature, issuer, epoch, audience, time, possession, and everything that it hangs on.
    ///
    /// `shown` is what the presenter proved to hold: a certificate, as `Some(&digest)`, or a key, as [`Shown::Proof`]. A
    /// proof that made a token valid is spent.
    pub fn check<'a>(
        &self,
        token: &str,
        audience: &Audience,
        shown: impl Into<Shown<'a>>,
        now: Timestamp,
        monotonic: Duration,
    ) -> Answer {
        let Some(keys) = &self.keys else {
            return Answer::Unavailable(unavailable("feed_incomplete", "nothing came from the feed yet".to_owned()));
        };
        let stale = self.is_stale(monotonic);
        let claims = match self.read(keys, token) {
            Ok(claims) => claims,
            // The key may be newer than what is known.
            Err(error) if error.reason == "key_unknown" && stale => return Answer::Unavailable(self.stale(monotonic)),
            Err(error) => return Answer::Invalid(error),
        };
        let proof = match holds(token, &claims, audience, shown.into(), now) {
            Ok(proof) => proof,
            Err(error) => return Answer::Invalid(error),
        };
        match self.known.refuses(&claims) {
            Some(refused) if !(stale && refused.for_now) => return Answer::Invalid(refused.error),
            _ if stale => return Answer::Unavailable(self.stale(monotonic)),
            _ => {}
        }
        match proof.map(|proof| self.spend(&proof, &claims.client_id, now, monotonic)) {
            Some(Err(error)) => Answer::Invalid(error),
            Some(Ok(())) | None => Answer::Valid(claims),
        }
    }

    /// Whether the token's scopes allow the call, and no freeze stops it. A freeze stops it here whatever its bound of
    /// sensitivity says: a verifier knows no catalog.
    ///
    /// # Errors
    /// `out_of_scope`, `frozen`.
    pub fn allows(&self, claims: &Claims, call: &Call) -> Result<(), Error> {
        if !claims.scopes.allow(call) {
            return Err(Error::denied("out_of_scope", claims.scopes.why_not(call)));
        }
        match self.known.freeze_of(call) {
            Some(id) => Err(Error::denied("frozen", format!("freeze `{id}` stops `{call}`"))),
            None => Ok(()),
        }
    }

    /// What a token says, if its signature is good. The signature is looked at once.
    fn read(&self, keys: &Keys, token: &str) -> Result<Arc<Claims>, Error> {
        let text = Digest::of(token.as_bytes());
        if let Some(known) = self.seen.find(&text)
            && (keys.knows(&known.kid) || self.known.is_tainted(&known.kid))
        {
            return Ok(known);
        }
        match keys.read(token) {
            Ok(claims) => Ok(self.seen.put(text, claims)),
            Err(error) if error.reason == "key_unknown" => Err(self.tainted(token).unwrap_or(error)),
            Err(error) => Err(error),
        }
    }

    /// A better word for a key that is not known any more.
    fn tainted(&self, token: &str) -> Option<Error> {
        let token = crate::format::jwt::parse(token).ok()?;
        let message = "the token is signed with a key that is not trusted any more; ask for a new one";
        self.known.is_tainted(token.kid()).then(|| Error::denied("key_tainted", message))
    }

    /// A proof is good once, and not if it could have been shown before this verifier began.
    fn spend(&self, proof: &Proof, holder: &str, now: Timestamp, monotonic: Duration) -> Result<(), Error> {
        let running = self.began.map(|began| monotonic.saturating_sub(began)).unwrap_or_default();
        let running = Span::millis(i64::try_from(running.as_millis()).unwrap_or(i64::MAX));
        self.proofs.spend(proof, holder, None, now, |now| match now.since(proof.issued_at).plus(AHEAD) < running {
            true => Ok(()),
            false => {
                let why = "it may have been shown before this service began; make another in five seconds";
                Err(Error::denied("dpop_invalid", format!("the DPoP proof is not good: {why}")))
            }
        })
    }

    /// Shows it what came over the feed. Its order is the feed's.
    ///
    /// # Errors
    /// Something was missed: nothing more is taken until [`Verifier::reconnected`], and what is known ages.
    pub fn apply(&mut self, message: Message) -> Result<(), Gap> {
        let Message { seq, prev, at, said } = message;
        if let Said::State(part) = said {
            return self.arrive(seq, part);
        }
        let known = self.upto.unwrap_or(0);
        if self.missed || self.arriving.is_some() || self.upto.is_none() || prev > known {
            self.missed = true;
            return Err(Gap { known, said: prev });
        }
        match said {
            Said::Signal(signal) if seq > known => {
                self.known.take(signal);
                self.take_keys();
            }
            Said::Echo(nonce) => self.echoed(&nonce),
            Said::Signal(_) | Said::State(_) | Said::Heartbeat => {}
        }
        self.known.tidy(at);
        self.upto = Some(known.max(seq));
        Ok(())
    }

    fn arrive(&mut self, seq: u64, mut part: Part) -> Result<(), Gap> {
        let signals = std::mem::take(&mut part.signals);
        let (first, last) = (part.first, part.last);
        if first {
            self.arriving = Some((part, Known::default()));
        }
        let Some((_, arriving)) = &mut self.arriving else {
            self.missed = true;
            return Err(Gap { known: self.upto.unwrap_or(0), said: seq });
        };
        signals.into_iter().for_each(|signal| arriving.take(signal));
        if let Some((part, known)) = self.arriving.take_if(|_| last) {
            let Part { issuer, epoch, staleness, .. } = part;
            if self.keys.as_ref().is_some_and(|keys| keys.epoch != epoch) {
                self.seen = Seen::new(SEEN);
            }
            let registered = Duration::from_millis(u64::try_from(staleness.as_millis()).unwrap_or(0));
            self.staleness = self.declared.min(registered);
            self.keys = Some(Keys { issuer, epoch, keys: Vec::new() });
            self.known = known;
            self.take_keys();
            (self.upto, self.missed) = (Some(seq), false);
        }
        Ok(())
    }

    fn take_keys(&mut self) {
        if let Some(keys) = self.keys.as_mut().filter(|keys| keys.keys.len() != self.known.keys.len()) {
            keys.keys.clone_from(&self.known.keys);
        }
    }

    /// A nonce is about to be sent. What the feed says once it is echoed was true then.
    pub fn beat(&mut self, nonce: Vec<u8>, monotonic: Duration) {
        self.began.get_or_insert(monotonic);
        if self.under_way.len() == UNDER_WAY {
            self.under_way.pop_front();
        }
        self.under_way.push_back((nonce, monotonic));
    }

    fn echoed(&mut self, nonce: &[u8]) {
        let Some(at) = self.under_way.iter().position(|(sent, _)| sent == nonce) else { return };
        // Those before it were answered, or never will be.
        if let Some((_, sent)) = self.under_way.drain(..=at).next_back() {
            self.fresh = self.fresh.max(Some(sent));
        }
    }

    /// The feed is followed anew. What is known stays; what was under way is lost.
    pub fn reconnected(&mut self) {
        self.under_way.clear();
        (self.arriving, self.missed) = (None, false);
    }

    /// All up to this sequence of this epoch is known: where to go on. None before the first whole state.
    pub fn position(&self) -> Option<(u64, &str)> {
        Some((self.upto?, self.keys.as_ref()?.epoch.as_str()))
    }

    /// How old what is known may be.
    pub fn staleness(&self) -> Duration {
        self.staleness
    }

    /// How old it is; none before the first echo.
    pub fn age(&self, monotonic: Duration) -> Option<Duration> {
        self.fresh.map(|fresh| monotonic.saturating_sub(fresh))
    }

    /// Whether it is older than it may be. Then nothing is valid.
    pub fn is_stale(&self, monotonic: Duration) -> bool {
        self.upto.is_none() || self.age(monotonic).is_none_or(|age| age > self.staleness)
    }

    fn stale(&self, monotonic: Duration) -> Error {
        let most = self.staleness;
        let message = match self.age(monotonic) {
            Some(age) => {
                format!("what the feed said is {age:.1?} old, and may be {most:.1?}; is the broker reachable?")
            }
            None => "the feed has not said yet that it is up to date; try again in a moment".to_owned(),
        };
        unavailable("feed_stale", message)
    }
}

/// Holds if the token is for us, in time, and in its holder's hands: with the proof of that, where it is one.
fn holds(
    token: &str,
    claims: &Claims,
    audience: &Audience,
    shown: Shown<'_>,
    now: Timestamp,
) -> Result<Option<Proof>, Error> {
    if claims.audience != *audience {
        let message = format!("token `{}` is for `{}`, not for `{audience}`", claims.id, claims.audience);
        return Err(Error::denied("token_audience", message));
    }
    let bounds = Bounds::of(claims);
    let held = |confirmation| bounds.hold(Some(&confirmation), now);
    match shown {
        // No token is bound to this.
        Shown::Nothing => held(Confirmation::Certificate(Digest([0; 32]))).map(|()| None),
        Shown::Certificate(digest) => held(Confirmation::Certificate(*digest)).map(|()| None),
        Shown::Proof(received) => {
            let proof = Proof::read(received.proof)?;
            held(Confirmation::Key(proof.key))?;
            let place =
                Target::parse(received.url).ok_or_else(|| Error::malformed("url", received.url, "use https://…"))?;
            proof.is_for(received.method, &[place], Some(token))?;
            Ok(Some(proof))
        }
    }
}

fn unavailable(reason: &'static str, message: String) -> Error {
    Error::new(Code::Unavailable, reason, message)
}
