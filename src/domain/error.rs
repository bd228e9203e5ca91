//! What went wrong, in domain words. One type; one table turns its [`Code`] into a gRPC status.

use super::time::Span;

/// What kind of wrong. Each has one gRPC code and one exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request is not well formed.
    Invalid,
    /// The caller did not prove who it is.
    Unauthenticated,
    /// The caller may not have what it asks for.
    Denied,
    /// There is no such thing, or not for this caller.
    NotFound,
    /// The request contradicts what is there.
    Conflict,
    /// A limit is reached; later may work.
    Exhausted,
    /// The broker cannot decide now; a retry may help.
    Unavailable,
    /// A defect of ours.
    Internal,
}

/// A refusal. `message` is one lower-case line that never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The kind.
    pub code: Code,
    /// A stable word for programs: `scope_widened`, `grant_revoked`, …
    pub reason: &'static str,
    /// What was wrong, with which value, and what to do.
    pub message: String,
    /// The field of the request that was wrong, where there is one.
    pub field: Option<&'static str>,
    /// How long to wait before the same may be asked again, where that is known.
    pub retry_after: Option<Span>,
}

impl Error {
    /// An error without a field.
    pub fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), field: None, retry_after: None }
    }

    /// A value that does not have the form of its field. Long or unprintable values are cut and escaped.
    pub fn malformed(field: &'static str, value: &str, why: &str) -> Self {
        let shown: String = value.chars().take(64).flat_map(char::escape_debug).collect();
        let more = if value.chars().nth(64).is_some() { "…" } else { "" };
        Self {
            code: Code::Invalid,
            reason: "malformed",
            message: format!("{field} `{shown}{more}` is not valid: {why}"),
            field: Some(field),
            retry_after: None,
        }
    }

    /// A field that must be given and is not.
    pub fn missing(field: &'static str) -> Self {
        Self::new(Code::Invalid, "missing", format!("{field} is missing")).on(field)
    }

    /// Nothing of that kind under that name, or not for this caller.
    pub fn not_found(kind: &str, name: impl std::fmt::Display) -> Self {
        Self::new(Code::NotFound, "not_found", format!("no {kind} `{name}`"))
    }

    /// Refused by a rule.
    pub fn denied(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code::Denied, reason, message)
    }

    /// The same error, naming the field of the request that caused it.
    pub fn on(mut self, field: &'static str) -> Self {
        self.field = Some(field);
        self
    }

    /// The same error, saying when to come back.
    pub fn after(mut self, pause: Span) -> Self {
        self.retry_after = Some(pause);
        self
    }
}
