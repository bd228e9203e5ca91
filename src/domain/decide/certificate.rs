//! Certificates under a grant, and what all certificates share: signed once, kept, and only then released.

use super::token::chain;
use super::{Context, Decide, Decision, key_of_the_past};
use crate::domain::agent::Kind;
use crate::domain::certificate::Certificate;
use crate::domain::cut::Target;
use crate::domain::error::{Code, Error};
use crate::domain::event::{Body, CutCounts, Revocation};
use crate::domain::exposure::tightest;
use crate::domain::grant::{Grant, Link};
use crate::domain::id::{CertificateId, GrantId, RevocationId};
use crate::domain::name::Line;
use crate::domain::prepared::Prepared;
use crate::domain::time::Timestamp;

/// Asks what a certificate under a grant would say, if the caller may have one now. Nothing comes of it.
#[derive(Debug)]
pub struct CertificateTerms {
    /// Which grant.
    pub grant: GrantId,
}

/// What a certificate under a grant is built from. The chain and the grant's sequence never change.
#[derive(Debug)]
pub struct Terms {
    /// The grant, as it is now.
    pub grant: Grant,
    /// Root first; the last is the grant.
    pub chain: Vec<Link>,
}

/// Asks for a certificate under a grant that the caller holds, for a key that it proved to hold.
#[derive(Debug)]
pub struct IssueCertificate {
    /// The certificate, built and linted: it names the grant.
    pub new: Certificate,
}

/// Keeps the signed bytes: durable before anybody gets them.
#[derive(Debug)]
pub struct KeepSigned {
    /// Which certificate.
    pub id: CertificateId,
    /// Its DER.
    pub der: Vec<u8>,
}

/// What asking for a certificate comes to.
#[derive(Debug)]
pub enum CertificateAnswer {
    /// Recorded, to be signed.
    Sign(Prepared<Certificate>),
    /// Made before, by the same request: the very same bytes.
    Again(Certificate),
}

impl Decide for CertificateTerms {
    type Answer = Terms;
    const VERB: &'static str = "cert.terms";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Terms>, Error> {
        let grant = held(ctx, self.grant)?;
        let chain = chain(&ctx.view, grant);
        let grant = Grant { expires_at: latest_end(ctx, grant), ..grant.clone() };
        Ok(Decision::new(Vec::new(), Terms { grant, chain }))
    }
}

impl Decide for IssueCertificate {
    type Answer = CertificateAnswer;
    const VERB: &'static str = "cert.issue";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<CertificateAnswer>, Error> {
        let new = &self.new;
        let mismatch = || Error::new(Code::Internal, "certificate_mismatch", "the certificate was built for another");
        let grant = held(ctx, new.grant.ok_or_else(mismatch)?)?;
        let (mut replaces, mut events) = (None, Vec::new());
        if let Some(earlier) = ctx.replayed::<Self>()?.and_then(|made| made.certificate) {
            let known = ctx.view.certificate(&earlier).filter(|one| ctx.now < one.not_after);
            let known = known.filter(|one| !ctx.view.is_tainted(&one.authority));
            let known = known.filter(|_| ctx.view.cut(&Target::Certificate(earlier)).is_none());
            match known.ok_or_else(|| key_of_the_past("certificate_over", earlier))? {
                signed if signed.der.is_some() => {
                    return Ok(Decision::new(Vec::new(), CertificateAnswer::Again(signed.clone())));
                }
                // Recorded, and never known to be signed: that serial is given up for a new one.
                _ => {
                    replaces = Some(earlier);
                    events.push(give_up(ctx, earlier));
                }
            }
        }
        if (new.kind, &new.name) != (Kind::Agent, &grant.agent) {
            return Err(mismatch());
        }
        // Built before the turn: the grant may have been renewed since, but it never ends earlier than it said.
        if new.not_after > latest_end(ctx, grant) {
            return Err(Error::new(Code::Internal, "outlives_grant", "the certificate would outlive its grant"));
        }
        if new.not_after <= ctx.now {
            let message = format!("grant `{}` has less than two seconds left; renew it first", grant.id);
            return Err(Error::denied("too_short", message));
        }
        ctx.not_all_frozen(&grant.scopes)?;
        signed_by_the_signer(ctx, new)?;
        is_for_this_grant_alone(ctx, new)?;
        ctx.not_cut(Target::Certificate(new.id))?;
        events.push(Body::CertificateRecorded { certificate: new.clone(), join: None, replaces });
        Ok(Decision::new(events, CertificateAnswer::Sign(Prepared::recorded(new.clone()))))
    }
}

