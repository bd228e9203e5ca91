//! A store that fails where it is told to, over any store that does not.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use belay::store::{Batch, BatchId, CommitError, Head, Reader, Store, StoreError};

/// A way for a turn to fail, and what it leaves on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The turn cannot be taken.
    Begin,
    /// The batch cannot be written.
    Append,
    /// Rolled back, and said to be.
    LostFailed,
    /// Rolled back; the answer got lost.
    LostUnknown,
    /// Kept; the answer got lost.
    KeptUnknown,
    /// The disk refused to say; it was not kept.
    LostFatal,
    /// The disk refused to say; it was kept.
    KeptFatal,
    /// No failure that a store reports: it panics.
    Panics,
}

impl Fault {
    /// Every failure that a store can report.
    pub const ALL: [Self; 7] = [
        Self::Begin,
        Self::Append,
        Self::LostFailed,
        Self::LostUnknown,
        Self::KeptUnknown,
        Self::LostFatal,
        Self::KeptFatal,
    ];

    /// Whether the batch is on the disk all the same.
    pub fn keeps(self) -> bool {
        matches!(self, Self::KeptUnknown | Self::KeptFatal)
    }

    /// Whether nothing may be believed any more.
    pub fn is_fatal(self) -> bool {
        matches!(self, Self::LostFatal | Self::KeptFatal)
    }
}

/// Batches that fit into the reserve.
pub const RESERVE: u64 = 3;

/// Where a turn can be made to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Begin,
    Commit,
}

/// The store.
pub struct Faulty {
    inner: Box<dyn Store>,
    control: Control,
}

/// What the test holds of it.
#[derive(Clone, Default)]
pub struct Control(Arc<(Mutex<Plan>, Condvar)>);

#[derive(Default)]
struct Plan {
    /// Batches to let through before the fault.
    through: u64,
    fault: Option<Fault>,
    /// How often the turn that would settle an unknown commit cannot be taken.
    unsettled: u32,
    settling: bool,
    hold: Option<Stage>,
    waiting: bool,
    commits: u64,
    disk: Disk,
}

/// How full the disk is.
#[derive(Default)]
struct Disk {
    full: bool,
    noticed: bool,
    /// Batches that fit into the reserve, once it is released.
    released: Option<u64>,
    /// Larger bodies do not fit, though the disk is not full.
    no_blobs: bool,
    refused: u64,
}

impl Faulty {
    /// Fails as its control says.
    pub fn over(inner: Box<dyn Store>) -> (Box<Self>, Control) {
        let control = Control::default();
        (Box::new(Self { inner, control: control.clone() }), control)
    }
}

impl Control {
    /// Lets so many batches through and then fails one.
    pub fn fail(&self, through: u64, fault: Fault) {
        let mut plan = self.plan();
        (plan.through, plan.fault) = (through, Some(fault));
    }

    /// After an unknown commit, so many attempts to settle it fail.
    pub fn unsettled(&self, times: u32) {
        self.plan().unsettled = times;
    }

    /// From now on the disk is full, or has room again.
    pub fn fill(&self, full: bool) {
        self.plan().disk.full = full;
    }

    /// From now on there is no room for a larger body: no snapshot fits.
    pub fn no_room_for_blobs(&self) {
        self.plan().disk.no_blobs = true;
    }

    /// Batches for which there was no room.
    pub fn refused(&self) -> u64 {
        self.plan().disk.refused
    }

    /// Whether the reserve is given up.
    pub fn has_released(&self) -> bool {
        self.plan().disk.released.is_some()
    }

    /// Whether what it was told to do has happened.
    pub fn has_failed(&self) -> bool {
        self.plan().fault.is_none()
    }

    /// Batches committed.
    pub fn commits(&self) -> u64 {
        self.plan().commits
    }

    /// Makes the next turn wait at this stage.
    pub fn hold(&self, stage: Stage) {
        self.plan().hold = Some(stage);
    }

