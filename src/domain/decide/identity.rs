//! Identities: who gets a certificate of its own, by a join token or by the one before.

use subtle::ConstantTimeEq;

use super::certificate::{give_up, signed_by_the_signer};
use super::{Caller, Context, Decide, Decision};
use crate::domain::agent::{AgentStatus, Join, Kind};
use crate::domain::certificate::Certificate;
use crate::domain::cut::Target;
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::event::Body;
use crate::domain::id::JoinId;
use crate::domain::name::Name;
use crate::domain::prepared::Prepared;

/// Turns a join token and a proven key into an identity.
#[derive(Debug)]
pub struct Enroll {
    /// Which join token.
    pub join: JoinId,
    /// SHA-256 of the secret that was presented.
    pub secret_hash: Digest,
    /// For whom the token must be, if whoever enrolls says so.
    pub wanted: Option<Kind>,
    /// The certificate for the proven key.
    pub new: Certificate,
}

/// A new identity for the holder of a valid one.
#[derive(Debug)]
pub struct RenewIdentity {
    /// The certificate for the new, proven key.
    pub new: Certificate,
}

/// An identity that the broker gives itself, or the operator of a development broker.
#[derive(Debug)]
pub struct RecordOwn {
    /// The certificate.
    pub new: Certificate,
}

/// What an enrolment comes to.
#[derive(Debug)]
pub enum Enrolled {
    /// A recorded certificate, to be signed.
    Sign(Prepared<Certificate>),
    /// The same token and key were here before: the certificate that they got.
    Again(Certificate),
}

impl Decide for Enroll {
    type Answer = Enrolled;
    const VERB: &'static str = "enroll";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Enrolled>, Error> {
        let join = self.join(ctx)?;
        if let Some(wanted) = self.wanted.filter(|wanted| *wanted != join.kind) {
            let message = format!(
                "the join token is for the {0} `{1}`, not for an {wanted}: `belay {0} enroll`",
                join.kind, join.name
            );
            return Err(Error::new(Code::Invalid, "join_kind", message).on("join_token"));
        }
        let identity = &self.new;
        if (identity.kind, &identity.name, identity.grant) != (join.kind, &join.name, None) {
            return Err(Error::new(Code::Internal, "enroll_mismatch", "the certificate was built for somebody else"));
        }
        may_enroll(ctx, join.kind, &join.name)?;
        signed_by_the_signer(ctx, identity)?;
        ctx.not_cut(Target::Certificate(identity.id))?;
        let (replaces, mut events) = match join.used {
            None => (None, Vec::new()),
            Some((_, key)) if key != identity.key_hash => {
                return Err(refused("join_used", "the join token was used with another key; ask for a new one"));
            }
            Some((earlier, _)) if ctx.view.cut(&Target::Certificate(earlier)).is_some() => {
                return Err(refused("join_used", "the certificate of this join token was revoked; ask for a new one"));
            }
            Some((earlier, _)) => match ctx.view.certificate(&earlier) {
                Some(known) if known.der.is_some() && !ctx.view.is_tainted(&known.authority) => {
                    return Ok(Decision::new(Vec::new(), Enrolled::Again(known.clone())));
                }
                // Recorded, and never known to be signed: that serial is given up for a new one.
                _ => (Some(earlier), vec![give_up(ctx, earlier)]),
            },
        };
        is_of_no_grant(ctx, identity)?;
        events.push(Body::CertificateRecorded { certificate: identity.clone(), join: Some(join.id), replaces });
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
    type Answer = Prepared<Certificate>;
    const VERB: &'static str = "identity.renew";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Prepared<Certificate>>, Error> {
        let (kind, presenter) = match ctx.caller {
            Caller::Agent(presenter) => (Kind::Agent, presenter),
            Caller::Operator(presenter) => (Kind::Operator, presenter),
            Caller::Pep(presenter) => (Kind::Pep, presenter),
            Caller::Holder(_) | Caller::Broker | Caller::Stranger => {
                return Err(refused("no_identity", "only the holder of an identity renews it"));
            }
        };
        ctx.presentable(presenter)?;
        may_enroll(ctx, kind, &presenter.name)?;
        is_of_no_grant(ctx, &self.new)?;
        record(ctx, &self.new, kind, &presenter.name)
    }
}

impl Decide for RecordOwn {
    type Answer = Prepared<Certificate>;
    const VERB: &'static str = "identity.own";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Prepared<Certificate>>, Error> {
        if *ctx.caller != Caller::Broker {
            return Err(Error::denied("broker_only", "only the broker gives itself an identity"));
        }
        let identity = &self.new;
        if identity.kind != Kind::Server {
            may_enroll(ctx, identity.kind, &identity.name)?;
        }
        record(ctx, &self.new, identity.kind, &identity.name)
    }
}

fn record(
    ctx: &Context<'_>,
    identity: &Certificate,
    kind: Kind,
    name: &Name,
) -> Result<Decision<Prepared<Certificate>>, Error> {
    ctx.not_cut(Target::Certificate(identity.id))?;
    signed_by_the_signer(ctx, identity)?;
    if (identity.kind, &identity.name, identity.grant) != (kind, name, None) {
        return Err(Error::new(Code::Internal, "identity_mismatch", "the certificate was built for somebody else"));
    }
    let event = Body::CertificateRecorded { certificate: identity.clone(), join: None, replaces: None };
    Ok(Decision::new(vec![event], Prepared::recorded(identity.clone())))
}

fn may_enroll(ctx: &Context<'_>, kind: Kind, name: &Name) -> Result<(), Error> {
    let known = match kind {
        Kind::Agent => ctx.view.agent(name).is_some_and(|agent| agent.status == AgentStatus::Active),
        Kind::Operator => ctx.view.operator(name).is_some_and(|operator| !operator.removed),
        Kind::Pep => ctx.view.pep(name).is_some_and(|pep| pep.retired.is_none()),
        Kind::Server => false,
    };
    if known { Ok(()) } else { Err(Error::denied("not_active", format!("{kind} `{name}` may not enroll now"))) }
}

/// Who was handed the key of a certificate under a grant is to do what that grant says, not to be its holder.
fn is_of_no_grant(ctx: &Context<'_>, identity: &Certificate) -> Result<(), Error> {
    if ctx.view.certificates_for(&identity.key_hash).iter().all(|known| known.grant.is_none()) {
        return Ok(());
    }
    let why = "the key is that of a certificate under a grant; make a new one for an identity";
    Err(Error::denied("key_in_use", why).on("csr"))
}

fn refused(reason: &'static str, message: &str) -> Error {
    Error::new(Code::Unauthenticated, reason, message)
}
