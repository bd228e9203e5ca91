//! Revocation lists, made when somebody asks: one walk finds who is on all of them, and a list is signed when it is fetched.
//!
//! However many ask, a walk takes at most a tenth of the time of one thread, and holds the state for a few hundred
//! certificates at a time. So a list lags behind the log by [`LAG`], or by ten times a walk if that is longer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::domain::crl::{BACKDATE, LIFE, Listed, RevocationList, SHARDS, listed, number, shard, url};
use crate::domain::error::{Code, Error};
use crate::domain::id::CertificateId;
use crate::domain::name::Audience;
use crate::domain::time::Timestamp;
use crate::ledger::Ledger;
use crate::measure::Stopwatch;

/// How far a list may be behind the log.
pub const LAG: Duration = Duration::from_millis(500);
/// How old a list may be that says what the state says.
pub const RENEWED: Duration = Duration::from_secs(10);
/// A walk may take one part in so many of the time.
const SHARE: u32 = 10;
/// Certificates looked at under one hold on the state.
const STEP: usize = 256;

/// A list's authority and shard.
type Place = (String, u8);
/// Who is on a list, and since when, by serial number.
type Entries = Arc<[(Listed, Timestamp)]>;

/// The lists of all authorities.
pub struct RevocationLists {
    ledger: Arc<Ledger>,
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    walk: Option<Walk>,
    lists: HashMap<Place, List>,
}

/// Who was on which list at one moment, or later.
struct Walk {
    head: u64,
    at: Timestamp,
    begun: Stopwatch,
    took: Duration,
    entries: HashMap<Place, Entries>,
}

struct List {
    entries: Entries,
    number: u128,
    signed: Stopwatch,
    der: Arc<[u8]>,
}

impl RevocationLists {
    /// None made yet.
    pub fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger, made: Mutex::default() }
    }

    /// The list `shard` of `authority`, an authority that is accepted now: as it is, or anew, signed by `sign`.
    ///
    /// # Errors
    /// It cannot be signed.
    pub async fn list(
        &self,
        issuer: &Audience,
        authority: &str,
        shard: u8,
        sign: impl FnOnce(&RevocationList) -> Result<Vec<u8>, Error>,
    ) -> Result<Arc<[u8]>, Error> {
        let mut made = self.made.lock().await;
        let head = self.ledger.view(|view| view.head());
        if made.walk.as_ref().is_none_or(|walk| !walk.is_fresh(head)) {
            let (ledger, known) = (Arc::clone(&self.ledger), made.walk.take());
            let walk = tokio::task::spawn_blocking(move || Walk::over(&ledger, known.as_ref())).await;
            made.walk =
                Some(walk.map_err(|_| Error::new(Code::Internal, "crl_walk", "the revocation lists were not made"))?);
            let now = self.ledger.now();
            let accepted = |kid: &String| {
                self.ledger.view(|view| view.key(kid).is_some_and(|key| view.phase(key, now).is_accepted()))
            };
            made.lists.retain(|(kid, _), _| accepted(kid));
        }
        let place = (authority.to_owned(), shard);
        let walk = made.walk.as_ref();
        let entries = walk.and_then(|walk| walk.entries.get(&place)).map_or_else(|| [].into(), Arc::clone);
        let (head, walked) = walk.map_or((head, self.ledger.now()), |walk| (walk.head, walk.at));
        let known = made.lists.get(&place);
        if let Some(list) = known.filter(|list| list.entries == entries && list.signed.elapsed() < RENEWED) {
            return Ok(Arc::clone(&list.der));
        }
        let list = self.next(issuer, &place, (head, walked), &entries, known.map(|list| list.number));
        let der: Arc<[u8]> = sign(&list)?.into();
        let signed = List { entries, number: list.number, signed: Stopwatch::start(), der: Arc::clone(&der) };
        made.lists.insert(place, signed);
        Ok(der)
    }

    fn next(
        &self,
        issuer: &Audience,
        (authority, shard): &Place,
        (head, walked): (u64, Timestamp),
        entries: &Entries,
        last: Option<u128>,
    ) -> RevocationList {
        let now = self.ledger.now();
        // Whoever reads it goes by the wall clock, which may be behind the log. What was cut since the walk began may be
        // missing: its time runs from there.
        let made = walked.min(self.ledger.wall()).whole_seconds();
        RevocationList {
            authority: authority.clone(),
            url: url(issuer, authority, *shard),
            number: number(head, now, last),
            this_update: made.minus(BACKDATE),
            next_update: made.plus(LIFE),
            entries: entries.iter().map(|(listed, since)| (*listed, (*since).min(made))).collect(),
        }
    }
}

impl Walk {
    fn is_fresh(&self, head: u64) -> bool {
        let age = self.begun.elapsed();
        age < LAG.max(self.took * SHARE) || (self.head == head && age < RENEWED)
    }

    /// Looks at every certificate, in small steps. What changes meanwhile is for the next walk.
    fn over(ledger: &Ledger, known: Option<&Self>) -> Self {
        let begun = Stopwatch::start();
        let now = ledger.now();
        let (head, mut ids): (u64, Vec<CertificateId>) =
            ledger.view(|view| (view.head(), view.certificates().map(|one| one.id).collect()));
        ids.sort_unstable();
        let known = known.iter().flat_map(|walk| walk.entries.values()).flat_map(|entries| entries.iter());
        let known: HashMap<CertificateId, Timestamp> = known.map(|(listed, since)| (listed.id, *since)).collect();
        let mut entries: HashMap<Place, Vec<(Listed, Timestamp)>> = HashMap::new();
        for step in ids.chunks(STEP) {
            ledger.view(|view| {
                for certificate in step.iter().filter_map(|id| view.certificate(id)) {
                    let Some(listed) = listed(&view, certificate, now) else { continue };
                    let since = listed.since.or_else(|| known.get(&listed.id).copied()).unwrap_or(now);
                    let place = (certificate.authority.clone(), shard(listed.id));
                    entries.entry(place).or_default().push((listed, since));
                }
            });
        }
        let entries = entries.into_iter().map(|(place, entries)| (place, entries.into())).collect();
        Self { head, at: now, begun, took: begun.elapsed(), entries }
    }
}

/// Every list of these authorities, by its address.
pub fn places<'a>(issuer: &'a Audience, authorities: &'a [String]) -> impl Iterator<Item = String> + use<'a> {
    authorities.iter().flat_map(move |kid| (0..SHARDS).map(move |shard| url(issuer, kid, shard)))
}
