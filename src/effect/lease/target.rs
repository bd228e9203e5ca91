//! What a system has to be able to do for secrets to be leased in it. A second kind of system is one more of these.

use futures_util::future::BoxFuture;
use zeroize::Zeroizing;

use crate::domain::id::LeaseId;
use crate::domain::lease::Trouble;
use crate::domain::name::Name;
use crate::domain::time::Span;

/// A system in which secrets are leased. Every operation but [`Target::make`] may be done again, and ends by itself.
pub trait Target: Send + Sync {
    /// Proves that all of the rest can be done with each of these roles, by doing it: what cannot, in readable lines.
    fn check<'a>(&'a self, probes: &'a [Probe]) -> BoxFuture<'a, Vec<String>>;

    /// Makes it, unless its time to be made is over by the system's own clock, or its name is taken.
    fn make<'a>(&'a self, order: Order<'a>) -> BoxFuture<'a, Result<Secret, Failure>>;

    /// Nobody comes in with it, no session is left, and nobody else can do as it.
    fn halt<'a>(&'a self, username: &'a str) -> BoxFuture<'a, Result<Parted, Failure>>;

    /// Lets whoever has the secret in again.
    fn resume<'a>(&'a self, username: &'a str) -> BoxFuture<'a, Result<(), Failure>>;

    /// Takes it away, and every session of it. With `hold` its name is taken and kept, so that whoever is still making
    /// it comes too late: that is no more than powerless, and is to be ended again without. What it made goes to `role`;
    /// without one, what made something is left powerless, which is a failure.
    fn end<'a>(
        &'a self,
        username: &'a str,
        role: Option<&'a Name>,
        hold: bool,
    ) -> BoxFuture<'a, Result<Parted, Failure>>;

    /// Ends the sessions of who was shut out a while ago and had been let in, but was not to be seen yet: how many.
    fn again(&self, parted: Parted) -> BoxFuture<'_, Result<u64, Failure>>;

    /// Which system it is. Two addresses that say the same are the same; of two that do not nobody knows.
    fn place(&self) -> String;

    /// The leases of this broker that the system has, whether or not anybody knows of them.
    fn ours(&self) -> BoxFuture<'_, Result<Vec<LeaseId>, Failure>>;
}

/// Who was shut out: by the number that the system knows it by, also when its name is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parted(pub Option<u32>);

/// What is made and taken away again to see whether it can be.
pub struct Probe {
    /// The id that it has in the target: so that what is left of it is found.
    pub id: LeaseId,
    /// The role that it is made from.
    pub role: Name,
    /// Its password.
    pub password: Zeroizing<String>,
}

/// What is to be made.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    /// Its name in the target.
    pub username: &'a str,
    /// The role that it is made from.
    pub role: &'a Name,
    /// The password that it has.
    pub password: &'a str,
    /// How long its making may still take, and how long it lives: asked after the target's clock was read.
    pub left: &'a (dyn Fn() -> (Span, Span) + Send + Sync),
}

/// A leased secret, on its way to whoever asked. Wiped when dropped, and never printed.
pub struct Secret {
    /// The name to come in with.
    pub username: String,
    /// The password.
    pub password: Zeroizing<String>,
    /// Both, and where.
    pub url: Zeroizing<String>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Why a target is not as it should be. One line, without a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// What is wrong.
    pub reason: String,
    /// Whether the target answered: then only this one thing failed.
    pub answered: bool,
    /// Whether nobody can use it any more all the same.
    pub powerless: bool,
}

impl Failure {
    /// It cannot be reached, or did not answer in time.
    pub fn away(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), answered: false, powerless: false }
    }

    /// It refused.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), answered: true, powerless: false }
    }

    /// The same, as the log keeps it.
    pub fn trouble(&self) -> Trouble {
        let shown: String = self.reason.chars().filter(|c| !c.is_control()).take(200).collect();
        let fallback = || "the target refused".parse().expect("a fixed text is a line");
        Trouble { reason: shown.trim().parse().unwrap_or_else(|_| fallback()), failed: self.answered }
    }
}
