//! Identity certificates: built and linted, recorded, signed once, kept, and then handed over.

use super::{Asked, Broker};
use crate::domain::agent::Kind;
use crate::domain::certificate::Certificate;
use crate::domain::decide::{Caller, Enroll, Enrolled, KeepSigned, RecordOwn, RenewIdentity};
use crate::domain::entropy::Entropy;
use crate::domain::error::{Code, Error};
use crate::domain::id::CertificateId;
use crate::domain::name::Name;
use crate::domain::prepared::Prepared;
use crate::domain::time::{AUTHORITY_MARGIN, IDENTITY_LIFE, Span, Timestamp};
use crate::format::join::JoinToken;
use crate::ledger::Point;
use crate::sign::{Unsigned, Wanted};

/// Backdating, for clocks that are a little slow.
pub(super) const BACKDATE: Span = Span::seconds(60);

/// A certificate, durable and handed over.
#[derive(Debug)]
pub struct Issued {
    /// Its record.
    pub identity: Certificate,
    /// Its bytes (DER).
    pub der: Vec<u8>,
    /// Whose it is.
    pub spiffe_id: String,
}

/// What the broker wants for itself, or gives an operator on behalf of whoever holds its master key.
#[derive(Debug)]
pub struct OwnIdentity {
    /// Server or operator.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// The public key (SubjectPublicKeyInfo, DER).
    pub spki: Vec<u8>,
    /// DNS names and IP addresses of a server.
    pub names: Vec<String>,
    /// The request's id in the log: what it was for.
    pub why: &'static str,
}

impl Broker {
    /// Turns a join token and a proven key into an identity. The same token and key get the same certificate.
    ///
    /// # Errors
    /// The token is not valid, or the key was not made for it.
    pub async fn enroll(
        &self,
        asked: &Asked,
        token: &JoinToken,
        wanted: Option<Kind>,
        spki: &[u8],
        may_have: impl FnOnce(&str) -> Result<(), Error>,
    ) -> Result<Issued, Error> {
        // Whose identity it gives is needed to build it; the turn decides whether the token is worth anything.
        let known = self.ledger.view(|view| view.join(&token.id).map(|join| (join.kind, join.name.clone())));
        let (kind, name) = known.ok_or_else(|| {
            Error::new(Code::Unauthenticated, "join_refused", "the join token is not valid here; ask for a new one")
        })?;
        may_have(&self.ledger.view(|view| view.spiffe_id(kind, &name)))?;
        let attempt = async || {
            let (identity, unsigned) = self.build(kind, &name, spki, &[])?;
            let command = Enroll { join: token.id, secret_hash: token.secret_hash(), wanted, new: identity };
            match self.submit(asked, command).await? {
                Enrolled::Sign(recorded) => self.finish(asked, recorded, unsigned).await,
                Enrolled::Again(identity) => self.handed_over(identity),
            }
        };
        match attempt().await {
            Err(error) if is_of_a_change(&error) => attempt().await,
            outcome => outcome,
        }
    }

    /// A new certificate for the holder of a valid one.
    ///
    /// # Errors
    /// The caller has no identity, or may not act now.
    pub async fn renew(
        &self,
        asked: &Asked,
        spki: &[u8],
        may_have: impl FnOnce(&str) -> Result<(), Error>,
    ) -> Result<Issued, Error> {
        let (kind, name) = match &asked.caller {
            Caller::Agent(presenter) => (Kind::Agent, &presenter.name),
            Caller::Operator(presenter) => (Kind::Operator, &presenter.name),
            Caller::Pep(presenter) => (Kind::Pep, &presenter.name),
            Caller::Holder(_) | Caller::Broker | Caller::Stranger => {
                return Err(Error::new(
                    Code::Unauthenticated,
                    "no_identity",
                    "only the holder of an identity renews it",
                ));
            }
        };
        may_have(&self.ledger.view(|view| view.spiffe_id(kind, name)))?;
        let attempt = async || {
            let (identity, unsigned) = self.build(kind, name, spki, &[])?;
            let recorded = self.submit(asked, RenewIdentity { new: identity }).await?;
            self.finish(asked, recorded, unsigned).await
        };
        match attempt().await {
            Err(error) if is_of_a_change(&error) => attempt().await,
            outcome => outcome,
        }
    }

