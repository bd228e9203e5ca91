//! Revocations: decided in the turn, what came of them found beside it, told and signed on request.

use std::sync::Arc;

use super::{Asked, Broker};
use crate::domain::cut::Recorded;
use crate::domain::decide::{Caller, Revoke, Revoked};
use crate::domain::effect::{Counts, Cutting, Effect, Ended};
use crate::domain::error::{Code, Error};
use crate::domain::event::Actor;
use crate::domain::id::RevocationId;
use crate::domain::key::Purpose;
use crate::effect::{Cuts, Page, Walked};
use crate::format::receipt;

/// A revocation as it is told.
#[derive(Debug)]
pub struct Revocation {
    /// Its record; of a dry run, the one that would be made.
    pub record: Recorded,
    /// Whether it was made.
    pub made: bool,
    /// Whether the same was cut before.
    pub again: bool,
    /// What came of it by now.
    pub came: CameOf,
}

/// What came of a revocation.
#[derive(Debug, Default)]
pub struct CameOf {
    /// By kind and state.
    pub counts: Counts,
    /// A page of it.
    pub effects: Vec<Effect>,
    /// The last on this page, if there are others.
    pub next: Option<Ended>,
    /// Whether nothing more is to come of it.
    pub terminal: bool,
}

impl Broker {
    /// What came of cuts.
    pub fn cuts(&self) -> &Arc<Cuts> {
        &self.cuts
    }

    /// Revokes: when this returns, nobody here honours what died any more. What that is is counted afterwards.
    ///
    /// # Errors
    /// The caller may not, or there is no such thing.
    pub async fn revoke(&self, asked: &Asked, command: Revoke) -> Result<Revoked, Error> {
        if command.dry_run { self.peek(asked, &command) } else { self.submit(asked, command).await }
    }

    /// What came of a revocation that was just decided.
    ///
    /// # Errors
    /// It could not be found.
    pub async fn told(&self, revoked: Revoked, dry_run: bool) -> Result<Revocation, Error> {
        let Revoked { revocation, cut, by, again } = revoked;
        let (seq, at) = (cut.seq, cut.at);
        let record = Recorded { revocation, seq, at, by, settled: None };
        let walked = match (&record.by, dry_run) {
            (Actor::Operator(_), false) => self.cuts.walk_first(cut, Page::default()).await,
            _ => self.cuts.walk(cut, Page::default()).await,
        };
        Ok(Revocation { record, made: !dry_run, again, came: CameOf::from(walked?) })
    }

    /// A revocation, and what came of it by now.
    ///
    /// # Errors
    /// There is none of this id, or it was not this agent's.
    pub async fn revocation(&self, asked: &Asked, id: RevocationId, page: Page) -> Result<Revocation, Error> {
        let record = self.recorded_cut(asked, id)?;
        let mut came = CameOf::from(self.cuts.walk(Cutting::from(&record), page).await?);
        if let Some(settled) = &record.settled {
            came.settle(settled);
        }
        Ok(Revocation { record, made: true, again: false, came })
    }

    /// A signed receipt: a compact JWS under a token key.
    ///
    /// # Errors
    /// As [`Broker::revocation`]; or no key signs.
    pub async fn receipt(&self, asked: &Asked, id: RevocationId) -> Result<String, Error> {
        let Revocation { record, came, .. } = self.revocation(asked, id, Page::default()).await?;
        let now = self.ledger.now();
        let none = || Error::new(Code::Unavailable, "no_key", "no token key is in use; rotate it");
        let kid =
            self.ledger.view(|view| view.signer(Purpose::Token, now).map(|key| key.kid.clone())).ok_or_else(none)?;
        let keys = self.keys.holding(&kid, &self.ledger, &self.origin)?;
        let recorded = self.ledger.recorded_cut(record.seq)?;
        let found = receipt::Found { counts: &came.counts, effects: &came.effects, terminal: came.terminal };
        keys.ring
            .sign_receipt(&kid, recorded, |cut| receipt::signing_input(&self.origin.issuer, &kid, now, cut, &found))
    }

    /// An operator sees all of them; an agent, its own.
    fn recorded_cut(&self, asked: &Asked, id: RevocationId) -> Result<Recorded, Error> {
        let own = |one: &&Recorded| match &asked.caller {
            Caller::Agent(presenter) => one.by == Actor::Agent(presenter.name.clone()),
            Caller::Operator(_) | Caller::Broker => true,
            Caller::Holder(_) | Caller::Pep(_) | Caller::Stranger => false,
        };
        let found = self.ledger.view(|view| view.revocation(&id).filter(own).cloned());
        found.ok_or_else(|| Error::not_found("revocation", id))
    }
}

impl From<Walked> for CameOf {
    fn from(walked: Walked) -> Self {
        let Walked { counts, effects, more, terminal, .. } = walked;
        let next = effects.last().filter(|_| more).map(|effect| effect.ended);
        Self { counts, effects, next, terminal }
    }
}

impl CameOf {
    /// Credentials leave memory once they are over; what was recorded of them stays.
    fn settle(&mut self, settled: &crate::domain::event::Settled) {
        let tasks = self.counts.tasks;
        self.counts = Counts { tasks, enforced: settled.enforced, expires: settled.expired, ..Counts::default() };
        self.terminal = true;
    }
}
