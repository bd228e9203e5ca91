//! How much one agent, one owner or one enforcement point may ask: so many requests a second, and so many at once.
//!
//! A rate is kept as one number, the moment at which all of it is there again (the generic cell rate algorithm); twice
//! the rate may come at once. A request counts for all whom it is of, or for nobody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Broker;
use crate::domain::decide::{Caller, holder};
use crate::domain::error::{Code, Error};
use crate::domain::grant::Credential;
use crate::domain::name::{Line, Name};
use crate::domain::time::Span;

/// What one party may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Requests a second.
    pub rate: u32,
    /// Requests that are under way at once.
    pub under_way: u32,
}

/// The quotas in force. Operators have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartyQuotas {
    /// Of each agent, whoever asks for it.
    pub agent: Quota,
    /// Of each owner, for all agents together.
    pub owner: Quota,
    /// Of each enforcement point.
    pub pep: Quota,
}

impl Default for PartyQuotas {
    fn default() -> Self {
        Self {
            agent: Quota { rate: 200, under_way: 64 },
            owner: Quota { rate: 1000, under_way: 256 },
            pep: Quota { rate: 5000, under_way: 1024 },
        }
    }
}

/// How many seconds of its rate may come at once.
const BURST: u64 = 2;
/// When one should come back who has too much under way: nobody knows when something ends.
const PAUSE: Span = Span::millis(100);
const NANOS: u64 = 1_000_000_000;
/// Parties are looked through for those that are idle when there are more than this, and twice those that were not.
const FEW: usize = 64;

/// Who has asked for how much.
#[derive(Default)]
pub struct Quotas(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    limits: Option<PartyQuotas>,
    used: HashMap<Party, Use>,
    look_at: usize,
    shed: [[u64; 2]; 3],
}

/// Whose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Party {
    Agent(Name),
    Owner(Line),
    Pep(Name),
}

#[derive(Default)]
struct Use {
    /// When its whole rate is there again: nanoseconds since boot.
    whole_at: u64,
    under_way: u32,
}

/// A request that counts as under way until this is dropped.
#[must_use]
pub struct UnderWay(Arc<Mutex<Inside>>, Vec<Party>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut inside = lock(&self.0);
        for party in &self.1 {
            if let Some(used) = inside.used.get_mut(party) {
                used.under_way = used.under_way.saturating_sub(1);
            }
        }
    }
}

impl Quotas {
    /// Puts quotas in force, or with none lets all pass. What was counted stays.
    pub fn set(&self, limits: Option<PartyQuotas>) {
        lock(&self.0).limits = limits;
    }

    /// How many requests were over a quota since the start: whose, and which.
    pub fn shed(&self) -> Vec<(&'static str, &'static str, u64)> {
        let shed = lock(&self.0).shed;
        let whose = ["agent", "owner", "enforcement_point"].into_iter().zip(shed);
        whose.flat_map(|(whose, [rate, under_way])| [(whose, "rate", rate), (whose, "under_way", under_way)]).collect()
    }

    /// Counts a request for all of these, at this time since boot.
    fn enter(&self, parties: Vec<Party>, now: Span) -> Result<UnderWay, Error> {
        let mut inside = lock(&self.0);
        let Some(limits) = inside.limits else { return Ok(UnderWay(Arc::clone(&self.0), Vec::new())) };
        let now = u64::try_from(now.as_millis()).unwrap_or_default().saturating_mul(NANOS / 1000);
        for party in &parties {
            let unused = Use::default();
            let used = inside.used.get(party).unwrap_or(&unused);
            if let Some((limit, error)) = party.over(used, limits, now) {
                inside.shed[party.place()][limit] += 1;
                return Err(error);
            }
        }
        for party in &parties {
            let quota = party.quota(limits);
            let used = inside.used.entry(party.clone()).or_default();
            used.whole_at = used.whole_at.max(now).saturating_add(quota.interval());
            used.under_way += 1;
        }
        inside.forget_the_idle(now);
        Ok(UnderWay(Arc::clone(&self.0), parties))
    }
}

impl Inside {
    /// Who has its whole rate again and nothing under way is as one who never asked.
    fn forget_the_idle(&mut self, now: u64) {
        if self.used.len() > self.look_at.max(FEW) {
            self.used.retain(|_, used| used.under_way > 0 || used.whole_at > now);
            self.look_at = self.used.len() * 2;
        }
    }
}

impl Quota {
    /// Nanoseconds from one request to the next.
    fn interval(self) -> u64 {
        NANOS / u64::from(self.rate.max(1))
    }
}

