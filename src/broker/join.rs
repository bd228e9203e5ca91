//! Join tokens: the secret is made here, shown once, and kept by nobody.

use std::sync::PoisonError;

use super::Broker;
use crate::domain::agent::Join;
use crate::domain::digest::Digest;
use crate::format::join::JoinToken;

/// The secret of a join token that is about to be recorded.
pub struct Secret([u8; 32]);

impl Secret {
    /// What the ledger keeps.
    pub fn hash(&self) -> Digest {
        Digest::of(&self.0)
    }
}

impl Broker {
    /// A new secret.
    pub fn join_secret(&self) -> Secret {
        Secret(self.ledger.seed())
    }

    /// The text that is handed over: id, secret, where to go, and whose certificate to expect there.
    pub fn join_token(&self, join: &Join, secret: Secret) -> String {
        let authority = Digest::of(&self.authority());
        let addr = self.address.read().unwrap_or_else(PoisonError::into_inner).clone();
        JoinToken { id: join.id, secret: secret.0, addr, authority }.reveal()
    }
}
