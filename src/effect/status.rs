//! Status lists, made when somebody asks, and kept for a moment however many ask.
//!
//! They take at most a fifth of the time of one thread together, and hold the state for a few hundred tokens at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::domain::error::{Code, Error};
use crate::domain::id::TokenId;
use crate::domain::name::Audience;
use crate::domain::status::{StatusList, Value, pack, url, value};
use crate::ledger::Ledger;
use crate::measure::Stopwatch;

/// How far a list may be behind the log.
pub const LAG: Duration = Duration::from_millis(500);
/// How long a list that is still true is handed out.
pub const RENEWED: Duration = Duration::from_secs(5);
/// Lists kept; each has some 10 KiB.
const KEPT: usize = 256;
/// Making a list may take one part in so many of the time.
const SHARE: u32 = 5;
/// Tokens looked at under one hold on the state.
const STEP: usize = 256;

/// The lists that were asked for.
pub struct StatusLists {
    ledger: Arc<Ledger>,
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    lists: HashMap<u64, List>,
    /// When the last one was made, and how long that took.
    last: Option<(Stopwatch, Duration)>,
}

struct List {
    head: u64,
    since: Stopwatch,
    text: Arc<str>,
}

impl StatusLists {
    /// None made yet.
    pub fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger, made: Mutex::default() }
    }

    /// The list of this number, signed by `sign`.
    ///
    /// # Errors
    /// `not_found`: no token that is remembered is on it. Or it cannot be signed.
    pub async fn list(
        &self,
        issuer: &Audience,
        number: u64,
        sign: impl FnOnce(&StatusList) -> Result<String, Error>,
    ) -> Result<Arc<str>, Error> {
        let (head, taken) = self.ledger.view(|view| (view.head(), view.taken(number)));
        if taken == 0 {
            return Err(Error::not_found("status list", number));
        }
        let mut made = self.made.lock().await;
        if let Some(known) = made.lists.get(&number).filter(|list| list.is_fresh(head, made.last.as_ref())) {
            return Ok(Arc::clone(&known.text));
        }
        let (since, ledger) = (Stopwatch::start(), Arc::clone(&self.ledger));
        let packed = tokio::task::spawn_blocking(move || packed(&ledger, number)).await;
        let failed = |_| Error::new(Code::Internal, "status_list", "the status list was not made");
        let (packed, now) = (packed.map_err(failed)?, self.ledger.now());
        let made_at = now.min(self.ledger.wall()).whole_seconds();
        let text: Arc<str> = sign(&StatusList { url: url(issuer, number), made_at, packed })?.into();
        if made.lists.len() >= KEPT {
            made.forget();
        }
        made.lists.insert(number, List { head, since, text: Arc::clone(&text) });
        made.last = Some((Stopwatch::start(), since.elapsed()));
        Ok(text)
    }
}

impl Made {
    fn forget(&mut self) {
        let oldest = self.lists.iter().max_by_key(|(_, list)| list.since.elapsed()).map(|(number, _)| *number);
        oldest.and_then(|number| self.lists.remove(&number));
    }
}

impl List {
    fn is_fresh(&self, head: u64, last: Option<&(Stopwatch, Duration)>) -> bool {
        let age = self.since.elapsed();
        // Whoever fetches many lists in turn waits for none of them to be made before its time.
        let resting = last.is_some_and(|(ended, took)| ended.elapsed() < *took * (SHARE - 1));
        age < LAG || (age < RENEWED && (resting || self.head == head))
    }
}

fn packed(ledger: &Ledger, number: u64) -> Vec<u8> {
    let now = ledger.now();
    let places: Vec<(u32, TokenId)> = ledger.view(|view| view.places(number).collect());
    let mut values: Vec<(u32, Value)> = Vec::with_capacity(places.len());
    for step in places.chunks(STEP) {
        ledger.view(|view| {
            let known = step.iter().filter_map(|(index, id)| Some((*index, view.token(id)?)));
            values.extend(known.map(|(index, token)| (index, value(&view, token, now))));
        });
    }
    pack(values.into_iter())
}
