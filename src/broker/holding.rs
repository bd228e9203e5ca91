//! How much one caller keeps open here: streams of decisions, and the calls that they hold, with their arguments.
//!
//! A request that is under way ends by itself; these do not. So they take nothing of a quota, and have bounds of their own
//! that are always in force: who holds as much as it may asks on as before. A held call counts for whoever asked and for
//! the agent behind the credential, so that one agent cannot take an enforcement point's room from others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Broker;
use crate::domain::decide::{Caller, holder};
use crate::domain::error::{Code, Error};
use crate::domain::event::Actor;
use crate::domain::grant::Credential;
use crate::domain::scope::Call;

/// So much of each, or what of each is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    streams: usize,
    calls: usize,
    /// Bytes of memory that the calls take.
    bytes: usize,
}

/// What an agent may have, through however many streams and enforcement points.
const OF_AN_AGENT: Amount = Amount { streams: 128, calls: 1024, bytes: 16 << 20 };
/// What an enforcement point may have, for all agents together.
const OF_A_POINT: Amount = Amount { streams: 1024, calls: 8192, bytes: 64 << 20 };

/// Who has how much.
#[derive(Default)]
pub(super) struct Holdings(Arc<Mutex<HashMap<Actor, Amount>>>);

/// What somebody has, until this is dropped.
#[must_use]
#[derive(Debug)]
pub struct Room {
    of: Arc<Mutex<HashMap<Actor, Amount>>>,
    parties: Vec<Actor>,
    amount: Amount,
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut all = lock(&self.of);
        for party in self.parties.drain(..) {
            let Entry::Occupied(mut had) = all.entry(party) else { continue };
            *had.get_mut() = had.get().less(self.amount);
            if *had.get() == Amount::default() {
                had.remove();
            }
        }
    }
}

impl Holdings {
    /// Takes this much for all of these, or nothing for any.
    fn take(&self, parties: Vec<Actor>, amount: Amount) -> Result<Room, Error> {
        let mut all = lock(&self.0);
        for party in &parties {
            let had = all.get(party).copied().unwrap_or_default();
            had.plus(amount).is_within(most(party), party)?;
        }
        for party in &parties {
            let had = all.entry(party.clone()).or_default();
            *had = had.plus(amount);
        }
        Ok(Room { of: Arc::clone(&self.0), parties, amount })
    }
}

impl Amount {
    fn plus(self, other: Self) -> Self {
        let [streams, calls] = [self.streams + other.streams, self.calls + other.calls];
        Self { streams, calls, bytes: self.bytes.saturating_add(other.bytes) }
    }

    fn less(self, other: Self) -> Self {
        Self {
            streams: self.streams.saturating_sub(other.streams),
            calls: self.calls.saturating_sub(other.calls),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    fn is_within(self, most: Self, party: &Actor) -> Result<(), Error> {
        let whose = match party {
            Actor::Agent(name) => format!("agent `{name}`"),
            Actor::Pep(name) => format!("enforcement point `{name}`"),
            other => other.to_string(),
        };
        let (reason, message) = if self.streams > most.streams {
            let open = format!("{} streams of {whose} are open, as many as may be; use one of them", most.streams);
            ("too_many_streams", open)
        } else if self.calls > most.calls {
            ("too_many_held", format!("{} calls of {whose} are held, as many as may be; report some", most.calls))
        } else if self.bytes > most.bytes {
            let of = format!("the calls of {whose} that are held would take more than {} MiB", most.bytes >> 20);
            ("too_many_held", format!("{of}; report some, or hold calls with fewer arguments"))
        } else {
            return Ok(());
        };
        Err(Error::new(Code::Exhausted, reason, message))
    }
}

fn most(party: &Actor) -> Amount {
    if let Actor::Pep(_) = party { OF_A_POINT } else { OF_AN_AGENT }
}

fn lock(all: &Mutex<HashMap<Actor, Amount>>) -> MutexGuard<'_, HashMap<Actor, Amount>> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Broker {
    /// Room for one more stream of this caller.
    ///
    /// # Errors
    /// `too_many_streams`: it has as many open as it may.
    pub fn open_stream(&self, caller: &Caller) -> Result<Room, Error> {
        self.holdings.take(vec![caller.actor()], Amount { streams: 1, ..Amount::default() })
    }

    /// Room for a call that is held once it is allowed, for who asks and for the agent behind the credential.
    ///
    /// # Errors
    /// `too_many_held`: one of them holds as much as it may.
    pub(super) fn hold(&self, caller: &Caller, credential: Credential, call: &Call) -> Result<Room, Error> {
        let agent = self.ledger.view(|view| holder(&view, credential).cloned()).map(Actor::Agent);
        let mut parties = vec![caller.actor()];
        parties.extend(agent.filter(|agent| *agent != parties[0]));
        self.holdings.take(parties, Amount { streams: 0, calls: 1, bytes: call.weight() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str) -> Actor {
        Actor::Agent(name.parse().unwrap())
    }

    fn call(bytes: usize) -> Amount {
        Amount { calls: 1, bytes, streams: 0 }
    }

    #[test]
    fn what_is_dropped_is_room_again_and_nothing_is_left_of_it() {
        let holdings = Holdings::default();
        let refused = |amount| holdings.take(vec![agent("ana")], amount).map(drop).map_err(|error| error.reason);
        let held: Vec<_> = (0..1024).map(|_| holdings.take(vec![agent("ana")], call(16 << 10)).unwrap()).collect();
        assert_eq!(refused(call(0)), Err("too_many_held"));
        let stream = Amount { streams: 1, ..Amount::default() };
        let open: Vec<_> = (0..128).map(|_| holdings.take(vec![agent("ana")], stream).unwrap()).collect();
        assert_eq!(refused(stream), Err("too_many_streams"));
        assert!(holdings.take(vec![agent("bob")], call(0)).is_ok());
        drop(held);
        assert_eq!([refused(call(16 << 20)), refused(call((16 << 20) + 1))], [Ok(()), Err("too_many_held")]);
        drop(open);
        assert!(holdings.0.lock().unwrap().is_empty());
    }

    #[test]
    fn what_one_has_no_room_for_takes_none_of_another() {
        let holdings = Holdings::default();
        let gate = Actor::Pep("gate".parse().unwrap());
        let through = |name: &str, bytes| holdings.take(vec![gate.clone(), agent(name)], call(bytes));
        let held = through("ana", 16 << 20).unwrap();
        for _ in 0..8 {
            let told = through("ana", 1).unwrap_err();
            assert_eq!((told.code, told.reason), (Code::Exhausted, "too_many_held"));
            assert_eq!(
                told.message,
                "the calls of agent `ana` that are held would take more than 16 MiB; report some, or hold calls with \
                 fewer arguments"
            );
        }
        let others: Vec<_> = ["bob", "eve", "dan"].map(|name| through(name, 16 << 20).unwrap()).into();
        assert!(through("fay", 1).unwrap_err().message.contains("enforcement point `gate`"));
        drop((held, others));
        assert!(holdings.0.lock().unwrap().is_empty());
    }
}
