//! What is shown of a credential, and who proved to hold it.
//!
//! An agent proves possession by its own connection, an operator proves nothing and is told so. An enforcement point says
//! whose certificate it saw, or which DPoP proof, and is believed, for the audiences that it answers for.

use super::{Asked, Broker, ShownProof};
use crate::domain::confirmation::Confirmation;
use crate::domain::decide::{Caller, Presenter, presentable};
use crate::domain::digest::Digest;
use crate::domain::error::Error;
use crate::domain::grant::Credential;
use crate::domain::name::{Audience, Name};
use crate::domain::time::Timestamp;

/// What was presented to whoever asks.
#[derive(Clone, Debug, Default)]
pub struct Presented<'a> {
    /// The token; empty if there was none.
    pub token: &'a str,
    /// The certificate that an enforcement point saw.
    pub presenter: Option<Presenter>,
    /// The DPoP proof that came with the token.
    pub proof: Option<ShownProof<'a>>,
}

impl<'a> From<&'a str> for Presented<'a> {
    fn from(token: &'a str) -> Self {
        Self { token, ..Self::default() }
    }
}

impl<'a> From<&'a String> for Presented<'a> {
    fn from(token: &'a String) -> Self {
        Self { token, ..Self::default() }
    }
}

/// The certificate whose possession is proven, where nothing else is shown; none if that is not asked for.
pub(super) fn possession(asked: &Asked, shown: &Presented<'_>) -> Option<Confirmation> {
    // No token is bound to this.
    let nobody = Digest([0; 32]);
    let proven = match &asked.caller {
        Caller::Agent(presenter) | Caller::Holder(presenter) => Some(presenter.thumbprint),
        Caller::Operator(_) | Caller::Broker => None,
        Caller::Pep(_) => Some(shown.presenter.as_ref().map_or(nobody, |presenter| presenter.thumbprint)),
        // Nor to nobody's, if nobody could ask here.
        Caller::Stranger => Some(nobody),
    };
    proven.map(Confirmation::Certificate)
}

impl Broker {
    /// Holds unless an enforcement point asks about what is for another.
    pub(super) fn is_for(&self, asked: &Asked, audience: &Audience) -> Result<(), Error> {
        let Caller::Pep(presenter) = &asked.caller else { return Ok(()) };
        match self.answers_for(&presenter.name, audience) {
            true => Ok(()),
            false => Err(Error::denied(
                "token_audience",
                "it is for an audience that this enforcement point does not answer for",
            )),
        }
    }

    fn answers_for(&self, pep: &Name, audience: &Audience) -> bool {
        self.ledger.view(|view| view.pep(pep).is_some_and(|pep| pep.answers_for(audience)))
    }

    /// Holds if what an enforcement point saw may be presented still, or nothing was said of it.
    pub(super) fn is_presentable(&self, shown: &Presented<'_>, now: Timestamp) -> Result<(), Error> {
        let Some(presenter) = &shown.presenter else { return Ok(()) };
        self.ledger.view(|view| presentable(&view, presenter, now))
    }

    /// The certificate that an enforcement point saw, as the credential itself. No handshake here proved anything of it:
    /// it has to be the very one that was signed.
    pub(super) fn seen(&self, asked: &Asked, shown: &Presented<'_>, now: Timestamp) -> Result<Credential, Error> {
        let under = shown.presenter.as_ref().and_then(|presenter| Some((presenter, presenter.grant?)));
        let Some((presenter, grant)) = under else {
            let why = "an identity is no credential; add the token that was shown, or the certificate under a grant";
            return Err(Error::denied("no_credential", why));
        };
        let (is_kept, audience) = self.ledger.view(|view| {
            let kept = view.certificate(&presenter.certificate).and_then(|known| known.der.as_ref());
            let is_kept = kept.is_some_and(|der| Digest::of(der) == presenter.thumbprint);
            (is_kept, view.grant(grant).map(|grant| grant.audience.clone()))
        });
        match audience.filter(|_| is_kept) {
            Some(audience) => self.is_for(asked, &audience)?,
            None => return Err(Error::denied("certificate_unknown", "the certificate is not one that is live here")),
        }
        self.is_presentable(shown, now)?;
        Ok(Credential::Certificate(presenter.certificate))
    }
}