    /// Returns once a turn waits.
    pub async fn held(&self) {
        while !self.plan().waiting {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    /// Lets the turn go on.
    pub fn release(&self) {
        self.plan().hold = None;
        self.0.1.notify_all();
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.0.lock().unwrap()
    }

    fn pass(&self, stage: Stage) {
        let mut plan = self.plan();
        plan.waiting = plan.hold == Some(stage);
        while plan.hold == Some(stage) {
            plan = self.0.1.wait(plan).unwrap();
        }
        plan.waiting = false;
    }

    /// The fault, if this is the batch that it is for and one of these.
    fn due(&self, which: &[Fault]) -> Option<Fault> {
        let mut plan = self.plan();
        let due = plan.through == 0 && plan.fault.is_some_and(|fault| which.contains(&fault));
        if due { plan.fault.take() } else { None }
    }
}

impl Disk {
    fn take(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let fits = !self.no_blobs || batch.blobs.is_empty();
        let reserved = self.released.is_some_and(|left| left > 0);
        if fits && (!self.full || reserved) {
            self.released = self.released.map(|left| left.saturating_sub(u64::from(self.full)));
            return Ok(());
        }
        self.noticed = true;
        self.refused += 1;
        Err(StoreError::new("appending", "there is no room"))
    }
}

impl Store for Faulty {
    fn begin(&mut self) -> Result<Head, StoreError> {
        self.control.pass(Stage::Begin);
        {
            let mut plan = self.control.plan();
            if plan.settling && plan.unsettled > 0 {
                plan.unsettled -= 1;
                return Err(StoreError::new("taking the turn", "it is still not there"));
            }
            plan.settling = false;
        }
        match self.control.due(&[Fault::Begin]) {
            Some(_) => Err(StoreError::new("taking the turn", "it was told to fail")),
            None => self.inner.begin(),
        }
    }

    fn missed(&mut self, after: u64, limit: u32) -> Result<Vec<Vec<u8>>, StoreError> {
        self.inner.missed(after, limit)
    }

    fn append(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.control.plan().disk.take(batch)?;
        match self.control.due(&[Fault::Append]) {
            Some(_) => Err(StoreError::new("appending", "it was told to fail")),
            None => self.inner.append(batch),
        }
    }

    fn commit(&mut self) -> Result<(), CommitError> {
        self.control.pass(Stage::Commit);
        assert!(self.control.due(&[Fault::Panics]).is_none(), "it was told to panic");
        let fault = self.control.due(&Fault::ALL[2..]);
        if fault.is_none_or(Fault::keeps) {
            self.inner.commit()?;
        } else {
            self.inner.rollback();
        }
        let told = || "it was told to fail".to_owned();
        let mut plan = self.control.plan();
        match fault {
            None => {
                plan.commits += 1;
                plan.through = plan.through.saturating_sub(1);
                Ok(())
            }
            Some(Fault::LostUnknown | Fault::KeptUnknown) => {
                plan.settling = true;
                Err(CommitError::Unknown(told()))
            }
            Some(fault) if fault.is_fatal() => Err(CommitError::Fatal(told())),
            Some(_) => Err(CommitError::Failed(told())),
        }
    }

    fn rollback(&mut self) {
        self.inner.rollback();
    }

    fn contains(&mut self, batch: BatchId, after: u64) -> Result<bool, StoreError> {
        self.inner.contains(batch, after)
    }

    fn is_full(&self) -> bool {
        self.control.plan().disk.noticed
    }

    fn release_reserve(&mut self) {
        self.control.plan().disk.released.get_or_insert(RESERVE);
    }

    fn retake_reserve(&mut self) -> bool {
        let disk = &mut self.control.plan().disk;
        (disk.noticed, disk.released) = if disk.full { (true, disk.released) } else { (false, None) };
        !disk.full
    }

    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        self.inner.reader()
    }

    fn name(&self) -> &'static str {
        self.inner.name()
    }
}