    /// An identity for the broker's own listeners, or for an operator that its administrator names.
    ///
    /// # Errors
    /// It could not be recorded or signed.
    pub async fn own_identity(&self, own: OwnIdentity) -> Result<Issued, Error> {
        let asked = Asked::broker(own.why);
        let attempt = async || {
            let (identity, unsigned) = self.build(own.kind, &own.name, &own.spki, &own.names)?;
            let recorded = self.submit(&asked, RecordOwn { new: identity }).await?;
            self.finish(&asked, recorded, unsigned).await
        };
        match attempt().await {
            Err(error) if is_of_a_change(&error) => attempt().await,
            outcome => outcome,
        }
    }

    fn build(&self, kind: Kind, name: &Name, spki: &[u8], names: &[String]) -> Result<(Certificate, Unsigned), Error> {
        let now = self.ledger.now();
        let id = CertificateId::mint(now, &mut Entropy::from_seed(self.ledger.seed()));
        // Whoever checks a certificate goes by the wall clock, which may be behind the log.
        let start = now.min(self.ledger.wall());
        let (authority, ends) = self.signing_authority(kind)?;
        let not_before = start.minus(BACKDATE).whole_seconds();
        let not_after = start.plus(IDENTITY_LIFE).whole_seconds().min(ends);
        if not_after <= now {
            let why = "the log is a day ahead of the clock; nothing is issued until the clock is set right";
            return Err(Error::new(Code::Unavailable, "clock_behind", why));
        }
        let keys = self.keys.holding(&authority, &self.ledger, &self.origin)?;
        keys.ring.prepare(&authority, Wanted { id, kind, name, spki, names, not_before, not_after, under: None })
    }

    /// The authority that signs for this kind of party, and its end. It stops signing a while before that.
    pub(super) fn signing_authority(&self, kind: Kind) -> Result<(String, Timestamp), Error> {
        let now = self.ledger.now();
        let signer = self.ledger.view(|view| {
            let key = view.authority(kind, now)?;
            Some((key.kid.clone(), key.not_after?))
        });
        let (kid, ends) = signer.ok_or_else(|| {
            Error::new(Code::Unavailable, "no_key", "there is no certificate authority in use; rotate it")
        })?;
        if now.plus(AUTHORITY_MARGIN) >= ends {
            let why = format!("the certificate authority ends at {ends}; nothing is issued under it, rotate it first");
            return Err(Error::new(Code::Unavailable, "authority_expired", why));
        }
        Ok((kid, ends))
    }

    pub(super) async fn finish(
        &self,
        asked: &Asked,
        recorded: Prepared<Certificate>,
        unsigned: Unsigned,
    ) -> Result<Issued, Error> {
        let id = recorded.get().id;
        Point::BeforeSigning.reached();
        let authority = &recorded.get().authority;
        let keys = self.keys.holding(authority, &self.ledger, &self.origin)?;
        if self.ledger.view(|view| view.is_tainted(authority)) {
            let message = format!("the authority of certificate `{id}` was tainted just now; try again");
            return Err(Error::new(Code::Unavailable, "key_tainted", message));
        }
        let der = keys.ring.sign_certificate(recorded, unsigned)?;
        Point::Signed.reached();
        let broker = Asked { caller: Caller::Broker, request_id: asked.request_id.clone() };
        let kept = self.submit(&broker, KeepSigned { id, der }).await?;
        self.handed_over(kept)
    }

    pub(super) fn handed_over(&self, identity: Certificate) -> Result<Issued, Error> {
        let spiffe_id = self.ledger.view(|view| view.spiffe_id(identity.kind, &identity.name));
        let der = identity.der.clone();
        let der = der.ok_or_else(|| Error::new(Code::Internal, "not_kept", "the certificate was not kept"))?;
        Ok(Issued { identity, der, spiffe_id })
    }
}

/// Whether the authority changed between building a certificate and keeping it: built again, it is good.
pub(super) fn is_of_a_change(error: &Error) -> bool {
    matches!(error.reason, "authority_changed" | "key_tainted")
}
