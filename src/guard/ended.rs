//! How a guard's work comes to an end, and which refusals are for good.

use crate::client::Refusal;
use crate::domain::error::Code;

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// What is guarded ended by itself, with this exit code: 128 + the signal, if one ended it.
    Child(i32),
    /// Whoever asked for it went away, or asked this process to stop.
    Stopped,
    /// The authority was cut, or is over.
    Cut {
        /// The broker's stable word.
        code: String,
        /// One line.
        message: String,
    },
}

/// What a refusal means for the authority that it was refused under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It concerns this call alone.
    Call,
    /// The authority is halted, and may come back.
    Halted,
    /// The token is over, its grant may not be.
    Token,
    /// The authority is over.
    Over,
}

/// What the broker's word means.
pub fn meaning(code: &str) -> Meaning {
    match code {
        "grant_revoked"
        | "task_revoked"
        | "agent_revoked"
        | "owner_revoked"
        | "subject_revoked"
        | "token_revoked"
        | "certificate_revoked"
        | "agent_retired"
        | "approval_denied"
        | "grant_completed"
        | "task_ended"
        | "task_expired"
        | "grant_expired" => Meaning::Over,
        "grant_suspended" | "task_suspended" | "agent_suspended" | "awaits_approval" => Meaning::Halted,
        "token_expired" | "token_unknown" | "key_tainted" | "certificate_expired" | "certificate_unknown" => {
            Meaning::Token
        }
        _ => Meaning::Call,
    }
}

/// The same of a refusal to hear the question at all. An agent that nobody knows any more was retired.
pub fn of(refusal: &Refusal) -> Meaning {
    match (refusal.code, meaning(&refusal.reason)) {
        (Code::Denied | Code::Unauthenticated | Code::NotFound, meaning) => meaning,
        _ => Meaning::Call,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_come_back_is_not_over() {
        for code in ["grant_suspended", "task_suspended", "agent_suspended"] {
            assert_eq!(meaning(code), Meaning::Halted, "{code}");
        }
        for code in ["frozen", "out_of_scope", "unavailable", "limit_reached", "not_recorded", ""] {
            assert_eq!(meaning(code), Meaning::Call, "{code}");
        }
        for code in ["grant_revoked", "token_revoked", "task_ended", "grant_expired"] {
            assert_eq!(meaning(code), Meaning::Over, "{code}");
        }
    }
}