impl Party {
    fn quota(&self, limits: PartyQuotas) -> Quota {
        match self {
            Self::Agent(_) => limits.agent,
            Self::Owner(_) => limits.owner,
            Self::Pep(_) => limits.pep,
        }
    }

    fn place(&self) -> usize {
        match self {
            Self::Agent(_) => 0,
            Self::Owner(_) => 1,
            Self::Pep(_) => 2,
        }
    }

    /// Which quota one more would be over, 0 the rate and 1 what is under way, and how that is told.
    fn over(&self, used: &Use, limits: PartyQuotas, now: u64) -> Option<(usize, Error)> {
        let Quota { rate, under_way } = self.quota(limits);
        if used.under_way >= under_way {
            let what = format!("{under_way} requests of {self} are under way, as many as may be");
            return Some((1, exceeded(&what, PAUSE)));
        }
        let step = self.quota(limits).interval();
        let ahead = used.whole_at.max(now).saturating_add(step).saturating_sub(now);
        let early = ahead.saturating_sub(step.saturating_mul(u64::from(rate).saturating_mul(BURST)));
        // The clock counts whole milliseconds: a part of one is not over before the next.
        let pause = Span::millis(i64::try_from(early.div_ceil(NANOS / 1000)).unwrap_or(i64::MAX));
        (early > 0).then(|| (0, exceeded(&format!("{self} is over its quota of {rate} requests a second"), pause)))
    }
}

impl std::fmt::Display for Party {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Agent(name) => write!(f, "agent `{name}`"),
            Self::Owner(owner) => write!(f, "owner `{owner}`"),
            Self::Pep(name) => write!(f, "enforcement point `{name}`"),
        }
    }
}

fn exceeded(what: &str, pause: Span) -> Error {
    let message = format!("{what}; try again in {} ms", pause.as_millis());
    Error::new(Code::Exhausted, "quota_exceeded", message).after(pause)
}

