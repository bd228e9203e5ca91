//! Messages of the feed, to and from the domain.

use super::v1::feed_message::Said as Sent;
use super::v1::feed_signal::Kind;
use super::v1::{
    FeedCut, FeedEcho, FeedFrozen, FeedHalt, FeedHeartbeat, FeedKey, FeedMessage, FeedResume, FeedSignal, FeedState,
    FeedTainted, FeedThawed,
};
use crate::domain::cut::Target;
use crate::domain::digest::Digest;
use crate::domain::error::Error;
use crate::domain::feed::{Message, Part, Said, Signal};
use crate::domain::time::{Span, Timestamp};

/// A message as it is sent.
pub fn message(message: Message) -> FeedMessage {
    let said = match message.said {
        Said::State(part) => Sent::State(state(part)),
        Said::Signal(one) => Sent::Signal(signal(one)),
        Said::Echo(nonce) => Sent::Echo(FeedEcho { nonce }),
        Said::Heartbeat => Sent::Heartbeat(FeedHeartbeat {}),
    };
    FeedMessage { seq: message.seq, prev_seq: message.prev, at: message.at.to_string(), said: Some(said) }
}

fn state(part: Part) -> FeedState {
    let Part { issuer, epoch, staleness, signals, first, last } = part;
    let signals = signals.into_iter().map(signal).collect();
    let max_staleness_ms = staleness.as_millis();
    FeedState { issuer: issuer.to_string(), epoch, max_staleness_ms, signals, first, last }
}

fn signal(signal: Signal) -> FeedSignal {
    let kind = match signal {
        Signal::Cut { target, seq, until, thumbprint } => {
            let thumbprint = thumbprint.map(|thumbprint| thumbprint.0.into()).unwrap_or_default();
            Kind::Cut(FeedCut { target: target.to_string(), seq, until: until.to_string(), thumbprint })
        }
        Signal::Halt { key, why } => Kind::Halt(FeedHalt { key: key.to_string(), why: why.to_string() }),
        Signal::Resume { key } => Kind::Resume(FeedResume { key: key.to_string() }),
        Signal::Frozen { id, scope } => Kind::Frozen(FeedFrozen { id: id.to_string(), scope: scope.to_string() }),
        Signal::Thawed { id } => Kind::Thawed(FeedThawed { id: id.to_string() }),
        Signal::Key { kid, point } => Kind::Key(FeedKey { kid, point }),
        Signal::Tainted { kid } => Kind::Tainted(FeedTainted { kid }),
    };
    FeedSignal { kind: Some(kind) }
}

/// A message as it came. What is not understood is no message: it may be what would have ended something.
///
/// # Errors
/// It says nothing, or something unknown.
pub fn read(message: FeedMessage) -> Result<Message, Error> {
    let said = match message.said {
        Some(Sent::State(state)) => Said::State(read_state(state)?),
        Some(Sent::Signal(signal)) => Said::Signal(read_signal(signal)?),
        Some(Sent::Echo(echo)) => Said::Echo(echo.nonce),
        Some(Sent::Heartbeat(FeedHeartbeat {})) => Said::Heartbeat,
        None => return Err(unknown("a message")),
    };
    Ok(Message { seq: message.seq, prev: message.prev_seq, at: time(&message.at)?, said })
}

fn read_state(state: FeedState) -> Result<Part, Error> {
    let FeedState { issuer, epoch, max_staleness_ms, signals, first, last } = state;
    let signals = signals.into_iter().map(read_signal).collect::<Result<_, _>>()?;
    Ok(Part { issuer: issuer.parse()?, epoch, staleness: Span::millis(max_staleness_ms), signals, first, last })
}

fn read_signal(signal: FeedSignal) -> Result<Signal, Error> {
    Ok(match signal.kind.ok_or_else(|| unknown("a signal"))? {
        Kind::Cut(FeedCut { target, seq, until, thumbprint }) => {
            let thumbprint = bound(&thumbprint)?;
            Signal::Cut { target: target.parse()?, seq, until: time(&until)?, thumbprint }
        }
        Kind::Halt(FeedHalt { key, why }) => Signal::Halt { key: halting(&key)?, why: why.parse()? },
        Kind::Resume(FeedResume { key }) => Signal::Resume { key: halting(&key)? },
        Kind::Frozen(FeedFrozen { id, scope }) => Signal::Frozen { id: id.parse()?, scope: scope.parse()? },
        Kind::Thawed(FeedThawed { id }) => Signal::Thawed { id: id.parse()? },
        Kind::Key(FeedKey { kid, point }) => Signal::Key { kid, point },
        Kind::Tainted(FeedTainted { kid }) => Signal::Tainted { kid },
    })
}

/// A certificate that tokens may be bound to.
fn bound(thumbprint: &[u8]) -> Result<Option<Digest>, Error> {
    match Digest::from_slice(thumbprint) {
        None if !thumbprint.is_empty() => {
            Err(Error::malformed("thumbprint", &format!("{} bytes", thumbprint.len()), "expected 32 bytes, or none"))
        }
        digest => Ok(digest),
    }
}

/// What can be halted.
fn halting(key: &str) -> Result<Target, Error> {
    match key.parse()? {
        key @ (Target::Grant(_) | Target::Task(_) | Target::Agent(_)) => Ok(key),
        _ => Err(Error::malformed("key", key, "expected a grant, a task or an agent")),
    }
}

fn time(text: &str) -> Result<Timestamp, Error> {
    text.parse()
}

fn unknown(what: &str) -> Error {
    Error::malformed("feed", what, "it says something that this version does not know; update this program")
}
