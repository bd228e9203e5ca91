//! The policy engine: Cedar, behind [`Policies`].
//!
//! Cedar pays for every policy that it is given, so a [`Set`] keeps *slices*: for each kind of question the policies whose
//! head can match it. A slice gives the answer of the whole set, since what it leaves out could not have applied.

mod args;
mod ask;
pub mod cases;
mod fields;
mod head;
mod load;
mod nesting;
mod shipped;
mod slice;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use cedar_policy::{AuthorizationError, Authorizer, Decision, PolicySet, Response};

use crate::domain::policy::{Action, Policies, Question, Ruling};

use fields::Fields;
use head::{Head, Heads, Names};
use slice::Slices;

pub use load::{MAX_BYTES, files_of};
pub use shipped::SCHEMA;

/// A policy set that was parsed and validated whole, with the text that it came from.
#[derive(Debug)]
pub struct Set {
    /// Names and texts, sorted by name.
    files: Vec<(String, String)>,
    whole: PolicySet,
    heads: Vec<Head>,
    names: Names,
    /// The actions for which some policy reads a union.
    unions: BTreeSet<Action>,
    slices: Slices,
    authorizer: Authorizer,
}

impl Set {
    /// The files that it was loaded from, as name and text, sorted by name.
    pub fn files(&self) -> &[(String, String)] {
        &self.files
    }

    /// The ids of its policies, sorted.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.heads.iter().map(Head::id)
    }

    /// Decides over every policy, without the index. [`Policies::decide`] gives the same answer sooner.
    pub fn decide_whole(&self, question: &Question<'_>) -> Ruling {
        let asked = self.names.asked(question);
        // What counts as mentioned is what could have applied: an argument that no such policy reads cannot deny.
        let read = self.heads.iter().filter(|head| head.may_match(&asked)).fold(Fields::default(), Fields::with_head);
        self.ruling(&self.whole, Fields::ALL, read, question)
    }

    /// Puts the question to `policies`: with the fields `given`, of which `read` can matter.
    fn ruling(&self, policies: &PolicySet, given: Fields, read: Fields, question: &Question<'_>) -> Ruling {
        let asked = match ask::build(question, given, read, None) {
            Ok(asked) => asked,
            Err(errors) => return Ruling { errors, ..Ruling::default() },
        };
        ruling(&self.authorizer.is_authorized(&asked.request, policies, &asked.entities))
    }
}

impl Policies for Set {
    fn decide(&self, question: &Question<'_>) -> Ruling {
        let slice = self.slices.of(&Heads { heads: &self.heads, whole: &self.whole }, self.names.asked(question));
        if slice.policies.is_empty() {
            return Ruling::default();
        }
        self.ruling(&slice.policies, slice.fields, slice.fields, question)
    }

    fn reads_unions(&self, action: Action) -> bool {
        self.unions.contains(&action)
    }

    fn count(&self) -> usize {
        self.heads.len()
    }
}

/// Cedar passes over a policy that fails, so that a forbid would vanish: here any failure is a deny.
fn ruling(response: &Response) -> Ruling {
    let failed = |error: &AuthorizationError| match error {
        AuthorizationError::PolicyEvaluationError(error) => {
            format!("policy `{}`: {}", error.policy_id(), load::one_line(error.inner()))
        }
    };
    let mut errors: Vec<String> = response.diagnostics().errors().map(failed).collect();
    errors.sort_unstable();
    let allowed = response.decision() == Decision::Allow && errors.is_empty();
    let decided = allowed || response.decision() == Decision::Deny;
    let mut by: Vec<String> = response.diagnostics().reason().filter(|_| decided).map(ToString::to_string).collect();
    by.sort_unstable();
    Ruling { allowed, by, errors }
}
