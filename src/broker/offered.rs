//! What somebody may be shown: the scopes of the credential that they showed to an enforcement point.

use super::presenter::Presented;
use super::{Asked, Broker};
use crate::domain::decide::judge;
use crate::domain::error::Error;
use crate::domain::grant::Credential;
use crate::domain::scope::Scopes;

impl Broker {
    /// The scopes of a token that an enforcement point was shown, or without one of the certificate that it saw. Nothing
    /// may be done by this, so no proof of the token's key is asked for: what is done is decided when it is done.
    ///
    /// # Errors
    /// The credential is none, is over, or is for an audience that the enforcement point does not answer for.
    pub fn offered(&self, asked: &Asked, shown: &Presented<'_>) -> Result<Scopes, Error> {
        let now = self.ledger.now();
        let credential = if shown.token.is_empty() {
            self.seen(asked, shown, now)?
        } else {
            let claims = self.keys.current().verifier.read(shown.token)?;
            self.is_for(asked, &claims.audience)?;
            Credential::Token(claims.id)
        };
        self.ledger.view(|view| {
            let verdict = judge(&view, now, credential, None);
            let refused = || verdict.reasons.first().map(|why| Error::denied(why.code, why.message.clone()));
            let scopes = verdict.grant.and_then(|grant| view.grant(grant)).map(|grant| grant.scopes.clone());
            let over = || refused().unwrap_or_else(|| Error::denied("grant_expired", "the grant is over"));
            scopes.filter(|_| verdict.allowed).ok_or_else(over)
        })
    }
}