impl Decide for KeepSigned {
    type Answer = Certificate;
    const VERB: &'static str = "certificate.keep";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Certificate>, Error> {
        let recorded = ctx.view.certificate(&self.id).ok_or_else(|| Error::not_found("certificate", self.id))?;
        ctx.not_cut(Target::Certificate(self.id))?;
        if ctx.now >= recorded.not_after {
            let message = format!("certificate `{}` ran out before it was kept", self.id);
            return Err(Error::denied("certificate_expired", message));
        }
        if ctx.view.is_tainted(&recorded.authority) {
            let message = format!("the authority of certificate `{}` was tainted before it was kept", self.id);
            return Err(Error::denied("key_tainted", message));
        }
        if let Some(grant) = recorded.grant {
            ctx.is_live(ctx.view.grant(grant).ok_or_else(|| Error::not_found("grant", grant))?)?;
        }
        if recorded.der.is_some() {
            let message = format!("certificate `{}` was signed twice", self.id);
            return Err(Error::new(Code::Internal, "signed_twice", message));
        }
        let kept = Certificate { der: Some(self.der.clone()), ..recorded.clone() };
        Ok(Decision::new(vec![Body::CertificateSigned { id: self.id, der: self.der.clone() }], kept))
    }
}

/// The grant, if the caller holds it and may have something issued under it now.
fn held<'a>(ctx: &Context<'a>, grant: GrantId) -> Result<&'a Grant, Error> {
    let (agent, _) = ctx.agent()?;
    let grant = ctx.own_grant(grant, &agent.name).map_err(|error| error.on("grant"))?;
    ctx.is_live(grant)?;
    Ok(grant)
}

/// When a certificate under the grant ends at the latest: whoever takes one may ask nobody, so that where an exposure is
/// demanded, its whole life is no longer.
fn latest_end(ctx: &Context<'_>, grant: &Grant) -> Timestamp {
    let longest = tightest(&ctx.view, &grant.limits, grant.parent).map(|longest| ctx.now.plus(longest));
    longest.into_iter().fold(grant.expires_at, Timestamp::min)
}

/// Who has the key of a credential may do what its grant says and no more: so it is the key of no identity, of no
/// other grant, and of nobody else. One whose certificate was revoked may have been stolen. An authority's is
/// not looked for: the request proved possession, and that key does not leave the broker.
fn is_for_this_grant_alone(ctx: &Context<'_>, new: &Certificate) -> Result<(), Error> {
    for known in ctx.view.certificates_for(&new.key_hash) {
        if known.grant != new.grant {
            let why = "the key is in use already, by an identity or under another grant; make one for this grant alone";
            return Err(Error::denied("key_in_use", why).on("csr"));
        }
        // What was given up unsigned was revoked for its serial, not for its key.
        if known.der.is_some() && ctx.view.cut(&Target::Certificate(known.id)).is_some() {
            let why = format!("certificate `{}` for this key was revoked; make a new key", known.id);
            return Err(Error::denied("key_revoked", why).on("csr"));
        }
    }
    Ok(())
}

/// A certificate is built before the turn: if the authority has changed since, it is built again.
pub(super) fn signed_by_the_signer(ctx: &Context<'_>, certificate: &Certificate) -> Result<(), Error> {
    let signer = ctx.view.authority(certificate.kind, ctx.now);
    if signer.is_some_and(|signer| signer.kid == certificate.authority) {
        return Ok(());
    }
    Err(Error::new(Code::Unavailable, "authority_changed", "the authority changed just now; try again"))
}

pub(super) fn give_up(ctx: &mut Context<'_>, earlier: CertificateId) -> Body {
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
