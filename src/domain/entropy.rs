//! Randomness as a value: 32 bytes from the system's generator, stretched as far as one command needs.

use ring::digest::{Context, SHA256};

/// The random bytes of one command. Expanded by SHA-256 in counter mode; the seed never leaves.
pub struct Entropy {
    seed: [u8; 32],
    counter: u64,
}

impl Entropy {
    /// Entropy from 32 secret, uniformly random bytes. The same seed gives the same bytes.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0 }
    }

    /// The next `N` bytes, `N` at most 32.
    pub fn take<const N: usize>(&mut self) -> [u8; N] {
        const { assert!(N <= 32, "one block of SHA-256 at a time") };
        let mut context = Context::new(&SHA256);
        context.update(&self.seed);
        context.update(&self.counter.to_be_bytes());
        self.counter += 1;
        let block = context.finish();
        std::array::from_fn(|at| block.as_ref()[at])
    }
}

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy(..)")
    }
}
