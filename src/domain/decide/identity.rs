//! Identity certificates: recorded, signed once, kept, and only then released.

use subtle::ConstantTimeEq;

use super::{Caller, Context, Decide, Decision};
use crate::domain::agent::{AgentStatus, Identity, Join, Kind};
use crate::domain::cut::Target;
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::event::{Body, CutCounts, Revocation};
use crate::domain::id::{CertificateId, JoinId, RevocationId};
use crate::domain::name::{Line, Name};
use crate::domain::prepared::Prepared;

/// A certificate that is built and linted, waiting to be recorded.
#[derive(Clone, Debug)]
pub struct NewIdentity {
    /// The record, not yet signed.
    pub identity: Identity,
}

/// Turns a join token and a proven key into an identity.
#[derive(Debug)]
pub struct Enroll {
    /// Which join token.
    pub join: JoinId,
    /// SHA-256 of the secret that was presented.
    pub secret_hash: Digest,
    /// The certificate for the proven key.
    pub new: NewIdentity,
}

/// A new identity for the holder of a valid one.
#[derive(Debug)]
pub struct RenewIdentity {
    /// The certificate for the new, proven key.
    pub new: NewIdentity,
}

/// An identity that the broker gives itself, or the operator of a development broker.
#[derive(Debug)]
pub struct RecordOwn {
    /// The certificate.
    pub new: NewIdentity,
}

/// Keeps the signed bytes: durable before anybody gets them.
#[derive(Debug)]
pub struct KeepSigned {
    /// Which certificate.
    pub id: CertificateId,
    /// Its DER.
    pub der: Vec<u8>,
}

/// What an enrolment comes to.
#[derive(Debug)]
pub enum Enrolled {
    /// A recorded certificate, to be signed.
    Sign(Prepared<Identity>),
    /// The same token and key were here before: the certificate that they got.
    Again(Identity),
}

impl Decide for Enroll {
    type Answer = Enrolled;
    const VERB: &'static str = "enroll";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Enrolled>, Error> {
        let join = self.join(ctx)?;
        let identity = &self.new.identity;
        if (identity.kind, &identity.name) != (join.kind, &join.name) {
            return Err(Error::new(Code::Internal, "enroll_mismatch", "the certificate was built for somebody else"));
        }
        may_enroll(ctx, join.kind, &join.name)?;
        ctx.not_cut(Target::Certificate(identity.id))?;
        let (replaces, mut events) = match join.used {
            None => (None, Vec::new()),
            Some((_, key)) if key != identity.key_hash => {
                return Err(refused("join_used", "the join token was used with another key; ask for a new one"));
            }
            Some((earlier, _)) if ctx.view.cut(&Target::Certificate(earlier)).is_some() => {
                return Err(refused("join_used", "the certificate of this join token was revoked; ask for a new one"));
            }
            Some((earlier, _)) => match ctx.view.identity(&earlier) {
                Some(known) if known.der.is_some() => {
                    return Ok(Decision::new(Vec::new(), Enrolled::Again(known.clone())));
                }
                // Recorded, and never known to be signed: that serial is given up for a new one.
                _ => (Some(earlier), vec![give_up(ctx, earlier)]),
            },
        };
        events.push(Body::IdentityRecorded { identity: identity.clone(), join: Some(join.id), replaces });
        Ok(Decision::new(events, Enrolled::Sign(Prepared::recorded(identity.clone()))))
    }
}

impl Enroll {
    /// An unknown token and a wrong secret are one refusal, so that ids cannot be probed.
    fn join<'a>(&self, ctx: &Context<'a>) -> Result<&'a Join, Error> {
        let join = ctx.view.join(&self.join);
        let expected = join.map_or(Digest([0; 32]), |join| join.secret_hash);
        let matches: bool = expected.0.ct_eq(&self.secret_hash.0).into();
        match join {
            Some(join) if matches && ctx.now < join.expires_at => Ok(join),
            Some(_) if matches => Err(refused("join_expired", "the join token has expired; ask for a new one")),
            _ => Err(refused("join_refused", "the join token is not valid here; ask for a new one")),
        }
    }
}

