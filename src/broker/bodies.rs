//! Catalogs and policies: from the bytes that the ledger keeps, and the first ones of a new ledger.

use std::sync::Arc;

use super::catalog;
use crate::cedar::Set;
use crate::domain::agent::Role;
use crate::domain::catalog::Catalog;
use crate::domain::error::Error;
use crate::domain::policy::{Action, Area, Object, Policies, Principal, Question, Ruling};
use crate::ledger::Bodies;

/// Catalogs as TOML, policies as Cedar.
#[derive(Clone, Copy, Debug)]
pub struct Readers;

impl Bodies for Readers {
    fn catalog(&self, bytes: &[u8]) -> Result<Arc<Catalog>, Error> {
        let read = std::str::from_utf8(bytes).map_err(|_| Error::malformed("catalog", "", "it is not UTF-8"));
        Ok(Arc::new(read.and_then(catalog::parse).unwrap_or_else(|error| {
            // An earlier version took it. Not to start would be to revoke nothing; without it, nothing is known.
            tracing::error!(%error, "the catalog in force cannot be read: all is uncatalogued until another is applied");
            Catalog::default()
        })))
    }

    fn policies(&self, bytes: &[u8]) -> Result<Arc<dyn Policies>, Error> {
        Ok(match Set::from_bytes(bytes) {
            Ok(set) => Arc::new(set),
            Err(error) => {
                // An earlier version took it. Not to start would be to revoke nothing.
                tracing::error!(%error, "the policies in force cannot be read: all is denied until others are applied");
                Arc::new(Unreadable(error.message))
            }
        })
    }
}

/// Policies of the ledger that this version does not understand: nothing is allowed but to apply others, and to end or
/// halt what runs.
#[derive(Debug)]
struct Unreadable(String);

impl Policies for Unreadable {
    fn decide(&self, question: &Question<'_>) -> Ruling {
        let open_to: &[Role] = match (question.action, &question.object) {
            (Action::Administer, Object::Area(Area::Policy, _)) => &[Role::Admin],
            // Nothing that is broken stands before a revoke.
            (Action::Revoke, Object::Area(Area::Grants | Area::Suspensions, _)) => &[Role::Admin, Role::Responder],
            _ => &[],
        };
        match question.principal {
            Principal::Operator(operator) if operator.roles.iter().any(|role| open_to.contains(role)) => {
                Ruling { allowed: true, ..Ruling::default() }
            }
            _ => Ruling {
                errors: vec![format!("the policies in force cannot be read: {}", self.0)],
                ..Ruling::default()
            },
        }
    }

    fn reads_unions(&self, _: Action) -> bool {
        false
    }

    fn count(&self) -> usize {
        0
    }
}
