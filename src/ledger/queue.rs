//! Three bounded lanes into the turn: what cuts, what asks, what only records.
//!
//! A revoke never waits behind a grant. A full lane refuses at once; the others go on. Within a lane nobody stands
//! before all others.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::fair::Fair;
use super::job::Job;

/// Requests waiting, per lane.
const URGENT: usize = 4096;
const NORMAL: usize = 4096;
const RECORDS: usize = 8192;
/// Requests decided in one turn, beside all the urgent ones.
const BATCH: usize = 256;
/// Records taken in one turn.
const RECORD_BATCH: usize = 1024;
/// How long a record waits for company: well below the 50 ms that it may take.
const LINGER: Duration = Duration::from_millis(20);

/// Which lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Urgent,
    Normal,
    Record,
}

impl Lane {
    /// Its name.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Normal => "normal",
            Self::Record => "record",
        }
    }
}

#[derive(Default)]
pub(super) struct Queue {
    lanes: Mutex<Lanes>,
    arrived: Condvar,
}

struct Lanes {
    urgent: Fair,
    normal: Fair,
    records: Fair,
    closed: bool,
}

impl Default for Lanes {
    fn default() -> Self {
        let [urgent, normal, records] = [URGENT, NORMAL, RECORDS].map(Fair::new);
        Self { urgent, normal, records, closed: false }
    }
}

impl Queue {
    /// Puts a job in its lane; gives it back if there is no room for it or the queue closed. What is ordinary takes no
    /// more than half of a lane: agents that give up what they hold do not stand before an operator's revoke, nor
    /// denied calls before those that may be allowed.
    pub(super) fn push(&self, job: Box<dyn Job>) -> Result<(), Box<dyn Job>> {
        let mut lanes = self.lock();
        if lanes.closed {
            return Err(job);
        }
        let lane = job.place().lane;
        lanes.of(lane).push(job)?;
        self.arrived.notify_one();
        Ok(())
    }

    /// How many wait in a lane, and how many may.
    pub(super) fn length(&self, lane: Lane) -> (usize, usize) {
        self.lock().of(lane).length()
    }

    /// Puts records back in front, in their order: they tell of answers that have left.
    pub(super) fn put_back(&self, records: Vec<Box<dyn Job>>) {
        let mut lanes = self.lock();
        records.into_iter().rev().for_each(|job| lanes.records.put_back(job));
    }

    /// Whether it lets nothing more in.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits for work and takes a batch, the urgent first. None once closed and empty.
    pub(super) fn take(&self) -> Option<Vec<Box<dyn Job>>> {
        let mut lanes = self.lock();
        while lanes.is_empty() {
            if lanes.closed {
                return None;
            }
            lanes = self.arrived.wait(lanes).unwrap_or_else(PoisonError::into_inner);
        }
        if lanes.only_records() {
            let idle = |lanes: &mut Lanes| lanes.only_records() && !lanes.closed;
            lanes = self.arrived.wait_timeout_while(lanes, LINGER, idle).unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(lanes.batch(RECORD_BATCH))
    }

    /// The same while records cannot be written: they stay, and after `patience` the batch may be empty. Once closed,
    /// they are taken all the same, for the last time.
    pub(super) fn take_without_records(&self, patience: Duration) -> Option<Vec<Box<dyn Job>>> {
        let idle = |lanes: &mut Lanes| lanes.only_records() && !lanes.closed;
        let waited = self.arrived.wait_timeout_while(self.lock(), patience, idle);
        let mut lanes = waited.unwrap_or_else(PoisonError::into_inner).0;
        if lanes.closed {
            drop(lanes);
            return self.take();
        }
        Some(lanes.batch(0))
    }

    /// Lets nothing more in; what is in is still taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lanes {
    fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.normal.is_empty() && self.records.is_empty()
    }

    fn only_records(&self) -> bool {
        self.urgent.is_empty() && self.normal.is_empty()
    }

    fn batch(&mut self, records: usize) -> Vec<Box<dyn Job>> {
        let Self { urgent, normal, records: waiting, .. } = self;
        urgent.take(usize::MAX).chain(normal.take(BATCH)).chain(waiting.take(records)).collect()
    }

    fn of(&mut self, lane: Lane) -> &mut Fair {
        match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Normal => &mut self.normal,
            Lane::Record => &mut self.records,
        }
    }
}
