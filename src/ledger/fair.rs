//! One lane: who waits in it is served in turns, and nobody takes all of its room.
//!
//! A party may have as much waiting as there is room left for others. One that floods a lane ends with half of it,
//! two with a third each; whoever has nothing waiting always finds room. Within a party, first come is first served.

use std::collections::{HashMap, VecDeque};

use super::job::Job;
use crate::domain::event::Actor;

/// A bounded queue of queues.
pub(super) struct Fair {
    /// Jobs that may wait.
    most: usize,
    waiting: HashMap<Actor, VecDeque<Box<dyn Job>>>,
    /// Whoever has something waiting, once each: the first is served next.
    turns: VecDeque<Actor>,
    all: usize,
    ordinary: usize,
}

impl Fair {
    pub(super) fn new(most: usize) -> Self {
        Self { most, waiting: HashMap::new(), turns: VecDeque::new(), all: 0, ordinary: 0 }
    }

    /// How many wait, and how many may.
    pub(super) fn length(&self) -> (usize, usize) {
        (self.all, self.most)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all == 0
    }

    /// Puts a job behind those of its party; gives it back if there is no room for it. What is ordinary takes no more
    /// than half of the lane. The broker itself may fill it: it does not ask more because somebody else does.
    pub(super) fn push(&mut self, job: Box<dyn Job>) -> Result<(), Box<dyn Job>> {
        let place = job.place();
        let own = self.waiting.get(&place.party).map_or(0, VecDeque::len);
        let free = self.most.saturating_sub(self.all);
        let free = match place.ordinary {
            true => free.min((self.most / 2).saturating_sub(self.ordinary)),
            false => free,
        };
        if free == 0 || (own >= free && place.party != Actor::Broker) {
            return Err(job);
        }
        self.count(&*job);
        let party = job.place().party.clone();
        let own = self.waiting.entry(party.clone()).or_default();
        if own.is_empty() {
            self.turns.push_back(party);
        }
        own.push_back(job);
        Ok(())
    }

    /// Puts a job before all others, whether or not there is room.
    pub(super) fn put_back(&mut self, job: Box<dyn Job>) {
        self.count(&*job);
        let party = job.place().party.clone();
        let own = self.waiting.entry(party.clone()).or_default();
        if own.is_empty() {
            self.turns.push_front(party);
        }
        own.push_front(job);
    }

    /// Takes up to `most`, one of each party in its turn.
    pub(super) fn take(&mut self, most: usize) -> impl Iterator<Item = Box<dyn Job>> {
        (0..most).map_while(|_| self.next())
    }

    fn next(&mut self) -> Option<Box<dyn Job>> {
        let party = self.turns.pop_front()?;
        let own = self.waiting.get_mut(&party)?;
        let job = own.pop_front()?;
        match own.is_empty() {
            true => drop(self.waiting.remove(&party)),
            false => self.turns.push_back(party),
        }
        self.all -= 1;
        self.ordinary -= usize::from(job.place().ordinary);
        Some(job)
    }

    fn count(&mut self, job: &dyn Job) {
        self.all += 1;
        self.ordinary += usize::from(job.place().ordinary);
    }
}

#[cfg(test)]
mod tests {
    use super::super::job::Place;
    use super::super::queue::{Lane, Queue};
    use super::*;
    use crate::domain::digest::Digest;
    use crate::domain::error::Error;
    use crate::domain::event::Entry;
    use crate::domain::time::Timestamp;
    use crate::domain::view::View;

