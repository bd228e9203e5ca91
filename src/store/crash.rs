//! Named places where a debug build can be told to die, as if by `kill -9`.
//!
//! `BELAY_CRASH=POINT:N` ends the process at the N-th time it comes by. A release build has none of it.

/// A place in the life of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The turn is taken, nothing is written.
    TurnTaken,
    /// The batch is in the transaction, not committed.
    Appended,
    /// The commit has returned, nobody knows yet.
    Committed,
    /// The batch is folded in, nobody is answered.
    Folded,
    /// What was recorded is about to be signed.
    BeforeSigning,
    /// It is signed, and not yet kept or handed over.
    Signed,
    /// A snapshot is built and not yet stored.
    SnapshotBuilt,
}

impl Point {
    /// Every point, for tests that go through them all.
    pub const ALL: [Self; 7] = [
        Self::TurnTaken,
        Self::Appended,
        Self::Committed,
        Self::Folded,
        Self::BeforeSigning,
        Self::Signed,
        Self::SnapshotBuilt,
    ];

    /// Its name in `BELAY_CRASH`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TurnTaken => "turn_taken",
            Self::Appended => "appended",
            Self::Committed => "committed",
            Self::Folded => "folded",
            Self::BeforeSigning => "before_signing",
            Self::Signed => "signed",
            Self::SnapshotBuilt => "snapshot_built",
        }
    }

    /// Dies here, if this process was told to.
    #[cfg(debug_assertions)]
    #[expect(clippy::print_stderr, reason = "the test that asked for it waits for the line; a log may be filtered")]
    pub fn reached(self) {
        use std::sync::atomic::{AtomicU64, Ordering};
        use std::sync::{LazyLock, Mutex};

        static TOLD: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
            let told = std::env::var("BELAY_CRASH").ok()?;
            let (point, nth) = told.split_once(':')?;
            Some((point.to_owned(), nth.parse().ok()?))
        });
        static PASSED: AtomicU64 = AtomicU64::new(0);
        static DYING: Mutex<()> = Mutex::new(());

        let Some((point, nth)) = TOLD.as_ref() else { return };
        if point != self.as_str() || PASSED.fetch_add(1, Ordering::SeqCst) + 1 != *nth {
            return;
        }
        let _held = DYING.lock();
        eprintln!("crash point {point} reached");
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }

    /// Nothing, in a release build.
    #[cfg(not(debug_assertions))]
    pub fn reached(self) {}
}
