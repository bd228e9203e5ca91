//! Policies: loaded whole or not at all, put in force, shown.

use std::sync::Arc;

use super::{Asked, Broker};
use crate::cedar::{self, Set};
use crate::domain::applied::Applied;
use crate::domain::decide::ApplyPolicy;
use crate::domain::digest::Digest;
use crate::domain::error::Error;
use crate::domain::policy::Policies;

/// Names and texts of the files of a policy set, sorted by name.
pub type PolicyFiles = Vec<(String, String)>;
/// A policy set as it was applied, with its files.
pub type PoliciesInForce = (Applied<dyn Policies>, PolicyFiles);

impl Broker {
    /// Loads a policy set, as if nobody had looked at it before. Takes up to some seconds: not for a thread that others
    /// wait for.
    ///
    /// # Errors
    /// As [`Set::load`].
    pub fn read_policies(&self, files: &[(String, String)]) -> Result<Set, Error> {
        Set::load(files)
    }

    /// Puts a set in force, or only says whether it could be. The same files once more are no new version.
    ///
    /// # Errors
    /// The caller may not; the set in force is not of version `over`; or nobody could apply another one after it, and
    /// it is not forced.
    pub async fn apply_policies(
        &self,
        asked: &Asked,
        set: Set,
        over: Option<u64>,
        force: bool,
        dry_run: bool,
    ) -> Result<Applied<dyn Policies>, Error> {
        let bytes = set.to_bytes();
        let digest = Digest::of(&bytes);
        let command = ApplyPolicy { policies: Arc::new(set), digest, over, force };
        match dry_run {
            true => self.peek(asked, &command),
            false => self.submit_with(asked, command, vec![(digest, bytes)]).await,
        }
    }

    /// The set in force, with its files; none on a ledger that has none.
    ///
    /// # Errors
    /// Its files cannot be read.
    pub fn policies(&self) -> Result<Option<PoliciesInForce>, Error> {
        let Some(applied) = self.ledger().view(|view| view.applied_policies().cloned()) else { return Ok(None) };
        let files = cedar::files_of(&self.ledger().blob(applied.digest)?)?;
        Ok(Some((applied, files)))
    }
}
