//! Proof that something was recorded: what may be signed, and signed once.

/// A value whose event is durable. Only the ledger makes one, and the key ring consumes it: it is not
/// `Clone`, so that signing twice, or signing what was not recorded, does not compile.
#[derive(Debug)]
pub struct Prepared<T>(T);

impl<T> Prepared<T> {
    /// States that the event of `what` is durable. Only `ledger` may say so; a test holds it to that.
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