    /// A job that only waits; its number is the time that it would be decided for.
    struct Waits(Place, &'static str, usize);

    type Seen = (&'static str, usize);

    impl Job for Waits {
        fn decide(&mut self, _: View<'_>, _: Timestamp) -> Vec<Entry> {
            Vec::new()
        }
        fn blobs(&self) -> Vec<(Digest, Vec<u8>)> {
            let Self(_, who, number) = self;
            vec![(Digest::of(who.as_bytes()), number.to_be_bytes().to_vec())]
        }
        fn place(&self) -> &Place {
            &self.0
        }
        fn needs_no_clock(&self) -> bool {
            false
        }
        fn needs_no_room(&self) -> bool {
            false
        }
        fn refuse(&mut self, _: Error) {}
        fn settle(self: Box<Self>) {}
    }

    fn place(lane: Lane, who: &str, ordinary: bool) -> Place {
        Place { lane, party: Actor::Agent(who.parse().unwrap()), ordinary }
    }

    fn job(lane: Lane, who: &'static str, number: usize) -> Box<dyn Job> {
        Box::new(Waits(place(lane, who, false), who, number))
    }

    fn ordinary(lane: Lane, who: &'static str) -> Box<dyn Job> {
        Box::new(Waits(place(lane, who, true), who, 0))
    }

    /// Whose they are, and which.
    fn seen(jobs: &[Box<dyn Job>]) -> Vec<Seen> {
        let number = |job: &dyn Job| usize::from_be_bytes(job.blobs()[0].1.clone().try_into().unwrap());
        let who = |job: &dyn Job| {
            let known = ["flood", "other", "third"].into_iter();
            known.into_iter().find(|who| Digest::of(who.as_bytes()) == job.blobs()[0].0).unwrap()
        };
        jobs.iter().map(|job| (who(&**job), number(&**job))).collect()
    }

    /// Pushes jobs of one party until it is refused: how many got in.
    fn flood(queue: &Queue, lane: Lane, who: &'static str) -> usize {
        (0..10_000).find(|number| queue.push(job(lane, who, *number)).is_err()).unwrap_or(10_000)
    }

    #[test]
    fn one_that_waits_is_in_the_next_batch_whatever_another_has_waiting() {
        for lane in [Lane::Urgent, Lane::Normal, Lane::Record] {
            let queue = Queue::default();
            let waiting = flood(&queue, lane, "flood");
            assert!(waiting > 1024, "{lane:?}: {waiting}");
            assert!(queue.push(job(lane, "other", 7)).is_ok(), "{lane:?}");
            let batch = seen(&queue.take().unwrap());
            assert_eq!(batch.iter().position(|seen| *seen == ("other", 7)), Some(1), "{lane:?}");
            let own: Vec<usize> = batch.iter().filter(|(who, _)| *who == "flood").map(|(_, number)| *number).collect();
            assert!(own.iter().copied().eq(0..own.len()), "{lane:?}: first come is not first served");
        }
    }

    #[test]
    fn a_flood_leaves_as_much_room_as_it_takes() {
        let queue = Queue::default();
        assert_eq!(flood(&queue, Lane::Normal, "flood"), 2048);
        assert_eq!(flood(&queue, Lane::Normal, "other"), 1024);
        assert_eq!(flood(&queue, Lane::Normal, "flood"), 0, "it has more than is left");
        assert_eq!(flood(&queue, Lane::Normal, "third"), 512);
        assert_eq!(queue.length(Lane::Normal), (3584, 4096));
        assert_eq!(queue.length(Lane::Record).0, 0, "lanes are apart");
    }

    #[test]
    fn what_is_ordinary_takes_half_whoever_floods_and_leaves_the_other_half() {
        let queue = Queue::default();
        let push = |who| (0..10_000).find(|_| queue.push(ordinary(Lane::Record, who)).is_err()).unwrap();
        assert_eq!((push("flood"), push("other"), push("third")), (2048, 1024, 512));
        // Of the other half, what is allowed has its share: whose denials were many too.
        assert_eq!(flood(&queue, Lane::Record, "third"), (8192 - 3584 - 512) / 2);
        assert_eq!(push("other"), 0);
        let all: usize = queue.take().unwrap().len();
        assert_eq!(all, 1024);
        assert!(queue.push(ordinary(Lane::Record, "other")).is_ok(), "there is room again");
    }

    #[test]
    fn allowed_calls_of_one_leave_room_for_denials_of_another() {
        let queue = Queue::default();
        assert_eq!(flood(&queue, Lane::Record, "flood"), 4096);
        assert!(queue.push(ordinary(Lane::Record, "other")).is_ok());
        assert!(queue.push(ordinary(Lane::Record, "flood")).is_err());
    }

    #[test]
    fn the_broker_may_fill_a_lane_and_no_more() {
        let queue = Queue::default();
        let own = |_| {
            let party = Place { lane: Lane::Normal, party: Actor::Broker, ordinary: false };
            queue.push(Box::new(Waits(party, "other", 0))).is_ok()
        };
        assert_eq!((0..5000).filter(|_| own(())).count(), 4096);
        assert!(queue.push(job(Lane::Normal, "flood", 0)).is_err());
    }

    #[test]
    fn what_is_put_back_comes_first_in_its_order() {
        let queue = Queue::default();
        for number in 0..3 {
            for who in ["flood", "other"] {
                queue.push(job(Lane::Record, who, number)).map_err(drop).unwrap();
            }
        }
        let batch = queue.take().unwrap();
        assert_eq!(batch.len(), 6);
        let before = seen(&batch);
        for who in ["flood", "third"] {
            queue.push(job(Lane::Record, who, 3)).map_err(drop).unwrap();
        }
        queue.put_back(batch);
        let after = seen(&queue.take().unwrap());
        let of = |all: &[Seen], who| all.iter().filter(|seen| seen.0 == who).map(|seen| seen.1).collect::<Vec<_>>();
        assert_eq!((of(&after, "flood"), of(&after, "other")), (vec![0, 1, 2, 3], vec![0, 1, 2]));
        assert_eq!(of(&after, "third"), [3]);
        assert_eq!(before[0].1, 0);
        assert_eq!(queue.length(Lane::Record).0, 0);
    }

    #[test]
    fn what_is_in_a_closed_queue_is_taken_and_nothing_gets_in() {
        let queue = Queue::default();
        let waiting = flood(&queue, Lane::Normal, "flood");
        queue.close();
        assert!(queue.push(job(Lane::Normal, "other", 0)).is_err());
        let mut taken = 0;
        while let Some(batch) = queue.take() {
            taken += batch.len();
        }
        assert_eq!(taken, waiting);
    }
}
