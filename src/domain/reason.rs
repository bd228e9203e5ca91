//! Why a call may be made, or may not.

/// A stable word, and a line that says the same to a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// For programs.
    pub code: &'static str,
    /// For people and models.
    pub message: String,
}
