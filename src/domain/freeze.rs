//! Freezes: authority that matches is void while one lasts, whoever holds it, and whenever it was granted.

use serde::{Deserialize, Serialize};

use super::catalog::Sensitivity;
use super::id::FreezeId;
use super::name::{Line, Name};
use super::scope::{Call, Scope};
use super::time::Timestamp;

/// Freezes at once.
pub const MAX_FREEZES: usize = 256;

/// One freeze.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// Its id.
    pub id: FreezeId,
    /// The calls that it stops.
    pub scope: Scope,
    /// Only those that touch something at least as sensitive as this; what the catalog does not name counts as the most
    /// sensitive.
    pub sensitivity: Option<Sensitivity>,
    /// Why.
    pub reason: Line,
    /// Who froze.
    pub by: Name,
    /// When.
    pub at: Timestamp,
    /// When it was thawed.
    pub thawed: Option<Timestamp>,
}

impl Freeze {
    /// Whether it stops a call that touches something of this sensitivity.
    pub fn stops(&self, call: &Call, sensitivity: Sensitivity) -> bool {
        self.thawed.is_none() && self.sensitivity.is_none_or(|least| sensitivity >= least) && self.scope.allows(call)
    }

    /// Whether some call that a scope allows may be stopped by it. Never misses one.
    pub fn may_stop(&self, scope: &Scope) -> bool {
        self.thawed.is_none() && self.scope.intersects(scope)
    }
}
