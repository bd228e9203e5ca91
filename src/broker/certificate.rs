//! Certificates under a grant: for a key that the holder made, saying what the decision will record.

use super::identity::{BACKDATE, Issued, is_of_a_change};
use super::{Asked, Broker};
use crate::domain::agent::Kind;
use crate::domain::certificate::Certificate;
use crate::domain::decide::{CertificateAnswer, CertificateTerms, IssueCertificate, Terms};
use crate::domain::entropy::Entropy;
use crate::domain::error::Error;
use crate::domain::event::Idempotency;
use crate::domain::id::{CertificateId, GrantId};
use crate::domain::time::{IDENTITY_LIFE, Span};
use crate::format::claims::GrantClaims;
use crate::format::x509::UnderGrant;
use crate::sign::{Unsigned, Wanted};

impl Broker {
    /// A certificate under a grant that the caller holds. The same idempotency key and public key get the same
    /// certificate, or a new one if the first was never signed.
    ///
    /// # Errors
    /// The caller does not hold the grant or may not act, the grant is not live, or the key is not for it alone.
    pub async fn issue_certificate(
        &self,
        asked: &Asked,
        grant: GrantId,
        spki: &[u8],
        may_have: impl FnOnce(&str) -> Result<(), Error>,
        idempotency: Option<Idempotency>,
    ) -> Result<Issued, Error> {
        // What it says is needed to build it; whether it may be issued is decided again in the turn.
        let terms = self.peek(asked, &CertificateTerms { grant })?;
        may_have(&self.ledger.view(|view| view.spiffe_id(Kind::Agent, &terms.grant.agent)))?;
        let attempt = async |terms| {
            let (new, unsigned) = self.build_under(terms, spki)?;
            match self.submit_once(asked, IssueCertificate { new }, idempotency.clone()).await? {
                CertificateAnswer::Sign(recorded) => self.finish(asked, recorded, unsigned).await,
                CertificateAnswer::Again(kept) => self.handed_over(kept),
            }
        };
        match attempt(terms).await {
            Err(error) if is_of_a_change(&error) => attempt(self.peek(asked, &CertificateTerms { grant })?).await,
            outcome => outcome,
        }
    }

    fn build_under(&self, terms: Terms, spki: &[u8]) -> Result<(Certificate, Unsigned), Error> {
        let Terms { grant, chain } = terms;
        let now = self.ledger.now();
        let id = CertificateId::mint(now, &mut Entropy::from_seed(self.ledger.seed()));
        let start = now.min(self.ledger.wall());
        let (authority, ends) = self.signing_authority(Kind::Agent)?;
        // The last second of a certificate is part of its life (RFC 5280 section 4.1.2.5), that of a grant is not.
        let last = grant.expires_at.minus(Span::seconds(1)).whole_seconds();
        let claims = GrantClaims {
            grant: grant.id,
            task: grant.task,
            // Not the head: a certificate does not look newer than its grant to a cut of a name.
            seq: grant.seq,
            epoch: self.origin.epoch.clone(),
            chain,
        };
        let wanted = Wanted {
            id,
            kind: Kind::Agent,
            name: &grant.agent,
            spki,
            names: &[],
            not_before: start.minus(BACKDATE),
            not_after: start.plus(IDENTITY_LIFE).min(ends).min(last),
            under: Some(&UnderGrant { aud: grant.audience.clone(), claims }),
        };
        self.keys.holding(&authority, &self.ledger, &self.origin)?.ring.prepare(&authority, wanted)
    }
}