impl Decide for RenewIdentity {
    type Answer = Prepared<Identity>;
    const VERB: &'static str = "identity.renew";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Prepared<Identity>>, Error> {
        let (kind, presenter) = match ctx.caller {
            Caller::Agent(presenter) => (Kind::Agent, presenter),
            Caller::Operator(presenter) => (Kind::Operator, presenter),
            Caller::Broker | Caller::Stranger => {
                return Err(refused("no_identity", "only the holder of an identity renews it"));
            }
        };
        ctx.presentable(presenter)?;
        may_enroll(ctx, kind, &presenter.name)?;
        record(ctx, &self.new, kind, &presenter.name)
    }
}

impl Decide for RecordOwn {
    type Answer = Prepared<Identity>;
    const VERB: &'static str = "identity.own";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Prepared<Identity>>, Error> {
        if *ctx.caller != Caller::Broker {
            return Err(Error::denied("broker_only", "only the broker gives itself an identity"));
        }
        let identity = &self.new.identity;
        if identity.kind != Kind::Server {
            may_enroll(ctx, identity.kind, &identity.name)?;
        }
        record(ctx, &self.new, identity.kind, &identity.name)
    }
}

impl Decide for KeepSigned {
    type Answer = Identity;
    const VERB: &'static str = "identity.keep";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Identity>, Error> {
        let identity = ctx.view.identity(&self.id).ok_or_else(|| Error::not_found("certificate", self.id))?;
        ctx.not_cut(Target::Certificate(self.id))?;
        if ctx.now >= identity.not_after {
            return Err(Error::denied(
                "certificate_expired",
                format!("certificate `{}` ran out before it was kept", self.id),
            ));
        }
        if identity.der.is_some() {
            return Err(Error::new(
                Code::Internal,
                "signed_twice",
                format!("certificate `{}` was signed twice", self.id),
            ));
        }
        let kept = Identity { der: Some(self.der.clone()), ..identity.clone() };
        Ok(Decision::new(vec![Body::IdentitySigned { id: self.id, der: self.der.clone() }], kept))
    }
}

fn record(
    ctx: &Context<'_>,
    new: &NewIdentity,
    kind: Kind,
    name: &Name,
) -> Result<Decision<Prepared<Identity>>, Error> {
    let identity = &new.identity;
    ctx.not_cut(Target::Certificate(identity.id))?;
    if (identity.kind, &identity.name) != (kind, name) {
        return Err(Error::new(Code::Internal, "identity_mismatch", "the certificate was built for somebody else"));
    }
    let event = Body::IdentityRecorded { identity: identity.clone(), join: None, replaces: None };
    Ok(Decision::new(vec![event], Prepared::recorded(identity.clone())))
}

fn may_enroll(ctx: &Context<'_>, kind: Kind, name: &Name) -> Result<(), Error> {
    let known = match kind {
        Kind::Agent => ctx.view.agent(name).is_some_and(|agent| agent.status == AgentStatus::Active),
        Kind::Operator => ctx.view.operator(name).is_some_and(|operator| !operator.removed),
        Kind::Server => false,
    };
    if known { Ok(()) } else { Err(Error::denied("not_active", format!("{kind} `{name}` may not enroll now"))) }
}

fn give_up(ctx: &mut Context<'_>, earlier: CertificateId) -> Body {
    let target = Target::Certificate(earlier);
    let reason: Result<Line, _> = "its signature was never kept".parse();
    Body::Revoked(Revocation {
        id: RevocationId::mint(ctx.now, ctx.entropy),
        until: target.forget_at(ctx.now),
        target,
        tree: None,
        reason: reason.expect("a fixed text is a line"),
        known: true,
        cut: CutCounts { certificates: 1, ..CutCounts::default() },
    })
}

fn refused(reason: &'static str, message: &str) -> Error {
    Error::new(Code::Unauthenticated, reason, message)
}
