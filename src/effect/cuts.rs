//! What came of a cut, found outside the turn: a walk in small steps, so that nobody who decides waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::domain::effect::{Counts, Cutting, Dead, Effect, EffectState, Ended, Heard, Informed, Walk};
use crate::domain::error::{Code, Error};
use crate::domain::pep::Pep;
use crate::domain::time::Timestamp;
use crate::ledger::Ledger;

/// Effects on one page at most.
pub const LISTED: usize = 1000;
/// Grants looked at under one hold on the state.
const STEP: usize = 256;
/// Walks under way at once. Each holds up what decides, for a step at a time.
const WALKS: usize = 2;

/// Which effects are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Page {
    /// Those behind this one.
    pub after: Option<Ended>,
    /// So many at most; [`LISTED`] if none is said.
    pub most: Option<usize>,
}

/// What came of a cut, by one moment.
#[derive(Clone, Debug, Default)]
pub struct Walked {
    /// Whole.
    pub counts: Counts,
    /// A page, in the order of [`Ended`].
    pub effects: Vec<Effect>,
    /// Whether others come behind.
    pub more: bool,
    /// Whether nothing more is to come of any.
    pub terminal: bool,
    /// When all but what lies in other systems is over.
    pub until: Option<Timestamp>,
}

/// Where cuts are followed from: the state, and who has heard.
pub struct Cuts {
    ledger: Arc<Ledger>,
    heard: Arc<dyn Heard>,
    turnstile: Semaphore,
    first: Semaphore,
}

impl Cuts {
    /// Over this ledger; these are asked who has heard.
    pub fn of(ledger: &Arc<Ledger>, heard: Arc<dyn Heard>) -> Self {
        Self { ledger: Arc::clone(ledger), heard, turnstile: Semaphore::new(WALKS), first: Semaphore::new(WALKS) }
    }

    /// The ledger.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// What came of a cut by now, found on a thread of its own.
    ///
    /// # Errors
    /// It could not be found: the walk failed.
    pub async fn walk(&self, cut: Cutting, page: Page) -> Result<Walked, Error> {
        self.walk_by(&self.turnstile, cut, page).await
    }

    /// The same for an operator who has just revoked: whoever else looks does not stand before.
    ///
    /// # Errors
    /// As [`Cuts::walk`].
    pub async fn walk_first(&self, cut: Cutting, page: Page) -> Result<Walked, Error> {
        self.walk_by(&self.first, cut, page).await
    }

    async fn walk_by(&self, turnstile: &Semaphore, cut: Cutting, page: Page) -> Result<Walked, Error> {
        let failed = || Error::new(Code::Internal, "panicked", "what came of it could not be found; report it");
        let _turn = turnstile.acquire().await.map_err(|_| failed())?;
        let heard = Arc::clone(&self.heard);
        let ledger = Arc::clone(&self.ledger);
        tokio::task::spawn_blocking(move || walk(&ledger, cut, &*heard, page)).await.map_err(|_| failed())
    }
}

/// What came of a cut by now. Takes some microseconds for each thing that died; not for a thread that others wait for.
pub fn walk(ledger: &Ledger, cut: Cutting, heard: &dyn Heard, page: Page) -> Walked {
    let peps: Vec<Pep> = ledger.view(|view| view.peps().cloned().collect());
    // Nobody is asked while the state is held: whoever is asked may wait for it.
    let informed = Informed::of(&peps, heard, cut.seq);
    let now = ledger.now();
    let most = page.most.unwrap_or(LISTED).clamp(1, LISTED);
    let (mut counts, mut listed, mut until) = (Counts::default(), BTreeMap::new(), None);
    let (mut open, mut more) = (false, false);
    let (mut walk, made) = (Walk::new(cut.clone()), cut);
    let mut goes_on = true;
    while goes_on {
        goes_on = ledger.view(|view| {
            walk.step(&view, STEP, |dead| {
                let Some(effect) = Effect::of(&view, &made, &informed, now, dead) else {
                    counts.tasks += u64::from(matches!(dead, Dead::Task));
                    return;
                };
                counts.add(&effect);
                open |= !effect.is_terminal(now);
                if !matches!(effect.ended, Ended::Lease(_)) && effect.state != EffectState::Enforced {
                    until = until.max(Some(effect.at));
                }
                if page.after.is_none_or(|after| effect.ended > after) {
                    listed.insert(effect.ended, effect);
                    if listed.len() > most {
                        listed.pop_last();
                        more = true;
                    }
                }
            })
        });
    }
    Walked { counts, effects: listed.into_values().collect(), more, terminal: !open, until }
}
