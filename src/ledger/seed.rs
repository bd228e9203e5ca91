//! Where random bytes come from: the system's generator, or a seed in a test.

use std::sync::atomic::{AtomicU64, Ordering};

use ring::rand::{SecureRandom, SystemRandom};

use crate::domain::entropy::Entropy;
use crate::store::BatchId;

/// A source of secret random bytes.
pub struct Seeds(Source);

enum Source {
    System(SystemRandom),
    Fixed { seed: [u8; 32], counter: AtomicU64 },
}

impl Seeds {
    /// The system's generator.
    #[expect(clippy::disallowed_methods, reason = "the one place where entropy enters the ledger")]
    pub fn system() -> Self {
        Self(Source::System(SystemRandom::new()))
    }

    /// The same bytes at every run: for tests only.
    pub fn fixed(seed: [u8; 32]) -> Self {
        Self(Source::Fixed { seed, counter: AtomicU64::new(0) })
    }

    /// The next 32 bytes.
    pub fn next(&self) -> [u8; 32] {
        match &self.0 {
            Source::System(system) => {
                let mut bytes = [0; 32];
                // Without entropy nothing may be issued: there is no weaker way to go on.
                system.fill(&mut bytes).expect("the system gives random bytes");
                bytes
            }
            Source::Fixed { seed, counter } => {
                let mut bytes = *seed;
                let number = counter.fetch_add(1, Ordering::SeqCst).to_be_bytes();
                bytes.iter_mut().zip(number).for_each(|(byte, salt)| *byte ^= salt);
                Entropy::from_seed(bytes).take()
            }
        }
    }

    pub(super) fn batch_id(&self) -> BatchId {
        Entropy::from_seed(self.next()).take()
    }
}
