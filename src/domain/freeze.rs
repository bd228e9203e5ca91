//! Freezes: authority that matches is void while one lasts, whoever holds it, and whenever it was granted.

use serde::{Deserialize, Serialize};

use super::catalog::Sensitivity;
use super::id::FreezeId;
use super::name::{Line, Name};
#[cfg(feature = "broker")]
use super::scope::Scopes;
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

    /// Whether every call that a scope allows is stopped by it, whatever it touches.
    pub fn stops_all(&self, scope: &Scope) -> bool {
        self.thawed.is_none() && self.sensitivity.is_none() && self.scope.covers(scope)
    }
}

#[cfg(feature = "broker")]
impl<'a> super::view::View<'a> {
    /// The freeze that stops a call, if one does.
    pub fn frozen(&self, call: &Call) -> Option<&'a Freeze> {
        let mut touched = None;
        self.freezes().find(|freeze| {
            // Asked of the catalog only where a freeze wants to know, and once.
            let sensitivity = match freeze.sensitivity {
                None => Sensitivity::Restricted,
                Some(_) => *touched.get_or_insert_with(|| self.catalog().about_call(call).sensitivity),
            };
            freeze.stops(call, sensitivity)
        })
    }

    /// A freeze that may stop some call that a scope allows: by the most sensitive that the scope touches, and what the
    /// catalog does not name is the most sensitive.
    pub fn may_be_frozen(&self, scope: &Scope) -> Option<&'a Freeze> {
        self.freezes().filter(|freeze| freeze.may_stop(scope)).find(|freeze| {
            let about = || self.catalog().about(scope.tool(), scope.action(), scope.resource()).sensitivity;
            freeze.sensitivity.is_none_or(|least| about() >= least)
        })
    }

    /// A freeze, if freezes stop every call that these scopes allow.
    pub fn all_frozen(&self, scopes: &Scopes) -> Option<&'a Freeze> {
        let mut one = None;
        for scope in scopes.iter() {
            one = Some(self.freezes().find(|freeze| freeze.stops_all(scope))?);
        }
        one
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::entropy::Entropy;

    fn freeze(scope: &str, sensitivity: Option<Sensitivity>) -> Freeze {
        let at = Timestamp::from_seconds(1);
        Freeze {
            id: FreezeId::mint(at, &mut Entropy::from_seed([1; 32])),
            scope: scope.parse().unwrap(),
            sensitivity,
            reason: "testing".parse().unwrap(),
            by: "ana".parse().unwrap(),
            at,
            thawed: None,
        }
    }

    #[test]
    fn a_freeze_stops_what_it_covers_and_is_as_sensitive() {
        let call = Call::parse("db", "write", "prod/orders").unwrap();
        assert!(freeze("db:*@prod/**", None).stops(&call, Sensitivity::Public));
        let bound = freeze("db:*@prod/**", Some(Sensitivity::Confidential));
        assert!(bound.stops(&call, Sensitivity::Confidential) && bound.stops(&call, Sensitivity::Restricted));
        assert!(!bound.stops(&call, Sensitivity::Internal));
        assert!(!freeze("db:read@prod/**", None).stops(&call, Sensitivity::Restricted));
        let thawed = Freeze { thawed: Some(Timestamp::from_seconds(2)), ..freeze("db:*@**", None) };
        let scope = "db:write@prod/**".parse().unwrap();
        assert!(!thawed.stops(&call, Sensitivity::Restricted) && !thawed.may_stop(&scope) && !thawed.stops_all(&scope));
    }

    #[test]
    fn part_of_a_scope_is_not_all_of_it() {
        let partly = freeze("db:*@prod/**", None);
        let (wide, narrow) = ("db:*@**".parse().unwrap(), "db:read@prod/a".parse().unwrap());
        assert!(partly.may_stop(&wide) && !partly.stops_all(&wide));
        assert!(partly.may_stop(&narrow) && partly.stops_all(&narrow));
        let bound = freeze("db:*@**", Some(Sensitivity::Internal));
        assert!(bound.may_stop(&narrow) && !bound.stops_all(&narrow));
    }
}
