//! Signing keys: made, rotated with notice, tainted at once. The private half never comes here.

use super::ledger::broker_only;
use super::{Context, Decide, Decision};
use crate::domain::cut::Target;
use crate::domain::error::{Code, Error};
use crate::domain::event::Body;
use crate::domain::key::{Key, Phase, Purpose};
use crate::domain::name::Line;
use crate::domain::policy::{AboutTarget, Right};
use crate::domain::time::{Span, Timestamp};

/// The key of a purpose that nobody signs for: the first, or after an authority that is over. Made by the broker for
/// itself.
#[derive(Debug)]
pub struct AddKey {
    /// Its public half.
    pub key: Key,
}

/// Makes a new key for a purpose: published now, in use after its notice. The one before it retires then.
#[derive(Debug)]
pub struct RotateKey {
    /// Its public half.
    pub key: Key,
    /// Without notice: whoever has fetched the keys before does not know it yet.
    pub at_once: bool,
}

/// Refuses everything under a key from now on.
#[derive(Debug)]
pub struct TaintKey {
    /// Which.
    pub kid: String,
    /// Why.
    pub reason: Line,
    /// The key that takes over at once, if the tainted one is in use.
    pub successor: Option<Key>,
}

/// What a taint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tainted {
    /// The purpose of the key.
    pub purpose: Purpose,
    /// Tokens under it that were not over.
    pub tokens: u64,
    /// Certificates under it that were not over.
    pub certificates: u64,
}

impl Decide for AddKey {
    type Answer = ();
    const VERB: &'static str = "key.add";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<()>, Error> {
        broker_only(ctx)?;
        let signer = ctx.view.signer(self.key.purpose, ctx.now);
        if signer.is_some_and(|signer| !signer.is_ending(ctx.now)) {
            return Err(conflict("key_exists", format!("a {} key is in use already", self.key.purpose)));
        }
        let key = in_use_now(ctx, &self.key)?;
        Ok(Decision::new(vec![Body::KeyAdded(key)], ()))
    }
}

impl Decide for RotateKey {
    type Answer = Key;
    const VERB: &'static str = "key.rotate";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Key>, Error> {
        ctx.operator(Right::ManageKeys)?;
        let purpose = self.key.purpose;
        let mut waiting = ctx.view.keys().filter(|key| key.purpose == purpose);
        let waiting = waiting.find(|key| ctx.view.phase(key, ctx.now) == Phase::Published);
        if let Some(key) = waiting.filter(|_| !self.at_once) {
            let message = format!(
                "{purpose} key `{}` waits for its turn at {}; let it come, or use --now",
                key.kid, key.use_from
            );
            return Err(conflict("rotation_pending", message));
        }
        let in_turn = ctx.now.plus(purpose.notice());
        if let Some(signer) = ctx.view.signer(purpose, ctx.now).filter(|key| !self.at_once && key.is_ending(in_turn)) {
            let message = format!(
                "{purpose} key `{}` ends before the next one would come into use at {in_turn}; use --now",
                signer.kid
            );
            return Err(conflict("ends_before", message));
        }
        let mut key = in_use_now(ctx, &self.key)?;
        if !self.at_once {
            key.use_from = in_turn;
        }
        Ok(Decision::new(vec![Body::KeyAdded(key.clone())], key))
    }
}

impl Decide for TaintKey {
    type Answer = Tainted;
    const VERB: &'static str = "key.taint";

    fn is_urgent(&self) -> bool {
        true
    }

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Tainted>, Error> {
        ctx.operator_about(Right::Revoke, Some(AboutTarget { kind: "key", owner: None }))?;
        let unknown = || Error::not_found("key", &self.kid).on("kid");
        let key = ctx.view.key(&self.kid).ok_or_else(unknown)?;
        let phase = ctx.view.phase(key, ctx.now);
        let tainted = extent(ctx, key);
        let mut events = Vec::new();
        match (&self.successor, phase) {
            (_, Phase::Tainted) => return Ok(Decision::new(events, tainted)),
            (None, Phase::Used) => {
                return Err(conflict("no_successor", format!("key `{}` came into use just now; try again", self.kid)));
            }
            (Some(successor), Phase::Used) if successor.purpose == key.purpose => {
                events.push(Body::KeyAdded(in_use_now(ctx, successor)?));
            }
            (Some(_), Phase::Used) => {
                return Err(Error::new(Code::Internal, "other_purpose", "the successor is for another purpose"));
            }
            (_, Phase::Published | Phase::Retiring | Phase::Retired) => {}
        }
        events.push(Body::KeyTainted { kid: self.kid.clone(), reason: self.reason.clone() });
        Ok(Decision::new(events, tainted))
    }
}

/// The key as it is recorded: in use from this batch on.
fn in_use_now(ctx: &Context<'_>, key: &Key) -> Result<Key, Error> {
    if ctx.view.key(&key.kid).is_some() {
        return Err(conflict("key_exists", format!("key `{}` is known already", key.kid)));
    }
    // Two of one moment, which lasts while the clock is behind: the later one is to take over, not the greater id.
    let others = ctx.view.keys().filter(|other| other.purpose == key.purpose);
    let created_at = others.map(|other| other.created_at.plus(Span::millis(1))).fold(ctx.now, Timestamp::max);
    Ok(Key { created_at, use_from: ctx.now, tainted: None, ..key.clone() })
}

fn extent(ctx: &Context<'_>, key: &Key) -> Tainted {
    let view = &ctx.view;
    let tokens = view.tokens().filter(|token| {
        token.kid == key.kid && ctx.now < token.expires_at && view.cut(&Target::Token(token.id)).is_none()
    });
    let certificates = view.certificates().filter(|one| {
        one.authority == key.kid && ctx.now < one.not_after && view.cut(&Target::Certificate(one.id)).is_none()
    });
    Tainted { purpose: key.purpose, tokens: tokens.count() as u64, certificates: certificates.count() as u64 }
}

fn conflict(reason: &'static str, message: String) -> Error {
    Error::new(Code::Conflict, reason, message)
}