fn lock(inside: &Mutex<Inside>) -> MutexGuard<'_, Inside> {
    inside.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Broker {
    /// The quotas.
    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// Counts a request of this caller, until what it returns is dropped.
    ///
    /// # Errors
    /// `quota_exceeded`: it, or its owner, asks too much. The error says when to come back.
    pub fn enter(&self, caller: &Caller) -> Result<UnderWay, Error> {
        let parties = match caller {
            Caller::Agent(presenter) | Caller::Holder(presenter) => self.agent_and_owner(&presenter.name),
            Caller::Pep(presenter) => vec![Party::Pep(presenter.name.clone())],
            Caller::Operator(_) | Caller::Broker | Caller::Stranger => Vec::new(),
        };
        self.quotas.enter(parties, self.ledger.boot())
    }

    /// Counts a call for the agent behind a credential, where an enforcement point asks: an agent has one quota,
    /// through however many of them it calls. Who asks for itself was counted when it came in.
    ///
    /// # Errors
    /// As [`Broker::enter`].
    pub(super) fn enter_behind(&self, caller: &Caller, credential: Credential) -> Result<UnderWay, Error> {
        let agent = match caller {
            Caller::Pep(_) => self.ledger.view(|view| holder(&view, credential).cloned()),
            _ => None,
        };
        let parties = agent.map_or_else(Vec::new, |agent| self.agent_and_owner(&agent));
        self.quotas.enter(parties, self.ledger.boot())
    }

    fn agent_and_owner(&self, agent: &Name) -> Vec<Party> {
        let owner = self.ledger.view(|view| view.agent(agent).map(|agent| agent.owner.clone()));
        std::iter::once(Party::Agent(agent.clone())).chain(owner.map(Party::Owner)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, owner: &str) -> Vec<Party> {
        vec![Party::Agent(name.parse().unwrap()), Party::Owner(owner.parse().unwrap())]
    }

    fn agent(name: &str) -> Vec<Party> {
        of(name, "team")
    }

    fn quotas(rate: u32, under_way: u32) -> Quotas {
        let quotas = Quotas::default();
        let (agent, owner) = (Quota { rate, under_way }, Quota { rate: 1_000_000, under_way: 100 });
        quotas.set(Some(PartyQuotas { agent, owner, ..PartyQuotas::default() }));
        quotas
    }

    /// How many of `asked` get in at this time, each over at once.
    fn passed(quotas: &Quotas, name: &str, now: Span, asked: usize) -> usize {
        (0..asked).filter(|_| quotas.enter(agent(name), now).is_ok()).count()
    }

    #[test]
    fn twice_the_rate_may_come_at_once_and_then_the_rate() {
        for rate in [1, 3, 200, 5000] {
            let quotas = quotas(rate, 10);
            let burst = usize::try_from(rate).unwrap() * 2;
            let now = Span::hours(1);
            assert_eq!(passed(&quotas, "ana", now, burst + 10), burst);
            assert_eq!(passed(&quotas, "ana", now.plus(Span::seconds(1)), burst), burst / 2);
            assert_eq!(passed(&quotas, "bob", now, burst + 10), burst, "another agent has its own");
            // However long nothing was asked, no more than that is saved up.
            assert_eq!(passed(&quotas, "ana", Span::hours(5), burst + 10), burst);
        }
    }

    #[test]
    fn who_comes_back_when_it_was_told_gets_in_and_a_millisecond_before_does_not() {
        let quotas = quotas(7, 10);
        let mut now = Span::hours(1);
        for _ in 0..50 {
            match quotas.enter(agent("ana"), now) {
                Ok(_) => {}
                Err(error) => {
                    let pause = error.retry_after.unwrap();
                    assert_eq!((error.code, error.reason), (Code::Exhausted, "quota_exceeded"));
                    let told = format!(
                        "agent `ana` is over its quota of 7 requests a second; try again in {} ms",
                        pause.as_millis()
                    );
                    assert_eq!(error.message, told);
                    assert!(quotas.enter(agent("ana"), now.plus(pause).less(Span::millis(1))).is_err());
                    now = now.plus(pause);
                    assert!(quotas.enter(agent("ana"), now).is_ok(), "{pause:?}");
                }
            }
        }
        assert!(now > Span::hours(1).plus(Span::seconds(4)), "{now:?}");
    }

    #[test]
    fn what_is_under_way_counts_until_it_is_over() {
        let quotas = quotas(1000, 3);
        let now = Span::hours(1);
        let held: Vec<_> = (0..3).map(|_| quotas.enter(agent("ana"), now).unwrap()).collect();
        let error = quotas.enter(agent("ana"), now).err().unwrap();
        assert_eq!(error.message, "3 requests of agent `ana` are under way, as many as may be; try again in 100 ms");
        assert!(quotas.enter(agent("bob"), now).is_ok());
        drop(held);
        assert!(quotas.enter(agent("ana"), now).is_ok());
        assert_eq!(quotas.shed()[..2], [("agent", "rate", 0), ("agent", "under_way", 1)]);
    }

    #[test]
    fn a_request_that_is_over_one_quota_takes_nothing_of_another() {
        let quotas = Quotas::default();
        let [own, team] = [10, 3].map(|rate| Quota { rate, under_way: 100 });
        quotas.set(Some(PartyQuotas { agent: own, owner: team, ..PartyQuotas::default() }));
        let now = Span::hours(1);
        assert_eq!(passed(&quotas, "ana", now, 100), 6, "of the owner's");
        assert_eq!(quotas.shed()[2], ("owner", "rate", 94));
        assert!(quotas.enter(agent("bob"), now).is_err(), "the agents of one owner share its quota");
        // What ana was refused for her owner's sake she has still.
        let left = (0..100).filter(|_| quotas.enter(of("ana", "others"), now).is_ok()).count();
        assert_eq!(left, 6, "that of the other owner");
        assert_eq!((0..100).filter(|_| quotas.enter(vec![of("ana", "x").remove(0)], now).is_ok()).count(), 8);
    }

    #[test]
    fn who_is_idle_is_forgotten_and_who_is_not_is_kept() {
        let quotas = quotas(10, 10);
        let mut now = Span::hours(1);
        let busy = quotas.enter(agent("busy"), now).unwrap();
        for number in 0..5000 {
            let name: Name = format!("agent-{number}").parse().unwrap();
            drop(quotas.enter(vec![Party::Agent(name)], now));
            now = now.plus(Span::millis(50));
        }
        let kept = quotas.0.lock().unwrap().used.len();
        assert!(kept < 3 * FEW, "{kept} are kept");
        assert_eq!(quotas.0.lock().unwrap().used[&Party::Agent("busy".parse().unwrap())].under_way, 1);
        drop(busy);
    }

    #[test]
    fn without_quotas_all_pass() {
        let quotas = Quotas::default();
        let all: Vec<_> = (0..10_000).map(|_| quotas.enter(agent("ana"), Span::default()).unwrap()).collect();
        assert!(quotas.0.lock().unwrap().used.is_empty());
        drop(all);
    }
}
