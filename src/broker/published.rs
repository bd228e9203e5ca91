//! What the broker publishes of the ends of credentials, for those who cannot ask: revocation lists and status lists.

use std::sync::Arc;

use super::Broker;
use crate::domain::crl::SHARDS;
use crate::domain::error::{Code, Error};
use crate::domain::key::{Phase, Purpose};
use crate::effect;

impl Broker {
    /// The revocation list (DER) `shard` of the authority `kid`, at most a moment old.
    ///
    /// # Errors
    /// `not_found`: there is no such list. `authority_over`: the authority was tainted, and a list under it would be
    /// worth nothing, or all that it signed is over.
    pub async fn revocation_list(&self, kid: &str, shard: u8) -> Result<Arc<[u8]>, Error> {
        let now = self.ledger.now();
        let phase = self.ledger.view(|view| {
            let key = view.key(&kid.to_owned()).filter(|key| key.purpose.is_authority())?;
            Some(view.phase(key, now))
        });
        match phase.filter(|_| shard < SHARDS) {
            None => return Err(Error::not_found("revocation list", format!("{kid}/{shard}"))),
            Some(Phase::Tainted) => return Err(over(kid, "was tainted; trust nothing under it, and fetch `/bundle`")),
            Some(Phase::Retired) => return Err(over(kid, "has retired; all that it signed is over")),
            Some(Phase::Published | Phase::Used | Phase::Retiring) => {}
        }
        let keys = self.keys.holding(kid, &self.ledger, &self.origin)?;
        self.crls.list(&self.origin.issuer, kid, shard, |list| keys.ring.sign_crl(list)).await
    }

    /// The status list of this number, a JWT, at most a moment old.
    ///
    /// # Errors
    /// `not_found`: none of the tokens on it is remembered. Or no token key is in use.
    pub async fn status_list(&self, number: u64) -> Result<Arc<str>, Error> {
        let none = || Error::new(Code::Unavailable, "no_key", "no token key is in use; rotate it");
        let now = self.ledger.now();
        let kid = self.ledger.view(|view| view.signer(Purpose::Token, now).map(|key| key.kid.clone()));
        let kid = kid.ok_or_else(none)?;
        let keys = self.keys.holding(&kid, &self.ledger, &self.origin)?;
        self.statuses.list(&self.origin.issuer, number, |list| keys.ring.sign_status_list(&kid, list)).await
    }

    /// Where each revocation list is that somebody who believes the accepted authorities needs.
    pub fn revocation_lists(&self) -> Vec<String> {
        effect::crl::places(&self.origin.issuer, &self.listing()).collect()
    }

    /// The accepted authorities, by their key ids.
    pub fn listing(&self) -> Vec<String> {
        let keys = self.accepted_keys(&[Purpose::Authority, Purpose::Operator]);
        keys.into_iter().map(|key| key.kid).collect()
    }
}

fn over(kid: &str, why: &str) -> Error {
    Error::new(Code::Conflict, "authority_over", format!("authority `{kid}` {why}"))
}
