//! Proof that something was recorded: what may be signed, and signed once.
//!
//! A decision makes one with its events, and the ledger hands the answer out only once they are durable.

/// A value whose event is durable by the time anybody holds it. Decisions and stored entries make them, and
/// the key ring consumes it: it is not `Clone`, so that signing twice does not compile.
#[derive(Debug)]
pub struct Prepared<T>(T);

impl<T> Prepared<T> {
    /// States that the event of `what` is durable before this leaves the ledger. Only a decision that makes the
    /// event and the ledger that reads it may say so; a test holds them to that.
    pub(crate) fn recorded(what: T) -> Self {
        Self(what)
    }

    /// What was recorded, for signing.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// What was recorded, to look at.
    pub fn get(&self) -> &T {
        &self.0
    }
}
